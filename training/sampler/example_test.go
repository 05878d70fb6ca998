package sampler_test

import (
	"context"
	"fmt"

	"ebmrun/training/sampler"
)

// wells is U = (x² − 1)²·4: two wells at −1 and 1.
type wells struct{}

func (wells) EnergyGrad(x, u, g []float32) error {
	for i, v := range x {
		u[i] = 4 * (v*v - 1) * (v*v - 1)
		g[i] = 16 * v * (v*v - 1)
	}
	return nil
}

func ExampleRun() {
	chains := sampler.Chains(0, 1000)
	s, err := sampler.NewState(make([]float32, 1000), 1, chains)
	if err != nil {
		fmt.Println(err)
		return
	}
	kernel := sampler.Langevin{Size: 0.1, Noise: 1}
	if _, err := sampler.Run(context.Background(), sampler.Noise{Seed: 1}, kernel, wells{}, s, 300, nil); err != nil {
		fmt.Println(err)
		return
	}
	left, right := 0, 0
	for _, x := range s.X {
		switch {
		case x < -0.5:
			left++
		case x > 0.5:
			right++
		}
	}
	fmt.Println("each well holds at least 400 of 1000 chains:", left >= 400 && right >= 400)
	// Output: each well holds at least 400 of 1000 chains: true
}
