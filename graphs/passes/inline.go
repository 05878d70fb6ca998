package passes

import (
	"fmt"
	"strings"

	"ebmrun/graphs"
)

// Inline appends a copy of g to the graph that b builds, reading the given
// values in place of g's inputs, and returns what stands for g's outputs, by
// name. Node and value names get the prefix and a slash (none if it is empty).
//
// Initializers keep their names where those are free, and are shared with an
// earlier copy: inlining a graph k times unrolls it over one set of weights.
// An input with a default may be left out; any other input must be given, with
// the declared type and, where both are known, the declared sizes. Symbolic axes
// of g become those of the given values. Both graphs are of the opset this
// module works with. g is not changed and is safe for concurrent use.
func Inline(b *graphs.Builder, g *graphs.Graph, inputs map[string]*graphs.Value, prefix string) (map[string]*graphs.Value, error) {
	t := b.Target()
	return inline(b, g, inputs, func(name string) string {
		if prefix != "" {
			name = prefix + "/" + name
		}
		return t.Fresh(name)
	})
}

func inline(b *graphs.Builder, g *graphs.Graph, inputs map[string]*graphs.Value, name func(string) string) (map[string]*graphs.Value, error) {
	if err := b.Err(); err != nil {
		return nil, err
	}
	t := b.Target()
	where := func(err error) error { return fmt.Errorf("passes: inline %q: %w", g.Name, err) }
	for in := range inputs {
		if g.Input(in) == nil {
			return nil, where(fmt.Errorf("no input %q", in))
		}
	}
	c := newCopier()
	c.name = name
	axes := bind(g, inputs)
	c.shape = func(s graphs.Shape) graphs.Shape { return substitute(s, axes, true) }
	for _, v := range g.Inputs {
		x := inputs[v.Name]
		if x == nil {
			if v.Const == nil {
				return nil, where(fmt.Errorf("input %q is not given", v.Name))
			}
			continue
		}
		if x.Type != v.Type && v.Type != graphs.Undefined && x.Type != graphs.Undefined || !accepts(v.Shape, x.Shape) {
			return nil, where(fmt.Errorf("input %q: wanted %v%v, got %s", v.Name, v.Type, v.Shape, x))
		}
		c.vals[v] = x
	}
	shared := map[*graphs.Tensor][]*graphs.Value{}
	for _, v := range g.Inits {
		shared[v.Const] = nil
	}
	for _, v := range t.Inits {
		if same, ok := shared[v.Const]; ok {
			shared[v.Const] = append(same, v)
		}
	}
	for _, v := range t.Inputs {
		delete(shared, v.Const) // a default is not a constant
	}
	for _, v := range g.Inits {
		if c.vals[v] != nil {
			continue
		}
		for _, w := range shared[v.Const] {
			if !IsWeight(v) || w.Name == v.Name || strings.HasSuffix(w.Name, "/"+v.Name) {
				c.vals[v] = w
			}
		}
		if c.vals[v] != nil {
			continue
		}
		w := *v
		if w.Name = t.Fresh(v.Name); w.Name != v.Name {
			w.Name = name(v.Name)
		}
		if err := inferInits(&w); err != nil {
			return nil, where(err)
		}
		t.Inits = append(t.Inits, &w)
		c.vals[v] = &w
	}
	for _, n := range g.Nodes {
		m := c.node(n)
		if err := inferNode(m, graphs.OpsetVersion); err != nil {
			return nil, where(err)
		}
		t.Nodes = append(t.Nodes, m)
	}
	outputs := map[string]*graphs.Value{}
	for _, v := range g.Outputs {
		outputs[v.Name] = c.use(v)
	}
	return outputs, nil
}

// bind maps the symbolic axes of g's inputs to the axes of the given values. A
// symbol that meets two different axes is left unbound.
func bind(g *graphs.Graph, inputs map[string]*graphs.Value) map[string]graphs.Dim {
	axes := map[string]graphs.Dim{}
	for _, v := range g.Inputs {
		x := inputs[v.Name]
		if x == nil || len(x.Shape) != len(v.Shape) {
			continue
		}
		for i, d := range v.Shape {
			if d.Known() || d.Name == "" {
				continue
			}
			if e, ok := axes[d.Name]; ok && !e.Same(x.Shape[i]) {
				axes[d.Name] = graphs.UnknownDim
			} else {
				axes[d.Name] = x.Shape[i]
			}
		}
	}
	return axes
}

// substitute replaces symbolic axes; one without an entry becomes unknown if
// drop is set and stays otherwise.
func substitute(s graphs.Shape, axes map[string]graphs.Dim, drop bool) graphs.Shape {
	for i, d := range s {
		if d.Known() || d.Name == "" {
			continue
		}
		if e, ok := axes[d.Name]; ok {
			s[i] = e
		} else if drop {
			s[i] = graphs.UnknownDim
		}
	}
	return s
}
