package vae_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/encoder"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/data"
	"ebmrun/training/systemtest"
	"ebmrun/training/vae"
)

// The factor model: twelve values in three groups of four, value j of group k
// being s_k/2·z_k + 0.3·ε.
const (
	dim, group = 12, 4
	residual   = 0.3
	entropy    = 7.36394 // nats
)

var scales = [3]float64{2, 1.5, 1}

// factors is n draws of the factor model.
func factors(t testing.TB, n int, seed uint64) *data.Set {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 6))
	s := &data.Set{Name: "factors", N: n, C: dim, H: 1, W: 1, Floats: make([]float32, n*dim), Gain: 1}
	for i := range n {
		for k, scale := range scales {
			z := rng.NormFloat64()
			for j := range group {
				s.At(i)[k*group+j] = float32(scale/2*z + residual*rng.NormFloat64())
			}
		}
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s
}

// density is the exact log p(x): along the group's mean direction the variance is
// s² + σ², across it σ².
func density(x []float32) (sum float64) {
	for k, s := range scales {
		along, square := 0.0, 0.0
		for _, v := range x[k*group : (k+1)*group] {
			along += float64(v) / 2
			square += float64(v) * float64(v)
		}
		wide := s*s + residual*residual
		sum -= (group*math.Log(2*math.Pi) + math.Log(wide) + 3*math.Log(residual*residual) + along*along/wide + (square-along*along)/(residual*residual)) / 2
	}
	return sum
}

func config(change func(c *vae.Config)) vae.Config {
	c := vae.Config{
		Nets: vae.Nets{Encoder: "linear", Generator: "linear"}, Steps: 1500, Batch: 100, Sigma: residual,
		KL: vae.KL{Weight: 1, Warmup: 100}, Draws: 20, Rounds: 10,
		Optim: training.Optim{LR: 0.02, Decay: 0.05},
	}
	if change != nil {
		change(&c)
	}
	return c
}

func system(t testing.TB, e runtime.Engine, c vae.Config, set *data.Set) *vae.System {
	t.Helper()
	dims := []int{set.C, set.H, set.W}
	if set.H == 1 {
		dims = dims[:1]
	}
	gs, err := c.GeneratorNet()
	if err != nil {
		t.Fatal(err)
	}
	es, err := c.EncoderNet()
	if err != nil {
		t.Fatal(err)
	}
	gm, err := generator.Build(gs, dims, 1)
	if err != nil {
		t.Fatal(err)
	}
	em, err := encoder.Build(es, dims, gm.Codes, 1)
	if err != nil {
		t.Fatal(err)
	}
	net, err := bind.NewAutoencoder(context.Background(), em, gm, e, runtime.Options{Threads: 1, NoSpin: true}, c.Sigma)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { net.Close() })
	s, err := vae.New(c, net, set, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestExact: with the factor model's own weights and posterior every draw weighs an
// example by its exact density. A wrong deviation does not.
func TestExact(t *testing.T) {
	set := factors(t, 20, 1)
	s := system(t, ref.New(), config(nil), set)
	for _, p := range s.Net.Params() {
		clear(p.W)
		for k, scale := range scales {
			precision := 1 + scale*scale/(residual*residual)
			for j := range group {
				switch p.Name {
				case "mean.weight": // [dim, codes]
					p.W[(k*group+j)*3+k] = float32(scale / 2 / (residual * residual) / precision)
				case "layer1.weight": // [codes, dim]
					p.W[k*dim+k*group+j] = float32(scale / 2)
				}
			}
			if p.Name == "logvar.bias" {
				p.W[k] = float32(-math.Log(precision))
			}
		}
	}
	off := func() (worst float64) {
		_, got, err := s.Score(t.Context(), set.X(), 1)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			worst = max(worst, math.Abs(v-density(set.At(i))))
		}
		return worst
	}
	if d := off(); d > 1e-3 {
		t.Errorf("scores are %g nats away from the exact ones", d)
	}
	// Where q is the posterior, the parts of the bound add up to the density, on average over draws.
	elbo := func(weight float64) (off, tolerance float64) {
		p, err := s.Parts(t.Context(), set.X(), 1)
		if err != nil || len(p) != 3 {
			t.Fatal(p, err)
		}
		constant, square, n := -float64(dim)/2*math.Log(2*math.Pi*s.Sigma*s.Sigma), 0.0, float64(set.N)
		for i, v := range p[1].Values {
			e := v + weight*p[2].Values[i] + constant - density(set.At(i))
			off, square = off+e/n, square+e*e/n
		}
		return math.Abs(off), 4 * math.Sqrt((square-off*off)/n)
	}
	if d, tolerance := elbo(1); d > tolerance {
		t.Errorf("the parts of the bound are %g nats away from the exact density, wanted at most %g", d, tolerance)
	}
	if d, tolerance := elbo(0); d < tolerance {
		t.Errorf("without the divergence they are %g nats away, within %g", d, tolerance)
	}
	s.Sigma *= 1.1
	if d := off(); d < 0.1 {
		t.Errorf("a wrong deviation is %g nats away", d)
	}
}

// TestStep: an iteration ascends the mean bound of the batch by the learning rate times its slope.
func TestStep(t *testing.T) {
	const rate, h = 1e-3, 1e-2
	set := factors(t, 200, 1)
	step := func(shift float32) (before, after []float32, elbo float64) {
		s := system(t, ref.New(), config(func(c *vae.Config) {
			c.KL, c.Optim = vae.KL{Weight: 1}, training.Optim{Name: "sgd", LR: rate}
		}), set)
		for _, p := range s.Net.Params() {
			for i := range p.W {
				p.W[i] += shift * float32(math.Sin(float64(1+len(before)+i)))
			}
			before = append(before, p.W...)
		}
		m := systemtest.Steps(t, s, 1)
		for _, p := range s.Net.Params() {
			after = append(after, p.W...)
		}
		return before, after, m["elbo"]
	}
	before, after, _ := step(0)
	_, _, up := step(h)
	_, _, down := step(-h)
	slope := 0.0
	for i, v := range after {
		slope += float64(v-before[i]) / rate * math.Sin(float64(1+i))
	}
	if want := (up - down) / (2 * h); math.Abs(slope-want) > 0.01*math.Abs(want) {
		t.Errorf("the bound rises by %g, the weights go by %g", want, slope)
	}
}

// TestLearn: on the factor model the bound reaches the likelihood, whose expectation
// is minus the entropy, because the true posterior is one that the encoder can
// give. Spoiled arms do not get there.
func TestLearn(t *testing.T) {
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	set, held := factors(t, 4000, 1), factors(t, 500, 2)
	learn := func(sabotage string) (gap, variance float64, err error) {
		s := system(t, e, config(func(c *vae.Config) { c.Sabotage = sabotage }), set)
		if err := training.Run(t.Context(), s, training.Options{Steps: s.Config.Steps, EvalEvery: 1 << 30}); err != nil {
			return 0, 0, err
		}
		s.Draws = 1
		_, bound, err := s.Score(t.Context(), held.X(), 1)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range bound {
			gap += (density(held.At(i)) - v) / float64(held.N)
		}
		mean, logvar := make([]float32, held.N*3), make([]float32, held.N*3)
		if err := s.Net.Encode(t.Context(), held.X(), mean, logvar); err != nil {
			t.Fatal(err)
		}
		variance = 1
		for _, v := range logvar {
			variance *= math.Exp(float64(v) / float64(held.N))
		}
		return gap, variance, nil
	}
	gap, variance, err := learn("")
	t.Logf("%.4f nats below the likelihood, product of variances %.3g", gap, variance)
	// of the exact posterior, whatever rotation of codes was learned
	const product = 0.0220049 * 0.0384615 * 0.0825688
	if err != nil || gap > 0.15 || math.Abs(math.Log(variance/product)) > 0.3 {
		t.Errorf("%.4f nats below the likelihood, product of variances %.3g (%v); wanted at most 0.15, and %.3g", gap, variance, err, product)
	}
	for _, sabotage := range []string{vae.Flip, vae.Freeze} {
		gap, _, err := learn(sabotage)
		if t.Logf("%s: %.4g nats (%v)", sabotage, gap, err); err == nil && gap < 1 {
			t.Errorf("the arm %s comes within %.4f nats", sabotage, gap)
		}
		if err != nil && !errors.Is(err, training.ErrGuard) {
			t.Fatal(err)
		}
	}
}

// pictures is a new system over a small convolutional network.
func pictures(t testing.TB, e runtime.Engine) *vae.System {
	t.Helper()
	set, err := data.Load(context.Background(), "synthetic/shape", data.Options{Seed: 2, Size: 8, Limit: 25})
	if err != nil {
		t.Fatal(err)
	}
	s := system(t, e, config(func(c *vae.Config) {
		c.EncSpec = &encoder.Spec{Activation: "leaky", Layers: []encoder.Layer{{Filters: 3, Kernel: 4, Stride: 2, Pad: 1}}}
		c.GenSpec = &generator.Spec{Codes: 2, Start: 4, Filters: 3, Activation: "leaky", Tanh: true, Layers: []generator.Layer{{Kernel: 4, Stride: 2, Pad: 1}}}
		c.Steps, c.Batch, c.KL.Warmup = 10, 6, 7
		c.Optim = training.Optim{LR: 1e-2, Clip: 1, Decay: 0.1}
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
			systemtest.Resume(t, func() training.System { return pictures(t, e) }, "vae/encode1.weight", "vae/code.weight")
		})
	}
}

// TestAbilities: draws are of their seed, ways end where draws are, hidden entries
// do not leak and are filled in by what is visible.
func TestAbilities(t *testing.T) {
	s := pictures(t, ref.New())
	draw := func(n int, seed uint64) []float32 {
		x, err := s.Draw(t.Context(), n, seed)
		if err != nil || len(x) != n*s.Dim {
			t.Fatalf("%d values (%v)", len(x), err)
		}
		return x
	}
	if x := draw(15, 1); !slices.Equal(draw(4, 1), x[:4*s.Dim]) || slices.Equal(draw(15, 2), x) {
		t.Error("draws are not of their seed alone")
	}
	way, err := s.Interpolate(t.Context(), 1, 2, 5)
	if err != nil || !slices.Equal(way[:s.Dim], draw(1, 1)) || !slices.Equal(way[4*s.Dim:], draw(1, 2)) {
		t.Errorf("the way does not join the draws (%v)", err)
	}
	x, mask := slices.Clone(s.Exam.Held.X()), make([]float32, len(s.Exam.Held.X()))
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
			x[i] = float32(math.NaN())
		}
	}
	if !slices.Equal(rebuild(mask), part) {
		t.Error("hidden entries leak")
	}
	if _, err := s.Reconstruct(t.Context(), x, mask[1:], 1); err == nil {
		t.Error("a mask of another size was accepted")
	}
	if _, err := s.Reconstruct(t.Context(), x[1:], nil, 1); err == nil {
		t.Error("examples of another size were accepted")
	}
	if m, err := s.Evaluate(t.Context()); err != nil || m["held_out/mse"] != training.MSE(s.Exam.Held.X(), whole) {
		t.Errorf("evaluation %v (%v)", m, err)
	}
	if pics, err := s.Pictures(t.Context()); err != nil || len(pics) != 3 {
		t.Errorf("%d pictures (%v)", len(pics), err)
	}
}

func TestConfig(t *testing.T) {
	set := factors(t, 5, 1)
	for want, change := range map[string]func(c *vae.Config){
		"steps":    func(c *vae.Config) { c.Steps = 0 },
		"batch":    func(c *vae.Config) { c.Batch = 0 },
		"draws":    func(c *vae.Config) { c.Draws = 0 },
		"rounds":   func(c *vae.Config) { c.Rounds = 0 },
		"sigma":    func(c *vae.Config) { c.Sigma = 0 },
		"kl":       func(c *vae.Config) { c.KL.Weight = -1 },
		"sabotage": func(c *vae.Config) { c.Sabotage = "x" },
		"optim.lr": func(c *vae.Config) { c.Optim.LR = 0 },
	} {
		if _, err := vae.New(config(change), nil, set, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
	if k := (vae.KL{Weight: 2, Warmup: 4}); k.At(0) != 0 || k.At(1) != 0.5 || k.At(4) != 2 || k.At(9) != 2 {
		t.Error("the weight does not rise as it should")
	}
	for name := range vae.Presets {
		c, err := vae.For(name, []int{1, 28, 28}, 0)
		if err == nil {
			err = c.Check()
		}
		if err == nil {
			_, err = c.GeneratorNet()
		}
		if err == nil {
			_, err = c.EncoderNet()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := vae.For("", []int{1, 9, 9}, 0); err == nil || !strings.Contains(err.Error(), "pictures-28") {
		t.Errorf("wanted an error that names what there is, got %v", err)
	}
}
