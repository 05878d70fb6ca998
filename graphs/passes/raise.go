package passes

import (
	"errors"
	"fmt"
	"slices"

	"ebmrun/graphs"
)

// The opsets of ai.onnx that [Raise] accepts.
const (
	MinOpset = 9
	MaxOpset = 25
)

// Raise rewrites a model of opset 9 to 25 to the opset and IR version this
// module works with (21 and 10), node by node where the form of an op changed,
// in subgraphs and function bodies too. Numbers stay the same. What opset 21
// cannot say is refused by name: ops new since 22 that have no form in it,
// and types that ops accept only since then. The ops that ONNX Runtime's optimizers
// fuse others into (FusedConv, SkipLayerNormalization, Attention and the like) are
// spelt out.
//
// In models of IR 3, which had to list every initializer as an input, those
// inputs are dropped.
func Raise(m *graphs.Model) error {
	if v := m.Opset(""); v < MinOpset || v > MaxOpset {
		return fmt.Errorf("passes: raise: wanted opset %d to %d of ai.onnx, got %d", MinOpset, MaxOpset, v)
	}
	for _, f := range m.Functions {
		i := slices.IndexFunc(f.Opsets, isStandard)
		if i < 0 {
			continue
		}
		r := &raiser{root: f.Graph, since: f.Opsets[i].Version, function: true, used: usedValues(f.Graph)}
		if r.since < MinOpset || r.since > MaxOpset {
			return fmt.Errorf("passes: raise: function %q: wanted opset %d to %d of ai.onnx, got %d", f.Name, MinOpset, MaxOpset, r.since)
		}
		if err := r.graph(f.Graph); err != nil {
			return fmt.Errorf("passes: raise: function %q: %w", f.Name, err)
		}
		f.Opsets[i].Version = graphs.OpsetVersion
	}
	if m.IR < 4 {
		m.Graph.Inputs = slices.DeleteFunc(m.Graph.Inputs, func(v *graphs.Value) bool { return v.Const != nil })
	}
	r := &raiser{root: m.Graph, since: m.Opset(""), used: usedValues(m.Graph)}
	if err := r.graph(m.Graph); err != nil {
		return fmt.Errorf("passes: raise: %w", err)
	}
	m.Opsets = slices.DeleteFunc(m.Opsets, func(o graphs.Opset) bool {
		return isStandard(o) || o.Domain == microsoft && !r.fused && len(m.Functions) == 0
	})
	m.Opsets = append([]graphs.Opset{{Domain: "", Version: graphs.OpsetVersion}}, m.Opsets...)
	m.IR = graphs.IRVersion
	return nil
}

func isStandard(o graphs.Opset) bool { return o.Domain == "" || o.Domain == "ai.onnx" }

// usedValues are the values that some node or output reads.
func usedValues(g *graphs.Graph) map[*graphs.Value]bool {
	used := map[*graphs.Value]bool{}
	for _, v := range g.Outputs {
		used[v] = true
	}
	for _, n := range g.Nodes {
		reads(n, func(v *graphs.Value) { used[v] = true })
	}
	return used
}

// A raiser rewrites the nodes of one graph or function body. Values are inferred
// on the way, so a rule sees the types of its node's inputs.
type raiser struct {
	root     *graphs.Graph // hands out names
	since    int64         // opset the nodes were written in
	function bool          // function bodies are untyped and hold no initializers
	nested   bool          // inside a subgraph
	fused    bool          // a node of ONNX Runtime's own is left
	used     map[*graphs.Value]bool

	g   *graphs.Graph // graph being rewritten
	out []*graphs.Node
}

// errUnchanged is what a rule returns for a node that stays as it is.
var errUnchanged = errors.New("unchanged")

func (r *raiser) graph(g *graphs.Graph) error {
	outer := *r
	r.g, r.out = g, make([]*graphs.Node, 0, len(g.Nodes))
	if !r.function {
		if err := inferInits(g.Inits...); err != nil {
			return err
		}
	}
	for _, n := range g.Nodes {
		if err := r.node(n); err != nil {
			var at *graphs.NodeError
			if errors.As(err, &at) {
				return err
			}
			return &graphs.NodeError{Node: n, Opset: r.since, Err: err}
		}
	}
	g.Nodes = r.out
	r.g, r.out = outer.g, outer.out
	return nil
}

func (r *raiser) node(n *graphs.Node) error {
	if spelt, err := r.spell(n); spelt || err != nil {
		return err
	}
	if n.Domain == "" || n.Domain == "ai.onnx" {
		n.Domain = ""
		if err := r.refuse(n); err != nil {
			return err
		}
		if r.since != graphs.OpsetVersion || n.Op == "Compress" || n.Op == "Resize" {
			if rule := raiseRules[n.Op]; rule != nil {
				if n.In(0) == nil || n.Out(0) == nil {
					return errors.New("wanted a first input and a first output, got none")
				}
				if err := rule(r, n); !errors.Is(err, errUnchanged) {
					return err
				}
			}
		}
	}
	nested := r.nested
	for _, s := range subgraphs(n) {
		r.nested = true
		if err := r.graph(s); err != nil {
			return err
		}
		r.nested = nested
	}
	return r.add(n)
}

// refuse reports what came after opset 21.
func (r *raiser) refuse(n *graphs.Node) error {
	if r.since <= graphs.OpsetVersion {
		return nil
	}
	if newOps[n.Op] {
		return fmt.Errorf("%s came after opset 22 and has no form in opset %d: export the model with that opset", n.Op, graphs.OpsetVersion)
	}
	for _, v := range slices.Concat(n.Inputs, n.Outputs) {
		switch {
		case v == nil:
		case v.Type > 22:
			return fmt.Errorf("%s: type %v is not part of opset %d", n.Op, v.Type, graphs.OpsetVersion)
		case v.Type == graphs.BFloat16 && bfloatSince22[n.Op]:
			return fmt.Errorf("%s takes bfloat16 only since opset 22, wanted a type of opset %d", n.Op, graphs.OpsetVersion)
		}
	}
	return nil
}

// add appends a node that needs no further rewriting.
func (r *raiser) add(n *graphs.Node) error {
	if !r.function {
		// A subgraph's inputs may have been read without types, which only the op
		// that holds it could tell: there, what cannot be inferred stays as declared.
		if err := inferNode(n, graphs.OpsetVersion); err != nil && !r.nested {
			return err
		}
		if x := n.In(0); x != nil && typeOfFirst[n.Op] && n.Domain == "" {
			for _, v := range n.Outputs {
				if v != nil && v.Type == graphs.Undefined {
					v.Type = x.Type
				}
			}
		}
	}
	r.out = append(r.out, n)
	r.fused = r.fused || n.Domain == microsoft
	return nil
}

// typeOfFirst lists ops that may be outside the op table and whose outputs have
// the type of the first input, which rules for later nodes may need.
var typeOfFirst = map[string]bool{
	"Resize": true, "GridSample": true, "RoiAlign": true, "MaxRoiPool": true, "MaxUnpool": true, "DeformConv": true,
	"DFT": true, "LSTM": true, "GRU": true, "RNN": true, "Compress": true, "ReverseSequence": true, "CenterCropPad": true,
	"Col2Im": true, "Det": true, "AffineGrid": true,
}

// op appends a new node named after n and returns its output.
func (r *raiser) op(n *graphs.Node, op string, in []*graphs.Value, attrs ...*graphs.Attr) (*graphs.Value, error) {
	name := r.root.Fresh(n.Label() + "/" + op)
	m := &graphs.Node{Name: name, Op: op, Inputs: in, Attrs: attrs}
	m.Outputs = []*graphs.Value{{Name: name, From: m}}
	return m.Outputs[0], r.add(m)
}

// constant makes a constant for node n.
func (r *raiser) constant(n *graphs.Node, t *graphs.Tensor) (*graphs.Value, error) {
	if r.function {
		return r.op(n, "Constant", nil, graphs.T("value", t))
	}
	v := &graphs.Value{Name: r.root.Fresh("const/" + n.Label()), Type: t.Type, Shape: graphs.MakeShape(t.Dims...), Const: t}
	r.g.Inits = append(r.g.Inits, v)
	return v, inferInits(v)
}

// like makes a scalar constant of the type of x.
func (r *raiser) like(n *graphs.Node, x *graphs.Value, f float64) (*graphs.Value, error) {
	t, err := graphs.FromFloats(x.Type, []float64{f})
	if err != nil {
		return nil, fmt.Errorf("the type of input %q must be known: %w", x.Name, err)
	}
	return r.constant(n, t)
}

// set makes v input i of n, with omitted ones before it.
func set(n *graphs.Node, i int, v *graphs.Value) {
	for len(n.Inputs) <= i {
		n.Inputs = append(n.Inputs, nil)
	}
	n.Inputs[i] = v
}

// drop removes attributes.
func drop(n *graphs.Node, names ...string) {
	n.Attrs = slices.DeleteFunc(n.Attrs, func(a *graphs.Attr) bool { return slices.Contains(names, a.Name) })
}

// setAttr replaces or adds an attribute.
func setAttr(n *graphs.Node, a *graphs.Attr) {
	drop(n, a.Name)
	n.Attrs = append(n.Attrs, a)
}
