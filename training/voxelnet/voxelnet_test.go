package voxelnet_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/bind/bindtest"
	"ebmrun/training/data"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/systemtest"
	"ebmrun/training/voxelnet"
)

func shapes(t testing.TB) *data.Set {
	t.Helper()
	set, err := data.Load(context.Background(), "synthetic/volumes", data.Options{Seed: 1, Size: 8, Limit: 40})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func config(change func(*voxelnet.Config)) voxelnet.Config {
	c := voxelnet.Presets["voxels-16"].Config
	c.Spec = &energy.Spec{Activation: "relu", Layers: []energy.Layer{{Filters: 6, Kernel: 4, Stride: 2, Same: true}, {Filters: 1, Kernel: 4}}}
	c.Steps, c.Batch, c.NoiseFor, c.Chains.Buffer = 10, 5, 7, 10
	c.Langevin.Steps, c.Langevin.Fused = 3, false
	if change != nil {
		change(&c)
	}
	return c
}

func system(t testing.TB, c voxelnet.Config) *voxelnet.System {
	t.Helper()
	set := shapes(t)
	net := bindtest.On(t, ref.New(), bind.Options{})(energy.Build(*c.Spec, set.Dims(), c.Reference.Sigma, 5))
	s, err := voxelnet.New(c, net, set, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestResume covers the iteration at which the noise ends.
func TestResume(t *testing.T) {
	systemtest.Resume(t, func() training.System { return system(t, config(nil)) }, "weights/layer1.weight", "chains/x")
}

// quadratic is U = ‖x − at‖²/2.
type quadratic []float32

func (q quadratic) EnergyGrad(x, u, g []float32) error {
	clear(u)
	for i, v := range x {
		d := v - q[i%len(q)]
		u[i/len(q)] += d * d / 2
		g[i] = d
	}
	return nil
}

func model(at float32) (*voxelnet.Model, int) {
	dims := []int{1, 4, 4, 4}
	q := make(quadratic, 64)
	for i := range q {
		q[i] = at
	}
	c := config(nil)
	c.Recovery, c.Resolution = training.Langevin{Steps: 200, Step: 0.3}, training.Langevin{Steps: 50, Step: 0.3, Noise: 1}
	return &voxelnet.Model{Config: c, Field: q, Dims: dims}, 64
}

// TestReconstruct has holes end at the minimum of an energy and leaves what is
// known as it was, bit for bit.
func TestReconstruct(t *testing.T) {
	m, n := model(0.25)
	x, mask := make([]float32, 2*n), make([]float32, 2*n)
	for i := range x {
		x[i], mask[i] = float32(i)/100, float32(i%3%2)
	}
	got, err := m.Reconstruct(t.Context(), x, mask, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		if mask[i] != 0 && v != x[i] || mask[i] == 0 && math.Abs(float64(v)-0.25) > 1e-3 {
			t.Fatalf("entry %d, known %v: %v became %v", i, mask[i], x[i], v)
		}
	}
	if _, err := m.Reconstruct(t.Context(), x, mask[1:], 1); err == nil {
		t.Error("a mask of another size was taken")
	}
}

// pairs is U = Σ (x₂ₖ − x₂ₖ₊₁)²/2 over volumes of 64.
type pairs struct{}

func (pairs) EnergyGrad(x, u, g []float32) error {
	clear(u)
	for i, v := range x {
		d := v - x[i^1]
		u[i/64] += d * d / 4
		g[i] = d
	}
	return nil
}

// TestHold: of two voxels that want to be alike the hidden one becomes what is known where that is
// held, and meets it half way from their mean where it is put back at the end.
func TestHold(t *testing.T) {
	m, n := model(0)
	m.Field = pairs{}
	x, mask := make([]float32, n), make([]float32, n)
	for i := 0; i < n; i += 2 {
		x[i], mask[i] = float32(i)/100, 1
	}
	const mean = 0.31 // of what is known
	for _, hold := range []bool{true, false} {
		m.Config.Hold = hold
		got, err := m.Reconstruct(t.Context(), x, mask, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < n; i += 2 {
			want := x[i]
			if !hold {
				want = (x[i] + mean) / 2
			}
			if got[i] != x[i] || math.Abs(float64(got[i+1]-want)) > 1e-3 {
				t.Fatalf("hold %v, pair %d: %v, %v, wanted %v, %v", hold, i/2, got[i], got[i+1], x[i], want)
			}
		}
	}
}

// TestRefine checks the exact part: means of blocks do not drift, whatever the
// chain does.
func TestRefine(t *testing.T) {
	m, _ := model(0.25)
	coarse := []float32{0.1, -0.2, 0.3, 0.9, 0, 0.5, -0.5, 1, 7, 6, 5, 4, 3, 2, 1, 0}
	fine, err := m.Refine(t.Context(), coarse, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(fine) != 128 || slices.Max(fine[:64]) == 1 {
		t.Fatalf("%d values, and nothing moved", len(fine))
	}
	for i, v := range voxelnet.Coarsen(fine, m.Dims, 2) {
		if math.Abs(float64(v-coarse[i])) > 1e-5 {
			t.Errorf("block %d: mean %v, wanted %v", i, v, coarse[i])
		}
	}
	for _, bad := range []struct {
		n, factor int
		want      string
	}{{16, 3, "3"}, {15, 2, "15"}, {16, 0, "0"}} {
		if _, err := m.Refine(t.Context(), coarse[:bad.n], bad.factor, 1); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%d values by %d: %v", bad.n, bad.factor, err)
		}
	}
}

// TestLearning has a net learn the shapes and spoiled arms not: the distance of
// the samples' mean shape from the data's.
func TestLearning(t *testing.T) {
	set := shapes(t)
	mean := func(x []float32) []float64 {
		m := make([]float64, set.Dim())
		for i, v := range x {
			m[i%len(m)] += float64(v) * float64(len(m)) / float64(len(x))
		}
		return m
	}
	run := func(sabotage string) float64 {
		s := system(t, config(func(c *voxelnet.Config) {
			c.Langevin.Steps, c.Sabotage, c.NoiseFor, c.Steps, c.Batch, c.Chains.Buffer = 10, sabotage, 50, 80, 10, 20
		}))
		for range 80 {
			if _, err := s.Step(t.Context()); err != nil {
				return math.Inf(1)
			}
		}
		x, err := s.Samples(t.Context(), 20)
		if err != nil {
			t.Fatal(err)
		}
		a, b, d := mean(x), mean(set.X()), 0.0
		for i := range a {
			d += (a[i] - b[i]) * (a[i] - b[i])
		}
		return math.Sqrt(d)
	}
	works, frozen, flipped := run(""), run(generativeconvnet.Freeze), run(generativeconvnet.Flip)
	t.Logf("distance of the mean shapes: %.3g, frozen %.3g, flipped %.3g", works, frozen, flipped)
	if !(works < 0.5*frozen) || !(flipped > 2*works) {
		t.Errorf("distance of the mean shapes: %.3g, frozen %.3g, flipped %.3g", works, frozen, flipped)
	}
}

func TestPresets(t *testing.T) {
	for name, dims := range map[string][]int{"small": {1, 16, 16, 16}, "paper": {1, 32, 32, 32}, "voxels-32": {1, 32, 32, 32}} {
		c, err := voxelnet.For(name, dims, 10)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := voxelnet.For("small", []int{1, 16, 16}, 10); err == nil {
		t.Error("a preset for pictures")
	}
}
