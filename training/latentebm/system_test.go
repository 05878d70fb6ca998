package latentebm_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/data"
	"ebmrun/training/latentebm"
	"ebmrun/training/record"
	"ebmrun/training/systemtest"
)

// TestStep: what one iteration hands to the networks. Both chains begin anew at
// p0, the prior learns from posterior codes with −1/n and from its own with 1/n,
// and the generator explains the batch at the posterior codes.
func TestStep(t *testing.T) {
	prior := newTilt(1, 0.3, 0)
	g := newLinear(prior, 1, 0, 0, 1)
	set := normal(t, 50, 1, 4, -4)
	s := system(t, config(func(c *latentebm.Config) { c.Batch = 50 }), prior, g, set)
	m, err := s.Step(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(prior.w) != 100 || prior.w[0] != -0.02 || prior.w[99] != 0.02 {
		t.Fatalf("weights of scores are %v", prior.w)
	}
	up, down := prior.x[:100], prior.x[100:]
	if !slices.Equal(g.z, up) {
		t.Error("the generator does not learn at the posterior's codes")
	}
	if got := training.MSE(up, g.target); got > 1 {
		t.Errorf("posterior codes are %.3f away from the examples that the identity explains", got)
	}
	if mean := training.Mean(down); math.Abs(mean) > 0.5 {
		t.Errorf("prior codes have the mean %.3f", mean)
	}
	if want := float32(1 / (2 * residual * residual * 50)); g.weight[0] != want {
		t.Errorf("errors weigh %g, wanted %g", g.weight[0], want)
	}
	if m[training.Value] <= 0 || math.Abs(m["mse"]-training.MSE(up, g.target)) > 0.02 || m["prior/code_most"] < 1 {
		t.Errorf("metrics %v", m)
	}
	square := func(z []float32) (sum float64) {
		for _, v := range z {
			sum += float64(v) * float64(v)
		}
		return sum
	}
	if want := (square(up)-square(down))/(2*50) - m[training.Value]; math.Abs(m["u_gap"]-want) > 1e-5 {
		t.Errorf("energies of the two kinds of codes are %g apart, wanted %g", m["u_gap"], want)
	}
	if prior.fresh != 1 {
		t.Errorf("changed weights took effect %d times, wanted once", prior.fresh)
	}
	first := slices.Clone(down)
	if _, err := s.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := prior.x[100:]; slices.Equal(first, again) {
		t.Error("the second iteration has the first one's chains")
	}
}

// TestNoise: chains that nothing pulls are noise, which is new in each iteration and not the same
// for prior and posterior.
func TestNoise(t *testing.T) {
	prior := newTilt(1e6, 0)
	long := training.Langevin{Steps: 1, Step: 100, Noise: 1}
	s := system(t, config(func(c *latentebm.Config) { c.Batch, c.Prior, c.Posterior = 50, long, long }), prior, newLinear(prior, 0), normal(t, 50, 1, 4))
	s.Slow(0)
	var seen [][]float32
	for range 2 {
		systemtest.Steps(t, s, 1)
		seen = append(seen, prior.x[:50], prior.x[50:])
	}
	for i, a := range seen {
		for j, b := range seen[:i] {
			if d := training.MSE(a, b); d < 1e4 || d > 4e4 {
				t.Errorf("noise %d and %d are %g apart, wanted 2·100²", i, j, d)
			}
		}
	}
}

// network is a new system over small networks, as a new process would make it.
func network(t testing.TB, e runtime.Engine) *latentebm.System {
	t.Helper()
	set, err := data.Load(context.Background(), "synthetic/shape", data.Options{Seed: 2, Size: 8, Limit: 25})
	if err != nil {
		t.Fatal(err)
	}
	c := config(func(c *latentebm.Config) {
		c.GenSpec = &generator.Spec{Codes: 2, Start: 4, Filters: 3, Activation: "leaky", Tanh: true, Layers: []generator.Layer{{Kernel: 4, Stride: 2, Pad: 1}}}
		c.Hidden, c.Steps, c.Batch, c.Infer = []int{5}, 10, 6, 5
		c.Prior.Steps, c.Posterior.Steps, c.Prior.Fused = 3, 4, true
		c.Optim = training.Optim{LR: 1e-2, Betas: [2]float64{0.5, 0.999}}
		c.Teach = training.Optim{LR: 1e-2, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1}
	})
	o := runtime.Options{Threads: 1, NoSpin: true}
	em, err := energy.Build(c.PriorNet(), []int{c.GenSpec.Codes}, c.Reference.Sigma, 1)
	if err != nil {
		t.Fatal(err)
	}
	gm, err := generator.Build(*c.GenSpec, []int{set.C, set.H, set.W}, 1)
	if err != nil {
		t.Fatal(err)
	}
	p, err := bind.New(context.Background(), em, e, bind.Options{Runtime: o})
	if err != nil {
		t.Fatal(err)
	}
	g, err := bind.NewGenerator(context.Background(), gm, e, o, c.Sigma)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(); g.Close() })
	if err := g.Under(p); err != nil {
		t.Fatal(err)
	}
	s := system(t, c, p, g, set)
	s.Exam.Held = set.Head(3)
	return s
}

func TestResume(t *testing.T) {
	for name, engine := range map[string]func() (runtime.Engine, error){
		"ref": func() (runtime.Engine, error) { return ref.New(), nil },
		"ort": func() (runtime.Engine, error) { return ort.Open("") },
	} {
		t.Run(name, func(t *testing.T) {
			e, err := engine()
			enginetest.Unavailable(t, err)
			systemtest.Resume(t, func() training.System { return network(t, e) }, "prior/layer1.weight", "generator/code.weight")
		})
	}
}

// TestAbilities: draws and codes are of their seed, whatever the batch; hidden
// entries of an example change nothing; ways end where draws are.
func TestAbilities(t *testing.T) {
	s := network(t, ref.New())
	dim := s.Dim
	draw := func(n int, seed uint64) []float32 {
		x, err := s.Draw(t.Context(), n, seed)
		if err != nil || len(x) != n*dim {
			t.Fatalf("%d values (%v)", len(x), err)
		}
		return x
	}
	if x := draw(15, 1); !slices.Equal(draw(4, 1), x[:4*dim]) || slices.Equal(draw(15, 2), x) {
		t.Error("draws are not of their seed alone")
	}
	way, err := s.Interpolate(t.Context(), 1, 2, 5)
	if err != nil || !slices.Equal(way[:dim], draw(1, 1)) || !slices.Equal(way[4*dim:], draw(1, 2)) {
		t.Errorf("the way does not join the draws (%v)", err)
	}
	x := slices.Clone(s.Exam.Held.X())
	mask := make([]float32, len(x))
	for i := range mask {
		mask[i] = float32(i % 2)
	}
	rebuild := func(mask []float32) []float32 {
		y, err := s.Reconstruct(t.Context(), x, mask, 1)
		if err != nil || len(y) != len(x) {
			t.Fatal(err)
		}
		return y
	}
	part, whole := rebuild(mask), rebuild(nil)
	if slices.Equal(part, whole) {
		t.Error("the mask hides nothing")
	}
	for i := range x {
		if mask[i] == 0 {
			x[i] = 50
		}
	}
	if !slices.Equal(rebuild(mask), part) {
		t.Error("hidden entries leak")
	}
	name, values, err := s.Score(t.Context(), s.Exam.Held.X(), 1)
	if err != nil || len(values) != 3 || name == "" || !(values[0] < 0) {
		t.Errorf("scores %q %v (%v)", name, values, err)
	}
	parts, err := s.Parts(t.Context(), s.Exam.Held.X(), 1)
	if err != nil || len(parts) != 3 || parts[0].Name != name || !slices.Equal(parts[0].Values, values) {
		t.Fatalf("parts %v (%v)", parts, err)
	}
	for i, v := range values {
		if r, p := parts[1].Values[i], parts[2].Values[i]; math.Abs(r+p-v) > 1e-9*math.Abs(v) || r >= 0 {
			t.Errorf("example %d: %g is not the sum of %g and %g", i, v, r, p)
		}
	}
	if _, err := s.Reconstruct(t.Context(), x, mask[1:], 1); err == nil {
		t.Error("a mask of another size was accepted")
	}
	m, err := s.Evaluate(t.Context())
	if err != nil || m["held_out/mse"] != training.MSE(s.Exam.Held.X(), whole) && m["held_out/mse"] <= 0 || m["held_out/pca_mse"] <= 0 {
		t.Errorf("evaluation %v (%v)", m, err)
	}
	pics, err := s.Pictures(t.Context())
	if err != nil || len(pics) != 3 || pics[0].Tag != record.SamplesTag || len(pics[2].Rows) != 6 {
		t.Errorf("%d pictures (%v)", len(pics), err)
	}
}

func TestConfig(t *testing.T) {
	for want, change := range map[string]func(c *latentebm.Config){
		"prior: langevin.steps":    func(c *latentebm.Config) { c.Prior.Steps = 0 },
		"posterior: langevin.step": func(c *latentebm.Config) { c.Posterior.Step = 0 },
		"hidden":                   func(c *latentebm.Config) { c.Hidden = []int{0} },
		"infer":                    func(c *latentebm.Config) { c.Infer = 0 },
		"sigma":                    func(c *latentebm.Config) { c.Sigma = 0 },
		"reference.sigma":          func(c *latentebm.Config) { c.Reference.Sigma = 0 },
		"batch":                    func(c *latentebm.Config) { c.Batch = 0 },
		"sabotage":                 func(c *latentebm.Config) { c.Sabotage = "x" },
		"optim.lr":                 func(c *latentebm.Config) { c.Optim.LR = 0 },
		"teach":                    func(c *latentebm.Config) { c.Teach.LR = 0 },
	} {
		prior := newTilt(1, 0)
		if _, err := latentebm.New(config(change), prior, identity(prior), normal(t, 5, 1, 0), 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
	for name := range latentebm.Presets {
		c, err := latentebm.For(name, []int{1, 28, 28}, 0)
		if err == nil {
			err = c.Check()
		}
		if err == nil {
			_, err = c.GeneratorNet()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "small", "paper"} {
		if c, err := latentebm.For(name, []int{3, 32, 32}, 0); err != nil || (name == "paper") != (c.GenSpec != nil) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := latentebm.For("paper", []int{1, 9, 9}, 0); err == nil || !strings.Contains(err.Error(), "published-32") {
		t.Errorf("wanted an error that names what there is, got %v", err)
	}
}
