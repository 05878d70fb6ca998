package main

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"

	"ebmrun/export/onnxfile"
	npz "ebmrun/export/weights"
	"ebmrun/graphs"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/sampler"
)

// A reference is what another program needs to do a workload, and what must come of it:
// NAME.json with the settings, NAME.npz with the start and the end, NAME.onnx with
// the network where there is one.
type reference struct {
	about   map[string]any
	tensors npz.Tensors
	model   *graphs.Model
}

// recorded runs a chain that does not draw and keeps where it came from and to.
func recorded(r *rig, st *sampler.State, about map[string]any, m *graphs.Model) (*reference, error) {
	rec := &reference{about: about, tensors: npz.Tensors{}, model: m}
	about["steps"] = r.steps
	start := make([]float32, len(st.X))
	copy(start, st.X)
	if err := r.chain(); err != nil {
		return nil, err
	}
	shape := about["shape"].([]int)
	rec.tensors["start/x"], rec.tensors["end/x"] = graphs.Of(start, shape...), graphs.Of(st.X, shape...)
	for name, t := range npz.Of(m) {
		rec.tensors["weight/"+name] = t
	}
	return rec, nil
}

// reference takes one iteration and keeps the system before and after it.
func (l *learner) reference(step func() error) (*reference, error) {
	rec := &reference{about: map[string]any{"kind": l.name, "config": l.config, "seed": 1}, tensors: npz.Tensors{}}
	before, err := l.system.Save()
	if err != nil {
		return nil, err
	}
	keep(rec.tensors, "start/", before)
	if err := step(); err != nil {
		return nil, err
	}
	after, err := l.system.Save()
	if err != nil {
		return nil, err
	}
	keep(rec.tensors, "end/", after)
	batch, err := data.NewLoader(l.set, l.set.N, 1)
	if err != nil {
		return nil, err
	}
	rec.tensors["x"] = graphs.Of(batch.Next().X, append([]int{l.set.N}, dimsOf(l.set)...)...)
	if l.slots > 0 {
		// The chains that the first iteration moves.
		var at []int64
		for _, k := range rand.New(rand.NewPCG(1, 0)).Perm(l.slots) {
			at = append(at, int64(k))
		}
		rec.tensors["slots"] = graphs.Of(at, len(at))
	}
	return rec, nil
}

// keep copies the float32 tensors of a state.
func keep(to npz.Tensors, prefix string, st *checkpoint.State) {
	for name, t := range st.Tensors {
		if v, ok := t.Data.([]float32); ok {
			to[prefix+name] = graphs.Of(append([]float32(nil), v...), len(v))
		}
	}
}

// write puts a reference into a folder.
func (r *reference) write(dir, name string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	at := filepath.Join(dir, name)
	about, err := json.MarshalIndent(r.about, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(at+".json", about, 0o644); err != nil {
		return err
	}
	if r.model != nil {
		if err := onnxfile.Network(at+".onnx", r.model, onnxfile.Meta{}, name); err != nil {
			return err
		}
	}
	f, err := os.Create(at + ".npz")
	if err != nil {
		return err
	}
	return errors.Join(npz.NPZ(f, r.tensors), f.Close())
}
