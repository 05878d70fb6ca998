//go:build cgo

package ort

import (
	"math"
	"slices"
	"strings"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
)

// learningForms returns m in forms of the same sums that the CPU provider is faster at
// where weights are no constants, which it would pack ahead:
//
//   - A convolution writes every window of its input out before it multiplies, a
//     transposed one adds windows up after it has multiplied. Each can stand for the
//     other, with the filters turned round, and the better one is that which has its
//     windows on the side with fewer channels.
//   - The slope of weights that see one pixel is a product of matrices for every
//     example, and the sum of these, sooner than the one product for whose sake Einsum
//     transposes all examples.
//
// m itself is not changed.
func learningForms(m *graphs.Model) *graphs.Model {
	r := &rewriting{names: m.Graph, turned: map[*graphs.Value]*graphs.Value{}}
	for _, n := range m.Graph.Nodes {
		switch {
		case windowsOnWrongSide(n):
			r.turn(n)
		case perPixel(n):
			r.product(n)
		default:
			r.nodes = append(r.nodes, n)
		}
	}
	return r.of(m)
}

// windowsOnWrongSide reports whether a convolution has at least twice as many channels
// on the side where its windows are as on the other. Of a window of one pixel, which a
// convolution need not write out, the transposed kind is on the wrong side.
func windowsOnWrongSide(n *graphs.Node) bool {
	if !plainWindow(n) || n.In(1).Const != nil {
		return false
	}
	d := n.In(1).Shape.Ints() // in a plain one channels out and in, in a transposed one in and out: windows are on the second side
	if graphs.Size(d[2:]) == 1 {
		return n.Op == "ConvTranspose"
	}
	return d[1] >= 2*d[0]
}

// perPixel reports whether a node sums products of two stacks of maps over all pixels
// of all examples, where a sum of products of matrices takes no more memory than
// transposed stacks would.
func perPixel(n *graphs.Node) bool {
	const least = 128 // pixels: with fewer, one product is as fast
	if n.Op != "Einsum" || n.Domain != "" || len(n.Inputs) != 2 || n.In(0).Rank() < 3 || n.In(0).Type != graphs.Float32 {
		return false
	}
	a, b, rank := n.In(0).Shape, n.In(1).Shape, n.In(0).Rank()
	left, out, _ := strings.Cut(n.Str("equation", ""), "->")
	first, second, _ := strings.Cut(left, ",")
	if len(first) != rank || len(second) != rank || len(a) != len(b) || !a[1:].Known() || !b[1:].Known() ||
		first[0] != second[0] || first[2:] != second[2:] || out != first[1:2]+second[1:2] || strings.Contains(first+second, ".") {
		return false
	}
	for i := range rank {
		if i != 1 && strings.Count(left, first[i:i+1]) != 2 || i == 1 && strings.Count(left, out[:1])+strings.Count(left, out[1:]) != 2 {
			return false // a diagonal
		}
	}
	o, i, pixels := int(a[1].N), int(b[1].N), graphs.Size(a[2:].Ints())
	return pixels >= least && o*i <= (o+i)*pixels
}

// A rewriting gathers the nodes and constants of a graph in another form.
type rewriting struct {
	names  *graphs.Graph // that new names must not be in
	nodes  []*graphs.Node
	inits  []*graphs.Value
	turned map[*graphs.Value]*graphs.Value // filters
}

// replaced returns m with another form of what find finds, which add adds in the place of the node that gives result.
// Nodes that nothing reads any more go. m itself is not changed.
func replaced[T any](m *graphs.Model, find func(*graphs.Graph) []T, result func(T) *graphs.Value, add func(*rewriting, T)) *graphs.Model {
	if len(find(m.Graph)) == 0 {
		return m
	}
	m = passes.Clone(m)
	at := map[*graphs.Node]T{}
	for _, t := range find(m.Graph) {
		at[result(t).From] = t
	}
	r := &rewriting{names: m.Graph}
	for _, n := range m.Graph.Nodes {
		if t, ok := at[n]; ok {
			add(r, t)
		} else {
			r.nodes = append(r.nodes, n)
		}
	}
	m.Graph.Nodes, m.Graph.Inits = r.nodes, append(m.Graph.Inits, r.inits...)
	_, _ = passes.Prune(m.Graph) // never fails
	return m
}

// of is m with the nodes gathered in the place of its own: some for each of them.
func (r *rewriting) of(m *graphs.Model) *graphs.Model {
	if len(r.nodes) == len(m.Graph.Nodes) {
		return m
	}
	g, model := *m.Graph, *m
	g.Nodes, g.Inits = r.nodes, slices.Concat(g.Inits, r.inits)
	model.Graph = &g
	return &model
}

// op adds a node and returns its output.
func (r *rewriting) op(base, op string, shape graphs.Shape, in []*graphs.Value, attrs ...*graphs.Attr) *graphs.Value {
	y := &graphs.Value{Name: r.names.Fresh(base + "/" + op), Type: graphs.Float32, Shape: shape}
	y.From = &graphs.Node{Name: y.Name, Op: op, Inputs: in, Outputs: []*graphs.Value{y}, Attrs: attrs}
	r.nodes = append(r.nodes, y.From)
	return y
}

func (r *rewriting) ints(base string, v ...int64) *graphs.Value {
	t := graphs.Of(v, len(v))
	c := &graphs.Value{Name: r.names.Fresh(base + "/ints"), Type: graphs.Int64, Shape: graphs.MakeShape(len(v)), Const: t}
	r.inits = append(r.inits, c)
	return c
}

// turn adds a convolution as one of the other kind.
func (r *rewriting) turn(n *graphs.Node) {
	w := n.In(1)
	if r.turned[w] == nil {
		d := w.Shape.Ints()
		d[0], d[1] = d[1], d[0]
		perm, starts, ends, axes := []int64{1, 0}, []int64{}, []int64{}, []int64{}
		for i := range d[2:] {
			perm, axes = append(perm, int64(2+i)), append(axes, int64(2+i))
			starts, ends = append(starts, -1), append(ends, math.MinInt64)
		}
		t := r.op(w.Name, "Transpose", graphs.MakeShape(d...), []*graphs.Value{w}, graphs.IntsAttr("perm", perm...))
		if graphs.Size(d[2:]) > 1 {
			t = r.op(w.Name, "Slice", t.Shape, []*graphs.Value{t, r.ints(w.Name, starts...), r.ints(w.Name, ends...), r.ints(w.Name, axes...), r.ints(w.Name, starts...)})
		}
		r.turned[w] = t
	}
	other := *n
	other.Op = map[string]string{"Conv": "ConvTranspose", "ConvTranspose": "Conv"}[n.Op]
	other.Inputs = slices.Clone(n.Inputs)
	other.Inputs[1] = r.turned[w]
	other.Attrs = []*graphs.Attr{graphs.IntsAttr("pads", turnedPads(n)...)}
	r.nodes = append(r.nodes, &other)
}

// product adds a sum over examples and pixels as a sum of products of matrices.
func (r *rewriting) product(n *graphs.Node) {
	flat := func(x *graphs.Value, base string) *graphs.Value {
		shape := graphs.Shape{x.Shape[0], x.Shape[1], graphs.D(graphs.Size(x.Shape[2:].Ints()))}
		return r.op(base, "Reshape", shape, []*graphs.Value{x, r.ints(base, 0, x.Shape[1].N, -1)})
	}
	base, batch := n.Out(0).Name, n.In(0).Shape[0]
	a, b := flat(n.In(0), base), flat(n.In(1), base)
	turned := r.op(base, "Transpose", graphs.Shape{b.Shape[0], b.Shape[2], b.Shape[1]}, []*graphs.Value{b}, graphs.IntsAttr("perm", 0, 2, 1))
	each := r.op(base, "MatMul", graphs.Shape{batch, a.Shape[1], b.Shape[1]}, []*graphs.Value{a, turned})
	sum := *n
	sum.Op, sum.Inputs, sum.Attrs = "ReduceSum", []*graphs.Value{each, r.ints(base, 0)}, []*graphs.Attr{graphs.I("keepdims", 0)}
	r.nodes = append(r.nodes, &sum)
}
