package diag

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestFrechetFeatures: the four points (±a, ±b) have the covariance
// diag(a², b²)·4/3 exactly, so that the distance has a closed form.
func TestFrechetFeatures(t *testing.T) {
	corners := func(x, y, a, b float32) []float32 {
		return []float32{x + a, y + b, x + a, y - b, x - a, y + b, x - a, y - b}
	}
	got := must(FrechetFeatures(corners(0, 0, 1, 2), corners(3, -1, 2, 0.5), 2))
	root := math.Sqrt(4.0 / 3)
	near(t, "two Gaussians", got, 9+1+root*root*(1+1.5*1.5), 1e-6)
	near(t, "the same", must(FrechetFeatures(corners(5, 5, 1, 2), corners(5, 5, 1, 2), 2)), 0, 1e-6)
	// Fewer rows than features: both ways of working it out.
	r := rand.New(rand.NewPCG(3, 4))
	draw := func(n int, scale float64) []float32 {
		x := make([]float32, n*40)
		for i := range x {
			x[i] = float32(scale * (r.NormFloat64() + float64(i%40)/9))
		}
		return x
	}
	x, y := draw(12, 1), draw(30, 1.5)
	ma, ca := gaussian(x, 40)
	mb, cb := gaussian(y, 40)
	want := must(Frechet(ma, ca, mb, cb))
	near(t, "few rows", must(FrechetFeatures(x, y, 40)), want, 1e-5*want)
	if _, err := FrechetFeatures(make([]float32, 6), make([]float32, 6), 4); err == nil {
		t.Error("rows that do not fit are accepted")
	}
}
