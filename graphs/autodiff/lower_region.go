package autodiff

import (
	"math"

	"ebmrun/graphs"
)

func regionLowerings() map[string]Lowering {
	return map[string]Lowering{"RoiAlign": one(lowerRoiAlign), "MaxRoiPool": one(lowerMaxRoiPool), "DeformConv": one(lowerDeformConv)}
}

// column is column i of a table [rows, columns], [rows, 1, 1].
func column(b *graphs.Builder, table val, i int64) val {
	return b.Unsqueeze(b.Gather(table, b.Ints(i), 1), 2)
}

// upTo is 0, 1, … below a count, a vector of length 1, in the type of like.
func upTo(b *graphs.Builder, count, like val) val {
	i := func(k int64) val { return b.Const(graphs.Of([]int64{k})) }
	return b.CastLike(b.Op("Range", []val{i(0), b.Squeeze(count, 0), i(1)}), like)
}

// lowerRoiAlign reads the elements around the points in each cell by their places in
// the list of all pixels, and takes the mean of what lies between them. The regions
// have slopes as well; how many points there are has none.
func lowerRoiAlign(b *graphs.Builder, n *graphs.Node, x val) val {
	set, err := graphs.RegionOf(n)
	if err != nil || x.Shape == nil {
		return b.Fail("image %s: its rank must be known (%v)", x, err)
	}
	rows := newRegionAxis(b, n, set, 1, set.Height)
	columns := newRegionAxis(b, n, set, 0, set.Width)
	pixels := b.Reshape(b.Transpose(x, 0, 2, 3, 1), b.Concat(0, b.Ints(-1), size(b, x, 1)))
	height, width := size(b, x, 2), size(b, x, 3)
	first := b.Mul(b.Unsqueeze(b.Cast(n.In(2), graphs.Int64), 1, 2), height)
	var y val
	for _, p := range rows.taps {
		for _, q := range columns.taps {
			at := b.Add(b.Mul(b.Add(first, b.Unsqueeze(p.index, 2)), width), b.Unsqueeze(q.index, 1))
			part := b.Mul(b.Gather(pixels, at, 0), b.Mul(b.Unsqueeze(p.weight, 2, 3), b.Unsqueeze(q.weight, 1, 3)))
			switch {
			case y == nil:
				y = part
			case set.Max:
				y = b.Op("Max", []val{y, part})
			default:
				y = b.Add(y, part)
			}
		}
	}
	// [regions, height, points, width, points, channels]
	split := func(v val) val {
		return reshapeBy(b, v, b.Ints(0, int64(set.Height)), rows.count, b.Ints(int64(set.Width)), columns.count, size(b, x, 1))
	}
	if !set.Max {
		return b.Transpose(b.Sum(split(y), false, 2, 4), 0, 3, 1, 2)
	}
	if rows.there != nil {
		there := b.Op("And", []val{b.Unsqueeze(rows.there, 2, 3), b.Unsqueeze(columns.there, 1, 3)})
		y = b.Where(there, y, b.Scalar(y, math.Inf(-1)))
	}
	y = b.Op("ReduceMax", []val{split(y), b.Ints(2, 4)}, graphs.I("keepdims", 0))
	if rows.there != nil { // a region without points is 0
		y = b.Where(b.Equal(y, b.Scalar(y, math.Inf(-1))), b.Scalar(y, 0), y)
	}
	return b.Transpose(y, 0, 3, 1, 2)
}

// A regionAxis is what the points in the cells of regions read along one axis.
type regionAxis struct {
	taps  [2]gridTap // [regions, cells·points]; the weights of a mean hold its divisor
	count val        // points a cell, a vector of length 1
	there val        // the points that a region has, nil where all have equally many
}

// newRegionAxis: coordinates k and k+2 of a region are its ends along the axis.
func newRegionAxis(b *graphs.Builder, n *graphs.Node, set *graphs.Region, k int64, cells int) *regionAxis {
	x, rois := n.In(0), n.In(1)
	shift := 0.0
	if set.Half {
		shift = 0.5
	}
	end := func(i int64) val { return b.Sub(b.Scale(column(b, rois, i), set.Scale), b.Scalar(rois, shift)) }
	from, to := end(k), end(k+2)
	extent := b.Sub(to, from)
	if !set.Half {
		extent = b.Op("Max", []val{extent, b.Scalar(extent, 1)})
	}
	cell := b.Scale(extent, 1/float64(cells))       // [regions, 1, 1]
	numbers := func(count int, shift float64) val { // [count] from shift on
		v := make([]float64, count)
		for i := range v {
			v[i] = float64(i) + shift
		}
		return matrix(b, rois, v, count)
	}
	a := &regionAxis{}
	list := func(v val) val { return reshapeBy(b, v, b.Ints(0), b.Mul(b.Ints(int64(cells)), a.count)) } // over cells and points
	var place, share val                                                                                // of a point, in cells; 1 / points
	if set.Samples > 0 {
		a.count, share = b.Ints(int64(set.Samples)), b.Scalar(rois, 1/float64(set.Samples))
		place = b.Add(b.Unsqueeze(numbers(cells, 0), 1), b.Scale(numbers(set.Samples, 0.5), 1/float64(set.Samples)))
	} else {
		own := b.Op("Ceil", []val{cell})
		points := b.Op("Max", []val{own, b.Scalar(own, 1)}) // none is no reason to divide by zero
		most := b.Op("ReduceMax", []val{b.Concat(0, b.ReshapeTo(points, -1), numbers(1, 1)), b.Ints(0)})
		a.count, share = b.Cast(most, graphs.Int64), b.Squeeze(b.Recip(points), 2)
		index := upTo(b, a.count, rois)
		place = b.Add(b.Unsqueeze(numbers(cells, 0), 1), b.Div(b.Add(index, b.Scalar(index, 0.5)), points))
		there := b.Expand(b.Less(index, own), b.Concat(0, b.Ints(1, int64(cells), 1)))
		a.there = list(there)
	}
	points := list(b.Add(from, b.Mul(cell, place)))
	axis := gridAxis{b: b, n: axisSize{b, x, 2 + int(1-k)}, padding: "border"}
	last := axis.n.linear(points, 1, -1)
	inside := b.Op("And", []val{b.Op("GreaterOrEqual", []val{points, b.Scalar(points, -1)}), b.Op("LessOrEqual", []val{points, axis.n.linear(points, 1, 0)})})
	if a.there != nil {
		inside = b.Op("And", []val{inside, a.there})
	}
	at := axis.within(points)
	low := b.Op("Floor", []val{at})
	far := b.Sub(at, low)
	if set.Max {
		share = b.Scalar(rois, 1)
	}
	weight := func(w val) val { return b.Mul(b.Where(inside, w, b.Scalar(w, 0)), share) }
	a.taps[0] = gridTap{b.Cast(low, graphs.Int64), weight(b.Sub(b.Scalar(far, 1), far))}
	a.taps[1] = gridTap{b.Cast(b.Op("Min", []val{b.Add(low, b.Scalar(low, 1)), last}), graphs.Int64), weight(far)}
	return a
}

// lowerMaxRoiPool takes the largest element of each cell, along rows and then along
// columns. The corners of cells are whole numbers and have no slope.
func lowerMaxRoiPool(b *graphs.Builder, n *graphs.Node, x val) val {
	set, err := graphs.RegionOf(n)
	rois := n.In(1)
	if err != nil || x.Shape == nil {
		return b.Fail("image %s: its rank must be known (%v)", x, err)
	}
	// in reports which elements of an axis each cell holds: [regions, cells, size]
	in := func(k int64, axis, cells int) val {
		end := func(i int64) val { // halves away from zero
			c := b.Scale(column(b, rois, i), set.Scale)
			return b.Mul(b.Sign(c), b.Op("Floor", []val{b.Add(b.Op("Abs", []val{c}), b.Scalar(c, 0.5))}))
		}
		from, to := end(k), end(k+2)
		one := b.Scalar(rois, 1)
		cell := b.Scale(b.Op("Max", []val{b.Add(b.Sub(to, from), one), one}), 1/float64(cells))
		number := make([]float64, cells)
		for i := range number {
			number[i] = float64(i)
		}
		i := matrix(b, rois, number, cells, 1)
		begin := b.Add(b.Op("Floor", []val{b.Mul(cell, i)}), from)
		end1 := b.Add(b.Op("Ceil", []val{b.Mul(cell, b.Add(i, one))}), from)
		at := upTo(b, size(b, x, axis), rois)
		return b.Op("And", []val{b.Op("GreaterOrEqual", []val{at, begin}), b.Less(at, end1)})
	}
	lowest := b.Scalar(x, math.Inf(-1))
	most := func(v val, axis int64) val { return b.Op("ReduceMax", []val{v, b.Ints(axis)}, graphs.I("keepdims", 0)) }
	images := b.Gather(x, b.Cast(b.Squeeze(b.Gather(rois, b.Ints(0), 1), 1), graphs.Int64), 0)
	y := b.Where(b.Unsqueeze(in(1, 3, set.Width), 1, 2), b.Unsqueeze(images, 3), lowest) // [regions, channels, height, cells, width]
	y = b.Where(b.Unsqueeze(in(2, 2, set.Height), 1, 4), b.Unsqueeze(most(y, 4), 2), lowest)
	y = most(y, 3)
	return b.Where(b.Equal(y, lowest), b.Scalar(y, 0), y)
}

// lowerDeformConv gathers what every tap reads, interpolated and weighted, and
// multiplies it by the kernel.
func lowerDeformConv(b *graphs.Builder, n *graphs.Node, x val) val {
	w, err := graphs.WindowOf(n)
	if err != nil {
		return b.Fail("%w", err)
	}
	kernel, offset, groups := n.In(1), n.In(2), n.Int("offset_group", 1)
	if offset.Shape == nil {
		return b.Fail("%w", errRank(offset))
	}
	taps := w.Kernel[0] * w.Kernel[1]
	rows, columns := size(b, offset, 2), size(b, offset, 3)
	points := b.Mul(rows, columns)
	offset = reshapeBy(b, offset, b.Ints(0, groups, taps, 2), rows, columns)
	var tap [2][]gridTap // [batch, groups, taps, rows, columns]
	for i := range tap {
		at := make([]float64, taps) // of a tap
		for t := range at {
			k := int64(t) % w.Kernel[1]
			if i == 0 {
				k = int64(t) / w.Kernel[1]
			}
			at[t] = float64(k*w.Dilations[i] - w.Begin[i])
		}
		step := b.Scale(upTo(b, size(b, offset, 4+i), x), float64(w.Strides[i]))
		if i == 0 {
			step = b.Unsqueeze(step, 1)
		}
		base := b.Add(matrix(b, x, at, int(taps), 1, 1), step)
		c := b.Add(b.Gather(offset, b.Const(graphs.Of([]int64{int64(i)})), 3), base)
		low := b.Op("Floor", []val{c})
		far, one := b.Sub(c, low), b.Scalar(c, 1)
		axis := gridAxis{b: b, n: axisSize{b, x, 2 + i}, padding: "zeros"}
		tap[i] = []gridTap{axis.tap(low, b.Sub(one, far)), axis.tap(b.Add(low, one), far)}
	}
	list := func(v val) val { return reshapeBy(b, v, b.Ints(0, groups, 1, -1)) } // over taps and points
	width := size(b, x, 3)
	channels := b.Op("Div", []val{size(b, x, 1), b.Ints(groups)})
	image := reshapeBy(b, x, b.Ints(0, groups), channels, b.Mul(size(b, x, 2), width))
	shape := b.Concat(0, b.Ints(1, 1), channels, b.Ints(1))
	var read val
	for _, p := range tap[0] {
		for _, q := range tap[1] {
			at := b.Expand(list(b.Add(b.Mul(p.index, width), q.index)), shape)
			weight := b.Mul(p.weight, q.weight)
			part := b.Mul(b.Op("GatherElements", []val{image, at}, graphs.I("axis", 3)), list(weight))
			if read == nil {
				read = part
			} else {
				read = b.Add(read, part)
			}
		}
	}
	if mask := n.In(4); mask != nil {
		read = b.Mul(read, list(mask))
	}
	read = reshapeBy(b, read, b.Ints(0, w.Group, -1), points)
	out := b.Op("Div", []val{size(b, kernel, 0), b.Ints(w.Group)})
	y := b.MatMul(reshapeBy(b, kernel, b.Ints(w.Group), out, b.Ints(-1)), read) // [batch, groups, channels, points]
	y = reshapeBy(b, y, b.Ints(0), size(b, kernel, 0), rows, columns)
	if bias := n.In(3); bias != nil {
		y = b.Add(y, b.ReshapeTo(bias, -1, 1, 1))
	}
	return y
}
