package optim

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// Chained applies its transforms in order. Its state is that of its parts under "0/", "1/", ….
type Chained struct{ parts []Transform }

var (
	_ Transform = (*Chained)(nil)
	_ Stateful  = (*Chained)(nil)
)

// Chain returns the transforms as one.
func Chain(t ...Transform) *Chained { return &Chained{parts: t} }

// Update implements [Transform].
func (c *Chained) Update(p []Param) error {
	for _, t := range c.parts {
		if err := t.Update(p); err != nil {
			return err
		}
	}
	return nil
}

// State implements [Stateful].
func (c *Chained) State() State {
	all := State{Tensors: map[string][]float32{}, Counts: map[string]uint64{}}
	for i, t := range c.parts {
		if t, ok := t.(Stateful); ok {
			s := t.State()
			prefix := strconv.Itoa(i) + "/"
			for name, v := range s.Tensors {
				all.Tensors[prefix+name] = v
			}
			for name, v := range s.Counts {
				all.Counts[prefix+name] = v
			}
		}
	}
	return all
}

// Restore implements [Stateful].
func (c *Chained) Restore(s State) error {
	tensors, counts := maps.Clone(s.Tensors), maps.Clone(s.Counts)
	for i, t := range c.parts {
		if t, ok := t.(Stateful); ok {
			prefix := strconv.Itoa(i) + "/"
			part := State{Tensors: take(tensors, prefix), Counts: take(counts, prefix)}
			if err := t.Restore(part); err != nil {
				return fmt.Errorf("part %d of the chain: %w", i, err)
			}
		}
	}
	for name := range tensors {
		return fmt.Errorf("optim: state: no part of the chain knows tensor %q", name)
	}
	for name := range counts {
		return fmt.Errorf("optim: state: no part of the chain knows counter %q", name)
	}
	return nil
}

// take moves the entries whose names start with prefix out of m, under the rest of their names.
func take[V any](m map[string]V, prefix string) map[string]V {
	part := map[string]V{}
	for name, v := range m {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			part[rest] = v
			delete(m, name)
		}
	}
	return part
}
