//go:build cgo

package ort

import (
	"slices"

	"ebmrun/graphs"
)

// inBlocks returns m with another form of every ConvTranspose to so few channels that they
// leave most of a kernel's lanes empty, as the way back to pictures does: a convolution
// gives the channels of two by two pixels at once, and DepthToSpace spreads them. m itself is
// not changed.
func inBlocks(m *graphs.Model) *graphs.Model {
	r := &rewriting{names: m.Graph}
	filters := map[blockFilters]*graphs.Value{}
	for _, n := range m.Graph.Nodes {
		if rows, columns, ok := blocksOf(n); ok {
			r.inBlocks(n, rows, columns, filters)
		} else {
			r.nodes = append(r.nodes, n)
		}
	}
	return r.of(m)
}

// blockFilters are filters and what else their form for blocks depends on.
type blockFilters struct {
	w             *graphs.Value
	rows, columns along
}

// side is the height and width of a block.
const side = 2

// along is a transposed convolution along one axis of a picture as a convolution to blocks. Of
// the filter, output side·a+r reads element r + pad + stride·(before−t) at tap t.
type along struct {
	kernel, stride, pad   int
	before, taps, between int // pads before, taps, and stride of the convolution
}

// blocksOf tells how a node is computed in blocks, if that is possible and pays.
func blocksOf(n *graphs.Node) (rows, columns along, ok bool) {
	const least = 10_000_000 // multiplications saved that are worth turning filters round in every call
	x, w, y := n.In(0), n.In(1), n.Out(0)
	if n.Op != "ConvTranspose" || n.Domain != "" || x.Rank() != 4 || !x.Shape.Known() || w.Type != graphs.Float32 || !w.Shape.Known() || !y.Shape.Known() ||
		w.Shape[1].N*side*side > block || n.Int("group", 1) != 1 || n.Ints("output_shape") != nil || n.Str("auto_pad", "NOTSET") != "NOTSET" ||
		slices.ContainsFunc(n.Ints("dilations"), func(d int64) bool { return d != 1 }) {
		return
	}
	var of [2]along
	before, after := 1, 1 // work of a block, in channels of the input
	for i := range of {
		a := along{kernel: int(w.Shape[2+i].N), stride: 1}
		if s := n.Ints("strides"); s != nil {
			a.stride = int(s[i])
		}
		if p := n.Ints("pads"); p != nil {
			a.pad = int(p[i])
		}
		if a.stride < 1 || side%a.stride != 0 || y.Shape[2+i].N%side != 0 || a.pad < 0 || a.pad >= a.kernel {
			return
		}
		a.between, a.before = side/a.stride, (a.kernel-1-a.pad)/a.stride
		a.taps = a.before + (side-1+a.pad)/a.stride + 1
		if a.behind(x.Shape[2+i].N, y.Shape[2+i].N) < 0 {
			return
		}
		before, after, of[i] = before*a.kernel*a.between, after*a.taps, a
	}
	saved := (before - after) * block * graphs.Size(y.Shape.Ints()[2:]) / (side * side) * int(x.Shape[0].N*x.Shape[1].N)
	return of[0], of[1], saved >= least
}

// behind is the padding that a convolution from so many to so many takes behind.
func (a along) behind(from, to int64) int64 {
	return (to/side-1)*int64(a.between) + int64(a.taps-a.before) - from
}

// elements are the indices [side, taps] of the filter, one past its end where a tap reads none.
func (a along) elements() []int64 {
	var at []int64
	for r := range side {
		for t := range a.taps {
			k := r + a.pad + a.stride*(a.before-t)
			if k < 0 || k >= a.kernel {
				k = a.kernel
			}
			at = append(at, int64(k))
		}
	}
	return at
}

// inBlocks adds a transposed convolution in its form for blocks.
func (r *rewriting) inBlocks(n *graphs.Node, rows, columns along, filters map[blockFilters]*graphs.Value) {
	x, w, y := n.In(0), n.In(1), n.Out(0)
	key := blockFilters{w, rows, columns}
	if filters[key] == nil {
		filters[key] = r.blockFilters(key)
	}
	in := []*graphs.Value{x, filters[key]}
	d, channels := y.Shape, y.Shape[1].N*side*side
	if b := n.In(2); b != nil {
		in = append(in, r.op(b.Name, "Concat", graphs.MakeShape(int(channels)), []*graphs.Value{b, b, b, b}, graphs.I("axis", 0)))
	}
	blocks := r.op(y.Name, "Conv", graphs.Shape{d[0], graphs.D(int(channels)), graphs.D(int(d[2].N / side)), graphs.D(int(d[3].N / side))}, in,
		graphs.IntsAttr("strides", int64(rows.between), int64(columns.between)),
		graphs.IntsAttr("pads", int64(rows.before), int64(columns.before), rows.behind(x.Shape[2].N, d[2].N), columns.behind(x.Shape[3].N, d[3].N)))
	r.last(y, "DepthToSpace", []*graphs.Value{blocks}, graphs.I("blocksize", side))
}

// blockFilters adds the filters [side·side·M, C, taps, taps] for blocks of those of a transposed
// convolution, [C, M, kernel, kernel].
func (r *rewriting) blockFilters(f blockFilters) *graphs.Value {
	d, t, u := f.w.Shape.Ints(), f.rows.taps, f.columns.taps
	c, m := d[0], d[1]
	index := func(a along) *graphs.Value { return r.constant(f.w.Name, graphs.Of(a.elements(), side, a.taps)) }
	v := r.op(f.w.Name, "Pad", graphs.MakeShape(c, m, d[2]+1, d[3]+1), []*graphs.Value{f.w, r.ints(f.w.Name, 0, 0, 0, 0, 0, 0, 1, 1)})
	v = r.op(f.w.Name, "Gather", graphs.MakeShape(c, m, side, t, d[3]+1), []*graphs.Value{v, index(f.rows)}, graphs.I("axis", 2))
	v = r.op(f.w.Name, "Gather", graphs.MakeShape(c, m, side, t, side, u), []*graphs.Value{v, index(f.columns)}, graphs.I("axis", 4))
	v = r.op(f.w.Name, "Transpose", graphs.MakeShape(side, side, m, c, t, u), []*graphs.Value{v}, graphs.IntsAttr("perm", 2, 4, 1, 0, 3, 5))
	return r.op(f.w.Name, "Reshape", graphs.MakeShape(side*side*m, c, t, u), []*graphs.Value{v, r.ints(f.w.Name, int64(side*side*m), int64(c), int64(t), int64(u))})
}
