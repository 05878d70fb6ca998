package bind_test

import (
	"context"
	"fmt"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime/ref"
	"ebmrun/training/bind"
	"ebmrun/training/optim"
)

// One step of learning raises the score of the data, x = (1, 1), over that of a
// sample, x = (−1, −1).
func ExampleNew() {
	ctx := context.Background()
	spec := energy.Spec{Layers: []energy.Layer{{Filters: 16}, {Filters: 1}}, Activation: "swish"}
	model, err := energy.Build(spec, []int{2}, 1, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := bind.New(ctx, model, ref.New(), bind.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer e.Close()

	x := []float32{1, 1, -1, -1}
	weights := []float32{1, -1} // the slope of f(data) − f(sample)
	before, after := make([]float32, 2), make([]float32, 2)
	if err := e.Learn(ctx, x, weights, 0, before); err != nil {
		fmt.Println(err)
		return
	}
	if err := optim.Step(optim.Scale(0.1), e.Params()); err != nil {
		fmt.Println(err)
		return
	}
	e.Refresh()
	if err := e.Learn(ctx, x, weights, 0, after); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("the gap grew:", after[0]-after[1] > before[0]-before[1]+0.01)

	u, g := make([]float32, 2), make([]float32, 4)
	if err := e.EnergyGrad(x, u, g); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("data is more likely:", u[0] < u[1])
	// Output:
	// the gap grew: true
	// data is more likely: true
}
