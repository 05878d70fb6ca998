package bind

import "math"

// spectral keeps W/σ(W) for a weight matrix of the given rows, σ being the
// largest singular value found by power iteration. u and v stay fixed between
// updates, so that an energy does not drift within a chain.
type spectral struct {
	rows, cols int
	u, v       []float32
	sigma      []float32 // one number
	scaled     []float32
}

func newSpectral(w []float32, rows int) *spectral {
	s := &spectral{rows: rows, cols: len(w) / rows, sigma: make([]float32, 1), scaled: make([]float32, len(w))}
	s.u, s.v = make([]float32, s.rows), make([]float32, s.cols)
	for i := range s.u {
		s.u[i] = float32(1 / math.Sqrt(float64(s.rows)))
	}
	for range 20 {
		s.iterate(w)
	}
	return s
}

// iterate is one power iteration: v ← Wᵀu/‖·‖, u ← Wv/‖·‖, σ = uᵀWv.
func (s *spectral) iterate(w []float32) {
	v := make([]float64, s.cols)
	for i := range s.rows {
		for j, x := range w[i*s.cols : (i+1)*s.cols] {
			v[j] += float64(x) * float64(s.u[i])
		}
	}
	unit(s.v, v)
	u := make([]float64, s.rows)
	for i := range s.rows {
		for j, x := range w[i*s.cols : (i+1)*s.cols] {
			u[i] += float64(x) * float64(s.v[j])
		}
	}
	s.sigma[0] = float32(unit(s.u, u))
}

// unit writes x/‖x‖ to dst and returns ‖x‖.
func unit(dst []float32, x []float64) float64 {
	sum := 0.0
	for _, a := range x {
		sum += a * a
	}
	norm := math.Sqrt(sum)
	for i, a := range x {
		if dst[i] = float32(a); norm > 0 {
			dst[i] = float32(a / norm)
		}
	}
	return norm
}

// rescale writes W/σ; a zero matrix stays as it is.
func (s *spectral) rescale(w []float32) {
	inv := 1.0
	if s.sigma[0] > 0 {
		inv = 1 / float64(s.sigma[0])
	}
	for i, x := range w {
		s.scaled[i] = float32(float64(x) * inv)
	}
}

// pullBack turns the gradient G of W/σ into that of W: (G − ⟨G, W/σ⟩·u·vᵀ)/σ.
func (s *spectral) pullBack(g []float32) {
	if s.sigma[0] == 0 {
		return
	}
	dot := 0.0
	for i, x := range g {
		dot += float64(x) * float64(s.scaled[i])
	}
	for i := range s.rows {
		for j := range s.cols {
			k := i*s.cols + j
			g[k] = float32((float64(g[k]) - dot*float64(s.u[i])*float64(s.v[j])) / float64(s.sigma[0]))
		}
	}
}
