package grey_test

import (
	"math"
	"testing"

	"ebmrun/training/grey"
)

func TestLevels(t *testing.T) {
	x := make([]float32, 1000)
	for i := range x {
		x[i] = float32(i)/999*2 - 1
	}
	l := grey.Spread(x, 8)
	if math.Abs(l.Lo+0.98) > 0.01 || math.Abs(l.Hi-0.98) > 0.01 {
		t.Errorf("levels from %g to %g, wanted about ±0.98", l.Lo, l.Hi)
	}
	for i, g := range l.Of(x) {
		want := max(l.Lo, min(l.Hi, float64(x[i])))
		if math.Abs(float64(l.Value(g))-want) > (l.Hi-l.Lo)/14+1e-6 {
			t.Fatalf("%g became level %d, %g", x[i], g, l.Value(g))
		}
	}
	if c := grey.Spread([]float32{3, 3, 3}, 4); !(c.Lo < c.Hi) || c.Of([]float32{3})[0] != 0 {
		t.Errorf("a constant picture: %+v", c)
	}
}
