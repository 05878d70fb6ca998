package training

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
)
