// Package shortrun treats K Langevin steps as a generator x = M(z) that starts
// from noise z (Nijkamp, Hill, Zhu, Wu, "Learning Non-Convergent Non-Persistent
// Short-Run MCMC Toward Energy-Based Model", NeurIPS 2019): it interpolates
// between two starts and finds the start that gives a picture.
//
// The number of steps and their settings are part of the model: with others than
// in learning, samples wash out or saturate.
package shortrun

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/sampler"
)

// A Generator maps starts z to examples x = M(z) by K steps of Kernel over
// Field. Rows do not influence one another, and all see the same noise, so that
// M is one function.
type Generator struct {
	Field  sampler.Field
	Kernel sampler.Langevin // without Project
	K      int              // steps
	Dim    int              // values of one example

	// Noise, if not nil, gives the noise e of M(z) = M(z, e), scaled by
	// Kernel.Noise. Without it the steps are noise-free, whatever Kernel says.
	Noise *sampler.Noise

	// Sigma is the deviation of a Gaussian reference inside the energy, 0 for
	// none. It is needed where Field is no [training.Curver], or Flat is set.
	Sigma float64

	// Flat takes the network to have no curvature of its own, which is exact for
	// networks that are linear in pieces and saves two thirds of the time of a slope.
	Flat bool

	// Signs, if not 0, has a search for starts move by the signs of the slope alone, in iteration i by the step times
	// Signs^i: a slope through a long chain tells directions better than sizes.
	Signs float64
}

// Map returns M(z) for starts z [n*Dim].
func (g *Generator) Map(ctx context.Context, z []float32) ([]float32, error) {
	s, k, noise, err := g.start(z)
	if err != nil {
		return nil, err
	}
	if _, err := sampler.Run(ctx, noise, k, g.Field, s, g.K, nil); err != nil {
		return nil, fmt.Errorf("shortrun: %w", err)
	}
	return s.X, nil
}

// start places chains on a copy of z.
func (g *Generator) start(z []float32) (s *sampler.State, k sampler.Langevin, noise sampler.Noise, err error) {
	k = g.Kernel
	if g.Noise != nil {
		noise = *g.Noise
	} else {
		k.Noise = 0
	}
	switch {
	case g.K < 1:
		err = fmt.Errorf("shortrun: wanted at least one step, got %d", g.K)
	case g.Dim < 1 || len(z) == 0 || len(z)%g.Dim != 0:
		err = fmt.Errorf("shortrun: wanted starts of %d values, got %d values", g.Dim, len(z))
	case k.Project != nil:
		err = fmt.Errorf("shortrun: a generator has no projection")
	}
	if err != nil {
		return nil, k, noise, err
	}
	s, err = sampler.NewState(append([]float32(nil), z...), g.Dim, make([]uint64, len(z)/g.Dim))
	return s, k, noise, err
}

// Blend returns n ≥ 2 starts on the way from z1 to z2, both [Dim], the two
// included:
//
//	z = ρ·z1 + √(1 − ρ²)·z2,  ρ = cos φ,  φ = 0 … π/2 in equal angles.
//
// The weights keep the variance of independent Gaussian starts, and equal angles
// make equal steps. Uniform starts would leave their range on the way, by up to
// √2 in the middle: hold gives bounds for each entry; both 0 is off.
func Blend(z1, z2 []float32, n int, hold [2]float32) ([]float32, error) {
	z, err := training.Between(z1, z2, n)
	if err != nil || hold == [2]float32{} {
		return z, err
	}
	for i := range z {
		if way := i / len(z1); way > 0 && way < n-1 {
			z[i] = min(max(z[i], hold[0]), hold[1])
		}
	}
	return z, nil
}

// Interpolate returns M of the n starts of [Blend], from M(z1) to M(z2).
func (g *Generator) Interpolate(ctx context.Context, z1, z2 []float32, n int, hold [2]float32) ([]float32, error) {
	z, err := Blend(z1, z2, n, hold)
	if err != nil {
		return nil, err
	}
	return g.Map(ctx, z)
}

// A path is what the way back through M needs to know of the way there.
type path struct {
	at      [][]float32 // x before each step, and at the end: [K+1][n*dim]
	clipped [][]bool    // slopes that were held, [K][n*dim]; nil without a clip
}

// walk is Map that remembers its way.
func (g *Generator) walk(ctx context.Context, z []float32) (*path, error) {
	s, k, noise, err := g.start(z)
	if err != nil {
		return nil, err
	}
	p := &path{at: [][]float32{append([]float32(nil), z...)}}
	_, err = sampler.Run(ctx, noise, k, g.Field, s, g.K, func(int, sampler.Info) {
		p.at = append(p.at, append([]float32(nil), s.X...))
		if k.GradClip > 0 {
			held := make([]bool, len(s.G))
			for i, v := range s.G {
				held[i] = v >= k.GradClip || v <= -k.GradClip
			}
			p.clipped = append(p.clipped, held)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("shortrun: %w", err)
	}
	return p, nil
}

// Slope returns for each row the squared error ‖x − M(z)‖² [n] and its slope with
// respect to z [n*Dim]. Back through each step v becomes
//
//	v − (s²/2)·∂²U/∂x²·v
//
// with the entries that a clip or clamp held left out. Where Field is no
// [training.Curver], or Flat is set, ∂²U/∂x² is that of the reference alone, 1/Sigma².
func (g *Generator) Slope(ctx context.Context, z, x []float32) (loss []float64, slope []float32, err error) {
	if len(x) != len(z) {
		return nil, nil, fmt.Errorf("shortrun: wanted as many values as starts, got %d and %d", len(x), len(z))
	}
	p, err := g.walk(ctx, z)
	if err != nil {
		return nil, nil, err
	}
	loss, v := make([]float64, len(z)/g.Dim), make([]float32, len(z))
	for i, y := range p.at[g.K] {
		d := float64(y) - float64(x[i])
		loss[i/g.Dim] += d * d
		v[i] = float32(2 * d)
	}
	return loss, v, g.pullBack(ctx, p, v)
}

// pullBack turns the slope v with respect to M(z) into that with respect to z.
func (g *Generator) pullBack(ctx context.Context, p *path, v []float32) error {
	k := g.Kernel
	half := float64(k.Size) * float64(k.Size) / 2
	clamped := k.ClampMin != 0 || k.ClampMax != 0
	moved, hv := make([]float32, len(v)), make([]float32, len(v))
	for t := g.K - 1; t >= 0; t-- {
		if ctx.Err() != nil {
			return fmt.Errorf("shortrun: %w", context.Cause(ctx))
		}
		if clamped {
			for i, y := range p.at[t+1] {
				if y <= k.ClampMin || y >= k.ClampMax {
					v[i] = 0
				}
			}
		}
		copy(moved, v)
		if p.clipped != nil {
			for i, held := range p.clipped[t] {
				if held {
					moved[i] = 0
				}
			}
		}
		if err := g.curvature(p.at[t], moved, hv); err != nil {
			return fmt.Errorf("shortrun: step %d of %d backwards: %w", g.K-t, g.K, err)
		}
		for i := range v {
			v[i] -= float32(half * float64(hv[i]))
		}
	}
	return nil
}

// curvature writes ∂²U/∂x²·v to hv.
func (g *Generator) curvature(x, v, hv []float32) error {
	if c, ok := g.Field.(training.Curver); ok && !g.Flat {
		return c.HessianVector(x, v, hv)
	}
	inverse := 0.0
	if g.Sigma > 0 {
		inverse = 1 / (g.Sigma * g.Sigma)
	}
	for i, a := range v {
		hv[i] = float32(inverse * float64(a))
	}
	return nil
}

// A Reconstruction is what [Generator.Reconstruct] has found.
type Reconstruction struct {
	Z     []float32 // the best starts [n*Dim]
	X     []float32 // M(Z) [n*Dim]
	Error []float64 // mean squared error of each row [n]
	Curve []float64 // mean over rows of the error before each iteration and after the last
}

// Reconstruct looks for starts whose M(z) are the examples x [n*Dim]: iters steps
// of gradient descent z ← z − step·∂‖x − M(z)‖²/∂z from z. Of each row the best
// start on the way is kept. z is not changed.
func (g *Generator) Reconstruct(ctx context.Context, x, z []float32, iters int, step float64) (*Reconstruction, error) {
	if iters < 0 || !(step > 0) {
		return nil, fmt.Errorf("shortrun: wanted iterations and a positive step size, got %d and %g", iters, step)
	}
	z = append([]float32(nil), z...)
	var r *Reconstruction
	for i := 0; ; i++ {
		loss, slope, err := g.Slope(ctx, z, x)
		if err != nil {
			return nil, err
		}
		if r == nil {
			r = &Reconstruction{Z: append([]float32(nil), z...), Error: make([]float64, len(loss))}
			for row := range r.Error {
				r.Error[row] = math.Inf(1)
			}
		}
		mean := 0.0
		for row, l := range loss {
			l /= float64(g.Dim)
			mean += l / float64(len(loss))
			if l < r.Error[row] {
				r.Error[row] = l
				copy(r.Z[row*g.Dim:(row+1)*g.Dim], z[row*g.Dim:(row+1)*g.Dim])
			}
		}
		r.Curve = append(r.Curve, mean)
		if i == iters {
			break
		}
		for j, v := range slope {
			if g.Signs != 0 && v != 0 {
				v = float32(math.Copysign(math.Pow(g.Signs, float64(i)), float64(v)))
			}
			z[j] -= float32(step * float64(v))
		}
	}
	var err error
	r.X, err = g.Map(ctx, r.Z)
	return r, err
}
