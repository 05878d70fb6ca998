package diag

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
)

// Frechet is the squared Fréchet (2-Wasserstein) distance of two Gaussians,
//
//	|m₁ − m₂|² + Tr(C₁ + C₂ − 2·(C₁·C₂)^½).
//
// The trace of the root is the sum of the roots of the eigenvalues of C₁^½·C₂·C₁^½, which is symmetric.
func Frechet(m1 []float64, c1 *mat.SymDense, m2 []float64, c2 *mat.SymDense) (float64, error) {
	d := len(m1)
	if d == 0 || len(m2) != d || c1.SymmetricDim() != d || c2.SymmetricDim() != d {
		return 0, fmt.Errorf("diag: frechet: means of %d and %d, covariances of %d and %d", d, len(m2), c1.SymmetricDim(), c2.SymmetricDim())
	}
	var e mat.EigenSym
	if !e.Factorize(c1, true) {
		return 0, fmt.Errorf("diag: frechet: no eigenvalues of the first covariance")
	}
	var v, scaled, root, tmp, inner mat.Dense
	e.VectorsTo(&v)
	roots := e.Values(nil)
	for i, l := range roots {
		roots[i] = math.Sqrt(math.Max(0, l))
	}
	scaled.Mul(&v, mat.NewDiagDense(d, roots))
	root.Mul(&scaled, v.T())
	tmp.Mul(&root, c2)
	inner.Mul(&tmp, &root)
	if !e.Factorize(symmetric(&inner), false) {
		return 0, fmt.Errorf("diag: frechet: no eigenvalues of the product of the covariances")
	}
	sum := mat.Trace(c1) + mat.Trace(c2)
	for _, l := range e.Values(nil) {
		sum -= 2 * math.Sqrt(math.Max(0, l))
	}
	for i := range m1 {
		sum += (m1[i] - m2[i]) * (m1[i] - m2[i])
	}
	return math.Max(0, sum), nil
}

// An FD measures the Fréchet distance of samples on the leading principal components of real data.
// With 16 components this is FD-PCA: it needs no feature network and is not an FID.
type FD struct{ *PCA }

// FitFD takes k components (16 is usual) from real training rows.
func FitFD(train []float32, dim, k int) (FD, error) {
	p, err := FitPCA(train, dim, k)
	return FD{p}, err
}

// Distance is the squared Fréchet distance of the Gaussians fitted to the components of a and of b,
// with unbiased covariances. Each sample needs more rows than there are components.
func (f FD) Distance(a, b []float32) (float64, error) {
	if _, _, err := pair("fréchet distance", a, b, f.Dim, f.K+1); err != nil {
		return 0, err
	}
	ma, ca, err := f.moments(a)
	if err != nil {
		return 0, err
	}
	mb, cb, err := f.moments(b)
	if err != nil {
		return 0, err
	}
	return Frechet(ma, ca, mb, cb)
}

func (f FD) moments(x []float32) ([]float64, *mat.SymDense, error) {
	c, err := f.Coefficients(x)
	if err != nil {
		return nil, nil, err
	}
	mean := make([]float64, f.K)
	for j := range mean {
		mean[j] = stat.Mean(mat.Col(nil, j, c), nil)
	}
	var cov mat.SymDense
	stat.CovarianceMatrix(&cov, c, nil)
	return mean, &cov, nil
}

// Floor is the distance of two disjoint random halves of real rows: what a perfect sampler would get
// with samples of half that number.
func (f FD) Floor(real []float32, seed uint64) (float64, error) {
	n, err := rows("fréchet floor", real, f.Dim, 2*(f.K+1))
	if err != nil {
		return 0, err
	}
	perm := rand.New(rand.NewPCG(seed, 0xf100)).Perm(n)
	half := make([]float32, 0, n*f.Dim)
	for _, i := range perm[:n/2*2] {
		half = append(half, real[i*f.Dim:(i+1)*f.Dim]...)
	}
	return f.Distance(half[:n/2*f.Dim], half[n/2*f.Dim:])
}
