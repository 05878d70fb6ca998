package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/graphtest"
)

// TestSecondOrder differentiates the input slope of each network once more, along a random
// cotangent, as a product with its Hessian is made, and compares with a central difference
// of the slope in float64.
func TestSecondOrder(t *testing.T) {
	dir := os.Getenv("EBM_CONFORMANCE")
	if dir == "" {
		dir = "../../testdata/conformance"
	}
	all, err := filepath.Glob(filepath.Join(dir, "*", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			n, err := load(filepath.Dir(file))
			if err != nil {
				t.Fatal(err)
			}
			if size := len(n.model.Graph.Nodes); size > 500 {
				t.Skipf("%d nodes", size)
			}
			first, err := autodiff.Grad(n.model, autodiff.Options{Of: n.of, VJP: true})
			if err != nil && strings.Contains(err.Error(), "nothing to differentiate") {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			of := first.Graph.Outputs[len(n.model.Graph.Outputs)].Name
			second, err := autodiff.Grad(first, autodiff.Options{Of: of, VJP: true})
			if err != nil && strings.Contains(err.Error(), "does not depend") {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			var inputs []*graphs.Value
			for _, v := range first.Graph.Inputs {
				if v.Const == nil {
					inputs = append(inputs, v)
				}
			}
			in, err := n.feed(inputs)
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range []float64{1e-5, 1e-7, 1e-8} { // a shorter one meets fewer kinks
				if err = graphtest.GradError(first.Graph, second.Graph, in, graphtest.GradOptions{Of: of, Seeds: 1, Step: step, Tol: max(1e-4, 1e-10/step), Kinks: true}); err == nil {
					break
				}
			}
			if err != nil {
				t.Error(err)
			}
			t.Logf("%d nodes, %d with slopes, %d with slopes of slopes", len(n.model.Graph.Nodes), len(first.Graph.Nodes), len(second.Graph.Nodes))
		})
	}
}
