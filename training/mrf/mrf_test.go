package mrf

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ebmrun/training/data"
	"ebmrun/training/sampler"
	"ebmrun/training/systemtest"
)

func ising(h, w int, torus bool, beta float64) *Model {
	m := NewModel(Ising, 2, false, Lattice{H: h, W: w, Torus: torus, Offsets: Offsets(1)})
	m.Theta[0], m.Theta[1] = beta, beta
	return m
}

// TestTinyIsing: 3×3 pixels with free edges, against the sum over all 512 states.
func TestTinyIsing(t *testing.T) {
	for _, c := range []struct{ beta, logZ, products float64 }{{0.3, 6.8015, 3.9001}, {0.4, 7.2677, 5.4409}} {
		m := ising(3, 3, false, c.beta)
		logZ, mean, err := m.Enumerate()
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(logZ-c.logZ) > 1e-4 || math.Abs(mean[0]+mean[1]-c.products) > 1e-4 {
			t.Errorf("β = %g: log Z %.4f, wanted %.4f; products %.4f, wanted %.4f", c.beta, logZ, c.logZ, mean[0]+mean[1], c.products)
		}
		for name, move := range map[string]func(*rand.Rand, []uint8){"gibbs": m.Sweep, "metropolis": m.Metropolis} {
			x, sum := make([]uint8, 9), 0.0
			const sweeps = 200000
			for i := range sweeps {
				move(sampler.Stream(1, 0, uint64(i)), x)
				s := m.Statistics(x)
				sum += (s[0] + s[1]) / sweeps
			}
			if math.Abs(sum-c.products) > 0.05 {
				t.Errorf("β = %g, %s: products %.4f, wanted %.4f", c.beta, name, sum, c.products)
			}
		}
	}
}

// synchronous draws all pixels at once: wrong.
func synchronous(m *Model, r *rand.Rand, x []uint8) {
	old, w := append([]uint8(nil), x...), make([]float64, m.Levels)
	for i := range x {
		m.conditional(old, i, w)
		x[i] = uint8(sampler.Choose(r, w))
	}
}

// TestTorus: Onsager's mean product of neighbours, and that drawing neighbours at once misses it.
func TestTorus(t *testing.T) {
	m := ising(64, 64, true, 0.4)
	measure := func(sweep func(*rand.Rand, []uint8), burn, sweeps int) (sum float64) {
		x, r := make([]uint8, 64*64), sampler.Stream(2, 0, 0)
		for i := range x {
			x[i] = uint8(r.IntN(2))
		}
		for i := range burn + sweeps {
			if sweep(r, x); i >= burn {
				s := m.Statistics(x)
				sum += (s[0] + s[1]) / (2 * 64 * 64) / float64(sweeps)
			}
		}
		return sum
	}
	if got := measure(m.Sweep, 100, 300); math.Abs(got-0.55304) > 0.012 {
		t.Errorf("mean product of neighbours %.5f, wanted 0.55304", got)
	}
	m.Theta[0], m.Theta[1] = 0.3, 0.3
	if got := measure(m.Sweep, 50, 300); math.Abs(got-0.35225) > 0.006 {
		t.Errorf("mean product of neighbours %.5f, wanted 0.35225", got)
	}
	if got := measure(func(r *rand.Rand, x []uint8) { synchronous(m, r, x) }, 50, 100); math.Abs(got-0.35225) < 0.05 {
		t.Errorf("drawing neighbours at once gives %.5f, too", got)
	}
}

// families are small models of every discrete family with weights.
func families(h, w int, torus bool) map[string]*Model {
	out := map[string]*Model{}
	for family, levels := range map[string]int{Ising: 2, Potts: 3, AutoBinomial: 3} {
		m := NewModel(family, levels, true, Lattice{H: h, W: w, Torus: torus, Offsets: Offsets(2)})
		for j := range m.Theta {
			m.Theta[j] = []float64{0.2, -0.3, 0.15, 0.1, -0.1, 0.25}[j]
		}
		out[family] = m
	}
	return out
}

// TestConditionals: conditionals follow from the joint energy, with free edges and without.
func TestConditionals(t *testing.T) {
	for _, torus := range []bool{false, true} {
		for family, m := range families(4, 5, torus) {
			r, x := sampler.Stream(3, 1, 2), make([]uint8, 20)
			for i := range x {
				x[i] = uint8(r.IntN(m.Levels))
			}
			w := make([]float64, m.Levels)
			for i := range x {
				m.conditional(x, i, w)
				old := x[i]
				base := m.Energy(x)
				for v := range w {
					x[i] = uint8(v)
					if want := base - m.Energy(x); math.Abs(w[v]-w[old]-want) > 1e-9 {
						t.Errorf("%s, torus %v, pixel %d, level %d: wanted %g, got %g", family, torus, i, v, want, w[v]-w[old])
					}
				}
				x[i] = old
			}
		}
	}
}

// TestExact: every sampler of every family visits 2×3 pixels as enumeration says.
func TestExact(t *testing.T) {
	for family, m := range families(2, 3, false) {
		_, want, err := m.Enumerate()
		if err != nil {
			t.Fatal(err)
		}
		for name, move := range map[string]func(*rand.Rand, []uint8){Gibbs: m.Sweep, Metropolis: m.Metropolis,
			Exchange: func(r *rand.Rand, x []uint8) { m.Exchange(r, x); m.Metropolis(r, x) }} {
			const sweeps = 40000
			x, got, r := make([]uint8, 6), make([]float64, len(want)), sampler.Stream(4, 0, 0)
			for range sweeps {
				move(r, x)
				for j, v := range m.Statistics(x) {
					got[j] += v / sweeps
				}
			}
			for j := range want {
				if math.Abs(got[j]-want[j]) > 0.08 {
					t.Errorf("%s, %s: statistic %d: wanted %.3f, got %.3f", family, name, j, want[j], got[j])
				}
			}
		}
	}
}

// TestExchange keeps the grey histogram.
func TestExchange(t *testing.T) {
	m, r := families(4, 5, true)[Potts], sampler.Stream(5, 0, 0)
	x, count := make([]uint8, 20), [3]int{}
	for i := range x {
		x[i] = uint8(i % 3)
		count[i%3]++
	}
	for range 100 {
		m.Exchange(r, x)
	}
	for _, v := range x {
		count[v]--
	}
	if count != [3]int{} {
		t.Errorf("the histogram has changed by %v", count)
	}
}

// TestClasses: no two pixels of a colour are neighbours, on any torus.
func TestClasses(t *testing.T) {
	for _, size := range [][2]int{{5, 5}, {6, 9}, {16, 16}} {
		l := Lattice{H: size[0], W: size[1], Torus: true, Offsets: Offsets(4)}
		colour, n := map[int]int{}, 0
		for c, class := range l.classes() {
			for _, i := range class {
				colour[i] = c
				n++
			}
		}
		if n != l.H*l.W || len(colour) != n {
			t.Errorf("%v: %d pixels in classes, %d different, wanted %d", size, n, len(colour), l.H*l.W)
		}
		for i := range l.H * l.W {
			for _, o := range l.Offsets {
				if colour[i] == colour[l.at(i, o[0], o[1])] {
					t.Fatalf("%v: pixel %d and its neighbour %v have one colour", size, i, o)
				}
			}
		}
	}
}

// TestPseudoLikelihood: slope and information are the derivatives.
func TestPseudoLikelihood(t *testing.T) {
	for family, m := range families(5, 6, true) {
		r, x := sampler.Stream(6, 1, 2), make([]uint8, 30)
		for i := range x {
			x[i] = uint8(r.IntN(m.Levels))
		}
		k := len(m.Theta)
		at := func() ([]float64, []float64) {
			slope, information := make([]float64, k), make([]float64, k*k)
			m.PseudoLikelihood(x, slope, information)
			return slope, information
		}
		slope, information := at()
		const h = 1e-5
		for j := range k {
			m.Theta[j] += h
			up, steep := m.PseudoLikelihood(x, nil, nil), first(at())
			m.Theta[j] -= 2 * h
			down, flat := m.PseudoLikelihood(x, nil, nil), first(at())
			m.Theta[j] += h
			if want := (up - down) / (2 * h); math.Abs(slope[j]-want) > 1e-5 {
				t.Errorf("%s: slope %d: wanted %g, got %g", family, j, want, slope[j])
			}
			for i := range k {
				if want := (flat[i] - steep[i]) / (2 * h); math.Abs(information[i*k+j]-want) > 1e-4 {
					t.Errorf("%s: information %d, %d: wanted %g, got %g", family, i, j, want, information[i*k+j])
				}
			}
		}
	}
}

func first(a, _ []float64) []float64 { return a }

// set wraps pictures of two levels.
func set(x [][]uint8, h, w int) *data.Set {
	s := &data.Set{Name: "ising", N: len(x), C: 1, H: h, W: w, Lo: -1, Hi: 1, Gain: 1}
	for _, p := range x {
		for _, v := range p {
			s.Floats = append(s.Floats, float32(2*int(v)-1))
		}
	}
	return s
}

// TestRecovers: the pseudo-likelihood of ten samples finds the weight that they were drawn with, and
// samples that correct it keep it; sabotaged arms do not find it.
func TestRecovers(t *testing.T) {
	const side = 48
	m := ising(side, side, true, 0.3)
	var pictures [][]uint8
	for k := range 10 {
		x := make([]uint8, side*side)
		for i := range 100 {
			m.Sweep(sampler.Stream(7, uint64(k), uint64(i)), x)
		}
		pictures = append(pictures, x)
	}
	for _, sabotage := range []string{"", Freeze, Flip} {
		c := preset(Ising, 2, func(c *Config) {
			c.Field, c.Order, c.Steps, c.Newton, c.Sabotage, c.Chains = false, 1, 16, 6, sabotage, 10
		})
		s, err := New(c, set(pictures, side, side), 1)
		if err != nil {
			t.Fatal(err)
		}
		for range c.Steps {
			if _, err := s.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s.iter == c.Newton {
				t.Logf("%q: by pseudo-likelihood %.4f", sabotage, s.Field.Theta)
			}
		}
		off := max(math.Abs(s.Field.Theta[0]-0.3), math.Abs(s.Field.Theta[1]-0.3))
		t.Logf("%q: weights %.4f", sabotage, s.Field.Theta)
		if met := off < 0.02; met != (sabotage == "") {
			t.Errorf("%q: weights %v, wanted 0.3", sabotage, s.Field.Theta)
		}
	}
}

// TestNormal: fitted weights are those of the field that was sampled, its covariance and likelihood exact.
func TestNormal(t *testing.T) {
	const side = 40
	l := Lattice{H: side, W: side, Torus: true, Offsets: Offsets(2)}
	truth := NewNormal(l)
	truth.Mean, truth.Variance = 0.5, 2
	copy(truth.B, []float64{0.2, 0.1, -0.05, 0.1})
	var x [][]float32
	variance, beside, n := 0.0, 0.0, 0.0
	for k := range 6 {
		p := make([]float32, side*side)
		for i := range 120 {
			truth.Sweep(sampler.Stream(8, uint64(k), uint64(i)), p)
		}
		for i, v := range p {
			a, b := float64(v)-0.5, float64(p[l.at(i, 0, 1)])-0.5
			variance, beside, n = variance+a*a, beside+a*b, n+1
		}
		x = append(x, p)
	}
	if want := truth.Covariance(0, 0); math.Abs(variance/n-want) > 0.06*want {
		t.Errorf("variance %.4f, wanted %.4f", variance/n, want)
	}
	if want := truth.Covariance(0, 1); math.Abs(beside/n-want) > 0.15*want {
		t.Errorf("covariance of neighbours %.4f, wanted %.4f", beside/n, want)
	}
	m := NewNormal(l)
	if shrunk, err := m.Fit(x); err != nil || shrunk != 1 {
		t.Errorf("shrunk by %g, %v", shrunk, err)
	}
	for r, b := range truth.B {
		if math.Abs(m.B[r]-b) > 0.03 {
			t.Errorf("weight %d: wanted %g, got %.4f", r, b, m.B[r])
		}
	}
	better, worse := truth.LogLikelihood(x[0]), NewNormal(l).LogLikelihood(x[0])
	if !(better > worse) {
		t.Errorf("log likelihood %g of the truth, %g of white noise", better, worse)
	}
	white, sum := NewNormal(l), 0.0
	for _, v := range x[0] {
		sum -= float64(v)*float64(v)/2 + math.Log(2*math.Pi)/2
	}
	if got := white.LogLikelihood(x[0]); math.Abs(got-sum) > 1e-6*math.Abs(sum) {
		t.Errorf("log likelihood of white noise: wanted %g, got %g", sum, got)
	}
	truth.B[0] = 0.9
	if truth.least() > 0 {
		t.Error("weights of 0.9 are no density")
	}
}

func texture(t testing.TB, size int) *data.Set {
	t.Helper()
	s, err := data.Load(t.Context(), "synthetic/tex-b", data.Options{Seed: 1, Size: size})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestNoise: without potentials a sweep draws each pixel afresh, other ones in each iteration.
func TestNoise(t *testing.T) {
	c := Presets["ising"].Config
	c.Sabotage, c.Burn, c.Sweeps = Freeze, 1, 1
	s, err := New(c, texture(t, 16), 2)
	if err != nil {
		t.Fatal(err)
	}
	clear(s.Field.Theta)
	systemtest.Steps(t, s, 1)
	first := slices.Clone(s.chains[0].level)
	systemtest.Steps(t, s, 1)
	if slices.Equal(first, s.chains[0].level) {
		t.Error("the second iteration has the first one's noise")
	}
}

// TestResume: 10 iterations, and 5 saved, restored in a new system and 5 more, are the same bits; the
// field alone draws what the system draws.
func TestResume(t *testing.T) {
	for name, p := range Presets {
		c := p.Config
		c.Steps, c.Newton, c.Burn, c.Sweeps = 10, 3, 4, 2
		s, end := systemtest.Resume(t, func() *System {
			s, err := New(c, texture(t, 16), 2)
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
		l := NewLearned(c, 16, 16)
		if err := l.Restore(end); err != nil {
			t.Fatal(err)
		}
		a, err := s.Draw(t.Context(), 2, 3)
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Draw(t.Context(), 2, 3)
		if err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s: a restored field draws other pictures, %v", name, err)
		}
		_, u, err := l.Score(t.Context(), s.set.X(), 0)
		if err != nil || len(u) != 1 || math.IsNaN(u[0]) {
			t.Errorf("%s: scores %v, %v", name, u, err)
		}
	}
}

func TestBadSettings(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"family":   func(c *Config) { c.Family = "other" },
		"levels":   func(c *Config) { c.Family = Ising },
		"order":    func(c *Config) { c.Order = 5 },
		"sampler":  func(c *Config) { c.Sampler = "other" },
		"steps":    func(c *Config) { c.Steps = 0 },
		"sabotage": func(c *Config) { c.Sabotage = "other" },
	} {
		c := Presets["potts"].Config
		change(&c)
		if _, err := New(c, texture(t, 16), 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
	if _, err := New(Presets["potts"].Config, set([][]uint8{make([]uint8, 16)}, 4, 4), 1); err == nil || !strings.Contains(err.Error(), "5×5") {
		t.Errorf("wanted an error about small pictures, got %v", err)
	}
	if _, _, err := ising(8, 8, true, 0).Enumerate(); err == nil {
		t.Error("2⁶⁴ states are listed")
	}
	if _, err := For("nosuch", nil, 1); err == nil || !strings.Contains(err.Error(), "potts") {
		t.Errorf("wanted an error that lists the presets, got %v", err)
	}
}
