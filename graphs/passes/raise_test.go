package passes

import (
	"strings"
	"testing"

	"ebmrun/graphs"
)

// old is a model of one node in the form of an earlier opset.
func old(opset int64, op string, outputs int, in []*graphs.Value, attrs ...*graphs.Attr) *graphs.Model {
	g := &graphs.Graph{}
	n := &graphs.Node{Name: "n", Op: op, Attrs: attrs, Inputs: in}
	for _, v := range in {
		switch {
		case v == nil:
		case v.Const != nil:
			g.Inits = append(g.Inits, v)
		default:
			g.Inputs = append(g.Inputs, v)
		}
	}
	for i := range outputs {
		n.Outputs = append(n.Outputs, &graphs.Value{Name: "y" + string(rune('0'+i)), From: n})
	}
	g.Nodes, g.Outputs = []*graphs.Node{n}, n.Outputs
	m := graphs.NewModel(g)
	m.IR, m.Opsets = 5, []graphs.Opset{{Domain: "ai.onnx", Version: opset}}
	return m
}

func input(name string, dims ...int) *graphs.Value {
	return &graphs.Value{Name: name, Type: graphs.Float32, Shape: graphs.MakeShape(dims...)}
}

func constant(name string, t *graphs.Tensor) *graphs.Value {
	return &graphs.Value{Name: name, Type: t.Type, Shape: graphs.MakeShape(t.Dims...), Const: t}
}

func TestRaise(t *testing.T) {
	x := func(dims ...int) *graphs.Value { return input("x", dims...) }
	sizes := func(dims ...int) string { return graphs.MakeShape(dims...).String() }
	for _, c := range []struct {
		name  string
		m     *graphs.Model
		ops   string
		shape string // of the first output
		ints  map[int][]int64
		attrs string // of the last node
	}{
		{"ReduceSum", old(11, "ReduceSum", 1, one(x(2, 3, 4)), graphs.IntsAttr("axes", 1)), "ReduceSum", sizes(2, 1, 4), map[int][]int64{1: {1}}, ""},
		{"ReduceMean", old(17, "ReduceMean", 1, one(x(2, 3, 4)), graphs.IntsAttr("axes", -1), graphs.I("keepdims", 0)), "ReduceMean", sizes(2, 3), map[int][]int64{1: {-1}}, "keepdims"},
		{"ReduceMax all", old(13, "ReduceMax", 1, one(x(2, 3)), graphs.I("keepdims", 0)), "ReduceMax", "[]", nil, "keepdims"},
		{"Squeeze", old(12, "Squeeze", 1, one(x(2, 1, 4)), graphs.IntsAttr("axes", 1)), "Squeeze", sizes(2, 4), map[int][]int64{1: {1}}, ""},
		{"Unsqueeze", old(9, "Unsqueeze", 1, one(x(2)), graphs.IntsAttr("axes", 0, 2)), "Unsqueeze", sizes(1, 2, 1), map[int][]int64{1: {0, 2}}, ""},
		{"Pad", old(10, "Pad", 1, one(x(2, 2)), graphs.IntsAttr("pads", 0, 1, 0, 2), graphs.F("value", 3)), "Pad", sizes(2, 5), map[int][]int64{1: {0, 1, 0, 2}, 2: {3}}, ""},
		{"Slice", old(9, "Slice", 1, one(x(4, 4)), graphs.IntsAttr("starts", 1), graphs.IntsAttr("ends", 3), graphs.IntsAttr("axes", 1)), "Slice", sizes(4, 2), map[int][]int64{1: {1}, 2: {3}, 3: {1}}, ""},
		{"TopK", old(9, "TopK", 2, one(x(4, 8)), graphs.I("k", 3)), "TopK", sizes(4, 3), map[int][]int64{1: {3}}, ""},
		{"Split sizes", old(11, "Split", 2, one(x(5)), graphs.IntsAttr("split", 2, 3)), "Split", sizes(2), map[int][]int64{1: {2, 3}}, ""},
		{"Split even", old(13, "Split", 2, one(x(6))), "Split", sizes(3), nil, "num_outputs"},
		{"Clip", old(6+3, "Clip", 1, one(x(2)), graphs.F("max", 6)), "Clip", sizes(2), map[int][]int64{2: {6}}, ""},
		{"Dropout", old(10, "Dropout", 1, one(x(2)), graphs.F("ratio", 0)), "Dropout", sizes(2), map[int][]int64{1: {0}}, ""},
		{"Softmax flattened", old(12, "Softmax", 1, one(x(2, 3, 4))), "Flatten Softmax Shape Reshape", sizes(2, 3, 4), nil, ""},
		{"Softmax last", old(12, "LogSoftmax", 1, one(x(2, 3))), "LogSoftmax", sizes(2, 3), nil, "axis"},
		{"Softmax on 1×1", old(11, "Softmax", 1, one(x(2, 3, 1, 1))), "Softmax", sizes(2, 3, 1, 1), nil, "axis"},
		{"Softmax new", old(13, "Softmax", 1, one(x(2, 3, 4)), graphs.I("axis", 1)), "Softmax", sizes(2, 3, 4), nil, "axis"},
		{"Scatter", old(10, "Scatter", 1, one(x(2), constant("i", graphs.Ints(1)), input("u", 1))), "ScatterElements", sizes(2), nil, ""},
		{"GroupNormalization", old(18, "GroupNormalization", 1, one(x(1, 6, 2), input("s", 3), input("b", 3)), graphs.I("num_groups", 3)),
			"Unsqueeze Tile Reshape Unsqueeze Tile Reshape GroupNormalization", sizes(1, 6, 2), nil, "num_groups"},
		{"RMSNormalization", old(23, "RMSNormalization", 1, one(x(2, 6), input("s", 6))), "Mul ReduceMean Add Sqrt Div Mul", sizes(2, 6), nil, ""},
		{"Conv 22", old(22, "Conv", 1, one(x(1, 1, 5), constant("w", f32(2, 1, 3)))), "Conv", sizes(1, 2, 3), nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := Raise(c.m); err != nil {
				t.Fatal(err)
			}
			g := c.m.Graph
			check(t, g, nil)
			if c.m.Opset("") != 21 || c.m.IR != 10 || len(c.m.Opsets) != 1 {
				t.Errorf("model of IR %d, opsets %v", c.m.IR, c.m.Opsets)
			}
			last := g.Nodes[len(g.Nodes)-1]
			if ops(g) != c.ops || g.Outputs[0].Shape.String() != c.shape || g.Outputs[0].Type != graphs.Float32 {
				t.Errorf("got %s with output %s, want %s with shape %s", ops(g), g.Outputs[0], c.ops, c.shape)
			}
			for i, want := range c.ints {
				v := last.In(i)
				if v == nil || v.Const == nil || IsWeight(v) {
					t.Fatalf("input %d is %v, want a constant", i, v)
				}
				got, err := v.Const.AsFloats()
				if err != nil || len(got) != len(want) {
					t.Fatalf("input %d holds %v, want %v", i, got, want)
				}
				for k := range got {
					if got[k] != float64(want[k]) {
						t.Errorf("input %d holds %v, want %v", i, got, want)
					}
				}
			}
			var attrs []string
			for _, a := range last.Attrs {
				attrs = append(attrs, a.Name)
			}
			if got := strings.Join(attrs, " "); got != c.attrs {
				t.Errorf("attributes %q, want %q", got, c.attrs)
			}
			before := text(g)
			if err := Raise(c.m); err != nil || text(g) != before {
				t.Errorf("raising twice: %v, %s", err, text(g))
			}
		})
	}
	m := old(9, "Dropout", 2, one(input("x", 2)))
	m.Graph.Outputs = m.Graph.Outputs[:1]
	if err := Raise(m); err != nil || len(m.Graph.Nodes[0].Outputs) != 1 {
		t.Errorf("error %v: a mask that nobody reads", err)
	}
	// The axis that remains when the flattened ones but one have size 1.
	m = old(11, "Softmax", 1, one(x(2, 3, 1, 1)))
	if err := Raise(m); err != nil || m.Graph.Nodes[0].Int("axis", 9) != 1 {
		t.Errorf("error %v, axis %d", err, m.Graph.Nodes[0].Int("axis", 9))
	}
}

func TestRaiseResize(t *testing.T) {
	scales := func(s ...float32) *graphs.Value { return constant("scales", graphs.Of(s, len(s))) }
	for _, c := range []struct {
		m            *graphs.Model
		mode, nearby string
	}{
		{old(9, "Upsample", 1, one(input("x", 1, 1, 2, 2), scales(1, 1, 2, 2))), "asymmetric", "floor"},
		{old(10, "Resize", 1, one(input("x", 1, 1, 4, 4), scales(1, 1, 0.5, 0.5))), "asymmetric", "ceil"},
		{old(10, "Resize", 1, one(input("x", 1, 1, 4, 4), scales(1, 1, 2, 2)), graphs.S("mode", "linear")), "asymmetric", ""},
	} {
		c.m.Graph.Outputs[0].Type = graphs.Float32
		if err := Raise(c.m); err != nil {
			t.Fatal(err)
		}
		n := c.m.Graph.Nodes[0]
		if n.Op != "Resize" || n.In(1) != nil || n.In(2).Name != "scales" || n.Str("coordinate_transformation_mode", "") != c.mode || n.Str("nearest_mode", "") != c.nearby {
			t.Errorf("got %s with %s, %s", text(c.m.Graph), n.Str("coordinate_transformation_mode", ""), n.Str("nearest_mode", ""))
		}
	}
	m := old(11, "Resize", 1, one(input("x", 1, 1, 4, 4), constant("roi", f32(0)), constant("none", f32(0)), constant("sizes", graphs.Ints(1, 1, 8, 8))))
	if err := Raise(m); err != nil {
		t.Fatal(err)
	}
	if n := m.Graph.Nodes[0]; n.In(1) != nil || n.In(2) != nil || n.In(3) == nil {
		t.Errorf("got %s", text(m.Graph))
	}
}

func TestRaiseRefuses(t *testing.T) {
	x := func() *graphs.Value { return input("x", 1, 2, 3, 4) }
	bf := x()
	bf.Type = graphs.BFloat16
	stats := func() []*graphs.Value {
		return one(x(), input("s", 2), input("b", 2), input("m", 2), input("v", 2))
	}
	for _, c := range []struct {
		m    *graphs.Model
		want string
	}{
		{old(8, "Relu", 1, one(x())), "wanted opset 9 to 25 of ai.onnx, got 8"},
		{old(26, "Relu", 1, one(x())), "wanted opset 9 to 25 of ai.onnx, got 26"},
		{old(23, "Attention", 1, one(x(), input("k", 1), input("v", 1))), "Attention came after opset 22"},
		{old(24, "TensorScatter", 1, one(x(), x())), "TensorScatter came after opset 22"},
		{old(22, "Softplus", 1, one(bf)), "bfloat16 only since opset 22"},
		{old(9, "BatchNormalization", 5, stats()), "training-mode BatchNormalization"},
		{old(9, "Dropout", 2, one(x())), "the mask of a Dropout"},
		{old(10, "Resize", 1, one(x(), constant("s", graphs.Of([]float32{1, 1, 2, 0.5}, 4)))), "enlarges one axis"},
		{old(11, "Resize", 1, one(x()), graphs.S("coordinate_transformation_mode", "tf_half_pixel_for_nn")), "tf_half_pixel_for_nn"},
		{old(9, "Clip", 1, nil), "wanted a first input"},
	} {
		if err := Raise(c.m); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestRaiseWalksSubgraphs(t *testing.T) {
	g := branch(t)
	then := g.Nodes[1].Attr("then_branch").G
	n := then.Nodes[1]
	n.Op, n.Attrs = "Unsqueeze", []*graphs.Attr{graphs.IntsAttr("axes", 0)}
	n.Outputs[0].Shape = nil
	m := graphs.NewModel(g)
	m.IR, m.Opsets[0].Version = 3, 11
	w := constant("w", f32(2))
	g.Inits, g.Inputs = append(g.Inits, w), append(g.Inputs, w)
	if err := Raise(m); err != nil {
		t.Fatal(err)
	}
	if v := n.In(1); v == nil || v.Const == nil || len(then.Inits) != 1 || n.Outputs[0].Shape.String() != "[1,2]" {
		t.Errorf("branch %s makes %s", text(then), n.Outputs[0])
	}
	if len(g.Inputs) != 2 || len(g.Inits) != 1 {
		t.Errorf("inputs %v: one that IR 3 required for an initializer is kept", g.Inputs)
	}
}
