package passes

import (
	"slices"

	"ebmrun/graphs"
)

// Prune removes nodes and initializers that no output needs, in subgraphs too,
// and the extra outputs of MaxPool, Dropout and LayerNormalization that nobody
// reads. Graph inputs stay, and so do the defaults of inputs. It never fails.
func Prune(g *graphs.Graph) (changed bool, err error) {
	needed := map[*graphs.Value]bool{}
	for _, v := range g.Outputs {
		needed[v] = true
	}
	for _, v := range g.Inputs {
		needed[v] = true
	}
	kept := len(g.Nodes)
	keep := make([]bool, len(g.Nodes))
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		n := g.Nodes[i]
		if !slices.ContainsFunc(n.Outputs, func(v *graphs.Value) bool { return needed[v] }) {
			kept--
			continue
		}
		keep[i] = true
		switch n.Op {
		case "MaxPool", "Dropout", "LayerNormalization":
			for k := len(n.Outputs); k > 1 && !needed[n.Outputs[k-1]] && n.Domain == ""; k-- {
				n.Outputs = n.Outputs[:k-1]
				changed = true
			}
		}
		for _, s := range subgraphs(n) {
			c, err := Prune(s)
			if err != nil {
				return changed, err
			}
			changed = changed || c
		}
		reads(n, func(v *graphs.Value) { needed[v] = true })
	}
	if kept < len(g.Nodes) {
		changed = true
		nodes := make([]*graphs.Node, 0, kept)
		for i, n := range g.Nodes {
			if keep[i] {
				nodes = append(nodes, n)
			}
		}
		g.Nodes = nodes
	}
	inits := len(g.Inits)
	g.Inits = slices.DeleteFunc(g.Inits, func(v *graphs.Value) bool { return !needed[v] })
	if changed = changed || len(g.Inits) < inits; changed {
		forgetNames(g)
	}
	return changed, nil
}
