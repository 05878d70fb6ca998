// Package enginetest is the suite that every [runtime.Engine] must pass.
package enginetest

import (
	"context"
	"errors"
	"math"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"ebmrun/graphs"
	"ebmrun/runtime"
)

// Unavailable skips a test that needs ONNX Runtime when opening it failed, or
// fails it if the environment variable EBM_REQUIRE_ORT is 1.
func Unavailable(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("EBM_REQUIRE_ORT") == "1" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// Build makes a model with a Builder.
func Build(t testing.TB, make func(b *graphs.Builder)) *graphs.Model {
	t.Helper()
	b := graphs.NewBuilder(&graphs.Graph{Name: "test"})
	make(b)
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	return graphs.NewModel(g)
}

// Provider is what the environment variable EBM_PROVIDER names: programs of a test
// that asks for none run on it.
func Provider() string { return os.Getenv("EBM_PROVIDER") }

// ProviderOptions are those of the environment variable EBM_PROVIDER_OPTIONS,
// key=value and so on, for it.
func ProviderOptions() map[string]string {
	all := map[string]string{}
	for _, kv := range strings.Fields(os.Getenv("EBM_PROVIDER_OPTIONS")) {
		k, v, _ := strings.Cut(kv, "=")
		all[k] = v
	}
	return all
}

// Compile compiles a model and closes it when the test ends.
func Compile(t testing.TB, e runtime.Engine, m *graphs.Model, o runtime.Options) runtime.Program {
	t.Helper()
	if o.Provider == "" {
		o.Provider = Provider()
	}
	p, err := e.Compile(context.Background(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Outputs is what an engine makes of a model's inputs.
func Outputs(t testing.TB, e runtime.Engine, m *graphs.Model, in ...*graphs.Tensor) []*graphs.Tensor {
	t.Helper()
	p := Compile(t, e, m, runtime.Options{})
	out := make([]*graphs.Tensor, len(p.Outputs()))
	if err := p.Run(t.Context(), in, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Close reports the first element in which got differs from want by more than
// tol·(1 + |want|).
func Close(t testing.TB, what string, got *graphs.Tensor, tol float64, want ...float64) {
	t.Helper()
	if got == nil {
		t.Errorf("%s: no tensor", what)
		return
	}
	v, err := got.AsFloats()
	if err != nil || len(v) != len(want) {
		t.Errorf("%s: wanted %d numbers, got %v (%v)", what, len(want), v, err)
		return
	}
	for i := range v {
		if !(math.Abs(v[i]-want[i]) <= tol*(1+math.Abs(want[i]))) {
			t.Errorf("%s: element %d: wanted %v, got %v", what, i, want[i], v[i])
			return
		}
	}
}

// Run runs the suite. It uses few ops, in float32, int64 and bool.
func Run(t *testing.T, e runtime.Engine) {
	for _, c := range cases {
		t.Run("op/"+c.name, func(t *testing.T) {
			p := Compile(t, e, Build(t, c.build), runtime.Options{})
			out := make([]*graphs.Tensor, len(c.want))
			if err := p.Run(t.Context(), c.in, out); err != nil {
				t.Fatal(err)
			}
			for i, want := range c.want {
				Close(t, p.Outputs()[i].Name, out[i], 1e-5, want...)
			}
		})
	}
	for name, test := range map[string]func(*testing.T, runtime.Engine){
		"batch": dynamicBatch, "in place": inPlace, "scalars": scalars, "defaults": defaults, "bad tensors": badTensors,
		"shared memory": sharedMemory, "cancelled": cancelled, "concurrent": concurrent, "close": closed, "repeat": repeated,
		"bad model": badModel, "provider": provider, "optimization": optimization,
	} {
		t.Run(name, func(t *testing.T) { test(t, e) })
	}
}

type opCase struct {
	name  string
	build func(b *graphs.Builder)
	in    []*graphs.Tensor
	want  [][]float64
}

func f32(dims []int, v ...float32) *graphs.Tensor { return graphs.Of(v, dims...) }

var cases = []opCase{
	{
		name: "Conv",
		build: func(b *graphs.Builder) {
			x := b.Input("x", graphs.Float32, graphs.MakeShape(1, 1, 3, 3))
			w := b.Input("w", graphs.Float32, graphs.MakeShape(1, 1, 2, 2))
			c := b.Input("b", graphs.Float32, graphs.MakeShape(1))
			b.Output("y", b.Op("Conv", []*graphs.Value{x, w, c}, graphs.IntsAttr("kernel_shape", 2, 2)))
			b.Output("padded", b.Op("Conv", []*graphs.Value{x, w, c}, graphs.IntsAttr("kernel_shape", 2, 2),
				graphs.IntsAttr("pads", 1, 1, 0, 0), graphs.IntsAttr("strides", 2, 2)))
		},
		in: []*graphs.Tensor{
			f32([]int{1, 1, 3, 3}, 1, 2, 3, 4, 5, 6, 7, 8, 9), f32([]int{1, 1, 2, 2}, 1, 0, 0, 2), f32([]int{1}, 0.5),
		},
		want: [][]float64{{11.5, 14.5, 20.5, 23.5}, {2.5, 6.5, 14.5, 23.5}},
	},
	{
		name: "ConvTranspose",
		build: func(b *graphs.Builder) {
			x := b.Input("x", graphs.Float32, graphs.MakeShape(1, 1, 2, 2))
			w := b.Input("w", graphs.Float32, graphs.MakeShape(1, 1, 2, 2))
			b.Output("y", b.Op("ConvTranspose", []*graphs.Value{x, w}, graphs.IntsAttr("kernel_shape", 2, 2)))
		},
		in:   []*graphs.Tensor{f32([]int{1, 1, 2, 2}, 1, 2, 3, 4), f32([]int{1, 1, 2, 2}, 1, 10, 100, 1000)},
		want: [][]float64{{1, 12, 20, 103, 1234, 2040, 300, 3400, 4000}},
	},
	{
		name: "MatMul",
		build: func(b *graphs.Builder) {
			x := b.Input("x", graphs.Float32, graphs.MakeShape(2, 3))
			y := b.Input("y", graphs.Float32, graphs.MakeShape(3, 2))
			b.Output("xy", b.MatMul(x, y))
			b.Output("xyT", b.Transpose(b.MatMul(x, y), 1, 0))
		},
		in:   []*graphs.Tensor{f32([]int{2, 3}, 1, 2, 3, 4, 5, 6), f32([]int{3, 2}, 1, 0, 0, 1, 2, 3)},
		want: [][]float64{{7, 11, 16, 23}, {7, 16, 11, 23}},
	},
	{
		name: "elementwise",
		build: func(b *graphs.Builder) {
			x := b.Input("x", graphs.Float32, graphs.MakeShape(3))
			b.Output("y", b.Add(b.Mul(b.Tanh(x), b.Sigmoid(x)), b.Exp(b.Neg(x))))
			b.Output("z", b.Div(b.Sqrt(b.Mul(x, x)), b.Scalar(x, 4)))
			b.Output("leaky", b.Op("LeakyRelu", []*graphs.Value{x}, graphs.F("alpha", 0.25)))
		},
		in: []*graphs.Tensor{f32([]int{3}, -1, 0, 2)},
		want: [][]float64{
			{math.Tanh(-1)/(1+math.E) + math.E, 1, math.Tanh(2)/(1+math.Exp(-2)) + math.Exp(-2)},
			{0.25, 0, 0.5}, {-0.25, 0, 2},
		},
	},
	{
		name: "reductions",
		build: func(b *graphs.Builder) {
			x := b.Input("x", graphs.Float32, graphs.MakeShape(2, 3))
			b.Output("sum", b.Sum(x, false, 1))
			b.Output("mean", b.Mean(x, true, 0))
			b.Output("all", b.Sum(x, false))
		},
		in:   []*graphs.Tensor{f32([]int{2, 3}, 1, 2, 3, 4, 5, 9)},
		want: [][]float64{{6, 18}, {2.5, 3.5, 6}, {24}},
	},
	{
		name: "shapes",
		build: func(b *graphs.Builder) {
			x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(2), graphs.D(2)})
			s := b.Shape(x)
			b.Output("shape", s)
			b.Output("flat", b.Reshape(x, b.Concat(0, b.Gather(s, b.Ints(0), 0), b.Ints(-1))))
			b.Output("tail", b.Slice(x, []int64{1}, []int64{2}, []int64{2}, []int64{1}))
		},
		in:   []*graphs.Tensor{f32([]int{1, 2, 2}, 1, 2, 3, 4)},
		want: [][]float64{{1, 2, 2}, {1, 2, 3, 4}, {2, 4}},
	},
	{
		name: "comparison",
		build: func(b *graphs.Builder) {
			x := b.Input("x", graphs.Float32, graphs.MakeShape(3))
			i := b.Input("i", graphs.Int64, graphs.MakeShape(3))
			over := b.Greater(x, b.Scalar(x, 0))
			b.Output("over", over)
			b.Output("picked", b.Where(over, i, b.Neg(i)))
		},
		in:   []*graphs.Tensor{f32([]int{3}, -1, 0, 2), graphs.Ints(1, 1<<40, 3)},
		want: [][]float64{{0, 0, 1}, {-1, -(1 << 40), 3}},
	},
}

// affine is y = x·w + b for any batch, and the sum of y per example.
func affine(t testing.TB) *graphs.Model {
	return Build(t, func(b *graphs.Builder) {
		x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(2)})
		y := b.Input("y", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(2)})
		w := b.Weight("w", f32([]int{2, 2}, 1, 2, 3, 4))
		z := b.Add(b.MatMul(x, w), y)
		b.Output("z", z)
		b.Output("sum", b.Sum(z, false, 1))
	})
}

func ramp(dims ...int) *graphs.Tensor {
	x := graphs.NewTensor(graphs.Float32, dims...)
	for i, v := 0, x.F32(); i < len(v); i++ {
		v[i] = float32(i)
	}
	return x
}

// affineWant is affine's first output for x = ramp(n, 2) and a constant y.
func affineWant(n int, y float64) []float64 {
	var want []float64
	for i := range n {
		a, b := float64(2*i), float64(2*i+1)
		want = append(want, a+3*b+y, 2*a+4*b+y)
	}
	return want
}

func filled(v float32, dims ...int) *graphs.Tensor {
	x := graphs.NewTensor(graphs.Float32, dims...)
	for i := range x.F32() {
		x.F32()[i] = v
	}
	return x
}

func dynamicBatch(t *testing.T, e runtime.Engine) {
	p := Compile(t, e, affine(t), runtime.Options{})
	for _, n := range []int{2, 5, 1, 2, 0} {
		out := make([]*graphs.Tensor, 2)
		if err := p.Run(t.Context(), []*graphs.Tensor{ramp(n, 2), filled(7, n, 2)}, out); err != nil {
			t.Fatalf("batch %d: %v", n, err)
		}
		Close(t, "z", out[0], 1e-6, affineWant(n, 7)...)
		if len(out[1].Dims) != 1 || out[1].Dims[0] != n {
			t.Errorf("sum: wanted dims [%d], got %v", n, out[1].Dims)
		}
	}
}

func inPlace(t *testing.T, e runtime.Engine) {
	p := Compile(t, e, affine(t), runtime.Options{})
	in := []*graphs.Tensor{ramp(3, 2), filled(1, 3, 2)}
	given := filled(-99, 3, 2)
	first := &given.F32()[0]
	out := []*graphs.Tensor{given, nil}
	for call := range 6 {
		for i := range in[1].F32() {
			in[1].F32()[i] = float32(call) // inputs are read anew in each call
		}
		if err := p.Run(t.Context(), in, out); err != nil {
			t.Fatal(err)
		}
		if out[0] != given || &given.F32()[0] != first {
			t.Fatal("the output was replaced, not written in place")
		}
		Close(t, "z", given, 1e-6, affineWant(3, float64(call))...)
		if out[1] == nil || out[1].Type != graphs.Float32 || len(out[1].F32()) != 3 {
			t.Fatalf("the second output was not allocated: %+v", out[1])
		}
	}
	// Many buffers, all alive, in turn.
	var ins, outs []*graphs.Tensor
	for range 9 {
		ins, outs = append(ins, filled(0, 3, 2)), append(outs, filled(0, 3, 2))
	}
	for round := range 2 {
		for i := range ins {
			ins[i].F32()[0] = float32(10*i + round)
			if err := p.Run(t.Context(), []*graphs.Tensor{ramp(3, 2), ins[i]}, []*graphs.Tensor{outs[i], nil}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, o := range outs {
		want := affineWant(3, 0)
		want[0] += float64(10*i + 1)
		Close(t, "z of one of many", o, 1e-6, want...)
	}
}

func scalars(t *testing.T, e runtime.Engine) {
	p := Compile(t, e, Build(t, func(b *graphs.Builder) {
		x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("n")})
		s := b.Input("s", graphs.Float32, graphs.Shape{})
		b.Output("total", b.Mul(b.Sum(x, false), s))
	}), runtime.Options{})
	s, total := graphs.NewTensor(graphs.Float32), graphs.NewTensor(graphs.Float32)
	for _, v := range []float32{2, 2, 5} {
		s.F32()[0] = v
		if err := p.Run(t.Context(), []*graphs.Tensor{ramp(4), s}, []*graphs.Tensor{total}); err != nil {
			t.Fatal(err)
		}
		Close(t, "total", total, 1e-6, float64(6*v))
	}
}

func defaults(t *testing.T, e runtime.Engine) {
	m := affine(t)
	w := m.Graph.Inits[0]
	m.Graph.Inputs = append(m.Graph.Inputs, w) // an input with a default
	p := Compile(t, e, m, runtime.Options{})
	if n := len(p.Inputs()); n != 2 {
		t.Fatalf("wanted 2 inputs without a default, got %d", n)
	}
	out := make([]*graphs.Tensor, 2)
	if err := p.Run(t.Context(), []*graphs.Tensor{ramp(1, 2), filled(0, 1, 2)}, out); err != nil {
		t.Fatal(err)
	}
	Close(t, "z", out[0], 1e-6, affineWant(1, 0)...)
}

func badTensors(t *testing.T, e runtime.Engine) {
	p := Compile(t, e, affine(t), runtime.Options{})
	x, y := ramp(3, 2), ramp(3, 2)
	short := ramp(3, 2)
	short.Data = short.F32()[:4]
	mislabelled := ramp(3, 2)
	mislabelled.Type = graphs.Float64
	none := []*graphs.Tensor{nil, nil}
	for _, c := range []struct {
		name    string
		in, out []*graphs.Tensor
		want    []string
	}{
		{"too few inputs", []*graphs.Tensor{x}, none, []string{"2", "1"}},
		{"no input", []*graphs.Tensor{x, nil}, none, []string{`"y"`, "float32[batch,2]", "none"}},
		{"type", []*graphs.Tensor{graphs.NewTensor(graphs.Float64, 3, 2), y}, none, []string{`"x"`, "float32", "float64"}},
		{"rank", []*graphs.Tensor{x, ramp(6)}, none, []string{`"y"`, "[batch,2]", "[6]"}},
		{"size", []*graphs.Tensor{ramp(3, 4), y}, none, []string{`"x"`, "[batch,2]", "[3 4]"}},
		{"batch", []*graphs.Tensor{x, ramp(4, 2)}, none, []string{`"y"`, "batch", "3", "4"}},
		{"short data", []*graphs.Tensor{short, y}, none, []string{`"x"`, "6", "4"}},
		{"mislabelled data", []*graphs.Tensor{mislabelled, y}, none, []string{`"x"`, "float32"}},
		{"too few outputs", []*graphs.Tensor{x, y}, none[:1], []string{"2 outputs", "1"}},
		{"output size", []*graphs.Tensor{x, y}, []*graphs.Tensor{ramp(2, 2), nil}, []string{`"z"`, "batch", "3", "2"}},
		{"output type", []*graphs.Tensor{x, y}, []*graphs.Tensor{nil, graphs.NewTensor(graphs.Int64, 3)}, []string{`"sum"`, "float32", "int64"}},
	} {
		err := p.Run(t.Context(), c.in, append([]*graphs.Tensor{}, c.out...))
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: error %q does not say %q", c.name, err, w)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %q is not one line", c.name, err)
		}
	}
	if err := p.Run(t.Context(), []*graphs.Tensor{x, y}, make([]*graphs.Tensor, 2)); err != nil {
		t.Errorf("after the errors: %v", err)
	}
}

func sharedMemory(t *testing.T, e runtime.Engine) {
	p := Compile(t, e, affine(t), runtime.Options{})
	buf := make([]float32, 12)
	x, y := graphs.Of(buf[:6], 3, 2), ramp(3, 2)
	for name, z := range map[string]*graphs.Tensor{"all": x, "part": graphs.Of(buf[4:10], 3, 2)} {
		err := p.Run(t.Context(), []*graphs.Tensor{x, y}, []*graphs.Tensor{z, nil})
		if err == nil || !strings.Contains(err.Error(), `"z"`) || !strings.Contains(err.Error(), `"x"`) {
			t.Errorf("%s: wanted an error about z and x, got %v", name, err)
		}
	}
	if err := p.Run(t.Context(), []*graphs.Tensor{x, y}, []*graphs.Tensor{graphs.Of(buf[6:], 3, 2), nil}); err != nil {
		t.Errorf("neighbours: %v", err)
	}
}

func cancelled(t *testing.T, e runtime.Engine) {
	p := Compile(t, e, affine(t), runtime.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	in, out := []*graphs.Tensor{ramp(3, 2), ramp(3, 2)}, make([]*graphs.Tensor, 2)
	if err := p.Run(ctx, in, out); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := p.Run(ctx, in, out); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: wanted %v, got %v", context.Canceled, err)
	}
	if err := p.Run(t.Context(), in, out); err != nil {
		t.Errorf("after an ended context: %v", err)
	}

	if p := Provider(); p != "" && p != runtime.CPU {
		return // what is seconds of work for one is none for another
	}
	// Seconds of work, ended while under way.
	const n, deep = 512, 1000
	long := Compile(t, e, Build(t, func(b *graphs.Builder) {
		x := b.Input("x", graphs.Float32, graphs.MakeShape(n, n))
		w := b.Input("w", graphs.Float32, graphs.MakeShape(n, n))
		for range deep {
			x = b.MatMul(x, w)
		}
		b.Output("y", x)
	}), runtime.Options{})
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := long.Run(ctx, []*graphs.Tensor{filled(0, n, n), filled(0, n, n)}, []*graphs.Tensor{nil})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline during a call: wanted %v, got %v", context.DeadlineExceeded, err)
	}
}

func concurrent(t *testing.T, e runtime.Engine) {
	p := Compile(t, e, affine(t), runtime.Options{})
	shared := ramp(4, 2)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			y, z := filled(float32(g), 4, 2), filled(0, 4, 2)
			for range 50 {
				out := []*graphs.Tensor{z, nil}
				if err := p.Run(ctx, []*graphs.Tensor{shared, y}, out); err != nil {
					t.Error(err)
					return
				}
				Close(t, "z", z, 1e-6, affineWant(4, float64(g))...)
			}
		})
	}
	wg.Wait()
}

// repeated makes calls that hand a state on, x ← x·w + y with another y in each.
func repeated(t *testing.T, e runtime.Engine) {
	p := Compile(t, e, affine(t), runtime.Options{})
	const calls = 5
	fill := func(call int, y *graphs.Tensor) error {
		for i := range y.F32() {
			y.F32()[i] = float32(call - i)
		}
		return nil
	}
	x, y, want := ramp(3, 2), filled(0, 3, 2), []*graphs.Tensor{nil, nil}
	var sums []float64
	for call := range calls {
		fill(call, y)
		want[0], want[1] = nil, nil
		if err := p.Run(t.Context(), []*graphs.Tensor{x, y}, want); err != nil {
			t.Fatal(err)
		}
		x = want[0]
		s, _ := want[1].AsFloats()
		sums = append(sums, s...)
	}
	x, out := ramp(3, 2), []*graphs.Tensor{filled(-99, 3, 2), filled(-99, 3)}
	var got []float32
	err := runtime.Repeat(t.Context(), p, []*graphs.Tensor{x, y}, out, runtime.Repetition{
		Calls: calls, From: 0, To: 0, Fresh: 1, Next: fill,
		Done: func(int) error { got = append(got, out[1].F32()...); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	w, _ := want[0].AsFloats()
	Close(t, "state", out[0], 1e-6, w...)
	Close(t, "sums", graphs.Of(got, len(got)), 1e-6, sums...)
	Close(t, "the start is left alone", x, 0, 0, 1, 2, 3, 4, 5)
	if r := runtime.Describe(p); r.Calls != 0 && r.Calls != 2*calls {
		t.Errorf("wanted %d calls counted, got %d", 2*calls, r.Calls)
	}
}

func closed(t *testing.T, e runtime.Engine) {
	p, err := e.Compile(t.Context(), affine(t), runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in, out := []*graphs.Tensor{ramp(3, 2), ramp(3, 2)}, make([]*graphs.Tensor, 2)
	if err := p.Run(t.Context(), in, out); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := p.Run(t.Context(), in, out); !errors.Is(err, runtime.ErrClosed) {
		t.Errorf("run after close: wanted %v, got %v", runtime.ErrClosed, err)
	}
	Close(t, "an output outlives the program", out[0], 1e-6, 3, 5, 13, 19, 23, 33)
}

func badModel(t *testing.T, e runtime.Engine) {
	x := &graphs.Value{Name: "x", Type: graphs.Float32, Shape: graphs.MakeShape(2)}
	y := &graphs.Value{Name: "y", Type: graphs.Float32, Shape: graphs.MakeShape(2)}
	n := &graphs.Node{Name: "odd", Op: "NoSuchOp", Inputs: []*graphs.Value{x}, Outputs: []*graphs.Value{y}}
	y.From = n
	m := graphs.NewModel(&graphs.Graph{Name: "bad", Nodes: []*graphs.Node{n}, Inputs: []*graphs.Value{x}, Outputs: []*graphs.Value{y}})
	if _, err := e.Compile(t.Context(), m, runtime.Options{}); err == nil || !strings.Contains(err.Error(), "NoSuchOp") {
		t.Errorf("unknown op: wanted an error that names it, got %v", err)
	}
	m.Graph.Outputs = nil
	if _, err := e.Compile(t.Context(), m, runtime.Options{}); err == nil {
		t.Error("a graph without outputs was compiled")
	}
}

func provider(t *testing.T, e runtime.Engine) {
	if _, err := e.Compile(t.Context(), affine(t), runtime.Options{Provider: "abacus"}); err == nil || !strings.Contains(err.Error(), "abacus") {
		t.Errorf("unknown provider: wanted an error that names it, got %v", err)
	}
	for _, name := range []string{runtime.CPU, runtime.Auto} {
		p := Compile(t, e, affine(t), runtime.Options{Provider: name})
		out := make([]*graphs.Tensor, 2)
		if err := p.Run(t.Context(), []*graphs.Tensor{ramp(2, 2), filled(3, 2, 2)}, out); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		Close(t, name, out[0], 1e-5, affineWant(2, 3)...)
		if r := runtime.Describe(p); r.Provider == "" || r.Calls != 1 {
			t.Errorf("%s: report %+v", name, r)
		}
	}
}

func optimization(t *testing.T, e runtime.Engine) {
	for _, l := range []runtime.Level{runtime.OptimizeAll, runtime.OptimizeExtended, runtime.OptimizeBasic, runtime.OptimizeNone} {
		p := Compile(t, e, affine(t), runtime.Options{Optimize: l, Threads: 1, NoSpin: true, NoArena: true})
		out := make([]*graphs.Tensor, 2)
		if err := p.Run(t.Context(), []*graphs.Tensor{ramp(2, 2), filled(3, 2, 2)}, out); err != nil {
			t.Fatalf("%v: %v", l, err)
		}
		Close(t, l.String(), out[0], 1e-5, affineWant(2, 3)...)
	}
}
