package sampler

// Anneal is [Langevin] with settings that vary over steps.
type Anneal struct {
	Langevin Langevin

	// Size and Noise give the step size and the noise multiplier of a step, counted from From.
	// Nil keeps that of Langevin.
	Size, Noise func(step uint64) float32
	From        uint64 // the State.T that counts as step 0
}

var _ Kernel = Anneal{}

// Step implements [Kernel].
func (a Anneal) Step(n Noise, f Field, s *State) (Info, error) {
	k, step := a.Langevin, s.T-a.From
	if a.Size != nil {
		k.Size = a.Size(step)
	}
	if a.Noise != nil {
		k.Noise = a.Noise(step)
	}
	return k.Step(n, f, s)
}
