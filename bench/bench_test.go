//go:build cgo

// Package bench measures what the library adds to the engine below it.
package bench

import (
	"fmt"
	goruntime "runtime"
	"slices"
	"testing"
	"time"

	onnx "github.com/yalue/onnxruntime_go"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/chain"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/training/bind"
	"ebmrun/training/sampler"
)

// A network is one whose steps are measured.
type network struct {
	name  string
	spec  energy.Spec
	batch int
	dims  []int
}

func shortRun(n int) energy.Spec {
	return energy.Spec{Activation: "leaky.05", Layers: []energy.Layer{
		{Filters: n, Kernel: 3, Pad: 1}, {Filters: 2 * n, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 4 * n, Kernel: 4, Stride: 2, Pad: 1},
		{Filters: 8 * n, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 4}}}
}

func dense(n int) energy.Spec {
	return energy.Spec{Activation: "leaky.05", Layers: []energy.Layer{{Filters: n}, {Filters: n}, {Filters: 1}}}
}

// networks are those of `ebmrun bench`.
var networks = []network{
	{"sr16", shortRun(16), 64, []int{3, 32, 32}},
	{"sr32", shortRun(32), 16, []int{3, 32, 32}},
	{"sr64", shortRun(64), 32, []int{3, 32, 32}},
	{"mlp2d", dense(128), 1000, []int{2}},
	{"latent", dense(200), 100, []int{100}},
}

// fusedSteps is how many steps the fused form takes in a call.
const fusedSteps = 20

var kernel = sampler.Langevin{Size: 0.01, Noise: 1}

func (n network) model(tb testing.TB) *onnxmodels.Model {
	m, err := energy.Build(n.spec, n.dims, 0, 1)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func (n network) frozen(tb testing.TB, e runtime.Engine, o runtime.Options) *bind.Energy {
	net, err := bind.Freeze(tb.Context(), n.model(tb), e, bind.Options{Runtime: o})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { net.Close() })
	return net
}

// step is one Langevin step as systems take it: gradient, noise unless the kernel
// has none, move.
func (n network) step(tb testing.TB, e runtime.Engine, o runtime.Options, kernel sampler.Langevin) func() {
	net, dim := n.frozen(tb, e, o), graphs.Size(n.dims)
	s, err := sampler.NewState(make([]float32, n.batch*dim), dim, sampler.Chains(0, n.batch))
	if err != nil {
		tb.Fatal(err)
	}
	return func() {
		if _, err := sampler.Run(tb.Context(), sampler.Noise{Seed: 1}, kernel, net, s, 1, nil); err != nil {
			tb.Fatal(err)
		}
	}
}

// fused is a call of many steps, its noise drawn before.
func (n network) fused(tb testing.TB, e runtime.Engine, o runtime.Options) func() {
	size := n.batch * graphs.Size(n.dims)
	c, x, u, noise := n.frozen(tb, e, o).Chain(kernel), make([]float32, size), make([]float32, n.batch), make([]float32, fusedSteps*size)
	sampler.Noise{Seed: 2}.Block(noise, sampler.Chains(0, n.batch), 0, fusedSteps)
	return func() {
		if _, err := c.RunChain(tb.Context(), x, u, noise); err != nil {
			tb.Fatal(err)
		}
	}
}

// gradient and unrolled are the graphs that step and fused run, for the batch.
func (n network) gradient(tb testing.TB) *graphs.Model {
	m, err := chain.Gradient(n.model(tb))
	return sized(tb, m, err, n.batch)
}

func (n network) unrolled(tb testing.TB) *graphs.Model {
	m, err := chain.Unroll(n.model(tb), bind.StepOf(kernel), fusedSteps)
	return sized(tb, m, err, n.batch)
}

// sized is a model for a batch of n, shapes computed ahead.
func sized(tb testing.TB, m *graphs.Model, err error, n int) *graphs.Model {
	tb.Helper()
	if err == nil {
		m = passes.Clone(m)
		_, err = passes.SetBatch(m.Graph, onnxmodels.Batch.Name, n)
	}
	if err == nil {
		err = autodiff.Tidy(m.Graph)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// bare is a call of a graph through the binding alone, at standard normals. With 0
// threads the library uses all processors in its own way.
func bare(tb testing.TB, m *graphs.Model, provider string, threads int) func() {
	data, err := onnxio.Encode(m)
	if err != nil {
		tb.Fatal(err)
	}
	opts, err := onnx.NewSessionOptions()
	if err != nil {
		tb.Fatal(err)
	}
	defer opts.Destroy()
	if err := opts.SetIntraOpNumThreads(threads); err != nil {
		tb.Fatal(err)
	}
	if provider == runtime.OpenVINO {
		if threads == 0 {
			threads = goruntime.NumCPU()
		}
		if err := opts.AppendExecutionProviderOpenVINO(map[string]string{
			"device_type": "CPU", "num_of_threads": fmt.Sprint(threads), "load_config": `{"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}`,
		}); err != nil {
			tb.Skip(err)
		}
	}
	tensors := func(vs []*graphs.Value) (names []string, ts []onnx.Value) {
		for i, v := range vs {
			var dims []int64
			for _, d := range v.Shape.Ints() {
				dims = append(dims, int64(d))
			}
			t, err := onnx.NewEmptyTensor[float32](onnx.NewShape(dims...))
			if err != nil {
				tb.Fatal(err)
			}
			if provider != runtime.OpenVINO {
				tb.Cleanup(func() { t.Destroy() })
			}
			sampler.Noise{Seed: uint64(i)}.Normals(t.GetData(), sampler.Chains(0, 1), 0)
			names, ts = append(names, v.Name), append(ts, t)
		}
		return names, ts
	}
	in, x := tensors(m.Graph.Inputs)
	out, y := tensors(m.Graph.Outputs)
	s, err := onnx.NewAdvancedSessionWithONNXData(data, in, out, x, y, opts)
	if err != nil {
		tb.Fatal(err)
	}
	if provider != runtime.OpenVINO { // its end takes a thread's signal stack along, which the next signal falls into
		tb.Cleanup(func() { s.Destroy() })
	}
	return func() {
		if err := s.Run(); err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkLoop measures what the loop adds: the forms of a step and the bare calls
// of their graphs, median milliseconds a call. Two sessions in one process disturb
// each other's threads, so run each alone, as bench/measure does:
//
//	go test ./bench -run '^$' -bench 'Loop/bare/sr32/cpu'
func BenchmarkLoop(b *testing.B) {
	e, err := ort.Open("")
	enginetest.Unavailable(b, err)
	still := kernel
	still.Noise = 0
	for _, form := range []struct {
		name string
		make func(b *testing.B, n network, provider string) func()
	}{
		{"bare", func(b *testing.B, n network, p string) func() { return bare(b, n.gradient(b), p, 0) }},
		{"still", func(b *testing.B, n network, p string) func() {
			return n.step(b, e, runtime.Options{Provider: p}, still)
		}},
		{"step", func(b *testing.B, n network, p string) func() {
			return n.step(b, e, runtime.Options{Provider: p}, kernel)
		}},
		{"bare-fused", func(b *testing.B, n network, p string) func() { return bare(b, n.unrolled(b), p, 0) }},
		{"fused", func(b *testing.B, n network, p string) func() { return n.fused(b, e, runtime.Options{Provider: p}) }},
	} {
		for _, n := range networks {
			for _, p := range []string{runtime.CPU, runtime.OpenVINO} {
				b.Run(form.name+"/"+n.name+"/"+p, func(b *testing.B) {
					timed(b, form.make(b, n, p))
				})
			}
		}
	}
}

// timed reports the median milliseconds of a call.
func timed(b *testing.B, call func()) {
	for range 3 {
		call()
	}
	b.ReportAllocs()
	var times []time.Duration
	for b.Loop() {
		start := time.Now()
		call()
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1e6, "ms")
}

// BenchmarkThreads measures ways to have the CPU provider use all processors for a
// gradient: threads within each operator, which spin or sleep between two of them, and
// parts of the batch side by side. Run each alone.
func BenchmarkThreads(b *testing.B) {
	e, err := ort.Open("")
	enginetest.Unavailable(b, err)
	for _, n := range networks {
		for _, way := range []struct {
			name  string
			parts bool
			o     runtime.Options
		}{
			{"one", false, runtime.Options{Threads: 1}},
			{"spinning", false, runtime.Options{}},
			{"sleeping", false, runtime.Options{NoSpin: true}},
			{"parts", true, runtime.Options{}},
		} {
			b.Run(n.name+"/"+way.name, func(b *testing.B) {
				if way.parts {
					way.o.Split = &runtime.Split{N: n.batch, In: []int{0}, Out: []int{0, 0, 0}, Model: func(size int) (*graphs.Model, error) {
						part := n
						part.batch = size
						return part.gradient(b), nil
					}}
				}
				p, err := e.Compile(b.Context(), n.gradient(b), way.o)
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { p.Close() })
				x := graphs.NewTensor(graphs.Float32, append([]int{n.batch}, n.dims...)...)
				sampler.Noise{Seed: 1}.Normals(x.F32(), sampler.Chains(0, n.batch), 0)
				in, out := []*graphs.Tensor{x}, make([]*graphs.Tensor, len(p.Outputs()))
				timed(b, func() {
					if err := p.Run(b.Context(), in, out); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
	}
}
