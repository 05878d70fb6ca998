package graphs

import (
	"errors"
	"fmt"
	"slices"
)

// A Builder appends nodes to a graph, giving each result its type and shape.
// It keeps the first error; every call after it returns a placeholder, so that
// a formula stays one line and [Builder.Err] or [Builder.Graph] is the only
// place to look.
type Builder struct {
	g      *Graph
	prefix string
	err    error
	consts map[string]*Value
}

// NewBuilder returns a builder that appends to g.
func NewBuilder(g *Graph) *Builder { return &Builder{g: g, consts: map[string]*Value{}} }

var invalid = &Value{Name: "<invalid>"}

// Err is the first error met, nil if there is none.
func (b *Builder) Err() error { return b.err }

// Fail records an error unless an earlier one is kept, and returns a placeholder.
func (b *Builder) Fail(format string, args ...any) *Value {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
	return invalid
}

// Graph returns the graph, or the first error, after a full check.
func (b *Builder) Graph() (*Graph, error) {
	if b.err != nil {
		return nil, b.err
	}
	if err := Check(b.g); err != nil {
		return nil, err
	}
	return b.g, nil
}

// Target is the graph being built, with no check.
func (b *Builder) Target() *Graph { return b.g }

// Prefix makes the names of the nodes that follow start with p (such as
// "bwd/conv2") and returns the previous prefix.
func (b *Builder) Prefix(p string) (old string) {
	old, b.prefix = b.prefix, p
	return old
}

// Input adds a graph input.
func (b *Builder) Input(name string, t DType, shape Shape) *Value {
	v := &Value{Name: b.g.Fresh(name), Type: t, Shape: shape}
	if v.Name != name && b.err == nil {
		b.err = fmt.Errorf("graphs: input %q: the name is taken", name)
	}
	b.g.Inputs = append(b.g.Inputs, v)
	return v
}

// Weight adds an initializer with the given name.
func (b *Builder) Weight(name string, t *Tensor) *Value {
	v := b.constant(name, t)
	if v.Name != name && b.err == nil {
		b.err = fmt.Errorf("graphs: weight %q: the name is taken", name)
	}
	return v
}

func (b *Builder) constant(name string, t *Tensor) *Value {
	v := &Value{Name: b.g.Fresh(name), Type: t.Type, Shape: MakeShape(t.Dims...), Const: t}
	setContent(v)
	b.g.Inits = append(b.g.Inits, v)
	return v
}

// Output makes v a graph output under the given name. If v already has another
// name that must be kept (an input, an initializer, another output), an
// Identity node is added.
func (b *Builder) Output(name string, v *Value) *Value {
	if b.err != nil {
		return invalid
	}
	if v.Name != name {
		taken := v.From == nil
		for _, o := range b.g.Outputs {
			taken = taken || o == v
		}
		fresh := b.g.Fresh(name)
		if fresh != name {
			return b.Fail("graphs: output %q: the name is taken", name)
		}
		if taken {
			v = b.Op("Identity", []*Value{v})
		}
		v.Name = name
	}
	b.g.Outputs = append(b.g.Outputs, v)
	return v
}

// Const adds a constant tensor, shared with an equal small one.
func (b *Builder) Const(t *Tensor) *Value {
	if b.err != nil {
		return invalid
	}
	key := ""
	if t.Len() <= 16 {
		key = fmt.Sprint(t.Type, t.Dims, t.Data)
		if v := b.consts[key]; v != nil {
			return v
		}
	}
	name := "const"
	if t.Len() <= 4 && t.Type != String {
		name = fmt.Sprintf("const/%v", t.Data)
	}
	v := b.constant(name, t)
	if key != "" {
		b.consts[key] = v
	}
	return v
}

// Ints is a constant int64 vector.
func (b *Builder) Ints(v ...int64) *Value { return b.Const(Ints(v...)) }

// Scalar is a constant scalar of the element type of like.
func (b *Builder) Scalar(like *Value, x float64) *Value {
	if b.err != nil {
		return invalid
	}
	t, err := FromFloats(like.Type, []float64{x})
	if err != nil {
		return b.Fail("graphs: constant %v like %v: %v", x, like, err)
	}
	return b.Const(t)
}

// Op appends a node with one output and returns that output.
func (b *Builder) Op(op string, in []*Value, attrs ...*Attr) *Value {
	out := b.Ops(op, 1, in, attrs...)
	return out[0]
}

// Ops appends a node with the given number of outputs.
func (b *Builder) Ops(op string, outputs int, in []*Value, attrs ...*Attr) []*Value {
	bad := make([]*Value, outputs)
	for i := range bad {
		bad[i] = invalid
	}
	if b.err != nil {
		return bad
	}
	for _, v := range in {
		if v == invalid {
			b.err = fmt.Errorf("graphs: %s: an input is a placeholder of an earlier failure", op)
			return bad
		}
	}
	base := b.prefix
	if base == "" {
		base = op
	} else {
		base += "/" + op
	}
	n := &Node{Name: b.g.Fresh(base), Op: op, Inputs: in, Attrs: attrs}
	for i := 0; i < outputs; i++ {
		name := n.Name // nodes and values have namespaces of their own
		if outputs > 1 {
			name = b.g.Fresh(fmt.Sprintf("%s:%d", n.Name, i))
		}
		n.Outputs = append(n.Outputs, &Value{Name: name, From: n})
	}
	if err := Infer(n, OpsetVersion); err != nil {
		b.err = fmt.Errorf("graphs: %w", &NodeError{Node: n, Err: err})
		return bad
	}
	b.g.Nodes = append(b.g.Nodes, n)
	return n.Outputs
}

// Append adds an existing node after inferring its outputs; used by passes that
// rebuild a graph.
func (b *Builder) Append(n *Node, opset int64) {
	if b.err != nil {
		return
	}
	if err := Infer(n, opset); err != nil {
		var unknown *UnknownOpError
		if !errors.As(err, &unknown) {
			b.err = fmt.Errorf("graphs: %w", &NodeError{Node: n, Opset: opset, Err: err})
			return
		}
	}
	b.g.Nodes = append(b.g.Nodes, n)
}

func (b *Builder) bin(op string, x, y *Value) *Value { return b.Op(op, []*Value{x, y}) }
func (b *Builder) un(op string, x *Value) *Value     { return b.Op(op, []*Value{x}) }

// The methods below append one node each; see the ONNX operator of the name.

func (b *Builder) Add(x, y *Value) *Value     { return b.bin("Add", x, y) }
func (b *Builder) Sub(x, y *Value) *Value     { return b.bin("Sub", x, y) }
func (b *Builder) Mul(x, y *Value) *Value     { return b.bin("Mul", x, y) }
func (b *Builder) Div(x, y *Value) *Value     { return b.bin("Div", x, y) }
func (b *Builder) Pow(x, y *Value) *Value     { return b.bin("Pow", x, y) }
func (b *Builder) MatMul(x, y *Value) *Value  { return b.bin("MatMul", x, y) }
func (b *Builder) Less(x, y *Value) *Value    { return b.bin("Less", x, y) }
func (b *Builder) Greater(x, y *Value) *Value { return b.bin("Greater", x, y) }
func (b *Builder) Equal(x, y *Value) *Value   { return b.bin("Equal", x, y) }
func (b *Builder) Neg(x *Value) *Value        { return b.un("Neg", x) }
func (b *Builder) Exp(x *Value) *Value        { return b.un("Exp", x) }
func (b *Builder) Log(x *Value) *Value        { return b.un("Log", x) }
func (b *Builder) Sqrt(x *Value) *Value       { return b.un("Sqrt", x) }
func (b *Builder) Recip(x *Value) *Value      { return b.un("Reciprocal", x) }
func (b *Builder) Sigmoid(x *Value) *Value    { return b.un("Sigmoid", x) }
func (b *Builder) Tanh(x *Value) *Value       { return b.un("Tanh", x) }
func (b *Builder) Sign(x *Value) *Value       { return b.un("Sign", x) }
func (b *Builder) Identity(x *Value) *Value   { return b.un("Identity", x) }

// Shape is the run-time shape of x as an int64 vector.
func (b *Builder) Shape(x *Value) *Value { return b.un("Shape", x) }

// Where picks x where cond holds, else y.
func (b *Builder) Where(cond, x, y *Value) *Value { return b.Op("Where", []*Value{cond, x, y}) }

// Cast converts x to type t; a value that already has it is returned as it is.
func (b *Builder) Cast(x *Value, t DType) *Value {
	if x.Type == t {
		return x
	}
	return b.Op("Cast", []*Value{x}, I("to", int64(t)))
}

// CastLike converts x to the element type of like.
func (b *Builder) CastLike(x, like *Value) *Value { return b.Cast(x, like.Type) }

// Scale multiplies by a constant.
func (b *Builder) Scale(x *Value, c float64) *Value {
	if c == 1 {
		return x
	}
	return b.Mul(x, b.Scalar(x, c))
}

// Sum reduces over the given axes, all of them if none are given.
func (b *Builder) Sum(x *Value, keep bool, axes ...int64) *Value {
	return b.reduce("ReduceSum", x, keep, axes)
}

// Mean averages over the given axes, all of them if none are given.
func (b *Builder) Mean(x *Value, keep bool, axes ...int64) *Value {
	return b.reduce("ReduceMean", x, keep, axes)
}

func (b *Builder) reduce(op string, x *Value, keep bool, axes []int64) *Value {
	in := []*Value{x}
	if len(axes) > 0 {
		in = append(in, b.Ints(axes...))
	}
	k := int64(0)
	if keep {
		k = 1
	}
	return b.Op(op, in, I("keepdims", k))
}

// Reshape gives x the run-time shape held in the int64 vector shape.
func (b *Builder) Reshape(x, shape *Value) *Value { return b.Op("Reshape", []*Value{x, shape}) }

// ReshapeTo reshapes to fixed sizes; 0 keeps an axis and one −1 is inferred.
func (b *Builder) ReshapeTo(x *Value, dims ...int64) *Value { return b.Reshape(x, b.Ints(dims...)) }

// ReshapeLike gives x the shape of like, whatever it is at run time.
func (b *Builder) ReshapeLike(x, like *Value) *Value {
	if x.Shape.Same(like.Shape) {
		return x
	}
	if like.Shape.Known() && !slices.Contains(like.Shape, D(0)) {
		return b.Reshape(x, b.ShapeOf(like))
	}
	return b.Op("Reshape", []*Value{x, b.ShapeOf(like)}, I("allowzero", 1)) // an axis may be empty
}

// ShapeOf is the shape of x: a constant where every axis is known, a Shape node
// otherwise.
func (b *Builder) ShapeOf(x *Value) *Value {
	if x.Shape.Known() {
		v := make([]int64, len(x.Shape))
		for i, d := range x.Shape {
			v[i] = d.N
		}
		return b.Ints(v...)
	}
	return b.Shape(x)
}

// Expand broadcasts x to the run-time shape held in shape.
func (b *Builder) Expand(x, shape *Value) *Value { return b.Op("Expand", []*Value{x, shape}) }

// Transpose permutes axes.
func (b *Builder) Transpose(x *Value, perm ...int64) *Value {
	return b.Op("Transpose", []*Value{x}, IntsAttr("perm", perm...))
}

// Squeeze removes axes of size 1.
func (b *Builder) Squeeze(x *Value, axes ...int64) *Value {
	return b.Op("Squeeze", []*Value{x, b.Ints(axes...)})
}

// Unsqueeze inserts axes of size 1.
func (b *Builder) Unsqueeze(x *Value, axes ...int64) *Value {
	return b.Op("Unsqueeze", []*Value{x, b.Ints(axes...)})
}

// Concat joins along an axis.
func (b *Builder) Concat(axis int64, x ...*Value) *Value {
	if len(x) == 1 {
		return x[0]
	}
	return b.Op("Concat", x, I("axis", axis))
}

// Gather picks slices along an axis.
func (b *Builder) Gather(x, indices *Value, axis int64) *Value {
	return b.Op("Gather", []*Value{x, indices}, I("axis", axis))
}

// Slice takes x[starts:ends:steps] on the given axes.
func (b *Builder) Slice(x *Value, starts, ends, axes, steps []int64) *Value {
	in := []*Value{x, b.Ints(starts...), b.Ints(ends...), b.Ints(axes...)}
	if steps != nil {
		in = append(in, b.Ints(steps...))
	}
	return b.Op("Slice", in)
}

// Zeros is a zero tensor of the run-time shape and type of like.
func (b *Builder) Zeros(like *Value) *Value { return b.Full(like, 0) }

// Full is a tensor filled with c, of the run-time shape and type of like.
func (b *Builder) Full(like *Value, c float64) *Value {
	if b.err != nil {
		return invalid
	}
	one, err := FromFloats(like.Type, []float64{c}, 1)
	if err != nil {
		return b.Fail("graphs: constant %v like %v: %v", c, like, err)
	}
	return b.Op("ConstantOfShape", []*Value{b.ShapeOf(like)}, T("value", one))
}
