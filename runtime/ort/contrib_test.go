//go:build cgo

package ort

import (
	"fmt"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/graphtest"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ref"
)

// TestContribOps: what [passes.Raise] spells the library's own ops out as gives the
// library's numbers, and has a slope in every float input that agrees with a difference.
func TestContribOps(t *testing.T) {
	t.Setenv("EBM_PROVIDER", "") // the interpreter has one, and the library's others lack some of these ops
	e := engineFor(t)
	ints := graphs.IntsAttr
	f := func(dims ...int) []int { return dims }
	type in = [][]int // nil for an input that is left out
	for _, c := range []struct {
		op    string
		in    in
		outs  int
		mask  int // position of an input of zeros and ones, 0 for none
		attrs []*graphs.Attr
	}{
		{op: "Gelu", in: in{f(2, 3)}},
		{op: "BiasGelu", in: in{f(2, 3), f(3)}},
		{op: "FastGelu", in: in{f(2, 3)}},
		{op: "FastGelu", in: in{f(2, 3), f(3)}},
		{op: "QuickGelu", in: in{f(2, 3)}},
		{op: "QuickGelu", in: in{f(2, 3)}, attrs: []*graphs.Attr{graphs.F("alpha", 1)}},
		{op: "FusedConv", in: in{f(2, 4, 5, 5), f(6, 2, 3, 3), f(6)}, attrs: []*graphs.Attr{graphs.I("group", 2), ints("pads", 1, 1, 1, 1), ints("strides", 2, 2), graphs.S("activation", "Relu")}},
		{op: "FusedConv", in: in{f(2, 4, 5, 5), f(6, 4, 3, 3), f(6), f(2, 6, 3, 3)}, attrs: []*graphs.Attr{graphs.S("activation", "Relu")}},
		{op: "FusedConv", in: in{f(1, 2, 4), f(3, 2, 2)}, attrs: []*graphs.Attr{graphs.S("activation", "LeakyRelu"), {Name: "activation_params", Kind: graphs.AttrFloats, Floats: []float32{0.3}}}},
		{op: "FusedConv", in: in{f(1, 2, 4), f(3, 2, 2)}, attrs: []*graphs.Attr{graphs.S("activation", "Clip"), {Name: "activation_params", Kind: graphs.AttrFloats, Floats: []float32{-0.5, 1}}}},
		{op: "FusedConv", in: in{f(1, 2, 4), f(3, 2, 2)}, attrs: []*graphs.Attr{graphs.S("activation", "HardSigmoid"), {Name: "activation_params", Kind: graphs.AttrFloats, Floats: []float32{0.3, 0.4}}}},
		{op: "FusedConv", in: in{f(1, 2, 4), f(3, 2, 2)}, attrs: []*graphs.Attr{graphs.S("activation", "Sigmoid")}},
		{op: "FusedGemm", in: in{f(3, 4), f(5, 4), f(5)}, attrs: []*graphs.Attr{graphs.I("transB", 1), graphs.F("alpha", 0.5), graphs.F("beta", 2), graphs.S("activation", "Tanh")}},
		{op: "FusedGemm", in: in{f(3, 4), f(4, 5), f(5)}, attrs: []*graphs.Attr{graphs.S("activation", "LeakyRelu"), graphs.F("activation_alpha", 0.3)}},
		{op: "FusedMatMul", in: in{f(2, 3, 4), f(2, 5, 4)}, attrs: []*graphs.Attr{graphs.I("transB", 1), graphs.F("alpha", 0.5)}},
		{op: "FusedMatMul", in: in{f(2, 4, 3), f(2, 4, 5)}, attrs: []*graphs.Attr{graphs.I("transA", 1)}},
		{op: "FusedMatMul", in: in{f(4), f(4, 5)}, attrs: []*graphs.Attr{graphs.I("transA", 1)}},
		{op: "FusedMatMul", in: in{f(3, 2, 4), f(2, 5, 4)}, attrs: []*graphs.Attr{graphs.I("transBatchA", 1), graphs.I("transB", 1)}},
		{op: "FusedMatMul", in: in{f(4, 2, 6, 3), f(5, 2, 6, 4)}, attrs: []*graphs.Attr{graphs.I("transBatchA", 1), graphs.I("transBatchB", 1), graphs.I("transA", 1), graphs.I("transB", 1)}},
		{op: "SkipLayerNormalization", in: in{f(2, 3, 4), f(2, 3, 4), f(4), f(4)}, attrs: []*graphs.Attr{graphs.F("epsilon", 0.01)}},
		{op: "SkipLayerNormalization", in: in{f(2, 3, 4), f(3, 4), f(4), nil, f(4)}, outs: 4},
		{op: "SkipSimplifiedLayerNormalization", in: in{f(2, 3, 4), f(2, 3, 4), f(4)}, outs: 4, attrs: []*graphs.Attr{graphs.F("epsilon", 0.01)}},
		{op: "Attention", in: in{f(2, 3, 4), f(4, 12), f(12)}, attrs: []*graphs.Attr{graphs.I("num_heads", 2)}},
		{op: "Attention", in: in{f(2, 3, 4), f(4, 12), f(12), nil, nil, f(2, 2, 3, 3)}, attrs: []*graphs.Attr{graphs.I("num_heads", 2), graphs.F("scale", 0.7)}},
		{op: "Attention", in: in{f(2, 3, 4), f(4, 12), f(12)}, attrs: []*graphs.Attr{graphs.I("num_heads", 2), graphs.I("unidirectional", 1)}},
		{op: "Attention", in: in{f(2, 3, 4), f(4, 14), f(14), f(2, 3)}, mask: 3, attrs: []*graphs.Attr{graphs.I("num_heads", 2), ints("qkv_hidden_sizes", 4, 4, 6)}},
		{op: "MultiHeadAttention", in: in{f(2, 3, 4), f(2, 5, 4), f(2, 5, 6)}, attrs: []*graphs.Attr{graphs.I("num_heads", 2)}},
		{op: "MultiHeadAttention", in: in{f(2, 3, 4), f(2, 5, 4), f(2, 5, 6), f(14), f(2, 5)}, mask: 4, attrs: []*graphs.Attr{graphs.I("num_heads", 2)}},
		{op: "MultiHeadAttention", in: in{f(2, 3, 4), f(2, 3, 4), f(2, 3, 4), nil, nil, f(1, 2, 3, 3)}, attrs: []*graphs.Attr{graphs.I("num_heads", 2), graphs.I("unidirectional", 1), graphs.F("scale", 0.3)}},
	} {
		t.Run(fmt.Sprint(c.op, c.in), func(t *testing.T) {
			r := graphtest.NewRand(3)
			g := &graphs.Graph{Name: c.op}
			n := &graphs.Node{Name: "fused", Op: c.op, Domain: "com.microsoft", Attrs: c.attrs}
			var in []*graphs.Tensor
			for i, dims := range c.in {
				if dims == nil {
					n.Inputs = append(n.Inputs, nil)
					continue
				}
				typ, x := graphs.Float32, r.Normal(dims...)
				if c.mask > 0 && i == c.mask {
					typ = graphs.Int32
					for k := range x.F64() {
						x.F64()[k] = float64((k + 1) % 3 & 1)
					}
				}
				x, err := graphs.FromFloats(typ, x.F64(), dims...)
				if err != nil {
					t.Fatal(err)
				}
				v := &graphs.Value{Name: fmt.Sprint("x", i), Type: typ, Shape: graphs.MakeShape(dims...)}
				n.Inputs, g.Inputs, in = append(n.Inputs, v), append(g.Inputs, v), append(in, x)
			}
			for i := range max(c.outs, 1) {
				o := (*graphs.Value)(nil)
				if i == 0 || i == 3 {
					o = &graphs.Value{Name: fmt.Sprint("y", i), Type: graphs.Float32, From: n}
					g.Outputs = append(g.Outputs, o)
				}
				n.Outputs = append(n.Outputs, o)
			}
			g.Nodes = append(g.Nodes, n)
			m := graphs.NewModel(g)
			m.Opsets = append(m.Opsets, graphs.Opset{Domain: "com.microsoft", Version: 1})
			want := enginetest.Outputs(t, e, m, in...)
			for i, y := range enginetest.Outputs(t, ref.New(), m, in...) {
				f, err := want[i].AsFloats()
				if err != nil {
					t.Fatal(err)
				}
				enginetest.Close(t, g.Outputs[i].Name, y, 2e-5, f...)
			}
			for _, v := range append(g.Inputs, g.Outputs...) { // differences are taken in float64
				if v.Type.IsFloat() {
					v.Type = graphs.Float64
				}
			}
			d, err := autodiff.Grad(m, autodiff.Options{Of: "y0", VJP: true})
			if err != nil {
				t.Fatal(err)
			}
			if len(d.Opsets) != 1 {
				t.Errorf("the gradient asks for the domains %v", d.Opsets)
			}
			spelt, err := autodiff.Prepare(m)
			if err != nil {
				t.Fatal(err)
			}
			graphtest.CheckGrad(t, spelt.Graph, d.Graph, in, graphtest.GradOptions{Of: "y0", Kinks: true})
		})
	}
}
