package generativeconvnet_test

import (
	"context"
	"slices"

	"ebmrun/training"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// A sabotaged energy changes the gradients of the parameters behind the
// system's back.
type sabotaged struct {
	training.Energy
	factor float32
}

// flip is the arm with the sign of the update flipped, freeze the one without
// updates.
func flip(e training.Energy) training.Energy   { return fuse(e, &sabotaged{e, -1}) }
func freeze(e training.Energy) training.Energy { return fuse(e, &sabotaged{e, 0}) }

func (s *sabotaged) Learn(ctx context.Context, x, w []float32, l2 float32, score []float32) error {
	v := slices.Clone(w)
	for i := range v {
		v[i] *= s.factor
	}
	return s.Energy.Learn(ctx, x, v, s.factor*l2, score)
}

// fuse keeps the fused chains of e if it has them.
func fuse(e, wrapped training.Energy) training.Energy {
	if f, ok := e.(training.Fuser); ok {
		return struct {
			training.Energy
			training.Fuser
		}{wrapped, f}
	}
	return wrapped
}

// polynomial is f(x) = Σ_j a_j·x_j + ½·b_j·x_j² with U = ‖x‖²/(2σ²) − f: a
// Gaussian of precision 1/σ² − b and mean a/(1/σ² − b), so every
// answer has a closed form.
type polynomial struct {
	dim       int
	precision float32 // 1/σ²
	a, b      optim.Param

	refreshed int
	learned   []call    // every call of Learn
	began     []float32 // the first x after a Learn: where sampling starts
	fresh     bool
}

type call struct {
	x, w, score []float32
	l2          float32
}

func newPolynomial(dim int, sigma float64) *polynomial {
	param := func(name string) optim.Param {
		return optim.Param{Name: name, W: make([]float32, dim), G: make([]float32, dim)}
	}
	return &polynomial{dim: dim, precision: float32(1 / (sigma * sigma)), a: param("a"), b: param("b"), fresh: true}
}

func (p *polynomial) f(x []float32) (f float64) {
	for j, v := range x {
		f += float64(p.a.W[j])*float64(v) + 0.5*float64(p.b.W[j])*float64(v)*float64(v)
	}
	return f
}

func (p *polynomial) EnergyGrad(x, u, g []float32) error {
	if p.fresh {
		p.began, p.fresh = slices.Clone(x), false
	}
	for i := range u {
		row := x[i*p.dim : (i+1)*p.dim]
		square := 0.0
		for j, v := range row {
			square += float64(v) * float64(v)
			g[i*p.dim+j] = (p.precision-p.b.W[j])*v - p.a.W[j]
		}
		u[i] = float32(float64(p.precision)*square/2 - p.f(row))
	}
	return nil
}

func (p *polynomial) Learn(_ context.Context, x, w []float32, l2 float32, score []float32) error {
	clear(p.a.G)
	clear(p.b.G)
	for i := range w {
		row := x[i*p.dim : (i+1)*p.dim]
		f := p.f(row)
		score[i] = float32(f)
		pull := w[i] + l2*float32(f)
		for j, v := range row {
			p.a.G[j] += pull * v
			p.b.G[j] += pull * v * v / 2
		}
	}
	p.learned = append(p.learned, call{slices.Clone(x), slices.Clone(w), slices.Clone(score), l2})
	p.fresh = true
	return nil
}

func (p *polynomial) Params() []optim.Param { return []optim.Param{p.a, p.b} }
func (p *polynomial) Refresh()              { p.refreshed++ }

var _ sampler.Field = (*polynomial)(nil)

// recorded keeps the last batch that was learned from, and its scores.
type recorded struct {
	training.Energy
	x, score []float32
}

func (r *recorded) Learn(ctx context.Context, x, w []float32, l2 float32, score []float32) error {
	r.x, r.score = slices.Clone(x), score
	return r.Energy.Learn(ctx, x, w, l2, score)
}
