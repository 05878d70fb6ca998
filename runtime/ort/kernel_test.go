//go:build cgo

package ort

import (
	"errors"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/runtime"
)

// A gradient in float64 runs: no Transpose is fused into its products, for which
// the library has no kernel. A net that it has no kernel for is told by op and type.
func TestKernelsOfOtherTypes(t *testing.T) {
	e := runtime.Check(engineFor(t))
	net := func(typ graphs.DType, rank int) *graphs.Model {
		b := graphs.NewBuilder(&graphs.Graph{Name: "net"})
		shape := graphs.MakeShape(2, 3, 4, 4)[4-rank:]
		x := b.Input("x", typ, shape)
		w, err := graphs.FromFloats(typ, []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, 4, 4)
		if err != nil {
			t.Fatal(err)
		}
		b.Output("y", b.Sum(b.Tanh(b.MatMul(b.MatMul(x, b.Weight("w", w)), x)), false))
		g, err := b.Graph()
		if err != nil {
			t.Fatal(err)
		}
		d, err := autodiff.Grad(graphs.NewModel(g), autodiff.Options{Params: true})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, rank := range []int{2, 4} {
		p, err := e.Compile(t.Context(), net(graphs.Float64, rank), runtime.Options{})
		if err != nil {
			t.Fatal(err)
		}
		x := graphs.NewTensor(graphs.Float64, []int{2, 3, 4, 4}[4-rank:]...)
		if err := p.Run(t.Context(), []*graphs.Tensor{x}, make([]*graphs.Tensor, len(p.Outputs()))); err != nil {
			t.Errorf("rank %d: %v", rank, err)
		}
		p.Close()
	}
	_, err := e.Compile(t.Context(), net(graphs.BFloat16, 2), runtime.Options{})
	var missing *runtime.KernelError
	if !errors.As(err, &missing) || missing.Op != "MatMul" || missing.Type != graphs.BFloat16 {
		t.Errorf("got %v", err)
	}
}
