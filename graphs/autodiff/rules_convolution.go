package autodiff

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"ebmrun/graphs"
)

func convolutionRules() map[string]Rule {
	return map[string]Rule{
		"Conv": convRule, "ConvTranspose": convTransposeRule,
		"AveragePool": unary(averagePoolBack), "MaxPool": maxPoolRule,
	}
}

// convRule: Y = X ∗ W + B: dX is the transposed convolution of dY with W, dW
// the correlation of X with dY over the batch, dB the sum of dY.
func convRule(b *Back, n *graphs.Node, dy []val) []val {
	w, err := convWindow(n)
	if err != nil {
		return b.Refuse(n, "%v", err)
	}
	return b.each(n, func(i int) val {
		switch i {
		case 0:
			return b.convInput(dy[0], n.In(1), n.In(0), w)
		case 1:
			return b.convKernel(n.In(0), dy[0], n.In(1), w)
		}
		return b.sumButChannel(dy[0])
	})
}

// convWindow is the geometry of a convolution whose operands have known ranks.
func convWindow(n *graphs.Node) (*graphs.Window, error) {
	for _, v := range []val{n.In(0), n.In(1), n.Out(0)} {
		if v == nil || v.Shape == nil || len(v.Shape) != len(n.In(0).Shape) {
			return nil, errRank(v)
		}
	}
	return graphs.WindowOf(n)
}

// convTransposeRule: the transpose of a convolution is differentiated by the
// convolution itself: dX = dY ∗ W, and dW is the correlation of dY with X.
func convTransposeRule(b *Back, n *graphs.Node, dy []val) []val {
	w, err := convWindow(n)
	if err != nil {
		return b.Refuse(n, "%v", err)
	}
	return b.each(n, func(i int) val {
		x, k := n.In(0), n.In(1)
		switch i {
		case 0:
			d := b.Op("Conv", []val{dy[0], k}, graphs.IntsAttr("dilations", w.Dilations...), graphs.I("group", w.Group),
				graphs.IntsAttr("pads", append(append([]int64{}, w.Begin...), w.End...)...), graphs.IntsAttr("strides", w.Strides...))
			return b.cropTo(d, x)
		case 1:
			return b.convKernel(dy[0], x, k, w)
		}
		return b.sumButChannel(dy[0])
	})
}

// sumButChannel sums over the batch and the spatial axes.
func (b *Back) sumButChannel(d val) val {
	axes := []int64{0}
	for i := 2; i < len(d.Shape); i++ {
		axes = append(axes, int64(i))
	}
	return b.Sum(d, false, axes...)
}

// cropTo drops what stands over the spatial size of like at the end.
func (b *Back) cropTo(d, like val) val {
	if b.Err() != nil {
		return d
	}
	var axes, known []int64
	static := true
	for i := 2; i < len(like.Shape); i++ {
		if d.Shape[i].Same(like.Shape[i]) {
			continue
		}
		axes = append(axes, int64(i))
		static = static && like.Shape[i].Known()
		known = append(known, like.Shape[i].N)
	}
	if len(axes) == 0 {
		return d
	}
	zeros := make([]int64, len(axes))
	if static {
		return b.Slice(d, zeros, known, axes, nil)
	}
	return b.Op("Slice", []val{d, b.Ints(zeros...), b.sizes(like, axes), b.Ints(axes...)})
}

// sizes are the run-time sizes of axes of x, in order, as a vector.
func (b *Back) sizes(x val, axes []int64) val {
	first, last := axes[0], axes[len(axes)-1]
	if int(last-first)+1 == len(axes) && !x.Shape[first:last+1].Known() {
		return b.Op("Shape", []val{x}, graphs.I("start", first), graphs.I("end", last+1))
	}
	parts := make([]val, len(axes))
	for i, a := range axes {
		parts[i] = b.size(x, int(a))
	}
	return b.Concat(0, parts...)
}

// convInput is the slope of a convolution's input x: the transposed convolution
// of dy with kernel k. Pads are kept symmetric (providers differ on others);
// what is then too much or missing at an end is cropped or filled with zeros.
func (b *Back) convInput(dy, k, x val, w *graphs.Window) val {
	rank := len(w.Kernel)
	pads, outPad := make([]int64, 2*rank), make([]int64, rank)
	begin, end := make([]int64, rank+2), make([]int64, rank+2)
	late := false
	for i := range w.Kernel {
		p := max(min(w.Begin[i], w.End[i]), 0)
		begin[2+i] = p - w.Begin[i] // crop what the begin pad exceeds p by
		in, out := x.Shape[2+i], dy.Shape[2+i]
		switch {
		case in.Known() && out.Known():
			// the transposed convolution gives `full`, of which [Begin−p, …+in) is wanted
			full := (out.N-1)*w.Strides[i] + w.Extent(i) - 2*p
			end[2+i] = in.N - full - begin[2+i]
			switch r := end[2+i]; {
			case r > 0 && r < w.Strides[i] && begin[2+i] == 0 && w.Dilations[i] == 1:
				outPad[i], end[2+i] = r, 0
			case r > 0: // no window reached the pad at the end: a crop there would cut off slopes
				begin[2+i], end[2+i], p = begin[2+i]-p, r-p, 0
			}
		case w.Strides[i] == 1:
			end[2+i] = p - w.End[i]
		case w.Begin[i] == w.End[i] && p == w.Begin[i] && w.Dilations[i] == 1:
			late = true
			outPad[i] = w.Strides[i] - 1 // enough; cropped below
		default:
			late = true
			p = 0
			begin[2+i] = -w.Begin[i]
			end[2+i] = w.Strides[i] - 1 + max(w.End[i], 0) // enough; cropped below
		}
		pads[i], pads[rank+i] = p, p
	}
	attrs := []*graphs.Attr{
		graphs.IntsAttr("dilations", w.Dilations...), graphs.I("group", w.Group), graphs.IntsAttr("pads", pads...), graphs.IntsAttr("strides", w.Strides...),
	}
	for _, o := range outPad {
		if o != 0 {
			attrs = append(attrs, graphs.IntsAttr("output_padding", outPad...))
			break
		}
	}
	d := b.padAxes(b.Op("ConvTranspose", []val{dy, k}, attrs...), begin, end)
	if late {
		d = b.cropTo(d, x)
	}
	return d
}

// convKernel is the slope of a convolution's kernel k, for input x and output
// slope dy: the correlation of x with dy, with batch and channels exchanged and
// stride and dilation exchanged.
func (b *Back) convKernel(x, dy, k val, w *graphs.Window) val {
	if d := b.pointKernel(x, dy, k, w); d != nil {
		return d
	}
	if d := b.wholeKernel(x, dy, w); d != nil {
		return d
	}
	if d := b.patchKernel(x, dy, k, w); d != nil {
		return d
	}
	if d := b.narrowKernel(x, dy, k, w); d != nil {
		return d
	}
	rank := len(w.Kernel)
	pads := make([]int64, 2*rank)
	for i := range w.Kernel {
		pads[i], pads[rank+i] = w.Begin[i], w.End[i]
		if in, out := x.Shape[2+i], dy.Shape[2+i]; in.Known() && out.Known() {
			// leave out the input that no window reached, so that the result has the kernel's size
			pads[rank+i] = w.Extent(i) + (out.N-1)*w.Strides[i] - in.N - w.Begin[i]
		}
	}
	crop := make([]int64, rank+2)
	cropEnd := make([]int64, rank+2)
	for i := range pads { // negative pads crop the input instead
		if pads[i] < 0 {
			if i < rank {
				crop[2+i] = pads[i]
			} else {
				cropEnd[2+i-rank] = pads[i]
			}
			pads[i] = 0
		}
	}
	for i := range w.Kernel { // of what is cropped to nothing the pads alone are left
		if in := x.Shape[2+i]; in.Known() && in.N+crop[2+i]+cropEnd[2+i] <= 0 {
			crop[2+i], cropEnd[2+i] = crop[2+i]+pads[i], cropEnd[2+i]+pads[rank+i]
			pads[i], pads[rank+i] = 0, 0
		}
	}
	x = b.padAxes(x, crop, cropEnd)
	perm := iota64(rank + 2)
	perm[0], perm[1] = 1, 0
	d := b.Op("Conv", []val{b.byGroup(x, w.Group), b.Transpose(dy, perm...)},
		graphs.IntsAttr("dilations", w.Strides...), graphs.I("group", w.Group), graphs.IntsAttr("pads", pads...), graphs.IntsAttr("strides", w.Dilations...))
	if d = b.Transpose(d, perm...); b.Err() != nil {
		return d
	}
	if all(w.Strides, 1) { // nothing of the input is left over
		d.Shape = k.Shape
	}
	return b.cropTo(d, k)
}

// pointKernel is convKernel where the window is one element of x: a single product
// for each pair of channels, which runtimes compute as a product of two matrices.
// It is nil for other windows.
func (b *Back) pointKernel(x, dy, k val, w *graphs.Window) val {
	var starts, ends, axes, steps []int64
	for i := range w.Kernel {
		in, out := x.Shape[2+i], dy.Shape[2+i]
		if w.Group != 1 || w.Kernel[i] != 1 || w.Begin[i] != 0 || w.End[i] != 0 || b.Err() != nil {
			return nil
		}
		if in.Same(out) {
			continue
		}
		starts, ends, axes, steps = append(starts, 0), append(ends, math.MaxInt64), append(axes, int64(2+i)), append(steps, w.Strides[i])
	}
	if axes != nil {
		x = b.Slice(x, starts, ends, axes, steps)
	}
	return b.ReshapeLike(b.sumOuter(dy, x), k)
}

// wholeKernel is convKernel where the one window is all of x: a product of two
// matrices. It is nil for other windows.
func (b *Back) wholeKernel(x, dy val, w *graphs.Window) val {
	if b.Err() != nil || w.Group != 1 || len(w.Kernel) > 3 {
		return nil
	}
	for i, size := range w.Kernel {
		if dy.Shape[2+i].N != 1 || x.Shape[2+i].N != size || w.Begin[i] != 0 || w.End[i] != 0 || w.Dilations[i] != 1 && size != 1 {
			return nil
		}
	}
	one, all := "abc"[:len(w.Kernel)], "xyz"[:len(w.Kernel)]
	if len(w.Kernel) == 3 { // nine letters are too many for the CUDA provider's Einsum, which sums at most eight axes
		dy, one = b.Squeeze(dy, 2, 3, 4), ""
	}
	return b.Op("Einsum", []val{dy, x}, graphs.S("equation", "no"+one+",ni"+all+"->oi"+all))
}

// patchKernel is convKernel for small windows, nil for others: a convolution with
// constants writes the elements of each window side by side, and one product of
// matrices does the rest. It takes the time of the correlation in fewer nodes, and
// memory for a copy of the input for each element of the window, divided by the
// strides: so it is for small pictures, and for strides where the correlation would
// have to be cropped to a size known at run time only.
func (b *Back) patchKernel(x, dy, k val, w *graphs.Window) val {
	if b.Err() != nil || w.Group != 1 || !x.Shape[1].Known() || !k.Shape.Known() {
		return nil
	}
	rank, channels, taps := len(w.Kernel), x.Shape[1].N, 1
	places, strides, known := 1, 1, x.Shape[2:].Known() && dy.Shape[2:].Known()
	pads := make([]int64, 2*rank)
	for i, size := range w.Kernel {
		pads[i], pads[rank+i] = w.Begin[i], w.End[i]
		if known {
			out := dy.Shape[2+i].N
			pads[rank+i] = w.Extent(i) + (out-1)*w.Strides[i] - x.Shape[2+i].N - w.Begin[i]
			places *= int(out)
		}
		if size > 3 || pads[i] < 0 || pads[rank+i] < 0 {
			return nil
		}
		taps, strides = taps*int(size), strides*int(w.Strides[i])
	}
	if known && int(channels)*taps*places > maxPatches || !known && (strides == 1 || taps > 3*strides) {
		return nil
	}
	u := b.Op("Conv", []val{x, b.picks(x, w, 0, 1)}, graphs.IntsAttr("dilations", w.Dilations...), graphs.I("group", channels),
		graphs.IntsAttr("pads", pads...), graphs.IntsAttr("strides", w.Strides...))
	return b.ReshapeLike(b.sumOuter(dy, u), k)
}

// picks are filters that give each channel of x as many times as a window has elements,
// moved by one of them each: by the first, the one step after it, and so on.
func (b *Back) picks(x val, w *graphs.Window, first, step int) val {
	channels, taps := int(x.Shape[1].N), 1
	for _, size := range w.Kernel {
		taps *= int(size)
	}
	one := make([]float64, channels*taps*taps)
	for i := range channels * taps {
		one[i*taps+first+step*(i%taps)] = 1
	}
	return matrix(b.Builder, x, one, append([]int{channels * taps, 1}, ints(w.Kernel)...)...)
}

// sumOuter is the product of each channel of x with each of y, summed over all pixels
// of all examples.
func (b *Back) sumOuter(x, y val) val {
	sum := "abcdefgh"[:max(len(x.Shape)-2, 0)]
	return b.Op("Einsum", []val{x, y}, graphs.S("equation", "no"+sum+",ni"+sum+"->oi"))
}

// narrowKernel is convKernel where dy has at most half of the channels of x, is about as
// high and wide, and no stride lies between its elements; nil elsewhere. It is the
// correlation of dy with x, which gives the slope the other way round: runtimes lay the
// first operand out window by window, so it should be the smaller one. Small pictures and
// windows are laid out here, as in [Back.patchKernel].
func (b *Back) narrowKernel(x, dy, k val, w *graphs.Window) val {
	if b.Err() != nil || w.Group != 1 || !x.Shape[1:].Known() || !dy.Shape[1:].Known() || 2*dy.Shape[1].N > x.Shape[1].N {
		return nil
	}
	rank, taps, places, small := len(w.Kernel), 1, 1, true
	pads, axes := make([]int64, 2*rank), make([]int64, rank)
	from, to, back := make([]int64, rank), make([]int64, rank), make([]int64, rank)
	for i := range w.Kernel {
		in, out := x.Shape[2+i].N, dy.Shape[2+i].N
		pads[i], pads[rank+i] = w.Extent(i)-1-w.Begin[i], in-out+w.Begin[i]
		if w.Strides[i] != 1 || pads[i] < 0 || pads[rank+i] < 0 || 4*out < 3*in {
			return nil
		}
		axes[i], from[i], to[i], back[i] = int64(2+i), -1, -1-w.Kernel[i], -1
		taps, places, small = taps*int(w.Kernel[i]), places*int(in), small && w.Kernel[i] <= 3
	}
	if small && int(dy.Shape[1].N)*taps*places <= maxPatches {
		u := b.Op("Conv", []val{dy, b.picks(dy, w, taps-1, -1)}, graphs.IntsAttr("dilations", w.Dilations...), graphs.I("group", dy.Shape[1].N), graphs.IntsAttr("pads", pads...))
		d := b.ReshapeTo(b.sumOuter(u, x), dy.Shape[1].N, int64(taps), x.Shape[1].N)
		return b.ReshapeLike(b.Transpose(d, 0, 2, 1), k)
	}
	swap := iota64(rank + 2)
	swap[0], swap[1] = 1, 0
	d := b.Op("Conv", []val{b.Transpose(dy, swap...), b.Transpose(x, swap...)},
		graphs.IntsAttr("pads", pads...), graphs.IntsAttr("strides", w.Dilations...))
	return b.ReshapeLike(b.Slice(d, from, to, axes, back), k)
}

// maxPatches bounds the numbers that patchKernel writes for an example.
const maxPatches = 1 << 16

// byGroup lays x [N, g·c, …] out as [c, g·N, …].
func (b *Back) byGroup(x val, groups int64) val {
	if b.Err() != nil {
		return x
	}
	all := x.Shape[1]
	if groups > 1 && !all.Known() {
		return b.Fail("the channels of %s must be known", x)
	}
	batch, swap := x.Shape[0], iota64(len(x.Shape))
	swap[0], swap[1] = 1, 0
	var spatial []val
	for i := 2; i < len(x.Shape); i++ {
		spatial = append(spatial, b.size(x, i))
	}
	sizes := func(front ...val) val { return b.Concat(0, append(front, spatial...)...) }
	switch c := all.N / groups; {
	case groups == 1:
		return b.Transpose(x, swap...)
	case c == 1 && batch.N == 1:
		return x
	case c == 1:
		return b.Reshape(b.Transpose(x, swap...), sizes(b.Ints(1, -1)))
	case batch.N == 1:
		return b.Transpose(b.Reshape(x, sizes(b.Ints(groups, c))), swap...)
	default:
		order := append([]int64{2, 1, 0}, iota64(len(x.Shape) + 1)[3:]...)
		x = b.Transpose(b.Reshape(x, sizes(b.size(x, 0), b.Ints(groups, c))), order...)
		return b.Reshape(x, sizes(b.Ints(c, -1)))
	}
}

// averagePoolBack spreads each mean back over its window.
func averagePoolBack(b *Back, n *graphs.Node, x, y, d val) val {
	w, err := graphs.WindowOf(n)
	if err != nil {
		return b.Fail("%w", err)
	}
	rank := len(w.Kernel)
	kdims := append([]int{1, 1}, ints(w.Kernel)...)
	weight := 1.0
	counts, err := windowCounts(n, w, x, y)
	switch {
	case err == nil:
	case errors.Is(err, errCounts) && !b.tooLarge(kdims...):
		if d = b.Div(d, b.countWindows(n, w, x, y)); b.Err() == nil {
			d.Shape = y.Shape
		}
	default:
		return b.Fail("%w", err)
	}
	for _, c := range counts {
		if len(c.values) == 1 {
			weight *= c.values[0]
		} else {
			d = b.Mul(d, matrix(b.Builder, x, c.values, c.dims...))
		}
	}
	if c := x.Shape[1]; c.Known() { // a kernel for each channel
		kdims[0], w.Group = int(c.N), c.N
	}
	if b.tooLarge(kdims...) {
		return d
	}
	if x.Shape[1].Known() {
		return b.convInput(d, matrix(b.Builder, x, scaledOnes(graphs.Size(kdims), weight), kdims...), x, w)
	}
	// Fold channels into the batch: one kernel of ones serves them all.
	fold := func(v val) val {
		dims := []val{b.Ints(-1, 1)}
		for i := 0; i < rank; i++ {
			dims = append(dims, b.size(v, 2+i))
		}
		return b.Reshape(v, b.Concat(0, dims...))
	}
	kernel := matrix(b.Builder, x, scaledOnes(graphs.Size(kdims), weight), kdims...)
	like := &graphs.Value{Shape: append(graphs.Shape{graphs.UnknownDim, graphs.D(1)}, x.Shape[2:]...)}
	if !x.Shape[2:].Known() {
		like = fold(x) // its size is asked for at run time
	}
	w.Group = 1
	return b.ReshapeLike(b.convInput(fold(d), kernel, like, w), x)
}

// countWindows is the number of elements averaged, per output position of a pooling of x to y
// whose sizes are known at run time: a convolution of ones with ones.
func (b *Back) countWindows(n *graphs.Node, w *graphs.Window, x, y val) val {
	rank := len(w.Kernel)
	sizes, begin, end := b.sizes(x, iota64(rank + 2)[2:]), slices.Clone(w.Begin), slices.Clone(w.End)
	for i, e := range end {
		if w.Ceil { // windows that only begin inside are counted, too
			end[i] = e + w.Strides[i] - 1
		}
	}
	if n.Int("count_include_pad", 0) != 0 {
		around := make([]int64, rank)
		for i := range around {
			around[i] = w.Begin[i] + w.End[i]
			begin[i], end[i] = 0, end[i]-w.End[i]
		}
		sizes = b.Add(sizes, b.Ints(around...))
	}
	ones, kdims := b.onesOf(x, b.Concat(0, b.Ints(1, 1), sizes)), append([]int{1, 1}, ints(w.Kernel)...)
	count := b.Op("Conv", []val{ones, matrix(b.Builder, x, scaledOnes(graphs.Size(kdims), 1), kdims...)},
		graphs.IntsAttr("dilations", w.Dilations...), graphs.IntsAttr("pads", append(begin, end...)...), graphs.IntsAttr("strides", w.Strides...))
	if w.Ceil {
		return b.cropTo(count, y)
	}
	return count
}

func ints(v []int64) []int {
	out := make([]int, len(v))
	for i, x := range v {
		out[i] = int(x)
	}
	return out
}

var errCounts = errors.New("padded or ceil-mode average pooling of a size known at run time needs a smaller window")

// onesOf is a tensor of ones of the type of like and the given run-time shape.
func (b *Back) onesOf(like, shape val) val {
	one, err := graphs.FromFloats(like.Type, []float64{1}, 1)
	if err != nil {
		return b.Fail("%w", err)
	}
	return b.Op("ConstantOfShape", []val{shape}, graphs.T("value", one))
}

type countMap struct {
	values []float64
	dims   []int
}

// windowCounts is 1/number of elements averaged, per output position: a scalar
// where it is the same everywhere, and factors axis by axis for large pictures.
func windowCounts(n *graphs.Node, w *graphs.Window, x, y val) ([]countMap, error) {
	include := n.Int("count_include_pad", 0) != 0
	rank := len(w.Kernel)
	padded := false
	for i := range w.Kernel {
		padded = padded || w.Begin[i] > 0 || w.End[i] > 0
	}
	if !w.Ceil && (!padded || include) {
		total := 1.0
		for _, k := range w.Kernel {
			total *= float64(k)
		}
		return []countMap{{[]float64{1 / total}, nil}}, nil
	}
	dims := []int{1, 1}
	perAxis := make([][]float64, rank)
	for i := range w.Kernel {
		in, out := x.Shape[2+i], y.Shape[2+i]
		if !in.Known() || !out.Known() {
			return nil, fmt.Errorf("%w of axis %d of %s", errCounts, 2+i, x)
		}
		lo, hi := int64(0), in.N
		if include {
			lo, hi = -w.Begin[i], in.N+w.End[i]
		}
		if in.N > maxConstant || out.N > maxConstant {
			return nil, fmt.Errorf("axis %d of %s is too long", 2+i, x)
		}
		c := make([]float64, out.N)
		for o := range c {
			for k := int64(0); k < w.Kernel[i]; k++ {
				if at := int64(o)*w.Strides[i] - w.Begin[i] + k*w.Dilations[i]; at >= lo && at < hi {
					c[o]++
				}
			}
		}
		perAxis[i] = c
		dims = append(dims, int(out.N))
	}
	if graphs.Size(dims) > maxPatches {
		var all []countMap
		for i, c := range perAxis {
			along := append(ints(fill(2+i, 1)), len(c))
			for k := range c {
				c[k] = 1 / c[k]
			}
			all = append(all, countMap{c, append(along, ints(fill(rank-1-i, 1))...)})
		}
		return all, nil
	}
	values := []float64{1}
	for _, c := range perAxis {
		var next []float64
		for _, v := range values {
			for _, k := range c {
				next = append(next, v/k)
			}
		}
		values = next
	}
	return []countMap{{values, dims}}, nil
}

// maxPoolRule adds each slope to the element that won its window; the forward
// node is made to return the winners' flat indices.
func maxPoolRule(b *Back, n *graphs.Node, dy []val) []val {
	x := n.In(0)
	if dy[0] == nil {
		return nil
	}
	if n.Int("storage_order", 0) != 0 {
		return b.Refuse(n, "%w with storage_order 1", ErrNoRule)
	}
	if n.Out(1) == nil {
		idx := &graphs.Value{Name: b.Target().Fresh(n.Label() + "/indices"), From: n}
		n.Outputs = append(n.Outputs[:1:1], idx)
		shape := n.Out(0).Shape
		if err := graphs.Infer(n, graphs.OpsetVersion); err != nil {
			return b.Refuse(n, "%v", err)
		}
		n.Out(0).Shape = shape
	}
	flat := b.ReshapeTo(x, -1)
	d := b.scatterAdd(flat, b.ReshapeTo(n.Out(1), -1), b.ReshapeTo(dy[0], -1), 0)
	return []val{b.ReshapeLike(d, x)}
}
