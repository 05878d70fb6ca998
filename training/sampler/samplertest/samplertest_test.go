package samplertest

import (
	"testing"

	"ebmrun/training/sampler"
)

// stepFunc is a kernel made of one function.
type stepFunc func(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error)

func (k stepFunc) Step(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
	return k(n, f, s)
}

// langevin is a correct kernel with its parts laid open.
func langevin(n sampler.Noise, f sampler.Field, s *sampler.State, drift, kick float32) (sampler.Info, error) {
	s.Invalidate()
	if err := s.Evaluate(f); err != nil {
		return sampler.Info{}, err
	}
	n.Normals(s.E, s.Chain, s.T)
	for i, g := range s.G {
		s.X[i] += kick*s.E[i] - drift*g
	}
	s.Moved(false)
	return sampler.Info{Accepted: 1}, nil
}

// TestSuiteCatches gives every check a kernel with the fault it is there for.
func TestSuiteCatches(t *testing.T) {
	const drift, kick = 0.02, 0.2
	var memory []float32
	faults := []struct {
		check, fault string
		step         func(noise float32) stepFunc
	}{
		{"moments", "Δt taken for the step size", func(noise float32) stepFunc {
			return func(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
				return langevin(n, f, s, 0.2/2, 0.4472136*noise)
			}
		}},
		{"moments", "sampling at half the temperature", func(noise float32) stepFunc {
			return func(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
				return langevin(n, f, s, 2*drift, kick*noise)
			}
		}},
		{"downhill", "wrong sign", func(noise float32) stepFunc {
			return func(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
				return langevin(n, f, s, -drift, kick*noise)
			}
		}},
		{"downhill", "noise multiplier ignored", func(float32) stepFunc {
			return func(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
				return langevin(n, f, s, drift, kick)
			}
		}},
		{"same seed same bits", "seed ignored", func(noise float32) stepFunc {
			return func(_ sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
				return langevin(sampler.Noise{}, f, s, drift, kick*noise)
			}
		}},
		{"same seed same bits", "noise depends on calls", func(noise float32) stepFunc {
			calls := uint64(0)
			return func(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
				calls++
				return langevin(n.Fork(calls), f, s, drift, kick*noise)
			}
		}},
		{"batch split", "rows taken for chain numbers", func(noise float32) stepFunc {
			return func(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
				chain := s.Chain
				defer func() { s.Chain = chain }()
				s.Chain = sampler.Chains(0, s.Len())
				return langevin(n, f, s, drift, kick*noise)
			}
		}},
		{"shapes", "new memory for x", func(noise float32) stepFunc {
			return func(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
				s.X = append([]float32(nil), s.X...)
				return langevin(n, f, s, drift, kick*noise)
			}
		}},
		{"shapes", "step counted twice", func(noise float32) stepFunc {
			return func(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
				s.T++
				return langevin(n, f, s, drift, kick*noise)
			}
		}},
		{"field error", "error dropped", func(noise float32) stepFunc {
			return func(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
				info, _ := langevin(n, f, s, drift, kick*noise)
				return info, nil
			}
		}},
		{"bad numbers", "slope not looked at", func(noise float32) stepFunc {
			return func(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
				return langevin(n, f, s, drift, kick*noise)
			}
		}},
		{"cancel", "several steps at once", func(noise float32) stepFunc {
			return func(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
				if info, err := langevin(n, f, s, drift, kick*noise); err != nil {
					return info, err
				}
				return langevin(n, f, s, drift, kick*noise)
			}
		}},
		{"allocations", "a buffer per step", func(noise float32) stepFunc {
			return func(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
				memory = make([]float32, len(s.X))
				return langevin(n, f, s, drift, kick*noise)
			}
		}},
	}
	good := func(noise float32) sampler.Kernel {
		return stepFunc(func(n sampler.Noise, f sampler.Field, s *sampler.State) (sampler.Info, error) {
			return langevin(n, f, s, drift, kick*noise)
		})
	}
	for _, c := range checks {
		caught := 0
		for _, b := range faults {
			if b.check != c.name {
				continue
			}
			caught++
			if err := c.run(func(noise float32) sampler.Kernel { return b.step(noise) }); err == nil {
				t.Errorf("%s: a kernel with this fault passes: %s", c.name, b.fault)
			} else {
				t.Logf("%s: %s: %v", c.name, b.fault, err)
			}
		}
		if caught == 0 {
			t.Errorf("%s: no faulty kernel tries this check", c.name)
		}
		if c.name != "bad numbers" { // this kernel does not look at slopes
			if err := c.run(good); err != nil {
				t.Errorf("%s: a sound kernel fails: %v", c.name, err)
			}
		}
	}
	_ = memory
}
