package passes

import (
	"slices"

	"ebmrun/graphs"
)

// Simplify removes nodes that provably do nothing (Identity, x·1, x+0, x^1,
// inference-mode Dropout, Cast to the same type, Reshape, Expand, Slice and the
// like to the same shape, Where on a constant condition, reductions over no axes
// or over axes of size 1) and merges pairs (Transpose of Transpose, Reshape of
// Reshape, Neg of Neg). Then it prunes. Values must have their types and shapes,
// as after [Reinfer]; outputs keep their names, types and shapes. Weights are
// never taken for the constants they now hold (see [IsWeight]). Subgraphs are
// simplified too.
//
// A zero added to −0 is dropped, although the sum is +0.
func Simplify(g *graphs.Graph) (changed bool, err error) {
	s := &simplifier{uses: map[*graphs.Value]int{}, same: map[*graphs.Value]*graphs.Value{}}
	each(g, func(sub *graphs.Graph) error {
		s.inputs = append(s.inputs, sub.Inputs...)
		for _, v := range sub.Outputs {
			s.uses[v]++
		}
		for _, n := range sub.Nodes {
			for _, v := range n.Inputs {
				s.uses[v]++
			}
		}
		return nil
	})
	if err := s.graph(g); err != nil {
		return s.changed, err
	}
	if s.changed {
		_, err = Prune(g)
	}
	return s.changed, err
}

type simplifier struct {
	inputs  []*graphs.Value
	uses    map[*graphs.Value]int
	same    map[*graphs.Value]*graphs.Value // a value and what stands for it
	changed bool
}

// to follows replacements to their end.
func (s *simplifier) to(v *graphs.Value) *graphs.Value {
	for s.same[v] != nil {
		v = s.same[v]
	}
	return v
}

func (s *simplifier) graph(g *graphs.Graph) error {
	own := map[*graphs.Node]bool{} // nodes kept so far
	nodes := g.Nodes[:0:0]
	for _, n := range g.Nodes {
		redirect(n, s.to)
		for _, sub := range subgraphs(n) {
			if err := s.graph(sub); err != nil {
				return err
			}
		}
		if x := s.rewrite(n); x != nil && s.replace(g, own, n, x) {
			s.changed = true
			continue
		}
		own[n] = true
		nodes = append(nodes, n)
	}
	g.Nodes = nodes
	return nil
}

// replace lets x stand for the output of n and reports whether n can go. The
// output of a graph keeps its name: x takes it over if a node of the same graph
// makes x and x is no output itself; otherwise n becomes an Identity.
func (s *simplifier) replace(g *graphs.Graph, own map[*graphs.Node]bool, n *graphs.Node, x *graphs.Value) bool {
	y := n.Outputs[0]
	if x.From != nil {
		x.Shape = refine(x.Shape, y.Shape)
		if x.Type == graphs.Undefined {
			x.Type = y.Type
		}
	}
	if !slices.Contains(g.Outputs, y) {
		s.same[y] = x
		return true
	}
	if x.From == nil || !own[x.From] || x.Const != nil || slices.Contains(g.Outputs, x) {
		if n.Op != "Identity" {
			n.Op, n.Domain, n.Attrs, n.Inputs, n.Outputs = "Identity", "", nil, []*graphs.Value{x}, n.Outputs[:1]
			s.changed = true
		}
		return false
	}
	x.Name, x.Doc, x.Shape = y.Name, y.Doc, y.Shape
	for i, o := range g.Outputs {
		if o == y {
			g.Outputs[i] = x
		}
	}
	s.same[y] = x
	return true
}

// refine fills in axes of s that t knows more about; the shapes are of one value.
func refine(s, t graphs.Shape) graphs.Shape {
	if len(s) != len(t) || s == nil {
		return t
	}
	s = slices.Clone(s)
	for i, d := range s {
		if !d.Known() && (t[i].Known() || d.Name == "") {
			s[i] = t[i]
		}
	}
	return s
}

// rewrite returns the value that the node's only used output equals, nil if
// there is none. It may change the node to an equal one that reads from further
// up.
func (s *simplifier) rewrite(n *graphs.Node) *graphs.Value {
	x := n.In(0)
	if n.Domain != "" && n.Domain != "ai.onnx" || x == nil || n.Out(0) == nil || len(n.Outputs) > 1 && n.Op != "Dropout" {
		return nil
	}
	y := n.Outputs[0]
	unchanged := x.Type == y.Type && x.Shape.Same(y.Shape)
	switch n.Op {
	case "Identity":
		return x
	case "Sum", "Max", "Min", "Mean", "Concat":
		if len(n.Inputs) == 1 {
			return x
		}
	case "Dropout":
		if !training(n) && (n.Out(1) == nil || s.uses[n.Out(1)] == 0) {
			return x
		}
	case "Cast", "CastLike":
		if x.Type == y.Type && x.Type != graphs.Undefined {
			return x
		}
	case "Mul":
		return s.neutral(n, 1, true)
	case "Add":
		return s.neutral(n, 0, true)
	case "Div", "Pow":
		return s.neutral(n, 1, false)
	case "Sub":
		return s.neutral(n, 0, false)
	case "Neg", "Not":
		if x.From != nil && x.From.Op == n.Op && x.From.Domain == n.Domain {
			return x.From.In(0)
		}
	case "Expand", "Flatten", "Squeeze", "Unsqueeze", "Tile":
		if unchanged {
			return x
		}
	case "Reshape":
		if unchanged {
			return x
		}
		if x = s.reshape(n); x.Shape.Same(y.Shape) {
			return x
		}
	case "Slice":
		if unchanged {
			if p, err := graphs.Slices(n, len(x.Shape)); err == nil && p.Known && all(p.Steps, 1) {
				return x
			}
		}
	case "Pad":
		if begin, end, ok, err := graphs.Pads(n, x.Rank()); x.Rank() >= 0 && err == nil && ok && all(begin, 0) && all(end, 0) {
			return x
		}
	case "Transpose":
		return s.transpose(n)
	case "Where":
		return s.where(n)
	case "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd":
		// With the shape kept, no axis is reduced but such of size 1.
		if unchanged {
			return x
		}
	}
	return nil
}

func all(v []int64, want int64) bool {
	return !slices.ContainsFunc(v, func(x int64) bool { return x != want })
}

// constant reports whether v holds a constant that nothing can change.
func (s *simplifier) constant(v *graphs.Value) bool {
	return v != nil && v.Const != nil && !IsWeight(v) && !slices.Contains(s.inputs, v)
}

// neutral finds the operand x of x∘c where c is all neutral and x keeps its
// shape; with either set, c∘x too.
func (s *simplifier) neutral(n *graphs.Node, element float64, either bool) *graphs.Value {
	if len(n.Inputs) != 2 || n.Inputs[1] == nil {
		return nil
	}
	y := n.Outputs[0]
	try := func(x, c *graphs.Value) bool {
		if !s.constant(c) || x.Type != y.Type {
			return false
		}
		// A single element of no more axes leaves any shape as it is.
		if !x.Shape.Same(y.Shape) && (c.Const.Len() != 1 || x.Rank() < len(c.Const.Dims)) {
			return false
		}
		v, err := c.Const.AsFloats()
		return err == nil && !slices.ContainsFunc(v, func(f float64) bool { return f != element })
	}
	switch {
	case try(n.Inputs[0], n.Inputs[1]):
		return n.Inputs[0]
	case either && try(n.Inputs[1], n.Inputs[0]):
		return n.Inputs[1]
	}
	return nil
}

// where finds the branch that a constant condition always takes, if it has the
// shape of the result.
func (s *simplifier) where(n *graphs.Node) *graphs.Value {
	if len(n.Inputs) != 3 || !s.constant(n.Inputs[0]) || n.Inputs[0].Const.Type != graphs.Bool {
		return nil
	}
	cond, err := n.Inputs[0].Const.AsInts()
	if err != nil || len(cond) == 0 || !all(cond, cond[0]) {
		return nil
	}
	x := n.Inputs[2-cond[0]]
	if x == nil || !x.Shape.Same(n.Outputs[0].Shape) {
		return nil
	}
	return x
}

// transpose merges a Transpose with one before it and drops one that permutes
// nothing.
func (s *simplifier) transpose(n *graphs.Node) *graphs.Value {
	x := n.Inputs[0]
	rank := x.Rank()
	if rank < 0 {
		return nil
	}
	perm := graphs.Perm(n, rank)
	if len(perm) != rank {
		return nil
	}
	if p := x.From; p != nil && p.Op == "Transpose" && p.Domain == "" && p.In(0).Rank() == rank {
		inner := graphs.Perm(p, rank)
		merged := make([]int64, rank)
		for i, a := range perm {
			merged[i] = inner[a]
		}
		x, perm = p.Inputs[0], merged
		n.Inputs, n.Attrs = []*graphs.Value{x}, []*graphs.Attr{graphs.IntsAttr("perm", perm...)}
		s.changed = true
	}
	for i, a := range perm {
		if int64(i) != a {
			return nil
		}
	}
	return x
}

// reshape lets a Reshape to fixed sizes read past one that only reshapes, and
// returns what it reads. A size of 0 copies an axis of the operand, so such a
// node stays.
func (s *simplifier) reshape(n *graphs.Node) *graphs.Value {
	x, shape := n.Inputs[0], n.In(1)
	if x.From == nil || x.From.Domain != "" || x.From.In(0) == nil || !s.constant(shape) {
		return x
	}
	switch x.From.Op {
	case "Reshape", "Flatten", "Squeeze", "Unsqueeze":
	default:
		return x
	}
	if v, err := shape.Const.AsInts(); err != nil || slices.Contains(v, 0) {
		return x
	}
	n.Inputs = []*graphs.Value{x.From.Inputs[0], shape}
	s.changed = true
	return n.Inputs[0]
}
