package backbone

import (
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
)

// elementwise ops give at every place what they are given there, so a
// permutation of axes can come after them as well as before.
var elementwise = map[string]bool{
	"Relu": true, "LeakyRelu": true, "Clip": true, "Elu": true, "Celu": true, "Selu": true, "Sigmoid": true, "HardSigmoid": true, "Tanh": true,
	"Softplus": true, "Softsign": true, "Exp": true, "Log": true, "Sqrt": true, "Abs": true, "Neg": true, "Erf": true, "Identity": true,
	"Gelu": true, "HardSwish": true, "Mish": true,
	"Add": true, "Sub": true, "Mul": true, "Div": true, "Max": true, "Min": true, "Pow": true,
}

// toLast turns [batch, C, H, W] into [batch, H, W, C].
var toLast = []int64{0, 2, 3, 1}

// turn lets a graph whose input has channels last read pictures with channels first.
func turn(g *graphs.Graph) {
	old := g.Inputs[0]
	in := &graphs.Value{Name: g.Fresh(old.Name), Type: old.Type, Shape: old.Shape}
	old.Shape = nil
	old.From = &graphs.Node{Op: "Transpose", Inputs: []*graphs.Value{in}, Outputs: []*graphs.Value{old}, Attrs: []*graphs.Attr{graphs.IntsAttr("perm", toLast...)}}
	g.Inputs[0] = in
	g.Nodes = slices.Insert(g.Nodes, 0, old.From)
}

// channelsFirst moves the permutations that turn channels last (as exporters of
// networks with that layout leave them between operations that want them first)
// behind the elementwise operations after them, where they meet others and
// vanish, and takes those away that remain at the outputs.
func channelsFirst(g *graphs.Graph) error {
	for range len(g.Nodes) + 1 {
		moved := false
		for i := 0; i < len(g.Nodes); i++ {
			if sink(g, g.Nodes[i], i) {
				moved = true
				i++
			}
		}
		if !moved {
			break
		}
		if _, err := passes.Simplify(g); err != nil {
			return err
		}
	}
	for i, v := range g.Outputs {
		if x := turned(v); x != nil {
			g.Outputs[i] = x
		}
	}
	_, err := passes.Prune(g)
	return err
}

// turned is the value with channels first of which v is the permutation, nil if
// v is none.
func turned(v *graphs.Value) *graphs.Value {
	if v != nil && v.From != nil && v.From.Op == "Transpose" && slices.Equal(v.From.Ints("perm"), toLast) {
		return v.From.In(0)
	}
	return nil
}

// sink rewrites an elementwise node of which all inputs are turned or the same
// for every place: it works on what they are made of, and is turned itself.
func sink(g *graphs.Graph, n *graphs.Node, at int) bool {
	if !elementwise[n.Op] || n.Domain != "" || len(n.Outputs) != 1 {
		return false
	}
	in := make([]*graphs.Value, len(n.Inputs))
	var made []*graphs.Value
	any := false
	for i, v := range n.Inputs {
		switch x := turned(v); {
		case x != nil:
			in[i], any = x, true
		case v == nil:
		case v.Const != nil && v.Const.Len() == 1 && len(v.Const.Dims) <= 4:
			in[i] = v
		case v.Const != nil && !passes.IsWeight(v) && v.Type == graphs.Float32 && len(v.Const.Dims) <= 4:
			t := firstOf(v.Const)
			in[i] = &graphs.Value{Name: g.Fresh(v.Name), Type: v.Type, Shape: graphs.MakeShape(t.Dims...), Const: t}
			made = append(made, in[i])
		default:
			return false
		}
	}
	if !any {
		return false
	}
	g.Inits = append(g.Inits, made...)
	out := n.Outputs[0]
	first := &graphs.Value{Name: g.Fresh(out.Name), Type: out.Type, From: n}
	if s := out.Shape; len(s) == 4 {
		first.Shape = graphs.Shape{s[0], s[3], s[1], s[2]}
	}
	n.Inputs, n.Outputs[0] = in, first
	turn := &graphs.Node{Op: "Transpose", Inputs: []*graphs.Value{first}, Outputs: []*graphs.Value{out}, Attrs: []*graphs.Attr{graphs.IntsAttr("perm", toLast...)}}
	out.From = turn
	g.Nodes = slices.Insert(g.Nodes, at+1, turn)
	return true
}

// firstOf is a constant that is broadcast to [batch, H, W, C], for [batch, C, H, W].
func firstOf(t *graphs.Tensor) *graphs.Tensor {
	d := append([]int{1, 1, 1, 1}[len(t.Dims):], t.Dims...)
	out, in := make([]float32, t.Len()), t.F32()
	for i := range out {
		rest := i / d[3]
		n, h, w, c := rest/d[2]/d[1], rest/d[2]%d[1], rest%d[2], i%d[3]
		out[((n*d[3]+c)*d[1]+h)*d[2]+w] = in[i]
	}
	return graphs.Of(out, d[0], d[3], d[1], d[2])
}
