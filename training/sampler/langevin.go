package sampler

import "fmt"

// Langevin is overdamped Langevin dynamics without a Metropolis test,
//
//	x ← x − (Size²/2)·∂U/∂x + Noise·Size·ε,  ε ~ N(0, I),
//
// also written with Δt = Size² or δ = Size²/2. One step evaluates the slope at the old x, clips it,
// drifts, adds noise, clamps, and projects, in this order and each in float32. It costs one evaluation
// of the field, leaves the clipped slope in State.G, and stops with a [*NonFiniteError] before any
// chain has moved by a bad number.
//
// The stationary variance on U = x²/(2σ²) is σ²/(1 − Size²/(4σ²)): the discretisation widens the
// distribution by a share Size²/(4σ²) and is stable for Size < 2σ.
type Langevin struct {
	Size     float32 // step size, > 0
	Noise    float32 // noise multiplier: 1 samples exp(−U), 0 descends
	GradClip float32 // each entry of ∂U/∂x is held in [−GradClip, GradClip]; 0 is off

	ClampMin, ClampMax float32 // each entry of x is held in [ClampMin, ClampMax]; both 0 is off

	// Project, if not nil, maps the moved x [n*dim] back onto a constraint, in place: known pixels
	// of an inpainting, block means of a super-resolution.
	Project func(x []float32)
}

var _ Kernel = Langevin{}

// Step implements [Kernel].
func (k Langevin) Step(n Noise, f Field, s *State) (Info, error) {
	if err := k.check(); err != nil {
		return Info{}, err
	}
	if err := s.Evaluate(f); err != nil {
		return Info{}, err
	}
	drifted, err := s.meanDrift(k.Size, k.GradClip)
	if err != nil {
		return Info{}, err
	}
	info := Info{Accepted: 1, Drift: drifted}

	n.normals(s.E, s.Chain, s.T, move{s.X, s.G, k.Size * k.Size / 2, k.Noise * k.Size})
	if k.ClampMin != 0 || k.ClampMax != 0 {
		info.Clamped = float64(clamp(s.X, k.ClampMin, k.ClampMax)) / float64(len(s.X))
	}
	if k.Project != nil {
		k.Project(s.X)
	}
	s.Moved(false)
	return info, nil
}

func (k Langevin) check() error {
	if err := checkSize(k.Size); err != nil {
		return err
	}
	if !(k.Noise >= 0) || !finite(k.Noise) {
		return fmt.Errorf("noise multiplier: want 0 or more, got %v", k.Noise)
	}
	if !(k.GradClip >= 0) {
		return fmt.Errorf("gradient clip: want 0 or more, got %v", k.GradClip)
	}
	if (k.ClampMin != 0 || k.ClampMax != 0) && !(k.ClampMin < k.ClampMax) {
		return fmt.Errorf("clamp: want min < max, got %v and %v", k.ClampMin, k.ClampMax)
	}
	return nil
}

// clip holds each entry of v in [−limit, limit] and lets NaN through.
func clip(v []float32, limit float32) {
	for i, a := range v {
		if a > limit {
			v[i] = limit
		} else if a < -limit {
			v[i] = -limit
		}
	}
}

// clamp holds each entry of x in [low, high] and counts those that were outside.
func clamp(x []float32, low, high float32) (outside int) {
	for i, a := range x {
		if a < low {
			x[i] = low
			outside++
		} else if a > high {
			x[i] = high
			outside++
		}
	}
	return outside
}
