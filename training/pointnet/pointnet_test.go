package pointnet_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/bind/bindtest"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/pointnet"
	"ebmrun/training/systemtest"
)

const points = 24

func surfaces(t testing.TB, n int) *data.Set {
	t.Helper()
	set, err := data.Load(context.Background(), "synthetic/surfaces", data.Options{Seed: 1, Points: points, Limit: n})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func config(change func(*pointnet.Config)) pointnet.Config {
	c := pointnet.Presets["points"].Config
	c.Spec = &energy.Spec{Activation: "swish", Points: &energy.Points{Each: []int{16, 32}, Whole: []int{16}}}
	c.Steps, c.Batch, c.Langevin.Steps, c.Langevin.Fused = 10, 8, 5, false
	if change != nil {
		change(&c)
	}
	return c
}

func network(t testing.TB, c pointnet.Config) *bind.Energy {
	t.Helper()
	return bindtest.On(t, ref.New(), bind.Options{})(energy.Build(*c.Spec, []int{points, 3}, c.Reference.Sigma, 5))
}

func system(t testing.TB, c pointnet.Config) *pointnet.System {
	t.Helper()
	s, err := pointnet.New(c, network(t, c), surfaces(t, 60), 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestResume(t *testing.T) {
	systemtest.Resume(t, func() training.System { return system(t, config(nil)) }, "weights/each1.weight")
}

// TestOrder is exact: the energy of a set does not depend on the order of its
// points, and its slope moves with them.
func TestOrder(t *testing.T) {
	net := network(t, config(func(c *pointnet.Config) { c.Spec.Points.Max = true }))
	set := surfaces(t, 4)
	r := rand.New(rand.NewPCG(1, 2))
	order := r.Perm(points)
	x, y := set.X()[:4*set.Dim()], make([]float32, 4*set.Dim())
	for i := range 4 {
		for k, from := range order {
			copy(y[(i*points+k)*3:], x[(i*points+from)*3:(i*points+from)*3+3])
		}
	}
	u, v := make([]float32, 4), make([]float32, 4)
	g, h := make([]float32, len(x)), make([]float32, len(x))
	if err := net.EnergyGrad(x, u, g); err != nil {
		t.Fatal(err)
	}
	if err := net.EnergyGrad(y, v, h); err != nil {
		t.Fatal(err)
	}
	for i := range u {
		if math.Abs(float64(u[i]-v[i])) > 1e-4*(1+math.Abs(float64(u[i]))) {
			t.Errorf("set %d: %v, in another order %v", i, u[i], v[i])
		}
		for k, from := range order {
			for c := range 3 {
				a, b := g[(i*points+from)*3+c], h[(i*points+k)*3+c]
				if math.Abs(float64(a-b)) > 1e-4*(1+math.Abs(float64(a))) {
					t.Fatalf("set %d, point %d: slope %v, in another order %v", i, from, a, b)
				}
			}
		}
	}
}

// TestLearning has a net learn shapes and spoiled arms not: the Chamfer distance
// of the nearest sample to each held-out set.
func TestLearning(t *testing.T) {
	held := surfaces(t, 80)
	run := func(sabotage string) float64 {
		s := system(t, config(func(c *pointnet.Config) {
			c.Langevin.Steps, c.Sabotage, c.Steps = 15, sabotage, 120
		}))
		for range 120 {
			if _, err := s.Step(t.Context()); err != nil {
				return math.Inf(1)
			}
		}
		x, err := s.Samples(t.Context(), 24)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for i := 60; i < 80; i++ {
			best := math.Inf(1)
			for k := 0; k < len(x); k += points * 3 {
				d, err := diag.Chamfer(x[k:k+points*3], held.At(i), 3)
				if err != nil {
					t.Fatal(err)
				}
				best = min(best, d)
			}
			sum += best / 20
		}
		return sum
	}
	works, frozen, flipped := run(""), run(generativeconvnet.Freeze), run(generativeconvnet.Flip)
	t.Logf("Chamfer distance: %.3g, frozen %.3g, flipped %.3g", works, frozen, flipped)
	if !(works < 0.7*frozen) || !(flipped > works/0.7) {
		t.Errorf("Chamfer distance: %.3g, frozen %.3g, flipped %.3g", works, frozen, flipped)
	}
}

// TestModel checks that draws repeat with their seed, that walks end at the draws
// between which they go, and that a search brings sets nearer.
func TestModel(t *testing.T) {
	c := config(func(c *pointnet.Config) { c.Search.Steps, c.Search.Rate = 30, 0.2 })
	m := &pointnet.Model{Config: c, Field: network(t, c), Dims: []int{points, 3}}
	a, err := m.Draw(t.Context(), 11, 5)
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Draw(t.Context(), 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range b {
		if v != a[i] {
			t.Fatal("draws differ with their number")
		}
	}
	walk, err := m.Interpolate(t.Context(), 1, 2, 5)
	if err != nil || len(walk) != 5*points*3 {
		t.Fatalf("%d values, %v", len(walk), err)
	}
	x := surfaces(t, 2).X()
	got, err := m.Reconstruct(t.Context(), x, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	c.Search.Steps = 1
	short := &pointnet.Model{Config: c, Field: m.Field, Dims: m.Dims}
	first, err := short.Reconstruct(t.Context(), x, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	squared := func(y []float32) (sum float64) {
		for i, v := range y {
			sum += float64(v-x[i]) * float64(v-x[i])
		}
		return sum
	}
	if !(squared(got) < 0.5*squared(first)) {
		t.Errorf("30 steps of search: squared error %.3g, after one %.3g", squared(got), squared(first))
	}
	if _, err := m.Reconstruct(t.Context(), x, x, 1); err == nil {
		t.Error("a mask was taken")
	}
}
