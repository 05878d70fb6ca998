package autodiff

import (
	"ebmrun/graphs"
)

// slopeKey marks, in a node's metadata, a Round whose slope is taken to be 1.
const slopeKey, straight = "ebmrun.slope", "straight-through"

// straightThrough reports whether a node rounds and passes its slope.
func straightThrough(n *graphs.Node) bool {
	for _, e := range n.Metadata {
		if e.Key == slopeKey {
			return n.Op == "Round" && e.Value == straight
		}
	}
	return false
}

// quantized is a value as a QuantizeLinear and a DequantizeLinear with the same
// scale leave it, written out in floating point.
func unquantize(g *graphs.Graph) (changed bool, err error) {
	_, changed, err = rewrite(graphs.NewBuilder(g), func(n *graphs.Node) Lowering {
		if n.Domain != "" || n.Op != "DequantizeLinear" || n.In(0) == nil || n.In(0).From == nil {
			return nil
		}
		q := n.In(0).From
		if q.Op != "QuantizeLinear" || q.Domain != "" || !sameContent(q.In(1), n.In(1)) || !sameContent(q.In(2), n.In(2)) {
			return nil
		}
		return one(func(b *graphs.Builder, n *graphs.Node, _ val) val { return lowerQuantized(b, q, n) })
	})
	return changed, err
}

func sameContent(x, y val) bool {
	if x == y {
		return true
	}
	if x == nil || y == nil || x.Const == nil || y.Const == nil || x.Type != y.Type || x.Const.Len() != y.Const.Len() {
		return false
	}
	a, err1 := x.Const.AsFloats()
	c, err2 := y.Const.AsFloats()
	for i := range a {
		if err1 != nil || err2 != nil || a[i] != c[i] {
			return false
		}
	}
	return true
}

// lowerQuantized: (clip(round(x/s) + z) − z)·s. The slope passes the rounding, and
// is 0 where the value saturates.
func lowerQuantized(b *graphs.Builder, q, n *graphs.Node) val {
	x := q.In(0)
	lo, hi, ok := graphs.IntRange(q.Out(0).Type)
	if !ok || q.Int("block_size", 0) != 0 || n.Int("block_size", 0) != 0 {
		return b.Fail("%w for quantization to %v or in blocks", ErrNoRule, q.Out(0).Type)
	}
	s, err := alongChannel(b, q, x, n.In(1))
	if err != nil {
		return b.Fail("%w", err)
	}
	r := b.Op("Round", []val{b.Div(x, s)})
	if b.Err() != nil {
		return x
	}
	r.From.Metadata = append(r.From.Metadata, graphs.Entry{Key: slopeKey, Value: straight})
	z := b.Scalar(x, 0)
	if n.In(2) != nil {
		if z, err = alongChannel(b, q, x, n.In(2)); err != nil {
			return b.Fail("%w", err)
		}
		z = b.Cast(z, x.Type)
	}
	r = b.Op("Clip", []val{b.Add(r, z), b.Scalar(x, lo), b.Scalar(x, hi)})
	return b.Mul(b.Sub(r, z), s)
}

// alongChannel gives a vector of scales the shape that broadcasts along the
// node's axis.
func alongChannel(b *graphs.Builder, n *graphs.Node, x, v val) (val, error) {
	if len(v.Shape) != 1 || v.Shape[0].N == 1 && len(x.Shape) > 0 {
		return v, nil
	}
	axis, err := graphs.NormAxis(n.Int("axis", 1), len(x.Shape))
	if err != nil {
		return nil, err
	}
	dims := fill(len(x.Shape), 1)
	dims[axis] = -1
	return b.ReshapeTo(v, dims...), nil
}

// lowerDequantize: (x − z)·s, exact; quantized weights have no slope of their own.
func lowerDequantize(b *graphs.Builder, n *graphs.Node, x val) val {
	if n.Int("block_size", 0) != 0 || x.Shape == nil {
		return b.Fail("%w for quantization in blocks", ErrNoRule)
	}
	s, err := alongChannel(b, n, x, n.In(1))
	if err != nil {
		return b.Fail("%w", err)
	}
	y := b.Cast(x, s.Type)
	if n.In(2) != nil {
		z, err := alongChannel(b, n, x, n.In(2))
		if err != nil {
			return b.Fail("%w", err)
		}
		y = b.Sub(y, b.Cast(z, s.Type))
	}
	return b.Mul(y, s)
}
