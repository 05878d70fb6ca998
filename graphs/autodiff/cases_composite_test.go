package autodiff

import "ebmrun/graphs"

func init() { cases = append(append(cases, compositeCases...), regionCases...) }

// op builds a node whose later inputs are constants made by more.
func withConsts(op string, more func(b *graphs.Builder) []val, attrs ...*graphs.Attr) func(b *graphs.Builder, x []val) val {
	return func(b *graphs.Builder, x []val) val {
		return b.Op(op, append(append([]val{}, x...), more(b)...), attrs...)
	}
}

// resized is a Resize to the given scales or, if they are nil, sizes.
func resized(scales []float32, sizes []int64, attrs ...*graphs.Attr) func(b *graphs.Builder, x []val) val {
	return func(b *graphs.Builder, x []val) val {
		in := []val{x[0], nil, nil, nil}
		if scales != nil {
			in[2] = b.Const(graphs.Of(scales, len(scales)))
			in = in[:3]
		} else {
			in[3] = b.Ints(sizes...)
		}
		return b.Op("Resize", in, attrs...)
	}
}

func mode(m, coordinates string) []*graphs.Attr {
	return []*graphs.Attr{graphs.S("mode", m), graphs.S("coordinate_transformation_mode", coordinates)}
}

// squared sums the squares of all outputs of a node, so that every one of them counts.
func squared(op string, outputs int, attrs ...*graphs.Attr) func(b *graphs.Builder, x []val) val {
	return func(b *graphs.Builder, x []val) val {
		var sum val
		for _, y := range b.Ops(op, outputs, x, attrs...) {
			s := b.Sum(b.Mul(y, b.Tanh(y)), false)
			if sum == nil {
				sum = s
			} else {
				sum = b.Add(sum, s)
			}
		}
		return sum
	}
}

func strs(name string, v ...string) *graphs.Attr {
	a := &graphs.Attr{Name: name, Kind: graphs.AttrStrings}
	for _, s := range v {
		a.Strings = append(a.Strings, []byte(s))
	}
	return a
}

// recurrent lists the operands of a layer: 3 steps, a batch of 2, 2 inputs, 3 units.
func recurrent(gates, dirs int, more ...arg) []arg {
	unit := func(dims ...int) arg { return in(dims...).within(-0.9, 1) }
	return append([]arg{unit(3, 2, 2), unit(dirs, gates*3, 2), unit(dirs, gates*3, 3), unit(dirs, 2*gates*3)}, more...)
}

// lengths is state with the lengths of the sequences.
func lengths(f func(b *graphs.Builder, x []val) val, n ...int32) func(b *graphs.Builder, x []val) val {
	return func(b *graphs.Builder, x []val) val {
		return f(b, append(append(append([]val{}, x[:4]...), b.Const(graphs.Of(n, len(n)))), x[4:]...))
	}
}

// state makes x[4] the initial state and x[5] that of the cell, after the sequence lengths.
func state(f func(b *graphs.Builder, x []val) val) func(b *graphs.Builder, x []val) val {
	return func(b *graphs.Builder, x []val) val {
		return f(b, append(append(append([]val{}, x[:4]...), nil), x[4:]...))
	}
}

var (
	hidden         = graphs.I("hidden_size", 3)
	compositeCases = []gradCase{
		{"Resize", "nearest, whole copies", []arg{in(1, 2, 3, 2)}, resized([]float32{1, 1, 2, 3}, nil, append(mode("nearest", "asymmetric"), graphs.S("nearest_mode", "floor"))...)},
		{"Resize", "nearest, any size", []arg{in(1, 2, 4, 5)}, resized(nil, []int64{1, 2, 7, 3}, mode("nearest", "half_pixel")...)},
		{"Resize", "nearest, ceil", []arg{in(1, 1, 4, 4)}, resized(nil, []int64{1, 1, 3, 6}, append(mode("nearest", "align_corners"), graphs.S("nearest_mode", "ceil"))...)},
		{"Resize", "linear, half_pixel", []arg{in(1, 2, 3, 4)}, resized([]float32{1, 1, 2, 2}, nil, mode("linear", "half_pixel")...)},
		{"Resize", "linear, align_corners", []arg{in(2, 1, 3, 4)}, resized(nil, []int64{2, 1, 5, 3}, mode("linear", "align_corners")...)},
		{"Resize", "linear, asymmetric", []arg{in(1, 1, 3, 4)}, resized([]float32{1, 1, 1.5, 0.5}, nil, mode("linear", "asymmetric")...)},
		{"Resize", "linear, pytorch_half_pixel", []arg{in(1, 1, 3, 4)}, resized(nil, []int64{1, 1, 1, 7}, mode("linear", "pytorch_half_pixel")...)},
		{"Resize", "linear, antialias", []arg{in(1, 1, 7, 6)}, resized(nil, []int64{1, 1, 3, 4}, append(mode("linear", "half_pixel"), graphs.I("antialias", 1), graphs.I("exclude_outside", 1))...)},
		{"Resize", "linear, 3-D", []arg{in(1, 2, 2, 3, 2)}, resized([]float32{1, 1, 2, 2, 2}, nil, mode("linear", "half_pixel")...)},
		{"Resize", "linear, 1-D, channels too", []arg{in(1, 2, 3)}, resized([]float32{1, 2, 2}, nil, mode("linear", "half_pixel")...)},
		{"Resize", "cubic", []arg{in(1, 1, 4, 5)}, resized([]float32{1, 1, 2, 1.5}, nil, mode("cubic", "half_pixel")...)},
		{"Resize", "cubic, align_corners, outside left out", []arg{in(1, 1, 4, 5)}, resized(nil, []int64{1, 1, 7, 3}, append(mode("cubic", "align_corners"), graphs.I("exclude_outside", 1))...)},
		{"Resize", "crop", []arg{in(1, 1, 4, 5)}, func(b *graphs.Builder, x []val) val {
			roi := b.Const(graphs.Of([]float32{0, 0, 0.2, -0.1, 1, 1, 0.9, 0.7}, 8))
			return b.Op("Resize", []val{x[0], roi, nil, b.Ints(1, 1, 3, 4)}, append(mode("linear", "tf_crop_and_resize"), graphs.F("extrapolation_value", 3))...)
		}},
		{"GridSample", "linear, zeros", []arg{in(2, 2, 3, 4), in(2, 3, 2, 2).within(-1.3, 1.3)}, op1("GridSample", graphs.S("mode", "linear"))},
		{"GridSample", "linear, border, corners", []arg{in(1, 2, 4, 3), in(1, 2, 3, 2).within(-1.4, 1.4)}, op1("GridSample", graphs.S("padding_mode", "border"), graphs.I("align_corners", 1))},
		{"GridSample", "linear, reflection", []arg{in(1, 1, 4, 3), in(1, 2, 3, 2).within(-2.5, 2.5)}, op1("GridSample", graphs.S("padding_mode", "reflection"))},
		{"GridSample", "linear, reflection, corners", []arg{in(1, 1, 4, 3), in(1, 2, 3, 2).within(-2.5, 2.5)}, op1("GridSample", graphs.S("padding_mode", "reflection"), graphs.I("align_corners", 1))},
		{"GridSample", "grid of another type", []arg{in(1, 2, 3, 4), in(1, 2, 2, 2).within(-0.9, 0.9)}, func(b *graphs.Builder, x []val) val {
			return b.Op("GridSample", []val{x[0], b.Cast(x[1], graphs.Float32)}, graphs.S("padding_mode", "border"))
		}},
		{"GridSample", "nearest", []arg{in(1, 2, 3, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Op("GridSample", []val{x[0], f64(b, []int{1, 2, 2, 2}, -0.9, 0.1, 0.35, 0.8, 1.5, 0, 0.6, -0.4)}, graphs.S("mode", "nearest"))
		}},
		{"GridSample", "cubic", []arg{in(1, 1, 4, 5), in(1, 2, 2, 2).within(-0.9, 0.95)}, op1("GridSample", graphs.S("mode", "cubic"), graphs.S("padding_mode", "border"))},
		{"GridSample", "3-D", []arg{in(1, 1, 2, 3, 4), in(1, 1, 2, 2, 3).within(-1.1, 1.2)}, op1("GridSample", graphs.S("mode", "linear"))},
		{"AffineGrid", "2-D", []arg{in(2, 2, 3)}, withConsts("AffineGrid", func(b *graphs.Builder) []val { return []val{b.Ints(2, 1, 3, 4)} })},
		{"AffineGrid", "3-D, corners", []arg{in(1, 3, 4)}, withConsts("AffineGrid", func(b *graphs.Builder) []val { return []val{b.Ints(1, 1, 2, 3, 1)} }, graphs.I("align_corners", 1))},
		{"MaxUnpool", "", []arg{in(1, 1, 2, 2)}, withConsts("MaxUnpool", func(b *graphs.Builder) []val { return []val{i64(b, []int{1, 1, 2, 2}, 1, 2, 9, 15)} }, ai("kernel_shape", 2, 2), ai("strides", 2, 2))},
		{"Col2Im", "", []arg{in(2, 8, 6)}, withConsts("Col2Im", func(b *graphs.Builder) []val { return []val{b.Ints(3, 4), b.Ints(2, 2)} })},
		{"Col2Im", "pads, strides, dilations", []arg{in(1, 4, 6)}, withConsts("Col2Im", func(b *graphs.Builder) []val { return []val{b.Ints(5, 5), b.Ints(2, 2)} }, ai("pads", 0, 1, 1, 0), ai("strides", 2, 1), ai("dilations", 2, 3))},

		{"RNN", "", recurrent(1, 1), squared("RNN", 2, hidden)},
		{"RNN", "two directions, state", recurrent(1, 2, in(2, 2, 3)), state(squared("RNN", 2, hidden, graphs.S("direction", "bidirectional"), strs("activations", "Softsign", "Affine"), graphs.F("alpha", 1)))},
		{"GRU", "", recurrent(3, 1), squared("GRU", 2, hidden)},
		{"GRU", "linear before reset, reverse", recurrent(3, 1, in(1, 2, 3)), state(squared("GRU", 2, hidden, graphs.I("linear_before_reset", 1), graphs.S("direction", "reverse")))},
		{"GRU", "two directions", recurrent(3, 2), squared("GRU", 2, hidden, graphs.S("direction", "bidirectional"), graphs.I("linear_before_reset", 1))},
		{"GRU", "batch first, no bias", []arg{in(2, 3, 2), in(1, 9, 2), in(1, 9, 3)}, squared("GRU", 2, hidden, graphs.I("layout", 1))},
		{"LSTM", "", recurrent(4, 1), squared("LSTM", 3, hidden)},
		{"LSTM", "sequences of different lengths", recurrent(4, 2, in(2, 2, 3), in(2, 2, 3)), lengths(squared("LSTM", 3, hidden, graphs.S("direction", "bidirectional")), 3, 1)},
		{"GRU", "sequences of different lengths, reverse", recurrent(3, 1, in(1, 2, 3)), lengths(squared("GRU", 2, hidden, graphs.S("direction", "reverse")), 2, 3)},
		{"LSTM", "two directions, state", recurrent(4, 2, in(2, 2, 3), in(2, 2, 3)), state(squared("LSTM", 3, hidden, graphs.S("direction", "bidirectional")))},
		{"LSTM", "peepholes, coupled", recurrent(4, 1, in(1, 2, 3), in(1, 2, 3), in(1, 9)), state(squared("LSTM", 3, hidden, graphs.I("input_forget", 1)))},
		{"LSTM", "peepholes, ScaledTanh", recurrent(4, 1, in(1, 2, 3), in(1, 2, 3), in(1, 9)), state(squared("LSTM", 3, hidden, strs("activations", "Sigmoid", "ScaledTanh", "Softplus")))},

		{"Einsum", "matrix product", []arg{in(2, 3), in(3, 4)}, op1("Einsum", graphs.S("equation", "ij,jk->ki"))},
		{"Einsum", "attention", []arg{in(2, 3, 2, 2), in(2, 4, 2, 2)}, op1("Einsum", graphs.S("equation", "bihd,bjhd->bhij"))},
		{"Einsum", "several sums", []arg{in(2, 3, 2), in(3, 2, 4)}, op1("Einsum", graphs.S("equation", "abc,bcd->ad"))},
		{"Einsum", "three operands", []arg{in(2, 3), in(3, 2), in(2)}, op1("Einsum", graphs.S("equation", "ab,bc,c->a"))},
		{"Einsum", "trace", []arg{in(2, 3, 3)}, op1("Einsum", graphs.S("equation", "bii->b"))},
		{"Einsum", "diagonal and sum", []arg{in(3, 2, 3, 2)}, op1("Einsum", graphs.S("equation", "iaib->ai"))},
		{"Einsum", "outer product", []arg{in(2), in(3)}, op1("Einsum", graphs.S("equation", "i,j->ji"))},
		{"Einsum", "implicit output", []arg{in(2, 3), in(2, 3)}, op1("Einsum", graphs.S("equation", "ij,ij"))},
		{"Einsum", "ellipsis", []arg{in(2, 2, 3), in(3, 4)}, op1("Einsum", graphs.S("equation", "...ij,jk->...ik"))},
		{"Einsum", "free sums", []arg{in(2, 3), in(4, 2)}, op1("Einsum", graphs.S("equation", "ab,ca->a"))},

		{"Attention", "4-D", []arg{in(2, 2, 3, 4), in(2, 2, 5, 4), in(2, 2, 5, 3)}, op1("Attention")},
		{"Attention", "3-D, groups, causal", []arg{in(1, 3, 8), in(1, 3, 4), in(1, 3, 4)}, op1("Attention", graphs.I("q_num_heads", 4), graphs.I("kv_num_heads", 2), graphs.I("is_causal", 1), graphs.F("scale", 0.5))},
		{"Attention", "mask", []arg{in(1, 2, 2, 3), in(1, 2, 4, 3), in(1, 2, 4, 2), in(2, 4)}, op1("Attention")},
		{"Attention", "softcap", []arg{in(1, 1, 2, 3), in(1, 1, 4, 3), in(1, 1, 4, 2)}, op1("Attention", graphs.F("softcap", 2))},
		{"Attention", "past, all outputs", []arg{in(1, 1, 2, 3), in(1, 1, 2, 3), in(1, 1, 2, 2), in(1, 1, 3, 3), in(1, 1, 3, 2)}, func(b *graphs.Builder, x []val) val {
			return squared("Attention", 4, graphs.I("is_causal", 1))(b, []val{x[0], x[1], x[2], nil, x[3], x[4]})
		}},
		{"RotaryEmbedding", "halves", []arg{in(1, 2, 3, 4), in(1, 3, 2), in(1, 3, 2)}, op1("RotaryEmbedding")},
		{"RotaryEmbedding", "interleaved, positions, part", []arg{in(2, 3, 12), in(5, 1), in(5, 1)}, withConsts("RotaryEmbedding", func(b *graphs.Builder) []val { return []val{i64(b, []int{2, 3}, 0, 1, 4, 2, 2, 3)} },
			graphs.I("num_heads", 2), graphs.I("interleaved", 1), graphs.I("rotary_embedding_dim", 2))},
		{"DFT", "real, one side", []arg{in(2, 6, 1)}, op1("DFT", graphs.I("onesided", 1))},
		{"DFT", "complex", []arg{in(5, 2)}, op1("DFT")},
		{"DFT", "inverse, longer, axis 0", []arg{in(3, 2, 2)}, withConsts("DFT", func(b *graphs.Builder) []val { return []val{i64(b, []int{}, 5), i64(b, []int{}, 0)} }, graphs.I("inverse", 1))},
		{"DFT", "shorter", []arg{in(2, 7, 1)}, withConsts("DFT", func(b *graphs.Builder) []val { return []val{i64(b, []int{}, 4)} })},
		{"STFT", "window", []arg{in(2, 11, 1), in(4)}, func(b *graphs.Builder, x []val) val {
			return squared("STFT", 1)(b, []val{x[0], i64(b, []int{}, 3), x[1]})
		}},
		{"STFT", "complex, both sides", []arg{in(1, 9, 2)}, func(b *graphs.Builder, x []val) val {
			return squared("STFT", 1, graphs.I("onesided", 0))(b, []val{x[0], i64(b, []int{}, 2), nil, i64(b, []int{}, 5)})
		}},
		{"Det", "1×1", []arg{in(2, 1, 1)}, op1("Det")},
		{"Det", "2×2", []arg{in(2, 2)}, op1("Det")},
		{"Det", "3×3", []arg{in(2, 3, 3)}, op1("Det")},
		{"Det", "4×4", []arg{in(2, 4, 4)}, op1("Det")},
		{"SoftmaxCrossEntropyLoss", "mean", []arg{in(3, 4)}, withConsts("SoftmaxCrossEntropyLoss", func(b *graphs.Builder) []val { return []val{i64(b, []int{3}, 1, 0, 3)} })},
		{"SoftmaxCrossEntropyLoss", "weights, ignored", []arg{in(2, 3, 2), in(3).within(0.5, 2)}, func(b *graphs.Builder, x []val) val {
			return squared("SoftmaxCrossEntropyLoss", 2, graphs.I("ignore_index", -1))(b, []val{x[0], i64(b, []int{2, 2}, 1, -1, 0, 2), x[1]})
		}},
		{"NegativeLogLikelihoodLoss", "none", []arg{in(2, 3, 2)}, withConsts("NegativeLogLikelihoodLoss", func(b *graphs.Builder) []val { return []val{i64(b, []int{2, 2}, 1, 1, 0, 2)} }, graphs.S("reduction", "none"))},
		{"NegativeLogLikelihoodLoss", "sum, ignored", []arg{in(3, 4)}, withConsts("NegativeLogLikelihoodLoss", func(b *graphs.Builder) []val { return []val{i64(b, []int{3}, 1, 2, 3)} }, graphs.S("reduction", "sum"), graphs.I("ignore_index", 2))},
		{"LRN", "", []arg{in(2, 5, 2, 2)}, op1("LRN", graphs.I("size", 3), graphs.F("alpha", 0.5), graphs.F("bias", 1))},
		{"LRN", "even size", []arg{in(1, 4, 3)}, op1("LRN", graphs.I("size", 2), graphs.F("alpha", 0.5))},
		{"LpPool", "2", []arg{in(1, 2, 4, 4)}, op1("LpPool", ai("kernel_shape", 2, 2), ai("strides", 2, 2))},
		{"LpPool", "3, pads", []arg{in(1, 1, 5, 4).away(4)}, op1("LpPool", graphs.I("p", 3), ai("kernel_shape", 3, 2), ai("pads", 1, 0, 1, 1))},
		{"LpPool", "1", []arg{in(1, 1, 5).away(4)}, op1("LpPool", graphs.I("p", 1), ai("kernel_shape", 2))},
		{"GlobalLpPool", "2", []arg{in(2, 2, 3, 2)}, op1("GlobalLpPool")},
		{"GlobalLpPool", "4", []arg{in(2, 2, 3, 2)}, op1("GlobalLpPool", graphs.I("p", 4))},
		{"ReduceProd", "all", []arg{in(3, 5)}, op1("ReduceProd", graphs.I("keepdims", 0))},
		{"ReduceProd", "axis", []arg{in(2, 7, 2)}, withConsts("ReduceProd", func(b *graphs.Builder) []val { return []val{b.Ints(1)} })},
		{"GatherND", "batch", []arg{in(2, 3, 4)}, withConsts("GatherND", func(b *graphs.Builder) []val { return []val{i64(b, []int{2, 2, 1}, 0, 2, -1, 1)} }, graphs.I("batch_dims", 1))},
		{"GatherND", "two batch axes", []arg{in(2, 3, 4)}, withConsts("GatherND", func(b *graphs.Builder) []val { return []val{i64(b, []int{2, 3, 1}, 0, 2, -1, 1, 3, 3)} }, graphs.I("batch_dims", 2))},
		{"GatherND", "slices", []arg{in(3, 4, 2)}, withConsts("GatherND", func(b *graphs.Builder) []val { return []val{i64(b, []int{2, 1}, -1, 1)} })},

		{"ScatterElements", "mul", []arg{in(3, 3), in(2, 3)}, func(b *graphs.Builder, x []val) val {
			return b.Op("ScatterElements", []val{x[0], i64(b, []int{2, 3}, 0, 2, 1, 0, 0, 2), x[1]}, graphs.S("reduction", "mul"))
		}},
		{"ScatterElements", "max", []arg{in(3, 3), in(2, 3)}, func(b *graphs.Builder, x []val) val {
			return b.Op("ScatterElements", []val{x[0], i64(b, []int{2, 3}, 0, 2, 1, 0, 0, 2), x[1]}, graphs.S("reduction", "max"))
		}},
		{"ScatterElements", "min", []arg{in(3, 3), in(3, 2)}, func(b *graphs.Builder, x []val) val {
			return b.Op("ScatterElements", []val{x[0], i64(b, []int{3, 2}, 0, 2, 1, 1, 0, 2), x[1]}, graphs.S("reduction", "min"), graphs.I("axis", 1))
		}},
		{"ScatterND", "mul", []arg{in(3, 4), in(2, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Op("ScatterND", []val{x[0], i64(b, []int{2, 1}, 1, 1), x[1]}, graphs.S("reduction", "mul"))
		}},
		{"ScatterND", "max", []arg{in(3, 4), in(2, 4)}, func(b *graphs.Builder, x []val) val {
			return b.Op("ScatterND", []val{x[0], i64(b, []int{2, 1}, 1, 1), x[1]}, graphs.S("reduction", "max"))
		}},
		{"Shrink", "", []arg{in(6).away(0.5)}, op1("Shrink", graphs.F("lambd", 0.5), graphs.F("bias", 0.25))},
		{"CastLike", "", []arg{in(3), in(1)}, func(b *graphs.Builder, x []val) val {
			return b.Mul(x[1], b.Op("CastLike", []val{x[0], x[1]}))
		}},
		{"OneHot", "values", []arg{in(2)}, func(b *graphs.Builder, x []val) val {
			return b.Op("OneHot", []val{b.Ints(0, 3, 2), i64(b, []int{}, 4), x[0]}, graphs.I("axis", 0))
		}},
		{"Range", "", []arg{in().within(0.1, 0.2), in().within(0.5, 0.55)}, func(b *graphs.Builder, x []val) val {
			return b.Op("Range", []val{x[0], f64(b, []int{}, 2), x[1]})
		}},
		{"Clip", "bounds", []arg{in(6), in().within(-1, -0.5), in().within(0.5, 1)}, op1("Clip")},
		{"DequantizeLinear", "scale", []arg{in(3)}, func(b *graphs.Builder, x []val) val {
			q := b.Const(graphs.Of([]int8{-3, 5, 7, 0, 2, 9}, 2, 3))
			return b.Op("DequantizeLinear", []val{q, x[0], b.Const(graphs.Of([]int8{1, 0, -2}, 3))}, graphs.I("axis", 1))
		}},
		{"Concat", "constants around", []arg{in(2, 3)}, func(b *graphs.Builder, x []val) val {
			c := f64(b, []int{2, 1}, 1, 2)
			return b.Mul(b.Concat(1, c, x[0], c), f64(b, []int{5}, 1, 2, 3, 4, 5))
		}},
		{"Tile", "repeats from a shape", []arg{in(2, 3)}, func(b *graphs.Builder, x []val) val {
			return b.Op("Tile", []val{x[0], b.Shape(x[0])})
		}},
	}
)
