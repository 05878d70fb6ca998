package runtime_test

import (
	"context"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
)

func Example() {
	b := graphs.NewBuilder(&graphs.Graph{Name: "squares"})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch")})
	b.Output("y", b.Mul(x, x))
	g, err := b.Graph()
	if err != nil {
		fmt.Println(err)
		return
	}

	engine := ref.New() // a runtime.Engine, like what ort.Open returns
	ctx := context.Background()
	p, err := engine.Compile(ctx, graphs.NewModel(g), runtime.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	in := []*graphs.Tensor{graphs.Of([]float32{1, 2, 3}, 3)}
	out := make([]*graphs.Tensor, 1) // nil: allocated by the first call, written in place by the next
	if err := p.Run(ctx, in, out); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(out[0].F32())

	err = p.Run(ctx, []*graphs.Tensor{graphs.Of([]float64{1}, 1)}, out)
	fmt.Println(err)
	// Output:
	// [1 4 9]
	// input "x": wanted float32[batch], got float64[1]
}
