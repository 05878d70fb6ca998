package sequencecyclecoopnets_test

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
	"ebmrun/training/cyclecoopnets"
	"ebmrun/training/data"
	"ebmrun/training/optim"
	"ebmrun/training/sequencecyclecoopnets"
	"ebmrun/training/systemtest"
)

func clips(t testing.TB, name string, n int) *data.Set {
	t.Helper()
	s, err := data.Load(context.Background(), "synthetic/"+name, data.Options{Seed: 2, Limit: n})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func config() sequencecyclecoopnets.Config {
	plain := &conditional.Spec{Filters: []int{2, 2}, Norm: "instance", Activation: "relu"}
	c := sequencecyclecoopnets.Config{PredSpec: &conditional.Spec{Filters: []int{2, 2}, Skip: true, Activation: "leaky"}, Predict: 1, Through: 10}
	c.Config = cyclecoopnets.Config{Steps: 10, Batch: 2, Warm: 3, ScoreL2: 0.1, TransSpec: plain,
		Spec:     &energy.Spec{Layers: []energy.Layer{{Filters: 2, Kernel: 4, Stride: 4}, {Filters: 1, Kernel: 4}}, Activation: "swish"},
		Langevin: training.Langevin{Steps: 2, Step: 0.2, Noise: 1, GradClip: 1, Clamp: [2]float64{-1, 1}},
		Optim:    training.Optim{LR: 1e-2, Clip: 1}, Teach: training.Optim{LR: 1e-3}}
	return c
}

// networks is a new system over small networks.
func networks(t testing.TB, c sequencecyclecoopnets.Config) *sequencecyclecoopnets.System {
	t.Helper()
	o := runtime.Options{Threads: 1, NoSpin: true}
	frame := []int{1, 16, 16}
	m, err := c.Maps(frame, frame, 1)
	if err != nil {
		t.Fatal(err)
	}
	maps, err := bind.NewMappings(context.Background(), m, ref.New(), o)
	if err != nil {
		t.Fatal(err)
	}
	var nets [2]*bind.Energy
	for k := range nets {
		em, err := energy.Build(*c.Spec, frame, 0, uint64(k))
		if err != nil {
			t.Fatal(err)
		}
		if nets[k], err = bind.New(context.Background(), em, ref.New(), bind.Options{Runtime: o}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { maps.Close(); nets[0].Close(); nets[1].Close() })
	s, err := sequencecyclecoopnets.New(c, nets[0], nets[1], maps, clips(t, "seq16-a", 5), clips(t, "seq16-b", 6), 1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestResume(t *testing.T) {
	systemtest.Resume(t, func() training.System { return networks(t, config()) },
		"energy-a/layer1.weight", "translators/ab/down1.weight", "translators/next-a/out.weight", "translators/next-b/out.weight", "place-b")
}

// watched records what the mappings learn from.
type watched struct {
	in [][]float32
	w  []float32
}

func (w *watched) Apply(_ context.Context, _ int, x, y []float32) error { copy(y, x); return nil }
func (w *watched) Params() []optim.Param                                { return nil }
func (w *watched) Learn(_ context.Context, in [][]float32, weights []float32, _ [][]float32) error {
	w.w, w.in = slices.Clone(weights), nil
	for _, x := range in {
		w.in = append(w.in, slices.Clone(x))
	}
	return nil
}

// flat is an energy that likes everything.
type flat struct{}

func (flat) EnergyGrad(_, u, g []float32) error { clear(u); clear(g); return nil }
func (flat) Learn(_ context.Context, _, _ []float32, _ float32, score []float32) error {
	clear(score)
	return nil
}
func (flat) Params() []optim.Param { return nil }
func (flat) Refresh()              {}

// TestWindows: what is learned from is three frames in a row of one clip, whose lessons
// are their translations, all of weights that count values alike.
func TestWindows(t *testing.T) {
	c := config()
	c.Langevin.Noise, c.Langevin.Clamp = 0, [2]float64{}
	maps := &watched{}
	a := clips(t, "seq16-a", 5)
	s, err := sequencecyclecoopnets.New(c, flat{}, flat{}, maps, a, clips(t, "seq16-b", 5), 1)
	if err != nil {
		t.Fatal(err)
	}
	all, starts := s.Learned().Split(a.X()), map[int]bool{}
	const d, frames = 256, 12
	for range 20 {
		if _, err := s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range c.Batch {
			at := -1
			for k := range len(all) / d {
				if slices.Equal(all[k*d:(k+1)*d], maps.in[0][i*d:(i+1)*d]) {
					at = k
				}
			}
			if at < 0 || at%frames > frames-3 {
				t.Fatalf("a window begins at frame %d", at)
			}
			starts[at%frames] = true
			for f := range 3 {
				if !slices.Equal(all[(at+f)*d:(at+f+1)*d], maps.in[f][i*d:(i+1)*d]) {
					t.Fatalf("frame %d of a window is another", f)
				}
				// without revision a translation is its own lesson, and maps copy
				if !slices.Equal(maps.in[f], maps.in[6+f]) {
					t.Fatalf("frame %d has another's lesson", f)
				}
			}
		}
	}
	if len(starts) < 5 {
		t.Errorf("windows begin at %d places only", len(starts))
	}
	if len(maps.in) != 12 || len(maps.w) != 6 || maps.w[2] != 3*maps.w[0] || maps.w[4] != 30*maps.w[0] {
		t.Errorf("%d inputs, weights %v", len(maps.in), maps.w)
	}
}

// TestClips: splitting and joining are opposites, translations are frame by frame, and
// clips of other shapes are refused.
func TestClips(t *testing.T) {
	c := config()
	c.Cycle = 2
	s := networks(t, c)
	m := s.Learned()
	x := s.Held.X()
	if !slices.Equal(m.Join(m.Split(x)), x) || slices.Equal(m.Split(x)[:256], x[256:512]) {
		t.Error("splitting and joining are no opposites")
	}
	y, err := m.Translate(t.Context(), x, 1)
	if err != nil || len(y) != len(x) {
		t.Fatalf("%d values (%v)", len(y), err)
	}
	first, err := m.Frames.Translate(t.Context(), m.Split(x)[:256], 1)
	if err != nil || !slices.Equal(first, m.Split(y)[:256]) {
		t.Errorf("the first frame is not the translation of the first frame (%v)", err)
	}
	if r, err := m.Foresight(t.Context(), 1, x); err != nil || !(r > 0) {
		t.Errorf("foresight %g (%v)", r, err)
	}
	if _, err := m.Translate(t.Context(), x[:300], 1); err == nil {
		t.Error("half a clip was taken")
	}
	if pics, err := s.Pictures(t.Context()); err != nil || len(pics) != 2 {
		t.Errorf("%d pictures (%v)", len(pics), err)
	}
	if _, err := s.Evaluate(t.Context()); err != nil {
		t.Error(err)
	}
	if met, err := s.Step(t.Context()); err != nil || !(met["cycle_l1"] > 0) {
		t.Errorf("%v (%v)", met, err)
	}
	if _, err := sequencecyclecoopnets.ShapeOf([]int{1, 2, 16, 16}); err == nil {
		t.Error("clips of two frames were taken")
	}
}

func TestPresets(t *testing.T) {
	for name, p := range sequencecyclecoopnets.Presets {
		if err := p.Config.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Config.PredictorNet(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := sequencecyclecoopnets.For("small", []int{1, 12, 20, 20}, 9); err == nil || !strings.Contains(err.Error(), "clips-16") {
		t.Errorf("a size without preset: %v", err)
	}
}
