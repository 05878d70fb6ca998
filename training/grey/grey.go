// Package grey turns pictures into a few grey levels and back, for models of discrete pictures.
package grey

import (
	"math"
	"slices"
)

// Levels are equally spaced grey levels 0 … N−1 whose ends stand for the values Lo and Hi.
type Levels struct {
	Lo, Hi float64
	N      int
}

// Spread lays n levels over all but the darkest and the brightest hundredth of the values.
func Spread(x []float32, n int) Levels {
	all := slices.Clone(x)
	slices.Sort(all)
	l := Levels{float64(all[len(all)/100]), float64(all[len(all)-1-len(all)/100]), n}
	if !(l.Lo < l.Hi) {
		l.Lo, l.Hi = float64(all[0]), float64(all[len(all)-1])
	}
	if !(l.Lo < l.Hi) {
		l.Hi = l.Lo + 1
	}
	return l
}

// Of are the nearest levels of values.
func (l Levels) Of(x []float32) []uint8 {
	top := float64(l.N - 1)
	out := make([]uint8, len(x))
	for i, v := range x {
		out[i] = uint8(math.Round(max(0, min(top, (float64(v)-l.Lo)/(l.Hi-l.Lo)*top))))
	}
	return out
}

// Value is what a level stands for.
func (l Levels) Value(level uint8) float32 {
	return float32(l.Lo + (l.Hi-l.Lo)*float64(level)/float64(l.N-1))
}
