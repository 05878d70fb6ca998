package bind

import (
	"context"
	"fmt"
	"math"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/training"
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
			apart = max(apart, math.Abs(float64(v-before[i])))
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

// TestConstantsOfPosterior: so does a long chain of codes, under a learned prior too, although nobody says that weights have changed.
func TestConstantsOfPosterior(t *testing.T) {
	const n, steps, codes = 9, 4, 5
	spec := generator.Spec{Codes: codes, Start: 2, Filters: 6, Activation: "swish", Layers: []generator.Layer{{Filters: 4, Kernel: 4, Stride: 2, Pad: 1}, {Kernel: 4, Stride: 2, Pad: 1}}}
	m, err := generator.Build(spec, []int{2, 8, 8}, 1)
	if err != nil {
		t.Fatal(err)
	}
	engine, o := onnxRuntime(t), runtime.Options{Threads: 2}
	g, err := NewGenerator(context.Background(), m, engine, o, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	prior := bound(t, mlp(t, "swish", codes), engine, Options{Runtime: o})
	target := normals(2, n*2*8*8)
	chain := func(hide bool) []float32 {
		st, err := sampler.NewState(normals(1, n*codes), codes, sampler.Chains(0, n))
		if err != nil {
			t.Fatal(err)
		}
		f := g.Posterior(target, training.Ones(len(target)))
		if hide {
			f = onlyField{f}
		}
		if _, err = sampler.Run(context.Background(), sampler.Noise{Seed: 1}, sampler.Langevin{Size: 0.05, Noise: 0.1}, f, st, steps, nil); err != nil {
			t.Fatal(err)
		}
		return st.X
	}
	before := chain(false)
	for round := range 4 {
		if round == 2 {
			if err := g.Under(prior); err != nil {
				t.Fatal(err)
			}
		}
		fed := chain(true)
		g.long.least = map[int]int{n: steps}
		got, apart := chain(false), 0.0
		if len(g.long.calls) != 1 {
			t.Fatalf("round %d: wanted a program with constants, got %d", round, len(g.long.calls))
		}
		for i, v := range got {
			near(t, fmt.Sprintf("round %d, code %d", round, i), float64(v), float64(fed[i]), 1e-5)
			apart = max(apart, math.Abs(float64(v-before[i])))
		}
		if round > 0 && apart < 1e-4 {
			t.Errorf("round %d moves no chain by more than %g", round, apart)
		}
		before = got
		params := g.Params()
		if round == 2 {
			params = prior.Params()
		}
		for _, p := range params {
			for i := range p.W {
				p.W[i] *= 1.5
			}
		}
	}
}
