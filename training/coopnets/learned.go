package coopnets

import (
	"cmp"
	"context"
	"slices"

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
		FromCodes: training.FromCodes{Generator: g, Dim: dim}, Langevin: l, Cold: abp.Cold{Steps: 100, Restarts: 24, Settle: 200, Sharp: 9},
	}, e, c.Langevin}
}

// revise takes the Langevin steps of learning from x, in place. What mask shows of
// x stays as it is in every step: pasted at the end alone, its border would drift.
func (l *Learned) revise(ctx context.Context, x, mask []float32, seed uint64) error {
	return training.Blocks(len(x)/l.Dim, training.Block, func(first, end int) error {
		part, k := x[first*l.Dim:end*l.Dim], l.Revision.Kernel()
		if mask != nil {
			k.Project = sampler.Hold(append([]float32(nil), part...), mask[first*l.Dim:end*l.Dim])
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
// visible. Several codes explain a part equally well: of as many completions as
// restarts the quarter of lowest energy stays, and of that the one is taken that is
// nearest to the mean of all in it, which is an example where the mean may be none.
func (l *Learned) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	if mask == nil {
		return l.Learned.Reconstruct(ctx, x, mask, seed)
	}
	out := make([]float32, len(x))
	return out, training.Blocks(len(x)/l.Dim, training.Block, func(first, end int) error {
		y, err := l.complete(ctx, x[first*l.Dim:end*l.Dim], mask[first*l.Dim:end*l.Dim], sampler.Noise{Seed: seed}.Fork(uint64(first)))
		copy(out[first*l.Dim:], y)
		return err
	})
}

// complete is what Reconstruct takes of a block of examples.
func (l *Learned) complete(ctx context.Context, x, mask []float32, noise sampler.Noise) ([]float32, error) {
	once := l.Learned
	once.Cold.Restarts = 1
	all := make([]completions, len(x)/l.Dim)
	u, slope := make([]float32, len(all)), make([]float32, len(x))
	for restart := range max(l.Cold.Restarts, 1) {
		y, err := once.Reconstruct(ctx, x, mask, noise.Fork(uint64(restart)).Seed)
		if err != nil {
			return nil, err
		}
		if err := l.Energy.EnergyGrad(paste(y, x, mask), u, slope); err != nil {
			return nil, err
		}
		for i, v := range u {
			all[i] = append(all[i], completion{y[i*l.Dim : (i+1)*l.Dim], v})
		}
	}
	y := make([]float32, 0, len(x))
	for _, c := range all {
		y = append(y, c.typical()...)
	}
	whole := paste(y, x, mask)
	if err := l.revise(ctx, whole, mask, noise.Seed); err != nil {
		return nil, err
	}
	for i, m := range mask {
		if m == 0 {
			y[i] = whole[i]
		}
	}
	return y, nil
}

// paste is y with what mask shows of x.
func paste(y, x, mask []float32) []float32 {
	whole := append([]float32(nil), y...)
	for i, m := range mask {
		if m != 0 {
			whole[i] = x[i]
		}
	}
	return whole
}

type completion struct {
	y []float32
	u float32 // energy of it with what is visible
}

type completions []completion

// typical is the completion nearest to the mean of the quarter of lowest energy.
func (c completions) typical() []float32 {
	slices.SortStableFunc(c, func(a, b completion) int { return cmp.Compare(a.u, b.u) })
	c = c[:(len(c)+3)/4]
	mean := make([]float32, len(c[0].y))
	for _, a := range c {
		for i, v := range a.y {
			mean[i] += v / float32(len(c))
		}
	}
	return slices.MinFunc(c, func(a, b completion) int {
		return cmp.Compare(training.MSE(a.y, mean), training.MSE(b.y, mean))
	}).y
}
