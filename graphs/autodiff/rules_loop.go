package autodiff

import (
	"fmt"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
)

// loopRule goes back through a Loop of as many passes as run time makes it: another
// Loop of equally many, from the last one to the first. Each pass of it does one
// pass of the Loop again and carries the slopes of the carried values, and the sums of
// the slopes of what the body reads from around it.
//
// What a pass starts with is kept by the Loop, which gives it as further stacked
// outputs. Where it may change its size from pass to pass nothing can be stacked, and it is
// worked out again from the start.
func loopRule(b *Back, n *graphs.Node, dy []val) []val {
	a := n.Attr("body")
	start := n.Inputs[min(2, len(n.Inputs)):]
	if a == nil || a.G == nil || len(a.G.Inputs) != 2+len(start) || len(a.G.Outputs) < 1+len(start) {
		return b.Refuse(n, "its body does not fit its inputs")
	}
	for len(dy) < len(a.G.Outputs)-1 { // outputs that the node leaves out
		dy, n.Outputs = append(dy, nil), append(n.Outputs, nil)
	}
	l := &looping{b: b, n: n, body: a.G, start: start, carried: len(start), name: b.Target().Fresh("bwd/" + n.Label())}
	back, err := l.back(dy)
	if err != nil {
		return b.Refuse(n, "body: %w", err)
	}
	l.keep(back)
	slopes := make([]val, len(n.Inputs))
	for i, d := range back.Outputs {
		if i < len(l.floats) {
			slopes[2+l.floats[i]] = d
		} else {
			b.give(l.read[i-len(l.floats)], d)
		}
	}
	return slopes
}

// A looping is a Loop on the way back.
type looping struct {
	b       *Back
	n       *graphs.Node
	body    *graphs.Graph
	start   []val
	carried int
	name    string
	floats  []int // carried values that have slopes
	read    []val // values around the body that have
	passes  val   // the numbers of the passes, stacked
	stacks  []val // what each pass starts with, stacked; nil where that cannot be
}

// made is a new output of the Loop.
func (l *looping) made(name string, t graphs.DType, s graphs.Shape) val {
	return &graphs.Value{Name: l.b.Target().Fresh(l.n.Label() + "/" + name), Type: t, Shape: append(graphs.Shape{graphs.UnknownDim}, s...), From: l.n}
}

// steady reports whether no pass changes the sizes of what is carried: the body, read
// with those that the Loop starts with, gives them again.
func (l *looping) steady() bool {
	for k, v := range l.body.Inputs[2:] {
		if out := l.body.Outputs[1+k]; v.Shape == nil || !out.Shape.Same(v.Shape) || !v.Shape.Same(l.start[k].Shape) {
			return false
		}
	}
	return true
}

// back appends the Loop that goes back.
func (l *looping) back(dy []val) (*graphs.Node, error) {
	b, n := l.b, l.n
	l.passes = l.made("passes", graphs.Int64, nil)
	count := b.Op("Size", []val{l.passes})
	last := b.Sub(count, b.Const(graphs.Of([]int64{1})))

	g := &graphs.Graph{Name: l.body.Name}
	c := graphs.NewBuilder(g)
	input := func(name string, t graphs.DType, s graphs.Shape) val {
		return c.Input(fmt.Sprint(name, len(g.Inputs)), t, s) // like all in it, gets another name in the end
	}
	number, going := input("pass", graphs.Int64, graphs.Shape{}), input("going", graphs.Bool, graphs.Shape{})
	pass := c.Sub(last, number)
	// What the pass starts with stands for itself while slopes are made, so that none
	// goes on to what it comes from: that is for the next pass.
	state := make([]val, l.carried)
	for k, v := range l.body.Inputs[2:] {
		state[k] = input("carried", l.start[k].Type, v.Shape)
	}
	given := map[string]val{l.body.Inputs[0].Name: pass, l.body.Inputs[1].Name: c.Const(graphs.Of([]bool{true}))}
	for i, v := range l.body.Inputs[:2] {
		if v.Rank() == 1 {
			given[v.Name] = c.Unsqueeze(given[l.body.Inputs[i].Name], 0)
		}
	}
	for k, v := range state {
		given[l.body.Inputs[2+k].Name] = v
	}
	if c.Err() != nil {
		return nil, c.Err()
	}
	copied, err := passes.Inline(c, l.body, given, "")
	if err != nil {
		return nil, err
	}
	var of, seeds, wrt, first []val // first: slopes that the way back starts with
	for k, v := range state {
		if !v.Type.IsFloat() {
			continue
		}
		d := input("slope", v.Type, l.body.Inputs[2+k].Shape)
		l.floats, wrt = append(l.floats, k), append(wrt, v)
		of, seeds = append(of, copied[l.body.Outputs[1+k].Name]), append(seeds, d)
		if dy[k] == nil {
			if n.Outputs[k] == nil {
				n.Outputs[k] = &graphs.Value{Name: b.Target().Fresh(n.Label()), Type: l.start[k].Type, Shape: l.body.Inputs[2+k].Shape, From: n}
			}
			first = append(first, b.Zeros(n.Outputs[k]))
		} else {
			first = append(first, dy[k])
		}
	}
	for j := l.carried; j < len(dy); j++ {
		if v := copied[l.body.Outputs[1+j].Name]; dy[j] != nil && v.Type.IsFloat() {
			of, seeds = append(of, v), append(seeds, c.Gather(dy[j], pass, 0))
		}
	}
	var around []val
	for _, v := range captured(n) {
		if v != nil && b.active[v] && !slices.Contains(around, v) {
			around = append(around, v)
		}
	}
	if len(of) == 0 || c.Err() != nil {
		return nil, c.Err()
	}
	g.Outputs = append(g.Outputs, of...) // so that rewriting keeps track of them
	slopes, err := walkBack(c, of, seeds, append(wrt, around...), false)
	if err != nil {
		return nil, err
	}
	g.Inputs = slices.DeleteFunc(g.Inputs, func(v val) bool { return slices.Contains(state, v) })
	if err := l.states(g, pass, state); err != nil {
		return nil, err
	}
	g.Outputs = []val{c.Identity(going)}
	output := func(v val) {
		if c.Err() == nil && (!slices.Contains(g.Nodes, v.From) || slices.Contains(g.Outputs, v)) {
			v = c.Identity(v) // an output is made by a node of its own
		}
		g.Outputs = append(g.Outputs, v)
	}
	for i, k := range l.floats {
		d := slopes[i]
		if d == nil {
			d = c.Zeros(state[k])
		}
		output(d)
	}
	for i, v := range around {
		d := slopes[len(l.floats)+i]
		if d == nil {
			continue
		}
		l.read, first = append(l.read, v), append(first, b.Zeros(v))
		output(c.Add(input("sum", v.Type, v.Shape), d))
	}
	if c.Err() != nil {
		return nil, c.Err()
	}
	if _, err := passes.Prune(g); err != nil {
		return nil, err
	}
	renameAll(g, func(s string) string { return b.Target().Fresh(l.name + "/" + s) })
	m := &graphs.Node{Name: l.name, Op: "Loop", Inputs: append([]val{count, nil}, first...), Attrs: []*graphs.Attr{graphs.G("body", g)}}
	result := func(v val, s graphs.Shape) {
		m.Outputs = append(m.Outputs, &graphs.Value{Name: b.Target().Fresh(l.name + "/" + v.Name), Type: v.Type, Shape: s, From: m})
	}
	for _, k := range l.floats {
		result(l.start[k], l.start[k].Shape)
	}
	for _, v := range l.read {
		result(v, v.Shape)
	}
	b.Append(m, graphs.OpsetVersion)
	return m, b.Err()
}

// states puts in front of a graph, behind the node that makes the number of the pass,
// what makes the carried values that the pass starts with.
func (l *looping) states(g *graphs.Graph, pass val, state []val) error {
	if l.carried == 0 {
		return nil
	}
	var made []*graphs.Node
	l.stacks = make([]val, l.carried)
	if l.steady() {
		for k, v := range l.start {
			l.stacks[k] = l.made("carried", v.Type, v.Shape)
			made = append(made, &graphs.Node{Name: g.Fresh("carried"), Op: "Gather", Inputs: []val{l.stacks[k], pass}, Outputs: []val{state[k]}})
			state[k].From = made[k]
		}
	} else {
		again, err := l.again(pass, state)
		if err != nil {
			return err
		}
		made = append(made, again)
	}
	g.Nodes = slices.Insert(g.Nodes, slices.Index(g.Nodes, pass.From)+1, made...)
	return nil
}

// again is the Loop up to a pass, without what it stacks.
func (l *looping) again(pass val, state []val) (*graphs.Node, error) {
	h := &graphs.Graph{Name: l.body.Name}
	c := graphs.NewBuilder(h)
	fresh := func(s string) string { return l.b.Target().Fresh(l.name + "/again/" + s) }
	given := map[string]val{}
	for _, v := range l.body.Inputs {
		given[v.Name] = c.Input(v.Name, v.Type, v.Shape)
	}
	copied, err := passes.Inline(c, l.body, given, "")
	if err != nil {
		return nil, err
	}
	for _, v := range l.body.Outputs[:1+l.carried] {
		w := copied[v.Name]
		if !slices.Contains(h.Nodes, w.From) || slices.Contains(h.Outputs, w) {
			w = c.Identity(w)
		}
		h.Outputs = append(h.Outputs, w)
	}
	if c.Err() != nil {
		return nil, c.Err()
	}
	if _, err := passes.Prune(h); err != nil {
		return nil, err
	}
	renameAll(h, fresh)
	m := &graphs.Node{Name: fresh(l.n.Label()), Op: "Loop", Inputs: append([]val{pass, nil}, l.start...), Outputs: slices.Clone(state), Attrs: []*graphs.Attr{graphs.G("body", h)}}
	for _, v := range state {
		v.From = m
	}
	return m, nil
}

// keep has the Loop give what the way back reads.
func (l *looping) keep(back *graphs.Node) {
	n, g := l.n, l.body
	sub := &graphs.Graph{Name: g.Name, Doc: g.Doc, Nodes: slices.Clone(g.Nodes), Inputs: g.Inputs, Outputs: slices.Clone(g.Outputs), Inits: g.Inits, Metadata: g.Metadata, Wire: g.Wire}
	used := map[val]bool{l.passes: true}
	for _, v := range captured(back) {
		used[v] = true
	}
	for i, stack := range append([]val{l.passes}, l.stacks...) {
		if stack == nil || !used[stack] {
			continue
		}
		from := g.Inputs[0]
		if i > 0 {
			from = g.Inputs[1+i]
		}
		m := &graphs.Node{Name: l.b.Target().Fresh(stack.Name + "/Identity"), Op: "Identity", Inputs: []val{from}}
		shape := stack.Shape[1:]
		if i == 0 && from.Rank() == 1 { // some exporters number passes by a vector of length 1
			m.Op, m.Inputs = "ReduceSum", []val{from}
			m.Attrs = []*graphs.Attr{graphs.I("keepdims", 0)}
		}
		m.Outputs = []val{{Name: l.b.Target().Fresh(stack.Name + "/one"), Type: stack.Type, Shape: shape, From: m}}
		sub.Nodes, sub.Outputs = append(sub.Nodes, m), append(sub.Outputs, m.Outputs[0])
		n.Outputs = append(n.Outputs, stack)
	}
	attrs := slices.Clone(n.Attrs)
	for i, a := range attrs {
		if a.Name == "body" {
			attrs[i] = graphs.G("body", sub)
		}
	}
	n.Attrs = attrs
}
