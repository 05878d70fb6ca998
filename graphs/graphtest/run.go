package graphtest

import (
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/refeval"
)

// Run is what the interpreter makes of a model's inputs, in float64 where they are.
func Run(t testing.TB, m *graphs.Model, in ...*graphs.Tensor) []*graphs.Tensor {
	t.Helper()
	p, err := refeval.New(m.Graph, graphs.OpsetVersion, refeval.Options{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
