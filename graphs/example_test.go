package graphs_test

import (
	"fmt"

	"ebmrun/graphs"
)

func ExampleBuilder() {
	b := graphs.NewBuilder(&graphs.Graph{Name: "energy"})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(3)})
	w := b.Weight("w", graphs.Of([]float32{1, 2, 3}, 3, 1))
	b.Output("energy", b.Squeeze(b.Tanh(b.MatMul(x, w)), 1))

	g, err := b.Graph() // the one place to look for errors
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, n := range g.Nodes {
		fmt.Println(n.Op, n.Out(0).Shape)
	}
	fmt.Println(g.Output("energy"))
	// Output:
	// MatMul [batch,1]
	// Tanh [batch,1]
	// Squeeze [batch]
	// energy float32[batch]
}

func ExampleBuilder_error() {
	b := graphs.NewBuilder(&graphs.Graph{Name: "energy"})
	x := b.Input("x", graphs.Float32, graphs.MakeShape(4, 3))
	w := b.Weight("w", graphs.Of([]float32{1, 2}, 2, 1))
	b.Output("energy", b.Tanh(b.MatMul(x, w)))

	_, err := b.Graph()
	fmt.Println(err)
	// Output:
	// graphs: node "MatMul" (MatMul): inner sizes 3 and 2 differ: x float32[4,3], w float32[2,1]
}
