package coopflow

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/flow"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
	"ebmrun/training/shortrun"
)

// A Model is a learned pair: drafts of the flow, revised by the Langevin flow.
type Model struct {
	Flow     flow.Model
	Energy   sampler.Field
	Langevin training.Langevin // outside learning
	Search   Search
}

var (
	_ training.Drawer        = Model{}
	_ training.Reconstructor = Model{}
	_ training.Interpolator  = Model{}
	_ training.Scorer        = Model{}
)

// Of is the model of the settings.
func (c *Config) Of(e sampler.Field, f flow.Model) Model {
	l := c.Langevin
	if c.Step > 0 {
		// the most that a step moves an entry stays the same
		l.GradClip *= l.Step * l.Step / (c.Step * c.Step)
		l.Step = c.Step
	}
	return Model{f, e, l, c.Search}
}

// Revise takes drafts [n, dim] through the Langevin flow. One chain number for all
// rows makes it one map.
func (m Model) Revise(ctx context.Context, x []float32, chains []uint64, noise sampler.Noise) error {
	dim := m.Flow.Dim
	return training.Blocks(len(x)/dim, block, func(first, end int) error {
		st, err := sampler.NewState(x[first*dim:end*dim], dim, chains[first:end])
		if err != nil {
			return err
		}
		_, err = sampler.Run(ctx, noise, m.Langevin.Kernel(), m.Energy, st, m.Langevin.Steps, nil)
		return err
	})
}

// Draw implements [training.Drawer].
func (m Model) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	x, err := m.Flow.Draw(ctx, n, seed)
	if err != nil {
		return nil, err
	}
	return x, m.Revise(ctx, x, sampler.Chains(0, n), sampler.Noise{Seed: seed}.Fork(drawn))
}

// Interpolate implements [training.Interpolator]: equal angles between two codes,
// each draft revised under the same noise.
func (m Model) Interpolate(ctx context.Context, from, to uint64, frames int) ([]float32, error) {
	x, err := m.Flow.Interpolate(ctx, from, to, frames)
	if err != nil {
		return nil, err
	}
	return x, m.Revise(ctx, x, make([]uint64, frames), sampler.Noise{Seed: from}.Fork(drawn))
}

// Score implements [training.Scorer]: the flow's, the only exact density of the two.
func (m Model) Score(ctx context.Context, x []float32, seed uint64) (name string, values []float64, err error) {
	name, values, err = m.Flow.Score(ctx, x, seed)
	return "flow: " + name, values, err
}

// Reconstruct implements [training.Reconstructor]: it looks for the drafts whose
// noise-free revision comes closest to the examples where these are known, from draws
// of the flow, by the gradient through all steps of the chain.
func (m Model) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	dim := m.Flow.Dim
	if len(x)%dim != 0 || mask != nil && len(mask) != len(x) {
		return nil, fmt.Errorf("coopflow: wanted examples of %d values and a mask of as many, got %d and %d values", dim, len(x), len(mask))
	}
	if _, ok := m.Energy.(training.Curver); !ok {
		return nil, fmt.Errorf("coopflow: the energy has no second-order products, which the way back through the chain needs")
	}
	out, least := make([]float32, len(x)), make([]float64, len(x)/dim)
	for i := range least {
		least[i] = math.Inf(1)
	}
	for k := range m.Search.Starts {
		draft, err := m.Flow.Draw(ctx, len(x)/dim, seed+uint64(k))
		if err != nil {
			return nil, err
		}
		err = training.Blocks(len(x)/dim, block, func(first, end int) error {
			a, b := first*dim, end*dim
			var known []float32
			if mask != nil {
				known = mask[a:b]
			}
			return m.find(ctx, draft[a:b], x[a:b], known, least[first:end], out[a:b])
		})
		if err != nil || mask == nil {
			return out, err // whole examples need no second start
		}
	}
	return out, nil
}

// find moves drafts and writes to best the revisions on the way whose error is less
// than least.
func (m Model) find(ctx context.Context, draft, x, known []float32, least []float64, best []float32) error {
	k := m.Langevin.Kernel()
	g := shortrun.Generator{Field: m.Energy, Kernel: k, K: m.Langevin.Steps, Dim: m.Flow.Dim}
	p := []optim.Param{{Name: "draft", W: draft, G: make([]float32, len(draft))}}
	descend := optim.Chain(optim.Adam(0.9, 0.999, 1e-8), optim.LearningRate(optim.Exponential(m.Search.Rate, m.Search.Fall, 1)))
	for i := 0; ; i++ {
		loss, slope, made, err := g.SlopeKnown(ctx, draft, x, known)
		if err != nil {
			return err
		}
		for row, l := range loss {
			if l < least[row] {
				least[row] = l
				copy(best[row*m.Flow.Dim:(row+1)*m.Flow.Dim], made[row*m.Flow.Dim:])
			}
		}
		if i == m.Search.Steps {
			return nil
		}
		copy(p[0].G, slope)
		if err := optim.Step(descend, p); err != nil {
			return err
		}
		if lo, hi := m.Flow.Lo, m.Flow.Hi; lo < hi {
			for j, v := range draft {
				draft[j] = min(max(v, lo), hi)
			}
		}
	}
}

// block is how many chains run at a time outside learning.
const block = 64
