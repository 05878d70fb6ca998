package passes

import (
	"slices"

	"ebmrun/graphs"
)

// Settle replaces the shapes that Reshape and Expand nodes compute at run time by
// constants where the rest of the graph tells what they come to: one unknown size
// is left for Reshape to infer, axes that keep their size are kept, and an Expand
// leaves an axis alone that it would not stretch. What computed the shapes is then
// dead (see [Prune]). Values must have their types and shapes, as after [Reinfer].
// Subgraphs stay as they are.
func Settle(g *graphs.Graph) (changed bool, err error) {
	b := graphs.NewBuilder(g)
	for _, n := range g.Nodes {
		shape := n.In(1)
		if n.Domain != "" || shape == nil || shape.Const != nil || shape.Content == nil || shape.Type != graphs.Int64 || shape.Rank() != 1 {
			continue
		}
		var to []int64
		switch n.Op {
		case "Reshape":
			to = settleReshape(n, shape.Content, n.Out(0).Shape)
		case "Expand":
			to = settleExpand(n.In(0), shape.Content)
		}
		if to != nil {
			n.Inputs = []*graphs.Value{n.Inputs[0], b.Ints(to...)}
			drop(n, "allowzero") // no 0 in it means an empty axis
			changed = true
		}
	}
	return changed, b.Err()
}

// settleReshape writes one unknown size as −1, or several as kept where they
// stand at the same axis of the operand. The two are not mixed: with an empty axis
// nothing could be inferred.
func settleReshape(n *graphs.Node, want []graphs.Dim, out graphs.Shape) []int64 {
	to := make([]int64, len(want))
	var unknown []int
	for i, d := range want {
		if !d.Known() && i < len(out) && out[i].Known() { // an inferred one
			d = out[i]
		}
		if to[i] = d.N; d.N == 0 {
			return nil
		}
		if !d.Known() {
			to[i] = -1
			unknown = append(unknown, i)
		}
	}
	if len(unknown) < 2 {
		return to
	}
	x := n.In(0)
	for _, i := range unknown {
		if i >= len(x.Shape) || !x.Shape[i].Same(want[i]) {
			return nil
		}
		to[i] = 0
	}
	return to
}

func settleExpand(x *graphs.Value, want []graphs.Dim) []int64 {
	to := make([]int64, len(want))
	for i, d := range want {
		to[i] = d.N
		if d.Known() {
			continue
		}
		k := i - len(want) + len(x.Shape)
		if k < 0 || !x.Shape[k].Same(d) {
			return nil
		}
		to[i] = 1
	}
	if slices.Contains(to, -1) {
		return nil
	}
	return to
}
