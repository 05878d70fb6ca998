package autodiff

import "ebmrun/graphs"

// scatterRules: ops that pick elements by computed indices, and their
// transposes. Slopes are put back with ScatterElements, which every provider
// takes whole, rather than ScatterND.
func scatterRules() map[string]Rule {
	return map[string]Rule{
		"Gather": unary(gatherBack),
		"GatherElements": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.scatterAdd(x, n.In(1), d, n.Int("axis", 0))
		}),
		"GatherND": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			if n.Int("batch_dims", 0) != 0 {
				return b.Fail("batch_dims must have been lowered")
			}
			return b.Op("ScatterND", []val{b.Zeros(x), n.In(1), d}, graphs.S("reduction", "add"))
		}),
		"ScatterElements": func(b *Back, n *graphs.Node, dy []val) []val {
			axis, idx := graphs.I("axis", n.Int("axis", 0)), n.In(1)
			return b.scatterSlopes(n, dy[0], scatterOps{
				put: func(x, u val, how string) val {
					return b.Op("ScatterElements", []val{x, idx, u}, axis, graphs.S("reduction", how))
				},
				pick: func(x val) val { return b.Op("GatherElements", []val{x, idx}, axis) },
			})
		},
		"ScatterND": func(b *Back, n *graphs.Node, dy []val) []val {
			idx := n.In(1)
			return b.scatterSlopes(n, dy[0], scatterOps{
				put: func(x, u val, how string) val {
					return b.Op("ScatterND", []val{x, idx, u}, graphs.S("reduction", how))
				},
				pick: func(x val) val { return b.Op("GatherND", []val{x, idx}) },
			})
		},
		// Values only: the slope goes back to where each was found.
		"TopK": func(b *Back, n *graphs.Node, dy []val) []val {
			if dy[0] == nil {
				return nil
			}
			return []val{b.scatterAdd(n.In(0), topKIndices(n), dy[0], n.Int("axis", -1))}
		},
	}
}

// topKIndices is the index output of a TopK node.
func topKIndices(n *graphs.Node) val { return n.Out(1) }

// scatterAdd adds d into zeros like x at the given indices along an axis.
func (b *Back) scatterAdd(x, idx, d val, axis int64) val {
	return b.Op("ScatterElements", []val{b.Zeros(x), idx, d}, graphs.I("axis", axis), graphs.S("reduction", "add"))
}

// scatterOps are a scatter at given places and the gather from them.
type scatterOps struct {
	put  func(x, updates val, reduction string) val
	pick func(x val) val
}

// scatterSlopes: without a reduction the overwritten places of the data get no
// slope. With one, y = x ∘ u₁ ∘ u₂ … at each place: of a sum every operand gets
// the slope, of a maximum or minimum those that reach it share it evenly, of a
// product each gets the product of the others.
func (b *Back) scatterSlopes(n *graphs.Node, d val, s scatterOps) []val {
	x, u, y := n.In(0), n.In(2), n.Out(0)
	zero := func(v val) val { return b.Equal(v, b.Scalar(v, 0)) }
	one := func(v val) val { return b.Equal(v, b.Scalar(v, 1)) }
	switch how := n.Str("reduction", "none"); how {
	case "none":
		return b.each(n, func(i int) val {
			if i == 0 {
				return s.put(d, b.Zeros(u), "none")
			}
			return s.pick(d)
		})
	case "add":
		return b.each(n, func(i int) val {
			if i == 0 {
				return d
			}
			return s.pick(d)
		})
	case "max", "min":
		hitX, hitU := b.step(b.Equal(x, y), y), b.step(b.Equal(u, s.pick(y)), u)
		share := b.Div(d, s.put(hitX, hitU, "add"))
		return b.each(n, func(i int) val {
			if i == 0 {
				return b.Mul(hitX, share)
			}
			return b.Mul(hitU, s.pick(share))
		})
	case "mul":
		return b.each(n, func(i int) val {
			if i == 0 {
				return b.Mul(d, s.put(b.Full(x, 1), u, "mul"))
			}
			// Of the operands at a place, zeros are left out of the product and counted:
			// one zero has the product as its slope, and with more of them all have zero.
			safe := b.Where(zero(u), b.Scalar(u, 1), u)
			rest := s.put(x, safe, "mul")
			zeros := s.put(b.Zeros(x), b.step(zero(u), u), "add")
			rest, zeros = s.pick(b.Mul(d, rest)), s.pick(zeros)
			none := b.Scalar(u, 0)
			return b.Where(zero(u), b.Where(one(zeros), rest, none), b.Where(zero(zeros), b.Div(rest, safe), none))
		})
	default:
		return b.Refuse(n, "%w with reduction %q", ErrNoRule, how)
	}
}

// maxPicked bounds the constant matrix that stands for a Gather.
const maxPicked = 1 << 16

// gatherBack: one constant index is a Pad, a few are a product with a constant
// matrix; otherwise the indices are spread over the slope's shape and added up.
func gatherBack(b *Back, n *graphs.Node, x, y, d val) val {
	idx := n.In(1)
	if x.Shape == nil || idx.Shape == nil {
		return b.Fail("%w", errRank(x))
	}
	axis, err := graphs.NormAxis(n.Int("axis", 0), len(x.Shape))
	if err != nil {
		return b.Fail("%w", err)
	}
	k := len(idx.Shape)
	if k == 0 {
		d = b.Unsqueeze(d, int64(axis))
		if c, ok := graphs.ConstInts(idx); ok && x.Shape[axis].Known() {
			at, size := c[0], x.Shape[axis].N
			if at < 0 {
				at += size
			}
			begin, end := make([]int64, len(x.Shape)), make([]int64, len(x.Shape))
			begin[axis], end[axis] = at, size-at-1
			return b.padAxes(d, begin, end)
		}
		idx = b.Unsqueeze(idx, 0)
		k = 1
	}
	if c, ok := graphs.ConstInts(idx); ok && k == 1 && axis >= len(x.Shape)-2 && len(x.Shape) > 1 {
		if size := x.Shape[axis]; size.Known() && size.N > 0 && int64(len(c))*size.N <= maxPicked {
			// a product with zeros and ones
			m := make([]float64, int64(len(c))*size.N)
			for i, at := range c {
				m[int64(i)*size.N+(at+size.N)%size.N]++
			}
			return b.alongAxis(d, axis, m, len(c), int(size.N))
		}
	}
	if k > 1 { // merge the index axes into one
		var parts []val
		for i := 0; i < axis; i++ {
			parts = append(parts, b.size(x, i))
		}
		parts = append(parts, b.Ints(-1))
		for i := axis + 1; i < len(x.Shape); i++ {
			parts = append(parts, b.size(x, i))
		}
		d = b.Reshape(d, b.Concat(0, parts...))
		idx = b.ReshapeTo(idx, -1)
	}
	shape := fill(len(x.Shape), 1)
	shape[axis] = -1
	return b.scatterAdd(x, b.Expand(b.ReshapeTo(idx, shape...), b.ShapeOf(d)), d, int64(axis))
}
