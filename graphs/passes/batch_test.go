package passes_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/graphtest"
	"ebmrun/graphs/passes"
)

type val = *graphs.Value

// frozen is a model of x [batch, 4, 6] whose batch is a number.
func frozen(t *testing.T, batch int, build func(b *graphs.Builder, x val) val) *graphs.Model {
	t.Helper()
	b := graphs.NewBuilder(&graphs.Graph{Name: "frozen"})
	x := b.Input("x", graphs.Float64, graphs.MakeShape(batch, 4, 6))
	b.Output("y", build(b, x))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	return graphs.NewModel(g)
}

func normalTensor(r *rand.Rand, dims ...int) *graphs.Tensor {
	v := make([]float64, graphs.Size(dims))
	for i := range v {
		v[i] = r.NormFloat64()
	}
	return graphs.Of(v, dims...)
}

// batchCases are nets as exporters write them: n is the batch that they traced.
var batchCases = map[string]func(b *graphs.Builder, x val, n int64) val{
	"flattened": func(b *graphs.Builder, x val, n int64) val { return b.ReshapeTo(x, n, 24) },
	"windows": func(b *graphs.Builder, x val, n int64) val { // batch·4 windows of 6, a mask for each, and back
		y := b.ReshapeTo(x, n*4, 6)
		y = b.MatMul(y, b.Weight("w", normalTensor(rand.New(rand.NewPCG(1, 1)), 6, 6)))
		y = b.Add(b.ReshapeTo(y, n, 4, 6), b.Weight("mask", normalTensor(rand.New(rand.NewPCG(1, 2)), 1, 4, 6)))
		return b.Op("Softmax", []val{b.ReshapeTo(y, n, 2, 2, 6)}, graphs.I("axis", -1))
	},
	"class token": func(b *graphs.Builder, x val, n int64) val {
		token := b.Expand(b.Weight("token", normalTensor(rand.New(rand.NewPCG(1, 3)), 1, 1, 6)), b.Ints(n, 1, 6))
		return b.Gather(b.Concat(1, token, x), b.Ints(0, 2), 1)
	},
	"sequence first": func(b *graphs.Builder, x val, n int64) val { // rows are innermost: index time·batch + row
		y := b.ReshapeTo(b.Transpose(x, 1, 0, 2), 4*n, 6)
		y = b.Op("Gemm", []val{y, b.Weight("w", normalTensor(rand.New(rand.NewPCG(1, 4)), 6, 5))})
		return b.Transpose(b.ReshapeTo(y, 4, n, 5), 1, 0, 2)
	},
	"heads": func(b *graphs.Builder, x val, n int64) val {
		q := b.Transpose(b.ReshapeTo(x, n, 4, 2, 3), 0, 2, 1, 3)
		p := b.Op("Softmax", []val{b.MatMul(q, b.Transpose(q, 0, 1, 3, 2))}, graphs.I("axis", -1))
		return b.ReshapeTo(b.Transpose(b.MatMul(p, q), 0, 2, 1, 3), n, 24)
	},
	"sizes from the input": func(b *graphs.Builder, x val, n int64) val {
		s := b.Shape(x)
		return b.Reshape(x, b.Concat(0, b.Gather(s, b.Ints(0), 0), b.Ints(-1)))
	},
	"equal rows of a constant": func(b *graphs.Builder, x val, n int64) val {
		c := normalTensor(rand.New(rand.NewPCG(1, 5)), 1, 4, 6)
		all := []float64{}
		for range n {
			all = append(all, c.F64()...)
		}
		return b.Add(x, b.Weight("c", graphs.Of(all, int(n), 4, 6)))
	},
	"whole slice": func(b *graphs.Builder, x val, n int64) val {
		return b.Slice(x, []int64{0, 1}, []int64{n, 3}, []int64{0, 1}, nil)
	},
	"resized": func(b *graphs.Builder, x val, n int64) val {
		y := b.Op("Resize", []val{b.ReshapeTo(x, n, 4, 6, 1), nil, nil, b.Ints(n, 4, 3, 2)}, graphs.S("mode", "nearest"))
		return b.ReshapeTo(y, n, 4, 6)
	},
	"axes of size 1": func(b *graphs.Builder, x val, n int64) val { // where the batch is shows later
		y := b.ReshapeTo(x, 1, n, 4, 6)
		y = b.Mul(y, b.Weight("w", normalTensor(rand.New(rand.NewPCG(1, 6)), 2, 1, 1, 1)))
		return b.Sum(y, false, 0)
	},
	"recurrent": func(b *graphs.Builder, x val, n int64) val {
		r := rand.New(rand.NewPCG(1, 7))
		state := b.Expand(b.Weight("h", normalTensor(r, 1, 1, 3)), b.Ints(1, n, 3))
		y := b.Ops("GRU", 2, []val{b.Transpose(x, 1, 0, 2), b.Weight("wx", normalTensor(r, 1, 9, 6)), b.Weight("wh", normalTensor(r, 1, 9, 3)), nil, nil, state},
			graphs.I("hidden_size", 3))
		return b.Transpose(b.Squeeze(y[0], 1), 1, 0, 2)
	},
}

func TestFreeBatch(t *testing.T) {
	for name, build := range batchCases {
		for _, n := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				m := frozen(t, n, func(b *graphs.Builder, x val) val { return build(b, x, int64(n)) })
				free, freed, err := passes.FreeBatch(m, "batch")
				if err != nil {
					t.Fatal(err)
				}
				if freed.Batch != int64(n) || !slices.Equal(freed.Inputs, []string{"x"}) {
					t.Errorf("%+v", freed)
				}
				if d := free.Graph.Outputs[0].Shape[0]; !d.Same(graphs.Sym("batch")) {
					t.Errorf("the output is %v", free.Graph.Outputs[0])
				}
				if d := m.Graph.Inputs[0].Shape[0]; d.N != int64(n) {
					t.Error("the model given was changed")
				}
				rows := 2 * n
				x := normalTensor(rand.New(rand.NewPCG(2, 2)), rows, 4, 6)
				got := graphtest.Run(t, free, x)[0]
				for from := 0; from < rows; from += n {
					want := graphtest.Run(t, m, graphs.Of(x.F64()[from*24:(from+n)*24], n, 4, 6))[0].F64()
					at := from / n * len(want)
					for i, w := range want {
						if d := got.F64()[at+i] - w; d > 1e-12 || d < -1e-12 {
							t.Fatalf("rows from %d: %v, wanted %v", from, got.F64()[at:at+len(want)], want)
						}
					}
				}
			})
		}
	}
}

// What mixes rows, or may, is refused by name: some of these would pass a trial
// run, as with equal rows.
func TestFreeBatchRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		batch int
		build func(b *graphs.Builder, x val) val
		want  string
	}{
		"mean over the batch":      {2, func(b *graphs.Builder, x val) val { return b.Sub(x, b.Mean(x, true, 0)) }, "ReduceMean"},
		"softmax over the batch":   {2, func(b *graphs.Builder, x val) val { return b.Op("Softmax", []val{x}, graphs.I("axis", 0)) }, "Softmax"},
		"sum of everything":        {2, func(b *graphs.Builder, x val) val { return b.Sum(x, false) }, "ReduceSum"},
		"batch among the features": {2, func(b *graphs.Builder, x val) val { return b.ReshapeTo(b.Transpose(x, 1, 0, 2), 4, 12) }, "output y"},
		"torn apart":               {2, func(b *graphs.Builder, x val) val { return b.ReshapeTo(x, 3, 16) }, "torn apart"},
		"pairs of rows":            {1, func(b *graphs.Builder, x val) val { return b.Sub(b.Unsqueeze(x, 0), b.Unsqueeze(x, 1)) }, "joins rows"},
		"a row picked":             {2, func(b *graphs.Builder, x val) val { return b.Gather(x, b.Ints(0), 0) }, "Gather"},
		"rows reversed": {2, func(b *graphs.Builder, x val) val {
			return b.Slice(x, []int64{-1}, []int64{-9}, []int64{0}, []int64{-1})
		}, "Slice"},
		"different rows": {2, func(b *graphs.Builder, x val) val {
			return b.Add(x, b.Weight("c", graphs.Of([]float64{1, 2}, 2, 1, 1)))
		}, "written into it"},
		"divided by the batch": {2, func(b *graphs.Builder, x val) val {
			return b.Div(x, b.Cast(b.Gather(b.Shape(x), b.Ints(0), 0), graphs.Float64))
		}, "size of the batch"},
		"output with another layout": {2, func(b *graphs.Builder, x val) val { return b.Transpose(x, 1, 0, 2) }, "output y"},
		"product over the batch":     {4, func(b *graphs.Builder, x val) val { return b.MatMul(b.Transpose(x, 1, 2, 0), b.Transpose(x, 1, 0, 2)) }, "MatMul"},
	} {
		_, _, err := passes.FreeBatch(frozen(t, c.batch, c.build), "batch")
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	symbolic := frozen(t, 1, func(b *graphs.Builder, x val) val { return b.Tanh(x) })
	symbolic.Graph.Inputs[0].Shape[0] = graphs.Sym("batch")
	if _, _, err := passes.FreeBatch(symbolic, "batch"); err == nil || !strings.Contains(err.Error(), "no batch is written") {
		t.Errorf("nothing to free: %v", err)
	}
}

// An input that is symbolic already does not help when a Reshape is not.
func TestFreeBatchBehindSymbolicInput(t *testing.T) {
	m := frozen(t, 3, func(b *graphs.Builder, x val) val { return b.ReshapeTo(x, 3, 24) })
	m.Graph.Inputs[0].Shape[0] = graphs.Sym("n")
	free, freed, err := passes.FreeBatch(m, "batch")
	if err != nil || freed.Batch != 3 {
		t.Fatalf("%+v %v", freed, err)
	}
	if y := graphtest.Run(t, free, normalTensor(rand.New(rand.NewPCG(2, 2)), 5, 4, 6))[0]; y.Dims[0] != 5 {
		t.Errorf("dims %v", y.Dims)
	}
}
