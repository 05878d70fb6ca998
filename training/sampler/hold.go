package sampler

// Hold returns a [Langevin.Project] that writes what is known, where mask is not 0, over chains of as many
// values: the rest is drawn given it.
func Hold(known, mask []float32) func(x []float32) {
	return func(x []float32) {
		for i, m := range mask {
			if m != 0 {
				x[i] = known[i]
			}
		}
	}
}
