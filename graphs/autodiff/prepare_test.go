package autodiff

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/graphtest"
)

// control appends a node with subgraphs, whose outputs are given types by hand.
func control(b *graphs.Builder, op string, in []val, outputs []graphs.Shape, attrs ...*graphs.Attr) []val {
	n := &graphs.Node{Name: b.Target().Fresh(op), Op: op, Inputs: in, Attrs: attrs}
	for _, s := range outputs {
		n.Outputs = append(n.Outputs, &graphs.Value{Name: b.Target().Fresh(op), Type: graphs.Float64, Shape: s, From: n})
	}
	b.Append(n, graphs.OpsetVersion)
	return n.Outputs
}

// body is the graph of one pass: f maps the pass's inputs to its outputs.
func body(inputs []*graphs.Value, f func(b *graphs.Builder, x []val) []val) *graphs.Graph {
	g := &graphs.Graph{}
	b := graphs.NewBuilder(g)
	b.Prefix("inner")
	var x []val
	for _, v := range inputs {
		x = append(x, b.Input(v.Name, v.Type, v.Shape))
	}
	g.Outputs = append(g.Outputs, f(b, x)...)
	return g
}

func floats(name string, dims ...int) *graphs.Value {
	return &graphs.Value{Name: name, Type: graphs.Float64, Shape: graphs.MakeShape(dims...)}
}

func model(t *testing.T, build func(b *graphs.Builder, x, w val) val) *graphs.Model {
	t.Helper()
	b := graphs.NewBuilder(&graphs.Graph{Name: "m"})
	x := b.Input("x", graphs.Float64, graphs.MakeShape(3, 2))
	w := b.Input("w", graphs.Float64, graphs.MakeShape(2))
	b.Output("y", build(b, x, w))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	return graphs.NewModel(g)
}

var (
	passNumber = &graphs.Value{Name: "i", Type: graphs.Int64, Shape: graphs.Shape{}}
	going      = &graphs.Value{Name: "going", Type: graphs.Bool, Shape: graphs.Shape{}}
	xShape     = graphs.MakeShape(3, 2)
)

// Control flow of known extent is differentiated through: the gradient graph
// holds none of it and agrees with finite differences of the graph that does.
func TestControlFlow(t *testing.T) {
	repeat := func(b *graphs.Builder, w val) *graphs.Graph {
		return body([]*graphs.Value{passNumber, going, floats("h", 3, 2)}, func(b *graphs.Builder, in []val) []val {
			h := b.Tanh(b.Mul(in[2], w)) // w is the enclosing graph's
			scaled := b.Mul(h, b.Add(b.Cast(in[0], graphs.Float64), b.Scalar(h, 1)))
			return []val{b.Identity(in[1]), h, b.Sum(scaled, false, 1)}
		})
	}
	for name, m := range map[string]*graphs.Model{
		"If": model(t, func(b *graphs.Builder, x, w val) val {
			c := b.Less(b.Ints(1), b.Ints(2))
			yes := body(nil, func(b *graphs.Builder, _ []val) []val { return []val{b.Mul(b.Tanh(x), w)} })
			no := body(nil, func(b *graphs.Builder, _ []val) []val { return []val{b.Exp(x)} })
			return b.Mul(control(b, "If", []val{b.Squeeze(c, 0)}, []graphs.Shape{xShape}, graphs.G("then_branch", yes), graphs.G("else_branch", no))[0], x)
		}),
		"Loop": model(t, func(b *graphs.Builder, x, w val) val {
			trips := b.Const(graphs.Of([]int64{3}))
			out := control(b, "Loop", []val{trips, nil, x}, []graphs.Shape{xShape, graphs.MakeShape(3, 3)}, graphs.G("body", repeat(b, w)))
			return b.Add(out[0], b.Unsqueeze(b.Sum(b.Mul(out[1], out[1]), false, 0), 1))
		}),
		"Loop until a condition": model(t, func(b *graphs.Builder, x, w val) val {
			g := body([]*graphs.Value{passNumber, going, floats("h", 3, 2)}, func(b *graphs.Builder, in []val) []val {
				return []val{b.Less(in[0], b.Const(graphs.Of([]int64{1}))), b.Mul(b.Tanh(in[2]), w)}
			})
			return control(b, "Loop", []val{nil, b.Const(graphs.Of([]bool{true})), x}, []graphs.Shape{xShape}, graphs.G("body", g))[0]
		}),
		"Scan": model(t, func(b *graphs.Builder, x, w val) val {
			g := body([]*graphs.Value{floats("s", 2), floats("row", 2)}, func(b *graphs.Builder, in []val) []val {
				s := b.Tanh(b.Add(b.Mul(in[0], w), in[1]))
				return []val{s, b.Mul(s, s)}
			})
			out := control(b, "Scan", []val{w, x}, []graphs.Shape{graphs.MakeShape(2), xShape}, graphs.G("body", g), graphs.I("num_scan_inputs", 1),
				graphs.IntsAttr("scan_input_directions", 1))
			return b.Mul(out[1], out[0])
		}),
	} {
		t.Run(name, func(t *testing.T) {
			g, err := Grad(m, Options{VJP: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range g.Graph.Nodes {
				if n.Op == "If" || n.Op == "Loop" || n.Op == "Scan" {
					t.Errorf("the gradient graph holds %s", n.Op)
				}
			}
			in := []*graphs.Tensor{graphs.Of([]float64{0.3, -0.7, 1.1, 0.2, -0.4, 0.9}, 3, 2), graphs.Of([]float64{0.8, -1.2}, 2)}
			graphtest.CheckGrad(t, m.Graph, g.Graph, in, graphtest.GradOptions{Wrt: []string{"x", "w"}})
		})
	}
}

// A Loop of as many passes as run time makes it: by their number, by a condition that
// depends on the data, with values of growing size, inside another one.
func TestLoopsOfUnknownLength(t *testing.T) {
	first := func(b *graphs.Builder, v val) val {
		return b.Gather(b.ReshapeTo(v, -1), b.Const(graphs.Of([]int64{0})), 0)
	}
	growing := graphs.Shape{graphs.UnknownDim, graphs.D(2)}
	for name, build := range map[string]func(b *graphs.Builder, x, w, k val) val{
		"counted": func(b *graphs.Builder, x, w, k val) val {
			g := body([]*graphs.Value{passNumber, going, floats("h", 3, 2), floats("unused", 2)}, func(c *graphs.Builder, in []val) []val {
				h := c.Tanh(c.Add(c.Mul(in[2], w), x))
				return []val{c.Identity(in[1]), h, c.Identity(in[3]), c.Mul(c.Sum(c.Mul(h, in[2]), false, 1), c.Cast(in[0], graphs.Float64))}
			})
			out := control(b, "Loop", []val{k, nil, x, w}, []graphs.Shape{xShape, graphs.MakeShape(2), {graphs.UnknownDim, graphs.D(3)}}, graphs.G("body", g))
			return b.Add(b.Mul(out[0], out[1]), b.Unsqueeze(b.Sum(b.Mul(out[2], out[2]), false, 0), 1))
		},
		"until a value is large": func(b *graphs.Builder, x, w, k val) val {
			g := body([]*graphs.Value{passNumber, going, floats("h", 3, 2)}, func(c *graphs.Builder, in []val) []val {
				h := c.Add(c.Mul(in[2], w), c.Mul(x, x))
				return []val{c.Less(first(c, h), c.Const(graphs.Of([]float64{2}))), h}
			})
			return control(b, "Loop", []val{nil, b.Const(graphs.Of([]bool{true})), x}, []graphs.Shape{xShape}, graphs.G("body", g))[0]
		},
		"growing": func(b *graphs.Builder, x, w, k val) val {
			g := body([]*graphs.Value{passNumber, going, {Name: "all", Type: graphs.Float64, Shape: growing}}, func(c *graphs.Builder, in []val) []val {
				row := c.Sum(c.Mul(c.Tanh(in[2]), w), true, 0)
				return []val{c.Identity(in[1]), c.Concat(0, in[2], row)}
			})
			all := control(b, "Loop", []val{k, nil, x}, []graphs.Shape{growing}, graphs.G("body", g))[0]
			return b.Mul(x, b.Sum(b.Mul(all, all), true, 0))
		},
		"inside another": func(b *graphs.Builder, x, w, k val) val {
			g := body([]*graphs.Value{passNumber, going, floats("h", 3, 2)}, func(c *graphs.Builder, in []val) []val {
				inner := body([]*graphs.Value{{Name: "i2", Type: graphs.Int64, Shape: graphs.Shape{}}, {Name: "going2", Type: graphs.Bool, Shape: graphs.Shape{}}, floats("h2", 3, 2)}, func(d *graphs.Builder, more []val) []val {
					return []val{d.Identity(more[1]), d.Tanh(d.Add(d.Mul(more[2], w), in[2]))}
				})
				renameAll(inner, func(s string) string { return "deep/" + s })
				h := control(c, "Loop", []val{c.Add(in[0], c.Const(graphs.Of([]int64{1}))), nil, in[2]}, []graphs.Shape{xShape}, graphs.G("body", inner))
				return []val{c.Identity(in[1]), c.Mul(h[0], w)}
			})
			return control(b, "Loop", []val{k, nil, x}, []graphs.Shape{xShape}, graphs.G("body", g))[0]
		},
	} {
		t.Run(name, func(t *testing.T) {
			var k val
			m := model(t, func(b *graphs.Builder, x, w val) val {
				k = b.Input("k", graphs.Int64, graphs.Shape{})
				return build(b, x, w, k)
			})
			if p := Problems(m.Graph); len(p) > 0 {
				t.Errorf("problems: %v", p)
			}
			g, err := Grad(m, Options{VJP: true})
			if err != nil {
				t.Fatal(err)
			}
			again, err := Grad(g, Options{Of: "grad/x", Wrt: []string{"x", "w"}, VJP: true})
			if err != nil {
				t.Fatal("second order: ", err)
			}
			rng := rand.New(rand.NewPCG(3, 1))
			for passes := range int64(4) {
				in := []*graphs.Tensor{graphs.Of([]float64{0.3, -0.7, 1.1, 0.2, -0.4, 0.9}, 3, 2), graphs.Of([]float64{1.1, -1.2}, 2), graphs.Of([]int64{passes})}
				graphtest.CheckGrad(t, m.Graph, g.Graph, in, graphtest.GradOptions{Wrt: []string{"x", "w"}})
				cot := normals(rng, []int{3, 2})
				check(t, rng, g, again, append(in, cot), 1, 2)
			}
		})
	}
}

// A Scan over a sequence of unknown length goes back as a Loop.
func TestScanOfUnknownLength(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{Name: "scan"})
	x := b.Input("x", graphs.Float64, graphs.Shape{graphs.D(2), graphs.Sym("time")})
	w := b.Input("w", graphs.Float64, graphs.MakeShape(2))
	g := body([]*graphs.Value{floats("s", 2), floats("column", 2)}, func(b *graphs.Builder, in []val) []val {
		s := b.Tanh(b.Add(b.Mul(in[0], w), in[1]))
		return []val{s, b.Mul(s, s)}
	})
	out := control(b, "Scan", []val{w, x}, []graphs.Shape{graphs.MakeShape(2), {graphs.D(2), graphs.Sym("time")}}, graphs.G("body", g), graphs.I("num_scan_inputs", 1),
		graphs.IntsAttr("scan_input_axes", 1), graphs.IntsAttr("scan_input_directions", 1), graphs.IntsAttr("scan_output_axes", -1), graphs.IntsAttr("scan_output_directions", 1))
	b.Output("y", b.Mul(b.Mul(out[1], x), b.Unsqueeze(out[0], 1)))
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	m := graphs.NewModel(b.Target())
	if p := Problems(m.Graph); len(p) > 0 {
		t.Errorf("problems: %v", p)
	}
	grad, err := Grad(m, Options{VJP: true})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 1))
	for _, time := range []int{1, 4} {
		in := []*graphs.Tensor{normals(rng, []int{2, time}), normals(rng, []int{2})}
		graphtest.CheckGrad(t, m.Graph, grad.Graph, in, graphtest.GradOptions{Wrt: []string{"x", "w"}})
	}
}

// A model of opset 23 is differentiated where opset 21 can say the same.
func TestNewOps(t *testing.T) {
	for _, opset := range []int64{23, 25} {
		t.Run(fmt.Sprint(opset), func(t *testing.T) { newOps(t, opset) })
	}
}

func newOps(t *testing.T, opset int64) {
	b := graphs.NewBuilder(&graphs.Graph{})
	var x []val
	for _, name := range []string{"q", "k", "v"} {
		x = append(x, b.Input(name, graphs.Float64, graphs.MakeShape(1, 3, 8)))
	}
	heads := []*graphs.Attr{graphs.I("q_num_heads", 2), graphs.I("kv_num_heads", 2)}
	cos, sin := f64(b, []int{1, 3, 2}, 1, 0.9, 0.8, 0.7, 0.6, 0.5), f64(b, []int{1, 3, 2}, 0, 0.1, 0.2, 0.3, 0.4, 0.5)
	if opset > 23 {
		x[1] = b.Op("Swish", []val{b.Op("Cast", []val{x[1]}, graphs.I("to", int64(graphs.Float64)), graphs.S("round_mode", "down"))}, graphs.F("alpha", 1.5))
	}
	q := b.Op("RotaryEmbedding", []val{x[0], cos, sin}, graphs.I("num_heads", 2))
	b.Output("y", b.Op("RMSNormalization", []val{b.Op("Attention", []val{q, x[1], x[2]}, heads...), f64(b, []int{8}, 1, 2, 3, 4, 5, 6, 7, 8)}))
	m := graphs.NewModel(b.Target())
	m.Opsets[0].Version = opset
	g, err := Grad(m, Options{VJP: true})
	if err != nil {
		t.Fatal(err)
	}
	if g.Opset("") != graphs.OpsetVersion {
		t.Errorf("the gradient has opset %d", g.Opset(""))
	}
	for _, n := range g.Graph.Nodes {
		if n.Op == "Attention" || n.Op == "RotaryEmbedding" || n.Op == "RMSNormalization" || n.Op == "Swish" || n.Attr("round_mode") != nil {
			t.Errorf("the gradient holds %s, which opset %d does not have", n.Op, graphs.OpsetVersion)
		}
	}
	r := graphtest.NewRand(3)
	in := []*graphs.Tensor{r.Normal(1, 3, 8), r.Normal(1, 3, 8), r.Normal(1, 3, 8)}
	graphtest.CheckGrad(t, m.Graph, g.Graph, in, graphtest.GradOptions{})
}

// A model-local function is differentiated through.
func TestFunction(t *testing.T) {
	f := &graphs.Graph{}
	in, out := &graphs.Value{Name: "a"}, &graphs.Value{Name: "b"}
	n := &graphs.Node{Name: "square", Op: "Mul", Inputs: []val{in, in}, Outputs: []val{out}}
	out.From, f.Inputs, f.Outputs, f.Nodes = n, []val{in}, []val{out}, []*graphs.Node{n}
	m := model(t, func(b *graphs.Builder, x, w val) val {
		call := &graphs.Node{Name: "call", Op: "Square", Domain: "local", Inputs: []val{b.Mul(x, w)}}
		y := &graphs.Value{Name: "squared", Type: graphs.Float64, Shape: xShape, From: call}
		call.Outputs = []val{y}
		b.Append(call, graphs.OpsetVersion)
		return b.Tanh(y)
	})
	m.Opsets = append(m.Opsets, graphs.Opset{Domain: "local", Version: 1})
	m.Functions = []*graphs.Function{{Domain: "local", Name: "Square", Graph: f, Opsets: []graphs.Opset{{Version: graphs.OpsetVersion}}}}
	g, err := Grad(m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	x, w := []float64{0.3, -0.7, 1.1, 0.2, -0.4, 0.9}, []float64{0.8, -1.2}
	got := graphtest.Run(t, g, graphs.Of(x, 3, 2), graphs.Of(w, 2))
	for i, s := range got[1].F64() {
		u := x[i] * w[i%2]
		th := math.Tanh(u * u)
		if want := (1 - th*th) * 2 * u * w[i%2]; math.Abs(s-want) > 1e-12 {
			t.Errorf("slope %d: got %v, want %v", i, s, want)
		}
	}
}

// The scales of a Resize and the bounds of a Clip are no parameters, whatever their type.
func TestSettingsAreNoParameters(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{})
	x := b.Input("x", graphs.Float32, graphs.MakeShape(1, 1, 2, 2))
	w := b.Weight("w", graphs.Of([]float32{2}, 1))
	scales := b.Weight("scales", graphs.Of([]float32{1, 1, 2, 2}, 4))
	six := b.Weight("six", graphs.Of([]float32{6}))
	h := b.Op("Clip", []val{b.Mul(x, w), nil, six})
	b.Output("y", b.Op("Resize", []val{h, nil, scales}, mode("linear", "half_pixel")...))
	m := graphs.NewModel(b.Target())
	g, err := Grad(m, Options{Params: true})
	if err != nil {
		t.Fatal(err)
	}
	if g.Graph.Output("grad/w") == nil || g.Graph.Output("grad/scales") != nil || g.Graph.Output("grad/six") != nil {
		t.Errorf("outputs %v", g.Graph.Outputs)
	}
	if _, err := Grad(m, Options{Wrt: []string{"scales"}}); err == nil {
		t.Error("the slope of the scales was given")
	}
	if g, err := Grad(m, Options{Wrt: []string{"six"}}); err != nil || g.Graph.Output("grad/six") == nil {
		t.Errorf("the slope of a bound that is asked for by name: %v", err)
	}
}

// Quantization is refused unless its rounding is to be passed straight through.
func TestStraightThrough(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{})
	x := b.Input("x", graphs.Float64, graphs.MakeShape(2, 3))
	s, z := f64(b, []int{3}, 0.1, 0.5, 0.25), b.Const(graphs.Of([]int8{0, 3, -1}, 3))
	q := b.Op("QuantizeLinear", []val{x, s, z}, graphs.I("axis", 1))
	y := b.Op("DequantizeLinear", []val{q, s, z}, graphs.I("axis", 1))
	b.Output("y", b.Mul(y, y))
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	m := graphs.NewModel(b.Target())
	if _, err := Grad(m, Options{}); !errors.Is(err, ErrNoRule) || !strings.Contains(err.Error(), "straight-through") {
		t.Errorf("without the option: %v", err)
	}
	if p := Problems(m.Graph); len(p) != 1 || p[0].Node.Op != "QuantizeLinear" {
		t.Errorf("problems: %+v", p)
	}
	g, err := Grad(m, Options{StraightThrough: true})
	if err != nil {
		t.Fatal(err)
	}
	in := []*graphs.Tensor{graphs.Of([]float64{0.33, 1.1, -7.3, 20, -0.4, 0.9}, 2, 3)}
	want, got := graphtest.Run(t, m, in...)[0].F64(), graphtest.Run(t, g, in...)
	// y = q², so the slope is 2q, and 0 where 20/0.1 exceeds what 8 bits hold.
	round := []float64{0.3, 1, -7.25, 12.7, -0.5, 1}
	for i, r := range round {
		slope := 2 * r
		if i == 3 {
			slope = 0
		}
		if math.Abs(got[0].F64()[i]-want[i]) > 1e-12 || math.Abs(want[i]-r*r) > 1e-9 || math.Abs(got[1].F64()[i]-slope) > 1e-9 {
			t.Errorf("element %d: value %v (in the model %v), slope %v, want %v and %v", i, got[0].F64()[i], want[i], got[1].F64()[i], r*r, slope)
		}
	}
	// What is not dequantized before it is computed with has no straight path.
	loose := graphs.NewBuilder(&graphs.Graph{})
	raw := loose.Input("x", graphs.Float64, graphs.MakeShape(2))
	scale := loose.Const(graphs.Of([]float32{0.1}))
	codes := loose.Op("QuantizeLinear", []val{loose.Cast(raw, graphs.Float32), scale, loose.Const(graphs.Of([]int8{0}))})
	loose.Output("y", loose.Cast(loose.Op("Abs", []val{codes}), graphs.Float64))
	if _, err := Grad(graphs.NewModel(loose.Target()), Options{StraightThrough: true}); !errors.Is(err, ErrNoRule) || !strings.Contains(err.Error(), "QDQ") {
		t.Errorf("without a DequantizeLinear: %v", err)
	}
	// The straight path survives a second differentiation.
	if _, err := Grad(g, Options{Of: "grad/x", StraightThrough: true}); err != nil {
		t.Errorf("second order: %v", err)
	}
}

// An Expand in front of an op that broadcasts anyway is left out, one that gives
// the result its shape is not.
func TestAbsorbExpands(t *testing.T) {
	m := model(t, func(b *graphs.Builder, x, w val) val {
		return b.Sum(b.Add(b.Add(x, b.Expand(w, b.Ints(3, 2))), b.Mul(b.Expand(w, b.Ints(4, 3, 2)), w)), false, 0)
	})
	in := []*graphs.Tensor{graphs.Of([]float64{1, 2, 3, 4, 5, 6}, 3, 2), graphs.Of([]float64{0.5, -1}, 2)}
	want := graphtest.Run(t, m, in...)[0].F64()
	if err := Tidy(m.Graph); err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, n := range m.Graph.Nodes {
		if n.Op == "Expand" {
			kept++
		}
	}
	if kept != 1 {
		t.Errorf("%d Expand nodes are left, want 1", kept)
	}
	for i, v := range graphtest.Run(t, m, in...)[0].F64() {
		if v != want[i] {
			t.Errorf("element %d: %v, was %v", i, v, want[i])
		}
	}
}

// With every axis of the first operand unknown, an op is differentiated or
// refused for that reason, and what is served is right.
func TestRulesWithUnknownSizes(t *testing.T) {
	served := map[string]int{}
	for _, c := range cases {
		t.Run(c.op+"/"+c.name, func(t *testing.T) {
			b := graphs.NewBuilder(&graphs.Graph{})
			rng := rand.New(rand.NewPCG(9, 7))
			var x []val
			var in []*graphs.Tensor
			for i, a := range c.args {
				s := graphs.MakeShape(a.dims...)
				for k := range s {
					if i == 0 {
						s[k] = graphs.Sym(fmt.Sprintf("n%d", k))
					}
				}
				x = append(x, b.Input(fmt.Sprintf("x%d", i), graphs.Float64, s))
				in = append(in, a.draw(rng))
			}
			y := c.build(b, x)
			if b.Err() != nil {
				t.Skip("the forward graph needs a known size: ", b.Err())
			}
			b.Output("y", y)
			f := graphs.NewModel(b.Target())
			g, err := Grad(f, Options{Of: "y", VJP: true})
			if err != nil {
				if strings.Contains(err.Error(), "known") {
					t.Skip(err)
				}
				t.Fatal(err)
			}
			check(t, rng, f, g, in, 0, len(in))
			served[c.op]++
		})
	}
	for op, least := range map[string]int{"Slice": 4, "Pad": 5, "Concat": 2, "MatMul": 8, "LayerNormalization": 2, "Conv": 8, "Einsum": 5, "Gather": 3, "Softmax": 2, "Attention": 1, "Resize": 8, "Tile": 2, "AveragePool": 6, "GridSample": 8, "RoiAlign": 8, "MaxRoiPool": 1, "DeformConv": 4, "LSTM": 4, "GRU": 4, "RNN": 2} {
		if served[op] < least {
			t.Errorf("%s: only %d cases work with unknown sizes, wanted %d", op, served[op], least)
		}
	}
}

// TestEmptyAtRunTime takes slopes back through shapes of which an axis turns out empty.
func TestEmptyAtRunTime(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{})
	x := b.Input("x", graphs.Float64, graphs.MakeShape(4))
	at := b.Op("NonZero", []val{b.Greater(x, b.Scalar(x, 10))})
	picked := b.Op("GatherND", []val{x, b.Transpose(at, 1, 0)})
	products := b.ReshapeTo(b.Mul(b.Unsqueeze(picked, 0), b.Unsqueeze(picked, 1)), -1)
	b.Output("y", b.Add(b.Sum(b.Mul(b.Sigmoid(products), products), false), b.Sum(b.Mul(x, x), false)))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	first, err := Grad(graphs.NewModel(g), Options{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Grad(first, Options{Of: "grad/x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, last := range []float64{2, 11} { // none is picked, and one
		in := []*graphs.Tensor{graphs.Of([]float64{1, -1, 0.5, last}, 4)}
		graphtest.CheckGrad(t, g, first.Graph, in, graphtest.GradOptions{})
		graphtest.CheckGrad(t, first.Graph, second.Graph, in, graphtest.GradOptions{Of: "grad/x"})
	}
}
