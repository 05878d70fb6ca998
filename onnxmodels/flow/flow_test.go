package flow

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/graphs/refeval"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/nn"
)

// A program runs a model in float64.
type program struct {
	t   testing.TB
	run *refeval.Program
}

func compile(t testing.TB, m *graphs.Model) program {
	t.Helper()
	p, err := refeval.New(m.Graph, graphs.OpsetVersion, refeval.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return program{t, p}
}

// call feeds [n, …] by name and returns the outputs by name.
func (p program) call(n int, in map[string][]float64) map[string][]float64 {
	p.t.Helper()
	var feed []*graphs.Tensor
	for _, v := range p.run.Inputs() {
		x, ok := in[v.Name]
		if !ok {
			p.t.Fatalf("no input %s", v.Name)
		}
		feed = append(feed, graphs.Of(x, append([]int{n}, v.Shape[1:].Ints()...)...))
	}
	got, err := p.run.Run(p.t.Context(), feed)
	if err != nil {
		p.t.Fatal(err)
	}
	out := map[string][]float64{}
	for i, v := range p.run.Outputs() {
		out[v.Name] = got[i].F64()
	}
	return out
}

func normals(seed uint64, n int) []float64 {
	r := rand.New(rand.NewPCG(seed, 5))
	x := make([]float64, n)
	for i := range x {
		x[i] = r.NormFloat64()
	}
	return x
}

// uniforms lie in (−1, 1).
func uniforms(seed uint64, n int) []float64 {
	r := rand.New(rand.NewPCG(seed, 6))
	x := make([]float64, n)
	for i := range x {
		x[i] = 2*r.Float64() - 1
	}
	return x
}

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol*(1+math.Abs(want))) {
		t.Errorf("%s: wanted %.9g, got %.9g", what, want, got)
	}
}

// shaken moves all weights of a model at random, the same weight by the same amount
// in whichever graph, so that no layer is the identity.
func shaken(m *graphs.Model) *graphs.Model { return moved(m, 0.1) }

func moved(m *graphs.Model, amount float64) *graphs.Model {
	to := map[string]*graphs.Tensor{}
	for _, v := range passes.Weights(m.Graph) {
		seed := uint64(0)
		for _, c := range v.Name {
			seed = seed*31 + uint64(c)
		}
		w := slices.Clone(v.Const.F32())
		for i, d := range normals(seed, len(w)) {
			w[i] += float32(amount * d)
		}
		to[v.Name] = graphs.Of(w, v.Const.Dims...)
	}
	return With(m, to)
}

// jacobian adds vector → product, the vector times the derivative of an output in an
// input: our own gradient.
func jacobian(t testing.TB, m *graphs.Model, of, wrt string) program {
	t.Helper()
	p, err := autodiff.Prepare(m)
	if err != nil {
		t.Fatal(err)
	}
	g := p.Graph
	if err := passes.CutAt(g, of); err != nil {
		t.Fatal(err)
	}
	b := graphs.NewBuilder(g)
	y := g.Output(of)
	slopes, err := autodiff.Append(b, y, b.Input("vector", graphs.Float32, y.Shape), g.Input(wrt))
	if err != nil {
		t.Fatal(err)
	}
	b.Output("product", slopes[0])
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	if err := passes.CutAt(g, "product"); err != nil {
		t.Fatal(err)
	}
	return compile(t, p)
}

// logDet is log|det| of the derivative at x [d], from d products with unit vectors.
func logDet(t testing.TB, p program, wrt string, x []float64) float64 {
	t.Helper()
	d := len(x)
	all, unit := make([]float64, 0, d*d), make([]float64, d*d)
	for i := range d {
		all = append(all, x...)
		unit[i*d+i] = 1
	}
	rows := p.call(d, map[string][]float64{wrt: all, "vector": unit})["product"]
	v, _ := mat.LogDet(mat.NewDense(d, d, rows))
	return v
}

// single is a model of one layer, there and back.
func single(t testing.TB, l layer, dims []int) (there, back *graphs.Model) {
	t.Helper()
	build := func(f func(n *net, h *graphs.Value) (y, d *graphs.Value), dims []int) *graphs.Model {
		n := &net{Net: &nn.Net{Builder: graphs.NewBuilder(&graphs.Graph{Name: "layer"}), Weights: nn.Kaiming}, seed: 1}
		h := n.Input("h", graphs.Float32, append(graphs.Shape{onnxmodels.Batch}, graphs.MakeShape(dims...)...))
		y, d := f(n, h)
		if d == nil {
			d = n.Sum(n.Scale(y, 0), false)
		}
		n.Output("y", y)
		n.Output("log_det", d)
		m, err := finish(n)
		if err != nil {
			t.Fatal(err)
		}
		return shaken(m)
	}
	there = build(l.forward, dims)
	return there, build(l.inverse, there.Graph.Output("y").Shape[1:].Ints())
}

var layers = map[string]struct {
	layer
	dims []int
}{
	"normalisation":           {actNorm{"n"}, []int{2, 2, 2}},
	"normalisation of points": {actNorm{"n"}, []int{5}},
	"1×1 convolution":         {mixing{"m"}, []int{4, 1, 2}},
	"1×1 convolution of 5":    {mixing{"m"}, []int{5, 1, 1}},
	"rotation of points":      {mixing{"m"}, []int{7}},
	"rotation of one":         {mixing{"m"}, []int{1}},
	"squeeze":                 {squeeze{}, []int{2, 2, 2}},
	"logit":                   {logit{0.9, 256.0 / 255}, []int{2, 2, 2}},
	"sigmoid by channels":     {coupling{"c", Channels, false, Coupling{Kind: Sigmoid, Hidden: 5, Activation: "swish"}}, []int{3, 2, 1}},
	"tanh by channels":        {coupling{"c", Channels, true, Coupling{Kind: Tanh, Hidden: 5, Activation: "swish"}}, []int{3, 2, 1}},
	"sigmoid by checkerboard": {coupling{"c", Checkerboard, true, Coupling{Kind: Sigmoid, Hidden: 5, Activation: "tanh"}}, []int{1, 2, 4}},
	"tanh by checkerboard":    {coupling{"c", Checkerboard, false, Coupling{Kind: Tanh, Hidden: 5, Activation: "tanh"}}, []int{1, 4, 2}},
	"tanh of points":          {coupling{"c", Channels, false, Coupling{Kind: Tanh, Hidden: 5, Activation: "tanh"}}, []int{3}},
	"mixture of points":       {coupling{"c", Channels, true, Coupling{Kind: Logistic, Components: 3, Hidden: 5, Activation: "tanh"}}, []int{2}},
	"mixture by channels":     {coupling{"c", Channels, false, Coupling{Kind: Logistic, Components: 3, Hidden: 4, Activation: "tanh"}}, []int{2, 2, 2}},
	"mixture by checkerboard": {coupling{"c", Checkerboard, true, Coupling{Kind: Logistic, Components: 2, Hidden: 4, Blocks: 1, Heads: 2}}, []int{1, 2, 4}},
	"chain": {chained{actNorm{"n"}, mixing{"m"}, coupling{"c", Channels, false, Coupling{Kind: Tanh, Hidden: 3, Activation: "tanh"}},
		coupling{"d", Checkerboard, false, Coupling{Kind: Sigmoid, Hidden: 3, Activation: "tanh"}}}, []int{2, 2, 2}},
}

// TestLayers: every layer goes there and back, and its log-determinants, in both
// directions, are those of the Jacobian that our own gradient gives.
func TestLayers(t *testing.T) {
	const n = 4
	for name, c := range layers {
		t.Run(name, func(t *testing.T) {
			there, back := single(t, c.layer, c.dims)
			d := graphs.Size(c.dims)
			x := uniforms(1, n*d)
			y := compile(t, there).call(n, map[string][]float64{"h": x})
			again := compile(t, back).call(n, map[string][]float64{"h": y["y"]})
			for i := range x {
				near(t, "there and back", again["y"][i], x[i], 1e-9)
			}
			of := func(out map[string][]float64, i int) float64 {
				if v := out["log_det"]; len(v) > 1 {
					return v[i]
				}
				return out["log_det"][0]
			}
			slope := jacobian(t, there, "y", "h")
			moved := false
			for i := range n {
				want := logDet(t, slope, "h", x[i*d:(i+1)*d])
				near(t, "log-determinant", of(y, i), want, 1e-7)
				near(t, "log-determinant on the way back", of(again, i), -want, 1e-7)
				moved = moved || math.Abs(want) > 1e-3
			}
			if _, ok := c.layer.(squeeze); moved == ok {
				t.Errorf("volume changes: %v", moved)
			}
		})
	}
}

// TestSplit: joining undoes splitting, and a checkerboard has black and white fields.
func TestSplit(t *testing.T) {
	n := &net{Net: &nn.Net{Builder: graphs.NewBuilder(&graphs.Graph{})}}
	x := n.Input(X, graphs.Float32, graphs.Shape{onnxmodels.Batch, graphs.D(1), graphs.D(2), graphs.D(4)})
	a, b := n.split(x, Checkerboard)
	n.Output("a", a)
	n.Output("b", b)
	n.Output("joined", n.join(a, b, Checkerboard))
	m, err := finish(n)
	if err != nil {
		t.Fatal(err)
	}
	out := compile(t, m).call(1, map[string][]float64{X: {0, 1, 2, 3, 4, 5, 6, 7}})
	for name, want := range map[string][]float64{"a": {0, 2, 5, 7}, "b": {1, 3, 4, 6}, "joined": {0, 1, 2, 3, 4, 5, 6, 7}} {
		if !slices.Equal(out[name], want) {
			t.Errorf("%s: wanted %v, got %v", name, want, out[name])
		}
	}
}

// nets says what each named flow must come to.
var nets = map[string]struct {
	dims  []int
	heavy bool // published sizes: built, not run
}{
	"glow-2d": {dims: []int{2}}, "realnvp-2d": {dims: []int{2}}, "flowpp-2d": {dims: []int{2}},
	"glow-16": {dims: []int{1, 16, 16}}, "whole-16": {dims: []int{1, 16, 16}}, "glow-28": {dims: []int{1, 28, 28}}, "glow-32": {dims: []int{3, 32, 32}},
	"realnvp-28": {dims: []int{1, 28, 28}},
	"flowpp-16":  {dims: []int{1, 16, 16}}, "flowpp-28": {dims: []int{1, 28, 28}}, "flowpp-32": {dims: []int{3, 32, 32}},
	"glow-28-published": {[]int{1, 28, 28}, true},
	"glow-32-published": {[]int{3, 32, 32}, true}, "flowpp-32-published": {[]int{3, 32, 32}, true},
}

// narrow is a named flow with few filters.
func narrow(t testing.TB, name string) Spec {
	t.Helper()
	s, err := ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	s.Coupling.Hidden, s.Coupling.Components = 4, min(s.Coupling.Components, 2)
	if s.Variational.Hidden > 0 {
		s.Variational.Hidden = 3
	}
	return s
}

func build(t testing.TB, s Spec, dims []int) *Model {
	t.Helper()
	m, err := Build(s, dims, 1)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestNets: every named flow, with few filters and all weights moved, goes there and
// back, and both directions agree on log p(x) = log N(z) + log|det|.
func TestNets(t *testing.T) {
	for name := range Nets {
		t.Run(name, func(t *testing.T) {
			want, ok := nets[name]
			if !ok {
				t.Fatal("not in the table of this test")
			}
			if want.heavy {
				s, err := ByName(name)
				if err != nil {
					t.Fatal(err)
				}
				build(t, s, want.dims)
				return
			}
			const n = 2
			m := build(t, narrow(t, name), want.dims)
			d := graphs.Size(want.dims)
			x := uniforms(2, n*d)
			out := compile(t, moved(m.Encode, 0.03)).call(n, map[string][]float64{X: x})
			back := compile(t, moved(m.Decode, 0.03)).call(n, map[string][]float64{Z: out[Z]})
			for i := range x {
				near(t, "there and back", back[X][i], x[i], 1e-6)
			}
			for i := range n {
				near(t, "log p on the way back", back[LogP][i], out[LogP][i], 1e-6)
			}
		})
	}
	for name := range nets {
		if _, ok := Nets[name]; !ok {
			t.Errorf("no network %s", name)
		}
	}
}

// TestDensity: log p is log N(z) + log|det ∂z/∂x| of the whole flow, several scales
// and the logit included.
func TestDensity(t *testing.T) {
	for name, s := range map[string]Spec{
		"glow": {Levels: 256, Dequantize: Uniform, Bound: 0.9, Coupling: Coupling{Kind: Sigmoid, Hidden: 3, Activation: "tanh"},
			Layers: []Layer{{Kind: Squeeze}, {Kind: Steps, N: 2}, {Kind: Leave}, {Kind: Squeeze}, {Kind: Steps, N: 1}}},
		"flow++": {Levels: 256, Dequantize: Uniform, Bound: 0.9, Coupling: Coupling{Kind: Logistic, Components: 2, Hidden: 3, Activation: "tanh"},
			Layers: []Layer{{Kind: Steps, N: 2, By: Checkerboard}, {Kind: Squeeze}, {Kind: Leave}, {Kind: Steps, N: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			dims := []int{1, 4, 4}
			m := build(t, s, dims)
			enc := shaken(m.Encode)
			x := uniforms(3, 16)
			out := compile(t, enc).call(1, map[string][]float64{X: x})
			want := logDet(t, jacobian(t, enc, Z, X), X, x)
			for _, z := range out[Z] {
				want -= z*z/2 + math.Log(2*math.Pi)/2
			}
			near(t, "log p", out[LogP][0], want, 1e-6) // constants are float32
		})
	}
}

// TestStart: the measured weights give every normalisation's output mean 0 and
// deviation 1, as a second measurement under them shows: it finds nothing to change.
func TestStart(t *testing.T) {
	const n = 16
	for _, name := range []string{"glow-16", "realnvp-2d", "flowpp-16"} {
		m := build(t, narrow(t, name), nets[name].dims)
		d := graphs.Size(nets[name].dims)
		start, err := m.Start()
		if err != nil {
			t.Fatal(err)
		}
		in := map[string][]float64{X: uniforms(4, n*d), Noise: normals(5, n*d)}
		found := compile(t, start).call(n, in)
		judge, err := m.Judge()
		if err != nil {
			t.Fatal(err)
		}
		moved := map[string]*graphs.Tensor{}
		for output, w := range found {
			name := StartOf(output)
			for _, v := range passes.Weights(judge.Graph) {
				if v.Name == name {
					f := make([]float32, len(w))
					for i := range w {
						f[i] = float32(w[i])
					}
					moved[name] = graphs.Of(f, v.Const.Dims...)
				}
			}
			if moved[name] == nil {
				t.Errorf("%s: no weight %s", output, name)
			}
		}
		norms := 0
		for _, v := range passes.Weights(judge.Graph) {
			if strings.Contains(v.Name, ".norm.") && !strings.Contains(v.Name, "block") {
				norms++
			}
		}
		if norms == 0 || norms != len(moved) {
			t.Errorf("%s: %d weights of normalisations, %d measured", name, norms, len(moved))
		}
		// The outputs of the normalisations are the inputs of what follows them.
		judge = With(judge, moved)
		checked := 0
		for _, node := range judge.Graph.Nodes {
			if node.Op == "Mul" && strings.HasSuffix(node.Inputs[0].Name, ".norm/Add") {
				judge.Graph.Outputs = append(judge.Graph.Outputs, node.Outputs[0])
				checked++
			}
		}
		if checked*2 != norms {
			t.Fatalf("%s: found %d outputs of %d normalisations", name, checked, norms/2)
		}
		out := compile(t, judge).call(n, in)
		for _, v := range judge.Graph.Outputs[1:] {
			c := int(v.Shape[1].N)
			y := out[v.Name]
			area := len(y) / n / c
			for k := range c {
				mean, square := 0.0, 0.0
				for i := range n {
					for j := range area {
						x := y[(i*c+k)*area+j]
						mean += x / float64(n*area)
						square += x * x / float64(n*area)
					}
				}
				near(t, name+": mean of "+v.Name, mean, 0, 1e-5)
				near(t, name+": deviation of "+v.Name, math.Sqrt(square-mean*mean), 1, 1e-4)
			}
		}
	}
}

// TestBound: uniform noise has density 1 in units of a level; that of variational
// noise is the change of volume from the normals it is made of.
func TestBound(t *testing.T) {
	dims := []int{1, 2, 4}
	const d = 8
	s := Spec{Levels: 4, Dequantize: Uniform, Bound: 0.9, Coupling: Coupling{Kind: Sigmoid, Hidden: 3, Activation: "tanh"},
		Layers: []Layer{{Kind: Squeeze}, {Kind: Steps, N: 1}}}
	x, noise := make([]float64, d), normals(7, d)
	for i := range x {
		x[i] = float64(i%4)*s.Level() - 1
	}
	for _, kind := range []string{Uniform, Variational} {
		s.Dequantize = kind
		s.Variational.Steps, s.Variational.Hidden = 2, 3
		m := build(t, s, dims)
		judge, err := m.Judge()
		if err != nil {
			t.Fatal(err)
		}
		got := compile(t, shaken(judge)).call(1, map[string][]float64{X: x, Noise: noise})[Bound][0]

		n := m.begin("fill")
		at, _ := s.fill(n, m.input(n, X), m.input(n, Noise))
		n.Output("place", at)
		fill, err := finish(n)
		if err != nil {
			t.Fatal(err)
		}
		fill = shaken(fill)
		place := compile(t, fill).call(1, map[string][]float64{X: x, Noise: noise})["place"]
		filled := slices.Clone(x)
		for i, p := range place {
			if p <= 0 || p >= 1 {
				t.Errorf("%s: noise at %g of a level", kind, p)
			}
			if want := math.Erfc(-noise[i]/math.Sqrt2) / 2; kind == Uniform {
				near(t, "place", p, want, 1e-7)
			}
			filled[i] += s.Level() * (p - 0.5)
		}
		want := compile(t, shaken(m.Encode)).call(1, map[string][]float64{X: filled})[LogP][0]
		if kind == Variational {
			for _, v := range noise {
				want += v*v/2 + math.Log(2*math.Pi)/2
			}
			p := jacobian(t, fill, "place", Noise)
			rows := make([]float64, 0, d*d)
			for i := range d {
				unit := make([]float64, d)
				unit[i] = 1
				rows = append(rows, p.call(1, map[string][]float64{X: x, Noise: noise, "vector": unit})["product"]...)
			}
			v, _ := mat.LogDet(mat.NewDense(d, d, rows))
			want += v
		}
		near(t, kind+": bound", got, want, 1e-6)
	}
}

// TestObjective: slopes of Σ weight·bound in every weight, against differences.
func TestObjective(t *testing.T) {
	const n, h = 2, 1e-4
	dims := []int{1, 2, 4}
	for name, s := range map[string]Spec{
		"glow": {Levels: 256, Dequantize: Uniform, Bound: 0.9, Coupling: Coupling{Kind: Sigmoid, Hidden: 3, Activation: "tanh"},
			Layers: []Layer{{Kind: Squeeze}, {Kind: Steps, N: 1}, {Kind: Leave}, {Kind: Steps, N: 1}}},
		"flow++": {Levels: 256, Dequantize: Variational, Bound: 0.9, Coupling: Coupling{Kind: Logistic, Components: 2, Hidden: 4, Blocks: 1, Heads: 2},
			Layers: []Layer{{Kind: Steps, N: 2, By: Checkerboard}}},
	} {
		t.Run(name, func(t *testing.T) {
			s.Variational.Steps, s.Variational.Hidden = 1, 2
			m := build(t, s, dims)
			objective, err := m.Objective()
			if err != nil {
				t.Fatal(err)
			}
			judge, err := m.Judge()
			if err != nil {
				t.Fatal(err)
			}
			objective, judge = shaken(objective), shaken(judge)
			in := map[string][]float64{X: uniforms(8, n*8), Noise: normals(9, n*8), Weight: {0.7, -1.3}}
			got := compile(t, objective).call(n, in)
			if j := compile(t, judge).call(n, in)[Bound]; math.Abs(j[0]-got[Bound][0]) > 1e-12 {
				t.Errorf("bound %g while learning, %g while judging", got[Bound][0], j[0])
			}
			ws := passes.Weights(judge.Graph)
			if len(ws) != len(got)-1 {
				t.Errorf("%d weights, %d slopes", len(ws), len(got)-1)
			}
			for _, v := range ws {
				old := v.Const.F32()
				dir := normals(10, len(old))
				at := func(h float64) float64 {
					w := slices.Clone(old)
					for i := range w {
						w[i] += float32(h * dir[i])
					}
					b := compile(t, With(judge, map[string]*graphs.Tensor{v.Name: graphs.Of(w, v.Const.Dims...)})).call(n, in)[Bound]
					return 0.7*b[0] - 1.3*b[1]
				}
				want := 0.0
				for i, g := range got[autodiff.GradPrefix+v.Name] {
					want += g * dir[i]
				}
				near(t, v.Name, (at(h)-at(-h))/(2*h), want, 2e-2)
			}
		})
	}
}

// TestGrid: the density of a flow of the plane is one: it sums to 1.
func TestGrid(t *testing.T) {
	for _, name := range []string{"glow-2d", "realnvp-2d", "flowpp-2d"} {
		m := build(t, narrow(t, name), []int{2})
		enc := compile(t, shaken(m.Encode))
		const side, half = 400, 24.0
		const cell = 2 * half / side
		sum := 0.0
		x := make([]float64, 2*side)
		for i := range side {
			for j := range side {
				x[2*j], x[2*j+1] = -half+cell*(float64(i)+0.5), -half+cell*(float64(j)+0.5)
			}
			for _, v := range enc.call(side, map[string][]float64{X: x})[LogP] {
				sum += math.Exp(v) * cell * cell
			}
		}
		near(t, name+": sum of the density", sum, 1, 0.02)
	}
}

func TestBuildErrors(t *testing.T) {
	for want, change := range map[string]func(s *Spec) []int{
		"layer":          func(s *Spec) []int { s.Layers = nil; return nil },
		"[C, H, W]":      func(*Spec) []int { return []int{4, 4} },
		"even height":    func(*Spec) []int { return []int{1, 7, 7} },
		"wanted squeeze": func(s *Spec) []int { s.Layers = []Layer{{Kind: "fold"}}; return nil },
		"levels":         func(s *Spec) []int { s.Levels = 1; return nil },
		"dequantize":     func(s *Spec) []int { s.Dequantize = "gaussian"; return nil },
		"bound":          func(s *Spec) []int { s.Bound = 1; return nil },
		"variational":    func(s *Spec) []int { s.Dequantize = Variational; return nil },
		"kind":           func(s *Spec) []int { s.Coupling.Kind = "spline"; return nil },
		"hidden":         func(s *Spec) []int { s.Coupling.Hidden = 0; return nil },
		"components":     func(s *Spec) []int { s.Coupling.Components = 3; return nil },
		"heads":          func(s *Spec) []int { s.Coupling.Heads = 3; return nil },
		"activation":     func(s *Spec) []int { s.Coupling.Activation = "bent"; return nil },
		"2 channels":     func(s *Spec) []int { s.Layers = []Layer{{Kind: Leave}}; return nil },
		"squeeze":        func(*Spec) []int { return []int{2} },
	} {
		s, err := ByName("glow-16")
		if err != nil {
			t.Fatal(err)
		}
		dims := change(&s)
		if dims == nil {
			dims = []int{1, 16, 16}
		}
		if _, err := Build(s, dims, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	if _, err := ByName("glow-17"); err == nil || !strings.Contains(err.Error(), "glow-16") {
		t.Errorf("wanted an error that names what there is, got %v", err)
	}
}
