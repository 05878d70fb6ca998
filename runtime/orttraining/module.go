package orttraining

import (
	"context"
	"fmt"
	"path/filepath"

	"ebmrun/graphs"
)

// A Module is a model that learns in the worker, from artifacts of ONNX
// Runtime's on-device training API.
type Module struct {
	// Inputs and Outputs are the names of what a step takes and gives, weights and
	// gradients apart.
	Inputs, Outputs []string

	w  *worker
	id int
}

// Files are the artifacts of a module. Optimizer may be empty: gradients are then
// collected and weights stay.
type Files struct{ Training, Optimizer, Checkpoint string }

// In are the artifacts of a folder under their usual names.
func In(dir string) Files {
	return Files{filepath.Join(dir, "training_model.onnx"), filepath.Join(dir, "optimizer_model.onnx"), filepath.Join(dir, "checkpoint")}
}

// Module loads artifacts.
func (e *Engine) Module(ctx context.Context, f Files) (*Module, error) {
	r, err := e.b.w.call(ctx, header{Op: "module", Train: f.Training, Optimizer: f.Optimizer, Checkpoint: f.Checkpoint})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Training, err)
	}
	return &Module{Inputs: r.Inputs, Outputs: r.Outputs, w: e.b.w, id: r.ID}, nil
}

// Step computes outputs and gradients on a batch, in the order of Inputs, updates
// the weights with the learning rate and forgets the gradients.
func (m *Module) Step(ctx context.Context, rate float64, in ...*graphs.Tensor) ([]*graphs.Tensor, error) {
	if len(in) != len(m.Inputs) {
		return nil, fmt.Errorf("wanted %d inputs %v, got %d", len(m.Inputs), m.Inputs, len(in))
	}
	metas, blobs, err := pack(in)
	if err != nil {
		return nil, err
	}
	r, err := m.w.call(ctx, header{Op: "train", ID: m.id, Tensors: metas, LR: &rate}, blobs...)
	if err != nil {
		return nil, err
	}
	return unpack(r)
}

// Save writes weights and the optimizer's state to a checkpoint file.
func (m *Module) Save(ctx context.Context, path string) error {
	_, err := m.w.call(ctx, header{Op: "save", ID: m.id, Path: path})
	return err
}

// Close frees what the module holds.
func (m *Module) Close() error {
	_, err := m.w.call(context.Background(), header{Op: "close", ID: m.id})
	return err
}
