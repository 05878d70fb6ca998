package passes_test

import (
	"fmt"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
)

// While a model learns, its weights are inputs that an optimizer writes to.
func ExampleWeightsToInputs() {
	b := graphs.NewBuilder(&graphs.Graph{Name: "net"})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(2)})
	b.Output("y", b.MatMul(x, b.Weight("w", graphs.Of([]float32{1, 2}, 2, 1))))
	g, err := b.Graph()
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := passes.WeightsToInputs(g); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(g.Inputs)
	// Output:
	// [x float32[batch,2] w float32[2,1]]
}
