//go:build cgo

package ort

import (
	"testing"

	"ebmrun/graphs"
	"ebmrun/runtime/enginetest"
)

// TestAsProducts: small correlations become sums of products, the same sums, and nothing else does.
func TestAsProducts(t *testing.T) {
	two := func(name string, v ...int64) []*graphs.Attr { return []*graphs.Attr{graphs.IntsAttr(name, v...)} }
	for name, c := range map[string]struct {
		x, dy    []int
		attrs    []*graphs.Attr
		shown    bool // what is behind the convolution is an output too
		replaced bool
	}{
		"a filter's slope":    {[]int{5, 3, 8, 7}, []int{5, 4, 6, 5}, nil, false, true},
		"of stride 2":         {[]int{5, 3, 9, 8}, []int{5, 4, 4, 3}, append(two("dilations", 2, 2), two("pads", 1, 0, 1, 1)...), false, true},
		"of stride 2, cut":    {[]int{5, 1, 7, 7}, []int{5, 2, 3, 3}, append(two("dilations", 2, 2), two("pads", 1, 1, 0, 0)...), false, true},
		"of dilated filters":  {[]int{5, 3, 8, 7}, []int{5, 4, 2, 2}, two("strides", 2, 2), false, false},
		"of too many numbers": {[]int{2, 600, 3, 3}, []int{2, 500, 3, 3}, nil, false, false},
		"shown":               {[]int{5, 3, 8, 7}, []int{5, 4, 6, 5}, nil, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := enginetest.Build(t, func(b *graphs.Builder) {
				swap := func(v *graphs.Value) *graphs.Value {
					return b.Op("Transpose", []*graphs.Value{v}, graphs.IntsAttr("perm", 1, 0, 2, 3))
				}
				x := b.Input("x", graphs.Float32, graphs.MakeShape(c.x...))
				dy := b.Input("dy", graphs.Float32, graphs.MakeShape(c.dy...))
				slope := b.Op("Conv", []*graphs.Value{swap(x), swap(dy)}, c.attrs...)
				if c.shown {
					b.Output("turned", slope)
				}
				b.Output("slope", swap(slope))
			})
			before := len(m.Graph.Nodes)
			form := asProducts(m)
			if (form != m) != c.replaced || len(m.Graph.Nodes) != before {
				t.Fatalf("replaced: %v, wanted %v; the model had %d nodes and has %d", form != m, c.replaced, before, len(m.Graph.Nodes))
			}
			if c.replaced {
				for _, n := range form.Graph.Nodes {
					if n.Op == "Transpose" && n.In(0).Rank() == 4 {
						t.Errorf("%s is left", n.Name)
					}
				}
				normal := normals()
				alike(t, form, m, []*graphs.Tensor{normal(c.x...), normal(c.dy...)}, 1e-4)
			}
		})
	}
}
