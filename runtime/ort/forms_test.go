//go:build cgo

package ort

import (
	"math/rand/v2"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/graphtest"
	"ebmrun/runtime/enginetest"
)

// TestAsConvolutions: the plain form is the same sum, and only what it can stand for
// is replaced.
func TestAsConvolutions(t *testing.T) {
	const channels = 20
	pixels := []int{2, 3, 6, 5}
	for name, c := range map[string]struct {
		in       []int
		attrs    []*graphs.Attr
		replaced bool
	}{
		"plain":                  {pixels, nil, true},
		"padded":                 {pixels, []*graphs.Attr{graphs.IntsAttr("pads", 1, 0, 1, 2)}, true},
		"cut":                    {pixels, []*graphs.Attr{graphs.IntsAttr("pads", 3, 0, 0, 0)}, false},
		"strided":                {pixels, []*graphs.Attr{graphs.IntsAttr("strides", 2, 2)}, false},
		"dilated":                {pixels, []*graphs.Attr{graphs.IntsAttr("dilations", 1, 2)}, false},
		"at stride 1":            {pixels, []*graphs.Attr{graphs.IntsAttr("strides", 1, 1), graphs.IntsAttr("dilations", 1, 1)}, true},
		"one pixel":              {[]int{2, 3, 1, 1}, nil, true},
		"from one pixel to many": {[]int{2, 30, 1, 1}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			normal := normals()
			m := enginetest.Build(t, func(b *graphs.Builder) {
				x, bias := b.Input("x", graphs.Float32, graphs.MakeShape(c.in...)), b.Const(normal(channels))
				b.Output("y", b.Op("ConvTranspose", []*graphs.Value{x, b.Weight("w", normal(c.in[1], channels, 3, 4)), bias}, c.attrs...))
			})
			form := asConvolutions(m)
			if (form != m) != c.replaced {
				t.Fatalf("replaced: %v, wanted %v", form != m, c.replaced)
			}
			if m.Graph.Nodes[0].Op != "ConvTranspose" {
				t.Error("the model was changed")
			}
			in := []*graphs.Tensor{normal(c.in...)}
			alike(t, form, m, in, 1e-5)
		})
	}
}

// normals gives tensors of normal numbers, the same in every test.
func normals() func(dims ...int) *graphs.Tensor {
	r := rand.New(rand.NewPCG(1, 1))
	return func(dims ...int) *graphs.Tensor {
		x := graphs.NewTensor(graphs.Float32, dims...)
		for i := range x.F32() {
			x.F32()[i] = float32(r.NormFloat64())
		}
		return x
	}
}

// alike has the interpreter compare a form of a model with the model, and gives the model's output.
func alike(t *testing.T, form, m *graphs.Model, in []*graphs.Tensor, tolerance float64) []float64 {
	t.Helper()
	want, _ := graphtest.Run(t, m, in...)[0].AsFloats()
	enginetest.Close(t, "y", graphtest.Run(t, form, in...)[0], tolerance, want...)
	return want
}
