package autodiff_test

import (
	"context"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
)

// The gradient of U(x) = Σ tanh(x)² and the gradient of that gradient's sum.
func ExampleGrad() {
	b := graphs.NewBuilder(&graphs.Graph{Name: "energy"})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(2)})
	y := b.Tanh(x)
	b.Output("energy", b.Sum(b.Mul(y, y), false, 1))
	g, err := b.Graph()
	if err != nil {
		fmt.Println(err)
		return
	}

	first, err := autodiff.Grad(graphs.NewModel(g), autodiff.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	second, err := autodiff.Grad(first, autodiff.Options{Of: "grad/x"})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := ref.New().Compile(context.Background(), second, runtime.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	out := make([]*graphs.Tensor, len(p.Outputs()))
	if err := p.Run(context.Background(), []*graphs.Tensor{graphs.Of([]float32{0, 0.5}, 1, 2)}, out); err != nil {
		fmt.Println(err)
		return
	}
	for i, v := range p.Outputs() {
		fmt.Printf("%s %.4f\n", v.Name, out[i].F32())
	}
	// Output:
	// energy [0.2136]
	// grad/x [0.0000 0.7269]
	// grad/grad/x [2.0000 0.5652]
}
