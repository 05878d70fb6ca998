package autodiff

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"testing"

	"ebmrun/graphs"
)

// TestNoPanic differentiates every op with random operands and attributes, most
// of them senseless and many of unknown size: the answer must be an error or a
// model, never a panic.
func TestNoPanic(t *testing.T) {
	for op, kind := range Ops() {
		if kind == "flat" {
			continue
		}
		t.Run(op, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 4))
			for range 300 {
				m := randomModel(r, op)
				if m != nil {
					gradSafely(t, m)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

func gradSafely(t *testing.T, m *graphs.Model) {
	n := m.Graph.Nodes[0]
	defer func() {
		if p := recover(); p != nil {
			desc := n.Op
			for _, v := range n.Inputs {
				desc += " " + v.String()
			}
			for _, a := range n.Attrs {
				desc += fmt.Sprintf(" %s=%v%v%s", a.Name, a.I, a.Ints, a.S)
			}
			t.Errorf("%s: %v\n%s", desc, p, debug.Stack())
		}
	}()
	Grad(m, Options{Of: "y"})
}

// randomModel is a node between float inputs and an output, nil if shape
// inference refuses it.
func randomModel(r *rand.Rand, op string) *graphs.Model {
	g := &graphs.Graph{}
	b := graphs.NewBuilder(g)
	rank := r.IntN(5)
	shape := func() graphs.Shape {
		if r.IntN(12) == 0 {
			return nil
		}
		s := graphs.Shape{}
		for range rank {
			d := graphs.D(1 + r.IntN(3))
			switch r.IntN(8) {
			case 0:
				d = graphs.UnknownDim
			case 1:
				d = graphs.Sym("n")
			}
			s = append(s, d)
		}
		return s
	}
	var in []val
	for i := range 1 + r.IntN(4) {
		switch k := r.IntN(10); {
		case i > 0 && k == 0:
			in = append(in, nil)
		case i > 0 && k < 4:
			v := make([]int64, []int{0, 1, rank, 2 * rank}[r.IntN(4)])
			for j := range v {
				v[j] = r.Int64N(6) - 2
			}
			in = append(in, b.Ints(v...))
		case i > 0 && k == 4:
			in = append(in, b.Input(fmt.Sprint("k", i), graphs.Int64, shape()))
		case i > 0 && k == 5:
			in = append(in, b.Scalar(&graphs.Value{Type: graphs.Float32}, 0.5))
		default:
			in = append(in, b.Input(fmt.Sprint("x", i), graphs.Float32, shape()))
		}
	}
	ints := func(k int, lo, hi int64) []int64 {
		v := make([]int64, k)
		for i := range v {
			v[i] = lo + r.Int64N(hi-lo)
		}
		return v
	}
	spatial := max(0, rank-2)
	n := &graphs.Node{Name: "n", Op: op, Inputs: in}
	for _, a := range []*graphs.Attr{
		graphs.I("axis", r.Int64N(7)-3), graphs.IntsAttr("axes", ints(r.IntN(3), -3, 4)...), graphs.IntsAttr("perm", ints(rank, 0, 4)...),
		graphs.IntsAttr("strides", ints(spatial, 0, 4)...), graphs.IntsAttr("dilations", ints(spatial, 0, 3)...), graphs.IntsAttr("pads", ints(2*spatial, -1, 3)...),
		graphs.IntsAttr("kernel_shape", ints(spatial, 0, 4)...), graphs.IntsAttr("output_padding", ints(spatial, -1, 3)...), graphs.I("group", r.Int64N(4)),
		graphs.S("auto_pad", []string{"VALID", "SAME_UPPER", "?"}[r.IntN(3)]), graphs.I("ceil_mode", 1), graphs.I("keepdims", 0), graphs.I("transA", 1), graphs.I("blocksize", r.Int64N(4)),
		graphs.S("mode", []string{"reflect", "edge", "wrap", "linear", "cubic", "nearest", "CRD", "?"}[r.IntN(8)]), graphs.S("reduction", []string{"add", "mul", "max", "none", "sum", "?"}[r.IntN(6)]),
		graphs.I("batch_dims", r.Int64N(4)-1), graphs.I("p", r.Int64N(4)), graphs.I("size", r.Int64N(5)), graphs.I("num_groups", r.Int64N(4)), graphs.I("num_outputs", r.Int64N(4)),
		graphs.S("equation", []string{"ij,jk->ik", "ii->i", "ij->", "...i->...", "i,j->ij", "aij,ajk->aik"}[r.IntN(6)]), graphs.S("direction", []string{"forward", "bidirectional", "?"}[r.IntN(3)]),
		graphs.I("q_num_heads", r.Int64N(4)-1), graphs.I("kv_num_heads", r.Int64N(3)), graphs.I("num_heads", r.Int64N(4)-1), graphs.I("is_causal", 1), graphs.I("to", []int64{1, 7, 11}[r.IntN(3)]),
		graphs.S("padding_mode", []string{"zeros", "border", "reflection", "?"}[r.IntN(4)]), graphs.I("onesided", 1), graphs.I("noop_with_empty_axes", 1), graphs.I("layout", 1),
		graphs.S("coordinate_transformation_mode", []string{"asymmetric", "align_corners", "tf_crop_and_resize", "?"}[r.IntN(4)]), graphs.I("rotary_embedding_dim", r.Int64N(5)-1),
	} {
		if r.IntN(3) == 0 {
			n.Attrs = append(n.Attrs, a)
		}
	}
	outputs := 1
	if k := map[string]int{"Split": 3, "TopK": 2, "LSTM": 3, "GRU": 2, "RNN": 2, "Attention": 4, "LayerNormalization": 3, "MaxPool": 2}[op]; k > 0 {
		outputs = k
	}
	for i := range outputs {
		n.Outputs = append(n.Outputs, &graphs.Value{Name: fmt.Sprint("o", i), From: n})
	}
	if graphs.Infer(n, graphs.OpsetVersion) != nil || !n.Outputs[0].Type.IsFloat() {
		return nil
	}
	g.Nodes = append(g.Nodes, n)
	n.Outputs[0].Name = "y"
	g.Outputs = []val{n.Outputs[0]}
	return graphs.NewModel(g)
}
