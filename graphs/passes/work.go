package passes

import "ebmrun/graphs"

// Work counts the multiplications and additions of a graph's convolutions and
// matrix products, two for each pair, which is nearly all that a network costs. It
// goes by shapes; counted is false if one of those nodes has a size that is not
// known. Subgraphs are not entered.
func Work(g *graphs.Graph) (operations int64, counted bool) {
	counted = true
	for _, n := range g.Nodes {
		pairs, known := nodePairs(n)
		operations, counted = operations+2*pairs, counted && known
	}
	return operations, counted
}

// nodePairs counts the products that one node adds up.
func nodePairs(n *graphs.Node) (pairs int64, known bool) {
	if n.Domain != "" {
		return 0, true
	}
	// Every entry of one value takes part in as many products as a row of another has entries.
	of := func(v *graphs.Value, depth ...graphs.Dim) (int64, bool) {
		if v == nil || v.Shape == nil || !v.Shape.Known() || !graphs.Shape(depth).Known() {
			return 0, false
		}
		return int64(graphs.Size(v.Shape.Ints())) * int64(graphs.Size(graphs.Shape(depth).Ints())), true
	}
	inputs := n.Inputs
	switch n.Op {
	case "Conv": // filters are [M, C/groups, k…]
		if w := inputs[1]; w.Rank() > 1 {
			return of(n.Out(0), w.Shape[1:]...)
		}
	case "ConvTranspose": // filters are [C, M/groups, k…]
		if w := inputs[1]; w.Rank() > 1 {
			return of(inputs[0], w.Shape[1:]...)
		}
	case "MatMul":
		if a := inputs[0]; a.Rank() > 0 {
			return of(n.Out(0), a.Shape[len(a.Shape)-1])
		}
	case "Gemm":
		if a := inputs[0]; a.Rank() == 2 {
			return of(n.Out(0), a.Shape[1-n.Int("transA", 0)])
		}
	case "Einsum":
		return 0, false
	default:
		return 0, true
	}
	return 0, false
}
