package autodiff_test

import (
	"fmt"
	"os"
	"path/filepath"

	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/onnxio"
)

// The gradient of a file as a file: what `ebmrun grad` does.
func ExampleGrad_file() {
	model, err := onnxio.Read(filepath.Join("..", "onnxio", "testdata", "mlp.onnx"))
	if err != nil {
		fmt.Println(err)
		return
	}
	gradient, err := autodiff.Grad(model, autodiff.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	dir, err := os.MkdirTemp("", "grad")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := onnxio.Write(filepath.Join(dir, "mlp-grad.onnx"), gradient); err != nil {
		fmt.Println(err)
		return
	}
	for _, v := range gradient.Graph.Outputs {
		fmt.Println(v)
	}
	// Output:
	// y float32[batch,3]
	// grad/x float32[batch,2]
}
