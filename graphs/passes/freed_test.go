package passes_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/graphtest"
	"ebmrun/graphs/passes"
)

// rowCases put an op on a value of four axes, the batch anywhere among them, along axis a. Each says in
// how many of the ways to choose the batch's axis before, a, and the batch's axis behind the
// batch is free: more would be wrong, less would refuse what is right.
var rowCases = map[string]struct {
	free  int
	build func(b *graphs.Builder, x val, a int64) val
}{
	"ArgMax": {12, func(b *graphs.Builder, x val, a int64) val {
		return b.Cast(b.Op("ArgMax", []val{x}, axis(a)), graphs.Float64)
	}},
	"ArgMin, gone": {12, func(b *graphs.Builder, x val, a int64) val {
		return b.Cast(b.Op("ArgMin", []val{x}, axis(a-4), graphs.I("keepdims", 0)), graphs.Float64)
	}},
	"Concat": {12, func(b *graphs.Builder, x val, a int64) val { return b.Concat(a, b.Tanh(x), x) }},
	"CumSum": {12, func(b *graphs.Builder, x val, a int64) val {
		return b.Op("CumSum", []val{x, b.Const(graphs.Of([]int64{a}))})
	}},
	"Einsum": {5, func(b *graphs.Builder, x val, a int64) val {
		return b.Op("Einsum", []val{x, x}, graphs.S("equation", []string{"abcd,abce->abde", "abcd,aecd->abe", "abcd,abed->bce", "abcd,abcd->d"}[a]))
	}},
	"Flatten":     {2, func(b *graphs.Builder, x val, a int64) val { return b.Op("Flatten", []val{x}, axis(a)) }},
	"Gather":      {12, func(b *graphs.Builder, x val, a int64) val { return b.Gather(x, b.Ints(1, 0, 1), a) }},
	"Gather, one": {12, func(b *graphs.Builder, x val, a int64) val { return b.Gather(x, b.Const(graphs.Of([]int64{1})), a) }},
	"Gather, table": {12, func(b *graphs.Builder, x val, a int64) val {
		return b.Gather(x, b.Const(graphs.Of([]int64{0, 1, 1, 0}, 2, 2)), a)
	}},
	"GatherElements": {12, func(b *graphs.Builder, x val, a int64) val {
		return b.Op("GatherElements", []val{x, b.Op("ArgMax", []val{x}, axis(a))}, axis(a))
	}},
	"LayerNormalization": {6, func(b *graphs.Builder, x val, a int64) val {
		return b.Op("LayerNormalization", []val{x, b.Weight("w", normalTensor(rand.New(rand.NewPCG(1, 1)), x.Shape[a:].Ints()...))}, axis(a))
	}},
	"LogSoftmax": {12, func(b *graphs.Builder, x val, a int64) val { return b.Op("LogSoftmax", []val{x}, axis(a-4)) }},
	"Pad": {12, func(b *graphs.Builder, x val, a int64) val {
		p := make([]int64, 8)
		p[a], p[4+a] = 1, 2
		return b.Op("Pad", []val{x, b.Ints(p...)})
	}},
	"Pad, axes": {12, func(b *graphs.Builder, x val, a int64) val {
		return b.Op("Pad", []val{x, b.Ints(1, 2), nil, b.Ints(a)})
	}},
	"ReduceMean": {12, func(b *graphs.Builder, x val, a int64) val { return b.Mean(x, true, a) }},
	"ReduceSum":  {12, func(b *graphs.Builder, x val, a int64) val { return b.Sum(x, false, a) }},
	"ReduceMax, two": {8, func(b *graphs.Builder, x val, a int64) val {
		return b.Op("ReduceMax", []val{x, b.Ints(a, -1-a)}, graphs.I("keepdims", 0))
	}},
	"Slice": {12, func(b *graphs.Builder, x val, a int64) val {
		return b.Slice(x, []int64{1}, []int64{9}, []int64{a}, nil)
	}},
	"Softmax": {12, func(b *graphs.Builder, x val, a int64) val { return b.Op("Softmax", []val{x}, axis(a)) }},
	"Split": {12, func(b *graphs.Builder, x val, a int64) val {
		p := b.Ops("Split", 2, []val{x}, axis(a), graphs.I("num_outputs", 2))
		return p[0]
	}},
	"Tile": {12, func(b *graphs.Builder, x val, a int64) val {
		n := []int64{1, 1, 1, 1}
		n[a] = 2
		return b.Op("Tile", []val{x, b.Ints(n...)})
	}},
	"TopK": {12, func(b *graphs.Builder, x val, a int64) val { return b.Ops("TopK", 2, []val{x, b.Ints(1)}, axis(a))[0] }},
	"Trilu": {8, func(b *graphs.Builder, x val, a int64) val {
		return b.Op("Trilu", []val{x, b.Const(graphs.Of([]int64{a - 2}))})
	}},
	"Squeeze":   {16, func(b *graphs.Builder, x val, a int64) val { return b.Squeeze(b.Unsqueeze(x, a, 5), a-6) }},
	"Unsqueeze": {16, func(b *graphs.Builder, x val, a int64) val { return b.Unsqueeze(x, a, a+2) }},
	"Expand": {16, func(b *graphs.Builder, x val, a int64) val {
		to := []int64{1, 1, 1, 1, 1}
		to[a] = 2
		return b.Expand(b.Unsqueeze(x, a), b.Ints(to...))
	}},
	"Gemm": {12, func(b *graphs.Builder, x val, a int64) val {
		s := x.Shape
		m, last := b.ReshapeTo(x, s[0].N*s[1].N*s[2].N, s[3].N), int(s[3].N)
		w := b.Weight("w", normalTensor(rand.New(rand.NewPCG(1, 1)), last, 5))
		switch a {
		case 0:
			m = b.Op("Gemm", []val{m, w})
		case 1:
			m = b.Op("Gemm", []val{b.Transpose(m, 1, 0), w}, graphs.I("transA", 1))
		case 2:
			m = b.Op("Gemm", []val{m, b.Transpose(w, 1, 0), b.Weight("c", normalTensor(rand.New(rand.NewPCG(1, 2)), 5))}, graphs.I("transB", 1))
		case 3:
			m = b.Transpose(b.Op("Gemm", []val{w, m}, graphs.I("transA", 1), graphs.I("transB", 1)), 1, 0)
		}
		return b.ReshapeTo(m, s[0].N, s[1].N, s[2].N, 5)
	}},
	"images": {4, func(b *graphs.Builder, x val, a int64) val {
		if a == 0 {
			return b.Op("MaxPool", []val{x}, graphs.IntsAttr("kernel_shape", 2, 2))
		}
		return b.Op([]string{"LRN", "GlobalAveragePool", "GlobalMaxPool"}[a-1], []val{x}, graphs.I("size", 3))
	}},
	"GridSample": {4, func(b *graphs.Builder, x val, a int64) val {
		alike := b.Expand(b.Weight("w", normalTensor(rand.New(rand.NewPCG(1, 1)), 1, 3, 5, 2)), b.Ints(x.Shape[0].N, 3, 5, 2))
		own := b.Tanh(b.Slice(b.Transpose(x, 0, 2, 3, 1), []int64{0}, []int64{2}, []int64{3}, nil))
		in := [][]val{{x, alike}, {x, own}, {alike, own}, {b.Neg(x), own}}[a]
		return b.Op("GridSample", in)
	}},
	"LSTM": {4, func(b *graphs.Builder, x val, a int64) val {
		r, x := rand.New(rand.NewPCG(1, 1)), b.Sum(x, false, 3)
		in := []val{x, b.Weight("w", normalTensor(r, 1, 12, int(x.Shape[2].N))), b.Weight("r", normalTensor(r, 1, 12, 3))}
		if a == 3 {
			h := b.Expand(b.Weight("h", normalTensor(r, 1, 1, 3)), b.Ints(1, x.Shape[1].N, 3))
			in = append(in, nil, nil, h, h)
		}
		return b.Ops("LSTM", 3, in, graphs.I("hidden_size", 3))[min(a, 2)]
	}},
	"ranks": {12, func(b *graphs.Builder, x val, a int64) val {
		return b.Op([]string{"Add", "Div", "Max", "Sub"}[a], []val{b.Sum(x, false, 0), x})
	}},
	"MatMul": {10, func(b *graphs.Builder, x val, a int64) val {
		r, s := rand.New(rand.NewPCG(1, 1)), x.Shape.Ints()
		switch a {
		case 0:
			return b.MatMul(x, b.Transpose(x, 0, 1, 3, 2))
		case 1:
			return b.MatMul(x, b.Weight("w", normalTensor(r, s[3], 5)))
		case 2:
			return b.MatMul(b.Weight("w", normalTensor(r, 5, s[2])), x)
		}
		return b.MatMul(x, b.Weight("w", normalTensor(r, s[1], s[3], 5)))
	}},
	"Reshape": {10, func(b *graphs.Builder, x val, a int64) val {
		to := x.Shape.Ints()
		if a < 3 {
			to[a] *= to[a+1]
			to = slices.Delete(to, int(a)+1, int(a)+2)
		} else {
			to[3] /= 2
			to = append(to, 2)
		}
		return b.ReshapeTo(x, int64s(to)...)
	}},
	"Reshape, and back": {16, func(b *graphs.Builder, x val, a int64) val {
		s := x.Shape.Ints()
		to := [][]int{{s[0] * s[1] * s[2] * s[3]}, {s[0], s[1] * s[2] * s[3]}, {s[0] * s[1], s[2] * s[3]}, {s[0], s[1] * s[2], s[3]}}[a]
		return b.ReshapeTo(b.Tanh(b.ReshapeTo(x, int64s(to)...)), int64s(s)...)
	}},
	"Resize": {12, func(b *graphs.Builder, x val, a int64) val {
		to := x.Shape.Ints()
		to[a] *= 2
		return b.Op("Resize", []val{x, nil, nil, b.Ints(int64s(to)...)}, graphs.S("mode", "linear"))
	}},
	"Resize, scales": {12, func(b *graphs.Builder, x val, a int64) val {
		to := []float32{1, 1, 1, 1}
		to[a] = 2
		return b.Op("Resize", []val{x, nil, b.Const(graphs.Of(to, 4))})
	}},
}

func int64s(v []int) []int64 {
	w := make([]int64, len(v))
	for i, n := range v {
		w[i] = int64(n)
	}
	return w
}

func axis(a int64) *graphs.Attr { return graphs.I("axis", a) }

// TestFreedRows: what is freed gives each row what it got before, whatever rows are beside it.
func TestFreedRows(t *testing.T) {
	const n, size = 2, 3 * 4 * 6
	x := normalTensor(rand.New(rand.NewPCG(3, 3)), 4, 3, 4, 6)
	rows := func(of ...int) *graphs.Tensor {
		var v []float64
		for _, i := range of {
			v = append(v, x.F64()[i*size:(i+1)*size]...)
		}
		return graphs.Of(v, len(of), 3, 4, 6)
	}
	for name, c := range rowCases {
		free := 0
		for way := range 4 * 4 * 6 {
			before, along, behind := way%4, int64(way/4%4), way/16
			b := graphs.NewBuilder(&graphs.Graph{Name: name})
			in := b.Input("x", graphs.Float64, graphs.MakeShape(n, 3, 4, 6))
			y := c.build(b, b.Transpose(in, moved(4, 0, before)...), along)
			if b.Err() == nil && behind >= y.Rank() {
				continue
			}
			b.Output("y", b.Transpose(y, moved(y.Rank(), behind, 0)...))
			g, err := b.Graph()
			if err != nil {
				t.Fatalf("%s along %d: %v", name, along, err)
			}
			m := graphs.NewModel(g)
			f, _, err := passes.FreeBatch(m, "batch")
			if err != nil {
				continue
			}
			free++
			got := graphtest.Run(t, f, x)[0]
			each := len(got.F64()) / 4
			for _, pair := range [][]int{{0, 1}, {2, 3}, {3, 0}} {
				want := graphtest.Run(t, m, rows(pair...))[0].F64()
				for i, row := range pair {
					if !slices.Equal(want[i*each:(i+1)*each], got.F64()[row*each:(row+1)*each]) {
						t.Fatalf("%s along %d, the batch from axis %d to %d: row %d is another", name, along, before, behind, row)
					}
				}
			}
		}
		if free != c.free {
			t.Errorf("%s: free in %d ways, want %d", name, free, c.free)
		}
	}
}

// moved is the order of axes that takes one to another place.
func moved(rank, from, to int) []int64 {
	var p []int64
	for i := range rank {
		if i != from {
			p = append(p, int64(i))
		}
	}
	return slices.Insert(p, to, int64(from))
}
