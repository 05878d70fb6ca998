package diag

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
)

// FrechetFeatures is the squared Fréchet distance of the Gaussians fitted to two sets of rows of dim
// features, with unbiased covariances: an FID where the features are those of the Inception network that
// the name belongs to, and comparable only between equal networks and numbers of rows. With fewer rows
// than features the covariances are singular and the value is biased upwards.
func FrechetFeatures(a, b []float32, dim int) (float64, error) {
	if _, _, err := pair("fréchet features", a, b, dim, 2); err != nil {
		return 0, err
	}
	if dim > 4096 {
		return 0, fmt.Errorf("diag: fréchet features: %d features, want at most 4096", dim)
	}
	if max(len(a), len(b)) <= dim*dim {
		return frechetRows(a, b, dim)
	}
	ma, ca := gaussian(a, dim)
	mb, cb := gaussian(b, dim)
	return Frechet(ma, ca, mb, cb)
}

// frechetRows is FrechetFeatures of no more rows than features. With covariances AᵀA and BᵀB
// of centred rows, the trace of the root of their product is the sum of the singular values of A·Bᵀ.
func frechetRows(a, b []float32, dim int) (float64, error) {
	ma, x := centred(a, dim)
	mb, y := centred(b, dim)
	var cross mat.Dense
	cross.Mul(x, y.T())
	var s mat.SVD
	if !s.Factorize(&cross, mat.SVDNone) {
		return 0, fmt.Errorf("diag: fréchet features: no singular values of the rows' products")
	}
	sum := square(mat.Norm(x, 2)) + square(mat.Norm(y, 2)) - 2*floats.Sum(s.Values(nil)) + square(floats.Distance(ma, mb, 2))
	return math.Max(0, sum), nil
}

// centred are the means of the columns and the rows less those, over √(n − 1).
func centred(x []float32, dim int) ([]float64, *mat.Dense) {
	means, n := columnMeans(x, dim), len(x)/dim
	rows := mat.NewDense(n, dim, nil)
	for i, v := range x {
		rows.Set(i/dim, i%dim, (float64(v)-means[i%dim])/math.Sqrt(float64(n-1)))
	}
	return means, rows
}

func square(v float64) float64 { return v * v }

func gaussian(x []float32, dim int) ([]float64, *mat.SymDense) {
	wide := make([]float64, len(x))
	for i, v := range x {
		wide[i] = float64(v)
	}
	m := mat.NewDense(len(x)/dim, dim, wide)
	var cov mat.SymDense
	stat.CovarianceMatrix(&cov, m, nil)
	return columnMeans(x, dim), &cov
}
