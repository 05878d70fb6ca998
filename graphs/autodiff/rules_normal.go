package autodiff

import (
	"slices"

	"ebmrun/graphs"
)

// Some groups of ops, such as the parts of a normalisation, have a slope of their
// own, shorter than what the rules of the single ops add up to. Each is found by looking at what the operands
// come from, however the layer was written.

// made is the node that makes v by the given op, nil if another does.
func made(v val, op string) *graphs.Node {
	if v == nil || v.From == nil || v.From.Op != op || v.From.Domain != "" {
		return nil
	}
	return v.From
}

// asked reports whether a slope of one of the values itself is wanted, so that it may
// not be led past.
func (b *Back) asked(values ...val) bool {
	return slices.ContainsFunc(values, func(v val) bool {
		if of := b.copied[v]; of != nil {
			v = of
		}
		return slices.Contains(b.wrt, v)
	})
}

// meanOver is the mean of v over the axes of the ReduceMean r.
func (b *Back) meanOver(r *graphs.Node, v val) val {
	return b.Op("ReduceMean", append([]val{v}, r.Inputs[1:]...), r.Attrs...)
}

// centred: y = x − mean x: dx = dy − mean dy, nil if n is something else.
func (b *Back) centred(n *graphs.Node, d val) val {
	x := n.In(0)
	r := made(n.In(1), "ReduceMean")
	if r == nil || r.In(0) != x || r.Int("keepdims", 1) == 0 || !d.Shape.Same(x.Shape) || b.asked(n.In(1)) {
		return nil
	}
	return b.Sub(d, b.meanOver(r, d))
}

// scaled: y = x/s or x·(1/s) with s = √(mean x² + ε): dx = (dy − y·mean(dy·y))/s,
// nil if n, whose operand number i is x, is something else. Nothing goes to s.
func (b *Back) scaled(n *graphs.Node, i int, d val) val {
	x, by, over := n.In(i), n.In(1-i), b.Div
	s := by
	if n.Op == "Mul" {
		over = b.Mul
		if r := made(by, "Reciprocal"); r != nil {
			s = r.In(0)
		} else if r := made(by, "Div"); r != nil {
			if c, ok := constScalar(r.In(0)); !ok || c != 1 || b.active[r.In(0)] {
				return nil
			}
			s = r.In(1)
		} else {
			return nil
		}
	}
	root := made(s, "Sqrt")
	if root == nil || !d.Shape.Same(x.Shape) {
		return nil
	}
	r := made(root.In(0), "ReduceMean")
	if sum := made(root.In(0), "Add"); sum != nil {
		for k := range 2 {
			if m := made(sum.In(k), "ReduceMean"); m != nil && !b.active[sum.In(1-k)] {
				r = m
			}
		}
	}
	if r == nil || r.Int("keepdims", 1) == 0 || !b.squareOf(r.In(0), x) || b.asked(by, s, root.In(0), r.Out(0), r.In(0)) {
		return nil
	}
	y := n.Out(0)
	return over(b.Sub(d, b.Mul(y, b.meanOver(r, b.Mul(d, y)))), by)
}

// gated: y = x·σ(x): dx = dy·(σ + y·(1 − σ)), nil if n, whose operand number i is
// x, is something else. Nothing goes to σ.
func (b *Back) gated(n *graphs.Node, i int, d val) val {
	s := made(n.In(1-i), "Sigmoid")
	if s == nil || s.In(0) != n.In(i) || b.asked(s.Out(0)) {
		return nil
	}
	y, gate := n.Out(0), s.Out(0)
	return b.Mul(d, b.Add(gate, b.Mul(y, b.oneMinus(gate))))
}

// activated: y = z·a where z = σ(u) or tanh u goes nowhere else: du = dy·y·(1 − z) or
// dy·(a − y·z). It reports whether n, whose operand number i is z, is of this form.
func (b *Back) activated(n *graphs.Node, i int, d val) bool {
	z, a, y := n.In(i), n.In(1-i), n.Out(0)
	of := z // before it was computed again
	if v := b.copied[z]; v != nil {
		of = v
	}
	if !b.once[of] || b.asked(of) || !z.Shape.Same(y.Shape) || !d.Shape.Same(y.Shape) {
		return false
	}
	if m := made(of, "Sigmoid"); m != nil {
		b.give(m.In(0), b.Mul(b.Mul(d, y), b.oneMinus(z)))
		return true
	}
	if m := made(of, "Tanh"); m != nil {
		b.give(m.In(0), b.Mul(d, b.Sub(a, b.Mul(y, z))))
		return true
	}
	return false
}

// squareOf reports whether v is x².
func (b *Back) squareOf(v, x val) bool {
	if m := made(v, "Mul"); m != nil {
		return m.In(0) == x && m.In(1) == x
	}
	if p := made(v, "Pow"); p != nil {
		c, ok := constScalar(p.In(1))
		return p.In(0) == x && ok && c == 2 && !b.active[p.In(1)]
	}
	return false
}
