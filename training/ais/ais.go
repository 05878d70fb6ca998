// Package ais estimates normalising constants by annealed importance sampling
// (Neal, "Annealed Importance Sampling", Statistics and Computing 2001).
//
// Chains start at exact draws from N(0, σ²I), whose constant is known, and move
// through the densities exp(−(1−t)·‖z‖²/(2σ²) − t·U(z)) as t goes from 0 to 1, each
// step by Hamiltonian Monte Carlo that leaves its own density unchanged. The
// weights that a chain gathers on the way have ∫exp(−U) as their mean, whatever the
// number of steps; more steps make them more even.
package ais

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training/sampler"
)

// Options say how carefully to anneal. The zero value uses the defaults in brackets.
type Options struct {
	Sigma     float64 // deviation of the density where chains start [1]
	Levels    int     // temperatures [200]
	Leapfrogs int     // leapfrog steps per temperature [5]
	Size      float32 // leapfrog step tried first [0.3]
}

func (o Options) complete() Options {
	set := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	set(&o.Levels, 200)
	set(&o.Leapfrogs, 5)
	if o.Sigma == 0 {
		o.Sigma = 1
	}
	if o.Size == 0 {
		o.Size = 0.3
	}
	return o
}

// Check reports the first option that makes no sense.
func (o Options) Check() error {
	if o = o.complete(); o.Levels < 1 || o.Leapfrogs < 1 || !(o.Sigma > 0) || !(o.Size > 0) {
		return fmt.Errorf("ais: wanted positive options, got %+v", o)
	}
	return nil
}

// Streams of noise.
const (
	pilot  = 1
	proper = 2
	start  = math.MaxUint64 // the step whose noise chains begin with
)

// Weights returns the logarithms of one weight per chain, each of mean ∫exp(−U_i)
// over codes of the given dimension, for the field U of len(chains) chains.
//
// A first pass over a quarter of the temperatures tunes the step size of each; the
// weights are those of a second pass with these sizes, which does not adapt.
func Weights(ctx context.Context, noise sampler.Noise, u sampler.Field, dim int, chains []uint64, o Options) ([]float64, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	o = o.complete()
	sizes := make([]float32, (o.Levels+3)/4)
	for k := range sizes {
		sizes[k] = o.Size
	}
	size := o.Size
	if _, err := pass(ctx, noise.Fork(pilot), u, dim, chains, o, len(sizes), func(k int, accepted float64) float32 {
		// towards the acceptance of two thirds that suits HMC
		if k > 0 {
			size *= float32(math.Exp(accepted - 0.67))
		}
		if k < len(sizes) {
			sizes[k] = size
		}
		return size
	}); err != nil {
		return nil, err
	}
	return pass(ctx, noise.Fork(proper), u, dim, chains, o, o.Levels, func(k int, _ float64) float32 {
		return sizes[min(k*len(sizes)/o.Levels, len(sizes)-1)]
	})
}

// pass anneals once over the given number of levels. size is asked for the step of
// each level, told the acceptance at the one before.
func pass(ctx context.Context, noise sampler.Noise, u sampler.Field, dim int, chains []uint64, o Options, levels int, size func(k int, accepted float64) float32) ([]float64, error) {
	n := len(chains)
	p := &path{u: u, precision: 1 / (o.Sigma * o.Sigma)}
	z := make([]float32, n*dim)
	noise.Normals(z, chains, start)
	for i := range z {
		z[i] *= float32(o.Sigma)
	}
	st, err := sampler.NewState(z, dim, chains)
	if err != nil {
		return nil, err
	}
	logw := make([]float64, n)
	for i := range logw {
		logw[i] = float64(dim) / 2 * math.Log(2*math.Pi*o.Sigma*o.Sigma)
	}
	target, slope := make([]float32, n), make([]float32, n*dim)
	var info sampler.Info
	for k := range levels {
		if err := u.EnergyGrad(st.X, target, slope); err != nil {
			return nil, err
		}
		next := schedule(k+1, levels)
		for i := range logw {
			logw[i] += (next - p.t) * (p.base(st.X[i*dim:(i+1)*dim]) - float64(target[i]))
			if math.IsNaN(logw[i]) {
				return nil, fmt.Errorf("ais: level %d of %d: the energy of chain %d is %v", k+1, levels, i, target[i])
			}
		}
		p.t = next
		kernel := sampler.HMC{Size: size(k, info.Accepted), Leapfrogs: o.Leapfrogs}
		if k == levels-1 {
			break // the last weight is taken before the last move
		}
		if info, err = sampler.Run(ctx, noise, kernel, p, st, 1, nil); err != nil {
			return nil, fmt.Errorf("ais: level %d of %d: %w", k+1, levels, err)
		}
	}
	return logw, nil
}

// schedule spends most temperatures near 0, where a sharp U first bites.
func schedule(k, levels int) float64 {
	t := float64(k) / float64(levels)
	return t * t * t * t
}

// path is the energy between the start and U.
type path struct {
	u         sampler.Field
	precision float64
	t         float64
}

func (p *path) base(z []float32) float64 {
	sum := 0.0
	for _, v := range z {
		sum += float64(v) * float64(v)
	}
	return p.precision * sum / 2
}

// EnergyGrad implements [sampler.Field].
func (p *path) EnergyGrad(z, u, g []float32) error {
	if err := p.u.EnergyGrad(z, u, g); err != nil {
		return err
	}
	dim := len(z) / len(u)
	for i := range u {
		u[i] = float32(p.t*float64(u[i]) + (1-p.t)*p.base(z[i*dim:(i+1)*dim]))
	}
	t, pull := float32(p.t), float32((1-p.t)*p.precision)
	for i := range g {
		g[i] = t*g[i] + pull*z[i]
	}
	return nil
}

// Pool is the logarithm of the mean of weights, given as logarithms, its standard
// error, and the share of the weights that effectively counts, (Σw)²/(n·Σw²).
func Pool(logw []float64) (mean, se, effective float64) {
	most := math.Inf(-1)
	for _, v := range logw {
		most = max(most, v)
	}
	sum, square, n := 0.0, 0.0, float64(len(logw))
	for _, v := range logw {
		w := math.Exp(v - most)
		sum += w
		square += w * w
	}
	effective = sum * sum / (n * square)
	// by the delta method, the relative error of the mean of the weights
	return most + math.Log(sum/n), math.Sqrt(max(0, 1/effective-1) / n), effective
}
