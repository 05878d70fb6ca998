package energy_test

import (
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
)

// TestHidden: without a name the layer below the last one with weights, with one any value; the energy stays
// as it is.
func TestHidden(t *testing.T) {
	spec := energy.Spec{Activation: "swish", Layers: []energy.Layer{{Filters: 3, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 4}}}
	m, err := energy.Build(spec, []int{1, 8, 8}, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	h, err := energy.Hidden(m, "")
	if err != nil {
		t.Fatal(err)
	}
	out := h.Graph.Output(energy.Units)
	if len(h.Graph.Outputs) != 1 || len(out.Shape) != 2 || out.Shape[1] != graphs.D(3*4*4) {
		t.Errorf("features %v, wanted [batch, 48]", out)
	}
	if m.Graph.Output(onnxmodels.Energy) == nil || m.Graph.Output(onnxmodels.Score) == nil {
		t.Error("the energy has lost its outputs")
	}
	if h, err = energy.Hidden(m, onnxmodels.X); err != nil || h.Graph.Output(energy.Units).Shape[1] != graphs.D(64) {
		t.Errorf("the examples themselves: %v", err)
	}
	if _, err := energy.Hidden(m, "nosuch"); err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("got %v", err)
	}
}
