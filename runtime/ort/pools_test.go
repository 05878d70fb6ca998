//go:build cgo

package ort

import (
	"slices"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
)

// TestUnpooled: both forms of the way back through MaxPool give the same slopes, also to
// the first of equal numbers, and what they cannot stand for stays as it is.
func TestUnpooled(t *testing.T) {
	for name, c := range map[string]struct {
		attrs    []*graphs.Attr
		relu     bool
		replaced bool
	}{
		"after relu": {[]*graphs.Attr{graphs.IntsAttr("strides", 2, 3)}, true, true},
		"plain":      {[]*graphs.Attr{graphs.IntsAttr("strides", 2, 3)}, false, true},
		"overlap":    {nil, true, false},
		"padded":     {[]*graphs.Attr{graphs.IntsAttr("strides", 2, 3), graphs.IntsAttr("pads", 1, 0, 1, 0)}, true, false},
		"dilated":    {[]*graphs.Attr{graphs.IntsAttr("strides", 2, 3), graphs.IntsAttr("dilations", 2, 1)}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			normal := normals()
			w := normal(2, 3, 1, 1)
			m := enginetest.Build(t, func(b *graphs.Builder) {
				x := b.Input("x", graphs.Float32, graphs.MakeShape(2, 3, 4, 6))
				y := b.Op("Conv", []*graphs.Value{x, b.Weight("w", w)})
				if c.relu {
					y = b.Op("Relu", []*graphs.Value{y})
				}
				y = b.Op("MaxPool", []*graphs.Value{y}, append(c.attrs, graphs.IntsAttr("kernel_shape", 2, 3))...)
				b.Output("y", b.Sum(b.Mul(y, y), false))
			})
			m, err := autodiff.Grad(m, autodiff.Options{})
			if err != nil {
				t.Fatal(err)
			}
			m.Graph.Outputs = m.Graph.Outputs[1:] // the slope is what forms are compared by
			x := normal(2, 3, 4, 6)
			for i := range x.F32() { // many are equal, some windows all zero
				x.F32()[i] = float32(int(x.F32()[i] * 1.5))
			}
			in := []*graphs.Tensor{x}
			for provider, form := range map[string]func(*rewriting, *unpooling, *graphs.Value){runtime.CPU: byIndex, runtime.OpenVINO: byRank} {
				before := len(m.Graph.Nodes)
				other := unpooled(m, form)
				for _, v := range other.Graph.Inits {
					if other != m && !slices.ContainsFunc(other.Graph.Nodes, func(n *graphs.Node) bool { return slices.Contains(n.Inputs, v) }) {
						t.Errorf("%s: nobody reads %s", provider, v.Name)
					}
				}
				if (other != m) != c.replaced || len(m.Graph.Nodes) != before {
					t.Fatalf("%s: replaced: %v, wanted %v", provider, other != m, c.replaced)
				}
				scatters := slices.ContainsFunc(other.Graph.Nodes, func(n *graphs.Node) bool { return n.Op == "ScatterElements" })
				if scatters == c.replaced {
					t.Errorf("%s: scatters: %v", provider, scatters)
				}
				want := alike(t, other, m, in, 0)
				if slices.Max(want) == 0 {
					t.Error("no slope to compare")
				}
			}
			// As the library computes it.
			e := engineFor(t)
			want := alike(t, m, m, in, 0)
			for _, provider := range append(e.Providers(), runtime.CPU) {
				if provider != runtime.CPU && provider != runtime.OpenVINO {
					continue
				}
				p, err := e.Compile(t.Context(), m, runtime.Options{Provider: provider})
				if err != nil {
					t.Fatal(err)
				}
				out := []*graphs.Tensor{nil}
				if err := p.Run(t.Context(), in, out); err != nil {
					t.Fatal(err)
				}
				enginetest.Close(t, provider, out[0], 1e-5, want...)
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
