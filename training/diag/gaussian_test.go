package diag

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestGaussian: draws have the mean and the covariance that was fitted.
func TestGaussian(t *testing.T) {
	const n = 40000
	rng := rand.New(rand.NewPCG(1, 2))
	x, e := make([]float32, 3*n), make([]float32, 3*n)
	for i := range n {
		a, b, c := rng.NormFloat64(), rng.NormFloat64(), rng.NormFloat64()
		copy(x[3*i:], []float32{float32(1 + 2*a), float32(a - b), float32(0.3*c + b - 2)})
	}
	for i := range e {
		e[i] = float32(rng.NormFloat64())
	}
	g, err := FitGaussian(x, 3)
	if err != nil {
		t.Fatal(err)
	}
	g.Draw(e)
	mean, cov := gaussian(e, 3)
	for i, want := range []float64{1, 0, -2} {
		if math.Abs(mean[i]-want) > 0.04 {
			t.Errorf("mean %d: wanted %g, got %g", i, want, mean[i])
		}
		for j, want := range [][]float64{{4, 2, 0}, {2, 2, -1}, {0, -1, 1.09}}[i] {
			if math.Abs(cov.At(i, j)-want) > 0.1 {
				t.Errorf("covariance %d, %d: wanted %g, got %g", i, j, want, cov.At(i, j))
			}
		}
	}
	if _, err := FitGaussian(x[:9], 3); err == nil {
		t.Error("three examples have a covariance of three values")
	}
	for i := range x {
		x[i] = x[i-i%3]
	}
	if _, err := FitGaussian(x, 3); err == nil {
		t.Error("equal values have a density")
	}
}
