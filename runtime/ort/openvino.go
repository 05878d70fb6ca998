//go:build cgo

package ort

import (
	"ebmrun/graphs"
)

// readersApart returns m with a copy of every constant that is read in several
// ways: as it is and transposed by Gemm, by a convolution and by a transposed one,
// as a layer and its gradient do. The OpenVINO provider packs a constant once and
// uses the result for all, which goes unnoticed where it is as wide as it is high:
// the numbers are wrong. m itself is not changed.
func readersApart(m *graphs.Model) *graphs.Model {
	ways := map[*graphs.Value]map[string]*graphs.Value{} // the constant to read instead
	g, model := *m.Graph, *m
	changed := false
	for i, n := range m.Graph.Nodes {
		w, way := weightRead(n)
		if w == nil {
			continue
		}
		if ways[w] == nil {
			ways[w] = map[string]*graphs.Value{way: w}
		}
		c := ways[w][way]
		if c == nil {
			twin := *w
			twin.Name = m.Graph.Fresh(w.Name + "/" + way)
			if !changed {
				changed = true
				g.Nodes, g.Inits = append([]*graphs.Node(nil), g.Nodes...), append([]*graphs.Value(nil), g.Inits...)
			}
			c, ways[w][way] = &twin, &twin
			g.Inits = append(g.Inits, c)
		}
		if c != w {
			twin := *n
			twin.Inputs = append([]*graphs.Value(nil), n.Inputs...)
			twin.Inputs[1] = c
			g.Nodes[i] = &twin
		}
	}
	if !changed {
		return m
	}
	model.Graph = &g
	return &model
}

// weightRead is the constant that a node multiplies by, and how it reads it; nil if
// n is another node.
func weightRead(n *graphs.Node) (w *graphs.Value, way string) {
	if w = n.In(1); n.Domain != "" || w == nil || w.Const == nil {
		return nil, ""
	}
	switch n.Op {
	case "Gemm":
		if n.Int("transB", 0) != 0 {
			return w, "transposed"
		}
		return w, "plain"
	case "MatMul":
		return w, "plain"
	case "Conv":
		return w, "forward"
	case "ConvTranspose":
		return w, "back"
	}
	return nil, ""
}
