package chain_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/graphtest"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/chain"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training/sampler"
)

// field evaluates an energy's gradient graph step by step.
type field struct {
	p    runtime.Program
	dims []int
}

func (f field) EnergyGrad(x, u, g []float32) error {
	shape := append([]int{len(u)}, f.dims...)
	return f.p.Run(context.Background(), []*graphs.Tensor{graphs.Of(x, shape...)}, []*graphs.Tensor{graphs.Of(u, len(u)), nil, graphs.Of(g, shape...)})
}

func model(t testing.TB, s energy.Spec, dims []int) *onnxmodels.Model {
	t.Helper()
	m, err := energy.Build(s, dims, 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func small(t testing.TB) *onnxmodels.Model {
	return model(t, energy.Spec{Activation: "swish", Layers: []energy.Layer{{Filters: 8, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 8, Kernel: 3, Stride: 2, Same: true}, {Filters: 1, Kernel: 2}}}, []int{2, 7, 7})
}

var steps = map[string]chain.Step{
	"plain":   {Size: 0.3, Noise: 1},
	"clipped": {Size: 0.3, Noise: 0.1, GradClip: 0.2, ClampMin: -1, ClampMax: 0.8},
	"half":    {Size: 0.2, Noise: 1, ClampMin: 0, ClampMax: 1},
	"descent": {Size: 0.1},
}

func kernel(s chain.Step) sampler.Langevin {
	return sampler.Langevin{
		Size: float32(s.Size), Noise: float32(s.Noise), GradClip: float32(s.GradClip),
		ClampMin: float32(s.ClampMin), ClampMax: float32(s.ClampMax),
	}
}

// walk takes k steps with the sampler and returns where they end, with the
// energies and (clipped) slopes where the last step started.
func walk(t *testing.T, e runtime.Engine, m *onnxmodels.Model, s chain.Step, x []float32, n, k int) *sampler.State {
	t.Helper()
	grad, err := chain.Gradient(m)
	if err != nil {
		t.Fatal(err)
	}
	st, err := sampler.NewState(append([]float32(nil), x...), m.Size(), sampler.Chains(0, n))
	if err != nil {
		t.Fatal(err)
	}
	f := field{enginetest.Compile(t, e, grad, runtime.Options{}), m.Dims}
	if _, err := sampler.Run(t.Context(), noise, kernel(s), f, st, k, nil); err != nil {
		t.Fatal(err)
	}
	return st
}

var noise = sampler.Noise{Seed: 5}

func starts(n, dim int) []float32 {
	x := make([]float32, n*dim)
	sampler.Noise{Seed: 6}.Normals(x, sampler.Chains(0, n), 0)
	return x
}

func within(t *testing.T, what string, got, want []float32, tol float64) {
	t.Helper()
	var most float64
	for _, v := range want {
		most = max(most, math.Abs(float64(v)))
	}
	for i := range want {
		if d := math.Abs(float64(got[i] - want[i])); !(d <= tol*most) {
			t.Errorf("%s: element %d is %g, wanted %g (largest %g)", what, i, got[i], want[i], most)
			return
		}
	}
}

func call(t *testing.T, e runtime.Engine, g *graphs.Model, in ...*graphs.Tensor) map[string]*graphs.Tensor {
	t.Helper()
	p := enginetest.Compile(t, e, g, runtime.Options{})
	out := make([]*graphs.Tensor, len(p.Outputs()))
	if err := p.Run(t.Context(), in, out); err != nil {
		t.Fatal(err)
	}
	named := map[string]*graphs.Tensor{}
	for i, v := range p.Outputs() {
		named[v.Name] = out[i]
	}
	return named
}

// follow checks that both graphs go where the sampler goes.
func follow(t *testing.T, e runtime.Engine, m *onnxmodels.Model, k int) {
	const n = 3
	for name, s := range steps {
		t.Run(name, func(t *testing.T) {
			x := starts(n, m.Size())
			want := walk(t, e, m, s, x, n, k)
			eps := make([]float32, k*len(x))
			noise.Block(eps, want.Chain, 0, k)
			x0 := graphs.Of(x, append([]int{n}, m.Dims...)...)
			z := graphs.Of(eps, append([]int{k, n}, m.Dims...)...)

			unrolled, err := chain.Unroll(m, s, k)
			if err != nil {
				t.Fatal(err)
			}
			out := call(t, e, unrolled, x0, z)
			within(t, "unrolled x", out[chain.X].F32(), want.X, 1e-4)
			within(t, "unrolled energy", out[chain.Energy].F32(), want.U, 1e-4)
			slopes := make([]float32, n)
			for i := range slopes {
				sum := 0.0
				for _, g := range want.G[i*m.Size() : (i+1)*m.Size()] {
					sum += float64(g) * float64(g)
				}
				slopes[i] = float32(math.Sqrt(sum))
			}
			within(t, "unrolled slope", out[chain.Slope].F32(), slopes, 1e-4)

			loop, err := chain.Sampler(m, s)
			if err != nil {
				t.Fatal(err)
			}
			out = call(t, e, loop, x0, z)
			within(t, "loop x", out[chain.X].F32(), want.X, 1e-4)
			last := walk(t, e, m, s, want.X, n, 1) // its energies are those of want.X
			within(t, "loop energy", out[chain.Energy].F32(), last.U, 1e-4)

			x0 = graphs.Of(x, append([]int{n}, m.Dims...)...)
			out = call(t, e, loop, x0, graphs.NewTensor(graphs.Float32, append([]int{0, n}, m.Dims...)...))
			within(t, "loop of no steps", out[chain.X].F32(), x, 0)
			within(t, "energy of no steps", out[chain.Energy].F32(), walk(t, e, m, s, x, n, 1).U, 1e-4)
		})
	}
}

func TestReferenceEngine(t *testing.T) { follow(t, ref.New(), small(t), 5) }

func TestONNXRuntime(t *testing.T) {
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	follow(t, e, small(t), 50)
	spec, _ := energy.ByName("digits28")
	t.Run("digits28", func(t *testing.T) { follow(t, e, model(t, spec, []int{1, 28, 28}), 50) })
	spec, _ = energy.ByName("toy")
	t.Run("toy", func(t *testing.T) { follow(t, e, model(t, spec, []int{2}), 50) })
}

func TestMetadata(t *testing.T) {
	s := steps["clipped"]
	unrolled, err := chain.Unroll(small(t), s, 2)
	if err != nil {
		t.Fatal(err)
	}
	loop, err := chain.Sampler(small(t), s)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*graphs.Model{unrolled, loop} {
		for key, want := range map[string]string{"ebmrun.step": "0.3", "ebmrun.noise": "0.1", "ebmrun.grad_clip": "0.2", "ebmrun.clamp": "-1,0.8"} {
			if got := m.Meta(key); got != want {
				t.Errorf("%s: wanted %q, got %q", key, want, got)
			}
		}
	}
}

// TestWeights: a chain holds one set of weights, however many steps it has.
func TestWeights(t *testing.T) {
	m := small(t)
	names := func(m *graphs.Model) string {
		var s []string
		for _, w := range passes.Weights(m.Graph) {
			s = append(s, fmt.Sprint(w.Name, w.Const.Dims))
		}
		return fmt.Sprint(s)
	}
	unrolled, err := chain.Unroll(m, steps["plain"], 7)
	if err != nil {
		t.Fatal(err)
	}
	loop, err := chain.Sampler(m, steps["plain"])
	if err != nil {
		t.Fatal(err)
	}
	for what, g := range map[string]*graphs.Model{"unrolled": unrolled, "loop": loop} {
		if got, want := names(g), names(m.Model); got != want {
			t.Errorf("%s: wanted the weights %s, got %s", what, want, got)
		}
	}
}

func TestErrors(t *testing.T) {
	if _, err := chain.Unroll(small(t), steps["plain"], 0); err == nil {
		t.Error("a chain of no steps was unrolled")
	}
}

// TestDifferentiable: slopes go back through a chain, which takes second
// derivatives of the energy.
func TestDifferentiable(t *testing.T) {
	g, err := chain.Unroll(small(t), chain.Step{Size: 0.7, Noise: 1}, 3)
	if err != nil {
		t.Fatal(err)
	}
	back, err := autodiff.Grad(g, autodiff.Options{Of: chain.X, Wrt: []string{chain.X0, chain.Noise}, VJP: true})
	if err != nil {
		t.Fatal(err)
	}
	r := graphtest.NewRand(1)
	in := []*graphs.Tensor{r.Normal(2, 2, 7, 7), r.Normal(3, 2, 2, 7, 7)}
	graphtest.CheckGrad(t, g.Graph, back.Graph, in, graphtest.GradOptions{Of: chain.X, Wrt: []string{chain.X0, chain.Noise}})
}

// TestGiven: what an energy is given besides x is an input of its chains, and the same in all steps:
// of U = |x − c|⁴/4 in one dimension.
func TestGiven(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{Name: "given"})
	x := b.Input(onnxmodels.X, graphs.Float32, graphs.Shape{onnxmodels.Batch, graphs.D(1)})
	c := b.Input("given", graphs.Float32, graphs.Shape{onnxmodels.Batch, graphs.D(1)})
	d := b.Sub(x, c)
	d = b.Mul(d, d)
	u := b.Scale(b.Sum(b.Mul(d, d), false, 1), 0.25)
	b.Output(onnxmodels.Energy, u)
	b.Output(onnxmodels.Score, b.Neg(u))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnxmodels.Of(graphs.NewModel(g))
	if err != nil {
		t.Fatal(err)
	}
	const k = 4
	s := chain.Step{Size: 0.5, Noise: 0.3}
	start, middle := []float32{0.5, -1, 2}, []float32{0, 1, -0.5}
	eps := make([]float32, 3*k)
	noise.Block(eps, []uint64{0, 1, 2}, 0, k)
	want, energies := slices.Clone(start), make([]float32, 3)
	for i := range want {
		at := func() float64 { return float64(want[i] - middle[i]) }
		for step := range k {
			want[i] += float32(-s.Size*s.Size/2*math.Pow(at(), 3) + s.Noise*s.Size*float64(eps[3*step+i]))
		}
		energies[i] = float32(math.Pow(at(), 4) / 4)
	}
	loop, err := chain.Sampler(m, s)
	if err != nil {
		t.Fatal(err)
	}
	unrolled, err := chain.Unroll(m, s, k)
	if err != nil {
		t.Fatal(err)
	}
	feed := []*graphs.Tensor{graphs.Of(start, 3, 1), graphs.Of(eps, k, 3, 1), graphs.Of(middle, 3, 1)}
	out := call(t, ref.New(), loop, feed...)
	within(t, "loop x", out[chain.X].F32(), want, 1e-5)
	within(t, "loop energy", out[chain.Energy].F32(), energies, 1e-5)
	within(t, "unrolled x", call(t, ref.New(), unrolled, feed...)[chain.X].F32(), want, 1e-5)
}
