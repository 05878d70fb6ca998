package autodiff

import (
	"fmt"
	"math"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/graphs/refeval"
)

// maxUnrolled bounds the nodes that unrolling may add to a graph.
const maxUnrolled = 50000

// unroll writes out the control flow of a graph that is known beforehand: the
// branch that a constant condition takes, loops and scans of constant length.
// The rest stays as it is. budget holds the nodes that may still be added.
func unroll(g *graphs.Graph, budget *int) (changed bool, err error) {
	_, changed, err = rewrite(graphs.NewBuilder(g), func(n *graphs.Node) Lowering {
		if n.Domain != "" {
			return nil
		}
		u := map[string]func(u *unroller) []val{"If": (*unroller).branch, "Loop": (*unroller).loop, "Scan": (*unroller).scan}[n.Op]
		if u == nil {
			return nil
		}
		return func(b *graphs.Builder, n *graphs.Node) []val { return u(&unroller{b, n, budget}) }
	})
	return changed, err
}

type unroller struct {
	b      *graphs.Builder
	n      *graphs.Node
	budget *int
}

// body is the subgraph in the named attribute, nil if there is none.
func (u *unroller) body(attr string) *graphs.Graph {
	if a := u.n.Attr(attr); a != nil {
		return a.G
	}
	return nil
}

// copy inlines a body and returns what stands for its outputs, in order.
func (u *unroller) copy(g *graphs.Graph, in []val, prefix string) []val {
	if u.b.Err() != nil {
		return nil
	}
	given := map[string]val{}
	for i, v := range g.Inputs {
		given[v.Name] = in[i]
	}
	got, err := passes.Inline(u.b, g, given, prefix)
	if err != nil {
		u.b.Fail("%w", err)
		return nil
	}
	out := make([]val, len(g.Outputs))
	for i, v := range g.Outputs {
		out[i] = got[v.Name]
	}
	return out
}

// affordable takes the nodes of so many copies of a body from the budget.
func (u *unroller) affordable(g *graphs.Graph, copies int64) bool {
	cost := copies * int64(len(g.Nodes)+1)
	if copies > maxSteps || cost > int64(*u.budget) {
		return false
	}
	*u.budget -= int(cost)
	return true
}

// known is the content of a value that depends on constants only, nil otherwise.
func known(v val, depth int) *graphs.Tensor {
	switch {
	case v == nil || depth > 16:
		return nil
	case v.Const != nil:
		return v.Const
	case v.From == nil || len(v.From.Outputs) != 1 || v.From.Attr("body") != nil || v.From.Attr("then_branch") != nil:
		return nil
	}
	n := v.From
	if n.Op == "Constant" {
		t, err := graphs.ConstantTensor(n)
		if err != nil {
			return nil
		}
		return t
	}
	if ints, ok := graphs.ConstInts(v); ok && v.Type == graphs.Int64 && v.Rank() >= 0 && v.Rank() <= 1 {
		if v.Rank() == 0 {
			return graphs.Of(ints)
		}
		return graphs.Ints(ints...)
	}
	in := make([]*graphs.Tensor, len(n.Inputs))
	for i, x := range n.Inputs {
		if x == nil {
			continue
		}
		if in[i] = known(x, depth+1); in[i] == nil {
			return nil
		}
	}
	out, err := refeval.Eval(n, graphs.OpsetVersion, in)
	if err != nil {
		return nil
	}
	return out[0]
}

// number is the one integer or truth value in v.
func number(v val) (int64, bool) {
	t := known(v, 0)
	if t == nil || t.Len() != 1 {
		return 0, false
	}
	k, err := t.AsInts()
	if err != nil {
		return 0, false
	}
	return k[0], true
}

func (u *unroller) branch() []val {
	c, ok := number(u.n.In(0))
	name := "else_branch"
	if c != 0 {
		name = "then_branch"
	}
	g := u.body(name)
	if !ok || g == nil || len(g.Inputs) != 0 {
		return nil
	}
	return u.copy(g, nil, u.n.Label())
}

// loop copies the body until the trips are made or the condition, which must be
// known each time, fails.
func (u *unroller) loop() []val {
	g := u.body("body")
	trips := int64(math.MaxInt64)
	if m := u.n.In(0); m != nil {
		k, ok := number(m)
		if !ok {
			return nil
		}
		trips = k
	}
	going := int64(1)
	if c := u.n.In(1); c != nil {
		k, ok := number(c)
		if !ok {
			return nil
		}
		going = k
	}
	carried := append([]val{}, u.n.Inputs[min(2, len(u.n.Inputs)):]...)
	if g == nil || len(g.Inputs) != 2+len(carried) || len(g.Outputs) < 1+len(carried) {
		return nil
	}
	counted := trips <= maxSteps // otherwise the condition must end the loop
	if counted && !u.affordable(g, trips) {
		return nil
	}
	// A condition that turns out to be unknown takes everything back.
	before := *u.b.Target()
	undo := func() []val {
		t := u.b.Target()
		t.Nodes, t.Inits = before.Nodes, before.Inits
		return nil
	}
	scans := make([][]val, len(g.Outputs)-1-len(carried))
	for i := int64(0); going != 0 && i < trips; i++ {
		if !counted && (i == maxSteps || !u.affordable(g, 1)) {
			return undo()
		}
		in := append([]val{u.b.Const(graphs.Of([]int64{i})), u.b.Const(graphs.Of([]bool{true}))}, carried...)
		out := u.copy(g, in, fmt.Sprintf("%s/%d", u.n.Label(), i))
		if out == nil {
			return nil
		}
		ok := true
		if going, ok = number(out[0]); !ok {
			return undo()
		}
		copy(carried, out[1:])
		for j := range scans {
			scans[j] = append(scans[j], u.b.Unsqueeze(out[1+len(carried)+j], 0))
		}
	}
	for _, s := range scans {
		switch {
		case len(s) > 0:
			carried = append(carried, u.b.Concat(0, s...))
		case u.n.Out(len(carried)) == nil:
			carried = append(carried, nil)
		default: // an empty result of unknown shape
			return undo()
		}
	}
	return carried
}

func (u *unroller) scan() []val {
	g := u.body("body")
	m := int(u.n.Int("num_scan_inputs", 0))
	if g == nil || m < 1 || m > len(u.n.Inputs) || len(g.Inputs) != len(u.n.Inputs) {
		return nil
	}
	entry := func(attr string, i int) int64 {
		if v := u.n.Ints(attr); i < len(v) {
			return v[i]
		}
		return 0
	}
	state := append([]val{}, u.n.Inputs[:len(u.n.Inputs)-m]...)
	k := len(state)
	if len(g.Outputs) < k {
		return nil
	}
	axes := make([]int, m)
	length := int64(-1)
	for i, s := range u.n.Inputs[k:] {
		if s == nil || s.Shape == nil {
			return nil
		}
		a, err := graphs.NormAxis(entry("scan_input_axes", i), len(s.Shape))
		if err != nil || !s.Shape[a].Known() || length >= 0 && s.Shape[a].N != length {
			return nil
		}
		axes[i], length = a, s.Shape[a].N
	}
	if length < 1 || !u.affordable(g, length) {
		return nil
	}
	slices := make([][]val, m)
	for i, s := range u.n.Inputs[k:] {
		slices[i] = []val{s}
		if length > 1 {
			slices[i] = u.b.Ops("Split", int(length), []val{s}, graphs.I("axis", int64(axes[i])), graphs.I("num_outputs", length))
		}
	}
	scans := make([][]val, len(g.Outputs)-k)
	for t := range length {
		in := append([]val{}, state...)
		for i := range slices {
			at := t
			if entry("scan_input_directions", i) != 0 {
				at = length - 1 - t
			}
			in = append(in, u.b.Squeeze(slices[i][at], int64(axes[i])))
		}
		out := u.copy(g, in, fmt.Sprintf("%s/%d", u.n.Label(), t))
		if out == nil {
			return nil
		}
		copy(state, out[:k])
		for j := range scans {
			s := u.b.Unsqueeze(out[k+j], entry("scan_output_axes", j))
			if entry("scan_output_directions", j) != 0 {
				scans[j] = append([]val{s}, scans[j]...)
			} else {
				scans[j] = append(scans[j], s)
			}
		}
	}
	for j, s := range scans {
		state = append(state, u.b.Concat(entry("scan_output_axes", j), s...))
	}
	return state
}
