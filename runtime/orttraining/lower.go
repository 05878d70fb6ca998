package orttraining

import (
	"fmt"
	"math"
	"slices"

	"ebmrun/graphs"
)

// lowerings rewrite ops whose gradient ONNX Runtime's CPU build does not compute
// into ops whose gradient it does. Of ConvTranspose and Resize it builds gradient
// nodes that have no kernel; that of AveragePool comes out empty where the batch
// is symbolic, and that of Gelu is the exact form's where the tanh form is meant.
var lowerings = map[string]func(b *graphs.Builder, n *graphs.Node) *graphs.Value{
	"AveragePool":   averagePool,
	"ConvTranspose": convTranspose,
	"Gelu":          gelu,
	"Resize":        resize,
}

// Lower rewrites in place the ops of a model that have no right gradient on the
// CPU: ConvTranspose becomes a convolution of the input with zeros between its
// elements, Resize to the nearest by whole factors repetition, AveragePool without
// padding a convolution of each channel, Gelu's tanh form its formula. Spatial
// sizes must be known where they matter; the other forms of these ops are refused.
func Lower(m *graphs.Model) error {
	g := m.Graph
	old := g.Nodes
	g.Nodes = make([]*graphs.Node, 0, len(old))
	b := graphs.NewBuilder(g)
	for _, n := range old {
		f := lowerings[n.Op]
		if f == nil || n.Domain != "" {
			g.Nodes = append(g.Nodes, n)
			continue
		}
		b.Prefix(n.Label())
		y := f(b, n)
		if b.Err() != nil {
			return fmt.Errorf("orttraining: %w", &graphs.NodeError{Node: n, Opset: m.Opset(""), Err: b.Err()})
		}
		if y == nil { // this form is fine
			g.Nodes = append(g.Nodes, n)
			continue
		}
		// The last node gives what the old one gave, under the same name.
		last := g.Nodes[len(g.Nodes)-1]
		last.Outputs[0] = n.Outputs[0]
		last.Outputs[0].From = last
	}
	return nil
}

// spatial is the known sizes of x after the batch and channel axes.
func spatial(b *graphs.Builder, x *graphs.Value) (sizes []int64) {
	if len(x.Shape) < 3 {
		b.Fail("the rank of %s is not known", x)
		return nil
	}
	for _, d := range x.Shape[2:] {
		if !d.Known() {
			b.Fail("no gradient on the CPU without known spatial sizes, got %s", x)
			return nil
		}
		sizes = append(sizes, d.N)
	}
	return sizes
}

// spread gives every spatial element an axis of length 1 after it, [N, C, H, 1,
// W, 1], has f lengthen those to times, and merges each pair of axes.
func spread(b *graphs.Builder, x *graphs.Value, sizes, times []int64, f func(*graphs.Value) *graphs.Value) *graphs.Value {
	apart, merged := []int64{0, 0}, []int64{0, 0}
	for i, s := range sizes {
		apart, merged = append(apart, s, 1), append(merged, s*times[i])
	}
	return b.ReshapeTo(f(b.ReshapeTo(x, apart...)), merged...)
}

// ones is v, or n ones where the attribute is not there.
func ones(v []int64, n int) []int64 {
	if len(v) == 0 {
		return slices.Repeat([]int64{1}, n)
	}
	return v
}

func convTranspose(b *graphs.Builder, n *graphs.Node) *graphs.Value {
	x, w := n.In(0), n.In(1)
	sizes := spatial(b, x)
	if sizes == nil {
		return nil
	}
	rank := len(sizes)
	strides, dilations := ones(n.Ints("strides"), rank), ones(n.Ints("dilations"), rank)
	pads, more := n.Ints("pads"), n.Ints("output_padding")
	if len(pads) == 0 {
		pads = make([]int64, 2*rank)
	}
	if len(more) == 0 {
		more = make([]int64, rank)
	}
	if a := n.Str("auto_pad", "NOTSET"); a != "NOTSET" || n.Attr("output_shape") != nil {
		return b.Fail("no gradient on the CPU with auto_pad %s or an output_shape, only with pads", a)
	}
	if !w.Shape.Known() {
		return b.Fail("no gradient on the CPU without known sizes of the weight, got %s", w)
	}

	// Zeros between the elements.
	end := make([]int64, 4+4*rank) // begins and ends of [N, C, H, 1, W, 1]
	for i, s := range strides {
		end[2*rank+2+2+2*i+1] = s - 1
	}
	if slices.Max(strides) > 1 {
		x = spread(b, x, sizes, strides, func(x *graphs.Value) *graphs.Value {
			return b.Op("Pad", []*graphs.Value{x, b.Ints(end...)})
		})
	}
	// The kernel turned round in every spatial axis, its two channel axes exchanged
	// within each group.
	groups := n.Int("group", 1)
	in, out := w.Shape[0].N, w.Shape[1].N
	var kernel []int64
	for i, d := range w.Shape[2:] {
		k := d.N
		kernel = append(kernel, k)
		if k > 1 {
			back := make([]int64, k)
			for j := range back {
				back[j] = k - 1 - int64(j)
			}
			w = b.Gather(w, b.Ints(back...), int64(i+2))
		}
	}
	perm := []int64{1, 0}
	if groups > 1 {
		w = b.ReshapeTo(w, append([]int64{groups, in / groups, out}, kernel...)...)
		perm = []int64{0, 2, 1}
	}
	for range kernel {
		perm = append(perm, int64(len(perm)))
	}
	w = b.Transpose(w, perm...)
	if groups > 1 {
		w = b.ReshapeTo(w, append([]int64{groups * out, in / groups}, kernel...)...)
	}
	// What is cropped from the result of ConvTranspose is padding of the
	// convolution; negative padding is a crop of its input.
	around := make([]int64, 2*rank)
	var starts, ends, axes []int64
	for i := range rank {
		reach := (kernel[i] - 1) * dilations[i]
		around[i] = reach - pads[i]
		around[rank+i] = reach - pads[rank+i] + more[i] - (strides[i] - 1)
		from, to := max(0, -around[i]), sizes[i]*strides[i]-max(0, -around[rank+i])
		if from > 0 || to < sizes[i]*strides[i] {
			starts, ends, axes = append(starts, from), append(ends, to), append(axes, int64(i+2))
		}
		around[i], around[rank+i] = max(0, around[i]), max(0, around[rank+i])
	}
	if len(axes) > 0 {
		x = b.Slice(x, starts, ends, axes, slices.Repeat([]int64{1}, len(axes)))
	}
	ins := []*graphs.Value{x, w}
	if bias := n.In(2); bias != nil {
		ins = append(ins, bias)
	}
	return b.Op("Conv", ins, graphs.IntsAttr("kernel_shape", kernel...), graphs.IntsAttr("pads", around...),
		graphs.IntsAttr("dilations", dilations...), graphs.I("group", groups))
}

// resize repeats elements: nearest, by whole factors, in the spatial axes.
func resize(b *graphs.Builder, n *graphs.Node) *graphs.Value {
	x, y := n.In(0), n.Out(0)
	from, to := spatial(b, x), spatial(b, y)
	if from == nil || to == nil {
		return nil
	}
	mode, at := n.Str("mode", "nearest"), n.Str("coordinate_transformation_mode", "half_pixel")
	times := make([]int64, len(from))
	whole := mode == "nearest" && x.Shape[1] == y.Shape[1] &&
		(at == "asymmetric" && n.Str("nearest_mode", "round_prefer_floor") == "floor" || at == "half_pixel")
	for i := range from {
		times[i] = to[i] / from[i]
		whole = whole && times[i]*from[i] == to[i]
	}
	if !whole {
		return b.Fail("no gradient on the CPU for mode %s (%s) from %v to %v, only for nearest by whole factors", mode, at, from, to)
	}
	return spread(b, x, from, times, func(x *graphs.Value) *graphs.Value {
		shape := []int64{1, 1}
		for _, t := range times {
			shape = append(shape, 1, t)
		}
		return b.Expand(x, b.Ints(shape...))
	})
}

// averagePool is a convolution of each channel with the kernel 1/size.
func averagePool(b *graphs.Builder, n *graphs.Node) *graphs.Value {
	x := n.In(0)
	size, channels := int64(1), int64(0)
	for _, k := range n.Ints("kernel_shape") {
		size *= k
	}
	if len(x.Shape) > 1 {
		channels = x.Shape[1].N
	}
	padded := slices.ContainsFunc(n.Ints("pads"), func(p int64) bool { return p != 0 })
	if padded || channels <= 0 || n.Int("ceil_mode", 0) != 0 || n.Str("auto_pad", "NOTSET") != "NOTSET" {
		return b.Fail("no gradient on the CPU with padding, ceil_mode or an unknown number of channels, got %s", x)
	}
	attrs := []*graphs.Attr{graphs.I("group", channels)}
	for _, a := range n.Attrs {
		if a.Name == "kernel_shape" || a.Name == "strides" || a.Name == "dilations" {
			attrs = append(attrs, a)
		}
	}
	dims := []int{int(channels), 1}
	for _, k := range n.Ints("kernel_shape") {
		dims = append(dims, int(k))
	}
	w, err := graphs.FromFloats(x.Type, slices.Repeat([]float64{1 / float64(size)}, int(channels*size)), dims...)
	if err != nil {
		return b.Fail("%w", err)
	}
	return b.Op("Conv", []*graphs.Value{x, b.Const(w)}, attrs...)
}

// gelu is x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))), the tanh form.
func gelu(b *graphs.Builder, n *graphs.Node) *graphs.Value {
	if n.Str("approximate", "none") == "none" {
		return nil
	}
	x := n.In(0)
	inner := b.Scale(b.Add(x, b.Scale(b.Mul(x, b.Mul(x, x)), 0.044715)), math.Sqrt(2/math.Pi))
	return b.Mul(b.Scale(x, 0.5), b.Add(b.Tanh(inner), b.Scalar(x, 1)))
}
