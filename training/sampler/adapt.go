package sampler

import (
	"fmt"
	"math"
)

// Sized is a kernel with an acceptance rate that depends on its step size.
type Sized interface {
	Kernel
	// StepSize is Step with another step size.
	StepSize(size float32, n Noise, f Field, s *State) (Info, error)
}

// Adapt tunes the step size of a kernel towards a target acceptance rate by dual averaging (Hoffman
// and Gelman, "The No-U-Turn Sampler", JMLR 2014, section 3.2, with their γ = 0.05, t₀ = 10,
// κ = 0.75), fed with the share of chains that accepted. While it tunes, the chain is not exactly
// Markov; after Warmup steps it keeps the averaged size for good.
type Adapt struct {
	Kernel Sized
	Size   float32 // step size tried first, > 0
	Target float64 // share of accepted proposals wanted, inside (0, 1): 0.574 suits MALA, 0.65 HMC
	Warmup int     // steps that tune

	Tuning Tuning // state; the zero value starts afresh
}

// Tuning is what Adapt remembers; save it with the chains to resume.
type Tuning struct {
	Steps   int     // steps that have tuned
	Deficit float64 // running mean of target − accepted
	Log     float64 // logarithm of the step size in use
	Mean    float64 // logarithm of the averaged step size
}

var _ Kernel = (*Adapt)(nil)

// Current returns the step size that the next step uses.
func (a *Adapt) Current() float32 {
	switch t := &a.Tuning; {
	case t.Steps == 0:
		return a.Size
	case t.Steps < a.Warmup:
		return float32(math.Exp(t.Log))
	default:
		return float32(math.Exp(t.Mean))
	}
}

// Step implements [Kernel].
func (a *Adapt) Step(n Noise, f Field, s *State) (Info, error) {
	if !(a.Target > 0 && a.Target < 1) {
		return Info{}, fmt.Errorf("adapt: want a target acceptance inside (0, 1), got %v", a.Target)
	}
	if err := checkSize(a.Size); err != nil {
		return Info{}, err
	}
	info, err := a.Kernel.StepSize(a.Current(), n, f, s)
	if err == nil && a.Tuning.Steps < a.Warmup {
		a.Tuning.update(a.Target-info.Accepted, math.Log(10*float64(a.Size)))
	}
	return info, err
}

// update is one step of dual averaging that shrinks towards the logarithm mu.
func (t *Tuning) update(deficit, mu float64) {
	const gamma, t0, kappa = 0.05, 10, 0.75
	t.Steps++
	m := float64(t.Steps)
	t.Deficit += (deficit - t.Deficit) / (m + t0)
	t.Log = mu - math.Sqrt(m)/gamma*t.Deficit
	t.Mean += math.Pow(m, -kappa) * (t.Log - t.Mean)
}
