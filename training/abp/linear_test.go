package abp_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"ebmrun/training"
	"ebmrun/training/abp"
	"ebmrun/training/data"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

const (
	dim, codes = 12, 3
	residual   = 0.3
	entropy    = 7.36394 // of the factor model, in nats
)

// scales are the lengths of the columns of the factor model's W.
var scales = [codes]float64{2, 1.5, 1}

// factors is the factor model x = Wz + 0.3ε with orthogonal columns: its W.
func factors() *mat.Dense {
	rng := rand.New(rand.NewPCG(5, 5))
	a := mat.NewDense(dim, codes, nil)
	for i := range dim {
		for k := range codes {
			a.Set(i, k, rng.NormFloat64())
		}
	}
	w := orthonormal(a)
	for i := range dim {
		for k, s := range scales {
			w.Set(i, k, s*w.At(i, k))
		}
	}
	return w
}

// orthonormal spans the columns of a.
func orthonormal(a mat.Matrix) *mat.Dense {
	var qr mat.QR
	qr.Factorize(a)
	var q mat.Dense
	qr.QTo(&q)
	_, c := a.Dims()
	return mat.DenseCopyOf(q.Slice(0, dim, 0, c))
}

// draws are n examples of the factor model.
func draws(t testing.TB, n int, seed uint64) *data.Set {
	t.Helper()
	w, rng := factors(), rand.New(rand.NewPCG(seed, 6))
	s := &data.Set{Name: "factors", N: n, C: dim, H: 1, W: 1, Floats: make([]float32, n*dim), Gain: 1}
	for i := range n {
		z := [codes]float64{rng.NormFloat64(), rng.NormFloat64(), rng.NormFloat64()}
		for j := range dim {
			v := residual * rng.NormFloat64()
			for k := range codes {
				v += w.At(j, k) * z[k]
			}
			s.Floats[i*dim+j] = float32(v)
		}
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s
}

// linear is g(z) = Wz in Go.
type linear struct {
	w     optim.Param // [dim, codes]
	share float32     // of the likelihood in the posterior; 1 is right
	began func(z, target []float32)
	learn func(z, target, mask []float32)
}

func newLinear(w func(i, k int) float64) *linear {
	g := &linear{w: optim.Param{Name: "w", W: make([]float32, dim*codes), G: make([]float32, dim*codes)}, share: 1}
	for i := range g.w.W {
		g.w.W[i] = float32(w(i/codes, i%codes))
	}
	return g
}

// untrained has small random weights.
func untrained() *linear {
	rng := rand.New(rand.NewPCG(8, 8))
	return newLinear(func(int, int) float64 { return 0.1 * rng.NormFloat64() })
}

var _ training.Generator = (*linear)(nil)

func (g *linear) Codes() int            { return codes }
func (g *linear) Params() []optim.Param { return []optim.Param{g.w} }

func (g *linear) Forward(_ context.Context, z, x []float32) error {
	for i := range x {
		row := z[i/dim*codes : i/dim*codes+codes]
		w := g.w.W[i%dim*codes : i%dim*codes+codes]
		x[i] = w[0]*row[0] + w[1]*row[1] + w[2]*row[2]
	}
	return nil
}

func (g *linear) Posterior(target, mask []float32) sampler.Field {
	return &posterior{g: g, target: target, mask: mask}
}

type posterior struct {
	g            *linear
	target, mask []float32
	called       bool
}

func (p *posterior) EnergyGrad(z, u, d []float32) error {
	if p.g.began != nil && !p.called {
		p.called = true
		p.g.began(z, p.target)
	}
	const precision = float32(1 / (residual * residual))
	for i := range u {
		row, slope := z[i*codes:(i+1)*codes], d[i*codes:(i+1)*codes]
		copy(slope, row)
		square := row[0]*row[0] + row[1]*row[1] + row[2]*row[2]
		for j := range dim {
			w := p.g.w.W[j*codes : (j+1)*codes]
			r := p.mask[i*dim+j] * (p.target[i*dim+j] - w[0]*row[0] - w[1]*row[1] - w[2]*row[2])
			pull := p.g.share * precision * r
			square += pull * r
			for k := range slope {
				slope[k] -= pull * p.mask[i*dim+j] * w[k]
			}
		}
		u[i] = square / 2
	}
	return nil
}

func (g *linear) Learn(_ context.Context, z, target, mask, w, e []float32) error {
	if g.learn != nil {
		g.learn(z, target, mask)
	}
	clear(g.w.G)
	for i := range w {
		row := z[i*codes : (i+1)*codes]
		e[i] = 0
		for j := range dim {
			v := g.w.W[j*codes : (j+1)*codes]
			r := mask[i*dim+j] * (target[i*dim+j] - v[0]*row[0] - v[1]*row[1] - v[2]*row[2])
			e[i] += r * r
			for k, c := range row {
				g.w.G[j*codes+k] -= 2 * w[i] * r * c
			}
		}
	}
	return nil
}

// matrix is the present W.
func (g *linear) matrix() *mat.Dense {
	m := mat.NewDense(dim, codes, nil)
	for i, v := range g.w.W {
		m.Set(i/codes, i%codes, float64(v))
	}
	return m
}

// covariance is WWᵀ + σ²I, of x under W.
func covariance(w *mat.Dense) *mat.SymDense {
	c := mat.NewSymDense(dim, nil)
	c.SymOuterK(1, w)
	for i := range dim {
		c.SetSym(i, i, c.At(i, i)+residual*residual)
	}
	return c
}

// nll is the expected negative log likelihood, in nats, of examples of the factor
// model under W, and angle the largest principal angle between the subspaces, in
// degrees.
func compare(t testing.TB, w *mat.Dense) (nll, angle float64) {
	t.Helper()
	var chol mat.Cholesky
	if !chol.Factorize(covariance(w)) {
		t.Fatal("the learned covariance is not positive definite")
	}
	var ratio mat.Dense
	if err := chol.SolveTo(&ratio, covariance(factors())); err != nil {
		t.Fatal(err)
	}
	nll = 0.5 * (dim*math.Log(2*math.Pi) + chol.LogDet() + mat.Trace(&ratio))
	var overlap mat.Dense
	overlap.Mul(orthonormal(w).T(), orthonormal(factors()))
	var svd mat.SVD
	if !svd.Factorize(&overlap, mat.SVDNone) {
		t.Fatal("no singular values")
	}
	s := svd.Values(nil)
	return nll, math.Acos(min(s[len(s)-1], 1)) * 180 / math.Pi
}

func config(change func(c *abp.Config)) abp.Config {
	c := abp.Config{
		Net: "linear", Steps: 400, Batch: 200, Sigma: residual,
		Langevin: training.Langevin{Steps: 15, Step: 0.1, Noise: 1},
		Optim:    training.Optim{LR: 0.02, Betas: [2]float64{0.5, 0.999}},
	}
	if change != nil {
		change(&c)
	}
	return c
}

func system(t testing.TB, c abp.Config, g training.Generator, set *data.Set) *abp.System {
	t.Helper()
	s, err := abp.New(c, g, set, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func run(t testing.TB, s *abp.System, steps int) {
	t.Helper()
	if err := training.Run(t.Context(), s, training.Options{Steps: steps, EvalEvery: 1 << 30}); err != nil {
		t.Fatal(err)
	}
}

func repeat(v float32, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = v
	}
	return x
}
