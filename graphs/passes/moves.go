package passes

import (
	"slices"

	"ebmrun/graphs"
)

// Moves puts sums and scales in front of what only moves elements about, so that fewer
// nodes move them: a + scatter(0, b) becomes scatter(a, b), move(a) + move(b) becomes
// move(a + b) where move is a Reshape, a Transpose or a crop to sizes known at run time,
// and of a scaled transpose in a matrix product the transpose comes last. What is no
// longer read is then dead (see [Prune]). Values must have their types and shapes, as
// after [Reinfer]. Subgraphs stay as they are.
func Moves(g *graphs.Graph) (changed bool, err error) {
	m := mover{g, map[*graphs.Value]int{}, map[*graphs.Node]int{}}
	for i, n := range g.Nodes {
		m.at[n] = i
		reads(n, func(v *graphs.Value) { m.uses[v]++ })
	}
	for _, v := range g.Outputs {
		m.uses[v]++
	}
	for _, n := range g.Nodes {
		if n.Domain != "" || len(n.Inputs) != 2 {
			continue
		}
		switch a, b := n.Inputs[0], n.Inputs[1]; n.Op {
		case "Add":
			changed = m.scatter(n, a, b) || m.scatter(n, b, a) || m.sum(n, a, b) || changed
		case "MatMul":
			changed = m.scale(a) || changed
			changed = m.scale(b) || changed
		}
	}
	return changed, nil
}

type mover struct {
	g    *graphs.Graph
	uses map[*graphs.Value]int
	at   map[*graphs.Node]int
}

// once is the node that makes v for a single reader, nil if there is none of these ops.
func (m *mover) once(v *graphs.Value, ops ...string) *graphs.Node {
	if n := v.From; n != nil && m.uses[v] == 1 && n.Domain == "" && slices.Contains(ops, n.Op) {
		return n
	}
	return nil
}

// scatter makes a sum with a scatter into zeros one into what is added to it.
func (m *mover) scatter(sum *graphs.Node, to, v *graphs.Value) bool {
	s := m.once(v, "ScatterElements", "ScatterND")
	if s == nil || s.Str("reduction", "none") != "add" || !to.Shape.Same(v.Shape) || !zeros(s.Inputs[0]) {
		return false
	}
	sum.Op, sum.Name, sum.Attrs, sum.Inputs = s.Op, s.Name, s.Attrs, []*graphs.Value{to, s.Inputs[1], s.Inputs[2]}
	return true
}

// zeros reports whether a value is 0 everywhere.
func zeros(v *graphs.Value) bool {
	c := v.Const
	if n := v.From; n != nil && n.Op == "ConstantOfShape" && n.Domain == "" {
		a := n.Attr("value")
		if a == nil {
			return true
		}
		c = a.T
	}
	if c == nil || IsWeight(v) {
		return false
	}
	f, err := c.AsFloats()
	return err == nil && !slices.ContainsFunc(f, func(x float64) bool { return x != 0 })
}

// sum adds before the elements are moved: the later of the two moves becomes the sum.
func (m *mover) sum(sum *graphs.Node, a, b *graphs.Value) bool {
	first, last := m.once(a, "Reshape", "Transpose", "Slice"), m.once(b, "Reshape", "Transpose", "Slice")
	if first == nil || last == nil || first == last {
		return false
	}
	x, y := first.Inputs[0], last.Inputs[0]
	if first.Op != last.Op || !x.Shape.Same(y.Shape) || !slices.Equal(first.Inputs[1:], last.Inputs[1:]) || first.Op == "Slice" && last.Inputs[2].Const != nil {
		return false
	}
	kx, okx := nodeKey(&graphs.Node{Op: first.Op, Attrs: first.Attrs})
	ky, oky := nodeKey(&graphs.Node{Op: last.Op, Attrs: last.Attrs})
	if !okx || !oky || kx != ky {
		return false
	}
	if m.at[first] > m.at[last] {
		last = first
	}
	v := last.Outputs[0]
	sum.Op, sum.Attrs, sum.Inputs = last.Op, last.Attrs, append([]*graphs.Value{v}, last.Inputs[1:]...)
	last.Op, last.Attrs, last.Inputs = "Add", nil, []*graphs.Value{x, y}
	sum.Name, last.Name = last.Name, sum.Name
	v.Name, v.Shape, v.Content = m.g.Fresh(last.Label()), x.Shape, nil
	return true
}

// scale exchanges a transpose of the last two axes with the scale by one number after it.
func (m *mover) scale(v *graphs.Value) bool {
	scale := v.From
	if scale == nil || scale.Domain != "" || scale.Op != "Mul" && scale.Op != "Div" {
		return false
	}
	t, c := m.once(scale.Inputs[0], "Transpose"), scale.Inputs[1]
	if t == nil || c.Const == nil || c.Const.Len() != 1 || c.Rank() > v.Rank() {
		return false
	}
	x, k := t.Inputs[0], v.Rank()
	if perm := graphs.Perm(t, k); k < 2 || len(perm) != k || perm[k-1] != int64(k-2) || perm[k-2] != int64(k-1) {
		return false
	}
	w := t.Outputs[0]
	t.Op, t.Attrs, t.Inputs, scale.Op, scale.Attrs, scale.Inputs = scale.Op, scale.Attrs, []*graphs.Value{x, c}, "Transpose", t.Attrs, []*graphs.Value{w}
	t.Name, scale.Name = scale.Name, t.Name
	w.Name, w.Shape = m.g.Fresh(t.Label()), x.Shape
	return true
}
