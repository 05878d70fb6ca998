package energy_test

import (
	"math"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ref"
)

// weights are the live weights of a model by name.
func weights(m *onnxmodels.Model) map[string][]float32 {
	all := map[string][]float32{}
	for _, v := range passes.Weights(m.Graph) {
		all[v.Name] = v.Const.F32()
	}
	return all
}

// TestExpansion: a network grown to twice the side, with the coarse network's
// weights and its newest block not faded in, gives the coarse network's score of the
// averaged picture; faded in, it does not.
func TestExpansion(t *testing.T) {
	s := energy.Spec{Expand: &energy.Expand{Base: 2, From: 8}, Activation: "swish"}
	for _, side := range []int{8, 16} {
		coarse := build(t, s, []int{3, side, side}, 0)
		fine, err := energy.Build(s, []int{3, 2 * side, 2 * side}, 0, 2)
		if err != nil {
			t.Fatal(err)
		}
		from, to := weights(coarse), weights(fine)
		for name, w := range from {
			if w2, ok := to[name]; ok && copy(w2, w) != len(w2) {
				t.Errorf("%s has another size", name)
			}
		}
		x := floats(3, 2*3*4*side*side)
		small := make([]float32, len(x)/4)
		for i := range small {
			r, c := i/side, i%side
			at := 2*r*2*side + 2*c
			small[i] = (x[at] + x[at+1] + x[at+2*side] + x[at+2*side+1]) / 4
		}
		want := enginetest.Outputs(t, ref.New(), coarse.Model, graphs.Of(small, 2, 3, side, side))[1].F32()
		gap := func(alpha float32) float64 {
			to[energy.Fade][0] = alpha
			got := enginetest.Outputs(t, ref.New(), fine.Model, graphs.Of(x, 2, 3, 2*side, 2*side))[1].F32()
			return math.Abs(float64(got[0]-want[0])) + math.Abs(float64(got[1]-want[1]))
		}
		if g := gap(0); g > 1e-4 {
			t.Errorf("side %d: with α = 0 scores differ by %g", side, g)
		}
		if g := gap(1); g < 1e-3 {
			t.Errorf("side %d: with α = 1 scores differ by %g only", side, g)
		}
	}
}

func TestExpandRefuses(t *testing.T) {
	for want, c := range map[string]struct {
		spec energy.Spec
		dims []int
	}{
		"power of two": {energy.Spec{Expand: &energy.Expand{Base: 2, From: 8}, Activation: "swish"}, []int{1, 12, 12}},
		"from 16 on":   {energy.Spec{Expand: &energy.Expand{Base: 2, From: 16}, Activation: "swish"}, []int{1, 8, 8}},
		"base 0":       {energy.Spec{Expand: &energy.Expand{}, Activation: "swish"}, []int{1, 8, 8}},
		"no layers":    {energy.Spec{Expand: &energy.Expand{Base: 1}, Layers: []energy.Layer{{Filters: 1, Kernel: 3}}, Activation: "swish"}, []int{1, 8, 8}},
		"norm":         {energy.Spec{Layers: []energy.Layer{{Filters: 1, Kernel: 3, Norm: "batch"}}, Activation: "swish"}, []int{1, 8, 8}},
	} {
		if _, err := energy.Build(c.spec, c.dims, 0, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %q, got %v", want, err)
		}
	}
}
