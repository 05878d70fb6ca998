package graphs

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// An UnknownOpError says that the op table has no entry for an op. The node can
// still be read, written and run by an engine that knows it.
type UnknownOpError struct{ Op, Domain string }

func (e *UnknownOpError) Error() string {
	switch e.Domain {
	case "":
	case "com.microsoft.nchwc":
		return fmt.Sprintf("op %s of domain %q is of ONNX Runtime's layout for one kind of processor: save the model at its optimization level extended", e.Op, e.Domain)
	default:
		return fmt.Sprintf("op %s of domain %q is not in the op table", e.Op, e.Domain)
	}
	return fmt.Sprintf("op %s is not in the op table", e.Op)
}

// An inferer works out the types and shapes of one node's outputs. Its opset is
// that of the node's model; forms of older opsets (axes as attributes and the
// like) are understood where the meaning is the same.
type inferer struct {
	n     *Node
	opset int64
}

// shapeRules is the op table: an op is known to this module if and only if it
// has an entry here. Each op family has a file and a table of its own.
var shapeRules = join(elementwiseShapes(), layoutShapes(), reductionShapes(), convolutionShapes(),
	samplingShapes(), regionShapes(), recurrentShapes(), compositeShapes())

func join(tables ...map[string]func(*inferer) error) map[string]func(*inferer) error {
	all := map[string]func(*inferer) error{}
	for _, t := range tables {
		for op, f := range t {
			all[op] = f
		}
	}
	return all
}

// Ops lists the ops of the table, sorted.
func Ops() []string {
	var ops []string
	for op := range shapeRules {
		ops = append(ops, op)
	}
	sort.Strings(ops)
	return ops
}

// Known reports whether a node's op is in the op table.
func Known(n *Node) bool {
	return (n.Domain == "" || n.Domain == "ai.onnx") && shapeRules[n.Op] != nil
}

// Infer sets the type, shape and, for shape computations, the content of a
// node's outputs from its inputs. It returns an [UnknownOpError] for an op that
// is not in the table, leaving the outputs as they are.
func Infer(n *Node, opset int64) error {
	if !Known(n) {
		return &UnknownOpError{n.Op, n.Domain}
	}
	if err := checkAttrs(n); err != nil {
		return err
	}
	c := &inferer{n, opset}
	if err := shapeRules[n.Op](c); err != nil {
		return err
	}
	inferContent(c.n)
	return nil
}

// InferAll infers every node of a graph in order. Declared output types are
// kept where inference says less; a contradiction is an error that names the node.
func InferAll(g *Graph, opset int64) error {
	for _, v := range g.Inits {
		setContent(v)
	}
	for _, n := range g.Nodes {
		declared := make([]Value, len(n.Outputs))
		for i, o := range n.Outputs {
			if o != nil {
				declared[i] = *o
			}
		}
		if n.Op == "If" && n.Domain == "" {
			inferIf(n, opset)
			continue
		}
		if n.Op == "Loop" && n.Domain == "" {
			inferLoop(n, opset)
			continue
		}
		err := Infer(n, opset)
		if unknown := (*UnknownOpError)(nil); errors.As(err, &unknown) || err != nil && readsUnknown(n) {
			continue
		}
		if err != nil {
			return &NodeError{n, opset, err}
		}
		for i, o := range n.Outputs {
			if o == nil {
				continue
			}
			if err := merge(o, &declared[i]); err != nil {
				return &NodeError{n, opset, err}
			}
		}
	}
	return nil
}

// readsUnknown reports whether an op outside the table, of which the types of the
// results are not known, makes what a node reads: then it cannot be judged.
func readsUnknown(n *Node) bool {
	return slices.ContainsFunc(n.Inputs, func(v *Value) bool {
		return v != nil && v.Type == Undefined && v.From != nil && (!Known(v.From) || readsUnknown(v.From))
	})
}

// inferIf takes what both branches agree on for the outputs. What a branch cannot
// be told to give stays as it was declared.
func inferIf(n *Node, opset int64) {
	var branches []*Graph
	for _, name := range []string{"then_branch", "else_branch"} {
		a := n.Attr(name)
		if a == nil || a.G == nil || len(a.G.Outputs) != len(n.Outputs) || InferAll(a.G, opset) != nil {
			return
		}
		branches = append(branches, a.G)
	}
	for i, o := range n.Outputs {
		x, y := branches[0].Outputs[i], branches[1].Outputs[i]
		if o == nil || x.Type != y.Type {
			continue
		}
		v := &Value{Name: o.Name, Type: x.Type}
		if x.Shape != nil && len(x.Shape) == len(y.Shape) {
			v.Shape = append(Shape{}, x.Shape...)
			for k, d := range y.Shape {
				if !d.Same(v.Shape[k]) {
					v.Shape[k] = UnknownDim
				}
			}
		}
		if merge(v, o) == nil {
			o.Type, o.Shape = v.Type, v.Shape
		}
	}
}

// inferLoop gives the values that a Loop carries the type that they start with, and
// the axes that no pass changes.
func inferLoop(n *Node, opset int64) {
	a, start := n.Attr("body"), n.Inputs[min(2, len(n.Inputs)):]
	if a == nil || a.G == nil || len(a.G.Inputs) != 2+len(start) || len(a.G.Outputs) < max(1+len(start), 1+len(n.Outputs)) {
		return
	}
	g, before := a.G, map[*Value]Value{}
	remember(g, before)
	shapes := make([]Shape, len(start))
	for k, v := range start {
		if v == nil {
			return
		}
		shapes[k] = v.Shape
	}
	for range 4 {
		for v, old := range before {
			v.Type, v.Shape, v.Content = old.Type, old.Shape, old.Content
		}
		for i, t := range []DType{Int64, Bool} {
			if v := g.Inputs[i]; v.Type == Undefined {
				v.Type, v.Shape = t, Shape{}
			}
		}
		for k, v := range start {
			in := g.Inputs[2+k]
			in.Type, in.Shape, in.Content = v.Type, shapes[k], nil
		}
		if InferAll(g, opset) != nil {
			break
		}
		stable := true
		for k := range start {
			next := common(shapes[k], g.Outputs[1+k].Shape)
			stable = stable && fmt.Sprint(next) == fmt.Sprint(shapes[k]) && (next == nil) == (shapes[k] == nil)
			shapes[k] = next
		}
		if !stable {
			continue
		}
		for i, o := range n.Outputs {
			if o == nil {
				continue
			}
			x := g.Outputs[1+i]
			v := &Value{Name: o.Name, Type: x.Type}
			if i < len(start) {
				v.Type, v.Shape = start[i].Type, append(shapes[i][:0:0], shapes[i]...)
			} else if x.Shape != nil {
				v.Shape = append(Shape{UnknownDim}, x.Shape...)
			}
			if merge(v, o) == nil {
				o.Type, o.Shape = v.Type, v.Shape
			}
		}
		return
	}
	for v, old := range before {
		v.Type, v.Shape, v.Content = old.Type, old.Shape, old.Content
	}
}

// remember notes what is known of the values that a graph and its subgraphs define.
func remember(g *Graph, what map[*Value]Value) {
	for _, v := range g.Inputs {
		what[v] = *v
	}
	for _, n := range g.Nodes {
		for _, v := range n.Outputs {
			if v != nil {
				what[v] = *v
			}
		}
		for _, a := range n.Attrs {
			if a.G != nil {
				remember(a.G, what)
			}
		}
	}
}

// common is what two shapes agree on.
func common(a, b Shape) Shape {
	if a == nil || b == nil || len(a) != len(b) {
		return nil
	}
	out := append(Shape{}, a...)
	for i, d := range b {
		if !d.Same(a[i]) {
			out[i] = UnknownDim
		}
	}
	return out
}

// merge refines the inferred value v by what the file declared.
func merge(v, declared *Value) error {
	if declared.Type != Undefined && v.Type != Undefined && declared.Type != v.Type {
		return fmt.Errorf("output %s: declared %v, computed %v", v.Name, declared.Type, v.Type)
	}
	if v.Type == Undefined {
		v.Type = declared.Type
	}
	if declared.Shape == nil {
		return nil
	}
	if v.Shape == nil {
		v.Shape = declared.Shape
		return nil
	}
	if len(v.Shape) != len(declared.Shape) {
		return fmt.Errorf("output %s: declared shape %v, computed %v", v.Name, declared.Shape, v.Shape)
	}
	for i, d := range declared.Shape {
		switch {
		case v.Shape[i].Known() && d.Known() && v.Shape[i].N != d.N:
			return fmt.Errorf("output %s: declared shape %v, computed %v", v.Name, declared.Shape, v.Shape)
		case v.Shape[i].Known():
		case d.Known(), v.Shape[i].Name == "" && d.Name != "":
			v.Shape[i] = d
		}
	}
	return nil
}

// in returns input i, which must be present.
func (c *inferer) in(i int) (*Value, error) {
	if v := c.n.In(i); v != nil {
		return v, nil
	}
	return nil, fmt.Errorf("input %d is missing", i)
}

func (c *inferer) set(i int, t DType, s Shape) {
	if o := c.n.Out(i); o != nil {
		o.Type, o.Shape, o.Content = t, s, nil
	}
}

// ints returns constant integers from input i or, in older opsets, from the
// attribute of the given name. known is false if they are computed at run time;
// present is false if neither is there.
func (c *inferer) ints(i int, attr string) (v []int64, known, present bool) {
	if attr != "" {
		if a := c.n.Attr(attr); a != nil {
			if a.Kind == AttrInt {
				return []int64{a.I}, true, true
			}
			return a.Ints, true, true
		}
	}
	x := c.n.In(i)
	if x == nil {
		return nil, false, false
	}
	v, known = ConstInts(x)
	return v, known, true
}

// ConstInts returns the content of a constant integer value, or of one whose
// content is fully known by shape inference.
func ConstInts(x *Value) ([]int64, bool) {
	if x.Const != nil {
		v, err := x.Const.AsInts()
		return v, err == nil
	}
	if x.Content == nil {
		return nil, false
	}
	v := make([]int64, len(x.Content))
	for i, d := range x.Content {
		if !d.Known() {
			return nil, false
		}
		v[i] = d.N
	}
	return v, true
}

// NormAxis maps a negative axis and checks the range.
func NormAxis(a int64, rank int) (int, error) {
	k := a
	if k < 0 {
		k += int64(rank)
	}
	if k < 0 || k >= int64(rank) {
		return 0, fmt.Errorf("axis %d is outside rank %d", a, rank)
	}
	return int(k), nil
}

func normAxes(axes []int64, rank int) ([]bool, error) {
	set := make([]bool, rank)
	for _, a := range axes {
		k, err := NormAxis(a, rank)
		if err != nil {
			return nil, err
		}
		set[k] = true
	}
	return set, nil
}

// BroadcastDim is the axis that two axes broadcast to. Two symbolic axes that
// are not provably equal give an unknown axis: it is not their maximum.
func BroadcastDim(a, b Dim) (Dim, error) {
	switch {
	case a.Same(b):
		return a, nil
	case a.N == 1:
		return b, nil
	case b.N == 1:
		return a, nil
	case a.Known() && b.Known():
		return Dim{}, fmt.Errorf("sizes %v and %v do not broadcast", a, b)
	case a.Known():
		if a.N == 0 {
			return UnknownDim, nil
		}
		return a, nil
	case b.Known():
		if b.N == 0 {
			return UnknownDim, nil
		}
		return b, nil
	}
	return UnknownDim, nil
}

// Broadcast is the shape that the given shapes broadcast to, nil if a rank is unknown.
func Broadcast(shapes ...Shape) (Shape, error) {
	rank := 0
	for _, s := range shapes {
		if s == nil {
			return nil, nil
		}
		rank = max(rank, len(s))
	}
	out := make(Shape, rank)
	for i := range out {
		out[i] = D(1)
	}
	for _, s := range shapes {
		for i, d := range s {
			j := rank - len(s) + i
			m, err := BroadcastDim(out[j], d)
			if err != nil {
				return nil, fmt.Errorf("shapes %v: %w", shapes, err)
			}
			out[j] = m
		}
	}
	return out, nil
}

// unknownRank returns a shape of n unknown axes.
func unknownRank(n int) Shape {
	s := make(Shape, n)
	for i := range s {
		s[i] = UnknownDim
	}
	return s
}

// mul multiplies axes, symbolically where needed.
func mul(a, b Dim) Dim {
	switch {
	case a.Known() && b.Known():
		return Dim{N: a.N * b.N}
	case a.N == 1:
		return b
	case b.N == 1:
		return a
	case a.N == 0 || b.N == 0:
		return D(0)
	case a.Known() && b.Name != "":
		return Sym(fmt.Sprintf("%d*%s", a.N, paren(b.Name)))
	case b.Known() && a.Name != "":
		return Sym(fmt.Sprintf("%d*%s", b.N, paren(a.Name)))
	case a.Name != "" && b.Name != "":
		if a.Name > b.Name {
			a, b = b, a
		}
		return Sym(paren(a.Name) + "*" + paren(b.Name))
	}
	return UnknownDim
}

// affine is (a·d + b) / c rounded down (or up), symbolically where needed.
func affine(d Dim, a, b, c int64, ceil bool) Dim {
	if d.Known() {
		v := a*d.N + b
		if ceil {
			return Dim{N: floorDiv(v+c-1, c)}
		}
		return Dim{N: floorDiv(v, c)}
	}
	if d.Name == "" {
		return UnknownDim
	}
	s := d.Name
	if a == 1 {
		base, more := offset(s)
		s, b = base, b+more
		if b == 0 && c == 1 {
			return Sym(s)
		}
	}
	s = paren(s)
	if a != 1 {
		s = fmt.Sprintf("%d*%s", a, s)
	}
	if b != 0 {
		s = fmt.Sprintf("%s%+d", s, b)
	}
	if c != 1 {
		f := "floor"
		if ceil {
			f = "ceil"
		}
		s = fmt.Sprintf("%s(%s/%d)", f, paren(s), c)
	}
	if len(s) > 80 {
		return UnknownDim
	}
	return Sym(s)
}

// offset takes a number that is added to a size off its name.
func offset(s string) (base string, n int64) {
	i := strings.LastIndexAny(s, "+-")
	if i < 1 {
		return s, 0
	}
	n, err := strconv.ParseInt(s[i:], 10, 32)
	if base = s[:i]; err != nil || paren(base) != base {
		return s, 0
	}
	if base[0] == '(' && base[len(base)-1] == ')' {
		base = base[1 : len(base)-1]
	}
	base, more := offset(base)
	return base, n + more
}

// paren puts a compound name in parentheses.
func paren(s string) string {
	depth := 0
	for i, r := range s {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
			if depth == 0 && i == len(s)-1 {
				return s
			}
		case '+', '-', '*', '/':
			if depth == 0 {
				return "(" + s + ")"
			}
		}
	}
	return s
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

// Check verifies a whole graph: every input of a node is defined before it (or
// in an enclosing graph), no value is defined twice, names are unique, and
// shapes agree with the op table.
func Check(g *Graph) error { return check(g, map[*Value]bool{}) }

// check knows the values that are defined where g stands, and leaves them as they were.
func check(g *Graph, defined map[*Value]bool) error {
	var own []*Value
	defer func() {
		for _, v := range own {
			delete(defined, v)
		}
	}()
	names := map[string]*Value{}
	define := func(v *Value) error {
		if w := names[v.Name]; w != nil && w != v {
			return fmt.Errorf("graphs: two values are named %q", v.Name)
		}
		names[v.Name] = v
		if !defined[v] {
			defined[v] = true
			own = append(own, v)
		}
		return nil
	}
	for _, list := range [][]*Value{g.Inputs, g.Inits} {
		for _, v := range list {
			if err := define(v); err != nil {
				return err
			}
		}
	}
	for _, n := range g.Nodes {
		for i, v := range n.Inputs {
			if v != nil && !defined[v] {
				return fmt.Errorf("graphs: %w", &NodeError{Node: n, Err: fmt.Errorf("input %d (%q) is not defined before it", i, v.Name)})
			}
		}
		for _, a := range n.Attrs {
			for _, s := range append(append([]*Graph{}, a.Graphs...), a.G) {
				if s != nil {
					if err := check(s, defined); err != nil {
						return err
					}
				}
			}
		}
		for _, v := range n.Outputs {
			if v == nil {
				continue
			}
			if v.From != n {
				return fmt.Errorf("graphs: %w", &NodeError{Node: n, Err: fmt.Errorf("output %q does not point back to it", v.Name)})
			}
			if err := define(v); err != nil {
				return err
			}
		}
	}
	for _, v := range g.Outputs {
		if !defined[v] {
			return fmt.Errorf("graphs: output %q is never computed", v.Name)
		}
	}
	return nil
}
