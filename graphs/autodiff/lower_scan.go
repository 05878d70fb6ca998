package autodiff

import (
	"fmt"
	"math"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
)

// isScan reports whether a node is ONNX's Scan.
func isScan(n *graphs.Node) bool { return n.Op == "Scan" && n.Domain == "" }

// lowerScan writes a Scan that was not unrolled as a Loop, which picks what each
// pass reads.
func lowerScan(b *graphs.Builder, n *graphs.Node) []val {
	fail := func(format string, args ...any) []val {
		b.Fail(format, args...)
		return nil
	}
	a, m := n.Attr("body"), int(n.Int("num_scan_inputs", 0))
	k := len(n.Inputs) - m
	if a == nil || a.G == nil || m < 1 || k < 0 || len(a.G.Inputs) != len(n.Inputs) || len(a.G.Outputs) < max(k, len(n.Outputs)) {
		return fail("its body does not fit its inputs")
	}
	entry := func(attr string, i int) int64 {
		if v := n.Ints(attr); i < len(v) {
			return v[i]
		}
		return 0
	}
	g := &graphs.Graph{Name: a.G.Name}
	c := graphs.NewBuilder(g)
	pass, going := c.Input("pass", graphs.Int64, graphs.Shape{}), c.Input("going", graphs.Bool, graphs.Shape{})
	if slices.Contains(n.Inputs, nil) || slices.Contains(a.G.Outputs, nil) {
		return fail("an input is missing")
	}
	given := map[string]val{}
	for i, v := range n.Inputs[:k] {
		given[a.G.Inputs[i].Name] = c.Input(fmt.Sprint("state", i), v.Type, v.Shape)
	}
	var count val
	for i, v := range n.Inputs[k:] {
		if v.Shape == nil {
			return fail("%w", errRank(v))
		}
		axis, err := graphs.NormAxis(entry("scan_input_axes", i), len(v.Shape))
		if err != nil {
			return fail("%w", err)
		}
		length, at := b.Squeeze(size(b, v, axis), 0), pass
		if entry("scan_input_directions", i) != 0 {
			at = c.Sub(b.Sub(length, b.Const(graphs.Of([]int64{1}))), pass)
		}
		if count == nil {
			count = length
		}
		given[a.G.Inputs[k+i].Name] = c.Gather(v, at, int64(axis))
	}
	if c.Err() != nil || b.Err() != nil {
		return fail("%w", c.Err())
	}
	copied, err := passes.Inline(c, a.G, given, "")
	if err != nil {
		return fail("%w", err)
	}
	g.Outputs = []val{c.Identity(going)}
	for _, v := range a.G.Outputs {
		w := copied[v.Name]
		if !slices.Contains(g.Nodes, w.From) || slices.Contains(g.Outputs, w) {
			w = c.Identity(w)
		}
		g.Outputs = append(g.Outputs, w)
	}
	if c.Err() != nil {
		return fail("%w", c.Err())
	}
	name := b.Target().Fresh(n.Label() + "/Loop")
	renameAll(g, func(s string) string { return b.Target().Fresh(name + "/" + s) })
	loop := &graphs.Node{Name: name, Op: "Loop", Inputs: append([]val{count, nil}, n.Inputs[:k]...), Attrs: []*graphs.Attr{graphs.G("body", g)}}
	for i, v := range g.Outputs[1:] {
		o := &graphs.Value{Name: b.Target().Fresh(fmt.Sprintf("%s:%d", name, i)), Type: v.Type, Shape: v.Shape, From: loop}
		if i >= k && v.Shape != nil {
			o.Shape = append(graphs.Shape{graphs.UnknownDim}, v.Shape...)
		}
		loop.Outputs = append(loop.Outputs, o)
	}
	b.Append(loop, graphs.OpsetVersion)
	out := slices.Clone(loop.Outputs)
	for i := range out[k:] {
		y := out[k+i]
		if entry("scan_output_directions", i) != 0 {
			y = b.Slice(y, []int64{-1}, []int64{math.MinInt64}, []int64{0}, []int64{-1})
		}
		if axis := entry("scan_output_axes", i); axis != 0 {
			if y.Shape == nil {
				return fail("%w", errRank(y))
			}
			at, err := graphs.NormAxis(axis, len(y.Shape))
			if err != nil {
				return fail("%w", err)
			}
			y = b.Transpose(y, slices.Insert(iota64(len(y.Shape))[1:], at, 0)...)
		}
		out[k+i] = y
	}
	return out
}
