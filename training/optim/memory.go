package optim

import (
	"fmt"
	"slices"
	"strings"
)

// memory is what a stateful transform keeps: a counter of updates and, per slot ("m", "v"), one
// tensor for each parameter.
type memory struct {
	slots []string
	steps uint64
	of    []map[string][]float32 // by slot, then parameter name
}

func remember(slots ...string) memory {
	m := memory{slots: slots, of: make([]map[string][]float32, len(slots))}
	for i := range m.of {
		m.of[i] = map[string][]float32{}
	}
	return m
}

// next checks that p is the set of the first update, for which it makes zeros, and counts the update.
// A nil gradient is allowed: that parameter is passed over.
func (m *memory) next(p []Param) error {
	if m.steps == 0 {
		for _, of := range m.of {
			for i := range p {
				if of[p[i].Name] != nil {
					return fmt.Errorf("optim: two parameters are named %q", p[i].Name)
				}
				of[p[i].Name] = make([]float32, len(p[i].W))
			}
		}
	}
	for _, of := range m.of {
		if len(of) != len(p) {
			return fmt.Errorf("optim: want the %d parameters of the first update, got %d", len(of), len(p))
		}
		for i := range p {
			v, ok := of[p[i].Name]
			if !ok {
				return fmt.Errorf("optim: parameter %q was not there at the first update", p[i].Name)
			}
			if len(v) != len(p[i].W) || p[i].G != nil && len(v) != len(p[i].G) {
				return fmt.Errorf("optim: parameter %q: want %d weights and gradient entries as at the first update, got %d and %d",
					p[i].Name, len(v), len(p[i].W), len(p[i].G))
			}
		}
	}
	m.steps++
	return nil
}

// State implements [Stateful].
func (m *memory) State() State {
	s := State{Tensors: map[string][]float32{}, Counts: map[string]uint64{"step": m.steps}}
	for i, slot := range m.slots {
		for name, v := range m.of[i] {
			s.Tensors[slot+"/"+name] = v
		}
	}
	return s
}

// Restore implements [Stateful].
func (m *memory) Restore(s State) error {
	steps, ok := s.Counts["step"]
	if !ok || len(s.Counts) != 1 {
		return fmt.Errorf("optim: state: want the counter \"step\" alone, got %d counters", len(s.Counts))
	}
	fresh := remember(m.slots...)
	fresh.steps = steps
	for name, v := range s.Tensors {
		slot, param, _ := strings.Cut(name, "/")
		i := slices.Index(m.slots, slot)
		if i < 0 {
			return fmt.Errorf("optim: state: unknown tensor %q", name)
		}
		fresh.of[i][param] = slices.Clone(v)
	}
	for i, of := range fresh.of {
		if len(of) != len(fresh.of[0]) || steps == 0 && len(of) != 0 {
			return fmt.Errorf("optim: state: %d updates with %d tensors %q and %d tensors %q",
				steps, len(of), m.slots[i], len(fresh.of[0]), m.slots[0])
		}
	}
	*m = fresh
	return nil
}
