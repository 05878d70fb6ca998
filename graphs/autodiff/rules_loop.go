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
	b := l.b
	l.passes = l.made("passes", graphs.Int64, nil)
	count := b.Op("Size", []val{l.passes})
	p, err := l.redo(b.Sub(count, b.Const(graphs.Of([]int64{1}))))
	if err != nil {
		return nil, err
	}
	of, seeds, wrt := p.seeds(dy)
	for _, v := range captured(l.n) {
		if v != nil && b.active[v] && !slices.Contains(p.around, v) {
			p.around = append(p.around, v)
		}
	}
	if len(of) == 0 || p.c.Err() != nil {
		return nil, p.c.Err()
	}
	p.g.Outputs = append(p.g.Outputs, of...) // so that rewriting keeps track of them
	slopes, err := walkBack(p.c, of, seeds, append(wrt, p.around...), false)
	if err != nil {
		return nil, err
	}
	p.g.Inputs = slices.DeleteFunc(p.g.Inputs, func(v val) bool { return slices.Contains(p.state, v) })
	if err := l.states(p.g, p.pass, p.state); err != nil {
		return nil, err
	}
	if err := p.finish(slopes); err != nil {
		return nil, err
	}
	m := &graphs.Node{Name: l.name, Op: "Loop", Inputs: append([]val{count, nil}, p.first...), Attrs: []*graphs.Attr{graphs.G("body", p.g)}}
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

// A backPass is the body of the Loop that goes back: one pass done again, and its slopes.
type backPass struct {
	l      *looping
	g      *graphs.Graph
	c      *graphs.Builder // of g
	pass   val             // number of the pass that is done again
	going  val
	state  []val          // what that starts with
	copied map[string]val // values of the Loop's body by name
	around []val          // values around the Loop that may have slopes
	first  []val          // slopes that the way back starts with
}

func (p *backPass) input(name string, t graphs.DType, s graphs.Shape) val {
	return p.c.Input(fmt.Sprint(name, len(p.g.Inputs)), t, s) // like all in it, gets another name in the end
}

// redo does a pass again, from the number last to 0.
func (l *looping) redo(last val) (*backPass, error) {
	p := &backPass{l: l, g: &graphs.Graph{Name: l.body.Name}}
	p.c = graphs.NewBuilder(p.g)
	c, inputs := p.c, l.body.Inputs
	number := p.input("pass", graphs.Int64, graphs.Shape{})
	p.going = p.input("going", graphs.Bool, graphs.Shape{})
	p.pass = c.Sub(last, number)
	given := map[string]val{inputs[0].Name: p.pass, inputs[1].Name: c.Const(graphs.Of([]bool{true}))}
	// What the pass starts with stands for itself while slopes are made, so that none
	// goes on to what it comes from: that is for the next pass.
	for k, v := range inputs[2:] {
		p.state = append(p.state, p.input("carried", l.start[k].Type, v.Shape))
		given[v.Name] = p.state[k]
	}
	for _, v := range inputs[:2] {
		if v.Rank() == 1 {
			given[v.Name] = c.Unsqueeze(given[v.Name], 0)
		}
	}
	if c.Err() != nil {
		return nil, c.Err()
	}
	var err error
	p.copied, err = passes.Inline(c, l.body, given, "")
	return p, err
}

// seeds gives what slopes are taken of, those it comes with, and what they are taken in, of the
// carried values; dy are the slopes of the Loop's outputs.
func (p *backPass) seeds(dy []val) (of, seeds, wrt []val) {
	l, b, n := p.l, p.l.b, p.l.n
	for k, v := range p.state {
		if !v.Type.IsFloat() {
			continue
		}
		shape := l.body.Inputs[2+k].Shape
		l.floats, wrt = append(l.floats, k), append(wrt, v)
		of, seeds = append(of, p.copied[l.body.Outputs[1+k].Name]), append(seeds, p.input("slope", v.Type, shape))
		first := dy[k]
		if first == nil {
			if n.Outputs[k] == nil {
				n.Outputs[k] = &graphs.Value{Name: b.Target().Fresh(n.Label()), Type: l.start[k].Type, Shape: shape, From: n}
			}
			first = b.Zeros(n.Outputs[k])
		}
		p.first = append(p.first, first)
	}
	for j := l.carried; j < len(dy); j++ {
		if v := p.copied[l.body.Outputs[1+j].Name]; dy[j] != nil && v.Type.IsFloat() {
			of, seeds = append(of, v), append(seeds, p.c.Gather(dy[j], p.pass, 0))
		}
	}
	return of, seeds, wrt
}

// finish makes the outputs: the slopes of what is carried, and sums of those of what is around.
func (p *backPass) finish(slopes []val) error {
	l, g, c := p.l, p.g, p.c
	g.Outputs = []val{c.Identity(p.going)}
	output := func(v val) {
		if c.Err() == nil && (!slices.Contains(g.Nodes, v.From) || slices.Contains(g.Outputs, v)) {
			v = c.Identity(v) // an output is made by a node of its own
		}
		g.Outputs = append(g.Outputs, v)
	}
	for i, k := range l.floats {
		d := slopes[i]
		if d == nil {
			d = c.Zeros(p.state[k])
		}
		output(d)
	}
	for i, v := range p.around {
		if d := slopes[len(l.floats)+i]; d != nil {
			l.read, p.first = append(l.read, v), append(p.first, l.b.Zeros(v))
			output(c.Add(p.input("sum", v.Type, v.Shape), d))
		}
	}
	if c.Err() != nil {
		return c.Err()
	}
	if _, err := passes.Prune(g); err != nil {
		return err
	}
	renameAll(g, func(s string) string { return l.b.Target().Fresh(l.name + "/" + s) })
	return nil
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
