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

const batch = 16

func network(b *testing.B) *onnxmodels.Model {
	spec, err := energy.ByName("short-run-32")
	if err != nil {
		b.Fatal(err)
	}
	m, err := energy.Build(spec, []int{3, 32, 32}, 0, 1)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// loop is one Langevin step as systems take it: noise, gradient, move.
func loop(b *testing.B, m *onnxmodels.Model, e runtime.Engine, provider string) func() {
	net, err := bind.Freeze(b.Context(), m, e, bind.Options{Runtime: runtime.Options{Provider: provider}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { net.Close() })
	s, err := sampler.NewState(make([]float32, batch*m.Size()), m.Size(), sampler.Chains(0, batch))
	if err != nil {
		b.Fatal(err)
	}
	noise, kernel := sampler.Noise{Seed: 1}, sampler.Langevin{Size: 0.01, Noise: 1}
	return func() {
		if _, err := sampler.Run(b.Context(), noise, kernel, net, s, 1, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// bare is a call of the same gradient graph through the binding alone, with the
// library's own way of using all processors.
func bare(b *testing.B, m *onnxmodels.Model, provider string) func() {
	grad, err := chain.Gradient(m)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := passes.SetBatch(grad.Graph, onnxmodels.Batch.Name, batch); err != nil {
		b.Fatal(err)
	}
	if err := autodiff.Tidy(grad.Graph); err != nil {
		b.Fatal(err)
	}
	data, err := onnxio.Encode(grad)
	if err != nil {
		b.Fatal(err)
	}
	opts, err := onnx.NewSessionOptions()
	if err != nil {
		b.Fatal(err)
	}
	defer opts.Destroy()
	if provider == runtime.OpenVINO {
		err := opts.AppendExecutionProviderOpenVINO(map[string]string{
			"device_type": "CPU", "num_of_threads": fmt.Sprint(goruntime.NumCPU()),
			"load_config": `{"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}`,
		})
		if err != nil {
			b.Skip(err)
		}
	}
	tensor := func(dims ...int64) *onnx.Tensor[float32] {
		t, err := onnx.NewEmptyTensor[float32](onnx.NewShape(dims...))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { t.Destroy() })
		return t
	}
	x, u, f, g := tensor(batch, 3, 32, 32), tensor(batch), tensor(batch), tensor(batch, 3, 32, 32)
	sampler.Noise{Seed: 2}.Normals(x.GetData(), sampler.Chains(0, batch), 0)
	s, err := onnx.NewAdvancedSessionWithONNXData(data, []string{onnxmodels.X}, []string{onnxmodels.Energy, onnxmodels.Score, onnxmodels.GradX},
		[]onnx.Value{x}, []onnx.Value{u, f, g}, opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Destroy() })
	return func() {
		if err := s.Run(); err != nil {
			b.Fatal(err)
		}
	}
}

func each(b *testing.B, f func(b *testing.B, e runtime.Engine, provider string)) {
	e, err := ort.Open("")
	enginetest.Unavailable(b, err)
	for _, provider := range []string{runtime.CPU, runtime.OpenVINO} {
		b.Run(provider, func(b *testing.B) { f(b, e, provider) })
	}
}

// BenchmarkStep is one step of the 32-filter short-run network, with what it
// allocates.
func BenchmarkStep(b *testing.B) {
	each(b, func(b *testing.B, e runtime.Engine, provider string) {
		step := loop(b, network(b), e, provider)
		step()
		b.ReportAllocs()
		for b.Loop() {
			step()
		}
	})
}

// BenchmarkOverhead takes turns between a step and the bare call, and reports the
// ratio of their medians: 1.1 is what the loop may cost.
func BenchmarkOverhead(b *testing.B) {
	each(b, func(b *testing.B, e runtime.Engine, provider string) {
		m := network(b)
		forms := []func(){bare(b, m, provider), loop(b, m, e, provider)}
		var times [2][]time.Duration
		once := func(i int) time.Duration {
			start := time.Now()
			forms[i]()
			return time.Since(start)
		}
		once(0)
		once(1)
		for b.Loop() {
			for i := range forms {
				time.Sleep(2 * time.Millisecond) // threads of the other stop spinning
				once(i)
				times[i] = append(times[i], once(i))
			}
		}
		var median [2]float64
		for i, t := range times {
			slices.Sort(t)
			median[i] = float64(t[len(t)/2].Microseconds()) / 1e3
		}
		b.ReportMetric(median[0], "bare-ms")
		b.ReportMetric(median[1], "loop-ms")
		b.ReportMetric(median[1]/median[0], "loop/bare")
		b.ReportMetric(0, "ns/op")
	})
}
