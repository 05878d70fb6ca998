package orttraining

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ref"
)

// a case of parity: a model whose scalar output loss both sources differentiate.
type parity struct {
	name string
	m    *graphs.Model
	wrt  []string
	in   []*graphs.Tensor
}

func noise(r *rand.Rand, dims ...int) *graphs.Tensor {
	t := graphs.NewTensor(graphs.Float32, dims...)
	for i := range t.F32() {
		t.F32()[i] = float32(r.NormFloat64())
	}
	return t
}

// loss adds Σ c·y of an output as a scalar output, c different for every element
// of one example, so that slopes do not cancel.
func loss(t *testing.T, m *graphs.Model, of string) {
	t.Helper()
	b := graphs.NewBuilder(m.Graph)
	y := m.Graph.Output(of)
	dims := []int{1}
	for _, d := range y.Shape[1:] {
		dims = append(dims, int(d.N))
	}
	c := graphs.NewTensor(graphs.Float32, dims...)
	for i := range c.F32() {
		c.F32()[i] = float32(math.Cos(float64(i)))
	}
	b.Output("loss", b.Sum(b.Mul(y, b.Const(c)), false))
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
}

// compare checks both sources' slopes with each other: relative L2 at most 1e-4.
func compare(t *testing.T, e *Engine, c parity) {
	t.Helper()
	ours, err := autodiff.Grad(c.m, autodiff.Options{Of: "loss", Wrt: c.wrt, ParamsAsInputs: false})
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := e.Gradient(t.Context(), c.m, "loss", c.wrt...)
	if err != nil {
		t.Fatal(err)
	}
	run := func(en runtime.Engine, m *graphs.Model) map[string][]float64 {
		o := runtime.Options{}
		if en == runtime.Engine(e) {
			o.Provider = enginetest.Provider()
		}
		p, err := en.Compile(t.Context(), m, o)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		out := make([]*graphs.Tensor, len(p.Outputs()))
		if err := p.Run(t.Context(), c.in, out); err != nil {
			t.Fatal(err)
		}
		all := map[string][]float64{}
		for i, v := range p.Outputs() {
			if all[v.Name], err = out[i].AsFloats(); err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	want, got, moved := run(ref.New(), ours), run(e, theirs), false
	for _, name := range c.wrt {
		w, g := want[gradPrefix+name], got[gradPrefix+name]
		var d, n float64
		for i := range w {
			if i < len(g) {
				d, n = d+(w[i]-g[i])*(w[i]-g[i]), n+w[i]*w[i]
			}
		}
		moved = moved || n > 0
		if len(w) == 0 || len(w) != len(g) || !(math.Sqrt(d) <= 1e-4*math.Sqrt(n)) {
			t.Errorf("%s: %d and %d numbers, relative distance %.2g of norm %.2g", name, len(w), len(g), math.Sqrt(d/n), math.Sqrt(n))
		}
	}
	if !moved {
		t.Error("all slopes are zero")
	}
}

func weightsOf(g *graphs.Graph) (names []string) {
	for _, v := range passes.Weights(g) {
		names = append(names, v.Name)
	}
	return names
}

// TestEnergies compares the slopes of every named energy, in its input and its weights.
func TestEnergies(t *testing.T) {
	e := open(t)
	for name, dims := range map[string][]int{"digits28": {1, 28, 28}, "coop-28": {1, 28, 28}, "short-run-32": {3, 32, 32}, "mlp": {2}} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			spec, err := energy.ByName(name)
			if err != nil {
				t.Fatal(err)
			}
			m, err := energy.Build(spec, dims, 1, 7)
			if err != nil {
				t.Fatal(err)
			}
			names := append([]string{onnxmodels.X}, weightsOf(m.Graph)...)
			loss(t, m.Model, onnxmodels.Energy)
			compare(t, e, parity{name, m.Model, names, []*graphs.Tensor{noise(r, append([]int{3}, dims...)...)}})
		})
	}
}

// TestGenerators does the same for generators, whose ConvTranspose is rewritten.
func TestGenerators(t *testing.T) {
	e := open(t)
	for name, dims := range map[string][]int{"deconv16": {1, 16, 16}, "deconv28": {1, 28, 28}, "deconv32": {3, 32, 32}} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 4))
			spec, err := generator.ByName(name)
			if err != nil {
				t.Fatal(err)
			}
			m, err := generator.Build(spec, dims, 7)
			if err != nil {
				t.Fatal(err)
			}
			names := append([]string{generator.Z}, weightsOf(m.Graph)...)
			loss(t, m.Model, generator.X)
			compare(t, e, parity{name, m.Model, names, []*graphs.Tensor{noise(r, 2, m.Codes)}})
		})
	}
}

// TestLower compares rewritten ops with the ops themselves, values and slopes.
func TestLower(t *testing.T) {
	e := open(t)
	type attrs = []*graphs.Attr
	is := graphs.IntsAttr
	for name, c := range map[string]struct {
		x, w  []int
		attrs attrs
	}{
		"plain":          {[]int{2, 3, 4, 5}, []int{3, 2, 3, 3}, attrs{is("kernel_shape", 3, 3)}},
		"stride":         {[]int{2, 3, 4, 5}, []int{3, 2, 4, 4}, attrs{is("kernel_shape", 4, 4), is("strides", 2, 2), is("pads", 1, 1, 1, 1)}},
		"output padding": {[]int{2, 3, 4, 5}, []int{3, 2, 3, 3}, attrs{is("kernel_shape", 3, 3), is("strides", 2, 3), is("pads", 1, 0, 1, 2), is("output_padding", 1, 1)}},
		"crop":           {[]int{1, 2, 4, 4}, []int{2, 2, 1, 2}, attrs{is("kernel_shape", 1, 2), is("strides", 3, 2), is("pads", 1, 1, 0, 1)}},
		"dilation":       {[]int{2, 3, 4, 5}, []int{3, 2, 3, 2}, attrs{is("kernel_shape", 3, 2), is("dilations", 2, 2), is("strides", 2, 1)}},
		"groups":         {[]int{2, 4, 4, 5}, []int{4, 3, 3, 3}, attrs{is("kernel_shape", 3, 3), graphs.I("group", 2), is("strides", 2, 2)}},
		"one axis":       {[]int{2, 3, 6}, []int{3, 2, 4}, attrs{is("kernel_shape", 4), is("strides", 2)}},
		"volume":         {[]int{1, 2, 3, 4, 2}, []int{2, 2, 2, 2, 2}, attrs{is("kernel_shape", 2, 2, 2), is("strides", 2, 2, 2)}},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(5, 6))
			b := graphs.NewBuilder(&graphs.Graph{Name: "test"})
			x := b.Input("x", graphs.Float32, append(graphs.Shape{graphs.Sym("batch")}, graphs.MakeShape(c.x[1:]...)...))
			b.Output("y", b.Op("ConvTranspose", []*graphs.Value{x, b.Weight("w", noise(r, c.w...)), b.Weight("bias", noise(r, c.w[1]*groupsOf(c.attrs)))}, c.attrs...))
			g, err := b.Graph()
			if err != nil {
				t.Fatal(err)
			}
			m := graphs.NewModel(g)
			loss(t, m, "y")
			compare(t, e, parity{name, m, []string{"x", "w", "bias"}, []*graphs.Tensor{noise(r, c.x...)}})
		})
	}
	t.Run("Resize", func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		b := graphs.NewBuilder(&graphs.Graph{Name: "test"})
		x := b.Input("x", graphs.Float32, append(graphs.Shape{graphs.Sym("batch")}, graphs.MakeShape(2, 3, 4)...))
		b.Output("y", b.Op("Resize", []*graphs.Value{x, nil, b.Const(graphs.Of([]float32{1, 1, 2, 3}, 4))},
			graphs.S("mode", "nearest"), graphs.S("coordinate_transformation_mode", "asymmetric"), graphs.S("nearest_mode", "floor")))
		g, err := b.Graph()
		if err != nil {
			t.Fatal(err)
		}
		m := graphs.NewModel(g)
		loss(t, m, "y")
		compare(t, e, parity{"Resize", m, []string{"x"}, []*graphs.Tensor{noise(r, 2, 2, 3, 4)}})
	})
}

func groupsOf(attrs []*graphs.Attr) int {
	n := &graphs.Node{Attrs: attrs}
	return int(n.Int("group", 1))
}

// TestRefused checks that an op without a gradient is refused by name.
func TestRefused(t *testing.T) {
	e := open(t)
	spec, err := energy.ByName("grid-16")
	if err != nil {
		t.Fatal(err)
	}
	m, err := energy.Build(spec, []int{1, 16, 16}, 1, 7)
	if err != nil {
		t.Fatal(err)
	}
	loss(t, m.Model, onnxmodels.Energy)
	_, err = e.Gradient(t.Context(), m.Model, "loss", onnxmodels.X)
	if !errors.Is(err, ErrNoGradient) || !strings.Contains(err.Error(), "InstanceNormalization") || strings.Contains(err.Error(), "::") {
		t.Errorf("wanted a refusal of InstanceNormalization, got %v", err)
	}
	if _, err := e.Gradient(t.Context(), m.Model, onnxmodels.Energy, onnxmodels.X); err == nil {
		t.Error("the gradient of an output that is no scalar was made")
	}
	if _, err := e.Gradient(t.Context(), m.Model, "loss", "nothing"); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("wanted an error about the name, got %v", err)
	}
}
