// Package onnxmodels builds the networks that energy-based models are made of
// as ONNX graphs: energies, and from them gradients and sampling chains.
//
// A [Model] is a graph with its weights as initializers. Networks are built by
// onnxmodels/energy, layer by layer with
// onnxmodels/nn; onnxmodels/chain turns an energy into k Langevin steps.
package onnxmodels

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"ebmrun/graphs"
)

// Names of the values at the edge of an energy graph.
const (
	X      = "x"      // input: examples [batch, …]
	Energy = "energy" // output [batch]: U, low is likely, reference density included
	Score  = "score"  // output [batch]: f, the network's part alone, f = U_ref − U
	GradX  = "grad/x" // output, shape of x: ∂ΣU/∂x
)

// A Model is an energy: x [batch, Dims…] float32 → energy [batch], score
// [batch], with its weights as initializers.
type Model struct {
	*graphs.Model
	Dims []int // of one example
}

// Of wraps a model that was read from a file, after checking that it has the
// inputs and outputs of an energy with all sizes but the batch known.
func Of(m *graphs.Model) (*Model, error) {
	x := m.Graph.Input(X)
	if x == nil || x.Type != graphs.Float32 || len(x.Shape) < 2 || !x.Shape[1:].Known() {
		return nil, fmt.Errorf("onnxmodels: the model has no float32 input %q of known size", X)
	}
	for _, name := range []string{Energy, Score} {
		if m.Graph.Output(name) == nil {
			return nil, fmt.Errorf("onnxmodels: the model has no output %q", name)
		}
	}
	return &Model{m, x.Shape[1:].Ints()}, nil
}

// Size is the number of values of one example.
func (m *Model) Size() int { return graphs.Size(m.Dims) }

// Batch is the symbolic axis of x.
var Batch = graphs.Sym("batch")

// A Named network is a description under a name.
type Named[S any] = struct {
	Title string
	Spec  S
}

// ByName looks a network up in a table; what is the package that has it.
func ByName[S any](what string, nets map[string]Named[S], name string) (S, error) {
	n, ok := nets[name]
	if !ok {
		return n.Spec, fmt.Errorf("%s: unknown network %q: have %s", what, name, strings.Join(slices.Sorted(maps.Keys(nets)), ", "))
	}
	return n.Spec, nil
}

// Chosen is the description that settings give in full, or else the one that they name.
func Chosen[S any](spec *S, byName func(string) (S, error), name string) (S, error) {
	if spec != nil {
		return *spec, nil
	}
	return byName(name)
}
