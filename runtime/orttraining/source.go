package orttraining

import (
	"context"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
)

// Names that the differentiated part of a graph is given.
const (
	seedName = "ort-training/seed"
	lossName = "ort-training/loss"
)

// Append appends the slopes of Σ of·seed in the values of wrt, inputs or
// initializers, to the builder's graph, as graphs/autodiff does with rules of
// its own; a nil seed is ones. What of is computed from is differentiated by
// [Engine.Gradient] and comes back with the gradient, as a second copy that
// [ebmrun/graphs/passes.CSE] joins with the first where ops were left as they
// were. Slopes of slopes are refused: ONNX Runtime has no gradient of its
// gradient ops.
func (e *Engine) Append(b *graphs.Builder, of, seed *graphs.Value, wrt ...*graphs.Value) ([]*graphs.Value, error) {
	g := b.Target()
	part := passes.CloneGraph(g)
	if err := passes.CutAt(part, of.Name); err != nil {
		return nil, fmt.Errorf("orttraining: %s: %w", of, err)
	}
	var weights []string
	for _, v := range part.Inits {
		if v.Type == graphs.Float32 && (len(v.Shape) > 0 || passes.IsWeight(v)) {
			weights = append(weights, v.Name)
		}
	}
	if len(weights) > 0 {
		if _, err := passes.WeightsToInputs(part, weights...); err != nil {
			return nil, fmt.Errorf("orttraining: %w", err)
		}
	}
	pb := graphs.NewBuilder(part)
	y := part.Find(of.Name)
	if seed != nil {
		y = pb.Mul(y, pb.Input(seedName, graphs.Float32, of.Shape))
	}
	pb.Output(lossName, pb.Sum(y, false))
	if err := pb.Err(); err != nil {
		return nil, fmt.Errorf("orttraining: %w", err)
	}
	var names []string
	for _, v := range wrt {
		if part.Find(v.Name) != nil {
			names = append(names, v.Name)
		}
	}
	m, err := e.Gradient(context.Background(), graphs.NewModel(part), lossName, names...)
	if err != nil {
		return nil, err
	}
	// Only the slopes are wanted back.
	keep := []string{}
	for _, v := range m.Graph.Outputs {
		if v.Name != of.Name && v.Name != lossName {
			keep = append(keep, v.Name)
		}
	}
	slopes := make([]*graphs.Value, len(wrt))
	if len(keep) == 0 {
		return slopes, nil
	}
	if err := passes.CutAt(m.Graph, keep...); err != nil {
		return nil, fmt.Errorf("orttraining: %w", err)
	}
	for _, v := range m.Graph.Inits {
		v.Name = "const/" + v.Name // weights came in as inputs: the rest is of formulas
	}
	inputs := map[string]*graphs.Value{}
	for _, v := range m.Graph.Inputs {
		if v.Name == seedName {
			inputs[v.Name] = seed
		} else if inputs[v.Name] = g.Find(v.Name); inputs[v.Name] == nil {
			return nil, fmt.Errorf("orttraining: the gradient reads %q, which the graph does not have", v.Name)
		}
	}
	defer b.Prefix(b.Prefix(""))
	out, err := passes.Inline(b, m.Graph, inputs, "bwd")
	if err != nil {
		return nil, fmt.Errorf("orttraining: %w", err)
	}
	for i, v := range wrt {
		if s := out[gradPrefix+v.Name]; s != nil {
			s.Type, s.Shape = v.Type, v.Shape
			slopes[i] = s
		}
	}
	return slopes, b.Err()
}
