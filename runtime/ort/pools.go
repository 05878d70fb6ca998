//go:build cgo

package ort

import (
	"slices"

	"ebmrun/graphs"
)

// An unpooling is the way back through a MaxPool whose windows do not overlap: a slope for
// each window, which goes to the place of its greatest number, the first of several.
type unpooling struct {
	pool   *graphs.Node
	slope  *graphs.Value // of the windows
	result *graphs.Value // slopes of all that is pooled
	zero   *graphs.Value // set if the result passes only where what is pooled exceeds this
}

// unpoolings finds them in the form that the gradient rules give them: slopes are scattered
// to the indices that MaxPool gives, and then pass where a ReLU was active.
func unpoolings(g *graphs.Graph) []*unpooling {
	readers := map[*graphs.Value][]*graphs.Node{}
	for _, n := range g.Nodes {
		for _, v := range n.Inputs {
			readers[v] = append(readers[v], n)
		}
	}
	only := func(v *graphs.Value, op string) *graphs.Node { // the one reader
		if r := readers[v]; v != nil && len(r) == 1 && r[0].Op == op && r[0].Domain == "" && !slices.Contains(g.Outputs, v) {
			return r[0]
		}
		return nil
	}
	var found []*unpooling
	for _, pool := range g.Nodes {
		if !disjoint(pool) {
			continue
		}
		flat := only(pool.Out(1), "Reshape")
		if flat == nil {
			continue
		}
		scatter := only(flat.Out(0), "ScatterElements")
		if scatter == nil || scatter.In(1) != flat.Out(0) || scatter.Str("reduction", "none") != "add" || !zeros(scatter.In(0)) {
			continue
		}
		slopes, shaped := made(scatter.In(2), "Reshape"), only(scatter.Out(0), "Reshape")
		if slopes == nil || shaped == nil || len(readers[slopes.Out(0)]) != 1 || !slopes.In(0).Shape.Same(pool.Out(0).Shape) || !shaped.Out(0).Shape.Same(pool.In(0).Shape) {
			continue
		}
		u := &unpooling{pool: pool, slope: slopes.In(0), result: shaped.Out(0)}
		if pass := only(u.result, "Where"); pass != nil && pass.In(1) == u.result && scalarZero(pass.In(2)) && pass.Out(0).Shape.Same(u.result.Shape) {
			if active := made(pass.In(0), "Greater"); active != nil && active.In(0) == pool.In(0) && scalarZero(active.In(1)) {
				u.result, u.zero = pass.Out(0), pass.In(2)
			}
		}
		found = append(found, u)
	}
	return found
}

// disjoint reports whether n is a MaxPool of pictures by windows that lie side by side and cover all.
func disjoint(n *graphs.Node) bool {
	x := n.In(0)
	if n.Op != "MaxPool" || n.Domain != "" || n.Out(1) == nil || x.Rank() != 4 || !x.Shape.Known() || x.Type != graphs.Float32 || n.Int("storage_order", 0) != 0 {
		return false
	}
	kernel, y := n.Ints("kernel_shape"), n.Out(0).Shape
	if len(kernel) != 2 || !slices.Equal(kernel, n.Ints("strides")) || kernel[0]*kernel[1] > 64 || len(y) != 4 || !y.Known() {
		return false
	}
	for _, d := range n.Ints("dilations") {
		if d != 1 {
			return false
		}
	}
	for _, p := range n.Ints("pads") {
		if p != 0 {
			return false
		}
	}
	return y[2].N*kernel[0] == x.Shape[2].N && y[3].N*kernel[1] == x.Shape[3].N
}

// made is the node that makes v, if it is of the given kind.
func made(v *graphs.Value, op string) *graphs.Node {
	if v == nil || v.From == nil || v.From.Op != op || v.From.Domain != "" {
		return nil
	}
	return v.From
}

func scalarZero(v *graphs.Value) bool {
	return v != nil && v.Const != nil && v.Const.Len() == 1 && zeroBits(v.Const)
}

// zeros reports whether v holds nothing but zeros.
func zeros(v *graphs.Value) bool {
	if v != nil && v.Const != nil {
		return zeroBits(v.Const)
	}
	n := made(v, "ConstantOfShape")
	if n == nil {
		return false
	}
	a := n.Attr("value")
	return a == nil || a.T == nil || zeroBits(a.T)
}

func zeroBits(t *graphs.Tensor) bool {
	v, err := t.AsFloats()
	return err == nil && !slices.ContainsFunc(v, func(f float64) bool { return f != 0 })
}

// unpooled returns m with another form of its unpoolings, which form adds to what it is
// given: u's result from slopes that pass already. m itself is not changed.
func unpooled(m *graphs.Model, form func(r *rewriting, u *unpooling, slope *graphs.Value)) *graphs.Model {
	return replaced(m, unpoolings, func(u *unpooling) *graphs.Value { return u.result }, func(r *rewriting, u *unpooling) {
		slope := u.slope
		if u.zero != nil { // where the greatest number of a window exceeds 0
			y := u.pool.Out(0)
			active := r.op(u.result.Name, "Greater", y.Shape, []*graphs.Value{y, u.zero})
			active.Type = graphs.Bool
			slope = r.op(u.result.Name, "Where", y.Shape, []*graphs.Value{active, slope, u.zero})
		}
		form(r, u, slope)
	})
}

// byIndex is the form for the CPU provider: it has a kernel for unpooling.
func byIndex(r *rewriting, u *unpooling, slope *graphs.Value) {
	shape := r.ints(u.result.Name, sizes(u.result)...)
	r.last(u.result, "MaxUnpool", []*graphs.Value{slope, u.pool.Out(1), shape},
		graphs.IntsAttr("kernel_shape", u.pool.Ints("kernel_shape")...), graphs.IntsAttr("strides", u.pool.Ints("strides")...))
}

// byRank is the form for the OpenVINO provider, which finds indices and scatters on one thread:
// of the numbers of a window that equal its greatest, the first has the highest rank, and the
// slope goes to it.
func byRank(r *rewriting, u *unpooling, slope *graphs.Value) {
	name, x, y, k := u.result.Name, u.pool.In(0), u.pool.Out(0), u.pool.Ints("kernel_shape")
	none := r.constant(name, graphs.Of([]float32{0}))
	scales := r.constant(name, graphs.Of([]float32{1, 1, float32(k[0]), float32(k[1])}, 4))
	spread := func(v *graphs.Value) *graphs.Value { // over the windows
		return r.op(name, "Resize", x.Shape, []*graphs.Value{v, nil, scales}, graphs.S("mode", "nearest"),
			graphs.S("coordinate_transformation_mode", "asymmetric"), graphs.S("nearest_mode", "floor"))
	}
	equal := func(a, b *graphs.Value) *graphs.Value {
		v := r.op(name, "Equal", x.Shape, []*graphs.Value{a, b})
		v.Type = graphs.Bool
		return v
	}
	height, width := int(x.Shape[2].N), int(x.Shape[3].N)
	ranks := make([]float32, height*width)
	for i := range ranks {
		row, column := i/width%int(k[0]), i%width%int(k[1])
		ranks[i] = float32(int(k[0]*k[1]) - row*int(k[1]) - column)
	}
	rank := r.op(name, "Where", x.Shape, []*graphs.Value{equal(x, spread(y)), r.constant(name, graphs.Of(ranks, 1, 1, height, width)), none})
	highest := r.op(name, "MaxPool", y.Shape, []*graphs.Value{rank}, graphs.IntsAttr("kernel_shape", k...), graphs.IntsAttr("strides", k...))
	r.last(u.result, "Where", []*graphs.Value{equal(rank, spread(highest)), spread(slope), none})
}

func sizes(v *graphs.Value) []int64 {
	out := make([]int64, len(v.Shape))
	for i, d := range v.Shape {
		out[i] = d.N
	}
	return out
}

// last adds a node that makes a value that is there already.
func (r *rewriting) last(y *graphs.Value, op string, in []*graphs.Value, attrs ...*graphs.Attr) {
	r.nodes = append(r.nodes, &graphs.Node{Name: r.names.Fresh(y.Name + "/" + op), Op: op, Inputs: in, Outputs: []*graphs.Value{y}, Attrs: attrs})
}

func (r *rewriting) constant(base string, t *graphs.Tensor) *graphs.Value {
	c := &graphs.Value{Name: r.names.Fresh(base + "/constant"), Type: t.Type, Shape: graphs.MakeShape(t.Dims...), Const: t}
	r.inits = append(r.inits, c)
	return c
}
