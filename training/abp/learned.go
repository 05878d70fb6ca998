package abp

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/sampler"
)

// Learned is what a run has learned: a generator, and Langevin inference of the
// codes behind examples.
type Learned struct {
	training.FromCodes
	Langevin training.Langevin // of inference
	Cold     Cold
}

var (
	_ training.Reconstructor = (*Learned)(nil)
	_ training.Encoder       = (*Learned)(nil)
)

// Open takes what a checkpoint holds into a generator of examples of dim values.
func Open(c Config, g training.Generator, dim int, st *checkpoint.State) (*Learned, error) {
	if err := training.RestoreParams(st, "generator", g.Params()); err != nil {
		return nil, err
	}
	slow, err := checkpoint.Values[float64](st, "optim.slow")
	if err != nil {
		return nil, err
	}
	return learned(c, g, dim, slow[0]), nil
}

// learned takes the Langevin step that learning ended with.
func learned(c Config, g training.Generator, dim int, rate float64) *Learned {
	if rate > 0 {
		c.Langevin.Step *= rate
	}
	return &Learned{training.FromCodes{Generator: g, Dim: dim}, c.Langevin, c.Cold.defaults()}
}

// Encode implements [training.Encoder]: chains from the prior, the best of several
// for each example.
func (l *Learned) Encode(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	n, d := len(x)/l.Dim, l.Codes()
	if len(x) != n*l.Dim {
		return nil, fmt.Errorf("abp: wanted examples of %d values each, got %d values", l.Dim, len(x))
	}
	if mask == nil {
		mask = training.Ones(len(x))
	}
	if len(mask) != len(x) {
		return nil, fmt.Errorf("abp: wanted a mask of %d values for %d examples of %d, got %d", len(x), n, l.Dim, len(mask))
	}
	sharp := append([]float32(nil), mask...)
	for i := range sharp { // the residual's weight is the mask's square
		sharp[i] *= float32(math.Sqrt(l.Cold.Sharp))
	}
	z, best := make([]float32, n*d), make([]float32, n)
	fill(best, float32(math.Inf(1)))
	return z, training.Blocks(n, training.Block, func(first, end int) error {
		for restart := range l.Cold.Restarts {
			noise := sampler.Noise{Seed: seed}.Fork(uint64(restart))
			field := l.Generator.Posterior(x[first*l.Dim:end*l.Dim], mask[first*l.Dim:end*l.Dim])
			st, err := infer(ctx, l.Generator, l.Langevin, noise, x[first*l.Dim:end*l.Dim], mask[first*l.Dim:end*l.Dim], sampler.Chains(uint64(first), end-first), l.Cold.Steps)
			if err == nil && l.Cold.Settle > 0 {
				k := l.Langevin.Kernel()
				k.Size, k.Noise = k.Size/4, 0
				_, err = sampler.Run(ctx, noise, k, l.Generator.Posterior(x[first*l.Dim:end*l.Dim], sharp[first*l.Dim:end*l.Dim]), st, l.Cold.Settle, nil)
			}
			if err == nil {
				err = st.Evaluate(field) // of where the last step led
			}
			if err != nil {
				return err
			}
			for k, u := range st.U {
				if u < best[first+k] {
					best[first+k] = u
					copy(z[(first+k)*d:(first+k+1)*d], st.X[k*d:])
				}
			}
		}
		return nil
	})
}

// Reconstruct implements [training.Reconstructor].
func (l *Learned) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	z, err := l.Encode(ctx, x, mask, seed)
	if err != nil {
		return nil, err
	}
	return l.Decode(ctx, z)
}

// infer runs chains from the prior towards the posterior of codes behind x.
func infer(ctx context.Context, g training.Generator, l training.Langevin, noise sampler.Noise, x, mask []float32, ids []uint64, steps int) (*sampler.State, error) {
	z := make([]float32, len(ids)*g.Codes())
	noise.Normals(z, ids, math.MaxUint64)
	st, err := sampler.NewState(z, g.Codes(), ids)
	if err != nil {
		return nil, err
	}
	_, err = sampler.Run(ctx, noise, l.Kernel(), g.Posterior(x, mask), st, steps, nil)
	return st, err
}

// Infer explains n examples x [n, dim] where mask is 1: it runs Langevin inference
// from the prior for the given number of steps and returns the codes and the
// generator's output, which fills in what the mask hides.
func Infer(ctx context.Context, g training.Generator, l training.Langevin, noise sampler.Noise, x, mask []float32, n, steps int) (z, y []float32, err error) {
	st, err := infer(ctx, g, l, noise, x, mask, sampler.Chains(0, n), steps)
	if err != nil {
		return nil, nil, err
	}
	y = make([]float32, len(x))
	return st.X, y, g.Forward(ctx, st.X, y)
}

func fill(x []float32, v float32) {
	for i := range x {
		x[i] = v
	}
}
