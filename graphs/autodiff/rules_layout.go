package autodiff

import (
	"fmt"
	"math"
	"slices"

	"ebmrun/graphs"
)

// reshapeBack is the rule of every op that only changes the shape.
var reshapeBack = unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.ReshapeLike(d, x) })

func layoutRules() map[string]Rule {
	return map[string]Rule{
		"Reshape": reshapeBack, "Flatten": reshapeBack, "Squeeze": reshapeBack, "Unsqueeze": reshapeBack,
		"Transpose": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			if x.Shape == nil {
				return b.Fail("the rank of %s must be known", x)
			}
			p := graphs.Perm(n, len(x.Shape))
			if e := b.transposedProduct(d, p); e != nil {
				return e
			}
			inv := make([]int64, len(p))
			for i, a := range p {
				inv[a] = int64(i)
			}
			return b.Transpose(d, inv...)
		}),
		"Expand": unary(func(b *Back, n *graphs.Node, x, y, d val) val { return b.unbroadcast(d, x) }),
		"Concat": concatRule,
		"Split":  splitRule,
		"Slice":  unary(sliceBack),
		"Pad":    padRule,
		"Tile":   unary(tileBack),
		// DepthToSpace and SpaceToDepth (mode DCR) undo each other.
		"DepthToSpace": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			if n.Str("mode", "DCR") == "DCR" {
				return b.Op("SpaceToDepth", []val{d}, graphs.I("blocksize", n.Int("blocksize", 1)))
			}
			return b.spaceToDepthCRD(d, x, n.Int("blocksize", 1))
		}),
		"SpaceToDepth": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.Op("DepthToSpace", []val{d}, graphs.I("blocksize", n.Int("blocksize", 1)))
		}),
		// What is reversed twice is as it was.
		"ReverseSequence": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.Op("ReverseSequence", []val{d, n.In(1)}, graphs.I("batch_axis", n.Int("batch_axis", 1)), graphs.I("time_axis", n.Int("time_axis", 0)))
		}),
		"Trilu": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			return b.Op("Trilu", append([]val{d}, n.Inputs[1:]...), graphs.I("upper", n.Int("upper", 1)))
		}),
	}
}

// transposedProduct is d with its last two axes exchanged where d = Aᵀ·B: then it
// is Bᵀ·A. It is nil for other permutations and other d.
func (b *Back) transposedProduct(d val, perm []int64) val {
	m := made(d, "MatMul")
	if m == nil {
		return nil
	}
	t := made(m.In(0), "Transpose")
	if t == nil || len(perm) < 2 || len(m.In(1).Shape) != len(perm) || t.In(0).Rank() != len(perm) {
		return nil
	}
	swap := iota64(len(perm))
	k := len(perm) - 1
	swap[k], swap[k-1] = swap[k-1], swap[k]
	if !slices.Equal(perm, swap) || !slices.Equal(graphs.Perm(t, len(perm)), swap) {
		return nil
	}
	return b.MatMul(b.Transpose(m.In(1), swap...), t.In(0))
}

// spaceToDepthCRD undoes DepthToSpace in column-row-depth mode: the channel of
// x is c·s² + i·s + j for pixel (i, j) of a block. SpaceToDepth gives it at
// (i·s + j)·C + c, which takes fewer nodes where sizes are known at run time only.
func (b *Back) spaceToDepthCRD(d, x val, s int64) val {
	if c := d.Shape[1]; c.Known() && !x.Shape.Known() {
		from := make([]int64, 0, c.N*s*s)
		for k := range c.N {
			for p := range s * s {
				from = append(from, p*c.N+k)
			}
		}
		d = b.Op("SpaceToDepth", []val{d}, graphs.I("blocksize", s))
		return b.Op("Gather", []val{d, b.Ints(from...)}, graphs.I("axis", 1))
	}
	h, w := b.size(x, 2), b.size(x, 3)
	channels, bs := b.Ints(-1), b.Ints(s)
	if c := d.Shape[1]; c.Known() {
		channels = b.Ints(c.N)
	}
	d = b.Reshape(d, b.Concat(0, b.size(x, 0), channels, h, bs, w, bs))
	return b.ReshapeLike(b.Transpose(d, 0, 1, 3, 5, 2, 4), x)
}

func concatRule(b *Back, n *graphs.Node, dy []val) []val {
	axis, err := graphs.NormAxis(n.Int("axis", 0), len(n.Out(0).Shape))
	if err != nil {
		return b.Refuse(n, "%v", err)
	}
	known, wanted := true, 0
	var sizes []int64
	for i, x := range n.Inputs {
		known = known && x.Shape[axis].Known()
		sizes = append(sizes, x.Shape[axis].N)
		if b.Wants(n, i) {
			wanted++
		}
	}
	if known && wanted > 1 {
		return b.Ops("Split", len(sizes), []val{dy[0], b.Ints(sizes...)}, graphs.I("axis", int64(axis)))
	}
	if wanted > 1 {
		parts := make([]val, len(n.Inputs))
		for i, x := range n.Inputs {
			parts[i] = b.size(x, axis)
		}
		return b.Ops("Split", len(sizes), []val{dy[0], b.Concat(0, parts...)}, graphs.I("axis", int64(axis)))
	}
	from, fromV := int64(0), b.Ints(0)
	return b.eachInOrder(n, func(i int, want bool) val {
		x := n.In(i)
		var d val
		if known {
			if want {
				d = b.Slice(dy[0], []int64{from}, []int64{from + x.Shape[axis].N}, []int64{int64(axis)}, nil)
			}
			from += x.Shape[axis].N
			return d
		}
		to := b.Add(fromV, b.size(x, axis))
		if want {
			d = b.Op("Slice", []val{dy[0], fromV, to, b.Ints(int64(axis))})
		}
		fromV = to
		return d
	})
}

// eachInOrder visits all inputs, the wanted and the others.
func (b *Back) eachInOrder(n *graphs.Node, f func(i int, want bool) val) []val {
	dx := make([]val, len(n.Inputs))
	for i := range dx {
		dx[i] = f(i, b.Wants(n, i))
	}
	return dx
}

func splitRule(b *Back, n *graphs.Node, dy []val) []val {
	parts := make([]val, len(dy))
	for i, d := range dy {
		if parts[i] = d; d == nil {
			parts[i] = b.Zeros(n.Out(i))
		}
	}
	return []val{b.Concat(n.Int("axis", 0), parts...)}
}

// sliceBack puts the slope back where the slice was taken: one axis at a time,
// spread out by the step, reversed where the step is negative, then padded.
func sliceBack(b *Back, n *graphs.Node, x, y, d val) val {
	if x.Shape == nil {
		return b.Fail("the rank of %s must be known", x)
	}
	p, err := graphs.Slices(n, len(x.Shape))
	if err != nil {
		return b.Fail("%w", err)
	}
	if p.Axes == nil || p.Steps == nil {
		return b.Fail("axes and steps of a slice must be constant")
	}
	rank := len(x.Shape)
	begin, end := make([]int64, rank), make([]int64, rank)
	var late, strided []int // slices whose place is worked out at run time, with step 1 and with another
	for i, a := range p.Axes {
		step, size := p.Steps[i], x.Shape[a]
		if step == 1 {
			if p.Known && size.Known() {
				first, count := graphs.SliceRange(p.Starts[i], p.Ends[i], 1, size.N)
				begin[a], end[a] = first, size.N-first-count
			} else if !y.Shape[a].Same(size) {
				late = append(late, i)
			}
			continue
		}
		if !p.Known || !size.Known() || !d.Shape[a+1:].Known() && int(a+1) < len(d.Shape) {
			strided = append(strided, i)
			continue
		}
		first, count := graphs.SliceRange(p.Starts[i], p.Ends[i], step, size.N)
		if count == 0 {
			return b.Zeros(x)
		}
		if step < 0 { // x[first], x[first−s], … reversed starts at the last element taken
			d = b.Slice(d, []int64{-1}, []int64{math.MinInt64}, []int64{a}, []int64{-1})
			step = -step
			first -= (count - 1) * step
		}
		d = b.spread(d, int(a), step)
		begin[a], end[a] = first, size.N-first-count*step
	}
	d = b.padAxes(d, begin, end)
	// first is where slice number i starts: a vector of length 1.
	first := func(i int, last val) val {
		if i < len(p.Starts) && p.Starts[i] == 0 {
			return b.Ints(0)
		}
		start := b.Cast(n.In(1), graphs.Int64)
		if len(p.Axes) > 1 {
			start = b.Slice(start, []int64{int64(i)}, []int64{int64(i) + 1}, []int64{0}, nil)
		}
		zero := b.Ints(0)
		start = b.Where(b.Less(start, zero), b.Add(start, b.size(x, int(p.Axes[i]))), start)
		return b.Op("Min", []val{b.Op("Max", []val{start, zero}), last})
	}
	for _, i := range strided {
		a := int(p.Axes[i])
		last := b.size(x, a)
		if p.Steps[i] < 0 {
			last = b.Sub(last, b.Ints(1))
		}
		count := b.Op("Range", []val{i64Scalar(b, 0), b.Squeeze(b.size(y, a), 0), i64Scalar(b, 1)})
		at := b.Add(first(i, last), b.Mul(count, b.Ints(p.Steps[i])))
		var sizes []val
		for k := range d.Shape {
			if k == a {
				sizes = append(sizes, b.size(x, a))
			} else {
				sizes = append(sizes, b.size(d, k))
			}
		}
		dims := fill(rank, 1)
		dims[a] = -1
		at = b.Expand(b.ReshapeTo(at, dims...), b.ShapeOf(d))
		nothing, err := graphs.FromFloats(x.Type, []float64{0}, 1)
		if err != nil {
			return b.Fail("%w", err)
		}
		zeros := b.Op("ConstantOfShape", []val{b.Concat(0, sizes...)}, graphs.T("value", nothing))
		d = b.Op("ScatterElements", []val{zeros, at, d}, graphs.I("axis", int64(a)))
	}
	for _, i := range late {
		a := int(p.Axes[i])
		size := b.size(x, a)
		if p.Known && p.Starts[i] < 0 && p.Ends[i] >= math.MaxInt32 { // the last elements
			d = b.Op("Pad", []val{d, b.Concat(0, b.Sub(size, b.size(y, a)), b.Ints(0)), nil, b.Ints(int64(a))})
			continue
		}
		start := first(i, size)
		if c, ok := graphs.ConstInts(start); !ok || len(c) != 1 || c[0] != 0 {
			size = b.Sub(size, start)
		}
		rest := b.Sub(size, b.size(y, a))
		d = b.Op("Pad", []val{d, b.Concat(0, start, rest), nil, b.Ints(int64(a))})
	}
	return d
}

func i64Scalar(b *Back, v int64) val { return b.Const(graphs.Of([]int64{v})) }

// spread puts step−1 zeros after every element along an axis.
func (b *Back) spread(d val, axis int, step int64) val {
	if step == 1 {
		return d
	}
	rank := len(d.Shape)
	d = b.Unsqueeze(d, int64(axis+1))
	begin, end := make([]int64, rank+1), make([]int64, rank+1)
	end[axis+1] = step - 1
	d = b.padAxes(d, begin, end)
	dims := make([]int64, rank)
	for i := range dims {
		dims[i] = 0
	}
	// 0 keeps an axis in front; the axes behind shifted by one and must be known.
	dims[axis] = -1
	for i := axis + 1; i < rank; i++ {
		s := d.Shape[i+1]
		if !s.Known() {
			return b.Fail("the size of axis %d of %s must be known", i+1, d)
		}
		dims[i] = s.N
	}
	return b.ReshapeTo(d, dims...)
}

// padRule: dx is what padBack crops; the constant gets the slopes of the padding.
func padRule(b *Back, n *graphs.Node, dy []val) []val {
	dx := make([]val, len(n.Inputs))
	if b.Wants(n, 0) {
		dx[0] = padBack(b, n, n.In(0), n.Out(0), dy[0])
	}
	if n.In(2) != nil && b.Wants(n, 2) {
		in := append([]val{b.Full(n.In(0), 1), n.In(1), nil}, n.Inputs[3:]...)
		for in[len(in)-1] == nil {
			in = in[:len(in)-1]
		}
		inside := b.Op("Pad", in)
		d := b.Sum(b.Mul(dy[0], b.Sub(b.Scalar(dy[0], 1), inside)), false)
		dx[2] = b.ReshapeLike(d, n.In(2))
	}
	return dx
}

// padBack crops; only zero (constant) padding gets here, the other modes are
// lowered to Gather.
func padBack(b *Back, n *graphs.Node, x, y, d val) val {
	if x.Shape == nil {
		return b.Fail("the rank of %s must be known", x)
	}
	lo, hi, ok, err := graphs.Pads(n, len(x.Shape))
	if err != nil {
		return b.Fail("%w", err)
	}
	if !ok {
		if n.In(3) != nil && n.In(3).Const == nil {
			return b.Fail("the axes of a Pad must be constant")
		}
		in := []val{d, b.Neg(n.In(1)), nil, n.In(3)}
		if n.In(3) == nil {
			in = in[:2]
		}
		return b.Op("Pad", in)
	}
	for i := range lo {
		lo[i], hi[i] = -lo[i], -hi[i]
	}
	return b.padAxes(d, lo, hi)
}

// tileBack sums over the copies.
func tileBack(b *Back, n *graphs.Node, x, y, d val) val {
	if x.Shape == nil {
		return b.Fail("%w", errRank(x))
	}
	r := n.In(1)
	times := func(i int) val {
		if v, ok := graphs.ConstInts(r); ok && i < len(v) {
			return b.Ints(v[i])
		}
		return b.Slice(r, []int64{int64(i)}, []int64{int64(i) + 1}, []int64{0}, nil)
	}
	var parts []val
	var axes []int64
	for i := range x.Shape {
		parts = append(parts, times(i), b.size(x, i))
		axes = append(axes, int64(2*i))
	}
	if len(parts) == 0 {
		return d
	}
	return b.Sum(b.Reshape(d, b.Concat(0, parts...)), false, axes...)
}

// errRank says that a rank must be known.
func errRank(v val) error { return fmt.Errorf("the rank of %s must be known", v) }
