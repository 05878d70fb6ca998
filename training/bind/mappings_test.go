package bind_test

import (
	"math"
	"slices"
	"testing"

	"ebmrun/onnxmodels/conditional"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
)

// TestMappings: the terms are what the mappings, applied one by one, come to, and the
// slopes those that differences show.
func TestMappings(t *testing.T) {
	const n, size = 2, 64
	dims := []int{1, 8, 8}
	s := conditional.Spec{Filters: []int{2, 3}, Blocks: 1, Norm: "instance", Activation: "swish"}
	ab, err := conditional.BuildMapping("ab", s, dims, dims, 1)
	if err != nil {
		t.Fatal(err)
	}
	ba, err := conditional.BuildMapping("ba", s, dims, dims, 2)
	if err != nil {
		t.Fatal(err)
	}
	cycle, err := conditional.Cycle(ab, ba)
	if err != nil {
		t.Fatal(err)
	}
	m, err := bind.NewMappings(t.Context(), cycle, ref.New(), runtime.Options{Threads: 1, NoSpin: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	in := [][]float32{wave(n*size, 0), wave(n*size, 1), wave(n*size, 2), wave(n*size, 3)}
	w, terms := []float32{0.3, 0.2, 0.5}, [][]float32{make([]float32, n), make([]float32, n), make([]float32, n)}
	total := func() (sum float64) {
		t.Helper()
		if err := m.Learn(t.Context(), in, w, terms); err != nil {
			t.Fatal(err)
		}
		for j, term := range terms {
			for _, v := range term {
				sum += float64(w[j] * v)
			}
		}
		return sum
	}
	total()
	apply := func(k int, x []float32) []float32 {
		y := make([]float32, len(x))
		if err := m.Apply(t.Context(), k, x, y); err != nil {
			t.Fatal(err)
		}
		return y
	}
	toB, toA := apply(0, in[0]), apply(1, in[1])
	backA, backB := apply(1, toB), apply(0, toA)
	round := 0.0
	for i := range size {
		round += math.Abs(float64(backA[i]-in[0][i])) + math.Abs(float64(backB[i]-in[1][i]))
	}
	for j, want := range []float64{training.MSE(toB[:size], in[2][:size]) * size, training.MSE(toA[:size], in[3][:size]) * size, round} {
		if got := float64(terms[j][0]); math.Abs(got-want) > 1e-4*want {
			t.Errorf("term %d: wanted %g, got %g", j, want, got)
		}
	}
	grads := slices.Clone(m.Params())
	for i := range grads {
		grads[i].G = slices.Clone(grads[i].G)
	}
	if numeric, exact := alongWeights(t, grads, func() {}, total); math.Abs(numeric-exact) > 0.01*math.Abs(exact) {
		t.Errorf("slope: differences show %g, got %g", numeric, exact)
	}
	if err := m.Apply(t.Context(), 0, in[0][1:], toB); err == nil {
		t.Error("examples of a wrong size were taken")
	}
}
