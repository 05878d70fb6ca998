package passes_test

import (
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
)

func TestIsWeight(t *testing.T) {
	for _, c := range []struct {
		name string
		dims []int
		want bool
	}{
		{"layer.weight", []int{2, 3}, true},
		{"logit_scale", nil, true},       // a parameter of one number has a name
		{"val_12", []int{2, 3}, true},    // a matrix that the exporter transposed
		{"val_12", nil, false},           // a number of the formula
		{"val_80", []int{1}, false},      // the same in a vector
		{"val_", nil, true},              // not the exporter's
		{"val_12_bias", []int{1}, true},  // not the exporter's
		{"const/[0.5]", []int{1}, false}, // made here
		{"step2/const_3", nil, false},
	} {
		v := &graphs.Value{Name: c.name, Type: graphs.Float32, Const: graphs.NewTensor(graphs.Float32, c.dims...)}
		if got := passes.IsWeight(v); got != c.want {
			t.Errorf("%s%v: %v", c.name, c.dims, got)
		}
	}
}
