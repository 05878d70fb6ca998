package diag

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// A PCA is the mean and the leading principal components of some data.
type PCA struct {
	Dim, K   int
	Mean     []float64  // [Dim]
	Basis    *mat.Dense // [Dim, K], orthonormal columns
	Variance []float64  // [K], along each component, descending
}

// maxFitRows bounds the rows that a fit in more dimensions than that looks at.
const maxFitRows = 2048

// FitPCA finds the k leading components of the rows of x. Where both rows and dimensions exceed 2048
// it looks at 2048 rows, evenly spaced. Variances are unbiased (divisor n-1).
func FitPCA(x []float32, dim, k int) (*PCA, error) {
	n, err := rows("pca", x, dim, 2)
	if err != nil {
		return nil, err
	}
	use := n
	if dim > maxFitRows {
		use = min(n, maxFitRows)
	}
	if k < 1 || k > min(dim, use-1) {
		return nil, fmt.Errorf("diag: pca: %d rows of %d values have at most %d components, want %d", use, dim, min(dim, use-1), k)
	}
	p := &PCA{Dim: dim, K: k, Mean: make([]float64, dim)}
	m := mat.NewDense(use, dim, nil)
	for i := range use {
		row := m.RawRowView(i)
		src := x[i*n/use*dim:][:dim]
		for j, v := range src {
			row[j] = float64(v)
			p.Mean[j] += float64(v) / float64(use)
		}
	}
	for i := range use {
		row := m.RawRowView(i)
		for j := range row {
			row[j] -= p.Mean[j]
		}
	}
	var gram mat.SymDense
	if dim <= use {
		gram.SymOuterK(1/float64(use-1), m.T())
	} else {
		gram.SymOuterK(1/float64(use-1), m)
	}
	values, vectors, err := topEigen(&gram, k)
	if err != nil {
		return nil, err
	}
	p.Variance = values
	if dim <= use {
		p.Basis = vectors
		return p, nil
	}
	// Eigenvectors u of X·Xᵀ give those of Xᵀ·X as Xᵀ·u, up to their length.
	p.Basis = new(mat.Dense)
	p.Basis.Mul(m.T(), vectors)
	for c := range k {
		norm := mat.Norm(p.Basis.ColView(c), 2)
		if norm == 0 {
			return nil, fmt.Errorf("diag: pca: the data has only %d components of positive variance, want %d", c, k)
		}
		for j := range dim {
			p.Basis.Set(j, c, p.Basis.At(j, c)/norm)
		}
	}
	return p, nil
}

// Coefficients are the coordinates of the rows of x along the components, [n, K].
func (p *PCA) Coefficients(x []float32) (*mat.Dense, error) {
	n, err := rows("pca", x, p.Dim, 1)
	if err != nil {
		return nil, err
	}
	const block = 256
	out := mat.NewDense(n, p.K, nil)
	buf := mat.NewDense(block, p.Dim, nil)
	for at := 0; at < n; at += block {
		b := min(block, n-at)
		for i := range b {
			row := buf.RawRowView(i)
			for j, v := range x[(at+i)*p.Dim:][:p.Dim] {
				row[j] = float64(v) - p.Mean[j]
			}
		}
		dst := out.Slice(at, at+b, 0, p.K).(*mat.Dense)
		dst.Mul(buf.Slice(0, b, 0, p.Dim), p.Basis)
	}
	return out, nil
}

// Rebuild is what the components make of the rows of x: their projections, [n·Dim].
func (p *PCA) Rebuild(x []float32) ([]float32, error) {
	c, err := p.Coefficients(x)
	if err != nil {
		return nil, err
	}
	var m mat.Dense
	m.Mul(c, p.Basis.T())
	y := make([]float32, len(x))
	for i := range y {
		y[i] = float32(m.At(i/p.Dim, i%p.Dim) + p.Mean[i%p.Dim])
	}
	return y, nil
}

// fullEigen is the order up to which a full eigen-decomposition is quick enough.
const fullEigen = 256

// topEigen is the k largest eigenvalues of a positive semi-definite matrix, descending, and their
// vectors as columns. Large matrices go through subspace iteration with Rayleigh-Ritz projection (Halko,
// Martinsson and Tropp 2011), which starts from fixed random vectors and falls back on the full
// decomposition if the values have not settled to 1e-9 of the largest.
func topEigen(a *mat.SymDense, k int) ([]float64, *mat.Dense, error) {
	n := a.SymmetricDim()
	if n <= max(fullEigen, 4*k) {
		return ritz(a, k, nil)
	}
	// Rows of q are the vectors: a is symmetric, so q·a takes them one power further.
	q := mat.NewDense(min(n, 2*k+8), n, nil)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range q.RawMatrix().Rows {
		for j := range q.RawRowView(i) {
			q.Set(i, j, r.NormFloat64())
		}
	}
	orthonormalRows(q)
	var before []float64
	var qa, small mat.Dense
	for range 20 {
		for range 4 {
			qa.Mul(q, a)
			q.Copy(&qa)
			orthonormalRows(q)
		}
		qa.Mul(q, a)
		small.Mul(&qa, q.T())
		values, vectors, err := ritz(symmetric(&small), k, q.T())
		if err != nil {
			return nil, nil, err
		}
		if settled(values, before) {
			return values, vectors, nil
		}
		before = values
	}
	return ritz(a, k, nil)
}

func settled(now, before []float64) bool {
	for i := range before {
		if math.Abs(now[i]-before[i]) > 1e-9*now[0] {
			return false
		}
	}
	return before != nil
}

// orthonormalRows makes the rows of q orthonormal (Gram-Schmidt, twice, which is enough: Giraud et al.
// 2005). A row that depends on those before it becomes zero.
func orthonormalRows(q *mat.Dense) {
	n, _ := q.Dims()
	for i := range n {
		row := q.RawRowView(i)
		size := floats.Norm(row, 2)
		for range 2 {
			for j := range i {
				floats.AddScaled(row, -floats.Dot(row, q.RawRowView(j)), q.RawRowView(j))
			}
		}
		if left := floats.Norm(row, 2); left > 1e-12*size {
			floats.Scale(1/left, row)
		} else {
			clear(row)
		}
	}
}

// symmetric is the symmetric part of m.
func symmetric(m *mat.Dense) *mat.SymDense {
	n, _ := m.Dims()
	s := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			s.SetSym(i, j, (m.At(i, j)+m.At(j, i))/2)
		}
	}
	return s
}

// ritz is the k largest eigenvalues of a, descending, and their vectors, times q if that is not nil.
func ritz(a *mat.SymDense, k int, q mat.Matrix) ([]float64, *mat.Dense, error) {
	var e mat.EigenSym
	if !e.Factorize(a, true) {
		return nil, nil, fmt.Errorf("diag: the eigenvalues of a %d×%d matrix cannot be found", a.SymmetricDim(), a.SymmetricDim())
	}
	n := a.SymmetricDim()
	all := e.Values(nil)
	var vectors mat.Dense
	e.VectorsTo(&vectors)
	top := mat.NewDense(n, k, nil)
	values := make([]float64, k)
	for c := range k {
		values[c] = all[n-1-c]
		for i := range n {
			top.Set(i, c, vectors.At(i, n-1-c))
		}
	}
	if q != nil {
		var out mat.Dense
		out.Mul(q, top)
		top = &out
	}
	return values, top, nil
}
