//go:build cgo

package ort

import (
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
)

// TestLearningForms: the other forms are the same sums, and only what they can stand
// for is replaced.
func TestLearningForms(t *testing.T) {
	pads := func(p ...int64) []*graphs.Attr { return []*graphs.Attr{graphs.IntsAttr("pads", p...)} }
	sum := func(equation string) []*graphs.Attr { return []*graphs.Attr{graphs.S("equation", equation)} }
	for name, c := range map[string]struct {
		op    string
		a, b  []int
		bias  int
		attrs []*graphs.Attr
		want  string // ops, "" if nothing is replaced
	}{
		"to few channels":      {"Conv", []int{2, 9, 6, 5}, []int{3, 9, 3, 4}, 3, pads(1, 0, 2, 3), "Transpose Slice ConvTranspose"},
		"to more":              {"Conv", []int{2, 9, 6, 5}, []int{5, 9, 3, 4}, 0, pads(1, 0, 2, 3), ""},
		"back to many":         {"ConvTranspose", []int{2, 3, 6, 5}, []int{3, 9, 3, 4}, 9, pads(1, 0, 2, 3), "Transpose Slice Conv"},
		"back to few":          {"ConvTranspose", []int{2, 9, 6, 5}, []int{9, 3, 3, 4}, 0, pads(1, 0, 2, 3), ""},
		"no pads":              {"Conv", []int{2, 4, 7}, []int{1, 4, 3}, 0, nil, "Transpose Slice ConvTranspose"},
		"pads past the window": {"Conv", []int{2, 4, 7}, []int{1, 4, 3}, 0, pads(3, 0), ""},
		"strided":              {"Conv", []int{2, 4, 7}, []int{1, 4, 3}, 0, []*graphs.Attr{graphs.IntsAttr("strides", 2)}, ""},
		"dilated":              {"Conv", []int{2, 4, 7}, []int{1, 4, 3}, 0, []*graphs.Attr{graphs.IntsAttr("dilations", 2)}, ""},
		"in groups":            {"Conv", []int{2, 8, 7}, []int{2, 4, 3}, 0, []*graphs.Attr{graphs.I("group", 2)}, ""},
		"one window":           {"Conv", []int{2, 40, 5, 4}, []int{20, 40, 5, 4}, 20, nil, ""},
		"back from one window": {"ConvTranspose", []int{2, 20, 1, 1}, []int{20, 40, 5, 4}, 0, nil, ""},
		"one window, to one":   {"Conv", []int{2, 9, 5, 4}, []int{1, 9, 5, 4}, 1, nil, "Transpose Slice ConvTranspose"},
		"one pixel":            {"Conv", []int{2, 9, 6, 5}, []int{3, 9, 1, 1}, 0, nil, ""},
		"back from one pixel":  {"ConvTranspose", []int{2, 9, 6, 5}, []int{9, 3, 1, 1}, 3, nil, "Transpose Conv"},
		"sum over pixels":      {"Einsum", []int{3, 4, 8, 16}, []int{3, 5, 8, 16}, 0, sum("nohw,nihw->oi"), "Reshape Reshape Transpose MatMul ReduceSum"},
		"the other way round":  {"Einsum", []int{3, 4, 8, 16}, []int{3, 5, 8, 16}, 0, sum("nohw,nihw->io"), ""},
		"sum over few pixels":  {"Einsum", []int{3, 4, 8, 4}, []int{3, 5, 8, 4}, 0, sum("nohw,nihw->oi"), ""},
		"a pixel for each":     {"Einsum", []int{3, 4, 8, 16}, []int{3, 5, 8, 16}, 0, sum("nohw,mihw->oi"), ""},
		"a diagonal":           {"Einsum", []int{3, 4, 16, 16}, []int{3, 5, 16, 16}, 0, sum("nohh,nihh->oi"), ""},
		"pixels turned":        {"Einsum", []int{3, 4, 8, 16}, []int{3, 5, 16, 8}, 0, sum("nohw,niwh->oi"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			normal := normals()
			m := enginetest.Build(t, func(b *graphs.Builder) {
				in := []*graphs.Value{b.Input("a", graphs.Float32, graphs.MakeShape(c.a...)), b.Input("b", graphs.Float32, graphs.MakeShape(c.b...))}
				if c.bias > 0 {
					in = append(in, b.Const(normal(c.bias)))
				}
				b.Output("y", b.Op(c.op, in, c.attrs...))
			})
			before := len(m.Graph.Nodes)
			form := learningForms(m)
			var ops []string
			for _, n := range form.Graph.Nodes {
				ops = append(ops, n.Op)
			}
			if got := strings.Join(ops, " "); c.want == "" && form != m || c.want != "" && got != c.want {
				t.Fatalf("wanted %q, got %s", c.want, got)
			}
			if len(m.Graph.Nodes) != before || m.Graph.Nodes[0].Op != c.op {
				t.Error("the model was changed")
			}
			in := []*graphs.Tensor{normal(c.a...), normal(c.b...)}
			want := alike(t, form, m, in, 1e-4)

			e := engineFor(t)
			p, err := e.compile(t.Context(), m, runtime.Options{Threads: 1}, "")
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			out := make([]*graphs.Tensor, 1)
			if err := p.Run(t.Context(), in, out); err != nil {
				t.Fatal(err)
			}
			enginetest.Close(t, "y of the library", out[0], 1e-4, want...)
		})
	}

	constant := enginetest.Build(t, func(b *graphs.Builder) {
		x := b.Input("x", graphs.Float32, graphs.MakeShape(2, 4, 7))
		b.Output("y", b.Op("Conv", []*graphs.Value{x, b.Weight("w", graphs.NewTensor(graphs.Float32, 1, 4, 3))}))
	})
	if learningForms(constant) != constant {
		t.Error("a convolution with constant weights was replaced")
	}
}
