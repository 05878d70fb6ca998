package autodiff

import (
	"math/rand/v2"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/graphtest"
)

// branches appends an If whose branches are built on graphs of their own.
func branches(b *graphs.Builder, cond val, yes, no func(*graphs.Builder) []val) []val {
	n := &graphs.Node{Name: b.Target().Fresh("If"), Op: "If", Inputs: []val{cond}}
	for i, build := range []func(*graphs.Builder) []val{yes, no} {
		g := &graphs.Graph{}
		c := graphs.NewBuilder(g)
		g.Outputs = append(g.Outputs, build(c)...)
		prefix := b.Target().Fresh([]string{"then", "else"}[i])
		renameAll(g, func(s string) string { return prefix + "/" + s })
		n.Attrs = append(n.Attrs, graphs.G([]string{"then_branch", "else_branch"}[i], g))
	}
	for range n.Attrs[0].G.Outputs {
		n.Outputs = append(n.Outputs, &graphs.Value{Name: b.Target().Fresh("if"), From: n})
	}
	b.Append(n, graphs.OpsetVersion)
	return n.Outputs
}

// branching is Σ w·z where z, of two outputs of an If, depends on the sign of x₀: the
// branches read an input, a weight and a value made of both, one of them through an If
// of its own, and the first would be NaN where the second is taken.
func branching(t *testing.T) *graphs.Model {
	t.Helper()
	b := graphs.NewBuilder(&graphs.Graph{Name: "branching"})
	x := b.Input("x", graphs.Float64, graphs.MakeShape(3))
	w := b.Weight("w", graphs.Of([]float64{0.3, -1.2, 0.7}, 3))
	product := b.Mul(x, w)
	first := b.Gather(x, b.Const(graphs.Of([]int64{0})), 0)
	zero := b.Const(graphs.Of([]float64{0}))
	positive := b.Greater(first, zero)
	large := b.Greater(first, b.Const(graphs.Of([]float64{1})))
	z := branches(b, positive,
		func(b *graphs.Builder) []val {
			s := b.Sqrt(b.Log(b.Add(first, b.Scalar(first, 1)))) // NaN where x₀ is below 0
			return []val{b.Mul(b.Exp(product), s), b.Identity(x)}
		},
		func(b *graphs.Builder) []val {
			inner := branches(b, large,
				func(b *graphs.Builder) []val { return []val{b.Neg(product)} },
				func(b *graphs.Builder) []val { return []val{b.Mul(b.Tanh(x), w)} })
			return []val{inner[0], b.Identity(product)}
		})
	b.Output("y", b.Sum(b.Add(b.Mul(z[0], w), b.Mul(z[1], z[1])), false))
	m := graphs.NewModel(b.Target())
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	if err := graphs.InferAll(m.Graph, graphs.OpsetVersion); err != nil {
		t.Fatal(err)
	}
	return m
}

// unique checks that no two values or nodes bear one name: a branch may not hide what is
// around it.
func unique(t *testing.T, g *graphs.Graph, seen map[string]bool) {
	t.Helper()
	name := func(kind, s string) {
		if s != "" && seen[kind+s] {
			t.Errorf("two %s are called %q", kind, s)
		}
		seen[kind+s] = true
	}
	for _, v := range append(append([]val{}, g.Inputs...), g.Inits...) {
		name("values", v.Name)
	}
	for _, n := range g.Nodes {
		name("nodes", n.Name)
		for _, v := range n.Outputs {
			if v != nil {
				name("values", v.Name)
			}
		}
		for _, a := range n.Attrs {
			if a.G != nil {
				unique(t, a.G, seen)
			}
		}
	}
}

// TestIf compares the slopes through an If with differences in either branch, in
// first and second order.
func TestIf(t *testing.T) {
	m := branching(t)
	if p := Problems(m.Graph); len(p) > 0 {
		t.Fatalf("problems: %v", p)
	}
	g, err := Grad(m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Grad(g, Options{Of: "grad/x", Wrt: []string{"x"}, VJP: true})
	if err != nil {
		t.Fatal(err)
	}
	unique(t, again.Graph, map[string]bool{})
	rng := rand.New(rand.NewPCG(3, 1))
	for _, start := range []float64{0.4, -0.6} {
		x := []*graphs.Tensor{graphs.Of([]float64{start, 0.9, -1.1}, 3)}
		graphtest.CheckGrad(t, m.Graph, g.Graph, x, graphtest.GradOptions{Of: "y", Wrt: []string{"x"}})
		check(t, rng, g, again, x, 1, 1)
	}
	// in the weight, which becomes an input
	g, err = Grad(m, Options{Wrt: []string{"w"}, ParamsAsInputs: true})
	if err != nil {
		t.Fatal(err)
	}
	f := branching(t)
	f.Graph.Inputs = append(f.Graph.Inputs, f.Graph.Inits[0])
	f.Graph.Inits[0].Const, f.Graph.Inits = nil, f.Graph.Inits[1:]
	for _, start := range []float64{0.4, -0.6} {
		x := []*graphs.Tensor{graphs.Of([]float64{start, 0.9, -1.1}, 3), normals(rng, []int{3})}
		graphtest.CheckGrad(t, f.Graph, g.Graph, x, graphtest.GradOptions{Of: "y", Wrt: []string{"w"}})
	}
}
