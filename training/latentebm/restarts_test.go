package latentebm_test

import (
	"testing"

	"ebmrun/training/latentebm"
)

// TestRestarts: of several chains the likeliest code explains an example, the first chain's among them.
func TestRestarts(t *testing.T) {
	set := normal(t, 30, 1, 1, -1)
	score := func(restarts int) []float64 {
		prior := newTilt(1, 0, 0)
		s := system(t, config(func(c *latentebm.Config) { c.Batch, c.Infer, c.Restarts = 20, 5, restarts }), prior, newLinear(prior, 1, 0, 0, 1), set)
		_, v, err := s.Score(t.Context(), set.X(), 7)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	one, five, better := score(1), score(5), 0
	for i := range one {
		if five[i] < one[i] {
			t.Errorf("example %d: five chains find %g, the first of them %g", i, five[i], one[i])
		}
		if five[i] > one[i] {
			better++
		}
	}
	if better < len(one)/2 {
		t.Errorf("%d of %d examples are explained better by five chains than by one", better, len(one))
	}
}
