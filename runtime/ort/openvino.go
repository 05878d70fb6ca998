//go:build cgo

package ort

import (
	"ebmrun/graphs"
)

// readersApart returns m with a copy of every constant that is read in several
// ways: as it is and transposed, by a convolution and by a transposed one,
// as a layer and its gradient do, if it is as wide as it is high. The OpenVINO provider packs
// such a constant once and uses the result for all: the numbers are wrong. m itself is not changed.
func readersApart(m *graphs.Model) *graphs.Model {
	ways := map[*graphs.Value]map[string]*graphs.Value{} // the constant to read instead
	g, model := *m.Graph, *m
	changed := false
	for i, n := range m.Graph.Nodes {
		at, way := weightRead(n)
		if way == "" {
			continue
		}
		w := n.Inputs[at]
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
			twin.Inputs[at] = c
			g.Nodes[i] = &twin
		}
	}
	if !changed {
		return m
	}
	model.Graph = &g
	return &model
}

// weightRead is which input of a node is a constant that it multiplies by, and how it
// reads that; no way if there is none.
func weightRead(n *graphs.Node) (at int, way string) {
	if at = 1; n.Op == "Transpose" {
		at = 0
	}
	w := n.In(at)
	if n.Domain != "" || w == nil || w.Const == nil {
		return 0, ""
	}
	d, first := w.Const.Dims, 0
	switch n.Op {
	case "Gemm", "MatMul", "Transpose": // which becomes one with the product behind it, unless it has been folded
		first = len(d) - 2
	}
	if len(d) >= 2 && d[first] != d[first+1] {
		return 0, ""
	}
	switch n.Op {
	case "Gemm":
		if n.Int("transB", 0) != 0 {
			return at, "transposed"
		}
		return at, "plain"
	case "MatMul":
		return at, "plain"
	case "Transpose":
		return at, "transposed"
	case "Conv":
		return at, "forward"
	case "ConvTranspose":
		return at, "back"
	}
	return 0, ""
}
