package passes_test

import (
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
)

// TestWork: two operations for every product, counted by hand.
func TestWork(t *testing.T) {
	count := func(batch graphs.Dim) (int64, bool) {
		b := graphs.NewBuilder(&graphs.Graph{Name: "work"})
		x := b.Input("x", graphs.Float32, graphs.Shape{batch, graphs.D(3), graphs.D(8), graphs.D(8)})
		filters := b.Const(graphs.NewTensor(graphs.Float32, 5, 3, 4, 4))
		strides, pads := graphs.IntsAttr("strides", 2, 2), graphs.IntsAttr("pads", 1, 1, 1, 1)
		y := b.Op("Conv", []*graphs.Value{x, filters}, strides, pads)
		back := b.Op("ConvTranspose", []*graphs.Value{y, filters}, strides, pads)
		b.Output("z", b.MatMul(b.Op("Flatten", []*graphs.Value{back}), b.Const(graphs.NewTensor(graphs.Float32, 192, 7))))
		g, err := b.Graph()
		if err != nil {
			t.Fatal(err)
		}
		return passes.Work(g)
	}
	const conv, product = 2 * 2 * 5 * 4 * 4 * 3 * 4 * 4, 2 * 2 * 192 * 7
	if n, counted := count(graphs.D(2)); n != 2*conv+product || !counted {
		t.Errorf("got %d, %v; wanted %d", n, counted, 2*conv+product)
	}
	if _, counted := count(graphs.Sym("batch")); counted {
		t.Error("the work of an unknown batch was counted")
	}
}
