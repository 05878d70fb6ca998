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
		FromCodes: training.FromCodes{Generator: g, Dim: dim}, Langevin: l, Cold: abp.Cold{Steps: 200, Restarts: 8, Settle: 100},
	}, e, c.Langevin}
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
// visible.
func (l *Learned) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	y, err := l.Learned.Reconstruct(ctx, x, mask, seed)
	if err != nil || mask == nil {
		return y, err
	}
	whole := append([]float32(nil), y...)
	for i, m := range mask {
		if m != 0 {
			whole[i] = x[i]
		}
	}
	if err := l.revise(ctx, whole, mask, seed); err != nil {
		return nil, err
	}
	for i, m := range mask {
		if m == 0 {
			y[i] = whole[i]
		}
	}
	return y, nil
}
