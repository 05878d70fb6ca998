//go:build cgo

package bench

import (
	"fmt"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/chain"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/training/sampler"
)

// BenchmarkResident is a step of chains whose state stays where it is computed, on
// the provider that EBM_PROVIDER names, in calls of k steps:
//
//	bare     k steps of the same noise, copied once: what computing and starting kernels take
//	copied   … and the noise copied in each call, while the one before runs
//	drawn    … and drawn
//	host     all of it one after another, the state too copied there and back in each call
func BenchmarkResident(b *testing.B) {
	e, err := ort.Open("")
	enginetest.Unavailable(b, err)
	shortRun := func(n int) energy.Spec {
		return energy.Spec{Activation: "leaky.05", Layers: []energy.Layer{
			{Filters: n, Kernel: 3, Pad: 1}, {Filters: 2 * n, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 4 * n, Kernel: 4, Stride: 2, Pad: 1},
			{Filters: 8 * n, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 4},
		}}
	}
	dense := func(n int) energy.Spec {
		return energy.Spec{Activation: "leaky.05", Layers: []energy.Layer{{Filters: n}, {Filters: n}, {Filters: 1}}}
	}
	for _, w := range []struct {
		name  string
		spec  energy.Spec
		batch int
		dims  []int
		ks    []int
	}{
		{"sr16", shortRun(16), 64, []int{3, 32, 32}, []int{1, 2, 5, 10, 20}},
		{"sr32", shortRun(32), 16, []int{3, 32, 32}, []int{1, 5, 20}},
		{"sr64", shortRun(64), 32, []int{3, 32, 32}, []int{1, 5, 20}},
		{"mlp2d", dense(128), 1000, []int{2}, []int{5, 20, 50}},
		{"latent", dense(200), 100, []int{100}, []int{5, 20, 50}},
	} {
		b.Run(w.name, func(b *testing.B) {
			m, err := energy.Build(w.spec, w.dims, 0, 1)
			if err != nil {
				b.Fatal(err)
			}
			for _, k := range w.ks {
				b.Run(fmt.Sprintf("k=%d", k), func(b *testing.B) { resident(b, e, m, w.batch, k) })
			}
		})
	}
}

func resident(b *testing.B, e runtime.Engine, m *onnxmodels.Model, batch, k int) {
	p := chained(b, e, m, batch, k)
	b.Cleanup(func() { p.Close() })
	dims := append([]int{batch}, m.Dims...)
	x, y := graphs.NewTensor(graphs.Float32, dims...), graphs.NewTensor(graphs.Float32, dims...)
	noise := graphs.NewTensor(graphs.Float32, append([]int{k}, dims...)...)
	n, chains := sampler.Noise{Seed: 1}, sampler.Chains(0, batch)
	n.Fork(1).Normals(x.F32(), chains, 0)
	n.Block(noise.F32(), chains, 0, k)
	in := []*graphs.Tensor{x, noise}
	out := []*graphs.Tensor{y, graphs.NewTensor(graphs.Float32, batch), graphs.NewTensor(graphs.Float32, batch)}
	draw := func(call int, t *graphs.Tensor) error {
		n.Block(t.F32(), chains, uint64(call*k), k)
		return nil
	}
	run := func(name string, f func(b *testing.B) error) {
		b.Run(name, func(b *testing.B) {
			if err := f(b); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1e3/float64(b.N*k), "ms/step")
		})
	}
	for _, way := range []struct {
		name string
		r    runtime.Repetition
	}{
		{"bare", runtime.Repetition{Fresh: -1}},
		{"copied", runtime.Repetition{Fresh: 1, Next: func(int, *graphs.Tensor) error { return nil }}},
		{"drawn", runtime.Repetition{Fresh: 1, Next: draw}},
	} {
		run(way.name, func(b *testing.B) error {
			way.r.Calls = max(2, b.N)
			return runtime.Repeat(b.Context(), p, in, out, way.r)
		})
	}
	run("host", func(b *testing.B) error {
		for call := range b.N {
			if err := draw(call, noise); err != nil {
				return err
			}
			if err := p.Run(b.Context(), in, out); err != nil {
				return err
			}
			copy(x.F32(), y.F32())
		}
		return nil
	})
	run("noise", func(b *testing.B) error {
		for call := range b.N {
			if err := draw(call, noise); err != nil {
				return err
			}
		}
		return nil
	})
}

// chained is k steps from fixed weights, checked on two of them.
func chained(b *testing.B, e runtime.Engine, m *onnxmodels.Model, batch, k int) runtime.Program {
	build := func(k int) *graphs.Model {
		g, err := chain.Unroll(m, chain.Step{Size: 0.01, Noise: 1}, k)
		if err == nil {
			_, err = passes.SetBatch(g.Graph, onnxmodels.Batch.Name, batch)
		}
		if err == nil {
			err = autodiff.Tidy(g.Graph)
		}
		if err != nil {
			b.Fatal(err)
		}
		return g
	}
	short := min(k, 2)
	p, err := e.Compile(b.Context(), build(k), runtime.Options{Provider: enginetest.Provider(), ProviderOptions: enginetest.ProviderOptions(), Repeats: true, Probe: &runtime.Probe{
		Model: build(short),
		Inputs: func(in []*graphs.Tensor) []*graphs.Tensor {
			n := len(in[1].F32()) / k * short
			return []*graphs.Tensor{in[0], graphs.Of(in[1].F32()[:n], append([]int{short}, in[1].Dims[1:]...)...)}
		},
	}})
	if err != nil {
		b.Fatal(err)
	}
	return p
}
