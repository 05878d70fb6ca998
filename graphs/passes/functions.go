package passes

import (
	"errors"
	"fmt"
	"slices"

	"ebmrun/graphs"
)

// maxInlined bounds the nodes that function calls expand to: calls within calls
// can multiply without end in a small file.
const maxInlined = 1 << 18

type functionKey struct{ domain, name, overload string }

// InlineFunctions replaces every call of a model-local function, in subgraphs
// and in other functions too, by the function's nodes, and drops the functions.
// Attributes that refer to the call's are resolved. A function must be written
// in the model's own opset of ai.onnx; [Raise] sees to that.
func InlineFunctions(m *graphs.Model) (changed bool, err error) {
	if len(m.Functions) == 0 {
		return false, nil
	}
	x := &expander{root: m.Graph, functions: map[functionKey]*graphs.Function{}}
	domains := map[string]bool{}
	for _, f := range m.Functions {
		for _, o := range f.Opsets {
			switch have := m.Opset(o.Domain); {
			case have == 0:
				m.Opsets = append(m.Opsets, o)
			case have != o.Version && isStandard(o):
				return false, fmt.Errorf("passes: function %q: wanted the model's opset %d, got %d", f.Name, have, o.Version)
			}
		}
		x.functions[functionKey{f.Domain, f.Name, f.Overload}] = f
		domains[f.Domain] = true
	}
	if err := x.graph(m.Graph); err != nil {
		return changed, fmt.Errorf("passes: inline functions: %w", err)
	}
	m.Functions = nil
	each(m.Graph, func(g *graphs.Graph) error {
		for _, n := range g.Nodes {
			delete(domains, n.Domain)
		}
		return nil
	})
	m.Opsets = slices.DeleteFunc(m.Opsets, func(o graphs.Opset) bool { return domains[o.Domain] && !isStandard(o) })
	if err := graphs.Check(m.Graph); err != nil {
		return true, err
	}
	return true, Reinfer(m.Graph)
}

type expander struct {
	root      *graphs.Graph
	functions map[functionKey]*graphs.Function
	active    []*graphs.Function // calls being expanded
	count     int
}

func (x *expander) graph(g *graphs.Graph) error {
	nodes, err := x.nodes(g.Nodes)
	g.Nodes = nodes
	return err
}

func (x *expander) nodes(in []*graphs.Node) (out []*graphs.Node, err error) {
	for _, n := range in {
		if x.count++; x.count > maxInlined {
			return nil, fmt.Errorf("more than %d nodes", maxInlined)
		}
		f := x.functions[functionKey{n.Domain, n.Op, n.Overload}]
		if f == nil {
			for _, s := range subgraphs(n) {
				if err := x.graph(s); err != nil {
					return nil, err
				}
			}
			out = append(out, n)
			continue
		}
		if slices.Contains(x.active, f) {
			return nil, &graphs.NodeError{Node: n, Err: fmt.Errorf("function %q calls itself", f.Name)}
		}
		body, err := x.body(f, n)
		if err != nil {
			return nil, &graphs.NodeError{Node: n, Err: err}
		}
		x.active = append(x.active, f)
		body, err = x.nodes(body)
		x.active = x.active[:len(x.active)-1]
		if err != nil {
			return nil, err
		}
		out = append(out, body...)
	}
	return out, nil
}

// body copies a function's nodes for the call n, whose output values they make.
func (x *expander) body(f *graphs.Function, n *graphs.Node) ([]*graphs.Node, error) {
	if len(n.Inputs) > len(f.Graph.Inputs) || len(n.Outputs) > len(f.Graph.Outputs) {
		return nil, fmt.Errorf("function %q: wanted at most %d inputs and %d outputs, got %d and %d", f.Name,
			len(f.Graph.Inputs), len(f.Graph.Outputs), len(n.Inputs), len(n.Outputs))
	}
	if len(f.Graph.Inits) > 0 {
		return nil, errors.New("a function body cannot hold initializers")
	}
	c := newCopier()
	prefix := n.Label() + "/"
	c.name = func(s string) string { return x.root.Fresh(prefix + s) }
	c.attr = func(a *graphs.Attr) *graphs.Attr {
		if a.Ref == "" {
			return a
		}
		given := n.Attr(a.Ref)
		if given == nil {
			if i := slices.IndexFunc(f.AttrDefaults, func(d *graphs.Attr) bool { return d.Name == a.Ref }); i >= 0 {
				given = f.AttrDefaults[i]
			}
		}
		if given == nil {
			return nil
		}
		b := *given
		b.Name = a.Name
		return &b
	}
	for i, v := range f.Graph.Inputs {
		c.vals[v] = n.In(i)
	}
	var out []*graphs.Node
	for _, m := range f.Graph.Nodes {
		out = append(out, c.node(m))
	}
	// The values that leave the function become those of the call; one that the
	// body does not make itself, or that leaves twice, passes through an Identity.
	made := map[*graphs.Value]*graphs.Value{}
	for i, v := range n.Outputs {
		if v == nil {
			continue
		}
		inner := c.use(f.Graph.Outputs[i])
		if inner == nil {
			return nil, fmt.Errorf("function %q: output %d passes on an input that is not given", f.Name, i)
		}
		if from := inner.From; from != nil && slices.Contains(out, from) && made[inner] == nil {
			made[inner] = v
			from.Outputs[inner.Index()], v.From = v, from
			v.Const = inner.Const
			continue
		}
		name := x.root.Fresh(prefix + "Identity")
		pass := &graphs.Node{Name: name, Op: "Identity", Inputs: []*graphs.Value{inner}, Outputs: []*graphs.Value{v}}
		v.From = pass
		out = append(out, pass)
	}
	for _, m := range out {
		redirect(m, func(v *graphs.Value) *graphs.Value {
			if w := made[v]; w != nil {
				return w
			}
			return v
		})
	}
	return out, nil
}
