//go:build cgo

package ort

import (
	"math/rand/v2"
	"slices"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
)

// dense is x·W, a dense layer on it, and the way back through both, with square
// weights: each matrix is read as it is and transposed.
func dense(t testing.TB, n, size int) *graphs.Model {
	return enginetest.Build(t, func(b *graphs.Builder) {
		r := rand.New(rand.NewPCG(3, 4))
		weight := func(name string) *graphs.Value {
			w := graphs.NewTensor(graphs.Float32, size, size)
			for i := range w.F32() {
				w.F32()[i] = float32(r.NormFloat64()) * 0.1
			}
			return b.Weight(name, w)
		}
		x := b.Input("x", graphs.Float32, graphs.MakeShape(n, size))
		a, c := weight("a"), weight("c")
		h := b.Tanh(b.Op("Gemm", []*graphs.Value{x, a}))
		y := b.Tanh(b.Op("Gemm", []*graphs.Value{h, c}, graphs.I("transB", 1)))
		b.Output("y", y)
		back := b.Tanh(b.Op("Gemm", []*graphs.Value{y, c}))
		b.Output("back", b.Op("Gemm", []*graphs.Value{back, a}, graphs.I("transB", 1)))
	})
}

func TestTransposedApart(t *testing.T) {
	m := dense(t, 5, 4)
	before, err := onnxio.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	apart := transposedApart(m)
	if got := len(apart.Graph.Inits); got != 4 {
		t.Errorf("wanted two matrices and their copies, got %d constants", got)
	}
	reads := map[*graphs.Value]int64{}
	for _, n := range apart.Graph.Nodes {
		if n.Op != "Gemm" {
			continue
		}
		w, trans := n.In(1), n.Int("transB", 0)
		if was, ok := reads[w]; ok && was != trans {
			t.Errorf("%s is read both ways", w)
		}
		reads[w] = trans
	}
	if len(reads) != 4 {
		t.Errorf("wanted four matrices in use, got %d", len(reads))
	}
	if after, err := onnxio.Encode(m); err != nil || !slices.Equal(after, before) {
		t.Errorf("the model was changed (%v)", err)
	}
	if transposedApart(apart) != apart {
		t.Error("a model with nothing to do was copied")
	}
}

func TestDenseOnOpenVINO(t *testing.T) {
	e := engineFor(t)
	if !slices.Contains(e.Providers(), runtime.OpenVINO) {
		t.Skip("the library has no OpenVINO provider")
	}
	const n, size = 40, 32
	x := graphs.NewTensor(graphs.Float32, n, size)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range x.F32() {
		x.F32()[i] = float32(r.NormFloat64())
	}
	run := func(provider string) []*graphs.Tensor {
		out := make([]*graphs.Tensor, 2)
		p := enginetest.Compile(t, e, dense(t, n, size), runtime.Options{Provider: provider})
		if err := p.Run(t.Context(), []*graphs.Tensor{x}, out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	got, want := run(runtime.OpenVINO), run(runtime.CPU)
	for i, name := range []string{"y", "back"} {
		w, _ := want[i].AsFloats()
		enginetest.Close(t, name, got[i], 1e-4, w...)
	}
}
