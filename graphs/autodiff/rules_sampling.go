package autodiff

import (
	"math"
	"slices"

	"ebmrun/graphs"
)

func samplingRules() map[string]Rule {
	return map[string]Rule{
		"Resize": func(b *Back, n *graphs.Node, dy []val) []val {
			if b.Wants(n, 1) || b.Wants(n, 2) {
				return b.Refuse(n, "%w for the scales or the region of a Resize", ErrNoRule)
			}
			return []val{resizeBack(b, n, n.In(0), n.Out(0), dy[0])}
		},
		// The slope is read where the elements were put.
		"MaxUnpool": unary(func(b *Back, n *graphs.Node, x, y, d val) val {
			if s, err := graphs.UnpooledShape(n); n.In(2) != nil && (err != nil || !s.Same(y.Shape)) {
				return b.Fail("%w where output_shape differs from the window's: runtimes differ on what the indices then mean", ErrNoRule)
			}
			flat := b.Op("GatherElements", []val{b.ReshapeTo(d, -1), b.ReshapeTo(n.In(1), -1)})
			return b.ReshapeLike(flat, x)
		}),
		"Col2Im": unary(col2ImBack),
	}
}

// resizeBack: every output element is a weighted sum of input elements, axis by
// axis; the slope goes back through the transposed weights.
func resizeBack(b *Back, n *graphs.Node, x, y, d val) val {
	if x.Shape == nil {
		return b.Fail("%w", errRank(x))
	}
	list, ok, err := graphs.ResizeAxes(n)
	if err != nil {
		return b.Fail("%w", err)
	}
	if !ok {
		// Whole copies need no weights.
		if s := copies(n, len(x.Shape)); s != nil {
			return b.sumCopies(d, s, x)
		}
		return b.resizeUnknown(n, x, y, d)
	}
	whole, start := fill(len(x.Shape), 1), d // factors of the axes that are copied, summed at once
	for i := len(list) - 1; i >= 0; i-- {
		r := &list[i]
		if r.Out > maxAxis {
			return b.resizeUnknown(n, x, y, start)
		}
		taps, _, err := r.Taps()
		if err != nil {
			return b.Fail("%w", err)
		}
		if s := copyFactor(taps, r.In); s > 0 {
			whole[r.Axis] = s
			continue
		}
		if r.Out*r.In > maxConstant {
			return b.resizeUnknown(n, x, y, start)
		}
		m := make([]float64, r.Out*r.In)
		for o, ts := range taps {
			for _, t := range ts {
				m[int64(o)*r.In+t.Index] += t.Weight
			}
		}
		d = b.alongAxis(d, r.Axis, m, int(r.Out), int(r.In))
	}
	return b.sumCopies(d, whole, x)
}

// Bounds of the numbers in a constant that a rule makes, and of the length of an axis
// whose resizing is worked out beforehand.
const maxConstant, maxAxis = 1 << 24, 1 << 20

// tooLarge refuses constants of more numbers than that.
func (b *Back) tooLarge(dims ...int) bool {
	size := 1
	for _, d := range dims {
		if size *= max(d, 1); size > maxConstant {
			b.Fail("a constant of dims %v is too large", dims)
			return true
		}
	}
	return false
}

// resizeUnknown finds the weights at run time, by what the op makes of an identity
// matrix: the same numbers as in the forward pass, one matrix an axis.
func (b *Back) resizeUnknown(n *graphs.Node, x, y, d val) val {
	kind, place := n.Str("mode", "nearest"), n.Str("coordinate_transformation_mode", "half_pixel")
	if place == "tf_crop_and_resize" || n.Str("keep_aspect_ratio_policy", "stretch") != "stretch" || n.Int("antialias", 0) != 0 {
		return b.Fail("the sizes of a Resize of mode %s must be known (%s)", kind, x)
	}
	axes := n.Ints("axes")
	if axes == nil {
		axes = iota64(len(x.Shape))
	}
	var scales []float64
	byScale := n.In(2) != nil && !(n.In(2).Const != nil && n.In(2).Const.Len() == 0)
	if byScale && n.In(2).Const != nil {
		scales, _ = n.In(2).Const.AsFloats()
	}
	var attrs []*graphs.Attr
	for _, a := range n.Attrs {
		if a.Name != "axes" {
			attrs = append(attrs, a)
		}
	}
	last := len(x.Shape) - 1
	for i := len(axes) - 1; i >= 0; i-- {
		a, err := graphs.NormAxis(axes[i], len(x.Shape))
		if err != nil {
			return b.Fail("%w", err)
		}
		if i < len(scales) && scales[i] == 1 || !byScale && x.Shape[a].Same(y.Shape[a]) {
			continue
		}
		if in, out := x.Shape[a], y.Shape[a]; in.Known() && out.Known() && in.N > 64*maxConstant/max(out.N, 1) {
			return b.Fail("resizing axis %d from %d to %d takes too many weights", a, in.N, out.N)
		}
		along := int64(0) // the matrix is [out, in], or [in, out] where it stands on the left
		if a == last-1 {
			along = 1
		}
		size := b.size(x, a)
		eye := b.Op("EyeLike", []val{b.Op("ConstantOfShape", []val{b.Concat(0, size, size)})}, graphs.I("dtype", int64(x.Type)))
		in := []val{eye, nil, nil, b.size(y, a)}
		if byScale {
			in = []val{eye, nil, n.In(2)}
			if len(axes) > 1 {
				in[2] = b.Slice(n.In(2), []int64{int64(i)}, []int64{int64(i) + 1}, []int64{0}, nil)
			}
		}
		m := b.Op("Resize", in, append(attrs[:len(attrs):len(attrs)], graphs.IntsAttr("axes", along))...)
		switch a {
		case last:
			d = b.MatMul(d, m)
		case last - 1:
			d = b.MatMul(m, d)
		default:
			perm := iota64(last + 1)
			perm[a], perm[last] = perm[last], perm[a]
			d = b.Transpose(b.MatMul(b.Transpose(d, perm...), m), perm...)
		}
	}
	return d
}

// copies is, for a Resize to the nearest element by whole factors on an image
// of unknown size, the factor of each axis; nil for any other.
func copies(n *graphs.Node, rank int) []int64 {
	if n.Str("mode", "nearest") != "nearest" || n.In(2) == nil || n.In(2).Const == nil || n.Ints("axes") != nil || n.In(3) != nil {
		return nil
	}
	switch n.Str("coordinate_transformation_mode", "half_pixel") {
	case "asymmetric":
		if n.Str("nearest_mode", "round_prefer_floor") != "floor" {
			return nil
		}
	case "half_pixel", "half_pixel_symmetric":
		if m := n.Str("nearest_mode", "round_prefer_floor"); m != "round_prefer_floor" && m != "round_prefer_ceil" {
			return nil
		}
	default:
		return nil
	}
	f, err := n.In(2).Const.AsFloats()
	if err != nil || len(f) != rank {
		return nil
	}
	s := make([]int64, rank)
	for i, v := range f {
		if v < 1 || v != math.Trunc(v) {
			return nil
		}
		s[i] = int64(v)
	}
	return s
}

// copyFactor is s if output element i is input element i/s, else 0.
func copyFactor(taps [][]graphs.Tap, in int64) int64 {
	s := int64(len(taps)) / in
	if s*in != int64(len(taps)) {
		return 0
	}
	for i, t := range taps {
		if len(t) != 1 || t[0].Weight != 1 || t[0].Index != int64(i)/s {
			return 0
		}
	}
	return s
}

// sumCopies adds up as many neighbours along each axis as its factor says, which
// leaves the shape of x.
func (b *Back) sumCopies(d val, factors []int64, x val) val {
	if b.Err() != nil {
		return d
	}
	if spread := factors[min(2, len(factors)):]; len(spread) > 0 && len(spread) <= 3 && all(factors[:2], 1) && !all(spread, 1) && x.Shape[1].Known() {
		// one node, and faster than sums over short axes
		dims := append([]int{int(x.Shape[1].N), 1}, ints(spread)...)
		if b.tooLarge(dims...) {
			return d
		}
		w := matrix(b.Builder, x, scaledOnes(graphs.Size(dims), 1), dims...)
		return b.Op("Conv", []val{d, w}, graphs.I("group", x.Shape[1].N), graphs.IntsAttr("strides", spread...))
	}
	var parts []val
	var axes []int64
	for i, s := range factors {
		parts = append(parts, b.size(x, i))
		if s > 1 {
			axes = append(axes, int64(len(parts)))
			parts = append(parts, b.Ints(s))
		}
	}
	if axes == nil {
		return d
	}
	return b.Sum(b.Reshape(d, b.Concat(0, parts...)), false, axes...)
}

// scaledOnes is n times v.
func scaledOnes(n int, v float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = v
	}
	return out
}

func all(v []int64, want int64) bool {
	return !slices.ContainsFunc(v, func(x int64) bool { return x != want })
}

// alongAxis multiplies an axis of d, a row vector of length rows, by a constant
// matrix [rows, cols].
func (b *Back) alongAxis(d val, axis int, m []float64, rows, cols int) val {
	return alongAxis(b.Builder, d, axis, m, rows, cols)
}

func alongAxis(b *graphs.Builder, d val, axis int, m []float64, rows, cols int) val {
	if b.Err() != nil {
		return d
	}
	last := len(d.Shape) - 1
	if axis == last-1 { // the matrix stands on the left, transposed
		t := make([]float64, len(m))
		for i := range rows {
			for j := range cols {
				t[j*rows+i] = m[i*cols+j]
			}
		}
		return b.MatMul(matrix(b, d, t, cols, rows), d)
	}
	if axis == last {
		return b.MatMul(d, matrix(b, d, m, rows, cols))
	}
	perm := iota64(last + 1)
	perm[axis], perm[last] = perm[last], perm[axis]
	return b.Transpose(b.MatMul(b.Transpose(d, perm...), matrix(b, d, m, rows, cols)), perm...)
}

// matrix is a constant of the type of like.
func matrix(b *graphs.Builder, like val, v []float64, dims ...int) val {
	t, err := graphs.FromFloats(like.Type, v, dims...)
	if err != nil {
		return b.Fail("%w", err)
	}
	return b.Const(t)
}

// col2ImBack reads every block back; what fell in the padding is zero.
func col2ImBack(b *Back, n *graphs.Node, x, y, d val) val {
	to, image, _, ok, err := graphs.Col2ImTargets(n)
	if err != nil || !ok {
		return b.Fail("the sizes of image and block must be constant (%v)", err)
	}
	size := int64(1)
	for _, s := range image {
		size *= s
	}
	padded := false
	idx := make([]int64, len(to))
	for i, k := range to {
		if idx[i] = k; k < 0 {
			idx[i], padded = size, true
		}
	}
	d = b.ReshapeTo(d, 0, 0, size)
	if padded {
		d = b.padAxes(d, []int64{0, 0, 0}, []int64{0, 0, 1})
	}
	return b.ReshapeLike(b.Gather(d, b.Ints(idx...), 2), x)
}
