//go:build cgo && (linux || darwin)

package ort

import (
	"slices"
	"testing"

	"ebmrun/graphs"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
)

// TestLargeWeights: weights that are handed over beside the model are read in every
// way there is to read them, and belong to the caller again once it is compiled.
func TestLargeWeights(t *testing.T) {
	const n = 80 // n² numbers are large, n are not
	e := engineFor(t)
	for _, provider := range append([]string{runtime.CPU}, e.Providers()...) {
		for _, dtype := range []graphs.DType{graphs.Float32, graphs.Float64} {
			if provider != runtime.CPU && (provider != runtime.OpenVINO || dtype != graphs.Float32) {
				continue
			}
			t.Run(provider+" "+dtype.String(), func(t *testing.T) {
				numbers := make([]float64, n*n)
				for i := range numbers {
					numbers[i] = float64(i%7 - 3)
				}
				w, err := graphs.FromFloats(dtype, numbers, n, n)
				if err != nil {
					t.Fatal(err)
				}
				m := enginetest.Build(t, func(b *graphs.Builder) {
					x, w := b.Input("x", dtype, graphs.MakeShape(2, n)), b.Weight("w", w)
					b.Output("product", b.MatMul(x, w))
					b.Output("transposed", b.MatMul(x, b.Transpose(w, 1, 0)))
					b.Output("rows", b.Add(x, b.Gather(w, b.Ints(3, 5), 0)))
				})
				p, err := e.Compile(t.Context(), m, runtime.Options{Provider: provider})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				var product, transposed, rows []float64
				x := make([]float64, 2*n)
				for i := range x {
					x[i] = float64(i%5 - 2)
				}
				for r := range 2 {
					for j := range n {
						sum, turned := 0.0, 0.0
						for k := range n {
							sum += x[r*n+k] * numbers[k*n+j]
							turned += x[r*n+k] * numbers[j*n+k]
						}
						product, transposed = append(product, sum), append(transposed, turned)
						rows = append(rows, x[r*n+j]+numbers[(3+2*r)*n+j])
					}
				}
				if v := w.F32(); v != nil {
					clear(v)
				}
				in, err := graphs.FromFloats(dtype, x, 2, n)
				if err != nil {
					t.Fatal(err)
				}
				out := make([]*graphs.Tensor, 3)
				if err := p.Run(t.Context(), []*graphs.Tensor{in}, out); err != nil {
					t.Fatal(err)
				}
				enginetest.Close(t, "product", out[0], 1e-5, product...)
				enginetest.Close(t, "transposed", out[1], 1e-5, transposed...)
				enginetest.Close(t, "rows", out[2], 1e-5, rows...)
			})
		}
	}
}

// TestLeftOut: heavy weights that products read both ways are kept once, as they are, and the
// products are the same.
func TestLeftOut(t *testing.T) {
	const n = 2100 // n² numbers are heavy
	model := func(dtype graphs.DType, n int) *graphs.Model {
		return enginetest.Build(t, func(b *graphs.Builder) {
			w := graphs.NewTensor(dtype, n, n)
			for i := range w.F32() {
				w.F32()[i] = float32(i%7-3) / 8
			}
			x, c := b.Input("x", dtype, graphs.MakeShape(3, n)), b.Weight("w", w)
			b.Output("y", b.MatMul(b.MatMul(x, c), b.Transpose(c, 1, 0)))
		})
	}
	heavy := model(graphs.Float32, n)
	for name, c := range map[string]struct {
		m    *graphs.Model
		o    runtime.Options
		want []string
	}{
		"heavy":     {heavy, runtime.Options{}, []string{"ConstantFolding", "1"}},
		"light":     {model(graphs.Float32, 8), runtime.Options{}, []string{"", ""}},
		"not fused": {heavy, runtime.Options{Optimize: runtime.OptimizeBasic}, []string{"", ""}},
		"elsewhere": {heavy, runtime.Options{Provider: runtime.OpenVINO}, []string{"", ""}},
		"float64":   {model(graphs.Float64, 8), runtime.Options{}, []string{"MatmulTransposeFusion", ""}},
	} {
		got := leftOut(c.m.Graph, c.o)
		if all := []string{got["optimization.disable_specified_optimizers"], got["session.disable_prepacking"]}; !slices.Equal(all, c.want) {
			t.Errorf("%s: wanted %q, got %q", name, c.want, all)
		}
	}
	x, e := normals()(3, n), engineFor(t)
	run := func(o runtime.Options) *graphs.Tensor {
		p, err := e.compile(t.Context(), heavy, o, "")
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		out := make([]*graphs.Tensor, 1)
		if err := p.Run(t.Context(), []*graphs.Tensor{x}, out); err != nil {
			t.Fatal(err)
		}
		return out[0]
	}
	want, _ := run(runtime.Options{Optimize: runtime.OptimizeNone}).AsFloats()
	enginetest.Close(t, "y", run(runtime.Options{}), 1e-4, want...)
}
