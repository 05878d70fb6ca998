package energy_test

import (
	"math"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ref"
	"ebmrun/training/filters"
)

// TestResponses: the score of the graph is that of the same filters in plain Go,
// over a picture whose edges meet and where the filters fit, with one weight a
// filter or one for each place.
func TestResponses(t *testing.T) {
	const h, w = 12, 11
	bank, err := filters.Round([]float64{3}, 2)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := filters.Kernels(append(bank, append(filters.Differences(), filters.Intensity())...))
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) != 3 {
		t.Fatalf("wanted groups of filters of 9×9, 3×3 and 1×1, got %d", len(groups))
	}
	x := floats(4, h*w)
	for _, circular := range []bool{true, false} {
		for _, tied := range []bool{true, false} {
			m, err := energy.Linear([]int{1, h, w}, 1, tied, energy.Responses(groups, circular))
			if err != nil {
				t.Fatal(err)
			}
			want := 0.0
			for i, theta := range passes.Weights(m.Graph) {
				copy(theta.Const.F32(), floats(uint64(i), theta.Const.Len()))
				size := groups[i].Size
				k := len(groups[i].Taps) / size / size
				for j := range k {
					f := filters.Filter{Size: size, Taps: groups[i].Taps[j*size*size : (j+1)*size*size]}
					r := make([]float32, h*w)
					if circular {
						f.Circular(r, x, h, w)
					} else {
						r = r[:(h-size+1)*(w-size+1)]
						f.Inside(r, x, h, w)
					}
					for p, v := range r {
						at := j
						if !tied {
							at = j*len(r) + p
						}
						want += float64(theta.Const.F32()[at]) * math.Abs(float64(v))
					}
				}
			}
			got := enginetest.Outputs(t, ref.New(), m.Model, graphs.Of(x, 1, 1, h, w))[1].F32()[0]
			if math.Abs(float64(got)-want) > 1e-3 {
				t.Errorf("circular %v, tied %v: wanted a score of %g, got %g", circular, tied, want, got)
			}
			gradients(t, m, 2, 1e-8)
		}
	}
}

// TestAtoms: f = Σ θ_j·|⟨x, B_j⟩|.
func TestAtoms(t *testing.T) {
	taps, x, theta := floats(1, 3*6), floats(2, 6), []float32{0.5, -1, 2}
	m, err := energy.Linear([]int{1, 2, 3}, 1, false, energy.Atoms(taps))
	if err != nil {
		t.Fatal(err)
	}
	weights := passes.Weights(m.Graph)
	if len(weights) != 1 || weights[0].Const.Len() != 3 {
		t.Fatalf("wanted 3 weights, got %v", weights)
	}
	copy(weights[0].Const.F32(), theta)
	want := 0.0
	for j, v := range theta {
		r := 0.0
		for i, a := range taps[6*j : 6*j+6] {
			r += float64(a) * float64(x[i])
		}
		want += float64(v) * math.Abs(r)
	}
	if got := enginetest.Outputs(t, ref.New(), m.Model, graphs.Of(x, 1, 1, 2, 3))[1].F32()[0]; math.Abs(float64(got)-want) > 1e-4 {
		t.Errorf("wanted a score of %g, got %g", want, got)
	}
	gradients(t, m, 2, 1e-8)
}

func TestResponsesErrors(t *testing.T) {
	for want, c := range map[string]struct {
		dims []int
		f    energy.Features
	}{
		"do not fit":  {[]int{1, 4, 4}, energy.Responses([]energy.Kernels{{Size: 5, Taps: make([]float32, 25)}}, false)},
		"grey":        {[]int{3, 8, 8}, energy.Responses([]energy.Kernels{{Size: 3, Taps: make([]float32, 9)}}, true)},
		"got 10 taps": {[]int{1, 8, 8}, energy.Responses([]energy.Kernels{{Size: 3, Taps: make([]float32, 10)}}, true)},
		"some of 16":  {[]int{1, 4, 4}, energy.Atoms(make([]float32, 15))},
		"no features": {[]int{1, 4, 4}, energy.Responses(nil, false)},
	} {
		if _, err := energy.Linear(c.dims, 1, true, c.f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %q, got %v", want, err)
		}
	}
}
