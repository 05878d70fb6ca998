package verify_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/export/onnxfile"
	"ebmrun/export/verify"
	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/backbone"
	"ebmrun/onnxmodels/chain"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/nn"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training/data"
)

// texture is the sampler of an energy that is linear in units of a network, as
// deep-frame learns it, with random weights for theta.
var texture = onnxfile.Meta{Step: chain.Step{Size: 4, Noise: 1}, Sigma: 15}

func linear(t *testing.T, side int, sigma float64, features energy.Features) *onnxmodels.Model {
	t.Helper()
	m, err := energy.Linear([]int{1, side, side}, sigma, true, features)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(7, 7))
	for _, v := range m.Graph.Inits {
		if strings.HasPrefix(v.Name, "theta") {
			for i := range v.Const.F32() {
				v.Const.F32()[i] = float32(0.01 * random.NormFloat64())
			}
		}
	}
	return m
}

// small is a network in the way of VGG: 3×3 filters, ReLU and max pooling.
func small(b *graphs.Builder, x *graphs.Value) []*graphs.Value {
	net := &nn.Net{Builder: b, Rng: rand.New(rand.NewPCG(2, 3)), Weights: nn.Xavier, Biases: nn.Normal(1)}
	var maps []*graphs.Value
	for i, name := range []string{"conv1", "conv2", "conv3"} {
		if i > 0 {
			x = net.MaxPool(x, 2)
		}
		x = net.Activate("relu", net.Conv(name, x, nn.Conv{Filters: 8 << i, Kernel: 3, Pad: 1}))
		maps = append(maps, x)
	}
	return maps
}

// planted are samplers that are wrong, with what has to tell.
var planted = []struct {
	name, tells string
	step        func(s *chain.Step)
	model       func(m *onnxmodels.Model, without *onnxmodels.Model) *onnxmodels.Model
}{
	{"a longer step", "drift", func(s *chain.Step) { s.Size *= 1.01 }, nil},
	{"no noise", "noise", func(s *chain.Step) { s.Noise = 0 }, nil},
	{"louder noise", "noise", func(s *chain.Step) { s.Noise = 1.01 }, nil},
	{"no reference density", "drift", nil, func(_, without *onnxmodels.Model) *onnxmodels.Model { return without }},
	{"a stronger layer", "drift", nil, func(m, _ *onnxmodels.Model) *onnxmodels.Model { return scaled(m, "conv2", 1.01) }},
	{"the sign of the network", "drift", nil, func(m, _ *onnxmodels.Model) *onnxmodels.Model { return scaled(m, "theta", -1) }},
}

// scaled is m with some weights multiplied.
func scaled(m *onnxmodels.Model, name string, by float32) *onnxmodels.Model {
	c := &onnxmodels.Model{Model: passes.Clone(m.Model), Dims: m.Dims}
	for _, v := range c.Graph.Inits {
		if strings.Contains(v.Name, name) && v.Const.F32() != nil {
			w := append([]float32(nil), v.Const.F32()...)
			for i := range w {
				w[i] *= by
			}
			v.Const = graphs.Of(w, v.Const.Dims...)
		}
	}
	return c
}

// refuse checks that an engine takes the sampler that was written, and none that is wrong.
func refuse(t *testing.T, e runtime.Engine, m, without *onnxmodels.Model, unroll int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sampler.onnx")
	check := func(m *onnxmodels.Model, meta onnxfile.Meta, right *onnxmodels.Model) (verify.Report, error) {
		if err := onnxfile.Sampler(file, m, meta, unroll); err != nil {
			t.Fatal(err)
		}
		return verify.ONNX(t.Context(), file, right, texture.Step, e, runtime.Options{Threads: 1})
	}
	r, err := check(m, texture, m)
	if err != nil {
		t.Errorf("as written: %v", err)
	}
	t.Log(r.Checks)
	for _, p := range planted {
		wrong, meta := m, texture
		if p.step != nil {
			p.step(&meta.Step)
		}
		if p.model != nil {
			wrong = p.model(m, without)
		}
		if _, err := check(wrong, meta, m); !errors.Is(err, verify.ErrDiffers) || !strings.Contains(err.Error(), p.tells+" is off") {
			t.Errorf("%s: wanted to be told by the %s, got %v", p.name, p.tells, err)
		}
	}
}

// TestSampler: a sampler of units that jump is taken, wrong ones are not.
func TestSampler(t *testing.T) {
	m, without := linear(t, 16, 15, small), linear(t, 16, 0, small)
	for _, unroll := range []int{0, 2} {
		refuse(t, ref.New(), m, without, unroll)
	}
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	for _, unroll := range []int{0, 2} {
		refuse(t, e, m, without, unroll)
	}
}

// TestSamplerOfVGG16 is the same on the real network, if it may be obtained.
func TestSamplerOfVGG16(t *testing.T) {
	if os.Getenv("EBMRUN_TEST_DATA") == "" {
		t.Skip("EBMRUN_TEST_DATA is not set")
	}
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	net, err := backbone.Load(backbone.Spec{Net: "vgg16", Cut: []string{"conv1_2", "conv2_2", "conv3_3"}}, func(name string) (string, error) {
		return data.Obtain(context.Background(), name, func(l string) { t.Log(l) })
	})
	if err != nil {
		t.Fatal(err)
	}
	features := net.Features(backbone.Pixels{Lo: -128, Hi: 127})
	refuse(t, e, scaled(linear(t, 64, 15, features), "theta", 1e-3), scaled(linear(t, 64, 0, features), "theta", 1e-3), 0)
}

// nudging is the reference engine with inputs a little larger: it rounds otherwise.
type nudging struct {
	runtime.Engine
	by   float32
	seen func(x *graphs.Tensor)
}

type nudged struct {
	runtime.Program
	of nudging
}

func (e nudging) Compile(ctx context.Context, m *graphs.Model, o runtime.Options) (runtime.Program, error) {
	p, err := e.Engine.Compile(ctx, m, o)
	return &nudged{p, e}, err
}

func (p *nudged) Run(ctx context.Context, in, out []*graphs.Tensor) error {
	x := graphs.NewTensor(graphs.Float32, in[0].Dims...)
	for i, v := range in[0].F32() {
		x.F32()[i] = v * (1 + p.of.by)
	}
	if p.of.seen != nil {
		p.of.seen(in[0])
	}
	return p.Program.Run(ctx, []*graphs.Tensor{x}, out)
}

// TestJump: where a unit stands at its jump a reader may take the other side, which is
// seen to be rounding's doing. As large an error elsewhere is refused.
func TestJump(t *testing.T) {
	w := []float32{1, -1, 0.5, 2, 1, -2, 0.5, 1, -0.25}
	build := func(bias float32) (*onnxmodels.Model, string) {
		m, err := energy.Linear([]int{1, 4, 4}, 1, true, func(b *graphs.Builder, x *graphs.Value) []*graphs.Value {
			y := b.Op("Conv", []*graphs.Value{x, b.Const(graphs.Of(w, 1, 1, 3, 3)), b.Const(graphs.Of([]float32{bias}, 1))}, graphs.IntsAttr("kernel_shape", 3, 3))
			return []*graphs.Value{b.Op("Relu", []*graphs.Value{y})}
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range m.Graph.Inits {
			if v.Name == "theta" {
				v.Const.F32()[0] = 1
			}
		}
		file := filepath.Join(t.TempDir(), "energy-grad.onnx")
		if err := onnxfile.Gradient(file, m, meta); err != nil {
			t.Fatal(err)
		}
		return m, file
	}
	var at float32 // what the filter's first place in the first example is, in the check's inputs
	m, file := build(0)
	look := nudging{ref.New(), 0, func(x *graphs.Tensor) {
		sum := 0.0
		for i, v := range w {
			sum += float64(v) * float64(x.F32()[i/3*4+i%3])
		}
		at = float32(sum)
	}}
	if _, err := verify.ONNX(t.Context(), file, m, meta.Step, look, runtime.Options{}); err != nil {
		t.Fatal(err)
	}
	m, file = build(-at - at*0x1p-23) // on one side for x, on the other for x(1 + 2⁻²¹)
	r, err := verify.ONNX(t.Context(), file, m, meta.Step, nudging{ref.New(), 0x1p-21, nil}, runtime.Options{})
	if err != nil {
		t.Error(err)
	}
	jumped := false
	for _, c := range r.Checks {
		jumped = jumped || c.What == onnxmodels.GradX && c.Rounding > 0.01 && c.Off > 0.01
	}
	if !jumped {
		t.Errorf("no unit jumps: %v", r.Checks)
	}
	m, file = build(-at - at*0x1p-12) // rounding does not get there
	if _, err := verify.ONNX(t.Context(), file, m, meta.Step, nudging{ref.New(), 0x1p-11, nil}, runtime.Options{}); !errors.Is(err, verify.ErrDiffers) {
		t.Errorf("a unit on its other side for no reason: %v", err)
	}
}
