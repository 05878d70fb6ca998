//go:build cgo

package ort

import (
	"slices"

	"ebmrun/graphs"
)

// A correlation is the slope of filters in the form that the gradient rules give it: a convolution of
// pictures with slopes in the place of filters, where channels are the batch and the batch is the channels.
type correlation struct {
	conv   *graphs.Node
	x, dy  *graphs.Value // [n, c, …], [n, o, …]
	result *graphs.Value // [o, c, k…]
}

// Where a correlation gives few numbers, each of many terms, a graphics processor has work for few of
// its parts: it is better to compute a product for each example, and the sum of these, as long as all
// products are not too large.
const (
	fewNumbers   = 1 << 18
	mostProducts = 1 << 26
)

func correlations(g *graphs.Graph) []*correlation {
	readers := map[*graphs.Value][]*graphs.Node{}
	for _, n := range g.Nodes {
		for _, v := range n.Inputs {
			readers[v] = append(readers[v], n)
		}
	}
	swapped := func(n *graphs.Node) bool { // first axes of pictures
		return n != nil && slices.Equal(n.Ints("perm"), []int64{1, 0, 2, 3})
	}
	var found []*correlation
	for _, n := range g.Nodes {
		if n.Op != "Conv" || n.Domain != "" || n.Int("group", 1) != 1 || n.In(2) != nil || n.Str("auto_pad", "NOTSET") != "NOTSET" {
			continue
		}
		a, b, after := made(n.In(0), "Transpose"), made(n.In(1), "Transpose"), readers[n.Out(0)]
		if !swapped(a) || !swapped(b) || len(after) != 1 || after[0].Op != "Transpose" || !swapped(after[0]) || slices.Contains(g.Outputs, n.Out(0)) {
			continue
		}
		c := &correlation{conv: n, x: a.In(0), dy: b.In(0), result: after[0].Out(0)}
		if c.x.Type != graphs.Float32 || !c.x.Shape.Known() || !c.dy.Shape.Known() || !c.result.Shape.Known() ||
			slices.ContainsFunc(n.Ints("strides"), func(s int64) bool { return s != 1 }) {
			continue
		}
		if size := graphs.Size(c.result.Shape.Ints()); size <= fewNumbers && size*c.x.Shape.Ints()[0] <= mostProducts {
			found = append(found, c)
		}
	}
	return found
}

// asProducts returns m with its small correlations as sums of products of matrices. m itself is not changed.
func asProducts(m *graphs.Model) *graphs.Model {
	return replaced(m, correlations, func(c *correlation) *graphs.Value { return c.result }, func(r *rewriting, c *correlation) { c.product(r) })
}

// product adds the windows of all pictures, which a convolution with filters of a single 1 gives, and multiplies.
func (c *correlation) product(r *rewriting) {
	name, n, d := c.result.Name, int(c.x.Shape[0].N), c.result.Shape.Ints()
	o, channels, window := d[0], d[1], d[2]*d[3]
	ones := graphs.NewTensor(graphs.Float32, channels*window, 1, d[2], d[3])
	for i := range channels * window {
		ones.F32()[i*window+i%window] = 1
	}
	strides := c.conv.Ints("dilations")
	if strides == nil {
		strides = []int64{1, 1}
	}
	attrs := []*graphs.Attr{graphs.I("group", int64(channels)), graphs.IntsAttr("strides", strides...)}
	if pads := c.conv.Ints("pads"); pads != nil {
		attrs = append(attrs, graphs.IntsAttr("pads", pads...))
	}
	places := c.dy.Shape.Ints()[2:]
	pixels := graphs.Size(places)
	windows := r.op(name, "Conv", graphs.MakeShape(n, channels*window, places[0], places[1]), []*graphs.Value{c.x, r.constant(name, ones)}, attrs...)
	flat := func(v *graphs.Value, rows int) *graphs.Value {
		return r.op(name, "Reshape", graphs.MakeShape(n, rows, pixels), []*graphs.Value{v, r.ints(name, int64(n), int64(rows), int64(pixels))})
	}
	turned := r.op(name, "Transpose", graphs.MakeShape(n, pixels, channels*window), []*graphs.Value{flat(windows, channels*window)}, graphs.IntsAttr("perm", 0, 2, 1))
	each := r.op(name, "MatMul", graphs.MakeShape(n, o, channels*window), []*graphs.Value{flat(c.dy, o), turned})
	sum := r.op(name, "ReduceSum", graphs.MakeShape(o, channels*window), []*graphs.Value{each, r.ints(name, 0)}, graphs.I("keepdims", 0))
	r.last(c.result, "Reshape", []*graphs.Value{sum, r.ints(name, sizes(c.result)...)})
}
