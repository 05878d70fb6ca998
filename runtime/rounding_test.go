package runtime_test

import (
	"context"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/graphtest"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
)

// summing is a backend whose CPU provider adds the terms of total = Σ x·w from the
// front and whose other provider from the back, or wrongly.
type summing struct{ wrong func(terms []float32) float32 }

func (summing) Library() string     { return "summing 1.0" }
func (summing) Providers() []string { return []string{runtime.CUDA} }
func (summing) Placement(context.Context, *graphs.Model, runtime.Options, []*graphs.Tensor) ([]runtime.Placed, error) {
	return nil, nil
}

func (s summing) Compile(ctx context.Context, m *graphs.Model, o runtime.Options) (runtime.Program, error) {
	p, err := ref.New().Compile(ctx, m, runtime.Options{})
	return &sum{p, s, o.Provider}, err
}

type sum struct {
	runtime.Program
	of       summing
	provider string
}

func (p *sum) Run(_ context.Context, in, out []*graphs.Tensor) error {
	terms := make([]float32, len(in[0].F32()))
	for i, x := range in[0].F32() {
		terms[i] = x * in[1].F32()[i]
	}
	total := float32(0)
	switch {
	case p.provider == runtime.CPU:
		for _, t := range terms {
			total += t
		}
	case p.of.wrong != nil:
		total = p.of.wrong(terms)
	default:
		for i := range terms {
			total += terms[len(terms)-1-i]
		}
	}
	out[0] = graphs.Of([]float32{total})
	return nil
}

// TestCancellation compares a sum that is zero but for rounding: another order of
// adding is right, a missing term, a wrong sign or a thousandth of a term is not.
func TestCancellation(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{Name: "sum"})
	const n = 200
	x, w := b.Input("x", graphs.Float32, graphs.MakeShape(n)), b.Input("w", graphs.Float32, graphs.MakeShape(n))
	b.Output("total", b.Sum(b.Mul(x, w), false))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	front := func(terms []float32) (total float32) {
		for _, t := range terms {
			total += t
		}
		return total
	}
	in := []*graphs.Tensor{graphtest.Normals(graphtest.NewRand(1).Rand, n), graphs.NewTensor(graphs.Float32, n)}
	for i := range in[1].F32() { // the second half undoes the first
		if in[1].F32()[i] = 0.5; i >= n/2 {
			in[0].F32()[i], in[1].F32()[i] = in[0].F32()[i-n/2], -0.5
		}
	}
	for name, c := range map[string]struct {
		wrong func(terms []float32) float32
		ok    bool
	}{
		"another order":     {nil, true},
		"a missing term":    {func(terms []float32) float32 { return front(terms[1:]) }, false},
		"no sign":           {func(terms []float32) float32 { return -front(terms[n/2:]) }, false},
		"part of a term":    {func(terms []float32) float32 { return front(terms) + terms[0]/1000 }, false},
		"zero for a number": {func([]float32) float32 { return 0 }, true}, // no terms do not differ from terms that cancel
	} {
		t.Setenv("EBMRUN_CACHE", t.TempDir())
		p, err := runtime.Check(summing{c.wrong}).Compile(t.Context(), graphs.NewModel(g), runtime.Options{Provider: runtime.CUDA})
		if err != nil {
			t.Fatal(err)
		}
		err = p.Run(t.Context(), in, []*graphs.Tensor{nil})
		if c.ok != (err == nil) || err != nil && !strings.Contains(err.Error(), `"total" is wrong`) {
			t.Errorf("%s: %v", name, err)
		}
		if r := runtime.Describe(p); len(r.Candidates) > 0 && c.ok && !(r.Candidates[0].Distance <= 1e-3) {
			t.Errorf("%s: accepted at a distance of %g", name, r.Candidates[0].Distance)
		}
	}
}
