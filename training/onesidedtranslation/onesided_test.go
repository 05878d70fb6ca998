package onesidedtranslation_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/bind/bindtest"
	"ebmrun/training/data"
	"ebmrun/training/onesidedtranslation"
	"ebmrun/training/optim"
	"ebmrun/training/systemtest"
)

const batch, step, dim = 50, 0.3, 8

// linear is f(x) = θ·x with a uniform reference.
type linear struct {
	theta optim.Param
	began []float32
	x     []float32 // of the last Learn
	fresh bool
}

func newLinear() *linear {
	return &linear{theta: optim.Param{Name: "theta", W: make([]float32, dim), G: make([]float32, dim)}, fresh: true}
}

func (l *linear) Params() []optim.Param { return []optim.Param{l.theta} }
func (l *linear) Refresh()              {}

func (l *linear) EnergyGrad(x, u, g []float32) error {
	if l.fresh {
		l.began, l.fresh = slices.Clone(x), false
	}
	clear(u)
	for i, v := range x {
		u[i/dim] -= v * l.theta.W[i%dim]
		g[i] = -l.theta.W[i%dim]
	}
	return nil
}

func (l *linear) Learn(_ context.Context, x, w []float32, l2 float32, score []float32) error {
	clear(l.theta.G)
	clear(score)
	for i, v := range x {
		score[i/dim] += v * l.theta.W[i%dim]
	}
	for i, v := range x {
		l.theta.G[i%dim] += (w[i/dim] + l2*score[i/dim]) * v
	}
	l.x, l.fresh = slices.Clone(x), true
	return nil
}

func config(change func(*onesidedtranslation.Config)) onesidedtranslation.Config {
	c := onesidedtranslation.Config{
		Steps: 100, Batch: batch, Langevin: training.Langevin{Steps: 3, Step: step, Clamp: [2]float64{-1, 1}},
		Optim: training.Optim{Name: "sgd", LR: 0.5},
	}
	if change != nil {
		change(&c)
	}
	return c
}

// domain is pictures of 2×2×2 around a mean, each with a brightness of its own.
func domain(seed uint64, mean [dim]float64) *data.Set {
	r := rand.New(rand.NewPCG(seed, 5))
	s := &data.Set{Name: "domain", N: 300, C: 2, H: 2, W: 2, Lo: -1, Hi: 1, Gain: 1}
	for range s.N {
		own := 0.2 * (r.Float64() - 0.5)
		for _, m := range mean {
			s.Floats = append(s.Floats, float32(m+own))
		}
	}
	return s
}

var from, to = [dim]float64{0.1, 0, -0.1, 0, 0, 0, 0, 0}, [dim]float64{-0.2, 0.2, 0, 0.1, 0, -0.1, 0.3, 0}

func system(t testing.TB, c onesidedtranslation.Config) (*onesidedtranslation.System, *linear) {
	t.Helper()
	e := newLinear()
	s, err := onesidedtranslation.New(c, e, domain(1, from), domain(2, to), 3)
	if err != nil {
		t.Fatal(err)
	}
	return s, e
}

// TestStep: chains begin at sources, the energy learns from targets against where the
// chains have ended.
func TestStep(t *testing.T) {
	for _, sabotage := range []string{"", onesidedtranslation.Flip, onesidedtranslation.Freeze} {
		s, e := system(t, config(func(c *onesidedtranslation.Config) { c.Sabotage = sabotage }))
		inA, inB := map[float32]bool{}, map[float32]bool{}
		for i := range 300 {
			inA[domain(1, from).X()[i*dim]], inB[domain(2, to).X()[i*dim]] = true, true
		}
		for range 3 {
			theta := slices.Clone(e.theta.W)
			if _, err := s.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i := range batch {
				if !inA[e.began[i*dim]] || !inB[e.x[i*dim]] {
					t.Fatal("chains do not begin at sources, or targets are not learned from")
				}
			}
			sign := map[string]float64{"": 1, onesidedtranslation.Flip: -1}[sabotage]
			for j := range dim {
				gap := 0.0
				for i := range batch {
					y := float64(e.began[i*dim+j]) + 3*step*step/2*float64(theta[j])
					if got := float64(e.x[(batch+i)*dim+j]); math.Abs(got-y) > 1e-5 {
						t.Fatalf("a chain ends at %g, wanted %g", got, y)
					}
					gap += (float64(e.x[i*dim+j]) - y) / batch
				}
				if moved := float64(e.theta.W[j] - theta[j]); math.Abs(moved-sign*0.5*gap) > 1e-5 {
					t.Fatalf("%q: θ moves by %g, wanted %g", sabotage, moved, sign*0.5*gap)
				}
			}
		}
	}
}

// TestNoise: what chains that nothing pulls move by is other noise in each iteration.
func TestNoise(t *testing.T) {
	s, e := system(t, config(func(c *onesidedtranslation.Config) { c.Langevin = training.Langevin{Steps: 1, Step: 1, Noise: 1} }))
	s.Slow(0)
	var seen [2][]float32
	for k := range seen {
		systemtest.Steps(t, s, 1)
		seen[k] = slices.Clone(e.x[batch*dim:])
		for i, v := range e.began {
			seen[k][i] -= v
		}
	}
	if d := training.MSE(seen[0], seen[1]); d < 1 || d > 3 {
		t.Errorf("the noises of two iterations are %g apart, wanted 2", d)
	}
}

// TestFixedPoint: a linear energy learns the shift from one domain to the other and
// leaves what a picture has of its own; flipped or frozen it does not. The heat map is
// the way that pixels went.
func TestFixedPoint(t *testing.T) {
	for sabotage, ok := range map[string]bool{"": true, onesidedtranslation.Flip: false, onesidedtranslation.Freeze: false} {
		steps := 300
		if sabotage == onesidedtranslation.Flip {
			steps = 10
		}
		s, _ := system(t, config(func(c *onesidedtranslation.Config) { c.Sabotage = sabotage }))
		for range steps {
			if _, err := s.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		x := domain(7, from).X()
		y, heat, err := s.Trace(t.Context(), x, 1)
		if err != nil {
			t.Fatal(err)
		}
		worst := 0.0
		for i, v := range y {
			want := float64(x[i]) + to[i%dim] - from[i%dim]
			worst = max(worst, math.Abs(float64(v)-want))
		}
		if (worst < 0.03) != ok {
			t.Errorf("%q: the largest error of a translated pixel is %g", sabotage, worst)
		}
		for p := range 4 {
			want := (math.Abs(float64(y[p]-x[p])) + math.Abs(float64(y[4+p]-x[4+p]))) / 2
			if math.Abs(float64(heat[p])-want) > 1e-5 {
				t.Errorf("heat of pixel %d is %g, wanted %g", p, heat[p], want)
			}
		}
	}
}

// TestNoiseControl: chains that begin at noise know nothing of the sources.
func TestNoiseControl(t *testing.T) {
	s, _ := system(t, config(func(c *onesidedtranslation.Config) { c.Start = onesidedtranslation.FromNoise }))
	a, err := s.Translate(t.Context(), domain(7, from).X(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := s.Translate(t.Context(), domain(8, from).X(), 1); err != nil || !slices.Equal(a, b) {
		t.Errorf("translations from noise depend on the source (%v)", err)
	}
}

func networks(t testing.TB, e runtime.Engine) *onesidedtranslation.System {
	t.Helper()
	var sets []*data.Set
	for _, class := range []int{0, 3} {
		set, err := data.Load(t.Context(), "synthetic/glyph16", data.Options{Seed: 2, Limit: 60})
		if err == nil {
			set, err = set.OfClass(class)
		}
		if err == nil {
			set, err = set.Resize(8, 8)
		}
		if err != nil {
			t.Fatal(err)
		}
		sets = append(sets, set)
	}
	c := config(func(c *onesidedtranslation.Config) {
		c.Spec = &energy.Spec{Expand: &energy.Expand{Base: 1}, Activation: "swish"}
		c.Steps, c.Batch, c.ScoreL2, c.Data.Noise = 10, 7, 0.1, 0.01
		c.Langevin = training.Langevin{Steps: 3, Step: 1, Noise: 0.01, Clamp: [2]float64{-1, 1}, Fused: true}
		c.Optim = training.Optim{LR: 1e-2, Decay: 0.1}
	})
	net := bindtest.On(t, e, bind.Options{Spectral: true})(energy.Build(*c.Spec, []int{1, 8, 8}, 0, 1))
	s, err := onesidedtranslation.New(c, net, sets[0], sets[1], 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestResume: interrupted and uninterrupted are the same bits.
func TestResume(t *testing.T) {
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	fresh := func() *onesidedtranslation.System { return networks(t, e) }
	s, end := systemtest.Resume(t, fresh, "weights1/head.top.weight")
	for _, name := range []string{"targets", "optim1.slow"} {
		part := training.CopyState(end)
		delete(part.Tensors, name)
		if err := s.Restore(part); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("wanted an error about %s, got %v", name, err)
		}
	}
	if pics, err := s.Pictures(t.Context()); err != nil || len(pics) != 1 || len(pics[0].Rows) != 3 {
		t.Errorf("%d pictures, %v", len(pics), err)
	}
}

func TestCheck(t *testing.T) {
	for want, change := range map[string]func(*onesidedtranslation.Config){
		"steps": func(c *onesidedtranslation.Config) { c.Steps = 0 },
		"batch": func(c *onesidedtranslation.Config) { c.Batch = 0 },
		"start": func(c *onesidedtranslation.Config) { c.Start = "here" },
		"apply": func(c *onesidedtranslation.Config) { c.Apply = -1 },
		"noise": func(c *onesidedtranslation.Config) { c.Data.Noise = -1 },
		"flip":  func(c *onesidedtranslation.Config) { c.Sabotage = "no" },
	} {
		c := config(change)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %q, got %v", want, err)
		}
	}
	b := domain(1, to)
	b.C, b.H = 1, 4
	if _, err := onesidedtranslation.New(config(nil), newLinear(), domain(1, from), b, 1); err == nil || !strings.Contains(err.Error(), "one size") {
		t.Errorf("got %v", err)
	}
	for name, p := range onesidedtranslation.Presets {
		c := p.Config
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.Network(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"small", "paper", "residual"} {
		if _, err := onesidedtranslation.For(name, []int{1, 32, 32}, 10); err != nil {
			t.Error(err)
		}
	}
	if _, err := onesidedtranslation.For("small", []int{1, 30, 30}, 10); err == nil || !strings.Contains(err.Error(), "pictures-32") {
		t.Errorf("got %v", err)
	}
}
