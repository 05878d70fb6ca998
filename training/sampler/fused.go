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

// A Relay is a Chain that makes several calls in a row better than one by one: the
// state stays where it is computed, and noise is drawn while a call runs.
type Relay interface {
	Chain

	// Piece is how many of k steps of a state of n numbers a call should take for that; k where it does not matter.
	Piece(k, n int) int

	// RunChains moves x in place by so many calls of k steps, or leaves it and returns an error. draw fills in the noise of a call, may
	// be called for it while an earlier one runs, and more than once; done is called after each, with
	// the call's energies in u.
	RunChains(ctx context.Context, x, u []float32, k, calls int, draw func(call int, noise []float32), done func(Info) error) error
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
	done := 0
	after := func(k int, u []float32, info Info) error {
		if err := countBad("energy", u); err != nil {
			return err
		}
		s.T += uint64(k)
		s.Invalidate()
		done += k
		mean.add(info, float64(k)/float64(done))
		return nil
	}
	if relay, ok := f.Chain.(Relay); ok && each == nil && steps > 0 {
		k, first := relay.Piece(min(f.K, steps), len(s.X)), s.T
		if calls := steps / k; calls > 1 {
			err := relay.RunChains(ctx, s.X, s.U, k, calls, func(call int, noise []float32) {
				n.Block(noise, s.Chain, first+uint64(call*k), k)
			}, func(i Info) error { return after(k, s.U, i) })
			if err != nil {
				s.T = first // the chains have not moved
				return mean, fmt.Errorf("sampler: after %d of %d steps: %w", done, steps, err)
			}
		}
	}
	if most := min(f.K, steps-done) * len(s.X); len(f.noise) < most {
		f.noise = make([]float32, most)
	}
	for done < steps {
		if ctx.Err() != nil {
			return mean, fmt.Errorf("sampler: stopped after %d of %d steps: %w", done, steps, context.Cause(ctx))
		}
		k := min(f.K, steps-done)
		noise := f.noise[:k*len(s.X)]
		n.Block(noise, s.Chain, s.T, k)
		info, err := f.Chain.RunChain(ctx, s.X, s.U, noise)
		if err == nil {
			err = after(k, s.U, info)
		}
		if err != nil {
			return mean, fmt.Errorf("sampler: steps %d to %d of %d: %w", done+1, done+k, steps, err)
		}
		if each != nil {
			each(done, info)
		}
	}
	return mean, nil
}
