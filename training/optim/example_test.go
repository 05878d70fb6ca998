package optim_test

import (
	"fmt"

	"ebmrun/training/optim"
)

// The loss is (w − 3)².
func ExampleChain() {
	p := []optim.Param{{Name: "w", W: []float32{0}, G: []float32{0}}}
	o := optim.Chain(optim.ClipNorm(1), optim.Adam(0.9, 0.999, 1e-8), optim.LearningRate(optim.Cosine(0.1, 0, 200)))
	for range 200 {
		p[0].G[0] = 2 * (p[0].W[0] - 3)
		if err := optim.Step(o, p); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Printf("w = %.2f\n", p[0].W[0])
	// Output: w = 3.00
}
