package graphtest

import (
	"math/rand/v2"

	"ebmrun/graphs"
)

// An OpCase puts one op, or a few, on x and y [batch, 3, 4, 6].
type OpCase func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value

// op is a case with one op on x [batch, 3, 4, 6] and attributes.
func op(name string, attrs ...*graphs.Attr) OpCase {
	return func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
		return b.Op(name, []*graphs.Value{x}, attrs...)
	}
}

// positive puts exp before it.
func positive(f OpCase) OpCase {
	return func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value { return f(b, b.Exp(x), b.Exp(y)) }
}

func two(name string) OpCase {
	return func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value {
		return b.Op(name, []*graphs.Value{x, y})
	}
}

// over reduces the last axis.
func over(name string) OpCase {
	return func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
		return b.Op(name, []*graphs.Value{x, b.Ints(3)}, graphs.I("keepdims", 1))
	}
}

// given adds further inputs, constants in the order given.
func given(name string, more func(b *graphs.Builder) []*graphs.Value, attrs ...*graphs.Attr) OpCase {
	return func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
		return b.Op(name, append([]*graphs.Value{x}, more(b)...), attrs...)
	}
}

func weight(r *rand.Rand, name string, dims ...int) func(b *graphs.Builder) *graphs.Value {
	t := Normals(r, dims...)
	return func(b *graphs.Builder) *graphs.Value { return b.Weight(name, t) }
}

// Ops is a case for each op that energies, generators, flows and usual backbones
// are made of.
func Ops(r *rand.Rand) map[string]OpCase {
	f := func(v ...float32) *graphs.Tensor { return graphs.Of(v, len(v)) }
	w, bias, scale := weight(r, "w", 2, 3, 3, 3), weight(r, "b", 2), weight(r, "s", 3)
	is := graphs.IntsAttr
	all := map[string]OpCase{
		"Log": positive(op("Log")), "Sqrt": positive(op("Sqrt")), "Pow": positive(two("Pow")), "Div": positive(two("Div")), "Reciprocal": positive(op("Reciprocal")),
		"Concat": func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value { return b.Concat(1, x, y) },
		"Split": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			out := b.Ops("Split", 2, []*graphs.Value{x, b.Ints(1, 2)}, graphs.I("axis", 1))
			return b.Mul(out[0], b.Slice(out[1], []int64{0}, []int64{1}, []int64{1}, []int64{1}))
		},
		"Slice": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Slice(x, []int64{1}, []int64{6}, []int64{3}, []int64{2})
		},
		"Gather":    func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value { return b.Gather(x, b.Ints(2, 0, 2), 1) },
		"Transpose": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value { return b.Transpose(x, 0, 2, 3, 1) },
		"Reshape":   func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value { return b.ReshapeTo(x, 0, 12, 6) },
		"Expand": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Expand(b.Unsqueeze(x, 1), b.Ints(1, 2, 1, 1, 1))
		},
		"MatMul": func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value {
			return b.MatMul(x, b.Transpose(y, 0, 1, 3, 2))
		},
		"Einsum": func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value {
			return b.Op("Einsum", []*graphs.Value{x, y}, graphs.S("equation", "bcij,bckj->bik"))
		},
		"Gemm": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("Gemm", []*graphs.Value{b.ReshapeTo(x, -1, 6), b.Weight("w", Normals(r, 6, 5)), b.Weight("b", Normals(r, 5))})
		},
		"Where": func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value {
			return b.Where(b.Greater(x, y), x, b.Scale(y, 2))
		},
		"Cast": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Cast(b.Tanh(b.Cast(x, graphs.Float64)), graphs.Float32)
		},
		"Tile": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("Tile", []*graphs.Value{x, b.Ints(1, 2, 1, 3)})
		},
		"Pad, constant": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("Pad", []*graphs.Value{x, b.Ints(0, 0, 1, 2, 0, 0, 0, 1)})
		},
		"Pad, reflect": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("Pad", []*graphs.Value{x, b.Ints(0, 0, 1, 2, 0, 0, 0, 1)}, graphs.S("mode", "reflect"))
		},
		"Clip": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("Clip", []*graphs.Value{x, b.Scalar(x, -0.5), b.Scalar(x, 0.7)})
		},
		"Conv": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("Conv", []*graphs.Value{x, w(b), bias(b)}, is("kernel_shape", 3, 3), is("pads", 1, 1, 1, 1), is("strides", 1, 2))
		},
		"Conv, groups": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("Conv", []*graphs.Value{x, b.Weight("w", Normals(r, 3, 1, 3, 3))}, is("kernel_shape", 3, 3), graphs.I("group", 3))
		},
		"BatchNormalization": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("BatchNormalization", []*graphs.Value{x, scale(b), b.Weight("b", Normals(r, 3)), b.Const(f(0.1, 0.2, 0.3)), b.Const(f(1, 2, 3))})
		},
		"InstanceNormalization": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("InstanceNormalization", []*graphs.Value{x, scale(b), b.Weight("b", Normals(r, 3))})
		},
		"LayerNormalization": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("LayerNormalization", []*graphs.Value{x, b.Weight("s", Normals(r, 6)), b.Weight("b", Normals(r, 6))})
		},
		"GroupNormalization": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("GroupNormalization", []*graphs.Value{x, scale(b), b.Weight("b", Normals(r, 3))}, graphs.I("num_groups", 3))
		},
		"PRelu": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("PRelu", []*graphs.Value{x, b.Weight("w", Normals(r, 3, 1, 1))})
		},
		"MaxPool": op("MaxPool", is("kernel_shape", 2, 2), is("strides", 2, 2)), "AveragePool": op("AveragePool", is("kernel_shape", 2, 2), is("strides", 2, 2)),
		"Resize, linear": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("Resize", []*graphs.Value{x, nil, b.Const(f(1, 1, 2, 2))}, graphs.S("mode", "linear"))
		},
		"Resize, nearest": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("Resize", []*graphs.Value{x, nil, b.Const(f(1, 1, 2, 2))}, graphs.S("mode", "nearest"))
		},
		"ConvTranspose": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("ConvTranspose", []*graphs.Value{x, b.Weight("w", Normals(r, 3, 2, 4, 4))}, is("kernel_shape", 4, 4), is("strides", 2, 2), is("pads", 1, 1, 1, 1))
		},
		"DepthToSpace": func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value {
			return b.Op("DepthToSpace", []*graphs.Value{b.Concat(1, x, y, x, y)}, graphs.I("blocksize", 2))
		},
		"SpaceToDepth": op("SpaceToDepth", graphs.I("blocksize", 2)),
		"CumSum":       given("CumSum", func(b *graphs.Builder) []*graphs.Value { return []*graphs.Value{b.Const(graphs.Of([]int64{3}))} }),
		"Softmax":      op("Softmax"), "LogSoftmax": op("LogSoftmax"), "Flatten": op("Flatten"), "Identity": op("Identity"), "GlobalAveragePool": op("GlobalAveragePool"),
		"LRN": op("LRN", graphs.I("size", 3)), "Trilu": op("Trilu"), "Gelu": op("Gelu"), "Gelu, tanh": op("Gelu", graphs.S("approximate", "tanh")),
		"Squeeze, Unsqueeze": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value { return b.Squeeze(b.Unsqueeze(x, 2), 2) },
	}
	for _, name := range []string{"Abs", "Neg", "Exp", "Tanh", "Sigmoid", "Erf", "Sin", "Cos", "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Softplus", "Softsign", "HardSigmoid", "HardSwish", "Mish", "Sinh", "Atan", "ThresholdedRelu"} {
		all[name] = op(name)
	}
	for _, name := range []string{"Add", "Sub", "Mul", "Max", "Min"} {
		all[name] = two(name)
	}
	for _, name := range []string{"ReduceSum", "ReduceMean", "ReduceMax", "ReduceLogSumExp", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceProd"} {
		all[name] = over(name)
	}
	return all
}

// Loss is the model x, y [batch, 3, 4, 6] → loss, a smooth function of all elements
// of a case, and used, which makes each input matter.
func (c OpCase) Loss() (*graphs.Model, error) {
	b := graphs.NewBuilder(&graphs.Graph{Name: "test"})
	shape := append(graphs.Shape{graphs.Sym("batch")}, graphs.MakeShape(3, 4, 6)...)
	x, y := b.Input("x", graphs.Float32, shape), b.Input("y", graphs.Float32, shape)
	out := c(b, x, y)
	b.Output("loss", b.Sum(b.Mul(b.Op("Sin", []*graphs.Value{b.Add(out, b.Scalar(out, 1))}), out), false))
	b.Output("used", b.Sum(b.Mul(x, y), false))
	g, err := b.Graph()
	if err != nil {
		return nil, err
	}
	return graphs.NewModel(g), nil
}

// Normals are float32 numbers.
func Normals(r *rand.Rand, dims ...int) *graphs.Tensor {
	t := graphs.NewTensor(graphs.Float32, dims...)
	for i := range t.F32() {
		t.F32()[i] = float32(r.NormFloat64())
	}
	return t
}
