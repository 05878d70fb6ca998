package main

import (
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/refeval"
)

// TestCheckBesideKink: a slope beside a kink is compared on its own side of it, and a wrong one is refused.
func TestCheckBesideKink(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{Name: "kink"})
	b.Output("y", b.Op("Relu", []*graphs.Value{b.Input("x", graphs.Float64, graphs.Shape{graphs.D(1)})}))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	p, err := refeval.New(g, graphs.OpsetVersion, refeval.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := line{of: "y", program: p, in: []*graphs.Tensor{graphs.Of([]float64{3e-6}, 1)}, direction: map[string][]float64{"x": {1}}}
	for slope, right := range map[float64]bool{1: true, 0.999: false, 0: false, 1.001: false} {
		if _, _, err := l.agrees(t.Context(), slope, 0); (err == nil) != right {
			t.Errorf("slope %g: %v", slope, err)
		}
	}
}
