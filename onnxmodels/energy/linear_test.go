package energy_test

import (
	"math"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ref"
)

// bank is two maps of fixed features of a picture [1, 4, 4]: |x ∗ w| for two
// 2×2 filters, and x itself.
func bank(b *graphs.Builder, x *graphs.Value) []*graphs.Value {
	w := b.Const(graphs.Of([]float32{1, 2, -1, 0, -1, 1, 1, -2}, 2, 1, 2, 2))
	r := b.Op("Conv", []*graphs.Value{x, w}, graphs.IntsAttr("kernel_shape", 2, 2))
	return []*graphs.Value{b.Op("Abs", []*graphs.Value{r}), x}
}

// bankStatistics works out the features of one picture by hand.
func bankStatistics(x []float32) (abs [2][9]float64) {
	for p := range 9 {
		a, b, c, d := float64(x[p/3*4+p%3]), float64(x[p/3*4+p%3+1]), float64(x[(p/3+1)*4+p%3]), float64(x[(p/3+1)*4+p%3+1])
		abs[0][p], abs[1][p] = math.Abs(a+2*b-c), math.Abs(-a+b+c-2*d)
	}
	return abs
}

// TestLinear: the score is the weighted sum of the features, its slopes in the
// weights are the features' sums, and only the weights of the top can be learned.
func TestLinear(t *testing.T) {
	const sigma = 1.5
	x := floats(3, 32)
	for _, stationary := range []bool{true, false} {
		m, err := energy.Linear([]int{1, 4, 4}, sigma, stationary, bank)
		if err != nil {
			t.Fatal(err)
		}
		weights := passes.Weights(m.Graph)
		if len(weights) != 2 || weights[0].Name != "theta1" || weights[1].Name != "theta2" {
			t.Fatalf("wanted the weights theta1 and theta2, got %v", weights)
		}
		for i, w := range weights {
			copy(w.Const.F32(), floats(uint64(i), w.Const.Len()))
		}
		gradients(t, m, 2, 1e-8)
		grad, err := autodiff.Grad(m.Model, autodiff.Options{Of: onnxmodels.Score, Params: true})
		if err != nil {
			t.Fatal(err)
		}
		out := enginetest.Outputs(t, ref.New(), grad, graphs.Of(x, 2, 1, 4, 4))
		at := func(name string) []float32 {
			for i, v := range grad.Graph.Outputs {
				if v.Name == name {
					return out[i].F32()
				}
			}
			t.Fatalf("no output %s", name)
			return nil
		}
		one, two := weights[0].Const.F32(), weights[1].Const.F32()
		slope := make([]float64, len(one))
		for n := range 2 {
			var f, square float64
			for k, row := range bankStatistics(x[n*16 : n*16+16]) {
				for p, h := range row {
					i := k
					if !stationary {
						i = k*9 + p
					}
					f += float64(one[i]) * h
					slope[i] += h
				}
			}
			for p, v := range x[n*16 : n*16+16] {
				i := 0
				if !stationary {
					i = p
				}
				f += float64(two[i]) * float64(v)
				square += float64(v) * float64(v)
			}
			if got := float64(at(onnxmodels.Score)[n]); math.Abs(got-f) > 1e-4 {
				t.Errorf("stationary %v: score of example %d: wanted %g, got %g", stationary, n, f, got)
			}
			if got, want := float64(at(onnxmodels.Energy)[n]), square/(2*sigma*sigma)-f; math.Abs(got-want) > 1e-4 {
				t.Errorf("stationary %v: energy of example %d: wanted %g, got %g", stationary, n, want, got)
			}
		}
		for i, got := range at("grad/theta1") {
			if math.Abs(float64(got)-slope[i]) > 1e-4 {
				t.Errorf("stationary %v: slope in theta1[%d]: wanted the sum of the feature, %g, got %g", stationary, i, slope[i], got)
			}
		}
	}
}

func TestLinearErrors(t *testing.T) {
	for want, features := range map[string]energy.Features{
		"no features": func(*graphs.Builder, *graphs.Value) []*graphs.Value { return nil },
		"layer theta": func(b *graphs.Builder, x *graphs.Value) []*graphs.Value {
			return []*graphs.Value{b.Sum(x, false, 1, 2, 3)}
		},
	} {
		if _, err := energy.Linear([]int{1, 4, 4}, 1, true, features); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %q, got %v", want, err)
		}
	}
	if _, err := energy.Linear([]int{1, 4, 4}, -1, true, bank); err == nil {
		t.Error("a negative deviation is accepted")
	}
}
