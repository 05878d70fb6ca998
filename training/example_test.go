package training_test

import (
	"context"
	"encoding/json"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
)

// descent is a whole learning system: gradient descent on (w − 3)².
type descent struct {
	W, Rate float64
	Steps   int
}

func (d *descent) Step(context.Context) (training.Metrics, error) {
	slope := 2 * (d.W - 3)
	d.W -= d.Rate * slope
	d.Steps++
	return training.Metrics{"w": d.W, "slope": slope}, nil
}

func (d *descent) Iteration() int      { return d.Steps }
func (d *descent) Slow(factor float64) { d.Rate *= factor }

func (d *descent) Save() (*checkpoint.State, error) {
	meta, err := json.Marshal(d)
	return &checkpoint.State{Step: d.Steps, Tensors: map[string]checkpoint.Tensor{}, Meta: meta}, err
}

func (d *descent) Restore(s *checkpoint.State) error { return json.Unmarshal(s.Meta, d) }

func ExampleRun() {
	d := &descent{Rate: 0.4}
	err := training.Run(context.Background(), d, training.Options{
		Steps:  4,
		OnStep: func(step int, m training.Metrics) { fmt.Printf("%d: w %.3f, slope %.3f\n", step, m["w"], m["slope"]) },
	})
	fmt.Println(err)
	// Output:
	// 1: w 2.400, slope -6.000
	// 2: w 2.880, slope -1.200
	// 3: w 2.976, slope -0.240
	// 4: w 2.995, slope -0.048
	// <nil>
}
