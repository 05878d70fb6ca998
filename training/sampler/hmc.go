package sampler

import (
	"fmt"
	"math"
)

// HMC is Hamiltonian Monte Carlo (Duane et al., 1987; Neal, 2011): momenta r ~ N(0, Mass·I) are
// drawn afresh, Leapfrogs leapfrog steps
//
//	r ← r − (Size/2)·∂U/∂x,  x ← x + Size·r/Mass,  r ← r − (Size/2)·∂U/∂x
//
// follow, and the end is taken or refused chain by chain on the change of U + ‖r‖²/(2·Mass), in
// float64. A step costs Leapfrogs evaluations of the field, and one more after a change of the field.
// A ratio that is not a number is a rejection.
type HMC struct {
	Size      float32 // leapfrog step size, > 0
	Leapfrogs int     // leapfrog steps per step, >= 1
	Mass      float32 // variance of each momentum; 0 is 1
}

var _ Sized = HMC{}

// Step implements [Kernel].
func (k HMC) Step(n Noise, f Field, s *State) (Info, error) { return k.StepSize(k.Size, n, f, s) }

// StepSize implements [Sized].
func (k HMC) StepSize(size float32, n Noise, f Field, s *State) (Info, error) {
	if err := checkSize(size); err != nil {
		return Info{}, err
	}
	mass := k.Mass
	if mass == 0 {
		mass = 1
	}
	if k.Leapfrogs < 1 || !(mass > 0) || !finite(mass) {
		return Info{}, fmt.Errorf("hmc: want at least one leapfrog and a positive mass, got %d and %v", k.Leapfrogs, k.Mass)
	}
	if err := s.Evaluate(f); err != nil {
		return Info{}, err
	}
	drifted, err := s.meanDrift(size, 0)
	if err != nil {
		return Info{}, err
	}
	info, p := Info{Drift: drifted}, s.proposal()
	n.Normals(s.E, s.Chain, s.T)
	r, root := s.E, float32(math.Sqrt(float64(mass)))
	for i := range r {
		r[i] *= root
	}
	for c := range p.r {
		p.r[c] = float64(s.U[c]) + kinetic(r[c*s.Dim:(c+1)*s.Dim], mass)
	}
	copy(p.x, s.X)
	g := s.G
	for range k.Leapfrogs {
		push(r, g, size/2)
		for i, v := range r {
			p.x[i] += float32(size * v / mass)
		}
		if err := f.EnergyGrad(p.x, p.u, p.g); err != nil {
			return Info{}, err
		}
		g = p.g
		push(r, g, size/2)
	}
	for c := range p.r {
		p.r[c] -= float64(p.u[c]) + kinetic(r[c*s.Dim:(c+1)*s.Dim], mass)
	}
	s.metropolis(n, &info)
	return info, nil
}

// push changes the momenta r by −by·g.
func push(r, g []float32, by float32) {
	for i, v := range g {
		r[i] -= float32(by * v)
	}
}

// kinetic returns ‖r‖²/(2·mass).
func kinetic(r []float32, mass float32) float64 {
	var sum float64
	for _, v := range r {
		sum += float64(v) * float64(v)
	}
	return sum / (2 * float64(mass))
}
