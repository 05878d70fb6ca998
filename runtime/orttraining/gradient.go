package orttraining

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/passes"
)

// gradPrefix comes before the name of a value in the name of its slope, as in
// graphs/autodiff.
const gradPrefix = "grad/"

// Gradient returns the model that computes, besides what m does, the slopes of a
// scalar output in values of m: inputs or initializers of type float32, such as
// "x", whose slope becomes the output "grad/x". A value that the output does not
// depend on gets none. ONNX Runtime's GradientGraphBuilder makes the graph; ops
// that it cannot differentiate on the CPU are rewritten first, see [Lower]. An op
// that it does not know is an error.
func (e *Engine) Gradient(ctx context.Context, m *graphs.Model, of string, wrt ...string) (*graphs.Model, error) {
	out := m.Graph.Output(of)
	switch {
	case out == nil:
		return nil, fmt.Errorf("no output %q to differentiate", of)
	case len(out.Shape) != 0 || out.Type != graphs.Float32:
		return nil, fmt.Errorf("output %s: wanted a float32 scalar to differentiate", out)
	}
	m = passes.Clone(m)
	if err := Lower(m); err != nil {
		return nil, err
	}
	types := map[string]*graphs.Value{}
	for _, v := range slices.Concat(m.Graph.Inputs, m.Graph.Inits) {
		if slices.Contains(wrt, v.Name) {
			types[v.Name] = v
		}
	}
	for _, name := range wrt {
		if types[name] == nil {
			return nil, fmt.Errorf("no input or initializer %q", name)
		}
	}
	data, err := onnxio.Encode(m)
	if err != nil {
		return nil, err
	}
	r, err := e.b.w.call(ctx, header{Op: "gradient", Of: of, Wrt: wrt}, data)
	if err != nil {
		return nil, e.refusal(err)
	}
	if len(r.blobs) != 1 {
		return nil, fmt.Errorf("the worker sent %d models, wanted one", len(r.blobs))
	}
	g, err := onnxio.Decode(r.blobs[0])
	if err != nil {
		return nil, fmt.Errorf("the gradient made by %s: %w", e.b.Library(), err)
	}
	var kept []*graphs.Value
	for _, name := range outputNames(m.Graph) {
		if v := g.Graph.Output(name); v != nil {
			kept = append(kept, v)
		}
	}
	for _, name := range wrt {
		v := g.Graph.Output(name + "_grad")
		if v == nil {
			continue // no path
		}
		v.Name, v.Type, v.Shape = gradPrefix+name, types[name].Type, types[name].Shape
		kept = append(kept, v)
	}
	g.Graph.Outputs = kept
	return g, nil
}

// unregistered is how the library says that it cannot differentiate an op, behind
// a screen of C++.
var unregistered = regexp.MustCompile(`gradient builder has not been registered: (\S+) for node (.*)`)

func (e *Engine) refusal(err error) error {
	if m := unregistered.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%w: %s has none for %s (node %q)", ErrNoGradient, e.b.Library(), m[1], m[2])
	}
	return fmt.Errorf("gradient by %s: %w", e.b.Library(), err)
}

// ErrNoGradient is wrapped by the refusal of an op.
var ErrNoGradient = errors.New("no gradient rule")

func outputNames(g *graphs.Graph) (names []string) {
	for _, v := range g.Outputs {
		names = append(names, v.Name)
	}
	return names
}
