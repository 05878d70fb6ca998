//go:build cgo

package ort

import (
	"fmt"
	"slices"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/runtime"
)

// TestMost: with every provider no session is of more examples than are wanted at once, and the parts
// give what the whole gives.
func TestMost(t *testing.T) {
	const n, dim = 10, 3
	e := engineFor(t)
	squares := func(n int) (*graphs.Model, error) {
		b := graphs.NewBuilder(&graphs.Graph{Name: "squares"})
		x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(dim)})
		b.Output("y", b.Mul(x, x))
		b.Output("sum", b.Sum(b.Mul(x, x), false, 0))
		g, err := b.Graph()
		if err == nil {
			_, err = passes.SetBatch(g, "batch", n)
		}
		return graphs.NewModel(g), err
	}
	whole, err := squares(n)
	if err != nil {
		t.Fatal(err)
	}
	x := graphs.NewTensor(graphs.Float32, n, dim)
	for i, v := range x.F32() {
		x.F32()[i] = v + float32(i)
	}
	for _, provider := range e.Providers() {
		if provider != runtime.CPU && provider != runtime.OpenVINO {
			continue
		}
		for _, c := range []struct {
			threads, most int
			sizes         []int // of parts, without repetition
		}{{1, 0, nil}, {1, 4, []int{3, 4}}, {1, 10, nil}, {1, 5, []int{5}}, {2, 3, []int{2, 3}}} {
			what := fmt.Sprintf("%s, %d threads, at most %d", provider, c.threads, c.most)
			var sizes []int
			split := &runtime.Split{N: n, In: []int{0}, Out: []int{0, -1}, Model: func(k int) (*graphs.Model, error) {
				if k != n {
					sizes = append(sizes, k)
				}
				return squares(k)
			}}
			p, err := e.Compile(t.Context(), whole, runtime.Options{Provider: provider, Threads: c.threads, Split: split, Most: c.most})
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			defer p.Close()
			if slices.Sort(sizes); provider == runtime.CPU && !slices.Equal(sizes, c.sizes) || c.threads == 1 && !slices.Equal(sizes, c.sizes) {
				t.Errorf("%s: programs of %v examples, wanted %v", what, sizes, c.sizes)
			}
			out := make([]*graphs.Tensor, 2)
			if err := p.Run(t.Context(), []*graphs.Tensor{x}, out); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			sum := make([]float32, dim)
			for i, v := range x.F32() {
				if sum[i%dim] += v * v; out[0].F32()[i] != v*v {
					t.Errorf("%s: element %d is %g, wanted %g", what, i, out[0].F32()[i], v*v)
				}
			}
			if !slices.Equal(out[1].F32(), sum) {
				t.Errorf("%s: sums %v, wanted %v", what, out[1].F32(), sum)
			}
		}
	}
}
