package autodiff

import (
	"ebmrun/graphs"
)

// lowerNew rewrites the ops that are new in opset 23 and that opset 21 can spell
// out, before the model is raised to the latter.
func lowerNew(m *graphs.Model) error {
	v := m.Opset("")
	if v <= graphs.OpsetVersion {
		return nil
	}
	if err := graphs.InferAll(m.Graph, v); err != nil {
		return err
	}
	_, _, err := rewrite(graphs.NewBuilder(m.Graph), func(n *graphs.Node) Lowering {
		if n.Domain == "" && (n.Op == "Attention" || n.Op == "RotaryEmbedding") {
			return lowerings[n.Op]
		}
		return nil
	})
	return err
}
