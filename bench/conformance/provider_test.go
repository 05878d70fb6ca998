package conformance

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/graphtest"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
)

// TestProvider runs gradients, in inputs and weights, on the provider that
// EBM_PROVIDER names: of each op that networks are made of, and of each energy and
// generator with a name. The engine compares them with the CPU provider.
func TestProvider(t *testing.T) {
	provider := enginetest.Provider()
	if provider == "" {
		t.Skip("EBM_PROVIDER is not set")
	}
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	elsewhere := map[string]bool{}
	worst := map[string]float64{}
	try := func(t *testing.T, kind string, m *graphs.Model, of string, in []*graphs.Tensor, wrt string) {
		names := []string{wrt}
		for _, w := range passes.Weights(m.Graph) {
			names = append(names, w.Name)
		}
		g, err := autodiff.Grad(m, autodiff.Options{Of: of, Wrt: names})
		if err != nil {
			t.Fatal(err)
		}
		r, err := onProvider(t.Context(), e, provider, g, in)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range r.Candidates {
			worst[kind] = max(worst[kind], c.Distance)
			for _, p := range c.Elsewhere {
				elsewhere[p.Op+" on "+p.Provider] = true
			}
		}
	}
	r := graphtest.NewRand(7)
	ops := graphtest.Ops(r.Rand)
	for _, name := range slices.Sorted(maps.Keys(ops)) {
		t.Run("op/"+name, func(t *testing.T) {
			m, err := ops[name].Loss()
			if err != nil {
				t.Fatal(err)
			}
			try(t, "ops", m, "loss", []*graphs.Tensor{graphtest.Normals(r.Rand, 2, 3, 4, 6), graphtest.Normals(r.Rand, 2, 3, 4, 6)}, "x")
		})
	}
	sizes := [][]int{{2}, {1, 4, 4}, {1, 7, 7}, {1, 16, 16}, {1, 28, 28}, {3, 32, 32}, {3, 64, 64}, {3, 110, 110}, {3, 224, 224}, {16, 3}, {1, 16, 16, 16}, {1, 32, 32, 32}, {1, 24, 32, 32}}
	for _, name := range slices.Sorted(maps.Keys(energy.Nets)) {
		t.Run("energy/"+name, func(t *testing.T) {
			m, dims, err := firstSize(sizes, func(dims []int) (*onnxmodels.Model, error) {
				spec, err := energy.ByName(name)
				if err != nil {
					return nil, err
				}
				return energy.Build(spec, dims, 1, 7)
			})
			if err != nil {
				t.Fatal(err)
			}
			try(t, "energies", m.Model, onnxmodels.Energy, []*graphs.Tensor{graphtest.Normals(r.Rand, append([]int{2}, dims...)...)}, onnxmodels.X)
		})
	}
	for _, name := range slices.Sorted(maps.Keys(generator.Nets)) {
		t.Run("generator/"+name, func(t *testing.T) {
			m, _, err := firstSize(sizes, func(dims []int) (*generator.Model, error) {
				spec, err := generator.ByName(name)
				if err != nil {
					return nil, err
				}
				return generator.Build(spec, dims, 7)
			})
			if err != nil {
				t.Fatal(err)
			}
			try(t, "generators", m.Model, generator.X, []*graphs.Tensor{graphtest.Normals(r.Rand, 2, m.Codes)}, generator.Z)
		})
	}
	t.Logf("largest distance from the CPU provider: %v; nodes given to another provider: %s", worst, strings.Join(slices.Sorted(maps.Keys(elsewhere)), ", "))
}

func firstSize[M any](sizes [][]int, build func(dims []int) (*M, error)) (m *M, dims []int, err error) {
	for _, dims := range sizes {
		if m, err = build(dims); err == nil {
			return m, dims, nil
		}
	}
	return nil, nil, fmt.Errorf("takes none of the sizes: %w", err)
}

// onProvider runs a model once and tells how it went.
func onProvider(ctx context.Context, e runtime.Engine, provider string, m *graphs.Model, in []*graphs.Tensor) (runtime.Report, error) {
	p, err := e.Compile(ctx, m, runtime.Options{Provider: provider, Recheck: true})
	if err != nil {
		return runtime.Report{}, err
	}
	defer p.Close()
	err = p.Run(ctx, in, make([]*graphs.Tensor, len(p.Outputs())))
	return runtime.Describe(p), err
}

// TestTF32 holds gradients on CUDA to float32: as the engine asks for them they are as
// near the CPU provider's as rounding lets them be, and with tensor cores, which it
// does not ask for, ten times farther away or more. The network is smooth.
func TestTF32(t *testing.T) {
	if enginetest.Provider() != runtime.CUDA {
		t.Skip("EBM_PROVIDER is not cuda")
	}
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	spec, err := energy.ByName("swish-32")
	if err != nil {
		t.Fatal(err)
	}
	m, err := energy.Build(spec, []int{3, 32, 32}, 0, 7)
	if err != nil {
		t.Fatal(err)
	}
	g, err := autodiff.Grad(m.Model, autodiff.Options{Of: onnxmodels.Energy, Wrt: []string{onnxmodels.X}})
	if err != nil {
		t.Fatal(err)
	}
	in := []*graphs.Tensor{graphtest.Normals(graphtest.NewRand(7).Rand, 64, 3, 32, 32)}
	distance := map[string]float64{}
	for _, how := range []string{"", "1"} {
		o := runtime.Options{Provider: runtime.CUDA, Recheck: true}
		if how != "" {
			o.ProviderOptions = map[string]string{"use_tf32": how}
		}
		p, err := e.Compile(t.Context(), g, o)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		err = p.Run(t.Context(), in, make([]*graphs.Tensor, len(p.Outputs())))
		c := runtime.Describe(p).Candidates
		if len(c) == 0 {
			t.Fatal(err)
		}
		distance[how] = c[0].Distance
		t.Logf("use_tf32=%q: distance %.2g, %.3g ms a call, error %v", how, c[0].Distance, 1e3*c[0].Seconds, err)
	}
	if distance[""] > 1e-5 || distance["1"] < 10*distance[""] {
		t.Errorf("distances from the CPU provider: %v", distance)
	}
}
