package mrf

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"
)

// A Normal is a Gaussian field, x_s | rest ~ N(μ + Σ_r b_r·(x_s+r + x_s−r − 2μ), v), on a lattice whose
// edges meet.
type Normal struct {
	Lattice
	Mean, Variance float64 // μ and v
	B              []float64
	places         [][]int
}

// NewNormal is white noise on a lattice.
func NewNormal(l Lattice) *Normal {
	return &Normal{Lattice: l, Variance: 1, B: make([]float64, len(l.Offsets)), places: l.classes()}
}

// Fit maximises the pseudo-likelihood, which is linear regression of every pixel on its neighbours. A fit
// that is no density is drawn towards zero until it is one; shrunk is the factor.
func (m *Normal) Fit(pictures [][]float32) (shrunk float64, err error) {
	n := 0.0
	m.Mean = 0
	for _, x := range pictures {
		for _, v := range x {
			m.Mean += float64(v)
			n++
		}
	}
	m.Mean /= n
	k := len(m.Offsets)
	a, b, square := mat.NewSymDense(k, nil), mat.NewVecDense(k, nil), 0.0
	row := make([]float64, k)
	for _, x := range pictures {
		for i, v := range x {
			m.sums(x, i, row)
			y := float64(v) - m.Mean
			square += y * y
			for p, r := range row {
				b.SetVec(p, b.AtVec(p)+r*y)
				for q := p; q < k; q++ {
					a.SetSym(p, q, a.At(p, q)+r*row[q])
				}
			}
		}
	}
	var chol mat.Cholesky
	var found mat.VecDense
	if !chol.Factorize(a) || chol.SolveVecTo(&found, b) != nil {
		return 0, fmt.Errorf("mrf: auto-normal: the picture is too plain to be fitted with %d offsets", k)
	}
	copy(m.B, found.RawVector().Data)
	for shrunk = 1; m.least() < 1e-3; shrunk *= 0.99 {
		for r := range m.B {
			m.B[r] *= 0.99
		}
	}
	rest := 0.0
	for _, x := range pictures {
		for i, v := range x {
			e := float64(v) - m.expected(x, i)
			rest += e * e
		}
	}
	m.Variance = rest / n
	if !(m.Variance > 0) {
		return 0, fmt.Errorf("mrf: auto-normal: every pixel follows from its neighbours")
	}
	return shrunk, nil
}

// sums writes x_i+r + x_i−r − 2μ of every offset.
func (m *Normal) sums(x []float32, i int, row []float64) {
	for r, o := range m.Offsets {
		row[r] = float64(x[m.at(i, o[0], o[1])]) + float64(x[m.at(i, -o[0], -o[1])]) - 2*m.Mean
	}
}

func (m *Normal) expected(x []float32, i int) float64 {
	e := m.Mean
	for r, o := range m.Offsets {
		e += m.B[r] * (float64(x[m.at(i, o[0], o[1])]) + float64(x[m.at(i, -o[0], -o[1])]) - 2*m.Mean)
	}
	return e
}

// eigenvalue is that of v·precision at a frequency of the lattice.
func (m *Normal) eigenvalue(ky, kx int) float64 {
	e := 1.0
	for r, o := range m.Offsets {
		e -= 2 * m.B[r] * math.Cos(2*math.Pi*(float64(ky*o[0])/float64(m.H)+float64(kx*o[1])/float64(m.W)))
	}
	return e
}

// least is the smallest of them: the field is a density where it is positive.
func (m *Normal) least() float64 {
	low := math.Inf(1)
	for ky := range m.H {
		for kx := range m.W {
			low = min(low, m.eigenvalue(ky, kx))
		}
	}
	return low
}

// Covariance is the exact one of two pixels (dy, dx) apart.
func (m *Normal) Covariance(dy, dx int) (sum float64) {
	for ky := range m.H {
		for kx := range m.W {
			sum += math.Cos(2*math.Pi*(float64(ky*dy)/float64(m.H)+float64(kx*dx)/float64(m.W))) / m.eigenvalue(ky, kx)
		}
	}
	return m.Variance * sum / float64(m.H*m.W)
}

// Sweep draws every pixel anew, one colour after the other.
func (m *Normal) Sweep(r *rand.Rand, x []float32) {
	sd := math.Sqrt(m.Variance)
	for _, class := range m.places {
		for _, i := range class {
			x[i] = float32(m.expected(x, i) + sd*r.NormFloat64())
		}
	}
}

// PseudoLikelihood is Σ_s log p(x_s | neighbours).
func (m *Normal) PseudoLikelihood(x []float32) (sum float64) {
	for i, v := range x {
		e := float64(v) - m.expected(x, i)
		sum -= e*e/(2*m.Variance) + math.Log(2*math.Pi*m.Variance)/2
	}
	return sum
}

// LogLikelihood is log p(x), exact.
func (m *Normal) LogLikelihood(x []float32) float64 {
	sum := 0.0
	for i, v := range x {
		// v·precision·(x−μ) at pixel i
		sum -= (float64(v) - m.Mean) * (float64(v) - m.expected(x, i)) / (2 * m.Variance)
	}
	for ky := range m.H {
		for kx := range m.W {
			sum += math.Log(m.eigenvalue(ky, kx)/(2*math.Pi*m.Variance)) / 2
		}
	}
	return sum
}
