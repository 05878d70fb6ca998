package energy_test

import (
	"fmt"

	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels/energy"
)

func ExampleBuild() {
	spec := energy.Spec{
		Layers:     []energy.Layer{{Filters: 8, Kernel: 3, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 4}},
		Activation: "swish",
	}
	m, err := energy.Build(spec, []int{1, 8, 8}, 0, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Graph.Inputs, "→", m.Graph.Outputs)
	for _, w := range passes.Weights(m.Graph) {
		fmt.Println(w)
	}
	// Output:
	// [x float32[batch,1,8,8]] → [energy float32[batch] score float32[batch]]
	// layer1.weight float32[8,1,3,3]
	// layer1.bias float32[8]
	// layer2.weight float32[1,8,4,4]
	// layer2.bias float32[1]
}
