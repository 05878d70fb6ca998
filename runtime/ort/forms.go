//go:build cgo

package ort

import (
	"slices"

	"ebmrun/graphs"
)

// block is how many channels the kernels of Conv work on at once: with fewer, turning
// round does not pay.
const block = 16

// asConvolutions returns m with a Conv in the place of every ConvTranspose of stride
// 1 to many channels with constant filters, which are turned round for it: libraries
// have faster kernels and layouts for that form of the same sum. m itself is not
// changed.
func asConvolutions(m *graphs.Model) *graphs.Model {
	turned := map[*graphs.Value]*graphs.Value{}
	g, model := *m.Graph, *m
	for i, n := range m.Graph.Nodes {
		if !unstrided(n) {
			continue
		}
		w := n.In(1)
		if len(turned) == 0 {
			g.Nodes, g.Inits = slices.Clone(g.Nodes), slices.Clone(g.Inits)
		}
		if turned[w] == nil {
			turned[w] = turn(w, m.Graph.Fresh(w.Name+"/turned"))
			g.Inits = append(g.Inits, turned[w])
		}
		conv := *n
		conv.Op, conv.Inputs = "Conv", slices.Clone(n.Inputs)
		conv.Inputs[1] = turned[w]
		conv.Attrs = []*graphs.Attr{graphs.IntsAttr("pads", turnedPads(n)...)}
		g.Nodes[i] = &conv
	}
	if len(turned) == 0 {
		return m
	}
	model.Graph = &g
	return &model
}

// unstrided reports whether a node is a transposed convolution that a plain one can
// stand for.
func unstrided(n *graphs.Node) bool {
	w := n.In(1)
	return n.Op == "ConvTranspose" && plainWindow(n) && w.Const != nil && w.Const.Dims[1] >= block
}

// plainWindow reports whether a node is a convolution or a transposed one, of any weights in float32, that
// the other can stand for: no strides, no more padding than the other can crop, and not much more to multiply.
func plainWindow(n *graphs.Node) bool {
	w := n.In(1)
	if n.Op != "Conv" && n.Op != "ConvTranspose" || n.Domain != "" || w == nil || w.Type != graphs.Float32 || w.Rank() < 3 || !w.Shape.Known() ||
		n.Int("group", 1) != 1 || n.Ints("output_shape") != nil || n.Str("auto_pad", "NOTSET") != "NOTSET" {
		return false
	}
	for name, neutral := range map[string]int64{"strides": 1, "dilations": 1, "output_padding": 0} {
		if slices.ContainsFunc(n.Ints(name), func(v int64) bool { return v != neutral }) {
			return false
		}
	}
	for k, p := range n.Ints("pads") {
		if d := w.Shape.Ints()[2:]; p < 0 || p > int64(d[k%len(d)]-1) {
			return false // the other would have to cut
		}
	}
	return !heavier(n)
}

// heavier reports whether the other kind of a convolution multiplies so much more that this
// is worse than the windows that it has not to move. The plain kind multiplies for every
// pixel of its output, the transposed one of its input: where a window is all of the
// input, for hundreds of pixels to keep one.
func heavier(n *graphs.Node) bool {
	const moved = 200 // products in the time of an element of a window
	in, out := n.In(0).Shape, n.Out(0).Shape
	if len(in) < 2 || len(out) < 2 || !in[2:].Known() || !out[2:].Known() {
		return false
	}
	had, gets := graphs.Size(out[2:].Ints()), graphs.Size(in[2:].Ints())
	if n.Op == "ConvTranspose" {
		had, gets = gets, had
	}
	return (gets-had)*n.In(1).Shape.Ints()[0] > moved*had
}

// turnedPads are the pads of the other kind of convolution.
func turnedPads(n *graphs.Node) []int64 {
	kernel := n.In(1).Shape.Ints()[2:]
	pads := make([]int64, 2*len(kernel))
	given := n.Ints("pads")
	for k := range pads {
		if pads[k] = int64(kernel[k%len(kernel)] - 1); given != nil {
			pads[k] -= given[k]
		}
	}
	return pads
}

// turn makes filters [M, C, k…] of [C, M, k…], each the other way round.
func turn(w *graphs.Value, name string) *graphs.Value {
	d := slices.Clone(w.Const.Dims)
	c, m, size := d[0], d[1], graphs.Size(d[2:])
	d[0], d[1] = m, c
	src, dst := w.Const.F32(), graphs.NewTensor(graphs.Float32, d...)
	for i := range c {
		for j := range m {
			from, to := src[(i*m+j)*size:][:size], dst.F32()[(j*c+i)*size:][:size]
			for k, v := range from {
				to[size-1-k] = v
			}
		}
	}
	return &graphs.Value{Name: name, Type: w.Type, Shape: graphs.MakeShape(d...), Const: dst}
}
