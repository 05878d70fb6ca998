package deepframe_test

import (
	"context"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/backbone"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/data"
	"ebmrun/training/deepframe"
	"ebmrun/training/sampler"
	"ebmrun/training/systemtest"
)

func load(t testing.TB, name string, o data.Options) *data.Set {
	t.Helper()
	set, err := data.Load(context.Background(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	set, _ = data.Rescale(data.Bytes, set, set)
	return set
}

func bound(t testing.TB, e runtime.Engine, m *onnxmodels.Model, err error) *bind.Energy {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	net, err := bind.New(context.Background(), m, e, bind.Options{Runtime: runtime.Options{Threads: 1, NoSpin: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { net.Close() })
	return net
}

// onBackbone is the energy that a configuration describes, without weights to obtain.
func onBackbone(t testing.TB, e runtime.Engine, c deepframe.Config, set *data.Set) *bind.Energy {
	t.Helper()
	net, err := backbone.Load(c.Backbone, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := energy.Linear([]int{set.C, set.H, set.W}, c.Reference.Sigma, c.Stationary, net.Features(backbone.Pixels{Lo: float64(set.Lo), Hi: float64(set.Hi)}))
	return bound(t, e, m, err)
}

func preset(t testing.TB, name string, dims ...int) deepframe.Config {
	t.Helper()
	c, err := deepframe.For(name, dims, 1)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func system(t testing.TB, c deepframe.Config, e training.Energy, set *data.Set) *deepframe.System {
	t.Helper()
	s, err := deepframe.New(context.Background(), c, e, set, 1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// filters are responses without a rectifier: f is linear in x.
var filters = energy.Filtered(energy.Kernels{Size: 2, Taps: []float32{1, 2, -1, 0.5, -1, 1, 1, -2}})

// TestLinear: without a rectifier the density is a Gaussian of mean σ²·Σ θ·F and,
// after Langevin steps of size s, variance σ²/(1 − s²/(4σ²)).
func TestLinear(t *testing.T) {
	const side, sigma, step, chains, drop, keep = 4, 0.8, 0.5, 256, 60, 200
	m, err := energy.Linear([]int{1, side, side}, sigma, false, filters)
	e := bound(t, ref.New(), m, err)
	theta := e.Params()[0].W
	for i := range theta {
		theta[i] = float32(i%5)/4 - 0.5
	}
	e.Refresh()
	// the mean, by the definition of a correlation
	w := [2][4]float64{{1, 2, -1, 0.5}, {-1, 1, 1, -2}}
	var mean [side * side]float64
	for k := range 2 {
		for p := range 9 {
			for q := range 4 {
				mean[(p/3+q/2)*side+p%3+q%2] += sigma * sigma * float64(theta[k*9+p]) * w[k][q]
			}
		}
	}
	st, err := sampler.NewState(make([]float32, chains*len(mean)), len(mean), sampler.Chains(0, chains))
	if err != nil {
		t.Fatal(err)
	}
	var sum [len(mean)]float64
	square := 0.0
	_, err = sampler.Run(context.Background(), sampler.Noise{Seed: 1}, sampler.Langevin{Size: step, Noise: 1}, e, st, drop+keep, func(t int, _ sampler.Info) {
		if t <= drop {
			return
		}
		for i, v := range st.X {
			sum[i%len(mean)] += float64(v)
			square += (float64(v) - mean[i%len(mean)]) * (float64(v) - mean[i%len(mean)])
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	// steps are correlated by a = 1 − s²/(2σ²): (1+a)/(1−a) of them count as one
	a := 1 - step*step/(2*sigma*sigma)
	variance := sigma * sigma / (1 - step*step/(4*sigma*sigma))
	n := chains * (keep - 1.0)
	se := math.Sqrt(variance / n * (1 + a) / (1 - a))
	for i, want := range mean {
		if got := sum[i] / n; math.Abs(got-want) > 4*se {
			t.Errorf("mean of pixel %d: wanted %.4f ± %.4f, got %.4f", i, want, se, got)
		}
	}
	if got := square / n / float64(len(mean)); math.Abs(got/variance-1) > 0.02 {
		t.Errorf("variance: wanted %.4f, got %.4f", variance, got)
	}
}

// pixels are the features of an energy, and what they come to in the mean of a set.
func pixels(t *testing.T) (c deepframe.Config, e *bind.Energy, set *data.Set, mean []float64) {
	set = load(t, "synthetic/shape", data.Options{Size: 8, Limit: 16, Seed: 1})
	mean = make([]float64, set.Dim())
	for i, v := range set.X() {
		mean[i%set.Dim()] += float64(v) / float64(set.N)
	}
	c = preset(t, "object-random", 1, 8, 8)
	c.Steps, c.Batch, c.Reference.Sigma, c.Drift = 150, 5, 10, 0
	c.Langevin = training.Langevin{Steps: 5, Step: 8, Noise: 1}
	c.Optim = training.Optim{LR: 0.3, Decay: 0.01}
	c.Chains.Number = 40
	m, err := energy.Linear([]int{1, 8, 8}, c.Reference.Sigma, false, func(_ *graphs.Builder, x *graphs.Value) []*graphs.Value { return []*graphs.Value{x} })
	return c, bound(t, ref.New(), m, err), set, mean
}

// TestLearnedMean: with the pixels themselves as features, learning ends where
// σ²·θ is the mean of the data. The flipped arm goes the other way.
func TestLearnedMean(t *testing.T) {
	apart := func(sabotage string) float64 {
		c, e, set, mean := pixels(t)
		c.Sabotage = sabotage
		systemtest.Steps(t, system(t, c, e, set), c.Steps)
		var d, size float64
		for i, w := range e.Params()[0].W {
			d += math.Abs(float64(w)*c.Reference.Sigma*c.Reference.Sigma - mean[i])
			size += math.Abs(mean[i])
		}
		return d / size
	}
	if got := apart(""); got > 0.1 {
		t.Errorf("Σ|σ²θ − mean|/Σ|mean|: wanted at most 0.1, got %.3f", got)
	}
	for _, sabotage := range []string{deepframe.Flip, deepframe.Freeze} {
		if got := apart(sabotage); got < 0.9 {
			t.Errorf("%s: wanted at least 0.9, got %.3f", sabotage, got)
		}
	}
}

// TestAhead: weights that run ahead of chains whose steps become shorter and shorter end a run.
func TestAhead(t *testing.T) {
	c, e, set, _ := pixels(t)
	c.Drift = 0.8
	s := system(t, c, e, set)
	for range c.Steps {
		if _, err := s.Step(t.Context()); err != nil {
			if !errors.Is(err, training.ErrGuard) || !strings.Contains(err.Error(), "optim.lr") {
				t.Errorf("wanted a guard that names the rate, got %v", err)
			}
			return
		}
	}
	t.Error("no guard")
}

// TestStrides: a step that is too long for the slopes ends a run, and is named.
func TestStrides(t *testing.T) {
	set := load(t, "synthetic/shape", data.Options{Size: 12, Limit: 5, Seed: 1})
	c := preset(t, "object-random", 1, 12, 12)
	c.Chains.Number, c.Backbone.Cut, c.Langevin.Steps, c.Drift = 3, []string{"relu1"}, 20, 0
	s := system(t, c, onBackbone(t, ref.New(), c, set), set)
	m, err := s.Step(t.Context())
	if err != nil || !(m[deepframe.Drift] > 0 && m[deepframe.Drift] < 1) {
		t.Errorf("a step of %g: drift over noise %g, %v", c.Langevin.Step, m[deepframe.Drift], err)
	}
	c.Langevin.Step = 2.2 * c.Reference.Sigma // the reference density alone throws chains out
	s = system(t, c, onBackbone(t, ref.New(), c, set), set)
	for range 3 {
		if _, err = s.Step(t.Context()); err != nil {
			break
		}
	}
	if !errors.Is(err, training.ErrGuard) || !strings.Contains(err.Error(), "langevin.step") {
		t.Errorf("a step of %g: wanted a guard that names it, got %v", c.Langevin.Step, err)
	}
}

// TestDrift: steps become shorter where slopes would carry chains too far, and longer again, up to
// what they began with.
func TestDrift(t *testing.T) {
	set := load(t, "synthetic/shape", data.Options{Size: 12, Limit: 5, Seed: 1})
	c := preset(t, "object-random", 1, 12, 12)
	c.Sabotage = deepframe.Freeze // the reference density alone: a step of s drifts s/2σ as far as its noise
	c.Reference.Sigma, c.Langevin.Steps, c.Chains.Number, c.Backbone.Cut = 2, 20, 3, []string{"relu1"}
	c.Langevin.Step, c.Drift = 3, 0.25
	e := onBackbone(t, ref.New(), c, set)
	m := systemtest.Steps(t, system(t, c, e, set), 20)
	if got := m[deepframe.Drift]; math.Abs(got-c.Drift) > 0.05 || math.Abs(m["stride"]-1) > 0.15 {
		t.Errorf("wanted drifts of %g and steps of 1, got %g and %g", c.Drift, got, m["stride"])
	}
	c.Drift = 5 // never reached
	if m := systemtest.Steps(t, system(t, c, e, set), 3); m["stride"] != 3 {
		t.Errorf("wanted steps of 3, got %g", m["stride"])
	}
	c.Drift = 0
	if m := systemtest.Steps(t, system(t, c, e, set), 3); m["stride"] != 3 || m[deepframe.Drift] < 0.6 {
		t.Errorf("without a limit: wanted steps of 3 and drifts of 0.7 or more, got %g and %g", m["stride"], m[deepframe.Drift])
	}
}

// TestStatistics: where the pixels themselves are the features, their means are the statistics.
func TestStatistics(t *testing.T) {
	set := load(t, "synthetic/shape", data.Options{Size: 8, Limit: 5, Seed: 1})
	for _, stationary := range []bool{true, false} {
		c := preset(t, "object-random", 1, 8, 8)
		c.Stationary, c.Batch, c.Chains.Number, c.Sabotage = stationary, 2, 3, deepframe.Freeze
		net, err := energy.Linear([]int{1, 8, 8}, c.Reference.Sigma, stationary, func(b *graphs.Builder, x *graphs.Value) []*graphs.Value {
			return []*graphs.Value{x, b.Concat(1, x, b.Scale(x, 2))}
		})
		e := bound(t, ref.New(), net, err)
		s := system(t, c, e, set)
		systemtest.Steps(t, s, 2)
		st, err := s.Save()
		if err != nil {
			t.Fatal(err)
		}
		m, err := deepframe.Open(c, e, []deepframe.Layer{{Name: "a", Units: 1, Places: 64}, {Name: "b", Units: 2, Places: 64}}, st, set.Dim())
		if err != nil {
			t.Fatal(err)
		}
		names, observed, drawn, err := m.Statistics(t.Context(), set.X(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"a unit 1", "b unit 1", "b unit 2"}; !reflect.DeepEqual(names, want) {
			t.Errorf("wanted %v, got %v", want, names)
		}
		mean, _ := training.Moments(set.X())
		for i, unit := range []float64{1, 1, 2} {
			if math.Abs(observed[i]-unit*mean) > 1e-3 || math.Abs(drawn[i]-unit*drawn[0]) > 1e-3 {
				t.Errorf("stationary %v: %s: wanted %g, and %g drawn; got %g, %g", stationary, names[i], unit*mean, unit*drawn[0], observed[i], drawn[i])
			}
		}
		if _, _, _, err := m.Statistics(t.Context(), set.X()[1:], 1); err == nil {
			t.Error("pictures of another size are taken")
		}
	}
}

// TestFloor: all examples have the statistics of the data, a few have others.
func TestFloor(t *testing.T) {
	set := load(t, "synthetic/shape", data.Options{Size: 12, Limit: 6, Seed: 1})
	c := preset(t, "object-random", 1, 12, 12)
	c.Backbone.Cut = []string{"relu1"}
	floor := func(chains int) float64 {
		c.Chains.Number = chains
		f, err := system(t, c, onBackbone(t, ref.New(), c, set), set).Floor(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if all, twice, two := floor(6), floor(12), floor(2); all > 1e-5 || twice > 1e-5 || two < 0.2 {
		t.Errorf("gap of 6, 12 and 2 of 6 examples: wanted 0, 0 and more than 0.2, got %g, %g, %g", all, twice, two)
	}
}

// TestObserved: the statistics of the data are the means over all examples,
// whatever the batch, also where it does not divide their number.
func TestObserved(t *testing.T) {
	set := load(t, "synthetic/shape", data.Options{Size: 16, Limit: 7, Seed: 1})
	c := preset(t, "object-random", 1, 16, 16)
	observed := func(batch int) []float32 {
		c.Batch = batch
		st, err := system(t, c, onBackbone(t, ref.New(), c, set), set).Save()
		if err != nil {
			t.Fatal(err)
		}
		return st.Tensors["observed/theta"].Data.([]float32)
	}
	one := observed(1)
	for _, batch := range []int{3, 7, 20} {
		for i, v := range observed(batch) {
			if math.Abs(float64(v-one[i])) > 1e-3*(1+math.Abs(float64(one[i]))) {
				t.Fatalf("batch %d: statistic %d: wanted %g, got %g", batch, i, one[i], v)
			}
		}
	}
}

// TestTexture: bricks on a random network. Learning brings the statistics of the
// chains to those of the data; without it, and with its sign flipped, they stay apart.
func TestTexture(t *testing.T) {
	eng, err := ort.Open("")
	enginetest.Unavailable(t, err)
	set := load(t, "synthetic/tex-c", data.Options{Size: 32, Seed: 1})
	c := preset(t, "texture-random", 1, 32, 32)
	for _, arm := range []struct {
		sabotage string
		steps    int
		lo, hi   float64
	}{{"", 120, 0, 0.1}, {deepframe.Freeze, 10, 0.6, math.Inf(1)}, {deepframe.Flip, 10, 0.6, math.Inf(1)}} {
		c.Sabotage, c.Steps = arm.sabotage, arm.steps
		e := onBackbone(t, eng, c, set)
		n := 0
		for _, p := range e.Params() {
			n += len(p.W)
		}
		if n != 32+64+128 {
			t.Errorf("wanted one weight for each of 224 features, got %d", n)
		}
		m := systemtest.Steps(t, system(t, c, e, set), c.Steps)
		t.Logf("%q: gap %.4f, drift over noise %.2f, deviation %.1f of %.1f", arm.sabotage, m["moment_gap"], m[deepframe.Drift], m[training.SampleStd], m[training.DataStd])
		if gap := m["moment_gap"]; !(gap >= arm.lo && gap <= arm.hi) {
			t.Errorf("sabotage %q: gap of the statistics: wanted %g to %g, got %g", arm.sabotage, arm.lo, arm.hi, gap)
		}
	}
}

// TestResume: interrupted, saved and restored in new parts is uninterrupted, bit for bit.
func TestResume(t *testing.T) {
	set := load(t, "synthetic/shape", data.Options{Size: 12, Limit: 5, Seed: 1})
	c := preset(t, "object-random", 1, 12, 12)
	c.Steps, c.Langevin.Steps, c.Chains.Number, c.Backbone.Cut = 6, 3, 3, []string{"relu1"}
	c.Drift = 0.05 // which is reached
	fresh := func() *deepframe.System { return system(t, c, onBackbone(t, ref.New(), c, set), set) }
	save := func(s *deepframe.System) any {
		st, err := s.Save()
		if err != nil {
			t.Fatal(err)
		}
		return training.CopyState(st)
	}
	whole, first := fresh(), fresh()
	systemtest.Steps(t, whole, 6)
	systemtest.Steps(t, first, 3)
	st, err := first.Save()
	if err != nil {
		t.Fatal(err)
	}
	second := fresh()
	systemtest.Steps(t, second, 1) // what it did before is forgotten
	if err := second.Restore(training.CopyState(st)); err != nil {
		t.Fatal(err)
	}
	systemtest.Steps(t, second, 3)
	if !reflect.DeepEqual(save(whole), save(second)) {
		t.Error("the resumed run differs from the uninterrupted one")
	}
	other := c
	other.Chains.Number = 4
	if err := system(t, other, onBackbone(t, ref.New(), other, set), set).Restore(st); err == nil {
		t.Error("a checkpoint of another number of chains is taken")
	}
}

func TestConfig(t *testing.T) {
	for name, p := range deepframe.Presets {
		if err := p.Config.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for want, change := range map[string]func(*deepframe.Config){
		"steps":           func(c *deepframe.Config) { c.Steps = 0 },
		"batch":           func(c *deepframe.Config) { c.Batch = 0 },
		"chains.number":   func(c *deepframe.Config) { c.Chains.Number = 0 },
		"chains.start":    func(c *deepframe.Config) { c.Chains.Start = "data" },
		"reference.sigma": func(c *deepframe.Config) { c.Reference.Sigma = 0 },
		"data.scale":      func(c *deepframe.Config) { c.Data.Scale = "grey" },
		"sabotage":        func(c *deepframe.Config) { c.Sabotage = "flop" },
		"backbone.train":  func(c *deepframe.Config) { c.Backbone.Train = []string{"*"} },
		"langevin.step":   func(c *deepframe.Config) { c.Langevin.Step = 0 },
		"drift":           func(c *deepframe.Config) { c.Drift, c.Langevin.Noise = 1, 0 },
	} {
		c := preset(t, "", 1, 32, 32)
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
	for _, bad := range []struct {
		name string
		dims []int
	}{{"fancy", []int{1, 32, 32}}, {"", []int{2}}, {"", []int{1, 4, 4}}} {
		if _, err := deepframe.For(bad.name, bad.dims, 1); err == nil {
			t.Errorf("preset %q for %v: wanted an error", bad.name, bad.dims)
		}
	}
}
