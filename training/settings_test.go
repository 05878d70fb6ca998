package training_test

import (
	"math"
	"strings"
	"testing"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

func TestLangevinSettings(t *testing.T) {
	good := training.Langevin{Steps: 20, Step: 0.3, Noise: 0.5, GradClip: 2, Clamp: [2]float64{-1, 0.5}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	k := good.Kernel()
	if want := (sampler.Langevin{Size: 0.3, Noise: 0.5, GradClip: 2, ClampMin: -1, ClampMax: 0.5}); k.Size != want.Size ||
		k.Noise != want.Noise || k.GradClip != want.GradClip || k.ClampMin != want.ClampMin || k.ClampMax != want.ClampMax || k.Project != nil {
		t.Errorf("wanted %+v, got %+v", want, k)
	}
	for _, want := range []string{"20 steps", "s = 0.3", "s² = 0.09", "s²/2 = 0.045", "0.5"} {
		if !strings.Contains(good.String(), want) {
			t.Errorf("%q does not say %q", good, want)
		}
	}
	for want, change := range map[string]func(l *training.Langevin){
		"langevin.steps":     func(l *training.Langevin) { l.Steps = 0 },
		"langevin.step:":     func(l *training.Langevin) { l.Step = math.NaN() },
		"langevin.noise":     func(l *training.Langevin) { l.Noise = -1 },
		"langevin.grad_clip": func(l *training.Langevin) { l.GradClip = math.NaN() },
		"langevin.clamp":     func(l *training.Langevin) { l.Clamp = [2]float64{1, 0} },
	} {
		bad := good
		change(&bad)
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
}

// TestOptimizers: two updates from the gradient (3, 4), by hand.
func TestOptimizers(t *testing.T) {
	for name, c := range map[string]struct {
		o    training.Optim
		want float64 // of the first weight
	}{
		"sgd":      {training.Optim{Name: "sgd", LR: 0.1}, -0.6},
		"clipped":  {training.Optim{Name: "sgd", LR: 0.1, Clip: 1}, -0.12},
		"momentum": {training.Optim{Name: "sgd", LR: 0.1, Betas: [2]float64{0.5}}, -0.3 - 0.45},
		// Bias-corrected, so that a constant gradient gives the rate.
		"adam":    {training.Optim{LR: 0.1, Betas: [2]float64{0.5, 0.999}}, -0.2},
		"rmsprop": {training.Optim{Name: "rmsprop", LR: 0.1, Betas: [2]float64{0, 0.9}}, -0.1/math.Sqrt(0.1) - 0.1/math.Sqrt(0.19)},
		// Rates 0.1 and 0.1·(0.25 + 0.75·½(1 + cos π/2)).
		"cosine": {training.Optim{Name: "sgd", LR: 0.1, Decay: 0.25, Over: 2}, -0.3 - 0.3*0.625},
	} {
		opt, err := c.o.New()
		if err != nil {
			t.Fatal(err)
		}
		p := []optim.Param{{Name: "w", W: make([]float32, 2), G: make([]float32, 2)}}
		for range 2 {
			copy(p[0].G, []float32{3, 4})
			norm, err := opt.Update(p)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(norm-5) > 1e-6 {
				t.Errorf("%s: gradient norm %g, wanted 5", name, norm)
			}
		}
		if math.Abs(float64(p[0].W[0])-c.want) > 1e-5 {
			t.Errorf("%s: wanted %g, got %g", name, c.want, p[0].W[0])
		}
	}
	if o := (training.Optim{LR: 1, Decay: 0.5}); o.For(10).Over != 10 || o.For(10).For(20).Over != 10 {
		t.Errorf("the fall takes %d iterations of 10", o.For(10).Over)
	}
	for want, bad := range map[string]training.Optim{
		"optim.lr": {}, "optim.name": {Name: "lion", LR: 1}, "optim.over": {LR: 1, Decay: 0.1}, "optim.betas": {LR: 1, Betas: [2]float64{0.9, 1}},
	} {
		if _, err := bad.New(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
}

// TestDefaultBetas: betas that are left out are 0.9 and 0.999.
func TestDefaultBetas(t *testing.T) {
	run := func(betas [2]float64) float32 {
		o, err := training.Optim{Name: "adam", LR: 0.1, Betas: betas}.New()
		if err != nil {
			t.Fatal(err)
		}
		p := []optim.Param{{Name: "w", W: []float32{0}, G: []float32{0}}}
		for i := range 5 {
			p[0].G[0] = float32(i*i) - 2
			if _, err := o.Update(p); err != nil {
				t.Fatal(err)
			}
		}
		return p[0].W[0]
	}
	want := run([2]float64{0.9, 0.999})
	if got := run([2]float64{}); got != want {
		t.Errorf("no betas: wanted %g, got %g", want, got)
	}
	if got := run([2]float64{0.9}); got != want {
		t.Errorf("no second beta: wanted %g, got %g", want, got)
	}
	if run([2]float64{0, 0.999}) == want {
		t.Error("a first beta of 0 is not heeded")
	}
}

// TestOptimizerState: a restored optimizer goes on bit for bit, rate included.
func TestOptimizerState(t *testing.T) {
	make := func() *training.Optimizer {
		o, err := training.Optim{LR: 0.1, Betas: [2]float64{0.9, 0.99}, Decay: 0.1, Over: 9}.New()
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	steps := func(o *training.Optimizer, p []optim.Param, from, to int) {
		for i := from; i < to; i++ {
			p[0].G[0], p[0].G[1] = float32(i+1), float32(-2*i)
			if _, err := o.Update(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	a := make()
	p := []optim.Param{{Name: "w", W: []float32{0, 0}, G: []float32{0, 0}}}
	steps(a, p, 0, 3)
	a.Slow(0.5)
	a.Slow(0.5)
	st := &checkpoint.State{Tensors: map[string]checkpoint.Tensor{}}
	a.Save(st, "optim")
	training.SaveParams(st, "weights", p)
	dir := t.TempDir()
	if err := checkpoint.Save(dir, st, checkpoint.Keep{}); err != nil {
		t.Fatal(err)
	}
	st, err := checkpoint.Load(dir, checkpoint.Last)
	if err != nil {
		t.Fatal(err)
	}
	steps(a, p, 3, 6)

	b := make()
	q := []optim.Param{{Name: "w", W: []float32{7, 7}, G: []float32{0, 0}}}
	if err := training.RestoreParams(st, "weights", q); err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(st, "optim"); err != nil {
		t.Fatal(err)
	}
	if b.Rate() != 0.25 {
		t.Errorf("wanted a quarter of the rate, got %g", b.Rate())
	}
	steps(b, q, 3, 6)
	if p[0].W[0] != q[0].W[0] || p[0].W[1] != q[0].W[1] {
		t.Errorf("wanted %v, got %v", p[0].W, q[0].W)
	}
	if err := b.Restore(&checkpoint.State{}, "optim"); err == nil {
		t.Error("an empty checkpoint was restored")
	}
	if err := training.RestoreParams(st, "weights", []optim.Param{{Name: "w", W: []float32{1, 2, 3}}}); err == nil {
		t.Error("weights of another size were restored")
	}
}
