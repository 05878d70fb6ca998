package refeval_test

import (
	"context"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/graphs/refeval"
)

func Example() {
	g := &graphs.Graph{Name: "energy"}
	b := graphs.NewBuilder(g)
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(2)})
	b.Output("energy", b.Scale(b.Sum(b.Mul(x, x), false, 1), 0.5))

	p, err := refeval.New(g, graphs.OpsetVersion, refeval.Options{Round: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	out, err := p.Run(context.Background(), []*graphs.Tensor{graphs.Of([]float32{3, 4, 1, 0}, 2, 2)})
	fmt.Println(out[0].F32(), err)
	// Output: [12.5 0.5] <nil>
}
