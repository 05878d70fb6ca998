package training

import "context"

// What is learned from pairs has networks that take a condition c beside the example
// x. A method gives the model under conditions, which is used as any other: an energy
// is a field of its examples, a generator is inferred and taught.
type (
	// A ConditionalEnergy is an energy U(x | c).
	ConditionalEnergy interface {
		// Given is the energy of examples x_i under the conditions c_i, c [n, …]. It keeps
		// the slice, whose content may change between calls; weights are those of all.
		Given(c []float32) Energy
	}

	// A ConditionalGenerator is a generator x = g(c, z).
	ConditionalGenerator interface {
		// Given is the generator under the conditions c_i, kept as above.
		Given(c []float32) Generator
	}

	// A Fixer is a conditional generator that can do once what many codes under the same
	// conditions have in common.
	Fixer interface {
		// Fixed returns x = g(c, z) of codes z [n, …] under n conditions as they are now,
		// and with the weights as they are now.
		Fixed(ctx context.Context, c []float32) (func(ctx context.Context, z, x []float32) error, error)
	}
)

// Fixed is what a generator makes of codes under conditions that stay: once computed if
// it is a [Fixer], or else anew for all codes.
func Fixed(ctx context.Context, g ConditionalGenerator, c []float32) (func(ctx context.Context, z, x []float32) error, error) {
	if f, ok := g.(Fixer); ok {
		return f.Fixed(ctx, c)
	}
	return g.Given(c).Forward, nil
}
