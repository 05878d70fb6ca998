package bind

import (
	"math"
	"slices"
	"testing"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/flow"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
	"ebmrun/training"
)

func boundFlow(t testing.TB, name string, dims []int, e runtime.Engine) *Flow {
	t.Helper()
	spec, err := flow.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	spec.Coupling.Hidden = 6
	m, err := flow.Build(spec, dims, 1)
	if err != nil {
		t.Fatal(err)
	}
	f, err := NewFlow(t.Context(), m, e, runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestFlow: on both engines, a flow goes there and back within float32, learning and
// judging agree, learning raises the bound, a start is that of the batch, and the
// models to export are the learned ones.
func TestFlow(t *testing.T) {
	for engine, open := range map[string]func() runtime.Engine{
		"ref": func() runtime.Engine { return ref.New() },
		"ort": func() runtime.Engine { return onnxRuntime(t) },
	} {
		for name, c := range map[string]struct {
			dims []int
			back float64
		}{
			"glow-2d": {[]int{2}, 1e-4}, "flowpp-2d": {[]int{2}, 1e-3},
			"glow-16": {[]int{1, 16, 16}, 1e-4}, "whole-16": {[]int{1, 16, 16}, 1e-4}, "flowpp-16": {[]int{1, 16, 16}, 1e-3},
		} {
			t.Run(engine+" "+name, func(t *testing.T) {
				const n, rate = 6, 1e-3
				f := boundFlow(t, name, c.dims, open())
				d := 1
				for _, s := range c.dims {
					d *= s
				}
				x, noise := normals(1, n*d), normals(2, n*d)
				for i, v := range x {
					if x[i] = 3*v + 1; f.Level() > 0 {
						x[i] = float32(math.Tanh(float64(v)))
					}
				}
				if err := f.Start(t.Context(), x, noise); err != nil {
					t.Fatal(err)
				}
				first, w := f.params[0].W, make([]float32, n)
				if slices.Max(first) == 0 && slices.Min(first) == 0 {
					t.Errorf("%s has not started", f.params[0].Name)
				}
				learned, judged := make([]float32, n), make([]float32, n)
				for i := range w {
					w[i] = -1.0 / n
				}
				var before float64
				for k := range 4 {
					if err := f.Bound(t.Context(), x, noise, judged); err != nil {
						t.Fatal(err)
					}
					if err := f.Learn(t.Context(), x, noise, w, learned); err != nil {
						t.Fatal(err)
					}
					for i := range learned {
						near(t, "bound", float64(learned[i]), float64(judged[i]), 1e-4)
					}
					now := training.Mean(learned)
					if k > 0 && now <= before {
						t.Errorf("learning lowers the bound from %g to %g", before, now)
					}
					before = now
					norm := 0.0
					for _, p := range f.params {
						norm += dot(p.G, p.G)
					}
					for _, p := range f.params {
						for i, g := range p.G {
							p.W[i] -= float32(rate*float64(d)/math.Sqrt(norm)) * g / float32(d)
						}
					}
				}
				z, logP, back := make([]float32, n*d), make([]float32, n), make([]float32, n*d)
				if err := f.Encode(t.Context(), x, z, logP); err != nil {
					t.Fatal(err)
				}
				if err := f.Decode(t.Context(), z, back); err != nil {
					t.Fatal(err)
				}
				for i := range x {
					near(t, "there and back", float64(back[i]), float64(x[i]), c.back)
				}
				encode, _ := f.Models()
				call, err := (&network{ctx: t.Context(), engine: ref.New()}).compile(encode, n, nil)
				if err != nil {
					t.Fatal(err)
				}
				view(&call.in[0], x, n, c.dims...)
				out := make([]float32, n*d)
				call.out = make([]*graphs.Tensor, 2)
				view(&call.out[0], out, n, d)
				if err := call.program.Run(t.Context(), call.in, call.out); err != nil {
					t.Fatal(err)
				}
				for i := range z {
					near(t, "code of the exported model", float64(out[i]), float64(z[i]), 1e-4)
				}
				for what, err := range map[string]error{
					"codes":  f.Decode(t.Context(), z[1:], x),
					"values": f.Encode(t.Context(), x[1:], z, logP),
					"noise":  f.Bound(t.Context(), x, noise[1:], judged),
					"bounds": f.Learn(t.Context(), x, noise, w, judged[1:]),
					"start":  f.Start(t.Context(), x, noise[1:]),
				} {
					if err == nil {
						t.Errorf("%s: a wrong size was accepted", what)
					}
				}
			})
		}
	}
}
