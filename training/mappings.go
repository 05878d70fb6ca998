package training

import (
	"context"

	"ebmrun/training/optim"
)

// Mappings are deterministic networks from examples to examples that are taught
// together, by a sum of losses in which they may be applied one after another.
type Mappings interface {
	// Apply writes what mapping k makes of examples x [n, …] to y.
	Apply(ctx context.Context, k int, x, y []float32) error

	// Learn takes the inputs of the losses, [n, …] each, writes what every example adds
	// to every loss to terms[j] [n], and sets the gradient of every parameter to that of
	// Σ_j w_j·Σ_i terms[j][i].
	Learn(ctx context.Context, in [][]float32, w []float32, terms [][]float32) error

	// Params are the weights of all mappings and their gradients.
	Params() []optim.Param
}
