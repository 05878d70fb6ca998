package sparseframe

import (
	"context"
	"math"
	"strings"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/data"
	"ebmrun/training/maxent"
	"ebmrun/training/sampler"
	"ebmrun/training/systemtest"
)

func config(how string, change func(*Config)) Config {
	return preset(how, func(c *Config) {
		c.Scales, c.Orientations, c.Atoms, c.Shift, c.Turn, c.Chains, c.Cells = []float64{0.4}, 4, 10, 1, 1, 8, 3
		c.Steps = 12
		change(c)
	})
}

// binder binds on the engine in plain Go.
func binder(t testing.TB, h, w int) Binder {
	return func(ctx context.Context, taps []float32) (training.Energy, error) {
		m, err := energy.Linear([]int{1, h, w}, 1, false, energy.Atoms(taps))
		if err != nil {
			return nil, err
		}
		e, err := bind.New(ctx, m, ref.New(), bind.Options{Runtime: runtime.Options{Threads: 1, NoSpin: true}})
		if err == nil {
			t.Cleanup(func() { e.Close() })
		}
		return e, err
	}
}

func shapes(t testing.TB, size, n int, classes ...int) *data.Set {
	t.Helper()
	s, err := data.Load(context.Background(), "synthetic/shape", data.Options{Seed: 1, Size: size, Limit: n, Classes: classes})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func system(t testing.TB, c Config, set *data.Set) *System {
	t.Helper()
	s, err := New(t.Context(), c, binder(t, set.H, set.W), set, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func dictionaryOf(t testing.TB, c Config, side int) *Dictionary {
	t.Helper()
	d, err := NewDictionary(&c, side, side)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestInner: tabled inner products are those of the atoms as pictures.
func TestInner(t *testing.T) {
	d := dictionaryOf(t, config(Boost, func(c *Config) { c.Scales = []float64{0.4, 0.3} }), 24)
	r := sampler.Stream(1, 0, 0)
	for range 200 {
		a, b := d.atom(r.IntN(len(d.bank)*d.oh*d.ow)), d.atom(r.IntN(len(d.bank)*d.oh*d.ow))
		x := d.taps([]Atom{a, b})
		want := 0.0
		for i, v := range x[:24*24] {
			want += float64(v) * float64(x[24*24+i])
		}
		if got := d.inner(a, b); math.Abs(float64(got)-want) > 1e-5 {
			t.Fatalf("%v, %v: wanted %g, got %g", a, b, want, got)
		}
		if i := d.Index(a); d.atom(i) != a {
			t.Fatalf("%v has the index %d, which is of %v", a, i, d.atom(i))
		}
	}
}

// TestIncremental: after 100 sweeps the responses kept up to date are those worked out anew.
func TestIncremental(t *testing.T) {
	c := config(Boost, func(*Config) {})
	off, err := Drift(c, 32, 14, 4, 100, 1)
	if err != nil || off > 1e-3 {
		t.Errorf("responses are off by %g, %v", off, err)
	}
}

// TestClosedForm: |r| of one atom of weight λ has the mean λ + φ(λ)/Φ(λ) under Gibbs sweeps.
func TestClosedForm(t *testing.T) {
	for lambda, want := range map[float64]float64{-1: 0.5251, 0: 0.7979, 1: 1.2876, 2: 2.0552} {
		m := &Template{Dictionary: dictionaryOf(t, config(Boost, func(*Config) {}), 16)}
		m.add(Atom{0, 8, 8})
		m.Theta[0] = lambda
		c, mean := &chain{x: make([]float32, 16*16)}, 0.0
		m.respond(c)
		const sweeps = 20000
		r := sampler.Stream(2, 0, 0)
		for range sweeps {
			m.sweep(r, c)
			mean += math.Abs(float64(c.r[0])) / sweeps
		}
		if math.Abs(mean-want) > 0.03 {
			t.Errorf("weight %g: wanted a mean of %g, got %g", lambda, want, mean)
		}
	}
}

// TestPursuit finds planted atoms that move from picture to picture.
func TestPursuit(t *testing.T) {
	d := dictionaryOf(t, config(Pursuit, func(*Config) {}), 32)
	planted := []Atom{{0, 10, 16}, {4, 20, 10}, {2, 20, 22}}
	var r [][]float32
	for n := range 6 {
		x := make([]float32, 32*32)
		for j, a := range planted {
			var all []Atom
			d.moved(a, func(b Atom) {
				if b.Filter == a.Filter {
					all = append(all, b)
				}
			})
			d.add(x, all[(n+j)%len(all)], float32(6-j))
		}
		r = append(r, d.Responses(x))
	}
	got := d.pursue(r, 3)
	for j, a := range got {
		if b := planted[j]; max(a.Y-b.Y, b.Y-a.Y) > 1 || max(a.X-b.X, b.X-a.X) > 1 || a.Filter/2 != b.Filter/2 {
			t.Errorf("atom %d: wanted about %v, got %v", j, b, a)
		}
	}
}

// TestSquare: from pictures sampled of a known template both ways of selection find its atoms, and
// atoms at random places are another thing.
func TestSquare(t *testing.T) {
	c := config(Boost, func(c *Config) { c.Shift, c.Turn, c.Local, c.Atoms, c.Keep, c.Steps = 0, 0, false, 16, 0.8, 30 })
	set, truth, err := Square(c, 32, 14, 4, 20, 4, 5)
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{Pursuit, Boost} {
		c.Select = how
		s := system(t, c, set)
		systemtest.Steps(t, s, 16)
		got, random := s.Likeness(truth), s.Chance(truth, 6)
		t.Logf("%s: correlation %.3f with the truth, %.3f of random atoms", how, got, random)
		if got < 0.8 || random > 0.4 {
			t.Errorf("%s: correlation %.3f with the truth, %.3f of random atoms", how, got, random)
		}
	}
}

// TestLearns: observed responses are matched in both ways, and not by the sabotaged arms.
func TestLearns(t *testing.T) {
	set := shapes(t, 24, 10, 1)
	for _, how := range []string{Pursuit, Boost} {
		gap := map[string]float64{}
		for _, arm := range []string{"", maxent.Freeze, maxent.Flip} {
			s := system(t, config(how, func(c *Config) { c.Sabotage, c.Optim.LR = arm, 0.1 }), set)
			n := 30
			if arm == maxent.Flip {
				n = 8
			}
			gap[arm] = systemtest.Steps(t, s, n)["gap"]
		}
		t.Logf("%s: %v", how, gap)
		if gap[""] > 0.4*gap[maxent.Freeze] || gap[maxent.Flip] < gap[maxent.Freeze]*0.9 {
			t.Errorf("%s: gaps of responses %v", how, gap)
		}
	}
}

// TestResume: 8 iterations, and 4 saved, restored in a new system and 4 more, are the same bits.
func TestResume(t *testing.T) {
	set := shapes(t, 24, 5)
	for _, how := range []string{Pursuit, Boost} {
		c := config(how, func(c *Config) { c.HMC.Leapfrogs = 2 })
		_, end := systemtest.Resume(t, func() *System { return system(t, c, set) })
		if m, err := Open(c, end, 24, 24); err != nil || len(m.Taps()) != len(m.Theta)*24*24 || len(m.Theta) == 0 {
			t.Errorf("%s: the template of a checkpoint: %v", how, err)
		}
	}
}

func TestBadSettings(t *testing.T) {
	set := shapes(t, 24, 4)
	for want, change := range map[string]func(*Config){
		"select":       func(c *Config) { c.Select = "other" },
		"atoms":        func(c *Config) { c.Atoms = 0 },
		"scales":       func(c *Config) { c.Scales = nil },
		"shift":        func(c *Config) { c.Shift = 17 },
		"turn":         func(c *Config) { c.Turn = 3 },
		"keep":         func(c *Config) { c.Keep = 0 },
		"does not fit": func(c *Config) { c.Scales = []float64{2} },
		"steps":        func(c *Config) { c.Steps = 0 },
	} {
		if _, err := New(t.Context(), config(Boost, change), nil, set, 1); err == nil || !strings.Contains(strings.Replace(err.Error(), "do not fit", "does not fit", 1), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
	if _, err := For("nosuch", nil, 1); err == nil || !strings.Contains(err.Error(), "boost") {
		t.Errorf("wanted an error that lists the presets, got %v", err)
	}
	for name, p := range Presets {
		if err := p.Config.Check(); err != nil {
			t.Errorf("preset %s: %v", name, err)
		}
	}
}
