package autodiff

import (
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
)

// give adds a slope to a value that the node at hand reads from inside a subgraph.
func (b *Back) give(v, d val) { b.given = append(b.given, grant{v, d}) }

type grant struct{ to, slope val }

// ifRule: the branch that was taken is computed again, and its slopes in what it
// reads from around it are those of the If: another If with the same condition,
// whose branches give the slopes of both.
func ifRule(b *Back, n *graphs.Node, dy []val) []val {
	var wanted []val
	for _, v := range captured(n) {
		if v != nil && b.active[v] && !slices.Contains(wanted, v) {
			wanted = append(wanted, v)
		}
	}
	m := &graphs.Node{Name: b.Target().Fresh("bwd/" + n.Label()), Op: "If", Inputs: n.Inputs[:1]}
	for _, name := range []string{"then_branch", "else_branch"} {
		a := n.Attr(name)
		if a == nil || a.G == nil {
			return b.Refuse(n, "%s is missing", name)
		}
		sub, err := branchSlopes(a.G, dy, wanted)
		if err != nil {
			return b.Refuse(n, "%s: %w", name, err)
		}
		renameAll(sub, func(s string) string { return b.Target().Fresh(m.Name + "/" + name + "/" + s) })
		m.Attrs = append(m.Attrs, graphs.G(name, sub))
	}
	for _, v := range wanted {
		d := &graphs.Value{Name: b.Target().Fresh(m.Name + "/" + v.Name), Type: v.Type, Shape: v.Shape, From: m}
		m.Outputs = append(m.Outputs, d)
		b.give(v, d)
	}
	b.Append(m, graphs.OpsetVersion)
	return nil
}

// branchSlopes is a graph that computes a branch again and gives the slope of each
// wanted value, for the slopes dy of the branch's outputs.
func branchSlopes(branch *graphs.Graph, dy, wanted []val) (*graphs.Graph, error) {
	g := &graphs.Graph{Name: branch.Name}
	b := graphs.NewBuilder(g)
	copied, err := passes.Inline(b, branch, nil, "")
	if err != nil {
		return nil, err
	}
	for _, v := range branch.Outputs {
		g.Outputs = append(g.Outputs, copied[v.Name])
	}
	slopes := make([]val, len(wanted))
	for j, d := range dy {
		if d == nil || !g.Outputs[j].Type.IsFloat() {
			continue
		}
		more, err := appendSlopes(b, g.Outputs[j], d, wanted, false)
		if err != nil {
			return nil, err
		}
		for i, s := range more {
			if slopes[i] != nil && s != nil {
				s = b.Add(slopes[i], s)
			}
			if s != nil {
				slopes[i] = s
			}
		}
	}
	g.Outputs = nil
	for i, s := range slopes {
		if s == nil {
			s = b.Zeros(wanted[i])
		}
		if !slices.Contains(g.Nodes, s.From) || slices.Contains(g.Outputs, s) {
			s = b.Identity(s) // an output is made by a node of its own
		}
		if b.Err() != nil {
			return nil, b.Err()
		}
		g.Outputs = append(g.Outputs, s)
	}
	_, err = passes.Prune(g)
	return g, err
}

// renameAll gives everything that a graph defines another name: what is inside a
// node may not bear the names of what is around it.
func renameAll(g *graphs.Graph, fresh func(string) string) {
	for _, v := range slices.Concat(g.Inputs, g.Inits) {
		v.Name = fresh(v.Name)
	}
	for _, n := range g.Nodes {
		old := n.Label()
		for _, v := range n.Outputs {
			if v != nil {
				v.Name = fresh(v.Name)
			}
		}
		n.Name = fresh(old)
		for _, a := range n.Attrs {
			for _, sub := range append(append([]*graphs.Graph{}, a.Graphs...), a.G) {
				if sub != nil {
					renameAll(sub, fresh)
				}
			}
		}
	}
}
