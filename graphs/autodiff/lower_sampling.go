package autodiff

import (
	"slices"

	"ebmrun/graphs"
)

func samplingLowerings() map[string]Lowering {
	return map[string]Lowering{"GridSample": one(lowerGridSample), "AffineGrid": one(lowerAffineGrid)}
}

// size is the run-time size of one axis of x as a vector of length 1.
func size(b *graphs.Builder, x val, axis int) val {
	if b.Err() != nil {
		return x
	}
	if axis >= len(x.Shape) {
		return b.Fail("the rank of %s must be known and at least %d", x, axis+1)
	}
	if x.Shape[axis].Known() {
		return b.Ints(x.Shape[axis].N)
	}
	return b.Op("Shape", []val{x}, graphs.I("start", int64(axis)), graphs.I("end", int64(axis+1)))
}

// reshapeBy reshapes x to sizes given as vectors of length 1.
func reshapeBy(b *graphs.Builder, x val, sizes ...val) val {
	if len(sizes) == 0 {
		return b.Reshape(x, b.Ints())
	}
	return b.Reshape(x, b.Concat(0, sizes...))
}

// A gridTap is one element per sampling point along an image axis: its index
// and its weight (nil for 1), both [batch, points].
type gridTap struct{ index, weight val }

// lowerGridSample reads the elements around each sampling point by flat index
// and adds them up, weighted by what depends on the point's coordinates.
func lowerGridSample(b *graphs.Builder, n *graphs.Node, x val) val {
	grid := n.In(1)
	if x.Shape == nil || grid.Shape == nil {
		return b.Fail("%w", errRank(x))
	}
	mode, padding := n.Str("mode", "linear"), n.Str("padding_mode", "zeros")
	if !slices.Contains([]string{"linear", "nearest", "cubic"}, mode) || !slices.Contains([]string{"zeros", "border", "reflection"}, padding) {
		return b.Fail("mode %q with padding_mode %q", mode, padding)
	}
	rank := len(x.Shape) - 2
	coords := b.ReshapeTo(grid, 0, -1, int64(rank))
	axes := make([]gridAxis, rank)
	taps := make([][]gridTap, rank)
	for i := range taps {
		axes[i] = gridAxis{b, axisSize{b, x, 2 + i}, padding, n.Int("align_corners", 0) != 0}
		c := b.Gather(coords, b.Const(graphs.Of([]int64{int64(rank - 1 - i)})), 2) // x is the last image axis
		taps[i] = axes[i].taps(c, mode)
	}
	flat := b.ReshapeTo(x, 0, 0, -1)
	one := b.Ints(1)
	channels := b.Concat(0, one, size(b, x, 1), one)
	pick := make([]int, rank)
	var sum val
	for {
		var at, weight val
		for i, k := range pick {
			t := taps[i][k]
			if at == nil {
				at = t.index
			} else {
				at = b.Add(b.Mul(at, size(b, x, 2+i)), t.index)
			}
			switch {
			case weight == nil:
				weight = t.weight
			case t.weight != nil:
				weight = b.Mul(weight, t.weight)
			}
		}
		part := b.Op("GatherElements", []val{flat, b.Expand(b.Unsqueeze(at, 1), channels)}, graphs.I("axis", 2))
		if weight != nil {
			part = b.Mul(part, b.CastLike(b.Unsqueeze(weight, 1), x)) // the grid may be of another type
		}
		if sum == nil {
			sum = part
		} else {
			sum = b.Add(sum, part)
		}
		k := rank - 1
		for ; k >= 0; k-- {
			if pick[k]++; pick[k] < len(taps[k]) {
				break
			}
			pick[k] = 0
		}
		if k < 0 {
			break
		}
	}
	sizes := []val{b.Ints(0, 0)}
	for i := 1; i <= rank; i++ {
		sizes = append(sizes, size(b, grid, i))
	}
	return reshapeBy(b, sum, sizes...)
}

// An axisSize is the size n of an axis of x, which may be known at run time only.
type axisSize struct {
	b    *graphs.Builder
	x    val
	axis int
}

// linear is scale·n + shift as a scalar of the type of like.
func (s axisSize) linear(like val, scale, shift float64) val {
	b := s.b
	if b.Err() != nil {
		return like
	}
	if d := s.x.Shape[s.axis]; d.Known() {
		return b.Scalar(like, scale*float64(d.N)+shift)
	}
	n := b.CastLike(b.Squeeze(size(b, s.x, s.axis), 0), like)
	return b.Add(b.Scale(n, scale), b.Scalar(like, shift))
}

// A gridAxis turns coordinates along an image axis of n elements into taps.
type gridAxis struct {
	b       *graphs.Builder
	n       axisSize
	padding string
	corners bool
}

func (a gridAxis) taps(c val, mode string) []gridTap {
	b := a.b
	if mode == "nearest" {
		return []gridTap{a.tap(b.Op("Round", []val{a.fold(a.place(c))}), nil)}
	}
	x := a.place(c)
	if mode == "linear" {
		x = a.fold(x)
	}
	first := b.Op("Floor", []val{x})
	t := b.Sub(x, first)
	step := func(k float64) val { return b.Add(first, b.Scalar(first, k)) }
	rest := b.Sub(b.Scalar(t, 1), t)
	if mode == "linear" {
		return []gridTap{a.tap(first, rest), a.tap(step(1), t)}
	}
	const k = -0.75
	poly := func(t val, c ...float64) val { // Horner's rule, highest power first
		y := b.Scalar(t, c[0])
		for _, v := range c[1:] {
			y = b.Add(b.Mul(y, t), b.Scalar(t, v))
		}
		return y
	}
	near := func(t val) val { return poly(t, k+2, -(k + 3), 0, 1) }
	far := func(t val) val { return poly(b.Add(t, b.Scalar(t, 1)), k, -5*k, 8*k, -4*k) }
	var out []gridTap
	for i, w := range []val{far(t), near(t), near(rest), far(rest)} {
		at := step(float64(i - 1))
		if a.padding != "zeros" {
			at = a.fold(at)
		}
		out = append(out, a.tap(at, w))
	}
	return out
}

// place maps [−1, 1] to element coordinates.
func (a gridAxis) place(c val) val {
	b, less := a.b, 0.0
	if a.corners {
		less = -0.5
	}
	return b.Add(b.Mul(c, a.n.linear(c, 0.5, less)), a.n.linear(c, 0.5, -0.5))
}

// fold brings coordinates outside the image into it.
func (a gridAxis) fold(x val) val {
	b := a.b
	switch a.padding {
	case "zeros":
		return x
	case "reflection":
		lo, less := -0.5, 0.0
		if a.corners {
			lo, less = 0, -1
		}
		span, twice := a.n.linear(x, 1, less), a.n.linear(x, 2, 2*less)
		t := b.Sub(x, b.Scalar(x, lo))
		// an image of one element has no span, whatever is then divided by
		period := b.Op("Max", []val{twice, b.Scalar(x, 1)})
		t = b.Sub(t, b.Mul(b.Op("Floor", []val{b.Div(t, period)}), twice))
		t = b.Op("Abs", []val{b.Sub(t, span)})
		x = b.Sub(a.n.linear(t, 1, less+lo), t)
	}
	return a.within(x)
}

func (a gridAxis) within(x val) val {
	return a.b.Op("Clip", []val{x, a.b.Scalar(x, 0), a.n.linear(x, 1, -1)})
}

// tap is the element at coordinate k, of weight 0 outside the image.
func (a gridAxis) tap(k, weight val) gridTap {
	b := a.b
	if a.padding == "zeros" {
		in := b.Op("And", []val{b.Op("GreaterOrEqual", []val{k, b.Scalar(k, 0)}), b.Op("LessOrEqual", []val{k, a.n.linear(k, 1, -1)})})
		if weight == nil {
			weight = b.CastLike(in, k)
		} else {
			weight = b.Where(in, weight, b.Scalar(weight, 0))
		}
	}
	return gridTap{b.Cast(a.within(k), graphs.Int64), weight}
}

// lowerAffineGrid is a product of constant positions with the transformation.
func lowerAffineGrid(b *graphs.Builder, n *graphs.Node, theta val) val {
	s := n.Out(0).Shape
	if len(s) < 4 || !s[1:].Known() {
		return b.Fail("the size of the grid must be known")
	}
	dims := s[1:].Ints()
	rank := len(dims) - 1
	points := graphs.Size(dims[:rank])
	base := make([]float64, 0, points*(rank+1))
	at := make([]int, rank)
	for range points {
		for i := rank - 1; i >= 0; i-- {
			k, size := float64(at[i]), float64(dims[i])
			switch {
			case n.Int("align_corners", 0) == 0:
				base = append(base, (2*k+1)/size-1)
			case size > 1:
				base = append(base, 2*k/(size-1)-1)
			default:
				base = append(base, 0)
			}
		}
		base = append(base, 1)
		for i := rank - 1; i >= 0; i-- {
			if at[i]++; at[i] < dims[i] {
				break
			}
			at[i] = 0
		}
	}
	y := b.MatMul(matrix(b, theta, base, points, rank+1), b.Transpose(theta, 0, 2, 1))
	out := []int64{0}
	for _, d := range dims {
		out = append(out, int64(d))
	}
	return b.ReshapeTo(y, out...)
}
