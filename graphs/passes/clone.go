package passes

import (
	"slices"

	"ebmrun/graphs"
)

// Clone copies a model: nodes, values and functions are new, tensors shared.
func Clone(m *graphs.Model) *graphs.Model {
	c := *m
	c.Opsets = slices.Clone(m.Opsets)
	c.Metadata = slices.Clone(m.Metadata)
	if m.Graph != nil {
		c.Graph = CloneGraph(m.Graph)
	}
	c.Functions = nil
	for _, f := range m.Functions {
		d := *f
		d.Graph = CloneGraph(f.Graph)
		d.AttrNames = slices.Clone(f.AttrNames)
		d.AttrDefaults = newCopier().attrs(f.AttrDefaults)
		d.Opsets = slices.Clone(f.Opsets)
		d.Metadata = slices.Clone(f.Metadata)
		c.Functions = append(c.Functions, &d)
	}
	return &c
}

// CloneGraph copies a graph with its subgraphs: nodes and values are new,
// tensors shared. Values that a subgraph takes from outside stay what they are.
func CloneGraph(g *graphs.Graph) *graphs.Graph { return newCopier().graph(g) }

// A copier copies parts of a graph. Values it has not copied, such as those of
// an enclosing graph, stand for themselves; entries made in vals beforehand
// redirect them (to nil for an input that is left out).
type copier struct {
	vals  map[*graphs.Value]*graphs.Value
	name  func(string) string             // for values and nodes; nil keeps names
	shape func(graphs.Shape) graphs.Shape // nil keeps shapes
	attr  func(*graphs.Attr) *graphs.Attr // nil result drops the attribute; nil keeps all
}

func newCopier() *copier { return &copier{vals: map[*graphs.Value]*graphs.Value{}} }

// define copies a value unless that was done before.
func (c *copier) define(v *graphs.Value) *graphs.Value {
	if v == nil {
		return nil
	}
	if w, ok := c.vals[v]; ok {
		return w
	}
	w := *v
	w.From = nil
	w.Content = slices.Clone(v.Content)
	w.Shape = slices.Clone(v.Shape)
	if c.shape != nil {
		w.Shape, w.Content = c.shape(w.Shape), c.shape(w.Content)
	}
	if c.name != nil {
		w.Name = c.name(v.Name)
	}
	c.vals[v] = &w
	return &w
}

func (c *copier) use(v *graphs.Value) *graphs.Value {
	if w, ok := c.vals[v]; ok {
		return w
	}
	return v
}

func (c *copier) graph(g *graphs.Graph) *graphs.Graph {
	if g == nil {
		return nil
	}
	d := &graphs.Graph{Name: g.Name, Doc: g.Doc, Metadata: slices.Clone(g.Metadata), Wire: g.Wire}
	for _, v := range definitions(g) {
		c.define(v)
	}
	for _, n := range g.Nodes {
		d.Nodes = append(d.Nodes, c.node(n))
	}
	list := func(in []*graphs.Value) (out []*graphs.Value) {
		for _, v := range in {
			out = append(out, c.use(v))
		}
		return out
	}
	d.Inputs, d.Inits, d.Outputs = list(g.Inputs), list(g.Inits), list(g.Outputs)
	return d
}

func (c *copier) node(n *graphs.Node) *graphs.Node {
	m := *n
	m.Metadata = slices.Clone(n.Metadata)
	m.Inputs = make([]*graphs.Value, len(n.Inputs))
	for i, v := range n.Inputs {
		if v != nil {
			m.Inputs[i] = c.use(v)
		}
	}
	m.Outputs = make([]*graphs.Value, len(n.Outputs))
	for i, v := range n.Outputs {
		if w := c.define(v); w != nil {
			w.From = &m
			m.Outputs[i] = w
		}
	}
	if c.name != nil && n.Name != "" {
		// A node often has the name of what it makes; the copy keeps that.
		if i := slices.IndexFunc(n.Outputs, func(v *graphs.Value) bool { return v != nil && v.Name == n.Name }); i >= 0 {
			m.Name = m.Outputs[i].Name
		} else {
			m.Name = c.name(n.Name)
		}
	}
	m.Attrs = c.attrs(n.Attrs)
	return &m
}

func (c *copier) attrs(in []*graphs.Attr) []*graphs.Attr {
	var out []*graphs.Attr
	for _, a := range in {
		if c.attr != nil {
			if a = c.attr(a); a == nil {
				continue
			}
		}
		b := *a
		b.S, b.Floats, b.Ints = slices.Clone(a.S), slices.Clone(a.Floats), slices.Clone(a.Ints)
		b.Strings, b.Tensors = slices.Clone(a.Strings), slices.Clone(a.Tensors)
		b.G = c.graph(a.G)
		b.Graphs = nil
		for _, g := range a.Graphs {
			b.Graphs = append(b.Graphs, c.graph(g))
		}
		out = append(out, &b)
	}
	return out
}
