package coopnets

import (
	"context"

	"ebmrun/training"
	"ebmrun/training/abp"
	"ebmrun/training/sampler"
)

// Learned is what a run has learned: an energy and a generator whose drafts it
// revises. Codes behind examples are found as abp finds them, by Langevin
// inference from the prior.
type Learned struct {
	abp.Learned
	Energy   training.Energy
	Revision training.Langevin
	Sigma    float64 // deviation of the generator's residual
}

var (
	_ training.Drawer        = (*Learned)(nil)
	_ training.Reconstructor = (*Learned)(nil)
	_ training.Interpolator  = (*Learned)(nil)
)

// Of is what networks of examples of dim values have learned.
func Of(c Config, e training.Energy, g training.Generator, dim int) *Learned {
	l := c.Inference
	if l.Steps == 0 { // jump-start: learning has inferred nothing
		l = training.Langevin{Step: 0.1, Noise: 1}
	}
	return &Learned{abp.Learned{
		FromCodes: training.FromCodes{Generator: g, Dim: dim}, Langevin: l, Cold: abp.Cold{Steps: 100, Restarts: 10, Settle: 200},
	}, e, c.Langevin, c.Sigma}
}

// revise takes the Langevin steps of learning from x, in place. What mask shows of
// x stays as it is in every step: pasted at the end alone, its border would drift.
func (l *Learned) revise(ctx context.Context, x, mask []float32, seed uint64) error {
	return training.Blocks(len(x)/l.Dim, training.Block, func(first, end int) error {
		part, k := x[first*l.Dim:end*l.Dim], l.Revision.Kernel()
		if mask != nil {
			seen, known := mask[first*l.Dim:end*l.Dim], append([]float32(nil), part...)
			k.Project = func(x []float32) {
				for i, m := range seen {
					if m != 0 {
						x[i] = known[i]
					}
				}
			}
		}
		st, err := sampler.NewState(part, l.Dim, sampler.Chains(uint64(first), end-first))
		if err != nil {
			return err
		}
		_, err = sampler.Run(ctx, sampler.Noise{Seed: seed}.Fork(revision), k, l.Energy, st, l.Revision.Steps, nil)
		return err
	})
}

// Draw implements [training.Drawer]: revised drafts.
func (l *Learned) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	x, err := l.Learned.Draw(ctx, n, seed)
	if err != nil {
		return nil, err
	}
	return x, l.revise(ctx, x, nil, seed)
}

// Interpolate implements [training.Interpolator]: revised drafts of the codes on
// the way.
func (l *Learned) Interpolate(ctx context.Context, from, to uint64, frames int) ([]float32, error) {
	x, err := l.Learned.Interpolate(ctx, from, to, frames)
	if err != nil {
		return nil, err
	}
	return x, l.revise(ctx, x, nil, from)
}

// Reconstruct implements [training.Reconstructor]: the draft of codes that explain
// what is visible; what is hidden is then revised by the energy between what is
// visible. Several codes may explain a part: of as many completions as restarts the
// one is taken that is likeliest by both, the energy of the whole and the residual of
// the part.
func (l *Learned) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	if mask == nil {
		return l.Learned.Reconstruct(ctx, x, mask, seed)
	}
	best, least := make([]float32, len(x)), make([]float64, len(x)/l.Dim)
	for restart := range max(l.Cold.Restarts, 1) {
		y, u, err := l.complete(ctx, x, mask, sampler.Noise{Seed: seed}.Fork(uint64(restart)).Seed)
		if err != nil {
			return nil, err
		}
		for i, v := range u {
			if restart == 0 || v < least[i] {
				least[i] = v
				copy(best[i*l.Dim:(i+1)*l.Dim], y[i*l.Dim:])
			}
		}
	}
	return best, nil
}

// complete is one completion of each example, and minus the log of its joint density
// with what is visible, up to a constant.
func (l *Learned) complete(ctx context.Context, x, mask []float32, seed uint64) (y []float32, u []float64, err error) {
	once := l.Learned
	once.Cold.Restarts = 1
	if y, err = once.Reconstruct(ctx, x, mask, seed); err != nil {
		return nil, nil, err
	}
	whole := append([]float32(nil), y...)
	for i, m := range mask {
		if m != 0 {
			whole[i] = x[i]
		}
	}
	if err := l.revise(ctx, whole, mask, seed); err != nil {
		return nil, nil, err
	}
	u = make([]float64, len(x)/l.Dim)
	for i, m := range mask {
		if m == 0 {
			y[i] = whole[i]
		} else {
			r := float64(x[i] - y[i])
			u[i/l.Dim] += r * r / (2 * l.Sigma * l.Sigma)
		}
	}
	return y, u, training.Blocks(len(u), training.Block, func(from, to int) error {
		e, slope := make([]float32, to-from), make([]float32, (to-from)*l.Dim)
		if err := l.Energy.EnergyGrad(y[from*l.Dim:to*l.Dim], e, slope); err != nil {
			return err
		}
		for i, v := range e {
			u[from+i] += float64(v)
		}
		return nil
	})
}
