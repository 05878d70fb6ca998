package coopvaebm_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/encoder"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/coopvaebm"
	"ebmrun/training/data"
	"ebmrun/training/sampler"
	"ebmrun/training/systemtest"
	"ebmrun/training/vae"
)

const (
	mean     = 1.0 // of the data
	variance = 0.49
)

// gaussian is n draws of N(1, 0.49).
func gaussian(t testing.TB, n int) *data.Set {
	t.Helper()
	s := &data.Set{Name: "gaussian", N: n, C: 1, H: 1, W: 1, Floats: make([]float32, n), Gain: 1}
	sampler.Noise{Seed: 99}.Normals(s.X(), sampler.Chains(0, n), 0)
	for i, v := range s.X() {
		s.Floats[i] = mean + float32(math.Sqrt(variance))*v
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s
}

func config(change func(c *coopvaebm.Config)) coopvaebm.Config {
	c := coopvaebm.Config{
		Spec:  &energy.Spec{Layers: []energy.Layer{{Filters: 16}, {Filters: 1}}, Activation: "swish"},
		Nets:  vae.Nets{Encoder: "linear", GenSpec: &generator.Spec{Codes: 1, Activation: "linear", Layers: []generator.Layer{{}}}},
		Steps: 1500, Batch: 100, Drafts: 150, Sigma: 0.3, Rounds: 3,
		KL:       vae.KL{Weight: 1, Warmup: 100},
		Langevin: training.Langevin{Steps: 10, Step: 0.15, Noise: 1, Fused: true},
		Optim:    training.Optim{LR: 1e-2, Betas: [2]float64{0.5, 0.999}, Decay: 0.1},
		Teach:    training.Optim{LR: 1e-2, Betas: [2]float64{0.5, 0.999}, Decay: 0.1},
	}
	c.Reference.Sigma = 2
	if change != nil {
		change(&c)
	}
	return c
}

func system(t testing.TB, e runtime.Engine, c coopvaebm.Config, set *data.Set) *coopvaebm.System {
	t.Helper()
	dims := []int{set.C, set.H, set.W}
	if set.H == 1 {
		dims = dims[:1]
	}
	o := runtime.Options{Threads: 1, NoSpin: true}
	fail := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	em, err := energy.Build(*c.Spec, dims, c.Reference.Sigma, 1)
	fail(err)
	gs, err := c.GeneratorNet()
	fail(err)
	ns, err := c.EncoderNet()
	fail(err)
	gm, err := generator.Build(gs, dims, 1)
	fail(err)
	nm, err := encoder.Build(ns, dims, gm.Codes, 1)
	fail(err)
	net, err := bind.New(context.Background(), em, e, bind.Options{Runtime: o})
	fail(err)
	a, err := bind.NewAutoencoder(context.Background(), nm, gm, e, o, c.Sigma)
	fail(err)
	t.Cleanup(func() { net.Close(); a.Close() })
	s, err := coopvaebm.New(c, net, a, set, 3)
	fail(err)
	return s
}

// counted counts the calls of Refresh.
type counted struct {
	training.Energy
	fresh int
}

func (c *counted) Refresh() {
	c.fresh++
	c.Energy.Refresh()
}

// TestStep: the encoder descends on mean ‖revised − g(z)‖²/(2σ²) + KL by the rate times the slope, and
// the energy's new weights take effect.
func TestStep(t *testing.T) {
	const rate, h = 1e-3, 1e-2
	step := func(shift float32) (before, after []float32, loss float64) {
		s := system(t, ref.New(), config(func(c *coopvaebm.Config) {
			c.KL, c.Teach = vae.KL{Weight: 1}, training.Optim{Name: "sgd", LR: rate}
		}), gaussian(t, 200))
		e := &counted{Energy: s.Energy}
		s.Energy = e
		encoder := func() (w []*float32) {
			for _, p := range s.Drafts.Net.Params() {
				if strings.HasPrefix(p.Name, "mean.") || strings.HasPrefix(p.Name, "logvar.") {
					for i := range p.W {
						w = append(w, &p.W[i])
					}
				}
			}
			return w
		}()
		for i, w := range encoder {
			*w += shift * float32(1+i)
			before = append(before, *w)
		}
		m := systemtest.Steps(t, s, 1)
		for _, w := range encoder {
			after = append(after, *w)
		}
		if e.fresh != 1 {
			t.Errorf("changed weights took effect %d times, wanted once", e.fresh)
		}
		return before, after, m["fit"]/(2*s.Config.Sigma*s.Config.Sigma) + m["code_kl"]
	}
	before, after, _ := step(0)
	_, _, up := step(h)
	_, _, down := step(-h)
	slope := 0.0
	for i, v := range after {
		slope -= float64(v-before[i]) / rate * float64(1+i)
	}
	if want := (up - down) / (2 * h); len(after) == 0 || math.Abs(slope-want) > 0.01*math.Abs(want) {
		t.Errorf("the loss rises by %g, %d weights go by %g", want, len(after), slope)
	}
}

// TestNoise: drafts that nothing pulls are revised by other noise in each iteration.
func TestNoise(t *testing.T) {
	s := system(t, ref.New(), config(func(c *coopvaebm.Config) { c.Langevin = training.Langevin{Steps: 1, Step: 1, Noise: 1} }), gaussian(t, 200))
	for _, p := range slices.Concat(s.Energy.Params(), s.Drafts.Net.Params()) {
		clear(p.W)
	}
	s.Slow(0)
	first, second := systemtest.Steps(t, s, 1), systemtest.Steps(t, s, 1)
	if a, b := first["revision"], second["revision"]; a < 0.5 || a == b {
		t.Errorf("revisions are of the size %g and %g", a, b)
	}
}

// An outcome is what a run has come to.
type outcome struct {
	mean, variance float64 // of revised drafts
	share          float64 // reconstruction error of data, of their variance
	code, spread   float64 // mean of the codes of data, and of their variances over all
}

func (o outcome) passes() bool {
	return math.Abs(o.mean-mean) < 0.15 && o.variance > 0.3 && o.variance < 0.7 && o.share < 0.35 &&
		math.Abs(o.code) < 0.3 && o.spread > 0.5 && o.spread < 1.5
}

// TestGaussian: revised drafts get the moments of a Gaussian, and the encoder,
// which never saw data, reconstructs data from codes that are standard normal.
// Spoiled arms fail.
func TestGaussian(t *testing.T) {
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	set := gaussian(t, 10000)
	learn := func(change func(c *coopvaebm.Config)) (o outcome, err error) {
		s := system(t, e, config(change), set)
		if err := training.Run(t.Context(), s, training.Options{Steps: s.Config.Steps, EvalEvery: 1 << 30}); err != nil {
			return o, err
		}
		x, err := s.Draw(t.Context(), 3000, 1)
		if err != nil {
			t.Fatal(err)
		}
		var sd float64
		o.mean, sd = training.Moments(x)
		o.variance = sd * sd
		held := set.X()[:1000]
		y, err := s.Reconstruct(t.Context(), held, nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		o.share = training.MSE(held, y) / variance
		z, logvar := make([]float32, 1000), make([]float32, 1000)
		if err := s.Drafts.Net.Encode(t.Context(), held, z, logvar); err != nil {
			t.Fatal(err)
		}
		o.code, sd = training.Moments(z)
		o.spread = sd * sd
		for _, v := range logvar {
			o.spread += math.Exp(float64(v)) / 1000
		}
		return o, nil
	}
	o, err := learn(nil)
	if t.Logf("%.3f (mean, variance, error, codes)", o); err != nil || !o.passes() {
		t.Errorf("the system comes to %.3f (%v)", o, err)
	}
	for what, change := range map[string]func(c *coopvaebm.Config){
		"sign of the energy's gradient turned": func(c *coopvaebm.Config) { c.Sabotage = coopvaebm.Flip },
		"sign of the divergence turned":        func(c *coopvaebm.Config) { c.Sabotage = coopvaebm.FlipKL },
		"no teaching":                          func(c *coopvaebm.Config) { c.Sabotage = coopvaebm.Freeze },
		"no divergence":                        func(c *coopvaebm.Config) { c.KL.Weight = 0 },
	} {
		o, err := learn(change)
		t.Logf("%s: %.3f (%v)", what, o, err)
		if err != nil && !errors.Is(err, training.ErrGuard) {
			t.Fatal(err)
		}
		if err == nil && o.passes() {
			t.Errorf("%s: passes with %.3f", what, o)
		}
	}
}

// pictures is a new system over small convolutional networks.
func pictures(t testing.TB, e runtime.Engine) *coopvaebm.System {
	t.Helper()
	set, err := data.Load(context.Background(), "synthetic/shape", data.Options{Seed: 2, Size: 8, Limit: 25})
	if err != nil {
		t.Fatal(err)
	}
	s := system(t, e, config(func(c *coopvaebm.Config) {
		c.Spec = &energy.Spec{Layers: []energy.Layer{{Filters: 3, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 4}}, Activation: "leaky"}
		c.EncSpec = &encoder.Spec{Activation: "leaky", Layers: []encoder.Layer{{Filters: 3, Kernel: 4, Stride: 2, Pad: 1}}}
		c.GenSpec = &generator.Spec{Codes: 2, Start: 4, Filters: 3, Activation: "leaky", Tanh: true, Layers: []generator.Layer{{Kernel: 4, Stride: 2, Pad: 1}}}
		c.Steps, c.Batch, c.Drafts, c.KL.Warmup, c.Langevin.Steps = 10, 6, 8, 7, 3
	}), set)
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
			systemtest.Resume(t, func() training.System { return pictures(t, e) }, "weights/layer1.weight", "vae/encode1.weight", "vae/code.weight")
		})
	}
}

// TestAbilities: draws are of their seed, and revised; visible entries of an
// incomplete example stay, hidden ones do not leak.
func TestAbilities(t *testing.T) {
	s := pictures(t, ref.New())
	x, err := s.Draw(t.Context(), 11, 1)
	if err != nil {
		t.Fatal(err)
	}
	few, err := s.Draw(t.Context(), 8, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range few {
		if math.Abs(float64(v-x[i])) > 1e-4 { // the chains of eight are fused
			t.Fatalf("entry %d: %g among 8, %g among 11", i, v, x[i])
		}
	}
	plain, err := s.Drafts.Draw(t.Context(), 11, 1)
	if err != nil || slices.Equal(plain, x) {
		t.Errorf("drafts are not revised (%v)", err)
	}
	y, mask := slices.Clone(s.Exam.Held.X()), make([]float32, len(s.Exam.Held.X()))
	for i := range mask {
		mask[i] = float32(i % 2)
	}
	rebuild := func() []float32 {
		out, err := s.Reconstruct(t.Context(), y, mask, 1)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	part := rebuild()
	for i, v := range part {
		if mask[i] == 1 && v != y[i] {
			t.Fatalf("visible entry %d has moved from %g to %g", i, y[i], v)
		}
		if mask[i] == 0 {
			y[i] = 7
		}
	}
	if !slices.Equal(rebuild(), part) {
		t.Error("hidden entries leak")
	}
	if _, values, err := s.Score(t.Context(), x, 1); err != nil || len(values) != 11 {
		t.Errorf("scores %v (%v)", values, err)
	}
	if _, _, err := s.Score(t.Context(), x[1:], 1); err == nil {
		t.Error("examples of another size were accepted")
	}
	judged := 0
	s.Exam.JudgeN, s.Exam.Judge = 5, func(x []float32) (training.Metrics, error) {
		judged++
		return training.Metrics{"d": float64(judged)}, nil
	}
	if m, err := s.Evaluate(t.Context()); err != nil || m["d"] != 1 || m["generator/d"] != 2 || m["held_out/mse"] <= 0 {
		t.Errorf("evaluation %v (%v)", m, err)
	}
	if pics, err := s.Pictures(t.Context()); err != nil || len(pics) != 3 {
		t.Errorf("%d pictures (%v)", len(pics), err)
	}
}

func TestConfig(t *testing.T) {
	for want, change := range map[string]func(c *coopvaebm.Config){
		"langevin.steps":  func(c *coopvaebm.Config) { c.Langevin.Steps = 0 },
		"steps":           func(c *coopvaebm.Config) { c.Steps = 0 },
		"drafts":          func(c *coopvaebm.Config) { c.Drafts = 0 },
		"rounds":          func(c *coopvaebm.Config) { c.Rounds = 0 },
		"sigma":           func(c *coopvaebm.Config) { c.Sigma = 0 },
		"reference.sigma": func(c *coopvaebm.Config) { c.Reference.Sigma = -1 },
		"score_l2":        func(c *coopvaebm.Config) { c.ScoreL2 = -1 },
		"kl":              func(c *coopvaebm.Config) { c.KL.Warmup = -1 },
		"sabotage":        func(c *coopvaebm.Config) { c.Sabotage = "x" },
		"optim.lr":        func(c *coopvaebm.Config) { c.Optim.LR = 0 },
		"teach":           func(c *coopvaebm.Config) { c.Teach.LR = 0 },
	} {
		if _, err := coopvaebm.New(config(change), nil, nil, gaussian(t, 5), 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
	for name := range coopvaebm.Presets {
		c, err := coopvaebm.For(name, []int{1, 28, 28}, 0)
		if err == nil {
			err = c.Check()
		}
		if err == nil {
			_, err = c.GeneratorNet()
		}
		if err == nil {
			_, err = c.EncoderNet()
		}
		if err == nil {
			_, err = c.EnergyNet()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := coopvaebm.For("paper", []int{1, 9, 9}, 0); err == nil || !strings.Contains(err.Error(), "published-28") {
		t.Errorf("wanted an error that names what there is, got %v", err)
	}
}
