package diag

import (
	"fmt"

	"gonum.org/v1/gonum/mat"
)

// A Gaussian is a normal distribution with any covariance.
type Gaussian struct {
	Mean []float64

	root mat.TriDense // lower triangular, root·rootᵀ is the covariance
}

// FitGaussian is the Gaussian with mean and covariance of x [n, dim].
func FitGaussian(x []float32, dim int) (*Gaussian, error) {
	if dim < 1 || len(x)%dim != 0 || len(x)/dim <= dim {
		return nil, fmt.Errorf("diag: wanted more than %d examples of %d values for a covariance, got %d values", dim, dim, len(x))
	}
	mean, cov := gaussian(x, dim)
	var c mat.Cholesky
	if !c.Factorize(cov) {
		return nil, fmt.Errorf("diag: the covariance of %d examples of %d values is singular", len(x)/dim, dim)
	}
	g := &Gaussian{Mean: mean}
	c.LTo(&g.root)
	return g, nil
}

// Draw turns standard normal numbers [n, dim] into draws, in place.
func (g *Gaussian) Draw(e []float32) {
	dim := len(g.Mean)
	for at := 0; at+dim <= len(e); at += dim {
		row := e[at : at+dim]
		for i := dim - 1; i >= 0; i-- { // entries from i on are not needed below i
			v := g.Mean[i]
			for j := range i + 1 {
				v += g.root.At(i, j) * float64(row[j])
			}
			row[i] = float32(v)
		}
	}
}
