package bind

import (
	"context"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training/sampler"
)

// BenchmarkDigits times one call for 64 pictures of 28×28 on ONNX Runtime. A
// chain is 20 steps.
func BenchmarkDigits(b *testing.B) {
	const n, steps = 64, 20
	spec, err := energy.ByName("digits28")
	if err != nil {
		b.Fatal(err)
	}
	e := bound(b, model(b, spec, 1, 28, 28), onnxRuntime(b), Options{})
	dim := 28 * 28
	x, u, g := normals(1, n*dim), make([]float32, n), make([]float32, n*dim)
	w, score := normals(2, n), make([]float32, n)
	v := normals(3, n*dim)
	chain, noise := e.Chain(sampler.Langevin{Size: 0.1, Noise: 1}), normals(4, steps*n*dim)
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"EnergyGrad", func() error { return e.EnergyGrad(x, u, g) }},
		{"Learn", func() error { return e.Learn(context.Background(), x, w, 0, score) }},
		{"HessianVector", func() error { return e.HessianVector(x, v, g) }},
		{"Chain", func() error { _, err := chain.RunChain(context.Background(), x, u, noise); return err }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
