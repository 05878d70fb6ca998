package generativeconvnet_test

import (
	"context"
	"fmt"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/generativeconvnet"
)

// An energy learns eight Gaussians on a circle, in plain Go; with ort.Open("") in place of ref.New()
// ONNX Runtime computes it.
func Example() {
	distance, err := learnRings()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("samples come three times closer to the data:", distance[1] < distance[0]/3)
	// Output: samples come three times closer to the data: true
}

// learnRings returns the energy distance of samples to held-out data before and after learning.
func learnRings() (distance [2]float64, err error) {
	ctx := context.Background()
	train, err := data.Load(ctx, "synthetic/rings", data.Options{Part: "train"})
	if err != nil {
		return distance, err
	}
	held, err := data.Load(ctx, "synthetic/rings", data.Options{Part: "test", Limit: 500})
	if err != nil {
		return distance, err
	}

	c, err := generativeconvnet.For("rings-demo", train.Dims(), train.N) // a preset of `ebmrun train`
	if err != nil {
		return distance, err
	}
	c.Steps, c.Batch, c.Langevin.Steps, c.Langevin.Fused = 120, 50, 10, false
	spec, err := c.Network()
	if err != nil {
		return distance, err
	}
	model, err := energy.Build(spec, train.Dims(), c.Reference.Sigma, 1)
	if err != nil {
		return distance, err
	}
	net, err := bind.New(ctx, model, ref.New(), bind.Options{})
	if err != nil {
		return distance, err
	}
	defer net.Close()

	system, err := generativeconvnet.New(c, net, train, 1)
	if err != nil {
		return distance, err
	}
	for i := range distance {
		x, err := system.Samples(ctx, held.N)
		if err != nil {
			return distance, err
		}
		if distance[i], err = diag.EnergyDistance(held.X(), x, train.Dim()); err != nil {
			return distance, err
		}
		if err := training.Run(ctx, system, training.Options{Steps: c.Steps}); err != nil {
			return distance, err
		}
	}
	return distance, nil
}
