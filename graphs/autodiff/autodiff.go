package autodiff

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"ebmrun/graphs"
)

// ErrNoRule is wrapped by the error for an op that cannot be differentiated.
var ErrNoRule = errors.New("no gradient rule")

// A Rule appends the backward nodes of n: one slope per input, nil where none
// flows. dy holds one slope per output, already summed over its users; an entry
// is nil where no slope arrives (never all of them).
type Rule func(b *Back, n *graphs.Node, dy []*graphs.Value) []*graphs.Value

// rules is the gradient table. An op is in it, in lowerings, or not
// differentiable.
var rules = join(elementwiseRules(), layoutRules(), scatterRules(), reductionRules(), convolutionRules(), samplingRules())

func join(tables ...map[string]Rule) map[string]Rule {
	all := map[string]Rule{}
	for _, t := range tables {
		for op, r := range t {
			all[op] = r
		}
	}
	return all
}

// Ops lists the ops that can be differentiated, sorted. The value tells a rule
// from a lowering and from an op with slope zero everywhere.
func Ops() map[string]string {
	ops := map[string]string{}
	for op := range rules {
		ops[op] = "rule"
	}
	for op := range flat {
		ops[op] = "flat"
	}
	for op := range lowerings {
		ops[op] = "lowered"
	}
	return ops
}

// Back is the builder that rules write to.
type Back struct {
	*graphs.Builder
	wrt    []*graphs.Value // whose slopes are asked for
	active map[*graphs.Value]bool
	once   map[*graphs.Value]bool          // values that a single input of a single node reads
	copied map[*graphs.Value]*graphs.Value // what a value that is computed again is a copy of
	given  []grant                         // slopes of other values than a node's inputs: those that subgraphs read, or that made an input
}

// Wants reports whether a slope for input i of n is of any use.
func (b *Back) Wants(n *graphs.Node, i int) bool { return b.active[n.In(i)] }

// Refuse records that a node cannot be differentiated, with the reason.
func (b *Back) Refuse(n *graphs.Node, format string, args ...any) []*graphs.Value {
	b.Fail(format, args...)
	return make([]*graphs.Value, len(n.Inputs))
}

// A Source appends slopes to a graph as [Append] does.
type Source func(b *graphs.Builder, of, seed *graphs.Value, wrt ...*graphs.Value) ([]*graphs.Value, error)

var source atomic.Pointer[Source]

// Use has another source make the slopes of every later [Append] and [Grad] in
// this process, nil this package's rules again, and returns what was in use. It
// is for judging one source of gradients by another; graphs that the source
// makes may need an engine of its own.
func Use(s Source) (before Source) {
	var next, last *Source
	if s != nil {
		next = &s
	}
	if last = source.Swap(next); last == nil {
		return nil
	}
	return *last
}

// Append walks back from of, whose slope is seed (ones if nil: the sum of of is
// differentiated), and returns the slope of each value in wrt, nil where of
// does not depend on it. The nodes are appended to the builder's graph, which
// must hold ops of opset 21 with types and shapes inferred. Composite ops on
// the way are rewritten in place into primitives.
func Append(builder *graphs.Builder, of, seed *graphs.Value, wrt ...*graphs.Value) ([]*graphs.Value, error) {
	return appendSlopes(builder, of, seed, wrt, false)
}

// appendSlopes is [Append], with recomputation of the forward pass if asked for.
func appendSlopes(builder *graphs.Builder, of, seed *graphs.Value, wrt []*graphs.Value, recompute bool) ([]*graphs.Value, error) {
	if other := source.Load(); other != nil {
		if recompute {
			return nil, errors.New("autodiff: another source of gradients does not recompute")
		}
		return (*other)(builder, of, seed, wrt...)
	}
	return walkBack(builder, []*graphs.Value{of}, []*graphs.Value{seed}, wrt, recompute)
}

// walkBack is [appendSlopes] for several values, each with a slope of its own.
func walkBack(builder *graphs.Builder, all, seeds, wrt []*graphs.Value, recompute bool) ([]*graphs.Value, error) {
	g := builder.Target()
	for _, v := range slices.Concat(all, wrt) {
		if !v.Type.IsFloat() {
			return nil, fmt.Errorf("autodiff: %s is not of a float type", v)
		}
	}
	all, err := lower(builder, all, wrt)
	if err != nil {
		return nil, err
	}
	fail := func(n *graphs.Node, err error) ([]*graphs.Value, error) {
		return nil, fmt.Errorf("autodiff: d %s/d %s: %w", all[0].Name, wrt[0].Name, &graphs.NodeError{Node: n, Opset: graphs.OpsetVersion, Err: err})
	}
	b := &Back{Builder: builder, active: dependents(g, wrt), wrt: wrt, once: readOnce(g), copied: map[*graphs.Value]*graphs.Value{}}
	needed := ancestors(g, all...)
	for _, n := range g.Nodes {
		if n.Op == "QuantizeLinear" && b.active[n.In(0)] && needed[n.Out(0)] {
			return fail(n, errQuantized)
		}
	}
	slopes, err := b.start(all, seeds)
	if err != nil {
		return nil, err
	}
	nodes := slices.Clone(g.Nodes)
	var again *recomputer
	if recompute {
		again = newRecomputer(b, nodes, needed)
	}
	defer b.Prefix(b.Prefix(""))
	for i, n := range slices.Backward(nodes) {
		dy := b.arriving(n, slopes)
		if dy == nil || flat[n.Op] && !straightThrough(n) {
			continue
		}
		rule := ruleOf(n)
		if rule == nil {
			return fail(n, noRule(n))
		}
		b.Prefix("bwd/" + n.Label())
		dx := rule(b, again.node(n, i, dy), dy)
		if err := b.Err(); err != nil {
			if m := unknownBefore(n, b.active); m != nil {
				return fail(m, noRule(m))
			}
			return fail(n, err)
		}
		if err := b.add(n, dx, slopes); err != nil {
			return nil, err
		}
	}
	out := make([]*graphs.Value, len(wrt))
	for i, v := range wrt {
		out[i] = slopes[v]
	}
	return out, b.Err()
}

// start gives each value the slope that it starts with, ones for a nil seed.
func (b *Back) start(all, seeds []*graphs.Value) (map[*graphs.Value]*graphs.Value, error) {
	slopes := map[*graphs.Value]*graphs.Value{}
	for i, v := range all {
		seed := seeds[i]
		if seed == nil {
			seed = b.ones(v, b.wrt)
		} else if seed.Type != v.Type {
			return nil, fmt.Errorf("autodiff: the cotangent %s does not have the type of %s", seed, v)
		}
		if s := slopes[v]; s != nil {
			seed = b.Add(s, seed)
		}
		slopes[v] = seed
	}
	return slopes, nil
}

// arriving are the slopes of a node's outputs, nil if none arrives. What holds no
// element has none.
func (b *Back) arriving(n *graphs.Node, slopes map[*graphs.Value]*graphs.Value) (dy []*graphs.Value) {
	for j, o := range n.Outputs {
		if d := slopes[o]; d != nil && b.active[o] && !slices.Contains(o.Shape, graphs.D(0)) {
			if dy == nil {
				dy = make([]*graphs.Value, len(n.Outputs))
			}
			dy[j] = d
		}
	}
	return dy
}

// ruleOf is the rule of a node, nil if there is none.
func ruleOf(n *graphs.Node) Rule {
	switch {
	case isIf(n):
		return ifRule
	case isLoop(n):
		return loopRule
	case !graphs.Known(n):
		return nil
	}
	return rules[n.Op]
}

// add sums up what the rule of n gave: slopes of its inputs, and of other values.
func (b *Back) add(n *graphs.Node, dx []*graphs.Value, slopes map[*graphs.Value]*graphs.Value) error {
	if len(dx) > len(n.Inputs) {
		return fmt.Errorf("autodiff: rule of %s gives %d slopes for %d inputs", n.Op, len(dx), len(n.Inputs))
	}
	grants := b.given
	b.given = nil
	for j, d := range dx {
		grants = append(grants, grant{n.Inputs[j], d})
	}
	for _, more := range grants {
		x, d := more.to, more.slope
		if d == nil || !b.active[x] {
			continue
		}
		if err := fits(d, x); err != nil {
			return fmt.Errorf("autodiff: rule of %s, slope of %s at node %q: %w", n.Op, x.Name, n.Label(), err)
		}
		if s := slopes[x]; s != nil {
			d = b.Add(s, d)
			d.Shape = x.Shape
		}
		slopes[x] = d
	}
	return nil
}

// readOnce is the set of values that are read in one place only.
func readOnce(g *graphs.Graph) map[*graphs.Value]bool {
	once := map[*graphs.Value]bool{}
	read := func(values []*graphs.Value) {
		for _, v := range values {
			_, again := once[v]
			once[v] = !again
		}
	}
	for _, n := range g.Nodes {
		read(n.Inputs)
		read(captured(n))
	}
	read(g.Outputs)
	return once
}

// ones is 1 everywhere in the shape of a value. Where sizes are known at run time
// only they are read off the inputs, so that the value need not be computed.
func (b *Back) ones(v *graphs.Value, inputs []*graphs.Value) *graphs.Value {
	if v.Shape.Known() || v.Shape == nil {
		return b.Full(v, 1)
	}
	var parts []*graphs.Value
	for _, d := range v.Shape {
		part := (*graphs.Value)(nil)
		if d.Known() {
			part = b.Ints(d.N)
		}
		for _, x := range inputs {
			for k, e := range x.Shape {
				if part == nil && e.Same(d) {
					part = b.size(x, k)
				}
			}
		}
		if part == nil {
			return b.Full(v, 1)
		}
		parts = append(parts, part)
	}
	one, err := graphs.FromFloats(v.Type, []float64{1}, 1)
	if err != nil {
		return b.Fail("%w", err)
	}
	y := b.Op("ConstantOfShape", []*graphs.Value{b.Concat(0, parts...)}, graphs.T("value", one))
	y.Shape = v.Shape
	return y
}

var errQuantized = fmt.Errorf("%w: quantization is flat; ask for straight-through slopes to pass it", ErrNoRule)

// isIf reports whether a node is ONNX's If, which stands outside the op table.
func isIf(n *graphs.Node) bool { return n.Op == "If" && n.Domain == "" }

// isLoop reports whether a node is ONNX's Loop.
func isLoop(n *graphs.Node) bool { return n.Op == "Loop" && n.Domain == "" }

// noRule is [ErrNoRule] with what can be said about the node.
func noRule(n *graphs.Node) error {
	switch n.Op {
	case "Loop", "Scan":
		return fmt.Errorf("%w: the number of passes is known only at run time or too large to unroll", ErrNoRule)
	}
	return ErrNoRule
}

// unknownBefore is the op outside the table that makes an input of n, directly or
// through nodes whose types are not known for it, nil if there is none.
func unknownBefore(n *graphs.Node, active map[*graphs.Value]bool) *graphs.Node {
	for _, v := range n.Inputs {
		if v == nil || v.From == nil || v.Type != graphs.Undefined && v.Shape != nil || active != nil && !active[v] {
			continue
		}
		if !graphs.Known(v.From) {
			return v.From
		}
		if m := unknownBefore(v.From, active); m != nil {
			return m
		}
	}
	return nil
}

// fits checks that d can be the slope of x and gives it x's shape.
func fits(d, x *graphs.Value) error {
	if d.Type != x.Type {
		return fmt.Errorf("slope %s does not have the type of %s", d, x)
	}
	if d.Shape != nil && x.Shape != nil {
		if len(d.Shape) != len(x.Shape) {
			return fmt.Errorf("slope %s does not have the rank of %s", d, x)
		}
		for i := range d.Shape {
			if a, c := d.Shape[i], x.Shape[i]; a.Known() && c.Known() && a.N != c.N {
				return fmt.Errorf("slope %s does not have the shape of %s", d, x)
			}
		}
	}
	if d.From != nil && !d.Shape.Known() && x.Shape != nil && d.Const == nil {
		d.Shape = x.Shape
	}
	return nil
}

// dependents is the set of float values that depend on any of the given ones,
// and of all values that an unknown op makes of them.
func dependents(g *graphs.Graph, of []*graphs.Value) map[*graphs.Value]bool {
	set := map[*graphs.Value]bool{}
	for _, v := range of {
		set[v] = true
	}
	for _, n := range g.Nodes {
		hit := false
		for i, v := range n.Inputs {
			hit = hit || set[v] && !setting(n, i)
		}
		for _, v := range captured(n) {
			hit = hit || set[v]
		}
		if !hit {
			continue
		}
		// What an unknown op makes of a float may come back as one, whatever its type.
		unknown := !graphs.Known(n) && noRule(n) == ErrNoRule
		for _, o := range n.Outputs {
			if o != nil && (o.Type.IsFloat() || o.Type == graphs.Undefined || unknown) {
				set[o] = true
			}
		}
	}
	delete(set, nil)
	return set
}

// setting reports whether input i of a node only says how it works: no
// parameter of the function that it computes.
func setting(n *graphs.Node, i int) bool { return n.Op == "Resize" && (i == 1 || i == 2) }

// captured lists the values of the enclosing graph that the subgraphs of n use.
func captured(n *graphs.Node) []*graphs.Value {
	var out []*graphs.Value
	var walk func(g *graphs.Graph)
	walk = func(g *graphs.Graph) {
		for _, m := range g.Nodes {
			out = append(out, m.Inputs...)
			for _, a := range m.Attrs {
				if a.G != nil {
					walk(a.G)
				}
			}
		}
		out = append(out, g.Outputs...)
	}
	for _, a := range n.Attrs {
		if a.G != nil {
			walk(a.G)
		}
		for _, g := range a.Graphs {
			walk(g)
		}
	}
	return out
}

// A Problem says why a node stops a gradient.
type Problem struct {
	Node   *graphs.Node
	Reason string
}

// Problems lists the nodes between the float inputs and weights of a graph and
// its float outputs that cannot be differentiated, in graph order. A rule may
// still refuse a node for its attributes; [Grad] then says so.
func Problems(g *graphs.Graph) []Problem {
	var from []*graphs.Value
	for _, list := range [][]*graphs.Value{g.Inputs, g.Inits} {
		for _, v := range list {
			if v.Type.IsFloat() {
				from = append(from, v)
			}
		}
	}
	return problems(g, dependents(g, from))
}

// problems goes on inside subgraphs: around holds what depends on inputs or weights
// in the graphs around g.
func problems(g *graphs.Graph, around map[*graphs.Value]bool) []Problem {
	var from []*graphs.Value
	for v := range around {
		from = append(from, v)
	}
	active := dependents(g, from)
	var out []Problem
	for _, n := range g.Nodes {
		touched := false
		for _, o := range n.Outputs {
			touched = touched || active[o]
		}
		if n.Op == "QuantizeLinear" && active[n.In(0)] {
			out = append(out, Problem{n, errQuantized.Error()})
		}
		if !touched {
			continue
		}
		_, hasLowering := lowerings[n.Op]
		switch {
		case isIf(n), isLoop(n), isScan(n):
			for _, a := range n.Attrs {
				if a.G != nil {
					inside := maps.Clone(active)
					for _, v := range a.G.Inputs {
						inside[v] = true
					}
					out = append(out, problems(a.G, inside)...)
				}
			}
		case !graphs.Known(n):
			out = append(out, Problem{n, (&graphs.UnknownOpError{Op: n.Op, Domain: n.Domain}).Error()})
		case n.Op == "Dropout" && n.In(2) != nil, n.Op == "BatchNormalization" && n.Int("training_mode", 0) != 0:
			out = append(out, Problem{n, "training mode has no gradient; export the model in evaluation mode"})
		case rules[n.Op] == nil && !flat[n.Op] && !hasLowering:
			out = append(out, Problem{n, noRule(n).Error()})
		}
	}
	return out
}
