package passes

import (
	"os"
	"path/filepath"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
)

// FuzzPasses feeds damaged files through every pass that works on files: none
// may panic, and what comes out must be a graph that can be written.
func FuzzPasses(f *testing.F) {
	for _, g := range []func(testing.TB) *graphs.Graph{mlp, branch} {
		b, err := onnxio.Encode(graphs.NewModel(g(f)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	old, _ := filepath.Glob("../onnxio/testdata/*.onnx")
	for _, name := range old {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := onnxio.Decode(b)
		if err != nil || Raise(m) != nil {
			return
		}
		if _, err := InlineFunctions(m); err != nil || graphs.Check(m.Graph) != nil || Reinfer(m.Graph) != nil {
			return
		}
		for _, pass := range []func(*graphs.Graph) (bool, error){FoldConstants, Simplify, CSE, Prune} {
			if _, err := pass(m.Graph); err != nil {
				return
			}
			if err := graphs.Check(m.Graph); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := onnxio.Encode(m); err != nil {
			t.Fatal(err)
		}
	})
}
