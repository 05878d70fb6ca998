package passes

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
)

func f32(dims ...int) *graphs.Tensor { return graphs.NewTensor(graphs.Float32, dims...) }

// mlp is y = tanh(x·w0 + b0)·w1 + b1 with two equal biases.
func mlp(t testing.TB) *graphs.Graph {
	t.Helper()
	b := graphs.NewBuilder(&graphs.Graph{Name: "mlp"})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(4)})
	h := b.Tanh(b.Add(b.MatMul(x, b.Weight("w0", f32(4, 4))), b.Weight("b0", f32(4))))
	y := b.Add(b.MatMul(h, b.Weight("w1", f32(4, 4))), b.Weight("b1", f32(4)))
	b.Output("y", b.Scale(y, 0.5))
	return finish(t, b)
}

func finish(t testing.TB, b *graphs.Builder) *graphs.Graph {
	t.Helper()
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func check(t *testing.T, g *graphs.Graph, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if err := graphs.Check(g); err != nil {
		t.Fatal(err)
	}
	if err := graphs.InferAll(g, graphs.OpsetVersion); err != nil {
		t.Fatal(err)
	}
}

// text spells out a graph: one line per node, "out = Op(in…)".
func text(g *graphs.Graph) string {
	names := func(vals []*graphs.Value) string {
		var s []string
		for _, v := range vals {
			if v == nil {
				s = append(s, "-")
			} else {
				s = append(s, v.Name)
			}
		}
		return strings.Join(s, ",")
	}
	var s strings.Builder
	for _, n := range g.Nodes {
		fmt.Fprintf(&s, "%s = %s(%s)\n", names(n.Outputs), n.Op, names(n.Inputs))
	}
	return s.String()
}

func ops(g *graphs.Graph) string {
	var s []string
	for _, n := range g.Nodes {
		s = append(s, n.Op)
	}
	return strings.Join(s, " ")
}

func inits(g *graphs.Graph) string {
	var s []string
	for _, v := range g.Inits {
		s = append(s, v.Name)
	}
	return strings.Join(s, " ")
}

// branch is a graph whose If node uses the outer value y only inside a branch.
func branch(t testing.TB) *graphs.Graph {
	t.Helper()
	b := graphs.NewBuilder(&graphs.Graph{Name: "branch"})
	cond := b.Input("cond", graphs.Bool, graphs.Shape{})
	x := b.Input("x", graphs.Float32, graphs.MakeShape(2))
	y := b.Exp(x)
	sub := func(name string, f func(*graphs.Builder) *graphs.Value) *graphs.Graph {
		s := &graphs.Graph{Name: name}
		sb := graphs.NewBuilder(s)
		sb.Prefix(name)
		v := f(sb)
		s.Outputs = append(s.Outputs, v)
		if sb.Err() != nil {
			t.Fatal(sb.Err())
		}
		return s
	}
	then := sub("then", func(sb *graphs.Builder) *graphs.Value { sb.Log(x); return sb.Neg(y) })
	otherwise := sub("else", func(sb *graphs.Builder) *graphs.Value { return sb.Neg(x) })
	n := &graphs.Node{Name: "if", Op: "If", Inputs: []*graphs.Value{cond}, Attrs: []*graphs.Attr{graphs.G("then_branch", then), graphs.G("else_branch", otherwise)}}
	n.Outputs = []*graphs.Value{{Name: "out", From: n, Type: graphs.Float32, Shape: graphs.MakeShape(2)}}
	g := b.Target()
	g.Nodes = append(g.Nodes, n)
	g.Outputs = n.Outputs[:1:1]
	return finish(t, b)
}

func TestCloneIsDeepAndSharesTensors(t *testing.T) {
	g := branch(t)
	m := graphs.NewModel(g)
	m.Graph.Inits = append(m.Graph.Inits, &graphs.Value{Name: "w", Type: graphs.Float32, Shape: graphs.MakeShape(2), Const: f32(2)})
	c := Clone(m).Graph
	if text(c) != text(g) {
		t.Fatalf("got\n%swant\n%s", text(c), text(g))
	}
	if err := graphs.Check(c); err != nil {
		t.Fatal(err)
	}
	if c.Inits[0] == g.Inits[0] || c.Inits[0].Const != g.Inits[0].Const {
		t.Error("a value must be new and its tensor shared")
	}
	then := c.Nodes[1].Attr("then_branch").G
	if then.Nodes[1].Inputs[0] != c.Nodes[0].Outputs[0] {
		t.Error("the copied branch does not read the copied value")
	}
	before := text(g)
	c.Nodes[0].Op = "Sqrt"
	then.Nodes[1].Op = "Abs"
	c.Inputs[1].Name = "renamed"
	if text(g) != before || g.Nodes[1].Attr("then_branch").G.Nodes[1].Op != "Neg" {
		t.Error("a change of the copy shows in the original")
	}
}

func TestPrune(t *testing.T) {
	g := branch(t)
	b := graphs.NewBuilder(g)
	b.Add(g.Inputs[1], b.Weight("unused", f32(2)))
	changed, err := Prune(g)
	check(t, g, err)
	if !changed || ops(g) != "Exp If" || len(g.Inits) != 0 || len(g.Inputs) != 2 {
		t.Errorf("got changed %v, nodes %s, initializers %s", changed, ops(g), inits(g))
	}
	if then := g.Nodes[1].Attr("then_branch").G; ops(then) != "Neg" {
		t.Errorf("branch keeps %s", ops(then))
	}
	b = graphs.NewBuilder(g)
	b.Output("p", b.Ops("MaxPool", 2, one(b.Input("i", graphs.Float32, graphs.MakeShape(1, 1, 4))), graphs.IntsAttr("kernel_shape", 2))[0])
	changed, err = Prune(g)
	check(t, g, err)
	if !changed || len(g.Output("p").From.Outputs) != 1 {
		t.Error("indices that nobody reads are kept")
	}
	if changed, _ := Prune(g); changed {
		t.Error("pruning twice changes something")
	}
	if g.Fresh("unused") != "unused" {
		t.Error("the name of what was pruned is still taken")
	}
}

func TestWeightsToInputsAndBack(t *testing.T) {
	g := mlp(t)
	want := inits(g)
	w, err := WeightsToInputs(g)
	check(t, g, err)
	var names []string
	for _, v := range g.Inputs {
		names = append(names, v.Name)
	}
	if got := strings.Join(names, " "); got != "x w0 b0 w1 b1" {
		t.Errorf("inputs %s", got)
	}
	if len(w) != 4 || w["w1"] == nil || inits(g) != "const/[0.5]" {
		t.Errorf("weights %v, initializers left %s", len(w), inits(g))
	}
	check(t, g, InputsToWeights(g, w))
	sorted := func(s string) string { f := strings.Fields(s); slices.Sort(f); return strings.Join(f, " ") }
	if len(g.Inputs) != 1 || sorted(inits(g)) != sorted(want) || g.Find("w0").Const != w["w0"] {
		t.Errorf("initializers %s, want %s", inits(g), want)
	}
	if _, err := WeightsToInputs(g, "w0", "nope"); err == nil || !strings.Contains(err.Error(), `"nope"`) {
		t.Errorf("got %v", err)
	}
	if _, err := WeightsToInputs(g, "w0"); err != nil || len(g.Inputs) != 2 {
		t.Errorf("got %v", err)
	}
	if err := InputsToWeights(g, map[string]*graphs.Tensor{"w0": f32(4, 5)}); err == nil {
		t.Error("a weight of the wrong size is accepted")
	}
}

func TestCSE(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{})
	x := b.Input("x", graphs.Float32, graphs.MakeShape(2, 2))
	w0, w1 := b.Weight("w0", f32(2, 2)), b.Weight("w1", f32(2, 2))
	c0 := b.Weight("const/a", graphs.Of(make([]float32, 1<<15), 1<<13, 2, 2))
	c1 := b.Weight("const/b", graphs.Of(make([]float32, 1<<15), 1<<13, 2, 2))
	c2 := b.Weight("const/c", graphs.Of(append(make([]float32, 1<<15-1), 1), 1<<13, 2, 2))
	tr := func(perm ...int64) *graphs.Value { return b.Transpose(x, perm...) }
	first := tr(1, 0)
	terms := []*graphs.Value{b.Add(x, w0), b.Add(x, w1), first, tr(1, 0), tr(0, 1), b.Mul(x, c0), b.Mul(x, c1), b.Mul(x, c2)}
	for range 2 { // the op table does not hold random ops
		n := &graphs.Node{Op: "RandomNormalLike", Inputs: []*graphs.Value{x}}
		n.Outputs = []*graphs.Value{{Name: b.Target().Fresh("r"), From: n, Type: graphs.Float32, Shape: x.Shape}}
		b.Target().Nodes = append(b.Target().Nodes, n)
		terms = append(terms, n.Outputs[0])
	}
	b.Output("sum", b.Op("Sum", terms))
	b.Output("copy", tr(1, 0))
	g := finish(t, b)
	changed, err := CSE(g)
	check(t, g, err)
	if !changed || inits(g) != "w0 w1 const/a const/c" {
		t.Errorf("changed %v, initializers %s", changed, inits(g))
	}
	if got := ops(g); got != "Transpose Add Add Transpose Mul Mul RandomNormalLike RandomNormalLike Sum Identity" {
		t.Errorf("nodes %s", got)
	}
	if id := g.Output("copy").From; id.Op != "Identity" || id.Inputs[0] != first {
		t.Errorf("the output is made by %s", id.Op)
	}
	if changed, _ := CSE(g); changed {
		t.Error("a second run changes something")
	}
}

func TestInlineUnrollsOverSharedWeights(t *testing.T) {
	g := mlp(t)
	b := graphs.NewBuilder(&graphs.Graph{Name: "chain"})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("n"), graphs.D(4)})
	for i := range 3 {
		out, err := Inline(b, g, map[string]*graphs.Value{"x": x}, fmt.Sprintf("step%d", i))
		if err != nil {
			t.Fatal(err)
		}
		x = out["y"]
		if x.Shape.String() != "[n,4]" {
			t.Errorf("step %d: shape %v", i, x.Shape)
		}
	}
	b.Output("y", x)
	c := finish(t, b)
	if len(c.Nodes) != 3*len(g.Nodes) || inits(c) != inits(g) {
		t.Errorf("%d nodes and initializers %s, want %d and %s", len(c.Nodes), inits(c), 3*len(g.Nodes), inits(g))
	}
	if c.Nodes[0].Name != "step0/MatMul" || c.Nodes[0].Outputs[0].Name != "step0/MatMul" || c.Nodes[0].Inputs[1] != c.Find("w0") {
		t.Errorf("first node %q reads %s", c.Nodes[0].Name, c.Nodes[0].Inputs[1])
	}
	// Another graph with a weight of the same name keeps its own.
	if _, err := Inline(b, mlp(t), map[string]*graphs.Value{"x": x}, "other"); err != nil {
		t.Fatal(err)
	}
	if c.Find("other/w0") == nil || len(c.Inits) != 10 {
		t.Errorf("initializers %s", inits(c))
	}
	for _, in := range []map[string]*graphs.Value{{}, {"x": x, "z": x}, {"x": c.Find("b0")}} {
		if _, err := Inline(b, g, in, "bad"); err == nil {
			t.Errorf("inputs %v are accepted", in)
		}
	}
}

func TestInlineCopiesSubgraphs(t *testing.T) {
	g := branch(t)
	b := graphs.NewBuilder(&graphs.Graph{})
	in := map[string]*graphs.Value{"cond": b.Input("cond", graphs.Bool, graphs.Shape{}), "x": b.Input("x", graphs.Float32, graphs.MakeShape(2))}
	for _, p := range []string{"", ""} {
		out, err := Inline(b, g, in, p)
		if err != nil {
			t.Fatal(err)
		}
		in["x"] = out["out"]
	}
	b.Output("y", in["x"])
	c := finish(t, b)
	names := map[string]bool{}
	each(c, func(s *graphs.Graph) error {
		for _, v := range definitions(s) {
			if names[v.Name] {
				t.Errorf("two values are named %q", v.Name)
			}
			names[v.Name] = true
		}
		return nil
	})
	if y := c.Nodes[3].Attr("then_branch").G.Nodes[1].Inputs[0]; y != c.Nodes[2].Outputs[0] {
		t.Errorf("the second branch reads %s", y)
	}
}

func TestJoin(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{Name: "energy"})
	x := b.Input("image", graphs.Float32, graphs.Shape{graphs.Sym("n"), graphs.D(4)})
	k := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("n"), graphs.D(1)})
	b.Output("u", b.Sum(b.Mul(b.MatMul(x, b.Weight("w0", f32(4, 4))), k), false, 1))
	energy := finish(t, b)
	generator := mlp(t)
	g, err := Join(generator, energy, map[string]string{"y": "image"})
	check(t, g, err)
	if len(g.Outputs) != 1 || g.Outputs[0].Name != "u" || g.Outputs[0].Shape.String() != "[batch]" {
		t.Errorf("outputs %v", g.Outputs)
	}
	if len(g.Inputs) != 2 || g.Inputs[1].Name != "energy/x" || g.Inputs[1].Shape.String() != "[batch,1]" {
		t.Errorf("inputs %v", g.Inputs)
	}
	if g.Find("w0").Const == g.Find("energy/w0").Const {
		t.Error("weights of equal names were merged")
	}
	if len(generator.Outputs) != 1 || len(energy.Nodes) != 3 {
		t.Error("Join changed an operand")
	}
	if _, err := Join(generator, energy, map[string]string{"z": "image"}); err == nil {
		t.Error("an output that does not exist is linked")
	}
	check(t, g, CutAt(g, "y", "u"))
	if g.Outputs[0].Shape.String() != "[batch,4]" {
		t.Errorf("cut gives %v", g.Outputs[0])
	}
	check(t, g, CutAt(g, "y"))
	if g.Find("energy/w0") != nil {
		t.Error("the cut is not pruned")
	}
}

func TestRename(t *testing.T) {
	g := branch(t)
	check(t, g, Rename(g, map[string]string{"x": "image", "then/Neg": "minus"}))
	if g.Inputs[1].Name != "image" || g.Nodes[1].Attr("then_branch").G.Outputs[0].Name != "minus" {
		t.Errorf("got\n%s", text(g))
	}
	before := text(g)
	for _, m := range []map[string]string{{"x": "y"}, {"image": "cond"}, {"image": ""}, {"minus": "image"}} {
		if err := Rename(g, m); err == nil || text(g) != before {
			t.Errorf("%v: error %v, graph\n%s", m, err, text(g))
		}
	}
	check(t, g, Rename(g, map[string]string{"image": "cond", "cond": "image"}))
	check(t, g, RenameFunc(g, func(s string) string { return "p/" + s }))
	if g.Inputs[0].Name != "p/image" || g.Fresh("image") != "image" {
		t.Errorf("got %s", g.Inputs[0])
	}
}

func TestSetBatch(t *testing.T) {
	g := mlp(t)
	changed, err := SetBatch(g, "batch", 7)
	check(t, g, err)
	if !changed || g.Inputs[0].Shape.String() != "[7,4]" || g.Outputs[0].Shape.String() != "[7,4]" {
		t.Errorf("changed %v, %s to %s", changed, g.Inputs[0], g.Outputs[0])
	}
	if changed, _ := SetBatch(g, "batch", 8); changed {
		t.Error("an axis that is gone was changed")
	}
	b := graphs.NewBuilder(&graphs.Graph{})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(3)})
	b.Output("y", b.ReshapeTo(x, 2, 3))
	g = finish(t, b)
	if _, err := SetBatch(g, "batch", 5); err == nil {
		t.Error("a Reshape to two rows takes five")
	}
}
