package onnxio_test

import (
	"fmt"
	"os"
	"path/filepath"

	"ebmrun/graphs/onnxio"
)

func Example() {
	m, err := onnxio.Read(filepath.Join("testdata", "mlp.onnx"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("opset", m.Opset(""), "reads", m.Graph.Inputs[0], "gives", m.Graph.Outputs[0])

	dir, err := os.MkdirTemp("", "onnxio")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	m.SetMeta("note", "read and written back")
	if err := onnxio.Write(filepath.Join(dir, "copy.onnx"), m); err != nil {
		fmt.Println(err)
		return
	}
	again, err := onnxio.Read(filepath.Join(dir, "copy.onnx"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(again.Meta("note"))

	_, err = onnxio.Decode([]byte("not a model"))
	fmt.Println(err)
	// Output:
	// opset 13 reads x float32[batch,2] gives y float32[batch,3]
	// read and written back
	// onnx: byte 0: field 13 is cut short or damaged
}
