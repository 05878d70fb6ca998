package bind

import (
	"context"
	"fmt"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/training/sampler"
)

// TestThreads: a batch computed in parts by several threads, or one after another, gives what one
// thread gives of the whole, in every graph of an energy.
func TestThreads(t *testing.T) {
	const n, k, side = 13, 3, 8
	spec := energy.Spec{Activation: "swish", Layers: []energy.Layer{{Filters: 6, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 4}}}
	engine := onnxRuntime(t)
	dim := 2 * side * side
	all := func(o runtime.Options) [][]float32 {
		e := bound(t, model(t, spec, 2, side, side), engine, Options{Runtime: o})
		x, u, g := normals(1, n*dim), make([]float32, n), make([]float32, n*dim)
		if err := e.EnergyGrad(x, u, g); err != nil {
			t.Fatal(err)
		}
		got := [][]float32{u, g}
		score := make([]float32, n)
		if err := e.Learn(context.Background(), x, normals(2, n), 0.1, score); err != nil {
			t.Fatal(err)
		}
		got = append(got, score)
		for _, p := range e.Params() {
			got = append(got, append([]float32(nil), p.G...))
		}
		hv := make([]float32, n*dim)
		if err := e.HessianVector(x, normals(3, n*dim), hv); err != nil {
			t.Fatal(err)
		}
		end, last := append([]float32(nil), x...), make([]float32, n)
		info, err := e.Chain(sampler.Langevin{Size: 0.1, Noise: 1}).RunChain(context.Background(), end, last, normals(4, k*n*dim))
		if err != nil {
			t.Fatal(err)
		}
		return append(got, hv, end, last, []float32{float32(info.Drift)})
	}
	want := all(runtime.Options{Threads: 1})
	for _, o := range []runtime.Options{{Threads: 2}, {Threads: 3}, {Threads: 1, Most: 5}, {Threads: 2, Most: 3}, {Provider: runtime.CPU, Threads: 3, Most: 1}} {
		for i, got := range all(o) {
			for j, v := range got {
				near(t, fmt.Sprintf("%d threads, at most %d at once, result %d, element %d", o.Threads, o.Most, i, j), float64(v), float64(want[i][j]), 1e-5)
			}
		}
	}
}
