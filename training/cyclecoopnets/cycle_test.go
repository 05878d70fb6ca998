package cyclecoopnets_test

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
	"ebmrun/training/cyclecoopnets"
	"ebmrun/training/data"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
	"ebmrun/training/systemtest"
)

// location is f(x) = θ·x with U = x²/2 − f: x is N(θ, 1).
type location struct{ theta optim.Param }

func newLocation() *location {
	return &location{optim.Param{Name: "theta", W: make([]float32, 1), G: make([]float32, 1)}}
}

func (l *location) Params() []optim.Param { return []optim.Param{l.theta} }
func (l *location) Refresh()              {}

func (l *location) EnergyGrad(x, u, g []float32) error {
	for i, v := range x {
		u[i], g[i] = v*v/2-l.theta.W[0]*v, v-l.theta.W[0]
	}
	return nil
}

func (l *location) Learn(_ context.Context, x, w []float32, l2 float32, score []float32) error {
	l.theta.G[0] = 0
	for i, v := range x {
		score[i] = l.theta.W[0] * v
		l.theta.G[0] += (w[i] + l2*score[i]) * v
	}
	return nil
}

// shifts are ab(x) = x + s and ba(y) = y + t.
type shifts struct{ w optim.Param }

func (s *shifts) Params() []optim.Param { return []optim.Param{s.w} }

func (s *shifts) Apply(_ context.Context, k int, x, y []float32) error {
	for i, v := range x {
		y[i] = v + s.w.W[k]
	}
	return nil
}

func (s *shifts) Learn(_ context.Context, in [][]float32, w []float32, terms [][]float32) error {
	clear(s.w.G)
	round := float64(s.w.W[0] + s.w.W[1])
	for i := range terms[0] {
		db, da := in[2][i]-in[0][i]-s.w.W[0], in[3][i]-in[1][i]-s.w.W[1]
		terms[0][i], terms[1][i], terms[2][i] = db*db, da*da, float32(2*math.Abs(round))
		s.w.G[0] -= 2 * w[0] * db
		s.w.G[1] -= 2 * w[1] * da
		for k := range s.w.G {
			s.w.G[k] += 2 * w[2] * float32(math.Copysign(1, round))
		}
	}
	return nil
}

func normals(name string, n int, mean float32, seed uint64) *data.Set {
	x := make([]float32, n)
	sampler.Noise{Seed: seed}.Normals(x, sampler.Chains(0, n), 0)
	for i := range x {
		x[i] += mean
	}
	return &data.Set{Name: name, N: n, C: 1, H: 1, W: 1, Floats: x, Gain: 1}
}

// TestShift: between N(−1, 1) and N(1, 1) the translators find shifts of 2 and −2, the
// energies the means; without revision, or with the sign of the energies' updates
// turned, they do not.
func TestShift(t *testing.T) {
	for sabotage, works := range map[string]bool{"": true, cyclecoopnets.Flip: false, cyclecoopnets.Still: false} {
		c := cyclecoopnets.Config{Steps: 800, Batch: 100, Cycle: 0.1, Sabotage: sabotage,
			Langevin: training.Langevin{Steps: 10, Step: 0.5, Noise: 1},
			Optim:    training.Optim{Name: "sgd", LR: 0.05}, Teach: training.Optim{Name: "sgd", LR: 0.05}}
		a, b := newLocation(), newLocation()
		maps := &shifts{optim.Param{Name: "w", W: make([]float32, 2), G: make([]float32, 2)}}
		s, err := cyclecoopnets.New(c, a, b, maps, normals("a", 2000, -1, 5), normals("b", 2000, 1, 6), 1)
		if err != nil {
			t.Fatal(err)
		}
		got := [4]float64{}
		var broken error
		const averaged = 200
		for i := range c.Steps {
			if _, broken = s.Step(t.Context()); broken != nil {
				break
			}
			if i >= c.Steps-averaged {
				for k, v := range []float32{maps.w.W[0], maps.w.W[1], a.theta.W[0], b.theta.W[0]} {
					got[k] += float64(v) / averaged
				}
			}
		}
		met := broken == nil
		for k, want := range []float64{2, -2, -1, 1} {
			met = met && math.Abs(got[k]-want) < 0.2
		}
		if met != works {
			t.Errorf("sabotage %q: shifts and means %v (%v)", sabotage, got, broken)
		}
	}
}

// networks is a new system over small networks.
func networks(t testing.TB) *cyclecoopnets.System {
	t.Helper()
	var sets [2]*data.Set
	for k, name := range []string{"synthetic/ab16-a", "synthetic/ab16-b"} {
		var err error
		if sets[k], err = data.Load(context.Background(), name, data.Options{Seed: 2, Limit: 9 + k}); err != nil {
			t.Fatal(err)
		}
	}
	c := cyclecoopnets.Config{Steps: 10, Batch: 2, Cycle: 5, Warm: 3, ScoreL2: 0.1,
		Spec:      &energy.Spec{Layers: []energy.Layer{{Filters: 2, Kernel: 4, Stride: 4}, {Filters: 1, Kernel: 4}}, Activation: "swish"},
		TransSpec: &conditional.Spec{Filters: []int{2, 2}, Blocks: 1, Norm: "instance", Activation: "relu"},
		Langevin:  training.Langevin{Steps: 2, Step: 0.2, Noise: 1, GradClip: 1, Clamp: [2]float64{-1, 1}},
		Optim:     training.Optim{LR: 1e-2, Clip: 1, Decay: 0.1}, Teach: training.Optim{LR: 1e-3}}
	dims := []int{1, 16, 16}
	o := runtime.Options{Threads: 1, NoSpin: true}
	m, err := c.Maps(dims, dims, 1)
	if err != nil {
		t.Fatal(err)
	}
	maps, err := bind.NewMappings(context.Background(), m, ref.New(), o)
	if err != nil {
		t.Fatal(err)
	}
	var nets [2]*bind.Energy
	for k := range nets {
		em, err := energy.Build(*c.Spec, dims, 0, uint64(k))
		if err != nil {
			t.Fatal(err)
		}
		if nets[k], err = bind.New(context.Background(), em, ref.New(), bind.Options{Runtime: o}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := cyclecoopnets.New(c, nets[0], nets[1], maps, sets[0], sets[1], 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { maps.Close(); nets[0].Close(); nets[1].Close() })
	return s
}

func TestResume(t *testing.T) {
	systemtest.Resume(t, func() training.System { return networks(t) },
		"energy-a/layer1.weight", "energy-b/layer1.weight", "translators/ab/down1.weight", "translators/ba/out.weight", "place-b")
}

// TestThrough: translations are revised drafts, in both directions, the same for one
// seed whatever comes with them.
func TestThrough(t *testing.T) {
	s := networks(t)
	x := s.Held.X()[:5*256]
	drafts, revised, err := s.Through(t.Context(), cyclecoopnets.AB, x, 1)
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Translate(t.Context(), x[:256], 1)
	if err != nil || len(revised) != len(x) || slices.Equal(drafts, revised) || !slices.Equal(first, revised[:256]) {
		t.Errorf("translations depend on what comes with them, or are not revised (%v)", err)
	}
	if back, _, err := s.Through(t.Context(), cyclecoopnets.BA, drafts, 1); err != nil || slices.Equal(back, drafts) {
		t.Errorf("the way back changed nothing (%v)", err)
	}
	if _, err := s.Translate(t.Context(), x[:7], 1); err == nil {
		t.Error("examples of a wrong size were taken")
	}
	if pics, err := s.Pictures(t.Context()); err != nil || len(pics) != 3 {
		t.Errorf("got %d pictures (%v)", len(pics), err)
	}
	if m, err := s.Evaluate(t.Context()); err != nil || !(m["held/cycle_l1"] > 0) {
		t.Errorf("%v (%v)", m, err)
	}
}

func TestPresets(t *testing.T) {
	for name, p := range cyclecoopnets.Presets {
		if err := p.Config.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Config.EnergyNet(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Config.TranslatorNet(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := cyclecoopnets.For("small", []int{1, 20, 20}, 9); err == nil || !strings.Contains(err.Error(), "pictures-16") {
		t.Errorf("a size without preset: %v", err)
	}
}
