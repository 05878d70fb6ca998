// Package training holds what every learning system shares: the small
// interfaces between systems and models, the settings that occur in all of
// them, the loop that runs a system, and the guards that stop it.
//
// A learning system is a package of its own below this one: a struct of parts
// whose Step reads like the paper. It sees an [Energy], never a model file or
// an engine, so it can be tested on energies written in Go. [Run] drives any
// [System]: it counts, saves, recovers and tells a [Recorder]; it never prints.
package training

import (
	"context"

	"ebmrun/training/checkpoint"
	"ebmrun/training/optim"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// An Energy is a learnable energy over flat examples. As a [sampler.Field] it
// gives U and ∂U/∂x for any number of chains.
type Energy interface {
	sampler.Field

	// Learn writes the scores f(x_i) of n = len(w) examples to score and sets the
	// gradient of every parameter to Σ_i (w_i + l2·f(x_i))·∂f(x_i)/∂θ: the slope of
	// Σ w_i·f(x_i) + (l2/2)·Σ f(x_i)².
	Learn(ctx context.Context, x, w []float32, l2 float32, score []float32) error

	// Params are the weights and their gradients. After W changes, Refresh must
	// be called.
	Params() []optim.Param

	// Refresh makes changed weights take effect.
	Refresh()
}

// A Fuser is an energy that can take many Langevin steps in one call.
type Fuser interface {
	Chain(sampler.Langevin) sampler.Chain
}

// A Curver is an energy, or another [sampler.Field], that multiplies vectors by its Hessians: hv_i =
// ∂²U(x_i)/∂x²·v_i, all [n, …].
type Curver interface {
	HessianVector(x, v, hv []float32) error
}

// A Generator is a learnable map g from codes z [n, Codes] to examples x [n, …],
// the top-down model z ~ N(0, I), x = g(z) + N(0, σ²I).
type Generator interface {
	Codes() int

	// Forward writes g(z) to x.
	Forward(ctx context.Context, z, x []float32) error

	// Posterior is the field of −log p(z, target) over codes, with the squared
	// error summed over the entries where mask is 1; each is weighed by the square of
	// its mask. It keeps both slices, whose content may change between steps of a
	// chain's run.
	Posterior(target, mask []float32) sampler.Field

	// Learn writes the errors ‖mask·(target_i − g(z_i))‖² of n = len(w) examples
	// to e and sets the gradient of every parameter to that of Σ w_i·e_i.
	Learn(ctx context.Context, z, target, mask, w, e []float32) error

	// Params are the weights and their gradients.
	Params() []optim.Param
}

// Metrics are the numbers of one learning iteration, by name.
type Metrics map[string]float64

// Names of metrics that the loop itself reads.
const (
	Value     = "V"          // V = mean score(data) − mean score(samples)
	SampleStd = "sample_std" // standard deviation of all sample entries
	DataStd   = "data_std"   // the same of the data batch
	Objective = "objective"  // lower is better; decides which checkpoint is best
)

// A System learns, one iteration at a time.
type System interface {
	// Step does one iteration and returns its metrics. On an error the system is
	// in no defined state until it is restored.
	Step(ctx context.Context) (Metrics, error)

	// Iteration counts the iterations done.
	Iteration() int

	// Save returns everything that the next Step depends on; Restore takes it
	// back. Restored in a new process, a run goes on bit for bit.
	Save() (*checkpoint.State, error)
	Restore(*checkpoint.State) error

	// Slow multiplies the learning rate from now on.
	Slow(factor float64)
}

// An Evaluator can judge its samples against held-out data. If it returns an
// [Objective], the checkpoint with the lowest one is the best.
type Evaluator interface {
	Evaluate(ctx context.Context) (Metrics, error)
}

// A Painter can show what it draws.
type Painter interface {
	Pictures(ctx context.Context) ([]Picture, error)
}

// A Picture is a batch of images, rows of images or a map, under a tag.
type Picture struct {
	Tag    string // record.SamplesTag or another
	Images record.Images
	Rows   []record.Images // one batch a row, such as examples and their reconstructions
	Heat   *record.Heat    // a 2-D energy map
}

// A Recorder is told what happens. A [record.Run] is one.
type Recorder interface {
	Metrics(step int, values map[string]float64) error
}

// A Rewinder is a Recorder that can forget what came after a step.
type Rewinder interface {
	Rewind(step int) error
}
