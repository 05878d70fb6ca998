// Package sampler moves batches of Markov chains over an energy U, where low energy is likely:
// p(x) ∝ exp(−U(x)).
//
// A [Field] gives energies and slopes and may be a neural network or three lines of Go. A [Kernel]
// ([Langevin], [MALA], [HMC], and the wrappers [Anneal] and [Adapt]) holds settings only; what changes
// lives in a [State], and [Run] takes the steps. A [Chain] takes many Langevin steps in one call and is
// driven by [Fused]. All randomness comes from [Noise], a pure function of seed, chain and step, so that
// results do not depend on how chains are split into batches and a run resumes from X, Chain and T alone.
//
// Nothing is allocated per step once a State has its buffers.
package sampler

import (
	"context"
	"fmt"
	"math"
)

// A Field is an energy over batches of n chains of dimension dim.
type Field interface {
	// EnergyGrad writes the energy of each chain to u [n] and ∂u/∂x to g [n*dim], both given x [n*dim].
	// It keeps none of the slices and must not change x. Chains do not influence one another.
	EnergyGrad(x, u, g []float32) error
}

// A Planner is a Field that gains from knowing how many evaluations of the same function
// follow. [Run] tells it before its steps, and 0 after them.
type Planner interface{ Expect(evaluations int) }

// State is all that changes while chains move. X, Chain and T are enough to save and resume one.
type State struct {
	X     []float32 // positions [n*dim], row by row
	U     []float32 // energies [n], see Evaluate
	G     []float32 // ∂U/∂X [n*dim], see Evaluate
	E     []float32 // noise, or momenta, of the last step [n*dim]
	Dim   int       // entries per chain
	Chain []uint64  // chain numbers [n]: they select each chain's noise
	T     uint64    // steps taken: it selects each step's noise

	fresh bool      // U and G belong to X and the present field
	norms []float64 // of the slopes [n]
	spare spare
}

// spare holds the buffers of kernels that make a proposal.
type spare struct {
	x, g, u []float32 // of the proposal
	r, a    []float64 // log ratio and uniform number of each chain
}

// NewState returns the state of len(chain) chains that start at x [len(chain)*dim] with step 0. It
// keeps both slices: kernels write to x.
func NewState(x []float32, dim int, chain []uint64) (*State, error) {
	n := len(chain)
	s := &State{
		X: x, U: make([]float32, n), G: make([]float32, len(x)), E: make([]float32, len(x)),
		Dim: dim, Chain: chain,
	}
	return s, s.check()
}

// Chains returns the numbers first, first+1, … of n chains.
func Chains(first uint64, n int) []uint64 {
	c := make([]uint64, n)
	for i := range c {
		c[i] = first + uint64(i)
	}
	return c
}

// Len returns the number of chains.
func (s *State) Len() int { return len(s.Chain) }

// Clone returns a copy that shares no memory with s.
func (s *State) Clone() *State {
	c := *s
	c.X = append([]float32(nil), s.X...)
	c.U = append([]float32(nil), s.U...)
	c.G = append([]float32(nil), s.G...)
	c.E = append([]float32(nil), s.E...)
	c.Chain = append([]uint64(nil), s.Chain...)
	c.spare, c.norms = spare{}, nil
	return &c
}

// Evaluate makes U and G those of X, calling f only if they are not already. It fails if an energy
// is not finite.
func (s *State) Evaluate(f Field) error {
	if err := s.check(); err != nil {
		return err
	}
	if s.fresh {
		return nil
	}
	if err := f.EnergyGrad(s.X, s.U, s.G); err != nil {
		return err
	}
	if err := countBad("energy", s.U); err != nil {
		return err
	}
	s.fresh = true
	return nil
}

// Invalidate makes the next Evaluate call its field. It is needed after X or the field's weights
// were changed by other means than a kernel; Run does it before its first step.
func (s *State) Invalidate() { s.fresh = false }

// Moved ends a kernel's step: it counts the step and says whether U and G belong to the new X.
func (s *State) Moved(fresh bool) {
	s.T++
	s.fresh = fresh
}

func (s *State) check() error {
	n := len(s.Chain)
	if s.Dim < 1 || n < 1 || len(s.X) != n*s.Dim || len(s.G) != len(s.X) || len(s.E) != len(s.X) || len(s.U) != n {
		return fmt.Errorf("sampler: state of %d chains of dimension %d: want n and n*dim entries, got x %d, u %d, g %d, e %d",
			n, s.Dim, len(s.X), len(s.U), len(s.G), len(s.E))
	}
	return nil
}

// proposal returns the spare buffers, made on first use.
func (s *State) proposal() *spare {
	if len(s.spare.x) != len(s.X) || len(s.spare.u) != len(s.U) {
		s.spare = spare{
			x: make([]float32, len(s.X)), g: make([]float32, len(s.X)),
			u: make([]float32, len(s.U)), r: make([]float64, len(s.U)), a: make([]float64, len(s.U)),
		}
	}
	return &s.spare
}

// Info says how one step went.
type Info struct {
	Accepted  float64 // share of chains whose proposal was taken; 1 for kernels without a test
	Drift     float64 // mean over chains of ‖(Size²/2)·∂U/∂x‖ where the step started
	Clamped   float64 // share of entries of x held at a bound
	NonFinite int     // proposals rejected because their energy or slope was not finite
}

// A Kernel moves all chains of s by one step under the field f. Its own fields are settings and do
// not change. The step's noise is that of s.Chain and s.T; after success s.T is one more, and U and G
// are those of the x where Langevin started, or of the new x for kernels with a Metropolis test.
type Kernel interface {
	Step(n Noise, f Field, s *State) (Info, error)
}

// NonFiniteError reports chains whose energy or slope is no longer a finite number.
type NonFiniteError struct {
	What   string  // "energy" or "gradient"
	First  int     // row of the first bad chain
	Value  float32 // its value: NaN, +Inf or −Inf
	Bad    int     // number of bad chains
	Chains int     // number of chains
}

func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("%s is %v in %d of %d chains", e.What, e.Value, e.Bad, e.Chains)
}

// add counts one bad chain in a possibly nil error.
func (e *NonFiniteError) add(what string, row, chains int, value float32) *NonFiniteError {
	if e == nil {
		e = &NonFiniteError{What: what, First: row, Value: value, Chains: chains}
	}
	e.Bad++
	return e
}

// countBad returns a *NonFiniteError if some of the values, one per chain, are not finite.
func countBad(what string, values []float32) error {
	var bad *NonFiniteError
	for i, v := range values {
		if !finite(v) {
			bad = bad.add(what, i, len(values), v)
		}
	}
	if bad != nil {
		return bad
	}
	return nil
}

func finite(v float32) bool { return v-v == 0 }

// Run takes steps steps of k and returns the mean of their Infos (the sum for NonFinite). Between
// steps it asks ctx, and after each step, numbered from 1, it calls each if that is not nil. An
// error names the step; the chains then stand where that step found them.
func Run(ctx context.Context, n Noise, k Kernel, f Field, s *State, steps int, each func(step int, i Info)) (Info, error) {
	var mean Info
	s.Invalidate()
	if p, ok := f.(Planner); ok {
		p.Expect(steps)
		defer p.Expect(0)
	}
	for step := 1; step <= steps; step++ {
		if ctx.Err() != nil {
			return mean, fmt.Errorf("sampler: stopped after %d of %d steps: %w", step-1, steps, context.Cause(ctx))
		}
		info, err := k.Step(n, f, s)
		if err != nil {
			return mean, fmt.Errorf("sampler: step %d of %d: %w", step, steps, err)
		}
		mean.add(info, 1/float64(step))
		if each != nil {
			each(step, info)
		}
	}
	return mean, nil
}

// add moves the mean by the given weight towards one more Info.
func (m *Info) add(i Info, weight float64) {
	m.Accepted += weight * (i.Accepted - m.Accepted)
	m.Drift += weight * (i.Drift - m.Drift)
	m.Clamped += weight * (i.Clamped - m.Clamped)
	m.NonFinite += i.NonFinite
}

// norm returns the Euclidean norm of v. It adds in four lanes: one addition need not wait for the last.
func norm(v []float32) float64 {
	var a, b, c, d float64 // an array would be in memory
	for ; len(v) >= 4; v = v[4:] {
		e, f, g, h := float64(v[0]), float64(v[1]), float64(v[2]), float64(v[3])
		a += e * e
		b += f * f
		c += g * g
		d += h * h
	}
	for ; len(v) > 0; v = v[1:] {
		e := float64(v[0])
		a, b, c, d = b, c, d, a+e*e
	}
	return math.Sqrt(a + b + c + d)
}

// meanDrift clips the slopes, if limit is not 0, and returns the mean over chains of
// ‖size²/2 · g‖, and a *NonFiniteError if a slope is not finite.
func (s *State) meanDrift(size, limit float32) (float64, error) {
	if len(s.norms) != len(s.Chain) {
		s.norms = make([]float64, len(s.Chain))
	}
	fill{dst: s.G, norms: s.norms, limit: limit, chain: s.Chain, dim: s.Dim}.run()
	var sum float64
	var bad *NonFiniteError
	for c, g := range s.norms {
		if g-g != 0 {
			bad = bad.add("gradient", c, len(s.Chain), float32(g))
		}
		sum += g
	}
	if bad != nil {
		return 0, bad
	}
	return float64(size) * float64(size) / 2 * sum / float64(len(s.Chain)), nil
}

// checkSize refuses a step size that is not a positive number.
func checkSize(size float32) error {
	if !(size > 0) || !finite(size) {
		return fmt.Errorf("step size: want a positive number, got %v", size)
	}
	return nil
}
