package passes

import (
	"strings"
	"testing"

	"ebmrun/graphs"
)

// function makes one whose nodes are given by f; values are untyped.
func function(name string, inputs int, f func(in []*graphs.Value) (nodes []*graphs.Node, out []*graphs.Value)) *graphs.Function {
	g := &graphs.Graph{}
	for i := range inputs {
		g.Inputs = append(g.Inputs, &graphs.Value{Name: "in" + string(rune('0'+i))})
	}
	g.Nodes, g.Outputs = f(g.Inputs)
	return &graphs.Function{Domain: "local", Name: name, Graph: g, Opsets: []graphs.Opset{{Domain: "", Version: 21}, {Domain: "local", Version: 1}}}
}

func node(domain, op, out string, in []*graphs.Value, attrs ...*graphs.Attr) *graphs.Node {
	n := &graphs.Node{Domain: domain, Op: op, Inputs: in, Attrs: attrs}
	n.Outputs = []*graphs.Value{{Name: out, From: n}}
	return n
}

func TestInlineFunctions(t *testing.T) {
	leaky := function("Leaky", 2, func(in []*graphs.Value) ([]*graphs.Node, []*graphs.Value) {
		a := node("", "LeakyRelu", "t", one(in[0]), &graphs.Attr{Name: "alpha", Kind: graphs.AttrFloat, Ref: "slope"})
		b := node("", "Clip", "u", []*graphs.Value{a.Outputs[0], in[1]})
		return []*graphs.Node{a, b}, b.Outputs
	})
	leaky.AttrDefaults = []*graphs.Attr{graphs.F("slope", 0.25)}
	// Twice returns its input, too, and its result twice.
	twice := function("Twice", 1, func(in []*graphs.Value) ([]*graphs.Node, []*graphs.Value) {
		a := node("local", "Leaky", "t", in[:1:1], graphs.F("slope", 0.5))
		b := node("local", "Leaky", "u", a.Outputs)
		return []*graphs.Node{a, b}, []*graphs.Value{b.Outputs[0], in[0], b.Outputs[0]}
	})
	x := input("x", 3)
	call := node("local", "Twice", "y", one(x))
	call.Name = "call"
	call.Outputs = append(call.Outputs, &graphs.Value{Name: "same", From: call}, &graphs.Value{Name: "again", From: call})
	m := graphs.NewModel(&graphs.Graph{Inputs: one(x), Nodes: []*graphs.Node{call}, Outputs: call.Outputs})
	m.Opsets = append(m.Opsets, graphs.Opset{Domain: "local", Version: 1})
	m.Functions = []*graphs.Function{leaky, twice}
	changed, err := InlineFunctions(m)
	g := m.Graph
	check(t, g, err)
	if want := "LeakyRelu Clip LeakyRelu Clip Identity Identity"; !changed || ops(g) != want {
		t.Errorf("changed %v, got %s, want %s", changed, ops(g), want)
	}
	if a, b := g.Nodes[0].Float("alpha", 0), g.Nodes[2].Float("alpha", 0); a != 0.5 || b != 0.25 {
		t.Errorf("slopes %v and %v, want 0.5 as called and 0.25 by default", a, b)
	}
	if g.Nodes[1].In(1) != nil {
		t.Error("an input that was not given is bound")
	}
	if g.Nodes[3].Outputs[0].Name != "y" || g.Outputs[0].Shape.String() != "[3]" || g.Outputs[1].From.Inputs[0] != x || g.Outputs[2].From.Inputs[0] != g.Outputs[0] {
		t.Errorf("got\n%s", text(g))
	}
	if len(m.Functions) != 0 || len(m.Opsets) != 1 {
		t.Errorf("left %d functions, opsets %v", len(m.Functions), m.Opsets)
	}
}

func TestInlineFunctionsRefusesRecursionAndGrowth(t *testing.T) {
	chain := func(name string, callee ...string) *graphs.Function {
		return function(name, 1, func(in []*graphs.Value) (nodes []*graphs.Node, _ []*graphs.Value) {
			v := in[0]
			for i, c := range callee {
				nodes = append(nodes, node("local", c, name+string(rune('a'+i)), one(v)))
				v = nodes[i].Outputs[0]
			}
			return nodes, one(v)
		})
	}
	model := func(f ...*graphs.Function) *graphs.Model {
		x := input("x", 3)
		call := node("local", "f0", "y", one(x))
		m := graphs.NewModel(&graphs.Graph{Inputs: one(x), Nodes: []*graphs.Node{call}, Outputs: call.Outputs})
		m.Functions = f
		return m
	}
	if _, err := InlineFunctions(model(chain("f0", "f1"), chain("f1", "f0"))); err == nil || !strings.Contains(err.Error(), "calls itself") {
		t.Errorf("got %v", err)
	}
	var tower []*graphs.Function
	for i := range 20 {
		next := "f" + string(rune('0'+i+1))
		var calls []string
		for range 16 {
			calls = append(calls, next)
		}
		tower = append(tower, chain("f"+string(rune('0'+i)), calls...))
	}
	if _, err := InlineFunctions(model(tower...)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}
