package data

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"
)

func load(t *testing.T, name string, o Options) *Set {
	t.Helper()
	s, err := Load(context.Background(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// with is o after a change.
func with(o Options, change func(*Options)) Options {
	change(&o)
	return o
}

func TestSyntheticSets(t *testing.T) {
	for _, src := range Sources {
		if src.draw == nil {
			continue
		}
		o := Options{Limit: 8, Seed: 1}
		if src.draw.picture != nil {
			o.Size = 16
		}
		s := load(t, src.Name, o)
		if s.N != 8 || s.Check() != nil || s.Name != src.Name {
			t.Errorf("%s: %d examples, %v", src.Name, s.N, s.Check())
		}
		// More examples begin with the same ones; seeds and parts differ.
		if more := load(t, src.Name, with(o, func(o *Options) { o.Limit = 10 })); !slices.Equal(more.X()[:len(s.X())], s.X()) {
			t.Errorf("%s: a larger set begins differently", src.Name)
		}
		if other := load(t, src.Name, with(o, func(o *Options) { o.Seed = 2 })); slices.Equal(other.X(), s.X()) {
			t.Errorf("%s: seeds 1 and 2 give the same", src.Name)
		}
		if test := load(t, src.Name, with(o, func(o *Options) { o.Part = "test" })); slices.Equal(test.X(), s.X()) {
			t.Errorf("%s: the test part is the training part", src.Name)
		}
		for _, l := range s.Labels {
			if l < 0 || l >= len(s.Classes) {
				t.Errorf("%s: label %d of %d", src.Name, l, len(s.Classes))
			}
		}
		if src.draw.picture == nil {
			continue
		}
		if big := load(t, src.Name, Options{Limit: 2, Size: 40}); big.H != 40 || big.W != 40 {
			t.Errorf("%s: size 40 gives %d×%d", src.Name, big.H, big.W)
		}
		lo, hi := slices.Min(s.X()), slices.Max(s.X())
		if hi-lo < 0.7 {
			t.Errorf("%s: values %g … %g: nothing to see", src.Name, lo, hi)
		}
	}
}

// TestPicturesMatchFactors finds the painted things where the factors say.
func TestPicturesMatchFactors(t *testing.T) {
	for name, area := range map[string]func(class int, r float64) float64{
		"synthetic/blob16": func(_ int, r float64) float64 { return math.Pi * r * r },
		"synthetic/glyph16": func(k int, r float64) float64 {
			return []float64{math.Pi * r * r, 4 * r * r, 20.0 / 9 * r * r, 4*r*r - 16.0/9*r*r}[k]
		},
		"synthetic/shape": func(k int, r float64) float64 {
			return []float64{math.Pi * r * r, 4 * r * r, 3 * math.Sqrt(3) / 4 * r * r, 20.0 / 9 * r * r}[k]
		},
	} {
		s := load(t, name, Options{Limit: 40})
		f := len(s.FactorNames)
		for i := range s.N {
			level, class := 1.0, 0
			if f > 3 {
				level = float64(s.Factors[i*f+3])
			}
			if s.Labels != nil {
				class = s.Labels[i]
			}
			var mass, mx, my float64
			for j, v := range s.At(i) {
				in := (float64(v) + 1) / (level + 1)
				mass += in
				mx += in * float64(j%s.W)
				my += in * float64(j/s.W)
			}
			x, y, r := float64(s.Factors[i*f]), float64(s.Factors[i*f+1]), float64(s.Factors[i*f+2])
			if math.Abs(mx/mass-x) > 0.2 || math.Abs(my/mass-y) > 0.25 {
				t.Errorf("%s %d (class %d): centre %.2f, %.2f, want %.2f, %.2f", name, i, class, mx/mass, my/mass, x, y)
			}
			if want := area(class, r); math.Abs(mass-want) > 0.03*want+0.5 {
				t.Errorf("%s %d (class %d): area %.1f, want %.1f", name, i, class, mass, want)
			}
		}
	}
}

// TestFacesMove checks where a turn and a shift carry what is painted, and that faces are given both.
func TestFacesMove(t *testing.T) {
	c := newCanvas(make([]float32, 64*64), 1, 64, 64)
	c.move(10, -5, math.Pi/2)
	c.paint(disc(51.5, 37.5, 3), 1) // 20 right of and 6 below the middle: a quarter turn takes it 6 left and 20 below
	if c.pix[(51-5)*64+25+10] != 1 || c.pix[37*64+51] != -1 {
		t.Error("a turn by 90° and a shift do not carry the disc along")
	}
	s := load(t, "synthetic/face-moved", Options{Limit: 50, Size: 32})
	var far float32
	for _, f := range s.Factors {
		far = max(far, f)
	}
	if far < 0.2 {
		t.Errorf("the largest factor of 50 faces is %g", far)
	}
}

func TestPointSets(t *testing.T) {
	for name, radii := range map[string][2]float64{
		"synthetic/rings": {1, 0.15}, "synthetic/ring8": {2, 0.1},
	} {
		s := load(t, name, Options{Limit: 16000})
		centres, sd, ok := Modes(name)
		if !ok || len(centres) != 8 || sd != radii[1] || math.Abs(centres[2][1]-radii[0]) > 1e-12 {
			t.Errorf("%s: modes %v, %g", name, centres, sd)
		}
		count, spread := make([]int, 8), 0.0
		for i, k := range s.Labels {
			sin, cos := math.Sincos(math.Pi / 4 * float64(k))
			x, y := float64(s.At(i)[0])-radii[0]*cos, float64(s.At(i)[1])-radii[0]*sin
			spread += (x*x + y*y) / 2 / 16000
			count[k]++
		}
		if math.Abs(math.Sqrt(spread)/radii[1]-1) > 0.03 {
			t.Errorf("%s: deviation %g, want %g", name, math.Sqrt(spread), radii[1])
		}
		if slices.Min(count) < 1800 {
			t.Errorf("%s: modes hold %v of 16000", name, count)
		}
	}
}

// TestLogDensity checks that a density integrates to one, and that the entropy which samples see is
// the integral's.
func TestLogDensity(t *testing.T) {
	for name, entropy := range map[string]float64{
		"synthetic/rings":     math.NaN(),
		"synthetic/ring8":     math.Log(8) + 1 + math.Log(2*math.Pi*0.01), // modes that do not overlap
		"synthetic/two-rings": math.NaN(),
	} {
		f, ok := LogDensity(name)
		if !ok {
			t.Fatalf("%s has no density", name)
		}
		const h = 0.025
		mass, integral := 0.0, 0.0
		for x := -3.0; x < 3; x += h {
			for y := -3.0; y < 3; y += h {
				l := f(x+h/2, y+h/2)
				p := math.Exp(l) * h * h
				mass += p
				integral -= p * l
			}
		}
		s := load(t, name, Options{Limit: 20000})
		seen := 0.0
		for i := range s.N {
			seen -= f(float64(s.At(i)[0]), float64(s.At(i)[1])) / float64(s.N)
		}
		if math.Abs(mass-1) > 1e-3 || math.Abs(seen-integral) > 0.03 {
			t.Errorf("%s: mass %g, entropy %g by samples, %g by integral", name, mass, seen, integral)
		}
		if !math.IsNaN(entropy) && math.Abs(integral-entropy) > 1e-3 {
			t.Errorf("%s: entropy %g, want %g", name, integral, entropy)
		}
		if l := f(1e3, 1e3); math.IsNaN(l) || math.IsInf(l, 0) {
			t.Errorf("%s: log density %g far away", name, l)
		}
	}
	if _, ok := LogDensity("synthetic/moons"); ok {
		t.Error("moons have a density")
	}
	if _, ok := LogDensity("mnist"); ok {
		t.Error("mnist has a density")
	}
	if _, _, ok := Modes("synthetic/two-rings"); ok {
		t.Error("rings have Gaussian modes")
	}
}

func TestLoadErrors(t *testing.T) {
	for want, c := range map[string]struct {
		name string
		o    Options
	}{
		"no negative number": {"synthetic/shape", Options{Size: -1}},
		"wants a size":       {"synthetic/shape", Options{Patches: 3}},
		"part \"held\"":      {"synthetic/shape", Options{Part: "held"}},
		"at least 8":         {"synthetic/shape", Options{Size: 4}},
		"no size in pixels":  {"synthetic/moons", Options{Size: 16}},
		"more than":          {"synthetic/shape", Options{Limit: 1 << 40}},
		"neither a file":     {"synthetic/spirals", Options{}},
		"no such file":       {"./spirals.npy", Options{}},
		"cannot cut":         {"synthetic/tex-a", Options{Size: 65, Patches: 2}},
	} {
		_, err := Load(context.Background(), c.name, c.o)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want one line with %q", err, want)
		}
	}
}
