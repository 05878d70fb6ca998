package shortrun_test

import (
	"context"
	"fmt"

	"ebmrun/training/sampler"
	"ebmrun/training/shortrun"
)

// A well in the plane: two short steps move a start towards its middle, and a
// start can be found that ends at a given point.
func ExampleGenerator_Reconstruct() {
	g := &shortrun.Generator{
		Field:  quadratic{p: []float32{1, 1}, a: []float32{2, 0}},
		Kernel: sampler.Langevin{Size: 1},
		K:      2, Dim: 2,
		Sigma: 1, // the well is that of a Gaussian reference
	}
	ctx := context.Background()
	x, err := g.Map(ctx, []float32{0, 4})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("end:", x)
	r, err := g.Reconstruct(ctx, x, []float32{0, 0}, 200, 4)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("start: %.3f\n", r.Z)
	// Output:
	// end: [1.5 1]
	// start: [0.000 4.000]
}
