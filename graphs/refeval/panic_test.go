package refeval

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"testing"

	"ebmrun/graphs"
)

// TestNoPanic evaluates every op with random operands and attributes, most of
// them senseless: the answer must be an error or tensors, never a panic.
func TestNoPanic(t *testing.T) {
	for op := range kernels {
		t.Run(op, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			good := 0
			for range 2000 {
				n, in := randomNode(r, op)
				if evalSafely(t, n, in) {
					good++
				}
				if t.Failed() {
					return
				}
			}
			if good == 0 && graphs.Known(&graphs.Node{Op: op}) { // ops with subgraphs are refused
				t.Error("nothing succeeded: the random operands are too senseless")
			}
		})
	}
}

func evalSafely(t *testing.T, n *graphs.Node, in []*graphs.Tensor) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			var desc string
			for _, x := range in {
				if x == nil {
					desc += " none"
				} else {
					desc += fmt.Sprintf(" %v%v%v", x.Type, x.Dims, x.Data)
				}
			}
			for _, a := range n.Attrs {
				desc += fmt.Sprintf(" %s=%v%v%s", a.Name, a.I, a.Ints, a.S)
			}
			t.Errorf("%s(%s): %v\n%s", n.Op, desc, p, debug.Stack())
		}
	}()
	out, err := evalNode(n, graphs.OpsetVersion, in, Options{Round: true, Workers: 1, Memory: 1 << 20})
	if err != nil {
		return false
	}
	for i, x := range out {
		a, err := Options{Round: true}.settings(0).load(x)
		if err != nil || a.len() < 0 {
			t.Errorf("%s: output %d is malformed: %v", n.Op, i, err)
		}
	}
	return true
}

func randomNode(r *rand.Rand, op string) (*graphs.Node, []*graphs.Tensor) {
	n := &graphs.Node{Name: "n", Op: op}
	rank, size := r.IntN(5), 1+r.IntN(3)
	var in []*graphs.Tensor
	alike := r.IntN(2) == 0
	typ := r.IntN(6)
	perChannel := r.IntN(4) == 0
	for i := range 1 + r.IntN(5) {
		if r.IntN(12) == 0 && i > 0 {
			in = append(in, nil)
			n.Inputs = append(n.Inputs, nil)
			continue
		}
		var dims []int
		k := rank
		if !alike && r.IntN(2) == 0 {
			k = r.IntN(5)
		}
		for range k {
			d := size
			if r.IntN(3) == 0 {
				d = r.IntN(4)
			}
			dims = append(dims, d)
		}
		ty := typ
		if i > 0 && r.IntN(2) == 0 {
			ty = r.IntN(6)
		}
		if i > 0 && r.IntN(4) == 0 { // a shape operand
			ty, dims = 2, [][]int{{}, {1}, {rank}, {2 * rank}}[r.IntN(4)]
		} else if i > 0 && perChannel && len(in[0].Dims) > 1 {
			dims = in[0].Dims[1:2]
		}
		v := make([]float64, graphs.Size(dims))
		for j := range v {
			v[j] = float64(r.IntN(7) - 3)
			if r.IntN(40) == 0 {
				v[j] = float64(int64(1) << (10 * r.IntN(6)))
			}
		}
		x, err := graphs.FromFloats([]graphs.DType{graphs.Float32, graphs.Float32, graphs.Int64, graphs.Bool, graphs.Float16, graphs.Uint8}[ty], v, dims...)
		if err != nil {
			panic(err)
		}
		in = append(in, x)
		n.Inputs = append(n.Inputs, &graphs.Value{Name: fmt.Sprint("x", i)})
	}
	ints := func(k int, lo, hi int64) []int64 {
		v := make([]int64, k)
		for i := range v {
			v[i] = lo + r.Int64N(hi-lo)
		}
		return v
	}
	pool := []func() *graphs.Attr{
		func() *graphs.Attr { return graphs.I("axis", r.Int64N(7)-3) },
		func() *graphs.Attr { return graphs.IntsAttr("axes", ints(r.IntN(3), -3, 4)...) },
		func() *graphs.Attr {
			p := []int64{}
			for _, k := range r.Perm(rank) {
				p = append(p, int64(k))
			}
			return graphs.IntsAttr("perm", p...)
		},
		func() *graphs.Attr { return graphs.IntsAttr("strides", ints(max(0, rank-2), 0, 4)...) },
		func() *graphs.Attr { return graphs.IntsAttr("dilations", ints(max(0, rank-2), 0, 3)...) },
		func() *graphs.Attr { return graphs.IntsAttr("pads", ints(max(0, 2*rank-4), -1, 3)...) },
		func() *graphs.Attr { return graphs.IntsAttr("output_padding", ints(max(0, rank-2), -1, 3)...) },
		func() *graphs.Attr { return graphs.IntsAttr("output_shape", ints(max(0, rank-2), -1, 5)...) },
		func() *graphs.Attr { return graphs.IntsAttr("split", ints(r.IntN(3), -1, 3)...) },
		func() *graphs.Attr {
			return graphs.S("auto_pad", []string{"VALID", "SAME_UPPER", "SAME_LOWER", "?"}[r.IntN(4)])
		},
		func() *graphs.Attr {
			return graphs.S("mode", []string{"constant", "reflect", "edge", "wrap", "CRD", "max", "?"}[r.IntN(7)])
		},
		func() *graphs.Attr {
			return graphs.S("reduction", []string{"add", "mul", "max", "min", "?"}[r.IntN(5)])
		},
		func() *graphs.Attr { return graphs.I("group", r.Int64N(4)) },
		func() *graphs.Attr { return graphs.I("ceil_mode", 1) },
		func() *graphs.Attr { return graphs.I("count_include_pad", 1) },
		func() *graphs.Attr { return graphs.I("storage_order", 1) },
		func() *graphs.Attr { return graphs.I("keepdims", 0) },
		func() *graphs.Attr { return graphs.I("transA", 1) },
		func() *graphs.Attr { return graphs.I("transB", 1) },
		func() *graphs.Attr { return graphs.I("allowzero", 1) },
		func() *graphs.Attr { return graphs.I("batch_dims", r.Int64N(4)-1) },
		func() *graphs.Attr { return graphs.I("upper", 0) },
		func() *graphs.Attr { return graphs.I("exclusive", 1) },
		func() *graphs.Attr { return graphs.I("reverse", 1) },
		func() *graphs.Attr { return graphs.I("p", r.Int64N(4)) },
		func() *graphs.Attr { return graphs.I("k", r.Int64N(5)-2) },
		func() *graphs.Attr { return graphs.I("start", r.Int64N(7)-3) },
		func() *graphs.Attr { return graphs.I("end", r.Int64N(7)-3) },
		func() *graphs.Attr { return graphs.I("training_mode", 1) },
		func() *graphs.Attr { return graphs.I("noop_with_empty_axes", 1) },
		func() *graphs.Attr { return graphs.I("fmod", 1) },
		func() *graphs.Attr { return graphs.I("select_last_index", 1) },
		func() *graphs.Attr { return graphs.I("largest", 0) },
	}
	for range r.IntN(4) {
		n.Attrs = append(n.Attrs, pool[r.IntN(len(pool))]())
	}
	usual := func(a *graphs.Attr) {
		if r.IntN(8) != 0 {
			n.Attrs = append(n.Attrs, a)
		}
	}
	usual(graphs.IntsAttr("kernel_shape", ints(max(0, rank-2), 0, 4)...))
	usual(graphs.I("to", []int64{1, 7, 9, 10, 11, 16, 3, 8, 17}[r.IntN(9)]))
	directions := []string{"LEFT", "RIGHT"}
	if graphs.RecurrentGates(op) > 0 {
		directions = []string{"forward", "reverse", "bidirectional"}
	}
	usual(graphs.S("direction", directions[r.IntN(len(directions))]))
	usual(graphs.I("blocksize", r.Int64N(4)))
	usual(graphs.I("num_groups", r.Int64N(4)))
	usual(graphs.I("size", r.Int64N(5)))
	usual(graphs.S("equation", []string{"ij,jk->ik", "ii->i", "ij->", "ab,ab", "i,j->ij", "aij,ajk->aik", "a,b,c->"}[r.IntN(7)]))
	usual(graphs.T("value", graphs.Of([]float32{2}, 1)))
	usual(graphs.I("q_num_heads", 1+r.Int64N(2)))
	usual(graphs.I("kv_num_heads", 1))
	usual(graphs.I("num_heads", 1+r.Int64N(2)))
	usual(graphs.I("offset_group", r.Int64N(3)))
	usual(graphs.I("output_height", r.Int64N(3)))
	usual(graphs.I("sampling_ratio", r.Int64N(4)-1))
	usual(graphs.IntsAttr("pooled_shape", ints(2, 0, 3)...))
	fitted(r, n, in)
	outputs := 1
	if multiple := map[string]int{"MaxPool": 2, "TopK": 2, "Split": 3, "LayerNormalization": 3, "BatchNormalization": 3, "Dropout": 2, "Attention": 4, "LSTM": 3, "GRU": 2, "RNN": 2}[op]; multiple > 0 {
		outputs += r.IntN(multiple)
	}
	if op == "TopK" {
		outputs = 2
	}
	for i := range outputs {
		n.Outputs = append(n.Outputs, &graphs.Value{Name: fmt.Sprint("y", i), From: n})
	}
	return n, in
}

// fitted gives ops whose operands must fit each other closely a chance.
func fitted(r *rand.Rand, n *graphs.Node, in []*graphs.Tensor) {
	set := func(i int, dims ...int) {
		if i < len(in) && in[i] != nil && r.IntN(8) != 0 {
			in[i] = graphs.NewTensor(graphs.Float32, dims...)
		}
	}
	small := func(v ...int64) *graphs.Tensor { return graphs.Of(v, len(v)) }
	g := graphs.RecurrentGates(n.Op)
	switch {
	case g > 0:
		dirs := 1
		if n.Str("direction", "") == "bidirectional" {
			dirs = 2
		}
		set(0, 3, 2, 4)
		set(1, dirs, g*5, 4)
		set(2, dirs, g*5, 5)
		set(3, dirs, g*10)
		if len(in) > 4 {
			in[4] = nil
		}
	case n.Op == "Attention":
		set(0, 2, 3, 4)
		set(1, 2, 5, 4)
		set(2, 2, 5, 4)
		set(3, 3, 5)
		if len(in) > 4 {
			in[4] = nil
		}
	case n.Op == "RotaryEmbedding":
		set(0, 2, 3, 4)
		set(1, 2, 3, 2)
		set(2, 2, 3, 2)
		if len(in) > 3 {
			in[3] = nil
		}
	case n.Op == "AffineGrid":
		set(0, 2, 2, 3)
		if len(in) > 1 {
			in[1] = small(2, 1, r.Int64N(4), 3)
		}
	case n.Op == "NegativeLogLikelihoodLoss" || n.Op == "SoftmaxCrossEntropyLoss":
		set(0, 2, 3)
		if len(in) > 1 {
			in[1] = small(r.Int64N(4), r.Int64N(4)-1)
		}
		set(2, 3)
	case n.Op == "RoiAlign":
		set(0, 2, 1, 4, 3)
		set(1, 3, 4)
		if len(in) > 2 {
			in[2] = small(0, r.Int64N(3), 1)
		}
	case n.Op == "MaxRoiPool":
		set(0, 2, 1, 4, 3)
		set(1, 3, 5)
	case n.Op == "NonMaxSuppression":
		set(0, 2, 3, 4)
		set(1, 2, 1, 3)
		for i := 2; i < len(in); i++ {
			in[i] = graphs.Of([]float32{r.Float32() * 2}, 1)
		}
	case n.Op == "DeformConv":
		set(0, 2, 2, 4, 3)
		set(1, 2, 2, 1, 1)
		set(2, 2, 2, 4, 3)
		set(3, 2)
		set(4, 2, 1, 4, 3)
	case n.Op == "Col2Im":
		set(0, 1, 4, 4)
		if len(in) > 2 {
			in[1], in[2] = small(3, 3), small(2, 2)
		}
	}
}
