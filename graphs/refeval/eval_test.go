package refeval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"ebmrun/graphs"
)

// one evaluates a node that is all of a graph, in float64.
func one(t *testing.T, op string, outputs int, in []*graphs.Tensor, attrs ...*graphs.Attr) []*graphs.Tensor {
	t.Helper()
	out, err := tryOne(op, outputs, in, attrs...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryOne(op string, outputs int, in []*graphs.Tensor, attrs ...*graphs.Attr) ([]*graphs.Tensor, error) {
	g := &graphs.Graph{Name: op}
	n := &graphs.Node{Name: "n", Op: op, Attrs: attrs}
	var fed []*graphs.Tensor
	for i, x := range in {
		if x == nil {
			n.Inputs = append(n.Inputs, nil)
			continue
		}
		v := &graphs.Value{Name: fmt.Sprint("x", i), Type: x.Type, Shape: graphs.MakeShape(x.Dims...)}
		g.Inputs, n.Inputs, fed = append(g.Inputs, v), append(n.Inputs, v), append(fed, x)
	}
	for i := range outputs {
		n.Outputs = append(n.Outputs, &graphs.Value{Name: fmt.Sprint("y", i), From: n})
	}
	g.Nodes, g.Outputs = []*graphs.Node{n}, n.Outputs
	p, err := New(g, graphs.OpsetVersion, Options{})
	if err != nil {
		return nil, err
	}
	return p.Run(context.Background(), fed)
}

func f64(dims []int, v ...float64) *graphs.Tensor { return graphs.Of(v, dims...) }

func ints(v ...int64) *graphs.Tensor { return graphs.Ints(v...) }

func num(v int64) *graphs.Tensor { return graphs.Of([]int64{v}) }

func ramp(dims ...int) *graphs.Tensor {
	v := make([]float64, graphs.Size(dims))
	for i := range v {
		v[i] = float64(i)
	}
	return graphs.Of(v, dims...)
}

var nan, inf = math.NaN(), math.Inf(1)

type opCase struct {
	op    string
	in    []*graphs.Tensor
	attrs []*graphs.Attr
	want  []*graphs.Tensor
}

func list[T any](v ...T) []T { return v }

// TestOps holds hand-worked values of the forms that are easy to get wrong.
func TestOps(t *testing.T) {
	for i, c := range []opCase{
		{"Div", list(ints(-7, 7), ints(2, -2)), nil, list(ints(-3, -3))},
		{"Mod", list(ints(-7, 7), ints(3, -3)), nil, list(ints(2, -2))},
		{"Mod", list(ints(-7, 7), ints(3, -3)), list(graphs.I("fmod", 1)), list(ints(-1, 1))},
		{"Pow", list(ints(3, -2), f64([]int{1}, 2)), nil, list(ints(9, 4))},
		{"Max", list(f64([]int{3}, 1, nan, 3), f64([]int{1}, 2)), nil, list(f64([]int{3}, 2, nan, 3))},
		{"Mean", list(f64([]int{2}, 1, 2), f64([]int{1}, 4)), nil, list(f64([]int{2}, 2.5, 3))},
		{"Round", list(f64([]int{4}, 0.5, 1.5, -2.5, 2.6)), nil, list(f64([]int{4}, 0, 2, -2, 3))},
		{"Clip", list(f64([]int{4}, -1, 0.5, 3, nan), f64(nil, 0), f64(nil, 1)), nil, list(f64([]int{4}, 0, 0.5, 1, nan))},
		{"Clip", list(f64([]int{2}, -1, 3), nil, f64(nil, 1)), nil, list(f64([]int{2}, -1, 1))},
		{"LeakyRelu", list(f64([]int{2}, -4, 3)), list(graphs.F("alpha", 0.25)), list(f64([]int{2}, -1, 3))},
		{"Sigmoid", list(f64([]int{3}, -800, 0, 800)), nil, list(f64([]int{3}, 0, 0.5, 1))},
		{"Softplus", list(f64([]int{3}, -800, 0, 800)), nil, list(f64([]int{3}, 0, math.Ln2, 800))},
		{"Gelu", list(f64([]int{2}, 1, -1)), nil, list(f64([]int{2}, 0.8413447460685429, -0.15865525393145707))},
		{"Elu", list(f64([]int{2}, -1, 2)), list(graphs.F("alpha", 2)), list(f64([]int{2}, 2*math.Expm1(-1), 2))},
		{"IsInf", list(f64([]int{3}, inf, -inf, nan)), list(graphs.I("detect_positive", 0)), list(graphs.Of(list(false, true, false), 3))},
		{"Equal", list(f64([]int{2}, nan, 1), f64([]int{2}, nan, 1)), nil, list(graphs.Of(list(false, true), 2))},
		{"GreaterOrEqual", list(f64([]int{3}, nan, 1, 2), f64([]int{3}, 1, 1, 1)), nil, list(graphs.Of(list(false, true, true), 3))},
		{"Where", list(graphs.Of(list(true, false), 2, 1), f64([]int{2}, 1, 2), f64(nil, 9)), nil, list(f64([]int{2, 2}, 1, 2, 9, 9))},
		{"Cast", list(f64([]int{3}, -1.7, 0, 2.9)), list(graphs.I("to", int64(graphs.Int32))), list(graphs.Of([]int32{-1, 0, 2}, 3))},
		{"Cast", list(f64([]int{3}, -0.5, 0, nan)), list(graphs.I("to", int64(graphs.Bool))), list(graphs.Of(list(true, false, true), 3))},
		{"Add", list(graphs.Of([]uint8{250}, 1), graphs.Of([]uint8{10}, 1)), nil, list(graphs.Of([]uint8{4}, 1))},
		{"BitShift", list(graphs.Of([]uint8{200}, 1), graphs.Of([]uint8{1}, 1)), list(graphs.S("direction", "LEFT")), list(graphs.Of([]uint8{144}, 1))},

		{"Softmax", list(f64([]int{2, 2}, 0, 1000, math.Log(3), 0)), list(graphs.I("axis", 1)), list(f64([]int{2, 2}, 0, 1, 0.75, 0.25))},
		{"LogSoftmax", list(f64([]int{2, 1}, 0, 0)), list(graphs.I("axis", 0)), list(f64([]int{2, 1}, -math.Ln2, -math.Ln2))},
		{"Hardmax", list(f64([]int{3}, 1, 3, 3)), nil, list(f64([]int{3}, 0, 1, 0))},
		{"ReverseSequence", list(ramp(4, 2), ints(3, 1)), nil, list(f64([]int{4, 2}, 4, 1, 2, 3, 0, 5, 6, 7))},
		{"Unique", list(f64([]int{5}, 2, 1, 1, 3, 2)), nil, list(f64([]int{3}, 1, 2, 3))},
		{"Unique", list(f64([]int{2, 3}, 1, 1, 1, 3, 3, 2)), list(graphs.I("axis", 1)), list(f64([]int{2, 2}, 1, 1, 2, 3))},
		{"Unique", list(f64([]int{2, 3}, 2, 1, 1, 3, 3, 3)), list(graphs.I("axis", 1)), list(f64([]int{2, 2}, 1, 2, 3, 3))},
		{"Unique", list(f64([]int{2, 2}, 2, 1, 2, 3)), list(graphs.I("sorted", 0)), list(f64([]int{3}, 2, 1, 3))},
		{"CumSum", list(ramp(2, 3), num(1)), nil, list(f64([]int{2, 3}, 0, 1, 3, 3, 7, 12))},
		{"CumSum", list(ramp(4), num(0)), list(graphs.I("exclusive", 1), graphs.I("reverse", 1)), list(f64([]int{4}, 6, 5, 3, 0))},
		{"Trilu", list(f64([]int{2, 3}, 1, 2, 3, 4, 5, 6), num(1)), nil, list(f64([]int{2, 3}, 0, 2, 3, 0, 0, 6))},
		{"Trilu", list(f64([]int{2, 2}, 1, 2, 3, 4)), list(graphs.I("upper", 0)), list(f64([]int{2, 2}, 1, 0, 3, 4))},
		{"LpNormalization", list(f64([]int{2, 2}, 3, 4, 0, 0)), nil, list(f64([]int{2, 2}, 0.6, 0.8, 0, 0))},
		{"GroupNormalization", list(f64([]int{1, 4, 1}, 1, 3, 10, 14), f64([]int{4}, 1, 2, 1, 1), f64([]int{4}, 0, 0, 5, 0)),
			list(graphs.I("num_groups", 2), graphs.F("epsilon", 0)), list(f64([]int{1, 4, 1}, -1, 2, 4, 1))},
		{"LayerNormalization", list(f64([]int{2, 2}, 1, 3, 0, 8), f64([]int{2}, 1, 10), f64([]int{2}, 0, 1)), list(graphs.F("epsilon", 0)),
			list(f64([]int{2, 2}, -1, 11, -1, 11), f64([]int{2, 1}, 2, 4), f64([]int{2, 1}, 1, 0.25))},
		{"RMSNormalization", list(f64([]int{2}, 1, 7), f64([]int{2}, 1, 2)), list(graphs.F("epsilon", 0)), list(f64([]int{2}, 0.2, 2.8))},
		{"BatchNormalization", list(f64([]int{2, 1, 1}, 1, 3), f64([]int{1}, 2), f64([]int{1}, 1), f64([]int{1}, 1), f64([]int{1}, 4)),
			list(graphs.F("epsilon", 0)), list(f64([]int{2, 1, 1}, 1, 3))},
		{"BatchNormalization", list(f64([]int{2, 1, 1}, 1, 5), f64([]int{1}, 2), f64([]int{1}, 1), f64([]int{1}, 1), f64([]int{1}, 8)),
			list(graphs.F("epsilon", 0), graphs.I("training_mode", 1), graphs.F("momentum", 0.5)),
			list(f64([]int{2, 1, 1}, -1, 3), f64([]int{1}, 2), f64([]int{1}, 6))},
		{"LRN", list(f64([]int{1, 3, 1}, 1, 2, 3)), list(graphs.I("size", 2), graphs.F("alpha", 2), graphs.F("beta", 1), graphs.F("bias", 1)),
			list(f64([]int{1, 3, 1}, 1.0/6, 2.0/14, 0.3))},

		{"ReduceSum", list(ramp(2, 3), ints(0)), list(graphs.I("keepdims", 0)), list(f64([]int{3}, 3, 5, 7))},
		{"ReduceSum", list(ramp(2, 2, 2), ints(0, -1)), nil, list(f64([]int{1, 2, 1}, 10, 18))},
		{"ReduceSum", list(ramp(2), ints()), list(graphs.I("noop_with_empty_axes", 1)), list(ramp(2))},
		{"ReduceMean", list(ramp(2, 2, 2), ints(1)), list(graphs.I("keepdims", 0)), list(f64([]int{2, 2}, 1, 2, 5, 6))},
		{"ReduceMax", list(f64([]int{0, 2}), ints(0)), list(graphs.I("keepdims", 0)), list(f64([]int{2}, -inf, -inf))},
		{"ReduceMin", list(f64([]int{3}, 1, nan, 2)), list(graphs.I("keepdims", 0)), list(f64(nil, nan))},
		{"ReduceProd", list(ints(2, 3, 4)), nil, list(ints(24))},
		{"ReduceL2", list(f64([]int{2}, 3, 4)), nil, list(f64([]int{1}, 5))},
		{"ReduceLogSumExp", list(f64([]int{2}, 1000, 1000)), nil, list(f64([]int{1}, 1000+math.Ln2))},
		{"ArgMax", list(f64([]int{2, 3}, 1, 3, 3, 2, 2, 0)), list(graphs.I("axis", 1), graphs.I("keepdims", 0)), list(ints(1, 0))},
		{"ArgMax", list(f64([]int{2, 3}, 1, 3, 3, 2, 2, 0)), list(graphs.I("axis", -1), graphs.I("keepdims", 0), graphs.I("select_last_index", 1)), list(ints(2, 1))},
		{"ArgMin", list(f64([]int{2, 2}, 1, 3, 0, 4)), list(graphs.I("axis", 0)), list(graphs.Of([]int64{1, 0}, 1, 2))},
		{"TopK", list(f64([]int{4}, 2, 5, 2, 1), ints(3)), nil, list(f64([]int{3}, 5, 2, 2), ints(1, 0, 2))},
		{"TopK", list(f64([]int{2, 2}, 2, 5, 1, 7), ints(1)), list(graphs.I("axis", 0), graphs.I("largest", 0)), list(f64([]int{1, 2}, 1, 5), graphs.Of([]int64{1, 0}, 1, 2))},

		{"Slice", list(ramp(5), ints(-1), ints(math.MinInt64), ints(0), ints(-2)), nil, list(f64([]int{3}, 4, 2, 0))},
		{"Slice", list(ramp(2, 4), ints(1, 0), ints(9, 3), ints(1, 0), ints(2, 1)), nil, list(f64([]int{2, 2}, 1, 3, 5, 7))},
		{"Pad", list(ramp(3), ints(2, 1), f64(nil, 9)), nil, list(f64([]int{6}, 9, 9, 0, 1, 2, 9))},
		{"Pad", list(ramp(3), ints(2, 2)), list(graphs.S("mode", "reflect")), list(f64([]int{7}, 2, 1, 0, 1, 2, 1, 0))},
		{"Pad", list(ramp(3), ints(1, 2)), list(graphs.S("mode", "edge")), list(f64([]int{6}, 0, 0, 1, 2, 2, 2))},
		{"Pad", list(ramp(3), ints(2, 1)), list(graphs.S("mode", "wrap")), list(f64([]int{6}, 1, 2, 0, 1, 2, 0))},
		{"Pad", list(ramp(2, 3), ints(-1, 1), nil, ints(1)), nil, list(f64([]int{2, 3}, 1, 2, 0, 4, 5, 0))},
		{"Tile", list(ramp(1, 2), ints(2, 2)), nil, list(f64([]int{2, 4}, 0, 1, 0, 1, 0, 1, 0, 1))},
		{"Expand", list(f64([]int{2, 1}, 1, 2), ints(3, 1, 2)), nil, list(f64([]int{3, 2, 2}, 1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 2, 2))},
		{"Range", list(f64(nil, 3), f64(nil, 0), f64(nil, -1.5)), nil, list(f64([]int{2}, 3, 1.5))},
		{"Split", list(ramp(5)), nil, list(f64([]int{3}, 0, 1, 2), f64([]int{2}, 3, 4))},
		{"Transpose", list(ramp(2, 1, 3)), list(graphs.IntsAttr("perm", 2, 0, 1)), list(f64([]int{3, 2, 1}, 0, 3, 1, 4, 2, 5))},
		{"DepthToSpace", list(ramp(1, 4, 1, 1)), list(graphs.I("blocksize", 2)), list(f64([]int{1, 1, 2, 2}, 0, 1, 2, 3))},
		{"EyeLike", list(ramp(2, 3)), list(graphs.I("k", 1)), list(f64([]int{2, 3}, 0, 1, 0, 0, 0, 1))},
		{"Reshape", list(ramp(2, 3), ints(0, -1, 1)), nil, list(f64([]int{2, 3, 1}, 0, 1, 2, 3, 4, 5))},

		{"Gather", list(ramp(2, 3), ints(-1, 0)), list(graphs.I("axis", 1)), list(f64([]int{2, 2}, 2, 0, 5, 3))},
		{"GatherElements", list(ramp(2, 2), graphs.Of([]int64{1, 0}, 1, 2)), nil, list(f64([]int{1, 2}, 2, 1))},
		{"GatherND", list(ramp(2, 2, 2), graphs.Of([]int64{1, 0}, 2, 1)), list(graphs.I("batch_dims", 1)), list(f64([]int{2, 2}, 2, 3, 4, 5))},
		{"ScatterND", list(ramp(3), graphs.Of([]int64{1, 1}, 2, 1), f64([]int{2}, 10, 20)), list(graphs.S("reduction", "add")), list(f64([]int{3}, 0, 31, 2))},
		{"ScatterElements", list(ramp(2, 2), graphs.Of([]int64{-1, 0}, 1, 2), f64([]int{1, 2}, 9, 8)), list(graphs.I("axis", 0)), list(f64([]int{2, 2}, 0, 8, 9, 3))},
		{"ScatterElements", list(ramp(3), ints(2, 2), f64([]int{2}, 9, 8)), list(graphs.S("reduction", "max")), list(f64([]int{3}, 0, 1, 9))},
		{"NonZero", list(f64([]int{2, 2}, 0, 1, 2, 0)), nil, list(graphs.Of([]int64{0, 1, 1, 0}, 2, 2))},
		{"OneHot", list(ints(1, -1, 5), num(3), f64([]int{2}, 0, 2)), nil, list(f64([]int{3, 3}, 0, 2, 0, 0, 0, 2, 0, 0, 0))},

		{"Gemm", list(f64([]int{2, 1}, 1, 2), f64([]int{2, 2}, 1, 2, 3, 4), f64([]int{2}, 10, 20)),
			list(graphs.I("transA", 1), graphs.F("alpha", 2), graphs.F("beta", 0.5)), list(f64([]int{1, 2}, 19, 30))},
		{"MatMul", list(ramp(2), ramp(3, 2, 1)), nil, list(f64([]int{3, 1}, 1, 3, 5))},
		{"Einsum", list(ramp(2, 2)), list(graphs.S("equation", "ii->i")), list(f64([]int{2}, 0, 3))},
		{"Einsum", list(ramp(2), ramp(3), ramp(2)), list(graphs.S("equation", "a,b,a->b")), list(f64([]int{3}, 0, 1, 2))},

		{"MaxPool", list(f64([]int{1, 1, 4}, 1, 3, 3, 2)), list(graphs.IntsAttr("kernel_shape", 2), graphs.IntsAttr("pads", 1, 0), graphs.IntsAttr("strides", 2)),
			list(f64([]int{1, 1, 2}, 1, 3), graphs.Of([]int64{0, 1}, 1, 1, 2))},
		{"MaxPool", list(ramp(1, 2, 2, 2)), list(graphs.IntsAttr("kernel_shape", 2, 1), graphs.I("storage_order", 1)),
			list(f64([]int{1, 2, 1, 2}, 2, 3, 6, 7), graphs.Of([]int64{1, 3, 5, 7}, 1, 2, 1, 2))},
		{"AveragePool", list(f64([]int{1, 1, 4}, 2, 4, 6, 8)), list(graphs.IntsAttr("kernel_shape", 3), graphs.IntsAttr("pads", 1, 1), graphs.IntsAttr("strides", 3), graphs.I("ceil_mode", 1)),
			list(f64([]int{1, 1, 2}, 3, 7))},
		{"AveragePool", list(f64([]int{1, 1, 4}, 2, 4, 6, 8)), list(graphs.IntsAttr("kernel_shape", 3), graphs.IntsAttr("pads", 1, 0), graphs.IntsAttr("strides", 3), graphs.I("ceil_mode", 1), graphs.I("count_include_pad", 1)),
			list(f64([]int{1, 1, 2}, 2, 7))},
		{"LpPool", list(f64([]int{1, 1, 3}, 3, 4, 0)), list(graphs.IntsAttr("kernel_shape", 2)), list(f64([]int{1, 1, 2}, 5, 4))},
		{"GlobalLpPool", list(f64([]int{1, 2, 2}, 3, 4, 1, -2)), list(graphs.I("p", 1)), list(f64([]int{1, 2, 1}, 7, 3))},
	} {
		t.Run(fmt.Sprintf("%d-%s", i, c.op), func(t *testing.T) {
			got := one(t, c.op, len(c.want), c.in, c.attrs...)
			for j := range got {
				same(t, got[j], c.want[j], 1e-12)
			}
		})
	}
}

func same(t *testing.T, got, want *graphs.Tensor, tol float64) {
	t.Helper()
	if got.Type != want.Type || fmt.Sprint(got.Dims) != fmt.Sprint(want.Dims) {
		t.Fatalf("got %v%v, wanted %v%v", got.Type, got.Dims, want.Type, want.Dims)
	}
	a, errA := got.AsFloats()
	b, errB := want.AsFloats()
	if errA != nil || errB != nil || len(a) != len(b) {
		t.Fatalf("got %d elements, wanted %d (%v, %v)", len(a), len(b), errA, errB)
	}
	for i := range a {
		if a[i] != b[i] && !(a[i] != a[i] && b[i] != b[i]) && !(math.Abs(a[i]-b[i]) <= tol*(1+math.Abs(b[i]))) {
			t.Fatalf("got %v, wanted %v", a, b)
		}
	}
}

// TestRefused lists calls that must be errors, with what they must say.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		op   string
		in   []*graphs.Tensor
		want string
		attr []*graphs.Attr
	}{
		{"Div", list(ints(1), ints(0)), "zero", nil},
		{"Gather", list(ramp(3), ints(3)), "index 3", nil},
		{"GatherND", list(ramp(2, 2), graphs.Of([]int64{0, 2}, 1, 2)), "index 2", nil},
		{"ScatterElements", list(ramp(2), ints(0), ramp(2)), "updates", nil},
		{"TopK", list(ramp(2), ints(3)), "k is 3", nil},
		{"Expand", list(ramp(2), ints(3)), "broadcast", nil},
		{"ConstantOfShape", list(ints(1<<20, 1<<20)), "1048576", nil},
		{"ConstantOfShape", list(ints(0, 1<<62)), "overflow", nil},
		{"Range", list(num(0), num(1), num(0)), "delta", nil},
		{"Range", list(num(0), num(1<<60), num(1)), "overflow", nil},
		{"MatMul", list(ramp(2, 3), ramp(2, 3)), "inner", nil},
		{"Dropout", list(ramp(2), f64(nil, 0.5), graphs.Of([]bool{true})), "random", nil},
		{"Einsum", list(ramp(2)), "labels", list(graphs.S("equation", "ab->a"))},
	} {
		_, err := tryOne(c.op, 1, c.in, c.attr...)
		var node *graphs.NodeError
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &node) || node.Node.Name != "n" {
			t.Errorf("%s: wanted an error of node n that says %q, got %v", c.op, c.want, err)
		}
	}
}

// naive is a convolution written as its definition says, for two spatial axes.
func naive(x, k *graphs.Tensor, group, stride, dil, pad int) *graphs.Tensor {
	n, c, h, w := x.Dims[0], x.Dims[1], x.Dims[2], x.Dims[3]
	m, cg, kh, kw := k.Dims[0], k.Dims[1], k.Dims[2], k.Dims[3]
	oh, ow := (h+2*pad-(kh-1)*dil-1)/stride+1, (w+2*pad-(kw-1)*dil-1)/stride+1
	y := graphs.NewTensor(graphs.Float64, n, m, oh, ow)
	at := func(b, ch, i, j int) float64 {
		if i < 0 || j < 0 || i >= h || j >= w {
			return 0
		}
		return x.F64()[((b*c+ch)*h+i)*w+j]
	}
	for b := range n {
		for f := range m {
			for i := range oh {
				for j := range ow {
					s := 0.0
					for ch := range cg {
						for p := range kh {
							for q := range kw {
								s += at(b, f/(m/group)*cg+ch, i*stride+p*dil-pad, j*stride+q*dil-pad) * k.F64()[((f*cg+ch)*kh+p)*kw+q]
							}
						}
					}
					y.F64()[((b*m+f)*oh+i)*ow+j] = s
				}
			}
		}
	}
	return y
}

func normal(r *rand.Rand, dims ...int) *graphs.Tensor {
	x := graphs.NewTensor(graphs.Float64, dims...)
	for i := range x.F64() {
		x.F64()[i] = r.NormFloat64()
	}
	return x
}

func dot(a, b *graphs.Tensor) (s float64) {
	for i, v := range a.F64() {
		s += v * b.F64()[i]
	}
	return s
}

// TestConvolutions compares Conv with its definition, and ConvTranspose with
// being its transpose: ⟨Conv(x,k), y⟩ = ⟨x, ConvTranspose(y,k)⟩.
func TestConvolutions(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct{ group, stride, dil, pad, size, kernel int }{
		{1, 1, 1, 0, 5, 3}, {1, 1, 1, 0, 4, 1}, {1, 2, 1, 1, 7, 3}, {2, 1, 2, 2, 6, 3}, {4, 2, 1, 0, 5, 2}, {2, 3, 2, 1, 9, 2}, {1, 2, 1, 0, 6, 1},
	} {
		x, k := normal(r, 3, 4, c.size, c.size+1), normal(r, 8, 4/c.group, c.kernel, c.kernel)
		attrs := []*graphs.Attr{
			graphs.I("group", int64(c.group)), graphs.IntsAttr("strides", int64(c.stride), int64(c.stride)),
			graphs.IntsAttr("dilations", int64(c.dil), int64(c.dil)),
			graphs.IntsAttr("pads", int64(c.pad), int64(c.pad), int64(c.pad), int64(c.pad)),
		}
		want := naive(x, k, c.group, c.stride, c.dil, c.pad)
		got := one(t, "Conv", 1, list(x, k), attrs...)[0]
		same(t, got, want, 1e-12)

		y := normal(r, want.Dims...)
		left := func(i, size int) int64 { // rows of x that no window reached
			return int64(size + 2*c.pad - (c.kernel-1)*c.dil - 1 - (want.Dims[i]-1)*c.stride)
		}
		back := one(t, "ConvTranspose", 1, list(y, k), append(attrs, graphs.IntsAttr("output_padding", left(2, c.size), left(3, c.size+1)))...)[0]
		if fmt.Sprint(back.Dims) != fmt.Sprint(x.Dims) {
			t.Fatalf("%+v: the transpose has dimensions %v, wanted %v", c, back.Dims, x.Dims)
		}
		if a, b := dot(got, y), dot(x, back); math.Abs(a-b) > 1e-10*(1+math.Abs(a)) {
			t.Errorf("%+v: ⟨Conv x, y⟩ is %v, ⟨x, ConvTranspose y⟩ is %v", c, a, b)
		}
		bias := normal(r, 8)
		withBias := one(t, "Conv", 1, list(x, k, bias), attrs...)[0]
		plane := want.Dims[2] * want.Dims[3]
		for i, v := range withBias.F64() {
			if math.Abs(v-got.F64()[i]-bias.F64()[i/plane%8]) > 1e-12 {
				t.Fatalf("%+v: bias at %d", c, i)
			}
		}
	}
}

// TestConvRanks checks one and three spatial axes against two.
func TestConvRanks(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	x, k := normal(r, 2, 3, 6), normal(r, 4, 3, 2)
	want := one(t, "Conv", 1, list(x, k), graphs.IntsAttr("strides", 2), graphs.IntsAttr("pads", 1, 0))[0]
	x3 := graphs.Of(x.F64(), 2, 3, 1, 6, 1)
	k3 := graphs.Of(k.F64(), 4, 3, 1, 2, 1)
	got := one(t, "Conv", 1, list(x3, k3), graphs.IntsAttr("strides", 1, 2, 1), graphs.IntsAttr("pads", 0, 1, 0, 0, 0, 0))[0]
	same(t, graphs.Of(got.F64(), want.Dims...), want, 1e-13)
	back := one(t, "ConvTranspose", 1, list(want, k), graphs.IntsAttr("strides", 2), graphs.S("auto_pad", "SAME_UPPER"))[0]
	if fmt.Sprint(back.Dims) != "[2 3 6]" {
		t.Errorf("SAME_UPPER gives %v", back.Dims)
	}
}

// TestGemm compares blocked products of awkward sizes with the plain sum.
func TestGemm(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, s := range [][3]int{{1, 1, 1}, {5, 7, 3}, {2, 4, 300}, {33, 530, 9}, {64, 3, 40}, {3, 600, 260}} {
		m, n, k := s[0], s[1], s[2]
		a, b := normal(r, k, m), normal(r, n, k)
		want := graphs.NewTensor(graphs.Float64, m, n)
		for i := range m {
			for j := range n {
				for l := range k {
					want.F64()[i*n+j] += a.F64()[l*m+i] * b.F64()[j*k+l]
				}
			}
		}
		got := one(t, "Gemm", 1, list(a, b), graphs.I("transA", 1), graphs.I("transB", 1))[0]
		same(t, got, want, 1e-11)
	}
}

// TestEinsum compares contractions with loops over all labels.
func TestEinsum(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	size := map[rune]int{'a': 2, 'b': 3, 'c': 4, 'd': 2, 'e': 3}
	for _, eq := range []string{"ab,bc->ac", "abc,adc->bda", "ab,ab->", "abc->ca", "ab,cd->abcd", "aab,b->a", "ab,bc,cd->da", "abc,b->c", "abcd,aebd->ace"} {
		lhs, out, _ := strings.Cut(eq, "->")
		var in []*graphs.Tensor
		labels := ""
		for _, s := range strings.Split(lhs, ",") {
			var dims []int
			for _, l := range s {
				dims = append(dims, size[l])
				if !strings.ContainsRune(labels, l) {
					labels += string(l)
				}
			}
			in = append(in, normal(r, dims...))
		}
		dimsOf := func(s string) (d []int) {
			for _, l := range s {
				d = append(d, size[l])
			}
			return d
		}
		want := graphs.NewTensor(graphs.Float64, dimsOf(out)...)
		idx := make([]int, len(labels))
		offset := func(s string) int {
			o, st := 0, strides(dimsOf(s))
			for i, l := range s {
				o += st[i] * idx[strings.IndexRune(labels, l)]
			}
			return o
		}
		for {
			p := 1.0
			for i, s := range strings.Split(lhs, ",") {
				p *= in[i].F64()[offset(s)]
			}
			want.F64()[offset(out)] += p
			if !next(idx, dimsOf(labels)) {
				break
			}
		}
		t.Run(eq, func(t *testing.T) { same(t, one(t, "Einsum", 1, in, graphs.S("equation", eq))[0], want, 1e-12) })
	}
}

// TestRound checks that rounding gives declared types and float64 evaluation
// does not round.
func TestRound(t *testing.T) {
	for _, typ := range []graphs.DType{graphs.Float32, graphs.Float16, graphs.BFloat16} {
		g := &graphs.Graph{}
		b := graphs.NewBuilder(g)
		x := b.Input("x", typ, graphs.MakeShape(1))
		b.Output("y", b.Sub(b.Add(x, b.Scalar(x, 1)), b.Scalar(x, 1)))
		if _, err := b.Graph(); err != nil {
			t.Fatal(err)
		}
		in, _ := graphs.FromFloats(typ, []float64{1.0 / (1 << 20)}, 1)
		for round, want := range map[bool]float64{false: 1.0 / (1 << 20), true: map[graphs.DType]float64{graphs.Float32: 1.0 / (1 << 20)}[typ]} {
			p, err := New(g, graphs.OpsetVersion, Options{Round: round})
			if err != nil {
				t.Fatal(err)
			}
			out, err := p.Run(context.Background(), list(in))
			if err != nil {
				t.Fatal(err)
			}
			v, _ := out[0].AsFloats()
			if v[0] != want || out[0].Type != map[bool]graphs.DType{false: graphs.Float64, true: typ}[round] {
				t.Errorf("%v, round %v: got %v of type %v, wanted %v", typ, round, v[0], out[0].Type, want)
			}
		}
	}
}

// TestModesAgree compares float32 with float64 evaluation on random nodes of
// every op that both accept.
func TestModesAgree(t *testing.T) {
	for op := range kernels {
		r := rand.New(rand.NewPCG(11, 12))
		for range 150 {
			n, in := randomNode(r, op)
			for _, x := range in {
				if x != nil && x.Type == graphs.Float16 {
					x.Type, x.Data = graphs.Float32, make([]float32, x.Len())
				}
			}
			a, errA := evalNode(n, graphs.OpsetVersion, in, Options{Round: true, Memory: 1 << 20})
			b, errB := evalNode(n, graphs.OpsetVersion, in, Options{Memory: 1 << 20})
			if (errA == nil) != (errB == nil) {
				t.Fatalf("%s: float32 says %v, float64 says %v", op, errA, errB)
			}
			for i := range a {
				if a[i].Type.IsFloat() && a[i].Type != graphs.Float16 && a[i].Type != graphs.BFloat16 {
					same(t, a[i], b[i], 1e-4)
				}
			}
		}
	}
}

// TestMemory checks that values are given up after their last use, and that the
// bound holds.
func TestMemory(t *testing.T) {
	g := &graphs.Graph{}
	b := graphs.NewBuilder(g)
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("n")})
	y := x
	for range 50 {
		y = b.Exp(b.Neg(y))
	}
	b.Output("y", y)
	if _, err := b.Graph(); err != nil {
		t.Fatal(err)
	}
	p, err := New(g, graphs.OpsetVersion, Options{Round: true, Memory: 8 * 1000 * 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(context.Background(), list(graphs.NewTensor(graphs.Float32, 1000))); err != nil {
		t.Errorf("a chain needs two values at a time: %v", err)
	}
	if _, err := p.Run(context.Background(), list(graphs.NewTensor(graphs.Float32, 2000))); err == nil || !strings.Contains(err.Error(), "24000 bytes") {
		t.Errorf("wanted an error about the bound, got %v", err)
	}
}

func TestConcurrentRuns(t *testing.T) {
	g := &graphs.Graph{}
	b := graphs.NewBuilder(g)
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("n"), graphs.D(2)})
	b.Output("y", b.Sum(b.Mul(x, x), false, 1))
	p, err := New(g, graphs.OpsetVersion, Options{Round: true})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			for n := 1; n < 20; n++ {
				x := graphs.NewTensor(graphs.Float32, n, 2)
				for i := range x.F32() {
					x.F32()[i] = float32(k)
				}
				out, err := p.Run(context.Background(), list(x))
				if err != nil || len(out[0].F32()) != n || out[0].F32()[n-1] != float32(2*k*k) {
					t.Errorf("got %v, %v", out, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestFeedErrors(t *testing.T) {
	g := &graphs.Graph{}
	b := graphs.NewBuilder(g)
	b.Output("y", b.Neg(b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("n"), graphs.D(2)})))
	p, err := New(g, graphs.OpsetVersion, Options{Round: true})
	if err != nil {
		t.Fatal(err)
	}
	short := graphs.NewTensor(graphs.Float32, 3, 2)
	short.Data = make([]float32, 5)
	for name, in := range map[string][]*graphs.Tensor{
		"none": nil, "nil": {nil}, "type": {graphs.NewTensor(graphs.Float64, 1, 2)}, "rank": {graphs.NewTensor(graphs.Float32, 2)},
		"size": {graphs.NewTensor(graphs.Float32, 1, 3)}, "short": {short},
	} {
		if _, err := p.Run(context.Background(), in); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Run(ctx, list(graphs.NewTensor(graphs.Float32, 1, 2))); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context gives %v", err)
	}
}

func TestEvalKeepsTypes(t *testing.T) {
	n := &graphs.Node{Name: "sum", Op: "Add", Inputs: []*graphs.Value{{Name: "a"}, {Name: "b"}}}
	n.Outputs = []*graphs.Value{{Name: "y", From: n}}
	a, b := graphs.Of([]int32{1, math.MaxInt32}, 2), graphs.Of([]int32{1}, 1)
	out, err := Eval(n, graphs.OpsetVersion, list(a, b))
	if err != nil {
		t.Fatal(err)
	}
	same(t, out[0], graphs.Of([]int32{2, math.MinInt32}, 2), 0)
	if n.Outputs[0].Type != graphs.Undefined {
		t.Error("the node was modified")
	}
	if _, err := Eval(n, graphs.OpsetVersion, list(a)); err == nil {
		t.Error("a missing input is not noticed")
	}
	n.Op = "NoSuchOp"
	var unknown *graphs.UnknownOpError
	if _, err := Eval(n, graphs.OpsetVersion, list(a, b)); !errors.As(err, &unknown) {
		t.Errorf("an unknown op gives %v", err)
	}
}

// TestOldSoftmax: before opset 13 it is taken over all axes from one on, by default the second.
func TestOldSoftmax(t *testing.T) {
	x := f64([]int{2, 2, 2}, 0, 0, 0, math.Log(5), math.Log(2), math.Log(2), math.Log(2), math.Log(2))
	for opset, want := range map[int64][]float64{
		12: {1. / 8, 1. / 8, 1. / 8, 5. / 8, 1. / 4, 1. / 4, 1. / 4, 1. / 4},
		13: {1. / 2, 1. / 2, 1. / 6, 5. / 6, 1. / 2, 1. / 2, 1. / 2, 1. / 2},
	} {
		v := &graphs.Value{Name: "x", Type: graphs.Float64, Shape: graphs.MakeShape(2, 2, 2)}
		n := &graphs.Node{Name: "n", Op: "Softmax", Inputs: []*graphs.Value{v}}
		n.Outputs = []*graphs.Value{{Name: "y", From: n}}
		p, err := New(&graphs.Graph{Inputs: []*graphs.Value{v}, Nodes: []*graphs.Node{n}, Outputs: n.Outputs}, opset, Options{})
		if err != nil {
			t.Fatal(err)
		}
		y, err := p.Run(t.Context(), []*graphs.Tensor{x})
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range y[0].F64() {
			if math.Abs(v-want[i]) > 1e-12 {
				t.Fatalf("opset %d: %v, want %v", opset, y[0].F64(), want)
			}
		}
	}
}
