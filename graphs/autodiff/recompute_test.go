package autodiff

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/graphtest"
)

// Recomputation gives the same bits for every rule, and does recompute.
func TestRecomputeGivesTheSameNumbers(t *testing.T) {
	again := 0
	for _, c := range cases {
		t.Run(c.op+"/"+c.name, func(t *testing.T) {
			// the case in the middle of a net that is deep enough to be cut
			g := &graphs.Graph{}
			b := graphs.NewBuilder(g)
			rng := rand.New(rand.NewPCG(11, 7))
			var x []val
			var in []*graphs.Tensor
			for i, a := range c.args {
				v := b.Input("x"+string(rune('0'+i)), graphs.Float64, graphs.MakeShape(a.dims...))
				x, in = append(x, v), append(in, a.draw(rng))
			}
			y := c.build(b, x)
			if !y.Type.IsFloat() {
				t.Skip("no float")
			}
			for range 12 {
				y = b.Mul(b.Tanh(y), b.Sigmoid(y))
			}
			b.Output("y", y)
			if b.Err() != nil {
				t.Fatal(b.Err())
			}
			m := graphs.NewModel(g)
			plain, err := Grad(m, Options{Of: "y"})
			if err != nil {
				t.Skip(err)
			}
			re, err := Grad(m, Options{Of: "y", Recompute: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range re.Graph.Nodes {
				if strings.HasPrefix(n.Name, "again/") {
					again++
				}
			}
			a, r := graphtest.Run(t, plain, in...), graphtest.Run(t, re, in...)
			if !reflect.DeepEqual(a, r) {
				for i := range a {
					t.Errorf("output %d: recomputed %v, plain %v", i, r[i], a[i])
				}
			}
		})
	}
	if again < 8*len(cases) {
		t.Errorf("only %d nodes are computed again in %d nets", again, len(cases))
	}
}
