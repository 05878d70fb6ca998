package graphtest

import (
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
)

// Exported reads what another framework has made: the model in path.onnx.gz, and in path.f32 the numbers
// that belong to it, float32 one after another.
func Exported(t testing.TB, path string) (*graphs.Model, []float32) {
	t.Helper()
	f, err := os.Open(path + ".onnx.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnxio.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path + ".f32")
	if err != nil {
		t.Fatal(err)
	}
	numbers := make([]float32, len(raw)/4)
	if _, err := binary.Decode(raw, binary.LittleEndian, numbers); err != nil {
		t.Fatal(err)
	}
	return m, numbers
}
