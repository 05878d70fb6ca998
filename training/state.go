package training

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
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

// An Origin is what a checkpoint must share with the system that takes it back.
type Origin struct {
	System string // its name
	Seed   uint64
	Data   string // content hash of the data set, scale included
}

// meta is the part of a checkpoint that is not numbers.
type meta struct {
	System   string        `json:"system"`
	Seed     uint64        `json:"seed"`
	Position data.Position `json:"position"`
	Data     string        `json:"data"`
	Config   any           `json:"config"`
}

// OriginOf hashes the data set, which is done once: it may be large.
func OriginOf(system string, seed uint64, set *data.Set) Origin {
	return Origin{system, seed, set.Hash()}
}

// Save writes the origin, the place in the data and the settings to the
// checkpoint's Meta.
func (o Origin) Save(s *checkpoint.State, l *data.Loader, config any) (err error) {
	s.Meta, err = json.Marshal(meta{o.System, o.Seed, l.Position(), o.Data, config})
	return err
}

// Check refuses a checkpoint of another origin and returns its place in the data.
func (o Origin) Check(s *checkpoint.State) (data.Position, error) {
	var m meta
	if err := json.Unmarshal(s.Meta, &m); err != nil {
		return m.Position, fmt.Errorf("%s: checkpoint: %w", o.System, err)
	}
	switch {
	case m.System != o.System:
		return m.Position, fmt.Errorf("%s: the checkpoint is of system %q", o.System, m.System)
	case m.Seed != o.Seed:
		return m.Position, fmt.Errorf("%s: the checkpoint has seed %d, wanted %d", o.System, m.Seed, o.Seed)
	case m.Data != o.Data:
		return m.Position, fmt.Errorf("%s: the checkpoint was learned from other data or another scale (hash %.12s, wanted %.12s)", o.System, m.Data, o.Data)
	}
	return m.Position, nil
}

// Weights are the networks of a system, by what a checkpoint calls their weights.
type Weights map[string]interface{ Params() []optim.Param }

// Restore puts the weights of a checkpoint into the networks.
func (w Weights) Restore(st *checkpoint.State) error {
	for _, name := range slices.Sorted(maps.Keys(w)) {
		if err := RestoreParams(st, name, w[name].Params()); err != nil {
			return err
		}
		if e, ok := w[name].(interface{ Refresh() }); ok {
			e.Refresh()
		}
	}
	return nil
}

// A Keep is what most systems save: the weights of their networks, the memory of
// their optimizers, by the names that it is saved under, and the place in the data.
type Keep struct {
	Origin     Origin
	Data       *data.Loader
	Weights    Weights
	Optimizers map[string]*Optimizer
}

// Save returns a checkpoint of it, with the settings.
func (k Keep) Save(step int, config any) (*checkpoint.State, error) {
	st := &checkpoint.State{Step: step, Tensors: map[string]checkpoint.Tensor{}}
	for name, net := range k.Weights {
		SaveParams(st, name, net.Params())
	}
	for name, o := range k.Optimizers {
		o.Save(st, name)
	}
	return st, k.Origin.Save(st, k.Data, config)
}

// Restore takes it back, and refuses a checkpoint of another origin before anything changes.
func (k Keep) Restore(st *checkpoint.State, step *int) error {
	position, err := k.Origin.Check(st)
	if err != nil {
		return err
	}
	if err := k.Weights.Restore(st); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(k.Optimizers)) {
		if err := k.Optimizers[name].Restore(st, name); err != nil {
			return err
		}
	}
	*step = st.Step
	return k.Data.Seek(position)
}
