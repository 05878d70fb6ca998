package graphtest

import (
	"fmt"
	"slices"

	"ebmrun/graphs"
)

type (
	val     = *graphs.Value
	builder = *graphs.Builder
)

// parts are what drawings are made of.
var parts = slices.Concat(elementwiseParts(), reductionParts(), layoutParts(), indexParts(), productParts(), normParts(), controlParts())

// on applies an op to a value.
func on(op string, attrs ...*graphs.Attr) Part {
	return func(d *Drawing, b builder) { b.Op(op, []val{d.Any()}, attrs...) }
}

// positive is made of any value.
func (d *Drawing) positive(b builder, x val) val { return b.Add(b.Mul(x, x), b.Scalar(x, 0.5)) }

// small lies between −1 and 1.
func (d *Drawing) small(b builder, x val) val { return b.Tanh(x) }

// onSome applies an op to values brought into its domain.
func onSome(op string, into func(d *Drawing, b builder, x val) val, attrs ...*graphs.Attr) Part {
	return func(d *Drawing, b builder) { b.Op(op, []val{into(d, b, d.Any())}, attrs...) }
}

func pair(op string, attrs ...*graphs.Attr) Part {
	return func(d *Drawing, b builder) {
		x := d.Any()
		y := d.partner(x)
		if d.chance(2) {
			x, y = y, x
		}
		b.Op(op, []val{x, y}, attrs...)
	}
}

func several(op string) Part {
	return func(d *Drawing, b builder) {
		x := d.Any()
		in := []val{x}
		for range d.Pick(3) {
			in = append(in, d.partner(x))
		}
		b.Op(op, in)
	}
}

func elementwiseParts() (all []Part) {
	for _, op := range []string{"Sin", "Cos", "Tanh", "Sigmoid", "Erf", "Softplus", "Neg", "Identity", "Atan", "Asinh", "Softsign", "Mish", "Elu", "Celu", "Selu",
		"Relu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "HardSwish", "Shrink", "Abs", "Floor", "Ceil", "Round", "Sign", "Gelu"} {
		all = append(all, on(op))
	}
	for _, op := range []string{"Reciprocal", "Sqrt", "Log"} {
		all = append(all, onSome(op, (*Drawing).positive))
	}
	for _, op := range []string{"Exp", "Sinh", "Cosh", "Tan"} {
		all = append(all, onSome(op, (*Drawing).small))
	}
	half := func(d *Drawing, b builder, x val) val { return b.Scale(b.Tanh(x), 0.9) }
	for _, op := range []string{"Asin", "Acos", "Atanh"} {
		all = append(all, onSome(op, half))
	}
	for _, op := range []string{"Add", "Sub", "Mul", "Add", "Sub", "Mul", "Greater"} {
		all = append(all, pair(op))
	}
	for _, op := range []string{"Max", "Min", "Sum", "Mean"} {
		all = append(all, several(op))
	}
	return append(all,
		on("Gelu", graphs.S("approximate", "tanh")),
		on("Cast", graphs.I("to", int64(graphs.Float64))),
		on("Cast", graphs.I("to", int64(graphs.Int64))),
		func(d *Drawing, b builder) { // of integers and booleans
			if len(d.whole) > 0 {
				b.Cast(d.whole[d.Pick(len(d.whole))], d.t)
			}
		},
		func(d *Drawing, b builder) {
			x := d.Any()
			b.Div(x, d.positive(b, d.partner(x)))
		},
		func(d *Drawing, b builder) { b.Recip(d.positive(b, d.Any())) },
		func(d *Drawing, b builder) {
			x := d.Any()
			b.Pow(d.positive(b, x), d.small(b, d.partner(x)))
		},
		func(d *Drawing, b builder) {
			x := d.Any()
			b.Pow(x, b.Scalar(x, float64(d.Pick(4))))
		},
		func(d *Drawing, b builder) { // what does little
			x := d.Any()
			b.Op([]string{"Add", "Sub", "Mul", "Div"}[d.Pick(4)], []val{x, b.Scalar(x, float64(1-d.Pick(2)))})
		},
		func(d *Drawing, b builder) {
			x := d.Any()
			b.Op("Clip", []val{x, b.Scalar(x, -0.5), b.Scalar(x, 0.7)}[:1+d.Pick(3)])
		},
		func(d *Drawing, b builder) {
			x := d.Any()
			y := d.partner(x)
			b.Where(b.Op([]string{"Less", "GreaterOrEqual"}[d.Pick(2)], []val{x, b.Scalar(x, 0.3)}), x, y)
		},
		func(d *Drawing, b builder) {
			x := d.Any()
			b.Where(b.Equal(b.Op("Sign", []val{x}), b.Scalar(x, 1)), d.partner(x), b.Scalar(x, 2))
		},
		func(d *Drawing, b builder) {
			x := d.Any()
			b.Op("PRelu", []val{x, d.Of(d.size(x)[d.Pick(len(d.size(x))+1):]...)})
		},
		func(d *Drawing, b builder) { b.Op("Dropout", []val{d.Any()}) },
	)
}

func reductionParts() (all []Part) {
	reduce := func(op string, into func(d *Drawing, b builder, x val) val) Part {
		return func(d *Drawing, b builder) {
			x := d.Any()
			in := []val{x}
			if into != nil {
				in[0] = into(d, b, x)
			}
			if d.Pick(4) > 0 {
				in = append(in, b.Ints(d.axes(x)...))
			}
			b.Op(op, in, graphs.I("keepdims", int64(d.Pick(2))), graphs.I("noop_with_empty_axes", int64(d.Pick(2))))
		}
	}
	for _, op := range []string{"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare", "ReduceSum", "ReduceMean"} {
		all = append(all, reduce(op, nil))
	}
	all = append(all, reduce("ReduceLogSum", (*Drawing).positive))
	for _, op := range []string{"Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin"} {
		all = append(all, func(d *Drawing, b builder) {
			x := d.ranked(1)
			b.Op(op, []val{x}, graphs.I("axis", d.axis(x)))
		})
	}
	return append(all,
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			b.Op("CumSum", []val{x, b.Const(graphs.Of([]int64{d.axis(x)}))}, graphs.I("exclusive", int64(d.Pick(2))), graphs.I("reverse", int64(d.Pick(2))))
		},
		func(d *Drawing, b builder) { // what attention and normalizations are written out as
			x := d.ranked(1)
			a := d.axis(x)
			m := b.Mean(x, true, a)
			c := b.Sub(x, m)
			b.Div(c, b.Sqrt(b.Add(b.Mean(b.Mul(c, c), true, a), b.Scalar(x, 0.1))))
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			b.Mul(b.Op("Softmax", []val{x}, graphs.I("axis", -1)), d.partner(x))
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			a := d.axis(x)
			k := int64(1 + d.Pick(d.size(x)[(int(a)+len(d.size(x)))%len(d.size(x))]))
			b.Ops("TopK", 2, []val{x, b.Ints(k)}, graphs.I("axis", a), graphs.I("largest", int64(d.Pick(2))))
		},
	)
}

func layoutParts() []Part {
	return []Part{
		func(d *Drawing, b builder) {
			x := d.Any()
			b.Transpose(x, d.order(len(d.size(x)))...)
		},
		func(d *Drawing, b builder) { b.Op("Transpose", []val{d.Any()}) },
		func(d *Drawing, b builder) { // to fixed sizes, one inferred, some kept
			x := d.Any()
			dims := d.size(x)
			var to []int64
			for i := range dims {
				switch d.Pick(3) {
				case 0:
					to = append(to, int64(dims[i]))
				case 1:
					if i == len(to) {
						to = append(to, 0)
					} else {
						to = append(to, int64(dims[i]))
					}
				}
			}
			to = append(to, -1)
			b.ReshapeTo(x, to...)
		},
		func(d *Drawing, b builder) { // to computed sizes
			x := d.ranked(1)
			s := b.Shape(x)
			n := int64(len(d.size(x)))
			k := int64(d.Pick(int(n)))
			b.Reshape(x, b.Concat(0, b.Slice(s, []int64{0}, []int64{k}, []int64{0}, nil), b.Ints(-1)))
		},
		func(d *Drawing, b builder) {
			x := d.Any()
			b.ReshapeLike(b.Op("Flatten", []val{x}, graphs.I("axis", int64(d.Pick(len(d.size(x))+1)))), x)
		},
		func(d *Drawing, b builder) { b.Reshape(b.ReshapeTo(d.Any(), -1), b.Shape(d.Any())) },
		func(d *Drawing, b builder) {
			x := d.Any()
			b.Op("Flatten", []val{x}, graphs.I("axis", int64(d.Pick(len(d.size(x))+1))))
		},
		func(d *Drawing, b builder) {
			x := d.Any()
			b.Unsqueeze(x, int64(d.Pick(len(d.size(x))+1)))
		},
		func(d *Drawing, b builder) { b.Op("Squeeze", []val{d.Any()}) },
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			b.Squeeze(b.Slice(x, []int64{int64(d.Pick(3)) - 2}, []int64{100}, []int64{0}, []int64{100}), 0)
		},
		func(d *Drawing, b builder) {
			x := d.Any()
			to := []int64{int64(1 + d.Pick(3))}
			for _, s := range d.size(x) {
				if s == 1 {
					to = append(to, int64(d.Pick(4)))
				} else {
					to = append(to, int64(1+d.Pick(2)*(s-1)))
				}
			}
			b.Expand(x, b.Ints(to[d.Pick(2):]...))
		},
		func(d *Drawing, b builder) {
			x := d.Any()
			b.Expand(x, b.Shape(d.partner(x)))
		},
		func(d *Drawing, b builder) {
			x := d.Any()
			var n []int64
			for range d.size(x) {
				n = append(n, int64([]int{1, 2, 1, 3, 0}[d.Pick(5)]))
			}
			b.Op("Tile", []val{x, b.Ints(n...)})
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			a := d.axis(x)
			y := d.size(x)
			y[(int(a)+len(y))%len(y)] = d.Pick(4)
			in := []val{x, d.Of(y...), x}[:2+d.Pick(2)]
			b.Concat(a, in...)
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			a := d.axis(x)
			n := d.size(x)[(int(a)+len(d.size(x)))%len(d.size(x))]
			k := d.Pick(n + 1)
			out := b.Ops("Split", 2, []val{x, b.Ints(int64(k), int64(n-k))}, graphs.I("axis", a))
			if d.chance(2) {
				b.Mul(b.Sum(out[0], true, a), out[1])
			}
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			if a := d.axis(x); d.size(x)[(int(a)+len(d.size(x)))%len(d.size(x))] > 1 {
				b.Ops("Split", 2, []val{x}, graphs.I("axis", a), graphs.I("num_outputs", 2))
			}
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			a := d.axes(x)
			var from, to, by []int64
			for range a {
				from, to, by = append(from, int64(d.Pick(9)-4)), append(to, int64(d.Pick(12)-5)), append(by, int64([]int{1, 2, -1, -2, 1}[d.Pick(5)]))
			}
			if len(a) > 0 {
				b.Slice(x, from, to, a, by)
			}
		},
		func(d *Drawing, b builder) { // by computed bounds
			x := d.ranked(1)
			n := b.Gather(b.Shape(x), b.Ints(0), 0)
			k := b.Op("Div", []val{n, b.Ints(2)})
			in := []val{x, k, n, b.Ints(0)}
			if d.chance(2) {
				in = []val{x, b.Ints(0), k, b.Ints(0)}
			}
			b.Op("Slice", in)
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			n := len(d.size(x))
			pads := make([]int64, 2*n)
			for i := range pads {
				pads[i] = int64([]int{0, 1, 0, 2, -1}[d.Pick(5)])
			}
			in := []val{x, b.Ints(pads...)}
			mode := []string{"constant", "edge", "reflect", "wrap"}[d.Pick(4)]
			if mode == "constant" && d.chance(2) {
				in = append(in, d.Of())
			}
			b.Op("Pad", in, graphs.S("mode", mode))
		},
		func(d *Drawing, b builder) {
			x := d.ranked(2)
			b.Op("Trilu", []val{x, b.Const(graphs.Of([]int64{int64(d.Pick(4) - 1)}))}, graphs.I("upper", int64(d.Pick(2))))
		},
		func(d *Drawing, b builder) {
			b.Op("DepthToSpace", []val{d.Of(1+d.Pick(2), 4, 1+d.Pick(2), 2)}, graphs.I("blocksize", 2), graphs.S("mode", []string{"DCR", "CRD"}[d.Pick(2)]))
		},
		func(d *Drawing, b builder) {
			b.Op("SpaceToDepth", []val{d.Of(1+d.Pick(2), 1+d.Pick(2), 2, 4)}, graphs.I("blocksize", 2))
		},
		func(d *Drawing, b builder) { b.Shape(d.Any()) },
		func(d *Drawing, b builder) { b.Op("Size", []val{d.Any()}) },
		func(d *Drawing, b builder) { b.Zeros(d.Any()) },
		func(d *Drawing, b builder) { // a number of the size of an axis
			x := d.ranked(1)
			a := d.Pick(len(d.size(x)))
			b.Mul(x, b.Cast(b.Op("Squeeze", []val{b.Gather(b.Shape(x), b.Ints(int64(a)), 0)}), d.t))
		},
		func(d *Drawing, b builder) { // positions along an axis
			x := d.ranked(1)
			n := b.Op("Squeeze", []val{b.Gather(b.Shape(x), b.Ints(-1), 0)})
			zero, one := b.Const(graphs.Of([]int64{0})), b.Const(graphs.Of([]int64{1}))
			b.Add(x, b.Cast(b.Op("Range", []val{zero, n, one}), d.t))
		},
		func(d *Drawing, b builder) {
			dims := []int{1 + d.Pick(2), 1 + d.Pick(2), 2 + d.Pick(3), 1 + d.Pick(3)}
			x := d.Of(dims...)
			to := b.Ints(int64(dims[0]), int64(dims[1]), int64(1+d.Pick(5)), int64(1+d.Pick(5)))
			b.Op("Resize", []val{x, nil, nil, to}, graphs.S("mode", []string{"nearest", "linear", "cubic"}[d.Pick(3)]),
				graphs.S("coordinate_transformation_mode", []string{"half_pixel", "asymmetric", "align_corners"}[d.Pick(3)]))
		},
	}
}

// indices are n indices of an axis of the given size, counted from the end at times.
func (d *Drawing) indices(size int, dims ...int) *graphs.Tensor {
	t := graphs.NewTensor(graphs.Int64, dims...)
	for i := range t.Len() {
		k := int64(d.Pick(max(size, 1)))
		if d.chance(4) {
			k -= int64(size)
		}
		t.Data.([]int64)[i] = k
	}
	return t
}

func indexParts() []Part {
	reduction := func(d *Drawing) *graphs.Attr {
		return graphs.S("reduction", []string{"none", "add", "mul", "max", "min"}[d.Pick(5)])
	}
	return []Part{
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			a := d.axis(x)
			n := d.size(x)[(int(a)+len(d.size(x)))%len(d.size(x))]
			dims := [][]int{{}, {2}, {1}, {2, 3}, {0}}[d.Pick(5)]
			b.Gather(x, b.Const(d.indices(n, dims...)), a)
		},
		func(d *Drawing, b builder) { // computed indices
			x := d.ranked(2)
			b.Gather(x, b.Op("ArgMax", []val{x}, graphs.I("axis", 1), graphs.I("keepdims", int64(d.Pick(2)))), 1)
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			dims := d.size(x)
			a := d.Pick(len(dims))
			n := dims[a]
			dims[a] = 1 + d.Pick(3)
			b.Op("GatherElements", []val{x, b.Const(d.indices(n, dims...))}, graphs.I("axis", int64(a)))
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			b.Op("GatherND", []val{x, b.Const(d.indices(d.size(x)[0], 2, 1))})
		},
		func(d *Drawing, b builder) {
			x := d.ranked(2)
			dims := d.size(x)
			b.Op("GatherND", []val{x, b.Const(d.indices(dims[1], dims[0], 1))}, graphs.I("batch_dims", 1))
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			dims := d.size(x)
			a := d.Pick(len(dims))
			n := dims[a]
			r := reduction(d)
			at := d.indices(n, func() []int { dims[a] = min(1+d.Pick(3), n); return dims }()...)
			if string(r.S) == "none" { // with no place twice
				inner := graphs.Size(dims[a+1:])
				for i := range at.Len() {
					at.Data.([]int64)[i] = int64(i / inner % dims[a])
				}
			}
			b.Op("ScatterElements", []val{x, b.Const(at), d.Of(at.Dims...)}, graphs.I("axis", int64(a)), r)
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			dims := d.size(x)
			r := reduction(d)
			k := 1 + d.Pick(2)
			at := d.indices(dims[0], k, 1)
			if string(r.S) == "none" {
				for i := range k {
					at.Data.([]int64)[i] = int64(i)
				}
			}
			b.Op("ScatterND", []val{x, b.Const(at), d.Of(append([]int{k}, dims[1:]...)...)}, r)
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			b.Op("OneHot", []val{b.Op("ArgMax", []val{x}, graphs.I("axis", 0)), b.Const(graphs.Of([]int64{3})), d.Of(2)})
		},
		func(d *Drawing, b builder) {
			x := d.ranked(2)
			dims := d.size(x)
			t := graphs.NewTensor(graphs.Int64, dims[0])
			for i := range dims[0] {
				t.Data.([]int64)[i] = int64(1 + d.Pick(dims[1]))
			}
			b.Op("ReverseSequence", []val{x, b.Const(t)}, graphs.I("batch_axis", 0), graphs.I("time_axis", 1))
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			n := d.size(x)[0]
			c := make([]bool, n)
			for i := range c {
				c[i] = d.Pick(2) == 0
			}
			b.Op("Compress", []val{x, b.Const(graphs.Of(c, n))}, graphs.I("axis", 0))
		},
		func(d *Drawing, b builder) { // elements where a condition holds
			x := d.ranked(1)
			at := b.Op("NonZero", []val{b.Greater(x, b.Scalar(x, 0))})
			b.Op("GatherND", []val{x, b.Transpose(at, 1, 0)})
		},
	}
}

func productParts() []Part {
	return []Part{
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			dims := d.size(x)
			k := dims[len(dims)-1]
			switch d.Pick(4) {
			case 0:
				b.MatMul(x, d.Of(k))
			case 1:
				b.MatMul(x, d.Of(k, 1+d.Pick(4)))
			case 2:
				b.MatMul(x, d.Of(1+d.Pick(2), k, 1+d.Pick(3)))
			default:
				if len(dims) > 1 {
					b.MatMul(d.Of(append(dims[:len(dims)-2:len(dims)-2], 1+d.Pick(3), dims[len(dims)-2])...), x)
				} else {
					b.MatMul(d.Of(2, k), x)
				}
			}
		},
		func(d *Drawing, b builder) { // attention
			x := d.ranked(2)
			n := int64(len(d.size(x)))
			order := make([]int64, n)
			for i := range order {
				order[i] = int64(i)
			}
			order[n-1], order[n-2] = n-2, n-1
			s := b.Scale(b.MatMul(x, b.Transpose(x, order...)), 0.3)
			b.MatMul(b.Op("Softmax", []val{s}, graphs.I("axis", -1)), x)
		},
		func(d *Drawing, b builder) {
			m, k, n := 1+d.Pick(3), 1+d.Pick(3), 1+d.Pick(3)
			ta, tb := d.Pick(2), d.Pick(2)
			x, y := []int{m, k}, []int{k, n}
			if ta == 1 {
				slices.Reverse(x)
			}
			if tb == 1 {
				slices.Reverse(y)
			}
			in := []val{d.Of(x...), d.Of(y...), nil}
			in[2] = [](func() val){func() val { return d.Of(n) }, func() val { return d.Of() }, func() val { return d.Of(m, 1) }, func() val { return nil }}[d.Pick(4)]()
			if in[2] == nil {
				in = in[:2]
			}
			b.Op("Gemm", in, graphs.F("alpha", 0.5), graphs.F("beta", 1.5), graphs.I("transA", int64(ta)), graphs.I("transB", int64(tb)))
		},
		func(d *Drawing, b builder) {
			size := map[rune]int{'a': 1 + d.Pick(3), 'b': 1 + d.Pick(3), 'c': 1 + d.Pick(3)}
			terms := []string{"", "a", "ab", "ba", "abc", "cb", "bac", "aa", "c"}
			x, y := terms[1+d.Pick(8)], terms[d.Pick(9)]
			dims := func(t string) (n []int) {
				for _, c := range t {
					n = append(n, size[c])
				}
				return n
			}
			out := ""
			for _, c := range "abc" {
				if (slices.Contains([]rune(x), c) || slices.Contains([]rune(y), c)) && d.Pick(2) == 0 {
					out = string(c) + out
				}
			}
			b.Op("Einsum", []val{d.Of(dims(x)...), d.Of(dims(y)...)}, graphs.S("equation", fmt.Sprintf("%s,%s->%s", x, y, out)))
		},
		func(d *Drawing, b builder) {
			rank, group := 1+d.Pick(2), 1+d.Pick(2)
			x := []int{1 + d.Pick(3), group * (1 + d.Pick(2))}
			w := []int{group * (1 + d.Pick(2)), x[1] / group}
			var pads, strides, dilations []int64
			for range rank {
				x, w = append(x, 2+d.Pick(4)), append(w, 1+d.Pick(3))
				strides, dilations = append(strides, int64(1+d.Pick(3))), append(dilations, int64(1+d.Pick(2)))
			}
			for range 2 * rank {
				pads = append(pads, int64(d.Pick(3)))
			}
			in := []val{d.Of(x...), d.Of(w...)}
			if d.chance(2) {
				in = append(in, d.Of(w[0]))
			}
			b.Op("Conv", in, graphs.I("group", int64(group)), graphs.IntsAttr("pads", pads...), graphs.IntsAttr("strides", strides...), graphs.IntsAttr("dilations", dilations...))
		},
		func(d *Drawing, b builder) {
			group := 1 + d.Pick(2)
			x := []int{1 + d.Pick(2), group * (1 + d.Pick(2)), 1 + d.Pick(3), 1 + d.Pick(3)}
			w := []int{x[1], 1 + d.Pick(2), 1 + d.Pick(3), 1 + d.Pick(3)}
			s := []int64{int64(1 + d.Pick(2)), int64(1 + d.Pick(3))}
			attrs := []*graphs.Attr{graphs.I("group", int64(group)), graphs.IntsAttr("strides", s...), graphs.IntsAttr("pads", int64(d.Pick(2)), int64(d.Pick(2)), int64(d.Pick(2)), 0)}
			if d.chance(2) {
				attrs = append(attrs, graphs.IntsAttr("output_padding", s[0]-1, int64(d.Pick(int(s[1])))))
			}
			if d.chance(3) {
				attrs = append(attrs, graphs.IntsAttr("dilations", 2, 1))
			}
			b.Op("ConvTranspose", []val{d.Of(x...), d.Of(w...)}, attrs...)
		},
		func(d *Drawing, b builder) {
			x := d.Of(1+d.Pick(2), 1+d.Pick(2), 2+d.Pick(4), 2+d.Pick(4))
			k := []int64{int64(1 + d.Pick(3)), int64(1 + d.Pick(3))}
			attrs := []*graphs.Attr{graphs.IntsAttr("kernel_shape", k...), graphs.IntsAttr("strides", int64(1+d.Pick(3)), int64(1+d.Pick(2))), graphs.I("ceil_mode", int64(d.Pick(2))),
				graphs.IntsAttr("pads", int64(d.Pick(int(k[0]))), int64(d.Pick(int(k[1]))), int64(d.Pick(int(k[0]))), int64(d.Pick(int(k[1]))))}
			op := []string{"MaxPool", "AveragePool", "LpPool"}[d.Pick(3)]
			switch {
			case op == "AveragePool":
				attrs = append(attrs, graphs.I("count_include_pad", int64(d.Pick(2))))
			case op == "LpPool":
				attrs = append(attrs[:2], attrs[3])
			}
			if d.chance(3) {
				attrs = append(attrs, graphs.IntsAttr("dilations", 1, 2))
			}
			b.Op(op, []val{x}, attrs...)
		},
		func(d *Drawing, b builder) {
			b.Op([]string{"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}[d.Pick(3)], []val{d.ranked(3)})
		},
	}
}

func normParts() []Part {
	return []Part{
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			a := d.Pick(len(d.size(x)))
			s := d.size(x)[a:]
			b.Op("LayerNormalization", []val{x, d.Of(s...), d.Of(s...)}[:2+d.Pick(2)], graphs.I("axis", int64(a)), graphs.F("epsilon", 0.1))
		},
		func(d *Drawing, b builder) {
			x := d.ranked(3)
			c := d.size(x)[1]
			b.Op("InstanceNormalization", []val{x, d.Of(c), d.Of(c)}, graphs.F("epsilon", 0.1))
		},
		func(d *Drawing, b builder) {
			x := d.ranked(3)
			c := d.size(x)[1]
			b.Op("GroupNormalization", []val{x, d.Of(c), d.Of(c)}, graphs.F("epsilon", 0.1), graphs.I("num_groups", int64(1+d.Pick(2)*(c-1))))
		},
		func(d *Drawing, b builder) {
			x := d.ranked(2)
			c := d.size(x)[1]
			v := d.Of(c)
			b.Op("BatchNormalization", []val{x, d.Of(c), d.Of(c), d.Of(c), d.positive(b, v)})
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			b.Op("LpNormalization", []val{b.Add(x, b.Scalar(x, 0.01))}, graphs.I("axis", d.axis(x)), graphs.I("p", int64(1+d.Pick(2))))
		},
		func(d *Drawing, b builder) {
			b.Op("LRN", []val{d.Of(1+d.Pick(2), 1+d.Pick(4), 1+d.Pick(2), 1+d.Pick(2))}, graphs.I("size", 3))
		},
	}
}

// subgraph is a graph of a node's attribute; it may read the values around it.
func subgraph(prefix string, inputs []*graphs.Value, f func(b builder, x []val) []val) *graphs.Graph {
	g := &graphs.Graph{Name: prefix}
	b := graphs.NewBuilder(g)
	b.Prefix(prefix)
	for _, v := range inputs {
		b.Input(v.Name, v.Type, v.Shape)
	}
	for _, v := range f(b, g.Inputs) {
		if v.From == nil { // an output is made in the graph itself
			v = b.Identity(v)
		}
		g.Outputs = append(g.Outputs, v)
	}
	if b.Err() != nil {
		return nil
	}
	return g
}

// node appends a node with subgraphs.
func (d *Drawing) node(b builder, op string, in []val, outputs int, attrs ...*graphs.Attr) {
	g := b.Target()
	n := &graphs.Node{Name: g.Fresh(op), Op: op, Inputs: in, Attrs: attrs}
	for range outputs {
		n.Outputs = append(n.Outputs, &graphs.Value{Name: g.Fresh(op), From: n})
	}
	for _, a := range attrs {
		if a.Kind == graphs.AttrGraph && a.G == nil {
			b.Fail("a subgraph could not be built")
			return
		}
	}
	b.Append(n, graphs.OpsetVersion)
}

func controlParts() []Part {
	return []Part{
		func(d *Drawing, b builder) {
			x, z := d.Any(), d.Any()
			y := d.partner(x)
			cond := b.Greater(b.Sum(z, false), b.Scalar(z, 0.1))
			at := b.Target().Fresh("branch")
			d.node(b, "If", []val{cond}, 1,
				graphs.G("then_branch", subgraph(at+"/then", nil, func(b builder, _ []val) []val { return []val{b.Mul(b.Sigmoid(x), y)} })),
				graphs.G("else_branch", subgraph(at+"/else", nil, func(b builder, _ []val) []val { return []val{b.Sub(y, b.Tanh(x))} })))
		},
		func(d *Drawing, b builder) { // a few passes, as many as an axis has places or a fixed number
			x, y := d.ranked(1), d.Any()
			var n val
			switch d.Pick(3) {
			case 0:
				n = b.Const(graphs.Of([]int64{int64(d.Pick(4))}))
			case 1:
				n = b.Op("Squeeze", []val{b.Gather(b.Shape(x), b.Ints(0), 0)})
			default:
				n = b.Op("Squeeze", []val{b.Op("ArgMax", []val{b.ReshapeTo(x, -1)}, graphs.I("axis", 0))})
			}
			at := b.Target().Fresh("loop")
			scanned := d.chance(2)
			outputs := 1
			if scanned {
				outputs = 2
			}
			body := subgraph(at, []*graphs.Value{{Name: at + "/i", Type: graphs.Int64, Shape: graphs.Shape{}}, {Name: at + "/go", Type: graphs.Bool, Shape: graphs.Shape{}}, {Name: at + "/s", Type: d.t, Shape: y.Shape}},
				func(b builder, v []val) []val {
					row := b.Mean(b.Gather(x, b.Op("Mod", []val{v[0], b.Op("Squeeze", []val{b.Gather(b.Shape(x), b.Ints(0), 0)})}), 0), false)
					s := b.Add(b.Tanh(b.Mul(v[2], y)), row)
					return []val{b.Identity(v[1]), s, b.Scale(s, 2)}[:1+outputs]
				})
			d.node(b, "Loop", []val{n, nil, y}, outputs, graphs.G("body", body))
		},
		func(d *Drawing, b builder) {
			x := d.ranked(1)
			row := d.size(x)[1:]
			s := d.Of(row...)
			at := b.Target().Fresh("scan")
			body := subgraph(at, []*graphs.Value{{Name: at + "/s", Type: d.t, Shape: s.Shape}, {Name: at + "/x", Type: d.t, Shape: s.Shape}},
				func(b builder, v []val) []val {
					t := b.Tanh(b.Add(v[0], v[1]))
					return []val{t, b.Mul(t, v[1])}
				})
			d.node(b, "Scan", []val{s, x}, 2, graphs.G("body", body), graphs.I("num_scan_inputs", 1))
		},
	}
}
