package salcoopnets_test

import (
	"context"
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
	"ebmrun/training/salcoopnets"
	"ebmrun/training/systemtest"
)

func set(t testing.TB) *data.Set {
	t.Helper()
	s, err := data.Load(context.Background(), "synthetic/salient", data.Options{Seed: 2, Size: 16, Limit: 12})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func config(supervision string) salcoopnets.Config {
	c := salcoopnets.Config{Supervision: supervision, Draws: 2, Mirror: true}
	c.Config = conditionalcoopnets.Config{Steps: 10, Batch: 3, Sigma: 0.3, Truth: 1, TruthEnd: 0.2, ScoreL2: 0.1,
		Langevin:  training.Langevin{Steps: 2, Step: 0.2, Noise: 1, GradClip: 1, Clamp: [2]float64{-1, 1}},
		Inference: training.Langevin{Steps: 2, Step: 0.02, Noise: 1},
		Optim:     training.Optim{LR: 1e-2, Clip: 1}, Teach: training.Optim{LR: 1e-3}}
	if supervision == salcoopnets.Scribbles {
		c.Known, c.Warm, c.Recover = 4, 4, training.Langevin{Steps: 2, Step: 0.02, Noise: 1}
	}
	return c
}

// networks is a new system over small networks.
func networks(t testing.TB, c salcoopnets.Config) *salcoopnets.System {
	t.Helper()
	sys, err := of(t, c, set(t))
	if err != nil {
		t.Fatal(err)
	}
	return sys
}

// of is the same on a set.
func of(t testing.TB, c salcoopnets.Config, s *data.Set) (*salcoopnets.System, error) {
	t.Helper()
	o := runtime.Options{Threads: 1, NoSpin: true}
	em, err := conditional.BuildEnergy(energy.Spec{Layers: []energy.Layer{{Filters: 2, Kernel: 4, Stride: 4}, {Filters: 1, Kernel: 4}}, Activation: "swish"}, s.Dims(), s.Given.Dims(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	gm, err := conditional.Build(conditional.Spec{Codes: 2, Filters: []int{2, 2}, Skip: true, Activation: "leaky"}, s.Dims(), s.Given.Dims(), 1)
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
	t.Cleanup(func() { e.Close(); g.Close() })
	sys, err := salcoopnets.New(c, e, g, s, 1)
	if err == nil {
		sys.Held = s
	}
	return sys, err
}

func TestResume(t *testing.T) {
	for _, supervision := range []string{salcoopnets.Full, salcoopnets.Scribbles} {
		systemtest.Resume(t, func() training.System { return networks(t, config(supervision)) }, "weights/layer1.weight", "generator/down1.weight")
	}
}

// TestWarm: while the generator learns from strokes alone, the energy does not learn, and
// what is unknown teaches nothing.
func TestWarm(t *testing.T) {
	c := config(salcoopnets.Scribbles)
	weights := func(hide bool) (teacher, student []float32) {
		s := networks(t, c)
		if hide { // what no stroke tells must not matter
			for i := range s.Held.X() {
				s.Held.Floats[i] = -s.Held.X()[i]
			}
		}
		for range c.Warm {
			if _, err := s.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return slices.Clone(s.Energy.Given(nil).Params()[0].W), slices.Clone(s.Generator.Given(nil).Params()[0].W)
	}
	fresh := networks(t, c)
	e0, g0 := fresh.Energy.Given(nil).Params()[0].W, fresh.Generator.Given(nil).Params()[0].W
	e1, g1 := weights(false)
	e2, g2 := weights(true)
	if !slices.Equal(e0, e1) || slices.Equal(g0, g1) {
		t.Error("in the warm-up the generator alone must learn")
	}
	if !slices.Equal(e1, e2) || !slices.Equal(g1, g2) {
		t.Error("the weak supervisor has seen the true maps")
	}
}

// TestStrokes: strokes in the place of maps teach what strokes beside maps do, bit for bit; whole maps are none.
func TestStrokes(t *testing.T) {
	c := config(salcoopnets.Scribbles)
	beside := networks(t, c)
	alone := set(t)
	alone.Floats = slices.Clone(alone.Beside["scribbles"].X())
	for i, v := range alone.Floats {
		alone.Floats[i] = 0.9*v + 0.004 // grey is 128 of 255
	}
	alone.Beside = nil
	s, err := of(t, c, alone)
	if err != nil {
		t.Fatal(err)
	}
	for range c.Warm + 2 {
		for _, sys := range []*salcoopnets.System{beside, s} {
			if _, err := sys.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if a, b := beside.Generator.Given(nil).Params(), s.Generator.Given(nil).Params(); !slices.Equal(a[0].W, b[0].W) {
		t.Error("the generator has learned other weights")
	}
	if m, err := s.Evaluate(t.Context()); err != nil || len(m) != 2 || !(m["stroke_error"] > 0 && m["stroke_error"] < 1) {
		t.Errorf("measured on strokes: %v (%v)", m, err)
	}
	whole := set(t)
	whole.Beside = nil
	if _, err := of(t, c, whole); err == nil || !strings.Contains(err.Error(), "no scribbles") {
		t.Errorf("whole maps as strokes: %v", err)
	}
}

// TestMirror: strokes are turned with their pictures.
func TestMirror(t *testing.T) {
	s := networks(t, config(salcoopnets.Scribbles))
	strokes, turned := make([]float32, s.Config.Batch*s.Dim), 0
	for range 4 {
		b := s.Data.Next()
		if err := s.Observe(t.Context(), b, 0, strokes, make([]float32, len(strokes))); err != nil {
			t.Fatal(err)
		}
		for i, v := range strokes {
			if v*b.X[i] < 0 {
				t.Fatalf("pixel %d is %g, where a stroke says %g", i, b.X[i], v)
			}
		}
		for _, is := range b.Turned {
			if is {
				turned++
			}
		}
	}
	if turned < 2 || turned > 10 {
		t.Errorf("%d of 12 pictures were turned", turned)
	}
}

// TestRecover: recovered maps agree with the strokes, and differ elsewhere.
func TestRecover(t *testing.T) {
	s := networks(t, config(salcoopnets.Scribbles))
	strokes := s.Held.Beside["scribbles"].X()
	x, err := s.Learned().Recover(t.Context(), s.Held.Given.X(), strokes, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	filled := 0
	for i, v := range strokes {
		if v != 0 && x[i] != v {
			t.Fatalf("pixel %d is %g where the stroke says %g", i, x[i], v)
		}
		if v == 0 && x[i] != 0 {
			filled++
		}
	}
	if filled < len(x)/2 {
		t.Errorf("%d of %d pixels were filled in", filled, len(x))
	}
}

// TestDecide: a recovered map that decides is on either side everywhere, and strokes weigh
// what the settings say.
func TestDecide(t *testing.T) {
	c := config(salcoopnets.Scribbles)
	c.Decide = true
	s := networks(t, c)
	strokes := s.Held.Beside["scribbles"].X()
	x, err := s.Learned().Recover(t.Context(), s.Held.Given.X(), strokes, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	sides := map[float32]int{}
	for i, v := range x {
		if sides[v]++; strokes[i] != 0 && v != strokes[i] {
			t.Fatalf("pixel %d is %g where the stroke says %g", i, v, strokes[i])
		}
	}
	if sides[1] == 0 || sides[-1] == 0 || sides[1]+sides[-1] != len(x) {
		t.Errorf("values of a decided map: %v", sides)
	}
	n, dim := c.Batch, s.Dim
	observed, mask := make([]float32, n*dim), make([]float32, n*dim)
	index := []int{0, 1, 2}
	if err := s.Observe(t.Context(), data.Batch{Index: index, Given: s.Held.Given.X()[:n*s.Given]}, c.Warm, observed, mask); err != nil {
		t.Fatal(err)
	}
	for i, v := range mask {
		if want := float32(1); strokes[i] != 0 && v != 2 || strokes[i] == 0 && v != want {
			t.Fatalf("pixel %d: stroke %g has the mask %g", i, strokes[i], v)
		}
	}
}

// TestPredict: a prediction is the mean of draws, which the variance shows to differ.
func TestPredict(t *testing.T) {
	s := networks(t, config(salcoopnets.Full))
	m := s.Learned()
	mean, variance, err := m.Predict(t.Context(), s.Held.Given.X(), 3)
	if err != nil {
		t.Fatal(err)
	}
	_, a, _ := m.Solve(t.Context(), s.Held.Given.X(), 3)
	_, b, _ := m.Solve(t.Context(), s.Held.Given.X(), 4)
	for i := range mean {
		half := (a[i] - b[i]) / 2
		if d := mean[i] - (a[i]+b[i])/2; d*d > 1e-10 || half*half-variance[i] > 1e-5 || variance[i]-half*half > 1e-5 {
			t.Fatalf("pixel %d: mean %g, variance %g of %g and %g", i, mean[i], variance[i], a[i], b[i])
		}
	}
	if v := training.Mean(variance); !(v > 0) {
		t.Error("draws do not differ")
	}
	if m, err := s.Evaluate(t.Context()); err != nil || !(m["mae"] > 0 && m["s_measure"] > 0) {
		t.Errorf("%v (%v)", m, err)
	}
	if pics, err := s.Pictures(t.Context()); err != nil || len(pics[1].Rows) != 4 {
		t.Errorf("pictures (%v)", err)
	}
	if got, err := salcoopnets.Measure(s.Held.X(), s.Held); err != nil || got.MAE > 0.05 || got.S < 0.9 {
		t.Errorf("the true maps score %+v (%v)", got, err)
	}
}

func TestPresets(t *testing.T) {
	for name, p := range salcoopnets.Presets {
		if err := p.Config.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for want, change := range map[string]func(c *salcoopnets.Config){
		"supervision": func(c *salcoopnets.Config) { c.Supervision = "some" },
		"known": func(c *salcoopnets.Config) {
			c.Supervision, c.Known = salcoopnets.Scribbles, -1
			c.Recover = training.Langevin{Steps: 1, Step: 1}
		},
		"draws":      func(c *salcoopnets.Config) { c.Draws = 0 },
		"warm":       func(c *salcoopnets.Config) { c.Warm = 3 },
		"background": func(c *salcoopnets.Config) { c.Sabotage = salcoopnets.Background },
		"langevin":   func(c *salcoopnets.Config) { c.Langevin.Step = 0 },
	} {
		c := config(salcoopnets.Full)
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
}
