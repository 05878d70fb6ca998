package autodiff

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/graphtest"
)

// forward builds a case as a graph x0, x1, … → y. With free set the first axis
// of every input is symbolic.
func (c gradCase) forward(t *testing.T, free bool) *graphs.Model {
	t.Helper()
	g := &graphs.Graph{Name: c.op}
	b := graphs.NewBuilder(g)
	var x []val
	for i, a := range c.args {
		s := graphs.MakeShape(a.dims...)
		if free && len(s) > 0 {
			s[0] = graphs.Sym(fmt.Sprintf("n%d", s[0].N))
		}
		x = append(x, b.Input(fmt.Sprintf("x%d", i), graphs.Float64, s))
	}
	b.Output("y", c.build(b, x))
	if _, err := b.Graph(); err != nil {
		t.Fatal(err)
	}
	return graphs.NewModel(g)
}

func (a arg) draw(rng *rand.Rand) *graphs.Tensor {
	lo, hi := a.lo, a.hi
	if lo == 0 && hi == 0 {
		lo, hi = -2, 2
	}
	v := make([]float64, graphs.Size(a.dims))
	for i := range v {
		for {
			v[i] = lo + (hi-lo)*rng.Float64()
			if a.far == 0 || math.Abs(v[i]-a.far*math.Round(v[i]/a.far)) > a.far/40 {
				break
			}
		}
	}
	return graphs.Of(v, a.dims...)
}

func normals(rng *rand.Rand, dims []int) *graphs.Tensor {
	v := make([]float64, graphs.Size(dims))
	for i := range v {
		v[i] = rng.NormFloat64()
	}
	return graphs.Of(v, dims...)
}

func moved(in, dir []*graphs.Tensor, h float64) []*graphs.Tensor {
	out := append([]*graphs.Tensor(nil), in...)
	for i, d := range dir {
		v := append([]float64(nil), in[i].F64()...)
		for k := range v {
			v[k] += h * d.F64()[k]
		}
		out[i] = graphs.Of(v, in[i].Dims...)
	}
	return out
}

func dot(a, b *graphs.Tensor) float64 {
	s := 0.0
	for i, v := range a.F64() {
		s += v * b.F64()[i]
	}
	return s
}

// check compares ⟨grad, v⟩ with the central difference of ⟨cotangent, f⟩ along
// v. grad has the inputs of f and then the cotangent of output y; its outputs
// from number skip on are the slopes of the first len(dir) inputs.
func check(t *testing.T, rng *rand.Rand, f, grad *graphs.Model, in []*graphs.Tensor, y, diff int) {
	t.Helper()
	const h = 1e-5
	base := graphtest.Run(t, f, in...)
	cot := normals(rng, base[y].Dims)
	got := graphtest.Run(t, grad, append(slices.Clone(in), cot)...)
	for i, v := range base {
		for k, x := range v.F64() {
			if math.Abs(x-got[i].F64()[k]) > 1e-9*(1+math.Abs(x)) {
				t.Fatalf("output %d of the gradient graph differs from the forward graph: %v, want %v", i, got[i].F64()[k], x)
			}
		}
	}
	var dir []*graphs.Tensor
	want, have := 0.0, 0.0
	for i := range diff {
		d := normals(rng, in[i].Dims)
		dir = append(dir, d)
		slope := got[len(base)+i]
		if fmt.Sprint(slope.Dims) != fmt.Sprint(in[i].Dims) {
			t.Fatalf("slope %d has dims %v, input has %v", i, slope.Dims, in[i].Dims)
		}
		have += dot(slope, d)
	}
	up, down := graphtest.Run(t, f, moved(in, dir, h)...), graphtest.Run(t, f, moved(in, dir, -h)...)
	want = (dot(up[y], cot) - dot(down[y], cot)) / (2 * h)
	if !(math.Abs(want-have) <= 1e-6*(1+math.Abs(want))) {
		t.Errorf("directional derivative: got %.10g, finite difference %.10g", have, want)
	}
}

func TestRulesAgainstFiniteDifferences(t *testing.T) {
	for _, c := range cases {
		t.Run(c.op+"/"+c.name, func(t *testing.T) {
			for seed := range uint64(2) {
				rng := rand.New(rand.NewPCG(seed, 7))
				var in []*graphs.Tensor
				for _, a := range c.args {
					in = append(in, a.draw(rng))
				}
				f := c.forward(t, false)
				g1, err := Grad(f, Options{Of: "y", VJP: true})
				if err != nil {
					t.Fatal(err)
				}
				check(t, rng, f, g1, in, 0, len(in))
				// Second order: the slope of the slope of x0.
				slope := "grad/x0"
				if seed == 0 {
					cot := normals(rng, graphtest.Run(t, f, in...)[0].Dims)
					in2 := append(append([]*graphs.Tensor(nil), in...), cot)
					g2, err := Grad(g1, Options{Of: slope, VJP: true})
					if err != nil {
						t.Fatalf("second order: %v", err)
					}
					check(t, rng, g1, g2, in2, 1, len(in2))
				}
			}
		})
	}
}

// Convolutions and pools serve every image size, too.
func TestConvolutionsWithSymbolicSize(t *testing.T) {
	served := 0
	for _, c := range cases {
		if !strings.HasPrefix(c.op, "Conv") && !strings.HasSuffix(c.op, "Pool") || c.op == "Concat" {
			continue
		}
		t.Run(c.op+"/"+c.name, func(t *testing.T) {
			g := &graphs.Graph{}
			b := graphs.NewBuilder(g)
			var x []val
			rng := rand.New(rand.NewPCG(5, 7))
			var in []*graphs.Tensor
			for i, a := range c.args {
				s := graphs.MakeShape(a.dims...)
				if i == 0 {
					s[0] = graphs.Sym("batch")
					for k := 2; k < len(s); k++ {
						s[k] = graphs.Sym(fmt.Sprintf("size%d", k))
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
			f := graphs.NewModel(g)
			g1, err := Grad(f, Options{Of: "y", VJP: true})
			if err != nil {
				if strings.Contains(err.Error(), "needs a known size") {
					t.Skip(err)
				}
				t.Fatal(err)
			}
			check(t, rng, f, g1, in, 0, len(in))
			served++
		})
	}
	if served < 15 {
		t.Errorf("only %d cases work with symbolic sizes", served)
	}
}

// With symbolic axes the same graph must serve every size.
func TestRulesWithSymbolicBatch(t *testing.T) {
	for _, c := range cases {
		t.Run(c.op+"/"+c.name, func(t *testing.T) {
			g := &graphs.Graph{}
			b := graphs.NewBuilder(g)
			var x []val
			for i, a := range c.args {
				s := graphs.MakeShape(a.dims...)
				if i == 0 && len(s) > 0 {
					s[0] = graphs.Sym("batch")
				}
				x = append(x, b.Input(fmt.Sprintf("x%d", i), graphs.Float64, s))
			}
			y := c.build(b, x)
			if b.Err() != nil {
				t.Skip("the forward graph needs a known size: ", b.Err())
			}
			b.Output("y", y)
			rng := rand.New(rand.NewPCG(3, 7))
			var in []*graphs.Tensor
			for _, a := range c.args {
				in = append(in, a.draw(rng))
			}
			f := graphs.NewModel(g)
			g1, err := Grad(f, Options{Of: "y", VJP: true})
			if err != nil {
				if strings.Contains(err.Error(), "must be known") || strings.Contains(err.Error(), "needs a known size") {
					t.Skip(err)
				}
				t.Fatal(err)
			}
			check(t, rng, f, g1, in, 0, len(in))
		})
	}
}

func TestEveryRuleHasACase(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range cases {
		seen[c.op] = true
	}
	for op, kind := range Ops() {
		if kind != "flat" && !seen[op] {
			t.Errorf("%s (%s) has no gradient case", op, kind)
		}
	}
	known := map[string]bool{}
	for _, op := range graphs.Ops() {
		known[op] = true
	}
	for op := range Ops() {
		if !known[op] {
			t.Errorf("%s can be differentiated but is not in the op table", op)
		}
	}
}

// The rule set is closed: every op in any gradient graph can be differentiated
// itself.
func TestClosed(t *testing.T) {
	ops := Ops()
	for _, c := range cases {
		g1, err := Grad(c.forward(t, false), Options{Of: "y", VJP: true})
		if err != nil {
			t.Fatalf("%s/%s: %v", c.op, c.name, err)
		}
		for _, n := range g1.Graph.Nodes {
			if ops[n.Op] == "" && !isLoop(n) {
				t.Errorf("%s/%s: the gradient holds %s, which cannot be differentiated", c.op, c.name, n.Op)
			}
		}
	}
}

// A sign error in any rule must be caught: with the sign of one rule flipped
// the check fails.
func TestCheckCatchesWrongRule(t *testing.T) {
	right := rules["Tanh"]
	rules["Tanh"] = func(b *Back, n *graphs.Node, dy []val) []val { return []val{b.Neg(right(b, n, dy)[0])} }
	defer func() { rules["Tanh"] = right }()
	c := gradCase{"Tanh", "", []arg{in(3)}, op1("Tanh")}
	f := c.forward(t, false)
	g, err := Grad(f, Options{Of: "y", VJP: true})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	x := []*graphs.Tensor{in(3).draw(rng)}
	cot := normals(rng, []int{3})
	got := graphtest.Run(t, g, x[0], cot)
	dir := normals(rng, []int{3})
	up, down := graphtest.Run(t, f, moved(x, []*graphs.Tensor{dir}, 1e-5)...), graphtest.Run(t, f, moved(x, []*graphs.Tensor{dir}, -1e-5)...)
	want := (dot(up[0], cot) - dot(down[0], cot)) / 2e-5
	if math.Abs(want-dot(got[1], dir)) < 1e-3*math.Abs(want) {
		t.Errorf("a flipped sign went unnoticed: %v", want)
	}
}

// A value that is asked about keeps its slope, whatever shorter way leads past it.
func TestSlopeOfAnActivation(t *testing.T) {
	g := &graphs.Graph{}
	b := graphs.NewBuilder(g)
	x := b.Input("x", graphs.Float64, graphs.MakeShape(2))
	z := b.Sigmoid(x)
	mean := b.Mean(x, true, 0)
	y := b.Output("y", b.Add(b.Add(b.Mul(z, x), b.Mul(b.Tanh(z), b.Scalar(x, 2))), b.Sub(x, mean)))
	slopes, err := Append(b, y, nil, z, x, mean)
	if err != nil || slices.Contains(slopes, nil) {
		t.Fatal(slopes, err)
	}
	for i, name := range []string{"dz", "dx", "dmean"} {
		b.Output(name, slopes[i])
	}
	got := graphtest.Run(t, graphs.NewModel(g), graphs.Of([]float64{3, -2}, 2))
	for i, v := range []float64{3, -2} {
		s := 1 / (1 + math.Exp(-v))
		th := math.Tanh(s)
		dz := v + 2*(1-th*th)
		if a, c := got[1].F64()[i], got[2].F64()[i]; math.Abs(a-dz) > 1e-15 || math.Abs(c-s-dz*s*(1-s)) > 1e-15 {
			t.Errorf("at %v: slopes %v and %v, wanted %v and %v", v, a, c, dz, s+dz*s*(1-s))
		}
	}
	if got[3].F64()[0] != -2 {
		t.Errorf("slope %v of the mean, wanted -2", got[3].F64())
	}
}

func TestTiesShareTheSlope(t *testing.T) {
	c := gradCase{"Max", "", []arg{in(2), in(2)}, op1("Max")}
	g, err := Grad(c.forward(t, false), Options{Of: "y"})
	if err != nil {
		t.Fatal(err)
	}
	x := graphs.Of([]float64{1, 2}, 2)
	got := graphtest.Run(t, g, x, graphs.Of([]float64{1, 5}, 2))
	if a, b := got[1].F64(), got[2].F64(); a[0] != 0.5 || b[0] != 0.5 || a[1] != 0 || b[1] != 1 {
		t.Errorf("slopes %v and %v", a, b)
	}
}

func TestRefusals(t *testing.T) {
	unknown := func(b *graphs.Builder, x val) val {
		n := &graphs.Node{Name: "act3", Op: "Strange", Domain: "com.example", Inputs: []val{x}}
		y := &graphs.Value{Name: b.Target().Fresh("h"), Type: x.Type, Shape: x.Shape, From: n}
		n.Outputs = []val{y}
		b.Append(n, graphs.OpsetVersion)
		return y
	}
	typeless := func(b *graphs.Builder, op string, in []val, attrs ...*graphs.Attr) val {
		n := &graphs.Node{Name: b.Target().Fresh(op), Op: op, Inputs: in, Attrs: attrs}
		n.Outputs = []val{{Name: b.Target().Fresh("h"), From: n}}
		b.Target().Nodes = append(b.Target().Nodes, n)
		return n.Outputs[0]
	}
	untyped := func(b *graphs.Builder, x val) val {
		y := typeless(b, "Strange", []val{x})
		y.From.Name, y.From.Domain = "act4", "com.example"
		return y
	}
	for name, c := range map[string]struct {
		build func(b *graphs.Builder, x val) val
		want  []string
	}{
		"unknown op": {func(b *graphs.Builder, x val) val { return b.Tanh(unknown(b, x)) }, []string{`node "act3"`, "com.example.Strange", "no gradient rule"}},
		"unknown op before a product": {func(b *graphs.Builder, x val) val {
			return typeless(b, "MatMul", []val{typeless(b, "Cast", []val{untyped(b, x)}, graphs.I("to", int64(x.Type))), b.Transpose(x, 1, 0)})
		}, []string{`node "act4"`, "com.example.Strange", "no gradient rule"}},
		"unknown op before one that is lowered": {func(b *graphs.Builder, x val) val {
			y := typeless(b, "ReduceProd", []val{untyped(b, x)})
			y.Type = x.Type // as declared
			return y
		}, []string{`node "act4"`, "com.example.Strange", "no gradient rule"}},
		"batch norm in training": {func(b *graphs.Builder, x val) val {
			v := f64(b, []int{3}, 1, 1, 1)
			return b.Ops("BatchNormalization", 3, []val{x, v, v, v, v}, graphs.I("training_mode", 1))[0]
		}, []string{"BatchNormalization", "training mode"}},
		"dropout in training": {func(b *graphs.Builder, x val) val {
			return b.Op("Dropout", []val{x, b.Scalar(x, 0.5), b.Const(graphs.Of([]bool{true}))})
		}, []string{"Dropout", "training mode"}},
	} {
		g := &graphs.Graph{}
		b := graphs.NewBuilder(g)
		x := b.Input("x", graphs.Float64, graphs.MakeShape(2, 3))
		b.Output("y", c.build(b, x))
		if b.Err() != nil {
			t.Fatal(name, b.Err())
		}
		_, err := Grad(graphs.NewModel(g), Options{Of: "y"})
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", name, err, w)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line", name)
		}
	}
	// Off the path an unknown op does no harm.
	g := &graphs.Graph{}
	b := graphs.NewBuilder(g)
	x := b.Input("x", graphs.Float64, graphs.MakeShape(2, 3))
	b.Output("y", b.Tanh(x))
	b.Output("z", unknown(b, x))
	if _, err := Grad(graphs.NewModel(g), Options{Of: "y"}); err != nil {
		t.Errorf("an unknown op off the path: %v", err)
	}
	if _, err := Grad(graphs.NewModel(g), Options{Of: "z"}); !errors.Is(err, ErrNoRule) {
		t.Errorf("an unknown op on the path: %v", err)
	}
	if p := Problems(g); len(p) != 1 || p[0].Node.Name != "act3" {
		t.Errorf("problems: %+v", p)
	}
}

// The contract of names and order.
func TestGradContract(t *testing.T) {
	g := &graphs.Graph{}
	b := graphs.NewBuilder(g)
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(3)})
	k := b.Input("index", graphs.Int64, graphs.Shape{graphs.D(1)})
	w := b.Weight("w", graphs.Of([]float32{1, 2, 3, 4, 5, 6}, 3, 2))
	unused := b.Weight("unused", graphs.Of([]float32{1}, 1))
	_ = unused
	h := b.Tanh(b.MatMul(x, w))
	b.Output("y", b.Sum(b.Gather(h, k, 1), false, 1))
	b.Output("h", h)
	m := graphs.NewModel(g)
	before := len(g.Nodes)
	got, err := Grad(m, Options{Of: "y", Params: true, ParamsAsInputs: true, VJP: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Nodes) != before || len(g.Inputs) != 2 {
		t.Error("the model given was changed")
	}
	list := func(vs []val) string {
		var s []string
		for _, v := range vs {
			s = append(s, v.String())
		}
		return strings.Join(s, "; ")
	}
	if in, want := list(got.Graph.Inputs), "x float32[batch,3]; index int64[1]; cotangent/y float32[batch]; w float32[3,2]"; in != want {
		t.Errorf("inputs\n got %s\nwant %s", in, want)
	}
	if out, want := list(got.Graph.Outputs), "y float32[batch]; h float32[batch,2]; grad/x float32[batch,3]; grad/w float32[3,2]"; out != want {
		t.Errorf("outputs\n got %s\nwant %s", out, want)
	}
	if _, err := Grad(m, Options{}); err == nil || !strings.Contains(err.Error(), "several float outputs") {
		t.Errorf("two outputs: %v", err)
	}
	if _, err := Grad(m, Options{Of: "y", Wrt: []string{"index"}}); err == nil || !strings.Contains(err.Error(), "not of a float type") {
		t.Errorf("an integer input: %v", err)
	}
}

// What a model gives for a vector of zeros or a query that may see no key, its
// gradient model gives too, with slopes that are numbers.
func TestLoweringsAtTheEdge(t *testing.T) {
	g := &graphs.Graph{}
	b := graphs.NewBuilder(g)
	x := b.Input("x", graphs.Float64, graphs.MakeShape(2, 3))
	b.Output("y", b.Op("LpNormalization", []val{x}))
	d, err := Grad(graphs.NewModel(g), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, out := range graphtest.Run(t, d, graphs.Of([]float64{0, 0, 0, 3, 0, 4}, 2, 3)) {
		for k, v := range out.F64() {
			if math.IsNaN(v) || i == 0 && k < 3 && v != 0 {
				t.Errorf("output %d: %v", i, out.F64())
				break
			}
		}
	}
}

// TestSeed: without a cotangent the sum of y is differentiated, whether y's sizes are
// known beforehand, read off the inputs, or read off y itself.
func TestSeed(t *testing.T) {
	for name, sizes := range map[string][2]graphs.Dim{
		"known": {graphs.D(2), graphs.D(3)}, "of an input": {graphs.Sym("n"), graphs.D(0)}, "of the output": {graphs.Sym("n"), graphs.Sym("m")},
	} {
		g := &graphs.Graph{Name: name}
		b := graphs.NewBuilder(g)
		x := b.Input("x", graphs.Float64, graphs.Shape{sizes[0], graphs.D(2)})
		all, in := x, []*graphs.Tensor{graphs.Of([]float64{1, -2, 3, 0.5}, 2, 2)}
		if sizes[1].N != 0 || !sizes[1].Known() {
			all = b.Concat(0, x, b.Input("z", graphs.Float64, graphs.Shape{sizes[1], graphs.D(2)}))
			in = append(in, graphs.Of(make([]float64, 6), 3, 2))
		}
		b.Output("y", b.Mul(all, all))
		if _, err := b.Graph(); err != nil {
			t.Fatal(err)
		}
		grad, err := Grad(graphs.NewModel(g), Options{Wrt: []string{"x"}})
		if err != nil {
			t.Fatal(name, err)
		}
		if got := graphtest.Run(t, grad, in...)[1].F64(); !slices.Equal(got, []float64{2, -4, 6, 1}) {
			t.Errorf("%s: want 2x, got %v", name, got)
		}
	}
}
