package latentebm_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"ebmrun/training"
	"ebmrun/training/ais"
	"ebmrun/training/data"
	"ebmrun/training/latentebm"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

const residual = 0.3

// tilt is the prior U(z) = ‖z‖²/(2σ0²) − aᵀz: N(σ0²a, σ0²I).
type tilt struct {
	a      optim.Param
	sigma0 float64

	x, w  []float32 // of the last Learn
	fresh int       // calls of Refresh
}

func newTilt(sigma0 float64, a ...float32) *tilt {
	return &tilt{a: optim.Param{Name: "a", W: a, G: make([]float32, len(a))}, sigma0: sigma0}
}

func (p *tilt) Params() []optim.Param { return []optim.Param{p.a} }
func (p *tilt) Refresh()              { p.fresh++ }

func (p *tilt) EnergyGrad(z, u, g []float32) error {
	precision, d := float32(1/(p.sigma0*p.sigma0)), len(p.a.W)
	for i := range u {
		u[i] = 0
		for k, a := range p.a.W {
			v := z[i*d+k]
			u[i] += precision*v*v/2 - a*v
			g[i*d+k] = precision*v - a
		}
	}
	return nil
}

func (p *tilt) Learn(_ context.Context, x, w []float32, l2 float32, score []float32) error {
	clear(p.a.G)
	p.x, p.w = slices.Clone(x), slices.Clone(w)
	d := len(p.a.W)
	for i := range w {
		score[i] = 0
		for k, a := range p.a.W {
			score[i] += a * x[i*d+k]
		}
		for k := range d {
			p.a.G[k] += (w[i] + l2*score[i]) * x[i*d+k]
		}
	}
	return nil
}

// linear is g(z) = Wz with the posterior under a tilt.
type linear struct {
	w     optim.Param // [dim, d]
	prior *tilt
	dim   int
	fixed bool

	z, target, weight []float32 // of the last Learn
}

func newLinear(prior *tilt, w ...float32) *linear {
	return &linear{w: optim.Param{Name: "w", W: w, G: make([]float32, len(w))}, prior: prior, dim: len(w) / len(prior.a.W)}
}

func identity(prior *tilt) *linear {
	d := len(prior.a.W)
	w := make([]float32, d*d)
	for i := range d {
		w[i*d+i] = 1
	}
	g := newLinear(prior, w...)
	g.fixed = true
	return g
}

func (g *linear) Codes() int { return len(g.prior.a.W) }

func (g *linear) Params() []optim.Param {
	if g.fixed {
		return nil
	}
	return []optim.Param{g.w}
}

func (g *linear) Forward(_ context.Context, z, x []float32) error {
	d := g.Codes()
	for i := range x {
		x[i] = 0
		for k, w := range g.w.W[i%g.dim*d : i%g.dim*d+d] {
			x[i] += w * z[i/g.dim*d+k]
		}
	}
	return nil
}

func (g *linear) Posterior(target, mask []float32) sampler.Field {
	return field(func(z, u, slope []float32) error {
		if err := g.prior.EnergyGrad(z, u, slope); err != nil {
			return err
		}
		x, d := make([]float32, len(target)), g.Codes()
		if err := g.Forward(context.Background(), z, x); err != nil {
			return err
		}
		for j := range x {
			r := mask[j] * (target[j] - x[j]) / (residual * residual)
			u[j/g.dim] += r * mask[j] * (target[j] - x[j]) / 2
			for k, w := range g.w.W[j%g.dim*d : j%g.dim*d+d] {
				slope[j/g.dim*d+k] -= r * w
			}
		}
		return nil
	})
}

type field func(z, u, g []float32) error

func (f field) EnergyGrad(z, u, g []float32) error { return f(z, u, g) }

func (g *linear) Learn(ctx context.Context, z, target, mask, w, e []float32) error {
	g.z, g.target, g.weight = slices.Clone(z), slices.Clone(target), slices.Clone(w)
	x, d := make([]float32, len(target)), g.Codes()
	if err := g.Forward(ctx, z, x); err != nil {
		return err
	}
	clear(g.w.G)
	clear(e)
	for j := range x {
		i, r := j/g.dim, mask[j]*(target[j]-x[j])
		e[i] += r * r
		for k := range d {
			g.w.G[j%g.dim*d+k] -= 2 * w[i] * r * z[i*d+k]
		}
	}
	return nil
}

var (
	_ training.Energy    = (*tilt)(nil)
	_ training.Generator = (*linear)(nil)
)

// normal is n draws of N(mean, variance·I).
func normal(t testing.TB, n int, variance float64, mean ...float32) *data.Set {
	t.Helper()
	d := len(mean)
	s := &data.Set{Name: "normal", N: n, C: d, H: 1, W: 1, Floats: make([]float32, n*d), Gain: 1}
	sampler.Noise{Seed: 99}.Normals(s.X(), sampler.Chains(0, n), 0)
	for i, v := range s.X() {
		s.Floats[i] = mean[i%d] + float32(math.Sqrt(variance))*v
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s
}

func config(change func(c *latentebm.Config)) latentebm.Config {
	c := latentebm.Config{
		Steps: 600, Batch: 200, Sigma: residual, Infer: 60,
		Prior:     training.Langevin{Steps: 60, Step: 0.4, Noise: 1},
		Posterior: training.Langevin{Steps: 20, Step: 0.2, Noise: 1},
		Optim:     training.Optim{Name: "sgd", LR: 0.1, Decay: 0.1},
		Teach:     training.Optim{Name: "sgd", LR: 0.01},
	}
	c.Reference.Sigma = 1
	if change != nil {
		change(&c)
	}
	return c
}

func system(t testing.TB, c latentebm.Config, p training.Energy, g training.Generator, set *data.Set) *latentebm.System {
	t.Helper()
	s, err := latentebm.New(c, p, g, set, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPriorChains: without an energy the codes have the variance that Langevin
// steps of size 0.4 leave; with f = aᵀz the mean σ0²a too, as far as the steps go.
func TestPriorChains(t *testing.T) {
	const n, size = 50000, 0.4
	for _, c := range []struct {
		sigma0 float64
		a      []float32
		steps  int
	}{{1, []float32{0, 0}, 60}, {1, []float32{0, 0}, 5}, {1, []float32{1, -0.5}, 60}, {1.5, []float32{1, -0.5}, 60}} {
		prior := newTilt(c.sigma0, c.a...)
		s := system(t, config(func(k *latentebm.Config) {
			k.Reference.Sigma, k.Prior = c.sigma0, training.Langevin{Steps: c.steps, Step: size, Noise: 1}
			k.Batch = 5000
		}), prior, identity(prior), normal(t, 10, 1, 0, 0))
		z, err := s.PriorCodes(t.Context(), n, 1, true)
		if err != nil {
			t.Fatal(err)
		}
		v0 := c.sigma0 * c.sigma0
		shrink := math.Pow(1-size*size/(2*v0), float64(c.steps))
		limit := v0 / (1 - size*size/(4*v0))
		variance := limit + shrink*shrink*(v0-limit)
		for k, a := range c.a {
			sum, square := 0.0, 0.0
			for i := range n {
				v := float64(z[2*i+k])
				sum, square = sum+v/n, square+v*v/n
			}
			got, mean := square-sum*sum, v0*float64(a)*(1-shrink)
			if math.Abs(got-variance) > 4*variance*math.Sqrt(2.0/n) || math.Abs(sum-mean) > 4*math.Sqrt(variance/n) {
				t.Errorf("σ0 %g, a %g, %d steps: mean %.4f, variance %.4f; wanted %.4f, %.4f", c.sigma0, a, c.steps, sum, got, mean, variance)
			}
		}
	}
}

// TestLearnPrior: with g the identity and f linear the prior is N(a, I), and data
// of N(m, 1.09·I) give a = m. Swapped or without updates it does not get there.
func TestLearnPrior(t *testing.T) {
	set := normal(t, 10000, 1.09, 0.8, -0.5)
	learn := func(sabotage string) (off float64, err error) {
		prior := newTilt(1, 0, 0)
		s := system(t, config(func(c *latentebm.Config) { c.Sabotage = sabotage }), prior, identity(prior), set)
		err = training.Run(t.Context(), s, training.Options{Steps: 600, EvalEvery: 1 << 30})
		return max(math.Abs(float64(prior.a.W[0])-0.8), math.Abs(float64(prior.a.W[1])+0.5)), err
	}
	off, err := learn("")
	if t.Logf("a within %.4f", off); err != nil || off > 0.05 {
		t.Errorf("a is %.4f away from the data's mean (%v), wanted at most 0.05", off, err)
	}
	for _, sabotage := range []string{latentebm.Flip, latentebm.Freeze} {
		off, err := learn(sabotage)
		if err != nil && !errors.Is(err, training.ErrGuard) {
			t.Fatal(err)
		}
		if t.Logf("%s: %.4g (%v)", sabotage, off, err); err == nil && off <= 0.3 {
			t.Errorf("the arm %s comes within %.4f", sabotage, off)
		}
	}
}

// TestLikelihood: log Z of a tilted prior is (d/2)·log(2πσ0²) + σ0²‖a‖²/2, and with
// g(z) = Wz an example is N(σ0²Wa, σ0²WWᵀ + σ²I).
func TestLikelihood(t *testing.T) {
	const sigma0 = 1.2
	prior := newTilt(sigma0, 1, -0.5)
	g := newLinear(prior, 2, 0, 0, 1.5, 0.8, -0.6) // three values of two codes
	s := system(t, config(func(c *latentebm.Config) { c.Reference.Sigma = sigma0 }), prior, g, normal(t, 10, 1, 0, 0, 0))
	logZ, se, err := s.LogZ(t.Context(), 1000, 1, ais.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := math.Log(2*math.Pi*sigma0*sigma0) + sigma0*sigma0*1.25/2
	if math.Abs(logZ-want) > 0.02 {
		t.Errorf("log Z is %.4f ± %.4f, wanted %.4f", logZ, se, want)
	}
	x := []float32{2.5, -1, 1.4, 0, 0, 0, -1, 2, 0.5}
	got, ses, err := s.LogLikelihood(t.Context(), x, want, 500, 1, ais.Options{Levels: 300})
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		exact := gaussian3(g.w.W, prior.a.W, sigma0, x[3*i:3*i+3])
		t.Logf("log p %.4f ± %.4f, %.4f exactly", v, ses[i], exact)
		if math.Abs(v-exact) > 0.15 || math.Abs(v-exact) > 4*ses[i]+0.01 {
			t.Errorf("example %d: log p is %.4f ± %.4f, wanted %.4f", i, v, ses[i], exact)
		}
	}
}

// gaussian3 is log N(x; σ0²Wa, σ0²WWᵀ + σ²I) in three dimensions, by cofactors.
func gaussian3(w, a []float32, sigma0 float64, x []float32) float64 {
	var c [3][3]float64
	var d [3]float64
	v := sigma0 * sigma0
	for i := range 3 {
		d[i] = float64(x[i])
		for k := range 2 {
			d[i] -= v * float64(w[2*i+k]) * float64(a[k])
		}
		for j := range 3 {
			for k := range 2 {
				c[i][j] += v * float64(w[2*i+k]) * float64(w[2*j+k])
			}
		}
		c[i][i] += residual * residual
	}
	minor := func(i, j int) float64 {
		i1, i2, j1, j2 := (i+1)%3, (i+2)%3, (j+1)%3, (j+2)%3
		return c[i1][j1]*c[i2][j2] - c[i1][j2]*c[i2][j1]
	}
	det := c[0][0]*minor(0, 0) + c[0][1]*minor(0, 1) + c[0][2]*minor(0, 2)
	square := 0.0
	for i := range 3 {
		for j := range 3 {
			square += d[i] * minor(i, j) / det * d[j]
		}
	}
	return -(3*math.Log(2*math.Pi) + math.Log(det) + square) / 2
}
