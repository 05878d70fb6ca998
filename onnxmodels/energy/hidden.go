package energy

import (
	"fmt"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
)

// Units is the name of what a network made by [Hidden] gives.
const Units = "features"

// Hidden is the part of an energy up to a hidden layer, x → features [batch, d]: up to the named value or,
// without a name, up to what the last convolution or matrix product before the score takes.
func Hidden(m *onnxmodels.Model, layer string) (*graphs.Model, error) {
	c := passes.Clone(m.Model)
	g := c.Graph
	v := g.Find(layer)
	if layer == "" {
		v = top(g.Output(onnxmodels.Score))
	}
	if v == nil || v.Const != nil || len(v.Shape) < 2 || v.Type != graphs.Float32 {
		return nil, fmt.Errorf("energy: no hidden layer %q of float32 [batch, …] in the energy", layer)
	}
	b := graphs.NewBuilder(g)
	b.Output(Units, b.Op("Flatten", []*graphs.Value{v}, graphs.I("axis", 1)))
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("energy: %w", err)
	}
	return c, passes.CutAt(g, Units)
}

// top is the computed input of the weighted node that is nearest to a value, nil if there is none.
func top(v *graphs.Value) *graphs.Value {
	for next := []*graphs.Value{v}; len(next) > 0; next = next[1:] {
		n := next[0].From
		if n == nil {
			continue
		}
		switch n.Op {
		case "Conv", "Gemm", "MatMul":
			for _, in := range n.Inputs {
				if in != nil && in.From != nil && in.Const == nil {
					return in
				}
			}
		}
		for _, in := range n.Inputs {
			if in != nil {
				next = append(next, in)
			}
		}
	}
	return nil
}
