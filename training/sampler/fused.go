package sampler

import (
	"context"
	"fmt"
)

// A Chain takes k Langevin steps in one call: typically one graph that holds k copies of a step.
type Chain interface {
	// RunChain moves x [n*dim] in place, with noise [k, n, dim] of standard normals, one slab per
	// step; n = len(u) and k = len(noise)/len(x). It writes to u [n] the energies where the last
	// step started, as [Langevin] leaves them, and fills in what it knows of Info. A chain made for
	// another n or k returns an error.
	RunChain(ctx context.Context, x, u, noise []float32) (Info, error)
}

// Fused drives a [Chain] over a State in pieces of K steps. With the noise of step-by-step running,
// bit for bit, it ends where [Langevin] with the chain's settings ends, up to rounding.
type Fused struct {
	Chain Chain
	K     int // steps per call, >= 1

	noise []float32
}

// Run takes steps steps: calls of K steps, then one of the remainder. Before each call it asks ctx,
// and after it, it calls each (may be nil) with the number of steps taken so far. It returns the mean
// of the calls' Infos. It stops with a [*NonFiniteError] after a call that leaves an energy that is
// not finite.
func (f *Fused) Run(ctx context.Context, n Noise, s *State, steps int, each func(step int, i Info)) (Info, error) {
	var mean Info
	if f.K < 1 {
		return mean, fmt.Errorf("sampler: fused chain: want at least one step per call, got %d", f.K)
	}
	if err := s.check(); err != nil {
		return mean, err
	}
	if most := min(f.K, steps) * len(s.X); len(f.noise) < most {
		f.noise = make([]float32, most)
	}
	for done := 0; done < steps; {
		if ctx.Err() != nil {
			return mean, fmt.Errorf("sampler: stopped after %d of %d steps: %w", done, steps, context.Cause(ctx))
		}
		k := min(f.K, steps-done)
		noise := f.noise[:k*len(s.X)]
		n.Block(noise, s.Chain, s.T, k)
		info, err := f.Chain.RunChain(ctx, s.X, s.U, noise)
		if err == nil {
			err = countBad("energy", s.U)
		}
		if err != nil {
			return mean, fmt.Errorf("sampler: steps %d to %d of %d: %w", done+1, done+k, steps, err)
		}
		s.T += uint64(k)
		s.Invalidate()
		done += k
		mean.add(info, float64(k)/float64(done))
		if each != nil {
			each(done, info)
		}
	}
	return mean, nil
}
