package frame

import (
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/filters"
	"ebmrun/training/sampler"
	"ebmrun/training/systemtest"
)

func texture(t testing.TB, size int) *data.Set {
	t.Helper()
	set, err := data.Load(t.Context(), "synthetic/tex-a", data.Options{Seed: 1, Size: size})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// config is a small configuration that a test changes.
func config(change func(*Config)) Config {
	return histogram(func(c *Config) {
		c.Filters.Wavelengths, c.Filters.Orientations, c.Filters.Blobs = []float64{3, 5}, 4, []float64{0.7}
		c.Steps, c.Select.Most, c.Select.Every, c.Sweeps = 24, 4, 5, 3
		change(c)
	})
}

func system(t testing.TB, c Config, size int) *System {
	t.Helper()
	s, err := New(c, texture(t, size), 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestIncremental: after 1,000 random changes of pixels, responses and histograms that were kept up to
// date are exactly those that are worked out anew.
func TestIncremental(t *testing.T) {
	s := system(t, config(func(*Config) {}), 24)
	if err := s.CheckIncrements(1000); err != nil {
		t.Error(err)
	}
	f := s.chains[0]
	f.add(s.bank[4])
	f.x[7] ^= 1 // a change that nobody was told of must be seen
	if f.check() == nil {
		t.Error("a stale response is not noticed")
	}
}

// TestResponses: whole-number responses are the filter's, up to the rounding of taps.
func TestResponses(t *testing.T) {
	const h, w, levels = 13, 11, 8
	bank, err := filters.Round([]float64{3}, 2)
	if err != nil {
		t.Fatal(err)
	}
	x, float := make([]uint8, h*w), make([]float32, h*w)
	r := sampler.Stream(4, 5, 6)
	for i := range x {
		x[i] = uint8(r.IntN(levels))
		float[i] = float32(x[i])
	}
	for _, f := range append(bank, filters.Differences()...) {
		p := newProbe(f, levels)
		most := 0.0
		for _, v := range f.Taps {
			most = max(most, math.Abs(float64(v)))
		}
		want := make([]float32, h*w)
		f.Circular(want, float, h, w)
		for i, got := range newField(h, w, x).responses(p) {
			if off := float64(got)/largest*most - float64(want[i]); math.Abs(off) > 0.5/largest*most*float64(len(f.Taps))*levels {
				t.Fatalf("%s at %d: wanted %g, off by %g", f.Name, i, want[i], off)
			}
		}
	}
}

// TestConditional: the weights of a pixel's grey levels are the differences of the whole picture's
// Σ_k Σ_p λ_k, worked out anew.
func TestConditional(t *testing.T) {
	s := system(t, config(func(*Config) {}), 16)
	systemtest.Steps(t, s, 6)
	f, c := s.chains[0], potentials(s.watch, s.lambda)
	total := func() (sum float64) {
		for k, p := range s.watch {
			for _, r := range f.responses(p) {
				sum += s.lambda[k][p.of(r)]
			}
		}
		return sum
	}
	w := make([]float64, s.Config.Levels)
	for _, i := range []int{0, 5, 77, 255} {
		c(f, i, w)
		base, old := total(), f.x[i]
		for g := range w {
			f.set(i, uint8(g))
			if want := total() - base; math.Abs(w[g]-w[old]-want) > 1e-3 {
				t.Errorf("pixel %d, level %d: wanted %g, got %g", i, g, want, w[g]-w[old])
			}
		}
		f.set(i, old)
	}
	if slices.Max(w) == slices.Min(w) {
		t.Error("every level is as likely")
	}
}

// TestEnsemble: the weights are those of the histograms' distance.
func TestEnsemble(t *testing.T) {
	s := system(t, config(func(c *Config) { c.Mode, c.Temperature = Julesz, [2]float64{4, 1} }), 16)
	systemtest.Steps(t, s, 6)
	f, c := s.chains[0], ensemble(s.watch, 2)
	total := func() (sum float64) {
		for _, p := range s.watch {
			sum -= gap(p.observed, f.shares(p)) * float64(len(f.x)) / 2
		}
		return sum
	}
	w := make([]float64, s.Config.Levels)
	for _, i := range []int{3, 100} {
		c(f, i, w)
		base, old := total(), f.x[i]
		for g := range w {
			f.set(i, uint8(g))
			if want := total() - base; math.Abs(w[g]-want) > 1e-6 {
				t.Errorf("pixel %d, level %d: wanted %g, got %g", i, g, want, w[g])
			}
		}
		f.set(i, old)
	}
}

// TestExactTinyPicture: on a picture so small that all states can be listed, sweeps visit them as often as
// the model says.
func TestExactTinyPicture(t *testing.T) {
	const levels, h, w, n = 2, 3, 3, 200000
	p := newProbe(filters.Differences()[0], levels)
	q := newProbe(filters.Intensity(), levels)
	p.lay(3, -largest, largest)
	q.lay(2, 0, largest)
	watch, lambda := []*probe{p, q}, [][]float64{{-0.4, 0.3, -0.4}, {0, 0.2}}
	state := func(bits int) *field {
		x := make([]uint8, h*w)
		for i := range x {
			x[i] = uint8(bits >> i & 1)
		}
		f := newField(h, w, x)
		f.add(p)
		f.add(q)
		return f
	}
	want, z := make([]float64, 1<<(h*w)), 0.0
	for b := range want {
		f, sum := state(b), 0.0
		for k := range watch {
			for bin, n := range f.count[k] {
				sum += float64(n) * lambda[k][bin]
			}
		}
		want[b] = math.Exp(sum)
		z += want[b]
	}
	f, c, r, got := state(0), potentials(watch, lambda), sampler.Stream(1, 1, 1), make([]float64, len(want))
	for range n {
		f.sweep(r, levels, c)
		b := 0
		for i, v := range f.x {
			b |= int(v) << i
		}
		got[b] += 1.0 / n
	}
	distance := 0.0
	for b, v := range want {
		distance += math.Abs(v/z-got[b]) / 2
	}
	// independent draws would be about 0.5·√(2·512/(π·200000)) = 0.02 away
	if distance > 0.03 {
		t.Errorf("total variation between visits and the model: %g", distance)
	}
}

// TestLearns: the chosen histograms are matched, and those that nothing drives follow; neither sabotaged
// arm does so.
func TestLearns(t *testing.T) {
	arm := func(mode, sabotage string) (before, after float64, s *System) {
		s = system(t, config(func(c *Config) { c.Mode, c.Temperature, c.Sabotage = mode, [2]float64{6, 0.5}, sabotage }), 32)
		first := s.Gaps()
		m := systemtest.Steps(t, s, s.Config.Steps)
		before, after = s.Rest(first), s.Rest(s.Gaps())
		t.Logf("%s %q: chosen gap %.3f, others %.3f at first, %.3f at last; %v", mode, sabotage, m["gap_max"], before, after, s.Chosen())
		return before, after, s
	}
	for _, mode := range []string{Histogram, Julesz} {
		before, after, s := arm(mode, "")
		if after > 0.6*before {
			t.Errorf("%s: gap of the other filters: %g at first, %g at last", mode, before, after)
		}
		if err := s.chains[0].check(); err != nil {
			t.Error(err)
		}
		for _, sabotage := range []string{Freeze, Flip} {
			if before, after, _ := arm(mode, sabotage); after <= 0.6*before {
				t.Errorf("%s, %s: gap of the other filters fell from %g to %g", mode, sabotage, before, after)
			}
		}
	}
}

// TestResume: 10 iterations, and 5 saved, restored in a new system and 5 more, are the same bits; a model
// alone draws what the system draws.
func TestResume(t *testing.T) {
	for _, mode := range []string{Histogram, Julesz} {
		c := config(func(c *Config) { c.Mode, c.Temperature, c.Chains, c.Burn = mode, [2]float64{6, 0.5}, 2, 3 })
		whole := system(t, c, 20)
		systemtest.Steps(t, whole, 10)
		half := system(t, c, 20)
		systemtest.Steps(t, half, 5)
		half.Slow(0.5)
		half.Slow(2)
		dir := t.TempDir()
		save(t, half, dir)
		again := system(t, c, 20)
		if err := again.Restore(load(t, dir)); err != nil {
			t.Fatal(err)
		}
		systemtest.Steps(t, again, 5)
		a, b := t.TempDir(), t.TempDir()
		save(t, whole, a)
		save(t, again, b)
		x, y := load(t, a), load(t, b)
		if string(x.Meta) != string(y.Meta) {
			t.Errorf("%s: %s and %s", mode, x.Meta, y.Meta)
		}
		for name := range x.Tensors {
			if !equal(x.Tensors[name], y.Tensors[name]) {
				t.Errorf("%s: %s differs", mode, name)
			}
		}
		m := &Model{Config: c, H: 20, W: 20}
		if err := m.Restore(y); err != nil {
			t.Fatal(err)
		}
		want, err := again.Draw(t.Context(), 2, 8)
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.Draw(t.Context(), 2, 8)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(want, got) {
			t.Errorf("%s: a restored model draws other pictures", mode)
		}
		if big, err := m.Resized(30, 26).Draw(t.Context(), 1, 1); err != nil || len(big) != 30*26 {
			t.Errorf("%s: a larger picture: %d values, %v", mode, len(big), err)
		}
	}
}

func save(t testing.TB, s *System, dir string) {
	t.Helper()
	st, err := s.Save()
	if err == nil {
		err = checkpoint.Save(dir, st, checkpoint.Keep{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func load(t testing.TB, dir string) *checkpoint.State {
	t.Helper()
	st, err := checkpoint.Load(dir, checkpoint.Last)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func equal(a, b checkpoint.Tensor) bool {
	switch x := a.Data.(type) {
	case []float64:
		return slices.Equal(x, b.Data.([]float64))
	case []int64:
		return slices.Equal(x, b.Data.([]int64))
	case []uint8:
		return slices.Equal(x, b.Data.([]uint8))
	}
	return false
}

func TestBadSettings(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"mode":         func(c *Config) { c.Mode = "other" },
		"levels":       func(c *Config) { c.Levels = 1 },
		"bins":         func(c *Config) { c.Bins = 65 },
		"rate":         func(c *Config) { c.Rate = 0 },
		"temperature":  func(c *Config) { c.Mode = Julesz },
		"sweeps":       func(c *Config) { c.Sweeps = 0 },
		"select.every": func(c *Config) { c.Select.Every = 0 },
		"wavelength":   func(c *Config) { c.Filters.Wavelengths = []float64{0} },
		"sabotage":     func(c *Config) { c.Sabotage = "other" },
		"does not fit": func(c *Config) { c.Filters.Wavelengths = []float64{30} },
	} {
		if _, err := New(config(change), texture(t, 16), 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
	colour, err := data.Load(t.Context(), "synthetic/tex-a-rgb", data.Options{Size: 16})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(config(func(*Config) {}), colour, 1); err == nil || !strings.Contains(err.Error(), "grey") {
		t.Errorf("wanted an error about grey pictures, got %v", err)
	}
	if _, err := For("nosuch", nil, 1); err == nil || !strings.Contains(err.Error(), "texture") {
		t.Errorf("wanted an error that lists the presets, got %v", err)
	}
	for name, p := range Presets {
		if err := p.Config.Check(); err != nil {
			t.Errorf("preset %s: %v", name, err)
		}
	}
}

// TestPublished: the published settings build and do two iterations.
func TestPublished(t *testing.T) {
	c, err := For("paper", []int{1, 64, 64}, 1)
	if err != nil {
		t.Fatal(err)
	}
	systemtest.Steps(t, system(t, c, 64), 2)
}
