//go:build cgo

package ort

import (
	"slices"

	"ebmrun/graphs"
)

// transposedApart returns m with a second copy of every constant matrix that some
// Gemm reads as it is and another transposed, as a dense layer and its gradient
// do. The OpenVINO provider packs a constant once and uses the result for both,
// which goes unnoticed where the matrix is square: the numbers are wrong. m
// itself is not changed.
func transposedApart(m *graphs.Model) *graphs.Model {
	var plain, turned []*graphs.Value // as read by the Gemms
	for _, n := range m.Graph.Nodes {
		if w := gemmWeight(n); w != nil {
			if n.Int("transB", 0) == 0 {
				plain = append(plain, w)
			} else {
				turned = append(turned, w)
			}
		}
	}
	copies := map[*graphs.Value]*graphs.Value{}
	for _, w := range turned {
		if copies[w] == nil && slices.Contains(plain, w) {
			c := *w
			c.Name = m.Graph.Fresh(w.Name + "/transposed")
			copies[w] = &c
		}
	}
	if len(copies) == 0 {
		return m
	}
	g, model := *m.Graph, *m
	g.Nodes, g.Inits = slices.Clone(g.Nodes), slices.Clone(g.Inits)
	for i, n := range g.Nodes {
		if c := copies[gemmWeight(n)]; c != nil && n.Int("transB", 0) != 0 {
			twin := *n
			twin.Inputs = slices.Clone(n.Inputs)
			twin.Inputs[1] = c
			g.Nodes[i] = &twin
		}
	}
	for _, w := range m.Graph.Inits {
		if c := copies[w]; c != nil {
			g.Inits = append(g.Inits, c)
		}
	}
	model.Graph = &g
	return &model
}

// gemmWeight is the constant second factor of a Gemm, nil if n is another node.
func gemmWeight(n *graphs.Node) *graphs.Value {
	if n.Op != "Gemm" || n.Domain != "" {
		return nil
	}
	if w := n.In(1); w != nil && w.Const != nil {
		return w
	}
	return nil
}
