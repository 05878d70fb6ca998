package hierarchicalsparseframe

import (
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/sampler"
	"ebmrun/training/sparseframe"
	"ebmrun/training/systemtest"
)

// config is for pictures of 48×48 with objects of about 26×26.
func config(change func(*Config)) Config {
	return preset(32, 14, func(c *Config) {
		c.Steps, c.Levels = 3, 1
		c.Object, c.Part = Freedom{Turn: 1}, Freedom{Shift: 2}
		c.Frame.Select, c.Frame.Scales, c.Frame.Orientations, c.Frame.Shift, c.Frame.Turn = sparseframe.Boost, []float64{0.6}, 8, 1, 0
		c.Frame.Local, c.Frame.Steps, c.Frame.Chains, c.Frame.Cells, c.Frame.Optim.LR = false, 15, 6, 3, 0.1
		change(c)
	})
}

// hook draws an object without symmetries, its middle at (y, x), turned and in noise.
func hook(out []float32, h, w int, y, x, angle, size float64, seed uint64) {
	sin, cos := math.Sincos(angle)
	strokes := [][4]float64{{-12, -9, 12, -9}, {12, -9, 12, 11}, {-12, -9, -6, 5}, {3, 3, 3, 12}} // y0, x0, y1, x1
	sampler.Noise{Seed: seed}.Normals(out, sampler.Chains(0, 1), 0)
	for i := range out {
		// back to the object's own frame
		dy, dx := (float64(i/w)-y)/size, (float64(i%w)-x)/size
		v, u := -sin*dx+cos*dy, cos*dx+sin*dy
		near := 99.0
		for _, s := range strokes {
			ey, ex := s[2]-s[0], s[3]-s[1]
			t := max(0, min(1, ((v-s[0])*ey+(u-s[1])*ex)/(ey*ey+ex*ex)))
			near = min(near, math.Hypot(v-s[0]-t*ey, u-s[1]-t*ex))
		}
		out[i] = float32(math.Exp(-near*near/0.5)) + 0.05*out[i] - 0.3
	}
}

type truth struct{ y, x, turn int }

// hooks is pictures of one object at known places.
func hooks(n int, c Config, seed uint64) (*data.Set, []truth) {
	const side = 48
	s := &data.Set{Name: "hooks", N: n, C: 1, H: side, W: side, Gain: 1, Floats: make([]float32, n*side*side)}
	var all []truth
	r := sampler.Stream(seed, 9, 0)
	for i := range n {
		t := truth{side/2 + r.IntN(9) - 4, side/2 + r.IntN(9) - 4, r.IntN(3) - 1}
		hook(s.At(i), side, side, float64(t.y), float64(t.x), math.Pi*float64(t.turn)/float64(c.Frame.Orientations), 1, seed+uint64(i))
		all = append(all, t)
	}
	return s, all
}

func system(t testing.TB, c Config, set *data.Set) *System {
	t.Helper()
	s, err := New(t.Context(), c, nil, set, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRigid: without freedom, SUM3 at every place is the score of a flat sparse FRAME template there.
func TestRigid(t *testing.T) {
	c := config(func(c *Config) { c.Frame.Turn = 1 })
	set, _ := hooks(1, c, 1)
	off, most, err := Rigid(c, set.X(), 48, 48, 2)
	if err != nil || off > 1e-4*most || most == 0 {
		t.Errorf("off by %g where scores are up to %g, %v", off, most, err)
	}
}

// TestPoses: a template finds its object where it is, turned as it is and as large as it is, and its score
// is that of its parts where they are found.
func TestPoses(t *testing.T) {
	c := config(func(c *Config) {
		c.Levels, c.Spacing, c.Object, c.Part = 3, 0.25, Freedom{Turn: 2, Level: 1}, Freedom{Shift: 1}
	})
	upright, _ := hooks(8, config(func(*Config) {}), 1)
	for i := range upright.N {
		hook(upright.At(i), 48, 48, 24, 24, 0, 1, uint64(i))
	}
	s := system(t, c, upright)
	var crops [][]float32
	for i, d := range s.found {
		crops = append(crops, s.crop(s.look(i), d))
	}
	p, _, err := s.learn(t.Context(), crops, 3)
	if err != nil {
		t.Fatal(err)
	}
	s.Templates = []*sparseframe.Template{p}
	for _, want := range []struct {
		y, x, turn, level int
	}{{24, 24, 0, 1}, {28, 21, 0, 1}, {24, 24, 1, 1}, {22, 26, -1, 1}, {24, 24, 2, 1}, {24, 24, 0, 0}, {24, 24, 1, 2}} {
		x := make([]float32, 48*48)
		scale := 1 / c.scale(want.level)
		hook(x, 48, 48, float64(want.y), float64(want.x), math.Pi*float64(want.turn)/8, scale, 50)
		v := s.view(x)
		d := s.find(v, p, false)
		y, z, size := s.Place(d.Object)
		if math.Hypot(y-float64(want.y), z-float64(want.x)) > 2.5 || d.Object.Turn != want.turn || math.Abs(size-scale) > 1e-9 {
			t.Errorf("wanted %+v, got (%.1f, %.1f), turn %d, level %d", want, y, z, d.Object.Turn, d.Object.Level)
		}
		sum := -p.LogZ
		for j, at := range d.Parts {
			sum += float64(s.sums(v, p, j, at.Turn, at.Level)[at.Y*c.size(at.Level, 48)+at.X])
		}
		if math.Abs(sum-d.Score) > 1e-3 {
			t.Errorf("%+v: the parts' scores are %g in all, wanted %g", want, sum, d.Score)
		}
		if f, err := s.Detect(t.Context(), x); err != nil || math.Abs(f[0].Turn-math.Pi*float64(want.turn)/8) > 1e-9 || len(f[0].Parts) != 4 {
			t.Errorf("%+v: detected %+v, %v", want, f, err)
		}
	}
}

// errors of where and how objects were found, up to where the template has its own middle and turn.
func (s *System) errors(all []truth) (distance float64, turns float64) {
	var dy, dx, turn []int
	for i, d := range s.found {
		dy, dx, turn = append(dy, d.Object.Y-all[i].y), append(dx, d.Object.X-all[i].x), append(turn, d.Object.Turn-all[i].turn)
	}
	mid := func(v []int) int { v = slices.Clone(v); slices.Sort(v); return v[len(v)/2] }
	var off []float64
	for i := range dy {
		off = append(off, math.Hypot(float64(dy[i]-mid(dy)), float64(dx[i]-mid(dx))))
		if turn[i] == mid(turn) {
			turns += 1 / float64(len(turn))
		}
	}
	slices.Sort(off)
	return off[len(off)/2], turns
}

// TestLearns: objects at unknown places are found, and not where they are not looked for.
func TestLearns(t *testing.T) {
	for _, sabotage := range []string{"", Still} {
		c := config(func(c *Config) { c.Sabotage = sabotage })
		set, all := hooks(16, c, 5)
		s := system(t, c, set)
		m := systemtest.Steps(t, s, c.Steps)
		distance, turns := s.errors(all)
		t.Logf("%q: score %.1f, median distance %.2f, right turns %.2f, responses off by %.2f", sabotage, m["score"], distance, turns, m["response_gap"])
		if good := distance <= 2 && turns >= 0.7; good != (sabotage == "") {
			t.Errorf("%q: median distance %.2f, right turns %.2f", sabotage, distance, turns)
		}
	}
}

// TestStarts: clusters around single pictures tell hooks from their mirror images before any round, where clusters
// at random do not, and their objects lie in the middle and upright on average.
func TestStarts(t *testing.T) {
	for seed := range uint64(3) {
		c := config(func(c *Config) { c.Clusters, c.Starts = 2, 3 })
		set, _ := hooks(12, c, 5)
		set.Labels = make([]int, set.N)
		for i := range set.N {
			if set.Labels[i] = i % 2; i%2 == 1 {
				for y := range set.H {
					slices.Reverse(set.At(i)[y*set.W : (y+1)*set.W])
				}
			}
		}
		s, err := New(t.Context(), c, nil, set, seed)
		if err != nil {
			t.Fatal(err)
		}
		purity := func() float64 {
			var of []int
			for _, d := range s.found {
				of = append(of, d.Cluster)
			}
			return diag.Purity(of, set.Labels)
		}
		random := purity()
		if err := s.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p := purity(); p < 0.9 || random > 0.75 {
			t.Errorf("seed %d: purity of two clusters %.2f, at random %.2f", seed, p, random)
		}
		for q := range 2 {
			var y, x, turn, n float64
			for _, d := range s.found {
				if d.Cluster == q {
					y, x, turn, n = y+float64(d.Object.Y-24), x+float64(d.Object.X-24), turn+float64(d.Object.Turn), n+1
				}
			}
			if math.Hypot(y/n, x/n) > 2 || math.Abs(turn/n) > 0.5 {
				t.Errorf("seed %d: objects of cluster %d are (%.1f, %.1f) off the middle and turned by %.1f", seed, q, y/n, x/n, turn/n)
			}
		}
	}
}

func TestResume(t *testing.T) {
	c := config(func(c *Config) { c.Clusters, c.Frame.Steps, c.Frame.Atoms, c.Frame.Chains = 2, 2, 4, 2 })
	set, _ := hooks(6, c, 1)
	systemtest.Resume(t, func() training.System { return system(t, c, set) }, "found", "template1/theta")
	s := system(t, c, set)
	if err := training.Run(t.Context(), s, training.Options{Steps: 2}); err != nil {
		t.Fatal(err)
	}
	st, err := s.Save()
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewModel(c, 48, 48)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Cluster(t.Context(), set.X(), 0, 1); err == nil {
		t.Error("a model without templates sorts pictures")
	}
	if err := m.Restore(st); err != nil {
		t.Fatal(err)
	}
	var more []float64 // that the second template scores a picture higher
	for i := range set.N {
		v := s.look(i)
		more = append(more, m.find(v, m.Templates[1], false).Score-m.find(v, m.Templates[0], false).Score)
	}
	half := slices.Clone(more)
	slices.Sort(half)
	m.Templates[1].LogZ += (half[2] + half[3]) / 2 // so that it wins half of the pictures
	of := must(m.Cluster(t.Context(), set.X(), 0, 1))
	for i, q := range of {
		if want := more[i] > (half[2]+half[3])/2; want != (q == 1) {
			t.Errorf("picture %d: cluster %d", i, q)
		}
	}
	if slices.Min(of) == slices.Max(of) {
		t.Errorf("all pictures are in one cluster: %v", of)
	}
	if f := must(m.Describe(t.Context(), set.X())); len(f) != set.N*2*5*5 || training.Finite(f) != nil {
		t.Errorf("%d features of %d pictures", len(f), set.N)
	}
	if x := must(m.Draw(t.Context(), 3, 1)); len(x) != 3*set.Dim() || slices.Equal(x[:set.Dim()], x[set.Dim():2*set.Dim()]) {
		t.Errorf("drew %d values", len(x))
	}
	if x := must(m.Sketch(t.Context(), set.X())); slices.Max(x) != 1 {
		t.Errorf("the brightest bar is %g", slices.Max(x))
	}
	if pics := must(s.Pictures(t.Context())); len(pics) != 4 {
		t.Errorf("%d pictures", len(pics))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestBadSettings(t *testing.T) {
	set, _ := hooks(3, config(func(*Config) {}), 1)
	for want, change := range map[string]func(*Config){
		"steps":      func(c *Config) { c.Steps = 0 },
		"side":       func(c *Config) { c.Parts = 5 },
		"clusters":   func(c *Config) { c.Clusters = 0 },
		"starts":     func(c *Config) { c.Starts = -1 },
		"at most":    func(c *Config) { c.Clusters = 4 },
		"levels":     func(c *Config) { c.Levels = 2 },
		"sabotage":   func(c *Config) { c.Sabotage = "flip" },
		"part":       func(c *Config) { c.Part.Turn = 4 },
		"object":     func(c *Config) { c.Object.Level = 1 },
		"anywhere":   func(c *Config) { c.Object.Shift = 1 },
		"atoms":      func(c *Config) { c.Frame.Atoms = 0 },
		"do not fit": func(c *Config) { c.Frame.Scales = []float64{2} },
	} {
		if _, err := New(t.Context(), config(change), nil, set, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
	for name, p := range Presets {
		if err := p.Config.Check(); err != nil {
			t.Errorf("preset %s: %v", name, err)
		}
	}
	if _, err := For("nosuch", []int{1, 64, 64}, 1); err == nil || !strings.Contains(err.Error(), "object") {
		t.Errorf("wanted an error that lists the presets, got %v", err)
	}
	if c, err := For("", []int{1, 64, 84}, 1); err != nil || c.Side != 48 {
		t.Errorf("templates of %d for pictures of 64×84, %v", c.Side, err)
	}
}
