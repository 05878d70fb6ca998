package orttraining

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
)

type build func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value

// op is a case with one op on x [batch, 3, 4, 6] and attributes.
func op(name string, attrs ...*graphs.Attr) build {
	return func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
		return b.Op(name, []*graphs.Value{x}, attrs...)
	}
}

// positive puts exp before it.
func positive(f build) build {
	return func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value { return f(b, b.Exp(x), b.Exp(y)) }
}

func two(name string) build {
	return func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value {
		return b.Op(name, []*graphs.Value{x, y})
	}
}

// over reduces the last axis.
func over(name string) build {
	return func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
		return b.Op(name, []*graphs.Value{x, b.Ints(3)}, graphs.I("keepdims", 1))
	}
}

// with gives further inputs, constants in the order given.
func given(name string, more func(b *graphs.Builder) []*graphs.Value, attrs ...*graphs.Attr) build {
	return func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
		return b.Op(name, append([]*graphs.Value{x}, more(b)...), attrs...)
	}
}

func weight(r *rand.Rand, name string, dims ...int) func(b *graphs.Builder) *graphs.Value {
	t := noise(r, dims...)
	return func(b *graphs.Builder) *graphs.Value { return b.Weight(name, t) }
}

// ops is a case for each op that energies, generators, flows and usual backbones
// are made of.
func ops(r *rand.Rand) map[string]build {
	f := func(v ...float32) *graphs.Tensor { return graphs.Of(v, len(v)) }
	w, bias, scale := weight(r, "w", 2, 3, 3, 3), weight(r, "b", 2), weight(r, "s", 3)
	is := graphs.IntsAttr
	all := map[string]build{
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
			return b.Op("Gemm", []*graphs.Value{b.ReshapeTo(x, -1, 6), b.Weight("w", noise(r, 6, 5)), b.Weight("b", noise(r, 5))})
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
			return b.Op("Conv", []*graphs.Value{x, b.Weight("w", noise(r, 3, 1, 3, 3))}, is("kernel_shape", 3, 3), graphs.I("group", 3))
		},
		"BatchNormalization": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("BatchNormalization", []*graphs.Value{x, scale(b), b.Weight("b", noise(r, 3)), b.Const(f(0.1, 0.2, 0.3)), b.Const(f(1, 2, 3))})
		},
		"InstanceNormalization": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("InstanceNormalization", []*graphs.Value{x, scale(b), b.Weight("b", noise(r, 3))})
		},
		"LayerNormalization": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("LayerNormalization", []*graphs.Value{x, b.Weight("s", noise(r, 6)), b.Weight("b", noise(r, 6))})
		},
		"GroupNormalization": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("GroupNormalization", []*graphs.Value{x, scale(b), b.Weight("b", noise(r, 3))}, graphs.I("num_groups", 3))
		},
		"PRelu": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("PRelu", []*graphs.Value{x, b.Weight("w", noise(r, 3, 1, 1))})
		},
		"MaxPool": op("MaxPool", is("kernel_shape", 2, 2), is("strides", 2, 2)), "AveragePool": op("AveragePool", is("kernel_shape", 2, 2), is("strides", 2, 2)),
		"Resize, linear": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("Resize", []*graphs.Value{x, nil, b.Const(f(1, 1, 2, 2))}, graphs.S("mode", "linear"))
		},
		"Resize, nearest": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("Resize", []*graphs.Value{x, nil, b.Const(f(1, 1, 2, 2))}, graphs.S("mode", "nearest"))
		},
		"ConvTranspose": func(b *graphs.Builder, x, _ *graphs.Value) *graphs.Value {
			return b.Op("ConvTranspose", []*graphs.Value{x, b.Weight("w", noise(r, 3, 2, 4, 4))}, is("kernel_shape", 4, 4), is("strides", 2, 2), is("pads", 1, 1, 1, 1))
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

// theirGaps are the ops above that ONNX Runtime 1.19.2 refuses to differentiate
// on the CPU; ours differentiates all of them.
var theirGaps = strings.Fields(`Atan BatchNormalization Celu CumSum DepthToSpace Einsum Elu GroupNormalization HardSigmoid HardSwish
	InstanceNormalization LRN LayerNormalization Mish PRelu Pad/reflect ReduceL1 ReduceMax ReduceProd ReduceSumSquare Resize/linear Selu
	Sinh Softplus Softsign SpaceToDepth ThresholdedRelu`)

// TestOps compares both sources op by op, and holds the list of what theirs lacks.
func TestOps(t *testing.T) {
	e := open(t)
	r := rand.New(rand.NewPCG(7, 8))
	all := ops(r)
	var names, gaps []string
	for name := range all {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		b := graphs.NewBuilder(&graphs.Graph{Name: "test"})
		shape := append(graphs.Shape{graphs.Sym("batch")}, graphs.MakeShape(3, 4, 6)...)
		x, y := b.Input("x", graphs.Float32, shape), b.Input("y", graphs.Float32, shape)
		out := all[name](b, x, y)
		b.Output("loss", b.Sum(b.Mul(b.Op("Sin", []*graphs.Value{b.Add(out, b.Scalar(out, 1))}), out), false))
		b.Output("used", b.Sum(b.Mul(x, y), false))
		g, err := b.Graph()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m := graphs.NewModel(g)
		wrt := append([]string{"x"}, weightsOf(g)...)
		if _, err := e.Gradient(t.Context(), m, "loss", wrt...); err != nil {
			gaps = append(gaps, strings.ReplaceAll(name, ", ", "/"))
			continue
		}
		t.Run(name, func(t *testing.T) {
			compare(t, e, parity{name, m, wrt, []*graphs.Tensor{noise(r, 2, 3, 4, 6), noise(r, 2, 3, 4, 6)}})
		})
	}
	if !slices.Equal(gaps, theirGaps) {
		t.Errorf("theirs refused\n%s\nwanted\n%s", strings.Join(gaps, " "), strings.Join(theirGaps, " "))
	}
	t.Logf("%d cases, %d refused", len(names), len(gaps))
}

// TestZoo compares both sources on every energy and generator with a name, in the
// input and in all weights.
func TestZoo(t *testing.T) {
	if testing.Short() {
		t.Skip("every network of the tables")
	}
	e := open(t)
	sizes := [][]int{{2}, {1, 4, 4}, {1, 7, 7}, {1, 16, 16}, {1, 28, 28}, {3, 32, 32}, {3, 64, 64}, {3, 110, 110}, {3, 224, 224}, {16, 3}, {1, 16, 16, 16}, {1, 32, 32, 32}, {1, 24, 32, 32}}
	var table []string
	var r *rand.Rand // begun anew for each network, so that their order does not matter
	zoo := func(kind, name string, build func(dims []int) (parity, error)) {
		r = rand.New(rand.NewPCG(9, 10))
		for _, dims := range sizes {
			c, err := build(dims)
			if err != nil {
				continue // not its size
			}
			t.Run(kind+"/"+name, func(t *testing.T) {
				_, err := e.Gradient(t.Context(), c.m, "loss", c.wrt...)
				if errors.Is(err, ErrNoGradient) {
					table = append(table, fmt.Sprintf("%s %s: %v", kind, name, err))
					return
				}
				compare(t, e, c)
			})
			return
		}
		t.Errorf("%s %s takes none of the sizes", kind, name)
	}
	for name := range energy.Nets {
		zoo("energy", name, func(dims []int) (parity, error) {
			spec, err := energy.ByName(name)
			if err != nil {
				return parity{}, err
			}
			m, err := energy.Build(spec, dims, 1, 7)
			if err != nil {
				return parity{}, err
			}
			names := append([]string{onnxmodels.X}, weightsOf(m.Graph)...)
			loss(t, m.Model, onnxmodels.Energy)
			return parity{name, m.Model, names, []*graphs.Tensor{noise(r, append([]int{1}, dims...)...)}}, nil
		})
	}
	for name := range generator.Nets {
		zoo("generator", name, func(dims []int) (parity, error) {
			spec, err := generator.ByName(name)
			if err != nil {
				return parity{}, err
			}
			m, err := generator.Build(spec, dims, 7)
			if err != nil {
				return parity{}, err
			}
			names := append([]string{generator.Z}, weightsOf(m.Graph)...)
			loss(t, m.Model, generator.X)
			return parity{name, m.Model, names, []*graphs.Tensor{noise(r, 1, m.Codes)}}, nil
		})
	}
	sort.Strings(table)
	t.Logf("refused by theirs:\n%s", strings.Join(table, "\n"))
}
