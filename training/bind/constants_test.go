package bind

import (
	"context"
	"fmt"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/training/sampler"
)

// TestConstants: a long chain has the weights as constants and ends where steps that are
// fed the weights end, also after an update; a short one is fed them.
func TestConstants(t *testing.T) {
	const n, steps = 9, 5
	spec := energy.Spec{Activation: "swish", Layers: []energy.Layer{{Filters: 6, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 4}}}
	e := bound(t, model(t, spec, 2, 8, 8), onnxRuntime(t), Options{Runtime: runtime.Options{Threads: 2}})
	dim := 2 * 8 * 8
	chain := func(f sampler.Field) []float32 {
		st, err := sampler.NewState(normals(1, n*dim), dim, sampler.Chains(0, n))
		if err == nil {
			_, err = sampler.Run(context.Background(), sampler.Noise{Seed: 1}, sampler.Langevin{Size: 0.5, Noise: 0.1}, f, st, steps, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		return st.X
	}
	fed := chain(onlyField{e})
	if chain(e); len(e.long.calls) != 0 || e.long.least[n] <= steps {
		t.Errorf("a chain of %d steps, where %d pay, has %d programs with constants", steps, e.long.least[n], len(e.long.calls))
	}
	e.long.least[n] = steps // so that the test's chain is long
	before := fed
	for update := range 3 {
		if update > 0 {
			before, fed = fed, chain(onlyField{e})
		}
		got := chain(e)
		if len(e.long.calls) != 1 {
			t.Fatalf("update %d: wanted a program with constants, got %d", update, len(e.long.calls))
		}
		apart := 0.0
		for i, v := range got {
			near(t, fmt.Sprintf("update %d, element %d", update, i), float64(v), float64(fed[i]), 1e-5)
			apart = max(apart, float64(v-before[i]))
		}
		if update > 0 && apart < 1e-2 {
			t.Errorf("update %d moves no chain by more than %g", update, apart)
		}
		for _, p := range e.Params() {
			for i := range p.W {
				p.W[i] *= 1.5
			}
		}
		e.Refresh()
	}
	r := e.Reports()
	if got := r[fmt.Sprintf("energy gradient of long chains, batch %d", n)]; got.Calls != steps || got.Provider != runtime.CPU {
		t.Errorf("wanted %d calls on the CPU since the last update, got %+v", steps, got)
	}
}

// onlyField hides what else an energy can.
type onlyField struct{ sampler.Field }
