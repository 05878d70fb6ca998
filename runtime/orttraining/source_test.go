package orttraining

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"ebmrun/graphs/autodiff"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ref"
	"ebmrun/training/bind"
	"ebmrun/training/optim"
)

// with runs f while e makes all gradients.
func with(e *Engine, f func()) {
	defer autodiff.Use(autodiff.Use(e.Append))
	f()
}

// TestBound compares what bound networks compute with both sources: slopes in
// examples, codes and weights, and a fused chain.
func TestBound(t *testing.T) {
	e := open(t)
	type result map[string][]float32
	params := func(r result, prefix string, all []optim.Param) {
		for _, p := range all {
			r[prefix+p.Name] = append([]float32(nil), p.G...)
		}
	}
	compute := func(en runtime.Engine, o runtime.Options) result {
		ctx, r, out := context.Background(), rand.New(rand.NewPCG(8, 9)), result{}
		spec, err := energy.ByName("coop-16")
		if err != nil {
			t.Fatal(err)
		}
		em, err := energy.Build(spec, []int{1, 16, 16}, 0.5, 7)
		if err != nil {
			t.Fatal(err)
		}
		net, err := bind.New(ctx, em, en, bind.Options{Runtime: o})
		if err != nil {
			t.Fatal(err)
		}
		defer net.Close()
		const n = 4
		x := noise(r, n, em.Size()).F32()
		u, g := make([]float32, n), make([]float32, len(x))
		if err := net.EnergyGrad(x, u, g); err != nil {
			t.Fatal(err)
		}
		out["U"], out[onnxmodels.GradX] = u, g
		score := make([]float32, n)
		if err := net.Learn(ctx, x, []float32{1, -1, 0.5, 2}, 0.1, score); err != nil {
			t.Fatal(err)
		}
		params(out, "energy/", net.Params())

		gs, err := generator.ByName("deconv16")
		if err != nil {
			t.Fatal(err)
		}
		gm, err := generator.Build(gs, []int{1, 16, 16}, 7)
		if err != nil {
			t.Fatal(err)
		}
		gen, err := bind.NewGenerator(ctx, gm, en, o, 0.3)
		if err != nil {
			t.Fatal(err)
		}
		defer gen.Close()
		z := noise(r, n, gm.Codes).F32()
		mask := make([]float32, len(x))
		for i := range mask {
			mask[i] = float32(i % 2)
		}
		uz, gz := make([]float32, n), make([]float32, len(z))
		if err := gen.Posterior(x, mask).EnergyGrad(z, uz, gz); err != nil {
			t.Fatal(err)
		}
		out["posterior"], out["grad/z"] = uz, gz
		if err := gen.Learn(ctx, z, x, mask, []float32{1, 2, 3, 4}, make([]float32, n)); err != nil {
			t.Fatal(err)
		}
		params(out, "generator/", gen.Params())
		return out
	}
	ours := compute(ref.New(), runtime.Options{})
	var theirs result
	with(e, func() { theirs = compute(e, runtime.Options{Provider: enginetest.Provider()}) })
	if len(ours) != len(theirs) {
		t.Errorf("%d and %d results", len(ours), len(theirs))
	}
	for name, want := range ours {
		got := theirs[name]
		if len(got) != len(want) {
			t.Errorf("%s: %d numbers, wanted %d", name, len(got), len(want))
			continue
		}
		var d, n float64
		for i := range want {
			v := float64(got[i] - want[i])
			d, n = d+v*v, n+float64(want[i])*float64(want[i])
		}
		if !(math.Sqrt(d) <= 1e-4*math.Sqrt(n)) || n == 0 {
			t.Errorf("%s: relative distance %.2g", name, math.Sqrt(d/n))
		}
	}
}
