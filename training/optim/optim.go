// Package optim turns gradients into weight updates through chains of small transforms.
//
// A [Transform] rewrites the gradients of a set of [Param] in place; the last one leaves the change to
// be added to the weights, which [Step] does:
//
//	adam := optim.Chain(optim.ClipNorm(1), optim.Adam(0.9, 0.999, 1e-8), optim.Scale(-1e-3))
//	err := optim.Step(adam, params)
//
// Losses go down, so the chain ends in a negative scale. What a transform remembers is a [State] of
// named tensors and counters; a run that saves and restores it goes on bit for bit.
package optim

import (
	"errors"
	"fmt"
	"math"
)

// Param is one named weight tensor W and its gradient G, flat and of equal length.
type Param struct {
	Name string
	W, G []float32
}

// A Transform rewrites G of every parameter in place. It sees the same parameters, by name and
// length, at every call, and allocates nothing after the first.
type Transform interface {
	Update(p []Param) error
}

// Stateful is a Transform, or an [EMA], that remembers something between updates.
type Stateful interface {
	// State returns what is remembered. The tensors are the live ones: write or copy them before
	// the next update.
	State() State
	// Restore copies s in. It refuses names that it does not know or misses.
	Restore(s State) error
}

// State holds named tensors and counters, such as "1/m/dense.w" and "1/step".
type State struct {
	Tensors map[string][]float32
	Counts  map[string]uint64
}

// ErrNonFinite says that a gradient holds NaN or an infinity.
var ErrNonFinite = errors.New("gradient is not finite")

// Step rewrites the gradients by t and adds them to the weights. Neither the weights nor what t
// remembers changes if a length is wrong or a gradient is not finite.
func Step(t Transform, p []Param) error {
	for i := range p {
		if len(p[i].W) != len(p[i].G) {
			return fmt.Errorf("optim: parameter %q: want a gradient of %d entries, got %d", p[i].Name, len(p[i].W), len(p[i].G))
		}
		if v := sumSquares(p[i].G); v-v != 0 {
			return fmt.Errorf("optim: parameter %q: %w", p[i].Name, ErrNonFinite)
		}
	}
	if err := t.Update(p); err != nil {
		return err
	}
	for i := range p {
		w := p[i].W
		for j, g := range p[i].G {
			w[j] += g
		}
	}
	return nil
}

// Norm returns the Euclidean norm of all gradients together.
func Norm(p []Param) float64 {
	var sum float64
	for i := range p {
		sum += sumSquares(p[i].G)
	}
	return math.Sqrt(sum)
}

// sumSquares adds in four lanes: one addition need not wait for the last.
func sumSquares(v []float32) float64 {
	var a, b, c, d float64 // an array would be in memory
	for ; len(v) >= 4; v = v[4:] {
		e, f, g, h := float64(v[0]), float64(v[1]), float64(v[2]), float64(v[3])
		a += float64(e * e)
		b += float64(f * f)
		c += float64(g * g)
		d += float64(h * h)
	}
	for ; len(v) > 0; v = v[1:] {
		e := float64(v[0])
		a, b, c, d = b, c, d, a+float64(e*e)
	}
	return a + b + c + d
}
