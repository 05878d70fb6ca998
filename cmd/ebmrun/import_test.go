package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImport takes artifacts of other people's tools: the file that comes out can
// be differentiated in its weights.
func TestImport(t *testing.T) {
	foreign := filepath.Join("..", "..", "export", "ondevice", "testdata", "foreign")
	dir := t.TempDir()
	model := filepath.Join(dir, "model.onnx")
	ebmrun(t, "import", foreign, "--from", "ort-training", "-o", model).wantOut(t, "38 weights in 4 tensors")
	ebmrun(t, "inspect", model).wantOut(t, "parameters  4 tensors")
	ebmrun(t, "grad", model, "--wrt-params", "--check", "-o", filepath.Join(dir, "grad.onnx")).wantOut(t, "")

	ebmrun(t, "import", foreign, "--from", "tensorflow", "-o", model).wantError(t, 2, "ort-training", "tensorflow")
	ebmrun(t, "import", dir, "-o", filepath.Join(dir, "x.onnx")).wantError(t, 2, "checkpoint")
	bad := filepath.Join(dir, "bad")
	if err := os.Mkdir(bad, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bad, "checkpoint"), []byte(strings.Repeat("ODTC", 20)), 0o666); err != nil {
		t.Fatal(err)
	}
	ebmrun(t, "import", bad, "-o", filepath.Join(dir, "y.onnx")).wantError(t, 2, "checkpoint")
	if _, err := os.Stat(filepath.Join(dir, "y.onnx")); err == nil {
		t.Error("a file was written")
	}
}
