package autodiff

import "ebmrun/graphs"

// unbroadcast sums the slope d back to the shape of the operand like: over the
// axes that broadcasting added in front, and over those that it stretched from
// size 1. An axis of which this cannot be told beforehand is decided at run time.
func (b *Back) unbroadcast(d, like *graphs.Value) *graphs.Value {
	if b.Err() != nil || d.Shape.Same(like.Shape) {
		return d
	}
	if d.Shape == nil || like.Shape == nil {
		return b.Fail("the ranks of %s and %s must be known", d, like)
	}
	extra := max(len(d.Shape)-len(like.Shape), 0)
	added, all := iota64(extra), iota64(extra)
	var stretched []int64
	runtime := false
	for i, l := range like.Shape {
		switch a := d.Shape[extra+i]; {
		case a.Same(l):
		case l.N == 1:
			stretched, all = append(stretched, int64(i)), append(all, int64(extra+i))
		case !l.Known():
			runtime = true
		}
	}
	if extra > 0 && len(stretched) > 0 && like.Shape.Known() {
		return b.ReshapeLike(b.Sum(d, false, all...), like)
	}
	if extra > 0 {
		d = b.Sum(d, false, added...)
	}
	if len(stretched) > 0 {
		d = b.Sum(d, true, stretched...)
	}
	if runtime {
		// Summing over an axis of size 1 changes nothing, so all axes on which the
		// operand has size 1 at run time can be summed over. There is always one in
		// front: ONNX Runtime sums an empty slope over all axes if it is given none.
		sizes := b.Concat(0, b.Ints(1), b.Shape(like))
		ones := b.ReshapeTo(b.Op("NonZero", []*graphs.Value{b.Equal(sizes, b.Ints(1))}), -1)
		d = b.Op("ReduceSum", []*graphs.Value{b.Unsqueeze(d, 0), ones}, graphs.I("keepdims", 1))
		d = b.Squeeze(d, 0)
		if b.Err() == nil {
			d.Shape = like.Shape
		}
	}
	return d
}

// expandLike broadcasts d to the run-time shape of like.
func (b *Back) expandLike(d, like *graphs.Value) *graphs.Value {
	if b.Err() != nil || d.Shape.Same(like.Shape) {
		return d
	}
	e := b.Expand(d, b.ShapeOf(like))
	if b.Err() == nil && e.From != nil {
		e.Shape = like.Shape
	}
	return e
}

// size is the run-time size of one axis of x as a vector of length 1.
func (b *Back) size(x *graphs.Value, axis int) *graphs.Value { return size(b.Builder, x, axis) }

// padAxes pads x with zeros; begin and end hold one amount per axis and may be
// negative, which crops.
func (b *Back) padAxes(x *graphs.Value, begin, end []int64) *graphs.Value {
	none := true
	crop := false
	for i := range begin {
		none = none && begin[i] == 0 && end[i] == 0
		crop = crop || begin[i] < 0 || end[i] < 0
	}
	if none {
		return x
	}
	if crop {
		// Providers differ on negative pads, so cropping is a Slice of its own.
		var starts, ends, axes []int64
		b0, e0 := append([]int64{}, begin...), append([]int64{}, end...)
		for i := range begin {
			if begin[i] >= 0 && end[i] >= 0 {
				continue
			}
			starts, ends, axes = append(starts, max(-begin[i], 0)), append(ends, endMark(min(end[i], 0))), append(axes, int64(i))
			b0[i], e0[i] = max(begin[i], 0), max(end[i], 0)
		}
		return b.padAxes(b.Slice(x, starts, ends, axes, nil), b0, e0)
	}
	return b.Op("Pad", []*graphs.Value{x, b.Ints(append(append([]int64{}, begin...), end...)...)})
}

func endMark(e int64) int64 {
	if e == 0 {
		return 1<<63 - 1
	}
	return e
}

// fill fills n entries with v.
func fill(n int, v int64) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = v
	}
	return out
}

// iota64 is 0, 1, …, n−1.
func iota64(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i)
	}
	return out
}
