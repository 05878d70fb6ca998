package passes

import (
	"context"
	"math"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/refeval"
)

// run evaluates g on ramps: input k holds (k+1)·(i−2.5)/4 at element i.
func run(t *testing.T, g *graphs.Graph) [][]float64 {
	t.Helper()
	p, err := refeval.New(g, graphs.OpsetVersion, refeval.Options{Round: true})
	if err != nil {
		t.Fatal(err)
	}
	var in []*graphs.Tensor
	for k, v := range p.Inputs() {
		dims := make([]int, len(v.Shape))
		for i, d := range v.Shape {
			dims[i] = 2
			if d.Known() {
				dims[i] = int(d.N)
			}
		}
		vals := make([]float64, graphs.Size(dims))
		for i := range vals {
			vals[i] = float64(k+1) * (float64(i) - 2.5) / 4
		}
		x, err := graphs.FromFloats(v.Type, vals, dims...)
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, x)
	}
	out, err := p.Run(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	var vals [][]float64
	for _, o := range out {
		f, err := o.AsFloats()
		if err != nil {
			t.Fatal(err)
		}
		vals = append(vals, f)
	}
	return vals
}

// near compares with a relative tolerance of float32 rounding.
func near(t *testing.T, what string, got, want [][]float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d outputs, want %d", what, len(got), len(want))
	}
	for o := range want {
		if len(got[o]) != len(want[o]) {
			t.Fatalf("%s: output %d has %d elements, want %d", what, o, len(got[o]), len(want[o]))
		}
		for i, w := range want[o] {
			if !(math.Abs(got[o][i]-w) <= 1e-6*(1+math.Abs(w))) {
				t.Fatalf("%s: output %d: got %v, want %v", what, o, got[o], want[o])
			}
		}
	}
}

// signature spells out the outputs, which passes must keep.
func signature(g *graphs.Graph) string {
	s := ""
	for _, v := range g.Outputs {
		s += v.String() + " "
	}
	return s
}

func TestFold(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(2), graphs.D(3)})
	two := b.Op("Constant", nil, graphs.F("value_float", 2))
	k := b.Exp(b.Add(two, b.Const(graphs.Of([]float32{0.5}))))                          // constants only
	size := b.Gather(b.Shape(x), b.Ints(1, 2), 0)                                       // known from the shape
	n := b.Concat(0, b.Gather(b.Shape(x), b.Ints(0), 0), b.Op("ReduceProd", one(size))) // batch is not
	w := b.Neg(b.Weight("w", graphs.Of([]float32{1, 2, 3, 4, 5, 6}, 6)))                // a weight
	big := b.Expand(b.Const(graphs.Of([]float32{1})), b.Ints(1<<8, 1<<8))               // too large
	y := b.Add(b.Mul(b.Reshape(x, n), k), w)
	b.Output("y", b.Add(y, b.Op("ReduceMean", one(big), graphs.I("keepdims", 0))))
	b.Output("c", b.Neg(two)) // an output
	g := finish(t, b)
	want, sig := run(t, g), signature(g)
	changed, err := FoldConstants(g)
	check(t, g, err)
	if got := ops(g); !changed || got != "Shape Gather Concat Neg Expand Reshape Mul Add ReduceMean Add Neg" {
		t.Errorf("changed %v, left %s", changed, got)
	}
	near(t, "folded", run(t, g), want)
	if signature(g) != sig {
		t.Errorf("outputs %s, want %s", signature(g), sig)
	}
	if len(Weights(g)) != 1 {
		t.Errorf("initializers %s: only w is a weight", inits(g))
	}
	if changed, _ := FoldConstants(g); changed {
		t.Error("a second run changes something")
	}
}

func TestFoldLeavesDefaultsAndSubgraphOutputs(t *testing.T) {
	g := branch(t)
	def := constant("def", graphs.Ints(2, 3))
	g.Inputs, g.Inits = append(g.Inputs, def), append(g.Inits, def)
	b := graphs.NewBuilder(g)
	b.Output("z", b.Add(b.Op("Mul", one(def, def)), b.Ints(1, 1)))
	then := g.Nodes[1].Attr("then_branch").G
	sb := graphs.NewBuilder(then)
	sb.Prefix("then")
	c := sb.Op("Constant", nil, graphs.T("value", graphs.Of([]float32{1, 2}, 2)))
	then.Outputs[0] = sb.Add(sb.Exp(c), then.Outputs[0])
	changed, err := FoldConstants(g)
	check(t, g, err)
	if !changed || ops(then) != "Neg Add" || ops(g) != "Exp If Mul Add" {
		t.Errorf("changed %v: branch %s, graph %s", changed, ops(then), ops(g))
	}
}

func TestSimplify(t *testing.T) {
	shape := graphs.Shape{graphs.Sym("batch"), graphs.D(2), graphs.D(3)}
	for _, c := range []struct {
		name string
		f    func(b *graphs.Builder, x *graphs.Value) *graphs.Value
		want string // ops left; the trailing Exp makes the output
	}{
		{"Identity", func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Identity(b.Identity(x)) }, ""},
		{"x·1", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Mul(b.Scalar(x, 1), b.Div(x, b.Scalar(x, 1)))
		}, ""},
		{"x+0", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Add(x, b.Sub(x, b.Full(b.Const(f32(2, 3)), 0)))
		}, "ConstantOfShape Sub Add"},
		{"x+0 of a constant", func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Add(b.Const(f32(2, 3)), x) }, ""},
		{"0−x", func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Sub(b.Scalar(x, 0), x) }, "Sub"},
		{"zero weight", func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Add(x, b.Weight("w", f32(3))) }, "Add"},
		{"broadcast by 1", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Mul(x, b.Const(graphs.Of([]float32{1, 1}, 2, 1, 1, 1)))
		}, "Mul"},
		{"x^1", func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Pow(x, b.Scalar(x, 1)) }, ""},
		{"casts", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Op("Cast", one(b.Op("CastLike", one(x, x))), graphs.I("to", 1))
		}, ""},
		{"cast away", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Cast(b.Cast(x, graphs.Float16), graphs.Float32)
		}, "Cast Cast"},
		{"double Neg", func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Neg(b.Neg(b.Neg(x))) }, "Neg"},
		{"transposes", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Transpose(b.Transpose(x, 1, 2, 0), 2, 0, 1)
		}, ""},
		{"transposes merged", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Op("Transpose", one(b.Transpose(x, 1, 2, 0)))
		}, "Transpose"},
		{"reshape to the same", func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.ReshapeTo(x, -1, 2, 3) }, ""},
		{"reshapes", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.ReshapeTo(b.Op("Flatten", one(b.Unsqueeze(x, 1))), -1, 3, 2)
		}, "Reshape"},
		{"reshape and back", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.ReshapeTo(b.ReshapeTo(x, -1, 6), -1, 2, 3)
		}, ""},
		{"reshape that copies an axis", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.ReshapeTo(b.ReshapeTo(x, -1, 6), 0, 3, 2)
		}, "Reshape Reshape"},
		{"expand", func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Expand(x, b.Ints(1, 3)) }, ""},
		{"expand more", func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Expand(x, b.Ints(2, 1, 1, 3)) }, "Expand"},
		{"slice all", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Slice(x, []int64{0}, []int64{math.MaxInt64}, []int64{1}, nil)
		}, ""},
		{"slice reversed", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Slice(x, []int64{-1}, []int64{math.MinInt64}, []int64{1}, []int64{-1})
		}, "Slice"},
		{"pad nothing", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Op("Pad", one(x, b.Ints(0, 0, 0, 0, 0, 0)))
		}, ""},
		{"pad and crop", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Op("Pad", one(x, b.Ints(0, 1, 0, 0, -1, 0)))
		}, "Pad"},
		{"sum over no axes", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Op("ReduceSum", one(x), graphs.I("noop_with_empty_axes", 1), graphs.I("keepdims", 0))
		}, ""},
		{"sum over size 1", func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Sum(b.Sum(x, true, 1), true, 1) }, "ReduceSum"},
		{"square sum over no axes", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Op("ReduceSumSquare", one(x), graphs.I("noop_with_empty_axes", 1))
		}, "ReduceSumSquare"},
		{"Sum of one", func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Op("Sum", one(x)) }, ""},
		{"Where", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			no, yes := b.Const(graphs.Of([]bool{false, false, false}, 3)), b.Const(graphs.Of([]bool{true}))
			return b.Where(yes, b.Where(no, b.Scalar(x, 7), x), b.Scalar(x, 8))
		}, ""},
		{"Where on both", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Where(b.Const(graphs.Of([]bool{true, false, true}, 3)), x, b.Scalar(x, 7))
		}, "Where"},
		{"Where widened", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Where(b.Const(graphs.Of([]bool{true, true}, 2, 1, 1, 1)), x, b.Scalar(x, 7))
		}, "Where"},
		{"Dropout", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Op("Dropout", one(x, b.Scalar(x, 0.5)))
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := graphs.NewBuilder(&graphs.Graph{})
			x := b.Input("x", graphs.Float32, shape)
			b.Output("y", b.Exp(c.f(b, x)))
			g := finish(t, b)
			want, sig := run(t, g), signature(g)
			for range 3 {
				_, err := Simplify(g)
				check(t, g, err)
			}
			if changed, _ := Simplify(g); changed {
				t.Error("a fourth run still changes something")
			}
			left := "Exp"
			if c.want != "" {
				left = c.want + " Exp"
			}
			if ops(g) != left || signature(g) != sig {
				t.Errorf("got %s to %s, want %s to %s", ops(g), signature(g), left, sig)
			}
			near(t, "simplified", run(t, g), want)
		})
	}
}

func TestSimplifyKeepsOutputs(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{})
	x := b.Input("x", graphs.Float32, graphs.MakeShape(3))
	b.Output("same", b.Mul(x, b.Scalar(x, 1))) // of an input: needs an Identity
	e := b.Exp(x)
	b.Output("e", b.Identity(e)) // takes over e
	b.Output("again", b.Neg(b.Neg(e)))
	g := finish(t, b)
	want, sig := run(t, g), signature(g)
	changed, err := Simplify(g)
	check(t, g, err)
	if !changed || ops(g) != "Identity Exp Identity" || signature(g) != sig {
		t.Errorf("got %s, outputs %s, want %s", ops(g), signature(g), sig)
	}
	near(t, "simplified", run(t, g), want)
}

func TestRaisedNumbers(t *testing.T) {
	// A Softmax of opset 12 on axis 1 of [2,2,3] normalises six elements at once.
	m := old(12, "Softmax", 1, one(input("x", 2, 2, 3)))
	if err := Raise(m); err != nil {
		t.Fatal(err)
	}
	var want []float64
	for r := range 2 {
		sum := 0.0
		for i := range 6 {
			sum += math.Exp((float64(6*r+i) - 2.5) / 4)
		}
		for i := range 6 {
			want = append(want, math.Exp((float64(6*r+i)-2.5)/4)/sum)
		}
	}
	near(t, "softmax", run(t, m.Graph), [][]float64{want})

	// GroupNormalization of opset 18, two groups of two channels with one scale
	// and bias each; both with a known and an unknown number of channels.
	x := input("x", 1, 4, 1)
	sizes := []*graphs.Value{constant("s", graphs.Of([]float32{2, 3}, 2)), constant("b", graphs.Of([]float32{-1, 1}, 2))}
	for _, d := range []graphs.Dim{graphs.D(4), graphs.Sym("channels")} {
		v := *x
		v.Shape = graphs.Shape{graphs.D(1), d, graphs.D(1)}
		m = old(18, "GroupNormalization", 1, append(one(&v), sizes...), graphs.I("num_groups", 2), graphs.F("epsilon", 0))
		if err := Raise(m); err != nil {
			t.Fatal(err)
		}
		if !d.Known() { // run makes symbolic axes 2 long
			m.Graph.Inputs[0].Shape[1] = graphs.D(4)
		}
		near(t, "group norm", run(t, m.Graph), [][]float64{{-3, 1, -2, 4}})
	}

	// RMSNormalization of opset 23: x / √mean(x²).
	m = old(23, "RMSNormalization", 1, one(input("x", 1, 2), constant("s", graphs.Of([]float32{1, 2}, 2))), graphs.F("epsilon", 0))
	if err := Raise(m); err != nil {
		t.Fatal(err)
	}
	a, b := -2.5/4, -1.5/4
	rms := math.Sqrt((a*a + b*b) / 2)
	near(t, "rms norm", run(t, m.Graph), [][]float64{{a / rms, 2 * b / rms}})
}
