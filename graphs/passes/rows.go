package passes

import (
	"slices"

	"ebmrun/graphs"
)

// OneRow computes once what is the same for every example of a batch: a matrix product
// or convolution of a constant with equal rows, as is the slope that the energies of a
// batch start from, is that of one row where all that is made of it meets the whole batch
// anyway. The sizes of values must be known, as after [SetBatch].
func OneRow(g *graphs.Graph) (changed bool, err error) {
	readers := map[*graphs.Value][]*graphs.Node{}
	for _, n := range g.Nodes {
		reads(n, func(v *graphs.Value) { readers[v] = append(readers[v], n) })
	}
	for _, n := range g.Nodes {
		if !ofEqualRows(n) || slices.Contains(g.Inputs, n.In(0)) || slices.Contains(g.Outputs, n.Out(0)) {
			continue
		}
		y := n.Out(0)
		if slices.ContainsFunc(readers[y], func(r *graphs.Node) bool { return !spreads(r, y) }) {
			continue
		}
		rows := n.In(0)
		dims := slices.Clone(rows.Const.Dims)
		dims[0] = 1
		one := graphs.Of(rows.Const.F32()[:graphs.Size(dims)], dims...)
		row := &graphs.Value{Name: g.Fresh("const/" + n.Op + "/row"), Type: rows.Type, Shape: graphs.MakeShape(dims...), Const: one}
		g.Inits = append(g.Inits, row)
		n.Inputs = slices.Clone(n.Inputs)
		n.Inputs[0] = row
		y.Shape = slices.Clone(y.Shape)
		y.Shape[0] = graphs.D(1)
		changed = true
	}
	return changed, nil
}

// ofEqualRows reports whether a node gives a row for each of several equal rows of a constant.
func ofEqualRows(n *graphs.Node) bool {
	a, b, y := n.In(0), n.In(1), n.Out(0)
	if n.Domain != "" || a == nil || b == nil || y == nil || a.Const == nil || a.Type != graphs.Float32 || IsWeight(a) || a.Rank() < 2 || !y.Shape.Known() {
		return false
	}
	switch n.Op {
	case "Conv", "ConvTranspose":
	case "MatMul":
		if a.Rank() != 2 || b.Rank() != 2 {
			return false
		}
	case "Gemm":
		if n.Int("transA", 0) != 0 || n.In(2) != nil {
			return false
		}
	default:
		return false
	}
	v, rows := a.Const.F32(), a.Const.Dims[0]
	if rows < 2 {
		return false
	}
	row := len(v) / rows
	for i := row; i < len(v); i += row {
		if !slices.Equal(v[i:i+row], v[:row]) {
			return false
		}
	}
	return true
}

// spreads reports whether a node gives the same with one row in the place of v's equal rows.
func spreads(n *graphs.Node, v *graphs.Value) bool {
	switch n.Op {
	case "Add", "Sub", "Mul", "Div":
	default:
		return false
	}
	other := n.In(0)
	if other == v {
		other = n.In(1)
	}
	return n.Domain == "" && other != v && other.Shape.Known() && other.Shape.Same(v.Shape)
}
