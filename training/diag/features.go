package diag

import (
	"fmt"

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
	ma, ca := gaussian(a, dim)
	mb, cb := gaussian(b, dim)
	return Frechet(ma, ca, mb, cb)
}

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
