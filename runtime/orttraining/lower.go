package orttraining

import (
	"fmt"
	"slices"

	"ebmrun/graphs"
)

// lowerings rewrite ops whose gradient ONNX Runtime's CPU build cannot compute
// (it builds the nodes and has no kernel for them) into ops whose gradient it can.
var lowerings = map[string]func(b *graphs.Builder, n *graphs.Node) *graphs.Value{
	"ConvTranspose": convTranspose,
	"Resize":        resize,
}

// Lower rewrites in place the ops of a model that have no gradient kernel on the
// CPU: ConvTranspose becomes a convolution of the input with zeros between its
// elements, and Resize to the nearest by whole factors becomes repetition. Their
// spatial sizes must be known; everything else is left as it is, except that the
// other forms of these two ops are refused.
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
		if f(b, n); b.Err() != nil {
			return fmt.Errorf("orttraining: %w", &graphs.NodeError{Node: n, Opset: m.Opset(""), Err: b.Err()})
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
