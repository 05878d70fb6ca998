package autodiff

import "ebmrun/graphs"

// An input of a gradient case: its shape and how its values are drawn.
type arg struct {
	dims []int
	lo   float64 // values are uniform in [lo, hi]; both 0 means [−2, 2]
	hi   float64
	far  float64 // no value is nearer to a multiple of this than far/8 (kinks lie there); 0 is off
}

func in(dims ...int) arg { return arg{dims: dims} }
func (a arg) within(lo, hi float64) arg {
	a.lo, a.hi = lo, hi
	return a
}
func (a arg) away(unit float64) arg { a.far = unit; return a }

// A gradCase builds a small graph around one op, from float64 inputs to one output.
type gradCase struct {
	op    string // key of the rule or lowering that it checks
	name  string
	args  []arg
	build func(b *graphs.Builder, x []val) val
}

func op1(op string, attrs ...*graphs.Attr) func(b *graphs.Builder, x []val) val {
	return func(b *graphs.Builder, x []val) val { return b.Op(op, x, attrs...) }
}

// f64 is a float64 constant.
func f64(b *graphs.Builder, dims []int, v ...float64) val { return b.Const(graphs.Of(v, dims...)) }

func i64(b *graphs.Builder, dims []int, v ...int64) val { return b.Const(graphs.Of(v, dims...)) }

var (
	ai    = graphs.IntsAttr
	cases = []gradCase{
		{"Add", "broadcast", []arg{in(2, 3), in(3)}, op1("Add")},
		{"Sub", "broadcast", []arg{in(2, 1), in(1, 3)}, op1("Sub")},
		{"Mul", "broadcast", []arg{in(4, 2, 3), in(2, 1)}, op1("Mul")},
		{"Mul", "square", []arg{in(3)}, func(b *graphs.Builder, x []val) val { return b.Mul(x[0], x[0]) }},
		{"Sub", "own mean, which is read twice", []arg{in(3, 4)}, func(b *graphs.Builder, x []val) val {
			m := b.Mean(x[0], true, 1)
			return b.Add(b.Mul(b.Sub(x[0], m), x[0]), m)
		}},
		{"Sub", "own mean over the other axis", []arg{in(3, 4), in(3, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Mul(b.Sub(x[0], b.Mean(x[0], true, 0)), x[1])
		}},
		{"Div", "own root mean square, written with Pow", []arg{in(3, 4), in(3, 4)}, func(b *graphs.Builder, x []val) val {
			s := b.Sqrt(b.Add(f64(b, nil, 0.1), b.Mean(b.Pow(x[0], f64(b, nil, 2)), true, 1)))
			return b.Add(b.Mul(b.Div(x[0], s), x[1]), s)
		}},
		{"Div", "own root mean square with a learned part", []arg{in(3, 4), in(1).within(1, 2), in(3, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Mul(b.Div(x[0], b.Sqrt(b.Add(b.Mean(b.Mul(x[0], x[0]), true, 1), x[1]))), x[2])
		}},
		{"Div", "root mean square of another", []arg{in(3, 4), in(3, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Div(x[0], b.Sqrt(b.Add(b.Mean(b.Mul(x[1], x[1]), true, 1), f64(b, nil, 1))))
		}},
		{"Mul", "one over the own root mean square", []arg{in(2, 3, 2), in(2, 3, 2)}, func(b *graphs.Builder, x []val) val {
			inv := b.Recip(b.Sqrt(b.Add(b.Mean(b.Mul(x[0], x[0]), true, 0, 1), f64(b, nil, 0.1))))
			return b.Mul(b.Mul(inv, x[0]), x[1])
		}},
		{"Mul", "one divided by the own root mean square", []arg{in(3, 4), in(3, 4)}, func(b *graphs.Builder, x []val) val {
			inv := b.Div(f64(b, nil, 1), b.Sqrt(b.Add(b.Mean(b.Mul(x[0], x[0]), true, 1), f64(b, nil, 0.1))))
			return b.Mul(b.Mul(x[0], inv), x[1])
		}},
		{"Mul", "own sigmoid, which is read twice", []arg{in(5)}, func(b *graphs.Builder, x []val) val {
			s := b.Sigmoid(x[0])
			return b.Add(b.Mul(s, x[0]), b.Mul(s, s))
		}},
		{"Mul", "gates as of an LSTM", []arg{in(5), in(5), in(5)}, func(b *graphs.Builder, x []val) val {
			return b.Mul(b.Sigmoid(x[0]), b.Tanh(b.Add(b.Mul(b.Sigmoid(x[1]), b.Tanh(x[2])), b.Mul(b.Tanh(x[0]), x[1]))))
		}},
		{"Mul", "tanh, broadcast", []arg{in(5), in(3, 5)}, func(b *graphs.Builder, x []val) val { return b.Mul(b.Tanh(x[0]), b.Tanh(x[1])) }},
		{"Mul", "sigmoid of another", []arg{in(5), in(5)}, func(b *graphs.Builder, x []val) val { return b.Mul(x[0], b.Sigmoid(x[1])) }},
		{"Transpose", "of a factor", []arg{in(2, 3, 4), in(2, 5, 4)}, func(b *graphs.Builder, x []val) val {
			return b.MatMul(x[0], b.Transpose(x[1], 0, 2, 1))
		}},
		{"Gather", "constant indices of the last axis", []arg{in(2, 3, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Gather(x[0], b.Ints(3, -1, 0, 3, 1), -1)
		}},
		{"Gather", "constant indices of the axis before", []arg{in(2, 3, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Gather(x[0], b.Ints(2, 0, 0, -3), 1)
		}},
		{"Div", "broadcast", []arg{in(2, 3), in(3).within(0.5, 2)}, op1("Div")},
		{"Pow", "tensor", []arg{in(2, 3).within(0.5, 2), in(3)}, op1("Pow")},
		{"Pow", "square", []arg{in(2, 3)}, func(b *graphs.Builder, x []val) val { return b.Pow(x[0], b.Scalar(x[0], 2)) }},
		{"Pow", "cube", []arg{in(2, 3)}, func(b *graphs.Builder, x []val) val { return b.Pow(x[0], b.Scalar(x[0], 3)) }},
		{"Pow", "one", []arg{in(2, 3)}, func(b *graphs.Builder, x []val) val { return b.Pow(x[0], b.Scalar(x[0], 1)) }},
		{"Pow", "integer exponent", []arg{in(2, 3).within(0.5, 2)}, func(b *graphs.Builder, x []val) val {
			return b.Pow(x[0], i64(b, []int{3}, 1, 2, 3))
		}},
		{"Mod", "fmod", []arg{in(2, 3).within(3.1, 3.9), in(3).within(0.9, 1.02)}, op1("Mod", graphs.I("fmod", 1))},
		{"ReverseSequence", "batch first", []arg{in(2, 4, 3)}, func(b *graphs.Builder, x []val) val {
			return b.Op("ReverseSequence", []val{x[0], b.Ints(3, 1)}, graphs.I("batch_axis", 0), graphs.I("time_axis", 1))
		}},
		{"Max", "three", []arg{in(2, 3), in(3), in(2, 1)}, op1("Max")},
		{"Min", "two", []arg{in(2, 3), in(3)}, op1("Min")},
		{"Sum", "three", []arg{in(2, 3), in(3), in(1)}, op1("Sum")},
		{"Mean", "two", []arg{in(2, 3), in(3)}, op1("Mean")},
		{"Where", "broadcast", []arg{in(2, 3), in(3)}, func(b *graphs.Builder, x []val) val {
			return b.Where(b.Const(graphs.Of([]bool{true, false}, 2, 1)), x[0], x[1])
		}},
		{"PRelu", "channel", []arg{in(2, 3, 2).away(4), in(3, 1)}, op1("PRelu")},
		{"Identity", "", []arg{in(3)}, op1("Identity")},
		{"Cast", "", []arg{in(3)}, op1("Cast", graphs.I("to", int64(graphs.Float64)))},
		{"Neg", "", []arg{in(3)}, op1("Neg")},
		{"Abs", "", []arg{in(5).away(4)}, op1("Abs")},
		{"Exp", "", []arg{in(3)}, op1("Exp")},
		{"Log", "", []arg{in(3).within(0.5, 3)}, op1("Log")},
		{"Sqrt", "", []arg{in(3).within(0.5, 3)}, op1("Sqrt")},
		{"Reciprocal", "", []arg{in(3).within(0.5, 3)}, op1("Reciprocal")},
		{"Sigmoid", "", []arg{in(3)}, op1("Sigmoid")},
		{"Tanh", "", []arg{in(3)}, op1("Tanh")},
		{"Softplus", "", []arg{in(3)}, op1("Softplus")},
		{"Sin", "", []arg{in(3)}, op1("Sin")},
		{"Cos", "", []arg{in(3)}, op1("Cos")},
		{"Tan", "", []arg{in(3).within(-1, 1)}, op1("Tan")},
		{"Sinh", "", []arg{in(3)}, op1("Sinh")},
		{"Cosh", "", []arg{in(3)}, op1("Cosh")},
		{"Asin", "", []arg{in(3).within(-0.9, 0.9)}, op1("Asin")},
		{"Acos", "", []arg{in(3).within(-0.9, 0.9)}, op1("Acos")},
		{"Atan", "", []arg{in(3)}, op1("Atan")},
		{"Asinh", "", []arg{in(3)}, op1("Asinh")},
		{"Acosh", "", []arg{in(3).within(1.2, 3)}, op1("Acosh")},
		{"Atanh", "", []arg{in(3).within(-0.9, 0.9)}, op1("Atanh")},
		{"Erf", "", []arg{in(3)}, op1("Erf")},
		{"Relu", "", []arg{in(6).away(4)}, op1("Relu")},
		{"LeakyRelu", "", []arg{in(6).away(4)}, op1("LeakyRelu", graphs.F("alpha", 0.25))},
		{"Elu", "", []arg{in(6).away(4)}, op1("Elu", graphs.F("alpha", 1.5))},
		{"Clip", "", []arg{in(6).away(1)}, func(b *graphs.Builder, x []val) val {
			return b.Op("Clip", []val{x[0], b.Scalar(x[0], -1), b.Scalar(x[0], 1)})
		}},
		{"Clip", "above only", []arg{in(6).away(1)}, func(b *graphs.Builder, x []val) val {
			return b.Op("Clip", []val{x[0], nil, b.Scalar(x[0], 1)})
		}},
		{"Softsign", "", []arg{in(6).away(4)}, op1("Softsign")},
		{"ThresholdedRelu", "", []arg{in(6).away(1)}, op1("ThresholdedRelu", graphs.F("alpha", 1))},
		{"Softmax", "last", []arg{in(2, 3)}, op1("Softmax")},
		{"Softmax", "axis 1", []arg{in(2, 3, 2)}, op1("Softmax", graphs.I("axis", 1))},
		{"LogSoftmax", "", []arg{in(2, 3, 2)}, op1("LogSoftmax", graphs.I("axis", 1))},
		{"Dropout", "inference", []arg{in(3)}, op1("Dropout")},

		{"ReduceSum", "axes", []arg{in(2, 3, 2)}, func(b *graphs.Builder, x []val) val { return b.Sum(x[0], false, 0, -1) }},
		{"ReduceSum", "all", []arg{in(2, 3)}, func(b *graphs.Builder, x []val) val { return b.Sum(x[0], false) }},
		{"ReduceMean", "axes", []arg{in(2, 3, 2)}, func(b *graphs.Builder, x []val) val { return b.Mean(x[0], true, 1) }},
		{"ReduceMean", "all", []arg{in(2, 3)}, func(b *graphs.Builder, x []val) val { return b.Mean(x[0], false) }},
		{"ReduceMax", "", []arg{in(3, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Op("ReduceMax", []val{x[0], b.Ints(1)}, graphs.I("keepdims", 0))
		}},
		{"ReduceMin", "", []arg{in(3, 4)}, op1("ReduceMin")},
		{"MatMul", "matrices", []arg{in(2, 3), in(3, 4)}, op1("MatMul")},
		{"MatMul", "batch", []arg{in(5, 2, 3), in(5, 3, 4)}, op1("MatMul")},
		{"MatMul", "broadcast", []arg{in(5, 1, 2, 3), in(2, 3, 4)}, op1("MatMul")},
		{"MatMul", "batch times matrix", []arg{in(5, 2, 3), in(3, 4)}, op1("MatMul")},
		{"MatMul", "vector left", []arg{in(3), in(2, 3, 4)}, op1("MatMul")},
		{"MatMul", "vector right", []arg{in(2, 4, 3), in(3)}, op1("MatMul")},
		{"MatMul", "vectors", []arg{in(3), in(3)}, op1("MatMul")},
		{"MatMul", "matrix times batch", []arg{in(2, 3), in(5, 3, 4)}, op1("MatMul")},
		{"Gemm", "", []arg{in(2, 3), in(3, 4), in(4)}, op1("Gemm", graphs.F("alpha", 0.5), graphs.F("beta", 2))},
		{"Gemm", "transA", []arg{in(3, 2), in(3, 4), in(2, 1)}, op1("Gemm", graphs.I("transA", 1))},
		{"Gemm", "transB", []arg{in(2, 3), in(4, 3)}, op1("Gemm", graphs.I("transB", 1), graphs.F("alpha", 3))},
		{"Gemm", "both", []arg{in(3, 2), in(4, 3), in(1)}, op1("Gemm", graphs.I("transA", 1), graphs.I("transB", 1))},
		{"CumSum", "", []arg{in(2, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Op("CumSum", []val{x[0], b.Const(graphs.Of([]int64{1}))})
		}},
		{"CumSum", "exclusive reverse", []arg{in(2, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Op("CumSum", []val{x[0], b.Const(graphs.Of([]int64{1}))}, graphs.I("exclusive", 1), graphs.I("reverse", 1))
		}},

		{"Reshape", "", []arg{in(2, 6)}, func(b *graphs.Builder, x []val) val { return b.ReshapeTo(x[0], 3, -1) }},
		{"Flatten", "", []arg{in(2, 3, 2)}, op1("Flatten", graphs.I("axis", 2))},
		{"Squeeze", "", []arg{in(2, 1, 3)}, func(b *graphs.Builder, x []val) val { return b.Squeeze(x[0], 1) }},
		{"Unsqueeze", "", []arg{in(2, 3)}, func(b *graphs.Builder, x []val) val { return b.Unsqueeze(x[0], 1, -1) }},
		{"Transpose", "", []arg{in(2, 3, 4)}, func(b *graphs.Builder, x []val) val { return b.Transpose(x[0], 2, 0, 1) }},
		{"Transpose", "default", []arg{in(2, 3)}, op1("Transpose")},
		{"Expand", "", []arg{in(2, 1)}, func(b *graphs.Builder, x []val) val { return b.Expand(x[0], b.Ints(4, 2, 3)) }},
		{"Concat", "", []arg{in(2, 3), in(2, 1), in(2, 2)}, op1("Concat", graphs.I("axis", 1))},
		{"Split", "", []arg{in(2, 5)}, func(b *graphs.Builder, x []val) val {
			p := b.Ops("Split", 2, []val{x[0], b.Ints(2, 3)}, graphs.I("axis", 1))
			return b.Mul(b.Sum(b.Mul(p[0], p[0]), true, 1), p[1])
		}},
		{"Split", "one part used", []arg{in(2, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Ops("Split", 2, []val{x[0]}, graphs.I("axis", 1), graphs.I("num_outputs", 2))[1]
		}},
		{"Slice", "", []arg{in(4, 5)}, func(b *graphs.Builder, x []val) val {
			return b.Slice(x[0], []int64{1, -3}, []int64{3, 1 << 40}, []int64{0, 1}, nil)
		}},
		{"Slice", "steps", []arg{in(7, 6)}, func(b *graphs.Builder, x []val) val {
			return b.Slice(x[0], []int64{1, 0}, []int64{7, 6}, []int64{0, 1}, []int64{3, 2})
		}},
		{"Slice", "negative steps", []arg{in(7, 6)}, func(b *graphs.Builder, x []val) val {
			return b.Slice(x[0], []int64{-1, 4}, []int64{-100, 0}, []int64{0, 1}, []int64{-1, -3})
		}},
		{"Slice", "empty", []arg{in(4)}, func(b *graphs.Builder, x []val) val {
			return b.Sum(b.Concat(0, x[0], b.Slice(x[0], []int64{3}, []int64{1}, []int64{0}, nil)), false)
		}},
		{"Pad", "cropped, then wrapped", []arg{in(2, 5)}, func(b *graphs.Builder, x []val) val {
			return b.Op("Pad", []val{x[0], b.Ints(0, -1, 0, 2)}, graphs.S("mode", "wrap"))
		}},
		{"Pad", "reflected, and cropped", []arg{in(2, 5)}, func(b *graphs.Builder, x []val) val {
			return b.Op("Pad", []val{x[0], b.Ints(0, 3, 0, -2)}, graphs.S("mode", "reflect"))
		}},
		{"Pad", "zero", []arg{in(2, 3)}, func(b *graphs.Builder, x []val) val { return b.Op("Pad", []val{x[0], b.Ints(1, 0, 0, 2)}) }},
		{"Pad", "negative", []arg{in(4, 5)}, func(b *graphs.Builder, x []val) val { return b.Op("Pad", []val{x[0], b.Ints(-1, 2, 1, -1)}) }},
		{"Pad", "with a constant", []arg{in(2, 3), in()}, func(b *graphs.Builder, x []val) val {
			return b.Op("Pad", []val{x[0], b.Ints(1, -1, 0, 2), x[1]})
		}},
		{"Pad", "with a constant, two axes of three", []arg{in(2, 3, 2), in()}, func(b *graphs.Builder, x []val) val {
			return b.Op("Pad", []val{x[0], b.Ints(1, 0, 2, 1), x[1], b.Ints(0, 2)})
		}},
		{"Pad", "reflect", []arg{in(2, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Op("Pad", []val{x[0], b.Ints(0, 2, 0, 3)}, graphs.S("mode", "reflect"))
		}},
		{"Pad", "edge", []arg{in(3, 3)}, func(b *graphs.Builder, x []val) val {
			return b.Op("Pad", []val{x[0], b.Ints(1, 2, 0, 1)}, graphs.S("mode", "edge"))
		}},
		{"Pad", "wrap", []arg{in(2, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Op("Pad", []val{x[0], b.Ints(0, 2, 0, 1)}, graphs.S("mode", "wrap"))
		}},
		{"Tile", "", []arg{in(2, 3)}, func(b *graphs.Builder, x []val) val { return b.Op("Tile", []val{x[0], b.Ints(2, 3)}) }},
		{"DepthToSpace", "DCR", []arg{in(1, 8, 2, 3)}, op1("DepthToSpace", graphs.I("blocksize", 2))},
		{"DepthToSpace", "CRD", []arg{in(2, 8, 2, 3)}, op1("DepthToSpace", graphs.I("blocksize", 2), graphs.S("mode", "CRD"))},
		{"SpaceToDepth", "", []arg{in(1, 2, 4, 6)}, op1("SpaceToDepth", graphs.I("blocksize", 2))},
		{"Trilu", "", []arg{in(3, 3)}, op1("Trilu", graphs.I("upper", 0))},

		{"Gather", "scalar", []arg{in(3, 4)}, func(b *graphs.Builder, x []val) val { return b.Gather(x[0], i64(b, []int{}, -2), 1) }},
		{"Gather", "vector", []arg{in(3, 4)}, func(b *graphs.Builder, x []val) val { return b.Gather(x[0], b.Ints(2, 0, 2, -1), 0) }},
		{"Gather", "matrix", []arg{in(3, 4, 2)}, func(b *graphs.Builder, x []val) val {
			return b.Gather(x[0], i64(b, []int{2, 2}, 3, 0, 1, 3), 1)
		}},
		{"GatherElements", "", []arg{in(3, 3)}, func(b *graphs.Builder, x []val) val {
			return b.Op("GatherElements", []val{x[0], i64(b, []int{2, 3}, 0, 2, 1, 0, 0, 2)}, graphs.I("axis", 0))
		}},
		{"GatherND", "", []arg{in(3, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Op("GatherND", []val{x[0], i64(b, []int{3, 2}, 0, 1, 2, 3, 0, 1)})
		}},
		{"ScatterElements", "overwrite", []arg{in(3, 3), in(1, 3)}, func(b *graphs.Builder, x []val) val {
			return b.Op("ScatterElements", []val{x[0], i64(b, []int{1, 3}, 0, 2, 1), x[1]}, graphs.I("axis", 0))
		}},
		{"ScatterElements", "add", []arg{in(3, 3), in(2, 3)}, func(b *graphs.Builder, x []val) val {
			return b.Op("ScatterElements", []val{x[0], i64(b, []int{2, 3}, 0, 2, 1, 0, 0, 2), x[1]}, graphs.I("axis", 0), graphs.S("reduction", "add"))
		}},
		{"ScatterND", "overwrite", []arg{in(3, 4), in(2)}, func(b *graphs.Builder, x []val) val {
			return b.Op("ScatterND", []val{x[0], i64(b, []int{2, 2}, 0, 1, 2, 3), x[1]})
		}},
		{"ScatterND", "add", []arg{in(3, 4), in(2, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Op("ScatterND", []val{x[0], i64(b, []int{2, 1}, 1, 1), x[1]}, graphs.S("reduction", "add"))
		}},
		{"TopK", "", []arg{in(3, 5)}, func(b *graphs.Builder, x []val) val {
			return b.Ops("TopK", 2, []val{x[0], b.Ints(2)}, graphs.I("axis", 1))[0]
		}},

		{"Conv", "plain", []arg{in(2, 3, 5, 6), in(4, 3, 3, 2), in(4)}, op1("Conv")},
		{"Conv", "stride, pads, remainder", []arg{in(2, 2, 7, 8), in(3, 2, 4, 4)}, op1("Conv", ai("strides", 2, 2), ai("pads", 1, 1, 1, 1))},
		{"Conv", "stride 3, no pads, remainder", []arg{in(1, 2, 9, 10), in(2, 2, 2, 2)}, op1("Conv", ai("strides", 3, 3))},
		{"Conv", "asymmetric pads", []arg{in(1, 2, 6, 5), in(2, 2, 3, 3)}, op1("Conv", ai("pads", 0, 2, 1, 0), ai("strides", 1, 2))},
		{"Conv", "dilations", []arg{in(1, 2, 8, 9), in(2, 2, 3, 2)}, op1("Conv", ai("dilations", 2, 3), ai("pads", 1, 0, 2, 1))},
		{"Conv", "dilations, stride, remainder", []arg{in(1, 2, 9, 9), in(2, 2, 3, 3)}, op1("Conv", ai("dilations", 2, 2), ai("strides", 2, 3), ai("pads", 1, 1, 1, 1))},
		{"Conv", "groups", []arg{in(2, 4, 5, 5), in(6, 2, 3, 3), in(6)}, op1("Conv", graphs.I("group", 2), ai("pads", 1, 1, 1, 1))},
		{"Conv", "depthwise stride", []arg{in(2, 3, 6, 6), in(3, 1, 3, 3)}, op1("Conv", graphs.I("group", 3), ai("strides", 2, 2), ai("pads", 1, 1, 1, 1))},
		{"Conv", "few channels out", []arg{in(2, 5, 6, 7), in(2, 5, 4, 3), in(2)}, op1("Conv", ai("pads", 1, 0, 2, 1))},
		{"Conv", "few channels out, dilated", []arg{in(1, 4, 9, 8), in(1, 4, 2, 4)}, op1("Conv", ai("dilations", 3, 2), ai("pads", 1, 3, 0, 3))},
		{"Conv", "one window", []arg{in(2, 3, 4, 2), in(5, 3, 4, 2), in(5)}, op1("Conv", ai("strides", 2, 1))},
		{"Conv", "one window, 3-D", []arg{in(2, 3, 2, 4, 2), in(5, 3, 2, 4, 2), in(5)}, op1("Conv")},
		{"ConvTranspose", "cropped to what was padded", []arg{in(2, 2, 2, 1), in(2, 2, 2, 1)}, op1("ConvTranspose", graphs.I("group", 2), ai("pads", 1, 1, 0, 0), ai("strides", 2, 2), ai("output_padding", 1, 1))},
		{"ConvTranspose", "one window", []arg{in(3, 2, 1, 1), in(2, 4, 3, 5)}, op1("ConvTranspose", ai("strides", 2, 2))},
		{"Conv", "1-D", []arg{in(2, 2, 9), in(3, 2, 4)}, op1("Conv", ai("strides", 2), ai("pads", 2, 1))},
		{"Conv", "3-D", []arg{in(1, 2, 4, 5, 4), in(2, 2, 2, 3, 2), in(2)}, op1("Conv", ai("strides", 1, 2, 2), ai("pads", 0, 1, 1, 1, 1, 0))},
		{"Conv", "SAME_UPPER", []arg{in(1, 1, 7, 6), in(2, 1, 4, 4)}, op1("Conv", graphs.S("auto_pad", "SAME_UPPER"), ai("strides", 2, 2))},
		{"Conv", "SAME_LOWER", []arg{in(1, 1, 7, 6), in(2, 1, 4, 4)}, op1("Conv", graphs.S("auto_pad", "SAME_LOWER"), ai("strides", 2, 3))},
		{"Conv", "VALID", []arg{in(1, 1, 5, 5), in(2, 1, 3, 3)}, op1("Conv", graphs.S("auto_pad", "VALID"))},
		{"Conv", "no window reaches the pad at the end", []arg{in(1, 1, 2, 3), in(1, 1, 2, 1)}, op1("Conv", ai("pads", 1, 0, 1, 0), ai("strides", 3, 1), ai("dilations", 2, 1))},
		{"Conv", "no window reaches the smaller of two pads", []arg{in(1, 1, 5, 5), in(1, 1, 3, 2)}, op1("Conv", ai("pads", 2, 2, 1, 1), ai("strides", 4, 4))},
		{"Conv", "pads wider than the kernel", []arg{in(1, 1, 3, 3), in(1, 1, 2, 2)}, op1("Conv", ai("pads", 3, 3, 3, 3))},
		{"ConvTranspose", "plain", []arg{in(2, 3, 4, 3), in(3, 2, 3, 2), in(2)}, op1("ConvTranspose")},
		{"ConvTranspose", "stride, pads", []arg{in(2, 2, 4, 3), in(2, 3, 4, 4)}, op1("ConvTranspose", ai("strides", 2, 2), ai("pads", 1, 1, 1, 1))},
		{"ConvTranspose", "output padding", []arg{in(1, 2, 3, 3), in(2, 2, 3, 3)}, op1("ConvTranspose", ai("strides", 3, 2), ai("pads", 1, 0, 0, 1), ai("output_padding", 2, 1))},
		{"ConvTranspose", "dilations, groups", []arg{in(1, 4, 3, 4), in(4, 2, 2, 3), in(4)}, op1("ConvTranspose", ai("dilations", 2, 1), graphs.I("group", 2))},
		{"ConvTranspose", "1-D", []arg{in(2, 2, 5), in(2, 3, 3)}, op1("ConvTranspose", ai("strides", 2), ai("pads", 1, 0))},
		{"ConvTranspose", "3-D", []arg{in(1, 2, 2, 3, 2), in(2, 1, 2, 2, 3)}, op1("ConvTranspose", ai("strides", 2, 1, 2))},
		{"ConvTranspose", "SAME_UPPER", []arg{in(1, 1, 3, 3), in(1, 2, 3, 3)}, op1("ConvTranspose", ai("strides", 2, 2), graphs.S("auto_pad", "SAME_UPPER"))},
		{"ConvTranspose", "output shape", []arg{in(1, 1, 3, 3), in(1, 2, 3, 3)}, op1("ConvTranspose", ai("strides", 2, 2), ai("output_shape", 6, 7))},
		{"AveragePool", "plain", []arg{in(2, 2, 4, 6)}, op1("AveragePool", ai("kernel_shape", 2, 2), ai("strides", 2, 2))},
		{"AveragePool", "pads, many places", []arg{in(1, 1, 3, 33000)}, op1("AveragePool", ai("kernel_shape", 2, 3), ai("pads", 1, 1, 1, 1))},
		{"AveragePool", "pads", []arg{in(1, 2, 5, 5)}, op1("AveragePool", ai("kernel_shape", 3, 3), ai("strides", 2, 2), ai("pads", 1, 1, 1, 1))},
		{"AveragePool", "pads counted", []arg{in(1, 2, 5, 5)}, op1("AveragePool", ai("kernel_shape", 3, 3), ai("strides", 2, 2), ai("pads", 1, 1, 1, 1), graphs.I("count_include_pad", 1))},
		{"AveragePool", "ceil", []arg{in(1, 1, 6, 7)}, op1("AveragePool", ai("kernel_shape", 3, 2), ai("strides", 2, 2), graphs.I("ceil_mode", 1))},
		{"AveragePool", "ceil, pads counted", []arg{in(1, 1, 6, 7)}, op1("AveragePool", ai("kernel_shape", 3, 2), ai("strides", 2, 2), ai("pads", 1, 0, 1, 0), graphs.I("ceil_mode", 1), graphs.I("count_include_pad", 1))},
		{"AveragePool", "1-D overlapping", []arg{in(2, 2, 7)}, op1("AveragePool", ai("kernel_shape", 3))},
		{"AveragePool", "3-D", []arg{in(1, 2, 4, 4, 2)}, op1("AveragePool", ai("kernel_shape", 2, 2, 2), ai("strides", 2, 2, 2))},
		{"MaxPool", "plain", []arg{in(2, 2, 4, 6)}, op1("MaxPool", ai("kernel_shape", 2, 2), ai("strides", 2, 2))},
		{"MaxPool", "overlapping, pads, ceil", []arg{in(1, 2, 6, 6)}, op1("MaxPool", ai("kernel_shape", 3, 3), ai("strides", 2, 2), ai("pads", 1, 1, 1, 1), graphs.I("ceil_mode", 1))},
		{"MaxPool", "dilations", []arg{in(1, 1, 7, 7)}, op1("MaxPool", ai("kernel_shape", 2, 2), ai("dilations", 2, 3))},
		{"MaxPool", "1-D", []arg{in(2, 1, 6)}, op1("MaxPool", ai("kernel_shape", 2), ai("strides", 2))},
		{"MaxPool", "3-D", []arg{in(1, 1, 4, 4, 4)}, op1("MaxPool", ai("kernel_shape", 2, 2, 2), ai("strides", 2, 2, 2))},

		{"Gelu", "", []arg{in(4)}, op1("Gelu")},
		{"Gelu", "tanh", []arg{in(4)}, op1("Gelu", graphs.S("approximate", "tanh"))},
		{"Swish", "", []arg{in(4)}, op1("Swish", graphs.F("alpha", 1.5))},
		{"Mish", "", []arg{in(4)}, op1("Mish")},
		{"HardSigmoid", "", []arg{in(6).within(-4, 4).away(5)}, op1("HardSigmoid", graphs.F("alpha", 0.2), graphs.F("beta", 0))},
		{"HardSwish", "", []arg{in(8).within(-5, 5).away(3)}, op1("HardSwish")},
		{"Celu", "", []arg{in(6).away(4)}, op1("Celu", graphs.F("alpha", 2))},
		{"Selu", "", []arg{in(6).away(4)}, op1("Selu")},
		{"GlobalAveragePool", "", []arg{in(2, 3, 2, 4)}, op1("GlobalAveragePool")},
		{"GlobalMaxPool", "", []arg{in(2, 3, 2, 4)}, op1("GlobalMaxPool")},
		{"ReduceL1", "", []arg{in(3, 4).away(4)}, func(b *graphs.Builder, x []val) val { return b.Op("ReduceL1", []val{x[0], b.Ints(0)}) }},
		{"ReduceL2", "of zeros", []arg{in(3, 4), in(3, 1)}, func(b *graphs.Builder, x []val) val {
			z := b.Sub(x[0], x[0]) // divided by its norm as a network does that normalizes
			return b.Div(b.Add(z, x[1]), b.Op("Max", []val{b.Op("ReduceL2", []val{z, b.Ints(1)}), b.Scalar(z, 0.1)}))
		}},
		{"ReduceL2", "all", []arg{in(3, 4)}, op1("ReduceL2", graphs.I("keepdims", 0))},
		{"ReduceL2", "", []arg{in(3, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Op("ReduceL2", []val{x[0], b.Ints(1)}, graphs.I("keepdims", 0))
		}},
		{"ReduceSumSquare", "", []arg{in(3, 4)}, op1("ReduceSumSquare")},
		{"ReduceLogSum", "", []arg{in(3, 4).within(0.5, 2)}, op1("ReduceLogSum", graphs.I("keepdims", 0))},
		{"ReduceLogSumExp", "", []arg{in(3, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Op("ReduceLogSumExp", []val{x[0], b.Ints(1)}, graphs.I("keepdims", 0))
		}},
		{"ReduceLogSumExp", "keep", []arg{in(3, 4)}, op1("ReduceLogSumExp")},
		{"LpNormalization", "2", []arg{in(3, 4)}, op1("LpNormalization")},
		{"LpNormalization", "1", []arg{in(3, 4).away(4)}, op1("LpNormalization", graphs.I("p", 1), graphs.I("axis", 0))},
		{"MeanVarianceNormalization", "", []arg{in(2, 3, 2, 2)}, op1("MeanVarianceNormalization")},
		{"MeanVarianceNormalization", "of a small deviation", []arg{in(2, 3, 2, 2)}, func(b *graphs.Builder, x []val) val {
			return b.Scale(b.Op("MeanVarianceNormalization", []val{b.Scale(x[0], 1e-6)}), 0.1)
		}},
		{"LayerNormalization", "", []arg{in(2, 3, 4), in(4), in(4)}, op1("LayerNormalization")},
		{"LayerNormalization", "axis 1, no bias", []arg{in(2, 3, 4), in(3, 4)}, op1("LayerNormalization", graphs.I("axis", 1), graphs.F("epsilon", 0.1))},
		{"RMSNormalization", "", []arg{in(2, 4), in(4)}, op1("RMSNormalization")},
		{"InstanceNormalization", "", []arg{in(2, 3, 4, 2), in(3), in(3)}, op1("InstanceNormalization")},
		{"GroupNormalization", "", []arg{in(2, 4, 3, 2), in(4), in(4)}, op1("GroupNormalization", graphs.I("num_groups", 2))},
		{"BatchNormalization", "", []arg{in(2, 3, 2, 2), in(3), in(3), in(3), in(3).within(0.5, 2)}, op1("BatchNormalization")},
		{"BatchNormalization", "matrix", []arg{in(4, 3), in(3), in(3), in(3), in(3).within(0.5, 2)}, op1("BatchNormalization", graphs.F("epsilon", 0.1))},
	}
)
