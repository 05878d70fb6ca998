package sampler_test

import (
	"math"
	"testing"

	"ebmrun/training/sampler"
)

// TestChoose: frequencies follow the weights, however far from zero these are.
func TestChoose(t *testing.T) {
	const draws = 100000
	r := sampler.Stream(1, 2, 3)
	for _, shift := range []float64{0, -900, 900} {
		var count [3]float64
		for range draws {
			count[sampler.Choose(r, []float64{shift + math.Log(1), shift + math.Log(2), shift + math.Log(5)})]++
		}
		for i, share := range []float64{0.125, 0.25, 0.625} {
			if math.Abs(count[i]/draws-share) > 0.006 {
				t.Errorf("shift %g: value %d: wanted a share of %g, got %g", shift, i, share, count[i]/draws)
			}
		}
	}
}

func TestStream(t *testing.T) {
	a, b, c := sampler.Stream(1, 2, 3), sampler.Stream(1, 2, 3), sampler.Stream(1, 3, 2)
	if x, y := a.Uint64(), b.Uint64(); x != y {
		t.Errorf("the same stream gave %d and %d", x, y)
	} else if x == c.Uint64() {
		t.Error("different streams begin alike")
	}
}
