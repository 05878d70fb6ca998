package conditionalcoopnets_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/conditionalcoopnets"
	"ebmrun/training/data"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
	"ebmrun/training/systemtest"
)

// line is f(x | c) = θ·x·c with U = x²/2 − f: x given c is N(θc, 1).
type line struct {
	theta optim.Param
	seen  []float32 // of the last Learn
}

type lineGiven struct {
	*line
	c []float32
}

func (l *line) Given(c []float32) training.Energy { return lineGiven{l, c} }
func (l *line) Params() []optim.Param             { return []optim.Param{l.theta} }
func (l *line) Refresh()                          {}

func (l lineGiven) EnergyGrad(x, u, g []float32) error {
	for i, v := range x {
		m := l.theta.W[0] * l.c[i]
		u[i], g[i] = v*v/2-m*v, v-m
	}
	return nil
}

func (l lineGiven) Learn(_ context.Context, x, w []float32, l2 float32, score []float32) error {
	l.theta.G[0], l.seen = 0, slices.Clone(x)
	for i, v := range x {
		score[i] = l.theta.W[0] * l.c[i] * v
		l.theta.G[0] += (w[i] + l2*score[i]) * l.c[i] * v
	}
	return nil
}

// slope is g(c, z) = α·c + β·z.
type slope struct{ w optim.Param }

type slopeGiven struct {
	*slope
	c []float32
}

func (s *slope) Given(c []float32) training.Generator { return slopeGiven{s, c} }
func (s *slope) Codes() int                           { return 1 }
func (s *slope) Params() []optim.Param                { return []optim.Param{s.w} }

func (s slopeGiven) Forward(_ context.Context, z, x []float32) error {
	for i, v := range z {
		x[i] = s.w.W[0]*s.c[i] + s.w.W[1]*v
	}
	return nil
}

func (s slopeGiven) Posterior(target, mask []float32) sampler.Field {
	return codeField{s, target, mask}
}

type codeField struct {
	s            slopeGiven
	target, mask []float32
}

func (f codeField) EnergyGrad(z, u, d []float32) error {
	const p = 1 / (0.3 * 0.3)
	for i, v := range z {
		r := f.mask[i] * (f.target[i] - f.s.w.W[0]*f.s.c[i] - f.s.w.W[1]*v)
		u[i], d[i] = v*v/2+p*r*r/2, v-p*r*f.s.w.W[1]
	}
	return nil
}

func (s slopeGiven) Learn(_ context.Context, z, target, mask, w, e []float32) error {
	clear(s.w.G)
	for i, v := range z {
		r := mask[i] * (target[i] - s.w.W[0]*s.c[i] - s.w.W[1]*v)
		e[i] = r * r
		s.w.G[0] -= 2 * w[i] * r * s.c[i]
		s.w.G[1] -= 2 * w[i] * r * v
	}
	return nil
}

// pairs are c from −1 to 1 and x = 1.5·c + N(0, 1).
func pairs(n int) *data.Set {
	x := make([]float32, n)
	sampler.Noise{Seed: 9}.Normals(x, sampler.Chains(0, n), 0)
	set := &data.Set{Name: "line", N: n, C: 1, H: 1, W: 1, Floats: x, Gain: 1}
	c := &data.Set{Name: "line given", N: n, C: 1, H: 1, W: 1, Floats: make([]float32, n), Gain: 1}
	for i := range x {
		c.Floats[i] = 2*float32(i)/float32(n-1) - 1
		x[i] += 1.5 * c.X()[i]
	}
	set.Given = c
	return set
}

func config(change func(c *conditionalcoopnets.Config)) conditionalcoopnets.Config {
	c := conditionalcoopnets.Config{Steps: 800, Batch: 100, Sigma: 0.3,
		Langevin:  training.Langevin{Steps: 10, Step: 0.5, Noise: 1},
		Inference: training.Langevin{Steps: 10, Step: 0.15, Noise: 1},
		Optim:     training.Optim{Name: "sgd", LR: 0.05},
		Teach:     training.Optim{Name: "sgd", LR: 0.02},
	}
	change(&c)
	return c
}

// TestLine: of x given c ~ N(1.5c, 1) the energy finds the slope 1.5, and so does the
// initialiser; with the sign of the energy's update turned, or blind to the condition,
// they do not.
func TestLine(t *testing.T) {
	for sabotage, works := range map[string]bool{"": true, conditionalcoopnets.Flip: false, conditionalcoopnets.Blind: false} {
		e := &line{theta: optim.Param{Name: "theta", W: make([]float32, 1), G: make([]float32, 1)}}
		g := &slope{optim.Param{Name: "w", W: []float32{0, 0.3}, G: make([]float32, 2)}}
		s, err := conditionalcoopnets.New(config(func(c *conditionalcoopnets.Config) { c.Sabotage = sabotage }), e, g, pairs(2000), 1)
		if err != nil {
			t.Fatal(err)
		}
		theta, alpha, averaged := 0.0, 0.0, 200
		var broken error
		for i := range 800 {
			if _, broken = s.Step(t.Context()); broken != nil {
				break
			}
			if i >= 800-averaged {
				theta += float64(e.theta.W[0]) / float64(averaged)
				alpha += float64(g.w.W[0]) / float64(averaged)
			}
		}
		if met := broken == nil && math.Abs(theta-1.5) < 0.15 && math.Abs(alpha-1.5) < 0.2; met != works {
			t.Errorf("sabotage %q: slope of the energy %g, of the initialiser %g (%v)", sabotage, theta, alpha, broken)
		}
	}
}

// TestNoise: a step of 1 takes empty drafts to its noise, which is new in each iteration.
func TestNoise(t *testing.T) {
	e := &line{theta: optim.Param{Name: "theta", W: make([]float32, 1), G: make([]float32, 1)}}
	g := &slope{optim.Param{Name: "w", W: make([]float32, 2), G: make([]float32, 2)}}
	s, err := conditionalcoopnets.New(config(func(c *conditionalcoopnets.Config) { c.Langevin = training.Langevin{Steps: 1, Step: 1, Noise: 1} }), e, g, pairs(200), 1)
	if err != nil {
		t.Fatal(err)
	}
	s.Slow(0)
	systemtest.Steps(t, s, 1)
	first := e.seen[100:]
	systemtest.Steps(t, s, 1)
	if _, sd := training.Moments(first); math.Abs(sd-1) > 0.2 || training.MSE(first, e.seen[100:]) < 1 {
		t.Errorf("noise has the deviation %g, and is %g away in the second iteration", sd, training.MSE(first, e.seen[100:]))
	}
}

// networks is a new system over two small networks.
func networks(t testing.TB, labels bool) *conditionalcoopnets.System {
	t.Helper()
	set, err := data.Load(context.Background(), "synthetic/fill16", data.Options{Seed: 2, Limit: 20})
	if err != nil {
		t.Fatal(err)
	}
	if labels {
		set.Given = nil
		if set, err = conditionalcoopnets.Labelled(set, 4); err != nil {
			t.Fatal(err)
		}
	}
	c := config(func(c *conditionalcoopnets.Config) {
		c.Steps, c.Batch, c.ScoreL2, c.Truth = 10, 4, 0.1, 0.5
		c.Langevin = training.Langevin{Steps: 2, Step: 0.2, Noise: 1, GradClip: 1, Clamp: [2]float64{-1, 1}}
		c.Inference.Steps = 2
		c.Optim = training.Optim{LR: 1e-2, Clip: 1, Decay: 0.1}
		c.Teach = training.Optim{LR: 1e-3}
	})
	dims, given := []int{1, 16, 16}, []int{1, 16, 16}
	if labels {
		given = []int{4}
	}
	o := runtime.Options{Threads: 1, NoSpin: true}
	em, err := conditional.BuildEnergy(energy.Spec{Layers: []energy.Layer{{Filters: 2, Kernel: 4, Stride: 4}, {Filters: 1, Kernel: 4}}, Activation: "swish"}, dims, given, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	gm, err := conditional.Build(conditional.Spec{Codes: 2, Filters: []int{2, 2}, Skip: true, Activation: "leaky"}, dims, given, 1)
	if err != nil {
		t.Fatal(err)
	}
	e, err := bind.NewConditional(context.Background(), em, ref.New(), bind.Options{Runtime: o})
	if err != nil {
		t.Fatal(err)
	}
	g, err := bind.NewConditionalGenerator(context.Background(), gm, ref.New(), o, c.Sigma)
	if err != nil {
		t.Fatal(err)
	}
	s, err := conditionalcoopnets.New(c, e, g, set, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(); g.Close() })
	return s
}

func TestResume(t *testing.T) {
	systemtest.Resume(t, func() training.System { return networks(t, false) }, "weights/layer1.weight", "generator/down1.weight")
}

// TestLearned: solutions are revised drafts, the same for one seed and others for
// another, and draws go through the classes.
func TestLearned(t *testing.T) {
	s := networks(t, true)
	m := conditionalcoopnets.ByClass{Model: s.Model}
	x, err := m.Draw(t.Context(), 5, 1)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := m.Draw(t.Context(), 5, 1)
	other, _ := m.Draw(t.Context(), 5, 2)
	if len(x) != 5*256 || !slices.Equal(x, again) || slices.Equal(x, other) {
		t.Error("wanted the same draws of one seed, and others of another")
	}
	drafts, revised, err := s.Solve(t.Context(), conditionalcoopnets.OneHot([]int{0, 1, 2, 3, 0}, 4), 1)
	if err != nil || !slices.Equal(revised, x) || slices.Equal(drafts, revised) {
		t.Errorf("draws are not revised drafts of the classes in turn (%v)", err)
	}
	if refined, err := s.Refine(t.Context(), conditionalcoopnets.OneHot([]int{0, 1, 2, 3, 0}, 4), drafts, 1); err != nil || !slices.Equal(refined, revised) {
		t.Errorf("drafts revised by hand differ from solutions (%v)", err)
	}
	if _, err := m.Translate(t.Context(), make([]float32, 3), 1); err == nil {
		t.Error("conditions of a wrong size were taken")
	}
	if pics, err := s.Pictures(t.Context()); err != nil || len(pics) != 2 || len(pics[1].Rows) != 3 {
		t.Errorf("got %d pictures (%v)", len(pics), err)
	}
}

// TestInpainter: what is filled in does not depend on what the mask hides, and is the solution
// for the picture with its hole blanked as in learning.
func TestInpainter(t *testing.T) {
	s := networks(t, false)
	m := conditionalcoopnets.Inpainter{Model: s.Model, Blank: 0.25}
	x, mask := make([]float32, 2*256), training.Ones(2*256)
	for i := range x {
		x[i] = float32(math.Sin(float64(i)))
		if i%256 >= 100 && i%256 < 160 {
			mask[i] = 0
		}
	}
	before := slices.Clone(x)
	got, err := m.Reconstruct(t.Context(), x, mask, 3)
	if err != nil || len(got) != len(x) || !slices.Equal(x, before) {
		t.Fatalf("%d values of %d, or the picture was written to (%v)", len(got), len(x), err)
	}
	for i, v := range mask {
		if v == 0 {
			x[i] = 9
		}
	}
	again, _ := m.Reconstruct(t.Context(), x, mask, 3)
	for i, v := range mask {
		if v == 0 {
			x[i] = m.Blank
		}
	}
	want, err := m.Translate(t.Context(), x, 3)
	if err != nil || !slices.Equal(again, got) || !slices.Equal(want, got) {
		t.Errorf("what is hidden leaks, or the hole is not blanked (%v)", err)
	}
	if all, err := m.Reconstruct(t.Context(), x, nil, 3); err != nil || !slices.Equal(all, want) {
		t.Errorf("without a mask: %v", err)
	}
	if _, err := m.Reconstruct(t.Context(), x, mask[:3], 3); err == nil {
		t.Error("a mask of a wrong size was taken")
	}
}

func TestPresets(t *testing.T) {
	for name, p := range conditionalcoopnets.Presets {
		if err := p.Config.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Config.EnergyNet(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Config.GeneratorNet(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := conditionalcoopnets.For("small", []int{1, 20, 20}, 9); err == nil || !strings.Contains(err.Error(), "pictures-16") {
		t.Errorf("a size without preset: %v", err)
	}
}
