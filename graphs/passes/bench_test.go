package passes

import (
	"fmt"
	"testing"

	"ebmrun/graphs"
)

// deep is an energy of n layers with its weights as initializers.
func deep(b *testing.B, n int) *graphs.Graph {
	bd := graphs.NewBuilder(&graphs.Graph{Name: "deep"})
	x := bd.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(64)})
	for i := range n {
		w, c := bd.Weight(fmt.Sprintf("w%d", i), f32(64, 64)), bd.Weight(fmt.Sprintf("b%d", i), f32(64))
		x = bd.Mul(bd.Tanh(bd.Add(bd.MatMul(x, w), c)), bd.Scalar(x, 0.5))
	}
	bd.Output("y", x)
	g, err := bd.Graph()
	if err != nil {
		b.Fatal(err)
	}
	return g
}

// BenchmarkUnroll inlines 50 copies of a graph of 200 nodes.
func BenchmarkUnroll(b *testing.B) {
	g := deep(b, 50)
	for b.Loop() {
		bd := graphs.NewBuilder(&graphs.Graph{})
		x := bd.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(64)})
		for k := range 50 {
			out, err := Inline(bd, g, map[string]*graphs.Value{"x": x}, fmt.Sprintf("step%d", k))
			if err != nil {
				b.Fatal(err)
			}
			x = out["y"]
		}
	}
}

// BenchmarkTidy runs the cleaning passes over an unrolled graph.
func BenchmarkTidy(b *testing.B) {
	g := deep(b, 2000)
	for b.Loop() {
		c := CloneGraph(g)
		for _, pass := range []func(*graphs.Graph) (bool, error){FoldConstants, Simplify, CSE, Prune} {
			if _, err := pass(c); err != nil {
				b.Fatal(err)
			}
		}
	}
}
