package sampler

import "math"

// MALA is the Metropolis-adjusted Langevin algorithm (Roberts and Tweedie, 1996): one step of
// [Langevin] with Noise 1 as a proposal, taken or refused chain by chain so that exp(−U) is
// exactly stationary. A step costs one evaluation of the field, and one more after a change of the
// field. A ratio that is not a number is a rejection. The ratio is taken in float64 from float32
// energies: their rounding limits it when |U| is much above 10⁵.
type MALA struct {
	Size float32 // step size, > 0
}

var _ Sized = MALA{}

// Step implements [Kernel].
func (k MALA) Step(n Noise, f Field, s *State) (Info, error) { return k.StepSize(k.Size, n, f, s) }

// StepSize implements [Sized].
func (k MALA) StepSize(size float32, n Noise, f Field, s *State) (Info, error) {
	if err := checkSize(size); err != nil {
		return Info{}, err
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
	drift := size * size / 2
	for i, x := range s.X {
		x -= float32(drift * s.G[i])
		p.x[i] = x + float32(size*s.E[i])
	}
	if err := f.EnergyGrad(p.x, p.u, p.g); err != nil {
		return Info{}, err
	}
	d := float64(drift)
	for c := range p.r {
		var there, back float64 // squared lengths of the noise of the move and of its reverse
		for i := c * s.Dim; i < (c+1)*s.Dim; i++ {
			move := float64(p.x[i]) - float64(s.X[i])
			a, b := move+d*float64(s.G[i]), d*float64(p.g[i])-move
			there += a * a
			back += b * b
		}
		p.r[c] = float64(s.U[c]) - float64(p.u[c]) + (there-back)/(4*d)
	}
	s.metropolis(n, &info)
	return info, nil
}

// metropolis takes the proposal of each chain c with probability min(1, exp(r[c])) and ends the step.
func (s *State) metropolis(n Noise, info *Info) {
	p := &s.spare
	n.Uniforms(p.a, s.Chain, s.T)
	taken := 0
	for c, r := range p.r {
		if !finite(p.u[c]) || r-r != 0 {
			info.NonFinite++
			continue
		}
		if math.Log(p.a[c]) < r {
			from, to := c*s.Dim, (c+1)*s.Dim
			copy(s.X[from:to], p.x[from:to])
			copy(s.G[from:to], p.g[from:to])
			s.U[c] = p.u[c]
			taken++
		}
	}
	info.Accepted = float64(taken) / float64(len(p.r))
	s.Moved(true)
}
