package training

import (
	"fmt"
	"strings"

	"ebmrun/training/checkpoint"
	"ebmrun/training/optim"
)

// SaveParams puts weights into a checkpoint under prefix/name.
func SaveParams(s *checkpoint.State, prefix string, p []optim.Param) {
	for _, q := range p {
		s.Tensors[prefix+"/"+q.Name] = checkpoint.Tensor{Shape: []int{len(q.W)}, Data: q.W}
	}
}

// RestoreParams copies them back.
func RestoreParams(s *checkpoint.State, prefix string, p []optim.Param) error {
	for _, q := range p {
		w, err := checkpoint.Values[float32](s, prefix+"/"+q.Name, len(q.W))
		if err != nil {
			return err
		}
		copy(q.W, w)
	}
	return nil
}

// SaveMemory puts what an optimizer or average remembers into a checkpoint.
func SaveMemory(s *checkpoint.State, prefix string, m optim.Stateful) {
	st := m.State()
	for name, t := range st.Tensors {
		s.Tensors[prefix+"/"+name] = checkpoint.Tensor{Shape: []int{len(t)}, Data: t}
	}
	for name, c := range st.Counts {
		s.Tensors[prefix+"/#"+name] = checkpoint.Scalar(c)
	}
}

// RestoreMemory takes it back.
func RestoreMemory(s *checkpoint.State, prefix string, m optim.Stateful) error {
	st := optim.State{Tensors: map[string][]float32{}, Counts: map[string]uint64{}}
	for name, t := range s.Tensors {
		rest, ok := strings.CutPrefix(name, prefix+"/")
		if !ok {
			continue
		}
		if key, count := strings.CutPrefix(rest, "#"); count {
			v, ok := t.Data.([]uint64)
			if !ok || len(v) != 1 {
				return fmt.Errorf("checkpoint: tensor %q: wanted one uint64", name)
			}
			st.Counts[key] = v[0]
			continue
		}
		v, ok := t.Data.([]float32)
		if !ok {
			return fmt.Errorf("checkpoint: tensor %q: wanted float32 values", name)
		}
		st.Tensors[rest] = v
	}
	return m.Restore(st)
}

// Save puts the optimizer's memory into a checkpoint.
func (o *Optimizer) Save(s *checkpoint.State, prefix string) {
	SaveMemory(s, prefix, o.chain)
	s.Tensors[prefix+".slow"] = checkpoint.Scalar(o.slow)
}

// Restore takes it back.
func (o *Optimizer) Restore(s *checkpoint.State, prefix string) error {
	v, err := checkpoint.Values[float64](s, prefix+".slow")
	if err != nil {
		return err
	}
	o.slow = v[0]
	return RestoreMemory(s, prefix, o.chain)
}
