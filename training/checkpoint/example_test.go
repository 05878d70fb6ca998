package checkpoint_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"ebmrun/training/checkpoint"
)

func Example() {
	dir, err := os.MkdirTemp("", "checkpoints")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	_, _, err = checkpoint.LoadNewest(dir)
	fmt.Println("fresh start:", errors.Is(err, checkpoint.ErrNone))

	s := &checkpoint.State{
		Step: 100,
		Meta: json.RawMessage(`{"scale":2}`),
		Tensors: map[string]checkpoint.Tensor{
			"energy/w":     {Shape: []int{1, 2}, Data: []float32{0.5, -0.5}},
			"noise/offset": checkpoint.Scalar(uint64(6000)),
		},
	}
	if err := checkpoint.Save(dir, s, checkpoint.Keep{Newest: 2}); err != nil {
		fmt.Println(err)
	}

	s, _, err = checkpoint.LoadNewest(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	w, err := checkpoint.Values[float32](s, "energy/w", 1, 2)
	fmt.Println(s.Step, string(s.Meta), w, err)
	// Output:
	// fresh start: true
	// 100 {"scale":2} [0.5 -0.5] <nil>
}
