package passes

import (
	"math"
	"slices"

	"ebmrun/graphs"
)

// microsoft is the domain of the ops that ONNX Runtime fuses others into.
const microsoft = "com.microsoft"

// A spelling builds the outputs of a node from ops of ai.onnx, or fails for a form
// that it does not know.
type spelling func(b *graphs.Builder, n *graphs.Node) []*graphs.Value

// contribs are the ops that ONNX Runtime's optimizers leave in the files of networks,
// as its documentation defines them.
var contribs = map[string]spelling{
	"Gelu": func(b *graphs.Builder, n *graphs.Node) []*graphs.Value { return one(b.Op("Gelu", one(n.In(0)))) },
	"BiasGelu": func(b *graphs.Builder, n *graphs.Node) []*graphs.Value {
		return one(b.Op("Gelu", one(b.Add(n.In(0), n.In(1)))))
	},
	"FastGelu": func(b *graphs.Builder, n *graphs.Node) []*graphs.Value {
		return one(b.Op("Gelu", one(plus(b, n.In(0), n.In(1))), graphs.S("approximate", "tanh")))
	},
	"QuickGelu": func(b *graphs.Builder, n *graphs.Node) []*graphs.Value {
		x := n.In(0)
		return one(b.Mul(x, b.Sigmoid(b.Scale(x, n.Float("alpha", 1.702)))))
	},
	"BiasAdd": func(b *graphs.Builder, n *graphs.Node) []*graphs.Value {
		return one(b.Add(b.Add(n.In(0), n.In(1)), n.In(2)))
	},
	"BiasSplitGelu": func(b *graphs.Builder, n *graphs.Node) []*graphs.Value {
		half := b.Ops("Split", 2, one(b.Add(n.In(0), n.In(1))), graphs.I("axis", -1), graphs.I("num_outputs", 2))
		return one(b.Mul(half[0], b.Op("Gelu", one(half[1]))))
	},
	"FusedConv":                        spellFusedConv,
	"FusedGemm":                        spellFusedGemm,
	"FusedMatMul":                      spellFusedMatMul,
	"SkipLayerNormalization":           spellSkipNorm,
	"SkipSimplifiedLayerNormalization": spellSkipNorm,
	"SimplifiedLayerNormalization":     spellSimplifiedNorm,
	"Attention":                        spellAttention,
	"MultiHeadAttention":               spellAttention,
	"NhwcConv":                         spellNHWCConv,
	"GroupNorm":                        spellGroupNorm,
	"SkipGroupNorm":                    spellGroupNorm,
}

func one(v ...*graphs.Value) []*graphs.Value { return v }

// plus adds what is there.
func plus(b *graphs.Builder, x *graphs.Value, more ...*graphs.Value) *graphs.Value {
	for _, y := range more {
		if y != nil {
			x = b.Add(x, y)
		}
	}
	return x
}

// contribOf is the spelling of a node, nil if it has none.
func contribOf(n *graphs.Node) spelling {
	if n.Domain == microsoft || n.Domain == "" && n.Op == "SimplifiedLayerNormalization" {
		return contribs[n.Op]
	}
	return nil
}

// spell replaces a node by its spelling and reports whether it could: a form that the
// spelling does not know, and any in a function, where values have no types, stays.
func (r *raiser) spell(n *graphs.Node) (bool, error) {
	spelling := contribOf(n)
	if spelling == nil || r.function || n.In(0) == nil {
		return false, nil
	}
	b := graphs.NewBuilder(&graphs.Graph{})
	b.Prefix(n.Label())
	made := spelling(b, n)
	for i, o := range n.Outputs {
		if o != nil && (i >= len(made) || made[i] == nil) {
			return false, nil
		}
	}
	if b.Err() != nil {
		return false, nil
	}
	for _, v := range b.Target().Inits {
		v.Name = r.root.Fresh(v.Name)
	}
	for _, m := range b.Target().Nodes {
		m.Name = r.root.Fresh(m.Name)
		for _, v := range m.Outputs {
			v.Name = r.root.Fresh(v.Name)
		}
	}
	r.g.Inits = append(r.g.Inits, b.Target().Inits...)
	r.out = append(r.out, b.Target().Nodes...)
	for i, o := range n.Outputs {
		if o == nil {
			continue
		}
		m := &graphs.Node{Name: r.root.Fresh(n.Label()), Op: "Identity", Inputs: one(made[i]), Outputs: one(o)}
		o.From = m
		if err := r.add(m); err != nil {
			return false, err
		}
	}
	return true, nil
}

// others are a node's attributes without the named ones.
func others(n *graphs.Node, names ...string) []*graphs.Attr {
	return slices.DeleteFunc(slices.Clone(n.Attrs), func(a *graphs.Attr) bool { return slices.Contains(names, a.Name) })
}

// activate applies the activation of a fused node.
func activate(b *graphs.Builder, x *graphs.Value, op string, params []float32) *graphs.Value {
	p := func(i int, otherwise float64) float64 {
		if i < len(params) {
			return float64(params[i])
		}
		return otherwise
	}
	switch op {
	case "":
		return x
	case "Relu", "Tanh", "Sigmoid", "Softplus", "Softsign", "HardSwish":
		return b.Op(op, one(x))
	case "LeakyRelu":
		return b.Op(op, one(x), graphs.F("alpha", p(0, 0.01)))
	case "Elu", "ThresholdedRelu":
		return b.Op(op, one(x), graphs.F("alpha", p(0, 1)))
	case "HardSigmoid":
		return b.Op(op, one(x), graphs.F("alpha", p(0, 0.2)), graphs.F("beta", p(1, 0.5)))
	case "Clip":
		if len(params) == 2 {
			return b.Op(op, []*graphs.Value{x, b.Scalar(x, p(0, 0)), b.Scalar(x, p(1, 0))})
		}
	}
	return b.Fail("activation %q with %d parameters", op, len(params))
}

func spellFusedConv(b *graphs.Builder, n *graphs.Node) []*graphs.Value {
	var params []float32
	if a := n.Attr("activation_params"); a != nil {
		params = a.Floats
	}
	y := b.Op("Conv", []*graphs.Value{n.In(0), n.In(1), n.In(2)}[:min(3, len(n.Inputs))], others(n, "activation", "activation_params")...)
	return one(activate(b, plus(b, y, n.In(3)), n.Str("activation", ""), params))
}

func spellFusedGemm(b *graphs.Builder, n *graphs.Node) []*graphs.Value {
	var params []float32
	for _, name := range []string{"activation_alpha", "activation_beta"} {
		if a := n.Attr(name); a != nil {
			params = append(params, a.F)
		}
	}
	y := b.Op("Gemm", n.Inputs, others(n, "activation", "activation_alpha", "activation_beta", "activation_gamma")...)
	return one(activate(b, y, n.Str("activation", ""), params))
}

// spellFusedMatMul: the last two axes of a factor may be exchanged, and before that
// the first axis moved behind the others but the last.
func spellFusedMatMul(b *graphs.Builder, n *graphs.Node) []*graphs.Value {
	factor := func(x *graphs.Value, swap, batch string) *graphs.Value {
		s, t := n.Int(swap, 0) != 0, n.Int(batch, 0) != 0
		if !s && !t || x.Rank() == 1 {
			return x
		}
		if x.Rank() < 0 {
			return b.Fail("the rank of %s is not known", x)
		}
		perm := make([]int64, x.Rank())
		for i := range perm {
			perm[i] = int64(i)
		}
		last := len(perm) - 1
		if t {
			perm = append(append(slices.Clone(perm[1:last]), 0), int64(last))
		}
		if s {
			perm[last], perm[last-1] = perm[last-1], perm[last]
		}
		return b.Transpose(x, perm...)
	}
	y := b.MatMul(factor(n.In(0), "transA", "transBatchA"), factor(n.In(1), "transB", "transBatchB"))
	return one(b.Scale(y, n.Float("alpha", 1)))
}

func spellSimplifiedNorm(b *graphs.Builder, n *graphs.Node) []*graphs.Value {
	x, axis := n.In(0), n.Int("axis", -1)
	if axis != -1 && axis != int64(x.Rank()-1) {
		b.Fail("axis %d", axis)
		return nil
	}
	return one(rms(b, x, n.In(1), n.Float("epsilon", 1e-5)))
}

func rms(b *graphs.Builder, x, scale *graphs.Value, eps float64) *graphs.Value {
	v := b.Mean(b.Mul(x, x), true, -1)
	return b.Mul(b.Div(x, b.Sqrt(b.Add(v, b.Scalar(x, eps)))), scale)
}

func spellSkipNorm(b *graphs.Builder, n *graphs.Node) []*graphs.Value {
	eps := n.Float("epsilon", 1e-12)
	if n.Op == "SkipSimplifiedLayerNormalization" {
		sum := plus(b, n.In(0), n.In(1), n.In(3))
		return []*graphs.Value{rms(b, sum, n.In(2), eps), nil, nil, sum}
	}
	sum := plus(b, n.In(0), n.In(1), n.In(4))
	in := []*graphs.Value{sum, n.In(2), n.In(3)}
	if in[2] == nil {
		in = in[:2]
	}
	y := b.Op("LayerNormalization", in, graphs.I("axis", -1), graphs.F("epsilon", eps))
	return []*graphs.Value{y, nil, nil, sum}
}

// spellAttention is scaled dot-product attention of several heads, of x [batch, places,
// channels] and a matrix for its queries, keys and values, or of these three.
func spellAttention(b *graphs.Builder, n *graphs.Node) []*graphs.Value {
	heads := n.Int("num_heads", 0)
	var q, k, v, mask, bias *graphs.Value
	known := 0 // inputs that are understood
	if n.Op == "Attention" {
		w := n.In(1)
		sizes := n.Ints("qkv_hidden_sizes")
		if sizes == nil {
			if w == nil || len(w.Shape) != 2 || !w.Shape[1].Known() {
				b.Fail("weights of unknown size")
				return nil
			}
			third := w.Shape[1].N / 3
			sizes = []int64{third, third, third}
		}
		parts := b.Ops("Split", 3, []*graphs.Value{plus(b, b.MatMul(n.In(0), w), n.In(2)), b.Ints(sizes...)}, graphs.I("axis", -1))
		q, k, v, mask, bias, known = parts[0], parts[1], parts[2], n.In(3), n.In(5), 6
		if n.In(4) != nil || n.Int("do_rotary", 0) != 0 {
			b.Fail("a past or rotary places")
		}
	} else {
		q, k, v, mask, bias, known = n.In(0), n.In(1), n.In(2), n.In(4), n.In(5), 6
		if k == nil || v == nil || k.Rank() != 3 || v.Rank() != 3 {
			b.Fail("packed queries, keys and values")
			return nil
		}
		if at := n.In(3); at != nil { // a bias of all three
			if !q.Shape[len(q.Shape)-1].Known() || !v.Shape[len(v.Shape)-1].Known() {
				b.Fail("a bias of unknown sizes")
				return nil
			}
			d, e := q.Shape[len(q.Shape)-1].N, v.Shape[len(v.Shape)-1].N
			parts := b.Ops("Split", 3, []*graphs.Value{at, b.Ints(d, d, e)}, graphs.I("axis", 0))
			q, k, v = b.Add(q, parts[0]), b.Add(k, parts[1]), b.Add(v, parts[2])
		}
	}
	for i := known; i < len(n.Inputs); i++ {
		if n.In(i) != nil {
			b.Fail("input %d", i)
		}
	}
	if b.Err() != nil || heads <= 0 || q.Rank() != 3 || !q.Shape[2].Known() {
		b.Fail("queries %v of %d heads", q, heads)
		return nil
	}
	split := func(x *graphs.Value) *graphs.Value {
		return b.Transpose(b.ReshapeTo(x, 0, 0, heads, -1), 0, 2, 1, 3)
	}
	scale := n.Float("scale", 0)
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(q.Shape[2].N/heads))
	}
	s := b.Scale(b.MatMul(split(q), b.Transpose(split(k), 0, 1, 3, 2)), scale)
	low := b.Scalar(s, n.Float("mask_filter_value", -10000))
	if mask != nil { // 1 for a key that is seen, [batch, keys]
		if mask.Rank() != 2 {
			b.Fail("a mask of rank %d", mask.Rank())
		}
		s = b.Add(s, b.Unsqueeze(b.Where(b.Equal(mask, b.Scalar(mask, 0)), low, b.Scalar(s, 0)), 1, 2))
	}
	s = plus(b, s, bias)
	if n.Int("unidirectional", 0) != 0 {
		seen := b.Op("Trilu", one(b.Op("ConstantOfShape", one(b.Slice(b.Shape(s), []int64{2}, []int64{4}, []int64{0}, nil)), graphs.T("value", graphs.Of([]int64{1}, 1)))), graphs.I("upper", 0))
		s = b.Where(b.Cast(seen, graphs.Bool), s, b.Scalar(s, math.Inf(-1)))
	}
	y := b.MatMul(b.Op("Softmax", one(s), graphs.I("axis", -1)), split(v))
	return one(b.ReshapeTo(b.Transpose(y, 0, 2, 1, 3), 0, 0, -1))
}

// spellNHWCConv is a convolution of channels last: of data [batch, height, width,
// channels] and kernels [out, height, width, channels].
func spellNHWCConv(b *graphs.Builder, n *graphs.Node) []*graphs.Value {
	in := []*graphs.Value{b.Transpose(n.In(0), 0, 3, 1, 2), b.Transpose(n.In(1), 0, 3, 1, 2)}
	if n.In(2) != nil {
		in = append(in, n.In(2))
	}
	return one(b.Transpose(b.Op("Conv", in, n.Attrs...), 0, 2, 3, 1))
}

// spellGroupNorm normalizes groups of channels, of a sum if there is a skip, with a
// sigmoid-weighted unit behind it if asked for.
func spellGroupNorm(b *graphs.Builder, n *graphs.Node) []*graphs.Value {
	x, sum := n.In(0), n.In(0)
	if n.Op == "SkipGroupNorm" {
		sum = plus(b, x, n.In(3), n.In(4))
	}
	last := n.Int("channels_last", 1) != 0
	x = sum
	if last {
		x = b.Transpose(x, 0, 3, 1, 2)
	}
	y := b.Op("GroupNormalization", []*graphs.Value{x, b.Cast(n.In(1), x.Type), b.Cast(n.In(2), x.Type)}, graphs.I("num_groups", n.Int("groups", 1)), graphs.F("epsilon", n.Float("epsilon", 1e-5)))
	if n.Int("activation", 0) != 0 {
		y = b.Mul(y, b.Sigmoid(y))
	}
	if last {
		y = b.Transpose(y, 0, 2, 3, 1)
	}
	return []*graphs.Value{y, sum}
}
