package ref

import (
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
)

func TestEngine(t *testing.T) { enginetest.Run(t, New()) }

// TestOutputsAreCopies checks that writing to an output changes neither an input
// nor a weight.
func TestOutputsAreCopies(t *testing.T) {
	m := enginetest.Build(t, func(b *graphs.Builder) {
		x := b.Input("x", graphs.Float32, graphs.MakeShape(2))
		b.Output("same", x)
		b.Output("w", b.Identity(b.Weight("weight", graphs.Of([]float32{5, 6}, 2))))
	})
	p := enginetest.Compile(t, New(), m, runtime.Options{})
	x := graphs.Of([]float32{1, 2}, 2)
	for range 2 {
		out := make([]*graphs.Tensor, 2)
		if err := p.Run(t.Context(), []*graphs.Tensor{x}, out); err != nil {
			t.Fatal(err)
		}
		enginetest.Close(t, "same", out[0], 0, 1, 2)
		enginetest.Close(t, "w", out[1], 0, 5, 6)
		for _, o := range out {
			o.F32()[0] = 99
		}
	}
	if x.F32()[0] != 1 {
		t.Error("the input was changed through an output")
	}
}

// TestOlderOpset checks that forms of older opsets are understood.
func TestOlderOpset(t *testing.T) {
	x := &graphs.Value{Name: "x", Type: graphs.Float32, Shape: graphs.MakeShape(2, 2)}
	y := &graphs.Value{Name: "y", Type: graphs.Float32, Shape: graphs.MakeShape(2)}
	n := &graphs.Node{Name: "sum", Op: "ReduceSum", Inputs: []*graphs.Value{x}, Outputs: []*graphs.Value{y},
		Attrs: []*graphs.Attr{graphs.IntsAttr("axes", 1), graphs.I("keepdims", 0)}}
	y.From = n
	m := graphs.NewModel(&graphs.Graph{Name: "old", Nodes: []*graphs.Node{n}, Inputs: []*graphs.Value{x}, Outputs: []*graphs.Value{y}})
	m.Opsets[0].Version = 11
	p := enginetest.Compile(t, New(), m, runtime.Options{})
	out := make([]*graphs.Tensor, 1)
	if err := p.Run(t.Context(), []*graphs.Tensor{graphs.Of([]float32{1, 2, 3, 4}, 2, 2)}, out); err != nil {
		t.Fatal(err)
	}
	enginetest.Close(t, "y", out[0], 0, 3, 7)
}

func TestNoOtherProvider(t *testing.T) {
	m := enginetest.Build(t, func(b *graphs.Builder) {
		b.Output("y", b.Neg(b.Input("x", graphs.Float32, graphs.MakeShape(1))))
	})
	_, err := backend{}.Compile(t.Context(), m, runtime.Options{Provider: runtime.CUDA})
	if err == nil || !strings.Contains(err.Error(), runtime.CUDA) {
		t.Errorf("wanted an error that names the provider, got %v", err)
	}
}

// BenchmarkMLP is the value and the slope of an energy 2-128-128-1 for 256
// points.
func BenchmarkMLP(b *testing.B) {
	m := mlp(b)
	p := enginetest.Compile(b, New(), m, runtime.Options{})
	in := []*graphs.Tensor{graphs.NewTensor(graphs.Float32, 256, 2)}
	for i := range in[0].F32() {
		in[0].F32()[i] = float32(i%17)/8 - 1
	}
	out := make([]*graphs.Tensor, len(p.Outputs()))
	for b.Loop() {
		if err := p.Run(b.Context(), in, out); err != nil {
			b.Fatal(err)
		}
	}
}

// mlp is a network of tanh layers with its backward pass: slopes of points and
// weights.
func mlp(tb testing.TB) *graphs.Model {
	weight := func(b *graphs.Builder, name string, dims ...int) *graphs.Value {
		w := graphs.NewTensor(graphs.Float32, dims...)
		for i := range w.F32() {
			w.F32()[i] = float32((i*7919)%101)/500 - 0.1
		}
		return b.Weight(name, w)
	}
	return enginetest.Build(tb, func(b *graphs.Builder) {
		x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(2)})
		sizes := []int{2, 128, 128, 1}
		h, acts, ws := x, []*graphs.Value{x}, []*graphs.Value{}
		for i := range 3 {
			w := weight(b, "w"+string(rune('0'+i)), sizes[i], sizes[i+1])
			h = b.Add(b.MatMul(h, w), weight(b, "b"+string(rune('0'+i)), sizes[i+1]))
			if i < 2 {
				h = b.Tanh(h)
			}
			acts, ws = append(acts, h), append(ws, w)
		}
		b.Output("energy", h)
		d := b.Full(h, 1)
		for i := 2; i >= 0; i-- {
			if i < 2 {
				y := acts[i+1]
				d = b.Mul(d, b.Sub(b.Scalar(y, 1), b.Mul(y, y)))
			}
			b.Output("grad/b"+string(rune('0'+i)), b.Sum(d, false, 0))
			b.Output("grad/w"+string(rune('0'+i)), b.MatMul(b.Transpose(acts[i], 1, 0), d))
			d = b.MatMul(d, b.Transpose(ws[i], 1, 0))
		}
		b.Output("grad/x", d)
	})
}

// TestKeep: an input that is kept must not change until it is renewed.
func TestKeep(t *testing.T) {
	g := &graphs.Graph{Name: "g"}
	b := graphs.NewBuilder(g)
	b.Output("y", b.Add(b.Input("x", graphs.Float32, graphs.MakeShape(2)), b.Input("w", graphs.Float32, graphs.MakeShape(2))))
	if _, err := b.Graph(); err != nil {
		t.Fatal(err)
	}
	p, err := New().Compile(t.Context(), graphs.NewModel(g), runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	x, w := graphs.Of([]float32{1, 2}, 2), graphs.Of([]float32{3, 4}, 2)
	run := func() error { return p.Run(t.Context(), []*graphs.Tensor{x, w}, make([]*graphs.Tensor, 1)) }
	change := func() { x.F32()[0]++; w.F32()[1]++ }
	if err := run(); err != nil {
		t.Fatal(err)
	}
	change()
	if err := run(); err != nil {
		t.Errorf("nothing was kept: %v", err)
	}
	runtime.Keep(p, 1)
	for range 2 {
		if err := run(); err != nil {
			t.Errorf("nothing has changed: %v", err)
		}
	}
	change()
	if err := run(); err == nil || !strings.Contains(err.Error(), `"w"`) {
		t.Errorf("wanted an error about w, got %v", err)
	}
	runtime.Renew(p)
	if err := run(); err != nil {
		t.Errorf("renewed: %v", err)
	}
	runtime.Keep(p)
	change()
	if err := run(); err != nil {
		t.Errorf("kept no more: %v", err)
	}
}
