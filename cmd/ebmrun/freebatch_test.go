package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
)

// Networks as PyTorch exports them, with the batch in Reshape and Expand
// constants: the command compares the rows of both models itself.
func TestFreeBatch(t *testing.T) {
	for _, name := range []string{"torchvision_swin-16", "torchvision_vit", "gru_bidirectional-17", "lstm_bidirectional_2_layers", "unet-13", "transformer_decoder"} {
		t.Run(name, func(t *testing.T) {
			in := filepath.Join("..", "..", "testdata", "conformance", name, "model.onnx")
			out := filepath.Join(t.TempDir(), "free.onnx")
			r := ebmrun(t, "--provider", "cpu", "inspect", in, "--free-batch", "-o", out)
			r.wantOut(t, "rows are those of the old model")
			m, err := onnxio.Read(out)
			if err != nil {
				t.Fatal(err)
			}
			if d := m.Graph.Outputs[0].Shape[0]; !d.Same(graphs.Sym("batch")) {
				t.Errorf("output %v", m.Graph.Outputs[0])
			}
			// and so has the gradient
			ebmrun(t, "grad", out, "--wrt", m.Graph.Inputs[0].Name, "-o", filepath.Join(t.TempDir(), "grad.onnx")).wantOut(t, "grad.onnx")
		})
	}
}

func TestFreeBatchRefusal(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{Name: "mixed"})
	x := b.Input("x", graphs.Float32, graphs.MakeShape(2, 3))
	b.Output("y", b.Sub(x, b.Mean(x, true, 0)))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	in := save(t, graphs.NewModel(g))
	out := filepath.Join(filepath.Dir(in), "free.onnx")
	r := ebmrun(t, "inspect", in, "--free-batch", "-o", out)
	if r.status != 2 || !strings.Contains(r.errOut, "ReduceMean") || strings.Count(strings.TrimSpace(r.errOut), "\n") != 0 {
		t.Errorf("status %d, %q", r.status, r.errOut)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a file was written")
	}
	if r := ebmrun(t, "inspect", in, "--free-batch"); r.status != 2 {
		t.Errorf("without a file to write: status %d", r.status)
	}
}
