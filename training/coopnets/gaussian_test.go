package coopnets_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"ebmrun/training"
	"ebmrun/training/coopnets"
	"ebmrun/training/data"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

const (
	reference = 2.0 // deviation of the energy's reference density
	residual  = 0.3
	mean      = 1.0 // of the data
	variance  = 0.49
)

// quadratic is f(x) = θ1·x + θ2·x² with U = x²/(2σ_ref²) − f: a Gaussian.
type quadratic struct {
	theta optim.Param

	refreshed int
	began     []float32 // where chains begin first, if nil before
	x, w      []float32 // of the last Learn
	score     []float32
	l2        float32
}

func newQuadratic() *quadratic {
	return &quadratic{theta: optim.Param{Name: "theta", W: make([]float32, 2), G: make([]float32, 2)}}
}

func (q *quadratic) f(x float32) float32   { return q.theta.W[0]*x + q.theta.W[1]*x*x }
func (q *quadratic) precision() float64    { return 1/(reference*reference) - 2*float64(q.theta.W[1]) }
func (q *quadratic) Params() []optim.Param { return []optim.Param{q.theta} }
func (q *quadratic) Refresh()              { q.refreshed++ }

func (q *quadratic) EnergyGrad(x, u, g []float32) error {
	if q.began == nil {
		q.began = slices.Clone(x)
	}
	const p = float32(1 / (reference * reference))
	for i, v := range x {
		u[i] = p*v*v/2 - q.f(v)
		g[i] = p*v - q.theta.W[0] - 2*q.theta.W[1]*v
	}
	return nil
}

func (q *quadratic) Learn(_ context.Context, x, w []float32, l2 float32, score []float32) error {
	clear(q.theta.G)
	for i, v := range x {
		score[i] = q.f(v)
		pull := w[i] + l2*score[i]
		q.theta.G[0] += pull * v
		q.theta.G[1] += pull * v * v
	}
	q.x, q.w, q.score, q.l2 = slices.Clone(x), slices.Clone(w), slices.Clone(score), l2
	return nil
}

// affine is g(z) = αz + μ.
type affine struct {
	w optim.Param // α, μ

	drawn, drafts     []float32 // of the last Forward
	began             []float32 // where the last inference began
	towards, mask     []float32 // what it explained
	z, target, weight []float32 // of the last Learn
}

func newAffine() *affine {
	return &affine{w: optim.Param{Name: "w", W: []float32{0.3, 0}, G: make([]float32, 2)}}
}

func (a *affine) Codes() int            { return 1 }
func (a *affine) Params() []optim.Param { return []optim.Param{a.w} }

func (a *affine) Forward(_ context.Context, z, x []float32) error {
	for i, v := range z {
		x[i] = a.w.W[0]*v + a.w.W[1]
	}
	a.drawn, a.drafts = slices.Clone(z), slices.Clone(x)
	return nil
}

func (a *affine) Posterior(target, mask []float32) sampler.Field {
	return &explain{a: a, target: target, mask: mask}
}

type explain struct {
	a            *affine
	target, mask []float32
	called       bool
}

func (e *explain) EnergyGrad(z, u, d []float32) error {
	if !e.called {
		e.called = true
		e.a.began, e.a.towards, e.a.mask = slices.Clone(z), slices.Clone(e.target), slices.Clone(e.mask)
	}
	const p = float32(1 / (residual * residual))
	for i, v := range z {
		r := e.mask[i] * (e.target[i] - e.a.w.W[0]*v - e.a.w.W[1])
		u[i] = v*v/2 + p*r*r/2
		d[i] = v - p*r*e.a.w.W[0]
	}
	return nil
}

func (a *affine) Learn(_ context.Context, z, target, mask, w, e []float32) error {
	clear(a.w.G)
	for i, v := range z {
		r := mask[i] * (target[i] - a.w.W[0]*v - a.w.W[1])
		e[i] = r * r
		a.w.G[0] -= 2 * w[i] * r * v
		a.w.G[1] -= 2 * w[i] * r
	}
	a.z, a.target, a.weight = slices.Clone(z), slices.Clone(target), slices.Clone(w)
	return nil
}

var (
	_ training.Energy    = (*quadratic)(nil)
	_ training.Generator = (*affine)(nil)
)

// gaussian is n draws of N(1, 0.49).
func gaussian(t testing.TB, n int) *data.Set {
	t.Helper()
	s := &data.Set{Name: "gaussian", N: n, C: 1, H: 1, W: 1, Floats: make([]float32, n), Gain: 1}
	sampler.Noise{Seed: 99}.Normals(s.X(), sampler.Chains(0, n), 0)
	for i, v := range s.X() {
		s.Floats[i] = mean + float32(math.Sqrt(variance))*v
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s
}

// config is the rigorous variant, which a test may change.
func config(change func(c *coopnets.Config)) coopnets.Config {
	c := coopnets.Config{
		Steps: 2400, Batch: 100, Sigma: residual,
		Langevin:  training.Langevin{Steps: 10, Step: 0.15, Noise: 1},
		Inference: training.Langevin{Steps: 10, Step: 0.15, Noise: 1},
		Optim:     training.Optim{Name: "sgd", LR: 0.05},
		Teach:     training.Optim{Name: "sgd", LR: 0.05},
	}
	c.Reference.Sigma = reference
	if change != nil {
		change(&c)
	}
	return c
}

func jumpStart(c *coopnets.Config) { c.Inference = training.Langevin{} }

func system(t testing.TB, c coopnets.Config, e training.Energy, g training.Generator, set *data.Set) *coopnets.System {
	t.Helper()
	s, err := coopnets.New(c, e, g, set, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func step(t testing.TB, s *coopnets.System) training.Metrics {
	t.Helper()
	m, err := s.Step(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// outcome is what a run has come to, averaged over its last 200 iterations.
type outcome struct {
	mean, variance, precision, scale float64
}

func (o outcome) passes() bool {
	return math.Abs(o.mean-1) <= 0.1 && o.variance >= 0.40 && o.variance <= 0.60 && o.precision > 0.5
}

// TestGaussian compares the variants on a Gaussian. Inferred codes keep the
// spread that the revision's noise gives, so the rigorous variant learns the
// data's moments and an energy that is curved; the jump-start variant regresses
// that spread away until the energy is flat. Spoiled arms fail.
func TestGaussian(t *testing.T) {
	set := gaussian(t, 20000)
	learn := func(seed uint64, change func(c *coopnets.Config)) (o outcome, err error) {
		e, g := newQuadratic(), newAffine()
		s, err := coopnets.New(config(change), e, g, set, seed)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2400 {
			m, err := s.Step(t.Context())
			if err != nil {
				return o, err
			}
			if i >= 2200 {
				o.mean += m["sample_mean"] / 200
				o.variance += m[training.SampleStd] * m[training.SampleStd] / 200
				o.precision += e.precision() / 200
				o.scale += float64(g.w.W[0]) / 200
			}
		}
		return o, nil
	}
	for _, seed := range []uint64{1, 2} {
		rigorous, err := learn(seed, nil)
		if err != nil {
			t.Fatal(err)
		}
		jump, err := learn(seed, jumpStart)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("seed %d: rigorous %.3f, jump-start %.3f (mean, variance, precision, scale)", seed, rigorous, jump)
		if !rigorous.passes() {
			t.Errorf("seed %d: the rigorous variant comes to %.3f", seed, rigorous)
		}
		if jump.precision >= rigorous.precision || jump.scale >= rigorous.scale {
			t.Errorf("seed %d: jump-start comes to %.3f, rigorous to %.3f", seed, jump, rigorous)
		}
		for _, sabotage := range []string{coopnets.Flip, coopnets.Freeze} {
			o, err := learn(seed, func(c *coopnets.Config) { c.Sabotage = sabotage })
			t.Logf("seed %d: %s %.3f, %v", seed, sabotage, o, err)
			var bad *sampler.NonFiniteError
			if err != nil && !errors.As(err, &bad) && !errors.Is(err, optim.ErrNonFinite) {
				t.Fatal(err)
			}
			if err == nil && o.passes() {
				t.Errorf("seed %d: the arm %s passes: %.3f", seed, sabotage, o)
			}
		}
	}
}
