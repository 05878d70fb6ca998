package passes_test

import (
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
)

// TestWork: two operations for every product, counted by hand: of a layer, and of its weights' slope.
func TestWork(t *testing.T) {
	count := func(batch graphs.Dim) (int64, bool) {
		b := graphs.NewBuilder(&graphs.Graph{Name: "work"})
		x := b.Input("x", graphs.Float32, graphs.Shape{batch, graphs.D(3), graphs.D(8), graphs.D(8)})
		filters := b.Const(graphs.NewTensor(graphs.Float32, 5, 3, 4, 4))
		strides, pads := graphs.IntsAttr("strides", 2, 2), graphs.IntsAttr("pads", 1, 1, 1, 1)
		y := b.Op("Conv", []*graphs.Value{x, filters}, strides, pads)
		back := b.Op("ConvTranspose", []*graphs.Value{y, filters}, strides, pads)
		flat := b.Op("Flatten", []*graphs.Value{back})
		b.Output("z", b.MatMul(flat, b.Const(graphs.NewTensor(graphs.Float32, 192, 7))))
		turned := b.Transpose(b.Const(graphs.NewTensor(graphs.Float32, 2, 7)), 1, 0)
		b.Output("slope", b.Op("Gemm", []*graphs.Value{flat, turned}, graphs.I("transA", 1), graphs.I("transB", 1)))
		g, err := b.Graph()
		if err != nil {
			t.Fatal(err)
		}
		return passes.Work(g)
	}
	const conv, product = 2 * 2 * 5 * 4 * 4 * 3 * 4 * 4, 2 * 2 * 192 * 7 // the last one twice
	if n, counted := count(graphs.D(2)); n != 2*conv+2*product || !counted {
		t.Errorf("got %d, %v; wanted %d", n, counted, 2*conv+2*product)
	}
	if _, counted := count(graphs.Sym("batch")); counted {
		t.Error("the work of an unknown batch was counted")
	}
}
