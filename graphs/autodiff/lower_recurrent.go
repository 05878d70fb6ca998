package autodiff

import (
	"fmt"
	"math"

	"ebmrun/graphs"
)

// maxSteps bounds the length of the sequences and loops that are unrolled.
const maxSteps = 1024

func recurrentLowerings() map[string]Lowering {
	return map[string]Lowering{"RNN": lowerRecurrent, "GRU": lowerRecurrent, "LSTM": lowerRecurrent}
}

// lowerRecurrent unrolls a layer over its sequence, or makes a Loop over one of unknown
// or differing length. The input's part of all gates is one product for the whole sequence.
func lowerRecurrent(b *graphs.Builder, n *graphs.Node) []val {
	fail := func(format string, args ...any) []val {
		b.Fail(format, args...)
		return nil
	}
	x, w, r := n.In(0), n.In(1), n.In(2)
	if x.Shape == nil || w.Shape == nil || r.Shape == nil || !r.Shape[2].Known() || !w.Shape[0].Known() {
		return fail("the shapes of input and weights must be known")
	}
	batchFirst := n.Int("layout", 0) != 0
	if batchFirst {
		x = b.Transpose(x, 1, 0, 2)
	}
	if b.Err() != nil {
		return nil
	}
	time, hidden, dirs := x.Shape[0], r.Shape[2].N, int(w.Shape[0].N)
	lengths := n.In(4)
	if lengths != nil {
		v, whole := graphs.ConstInts(lengths)
		for _, k := range v {
			whole = whole && k == time.N
		}
		if whole {
			lengths = nil
		}
	}
	looped := lengths != nil || !time.Known() || time.N < 1 || time.N > maxSteps
	acts, err := graphs.RecurrentActivations(n, dirs)
	if err != nil {
		return fail("%w", err)
	}
	// row d of an operand with a direction axis in front
	of := func(v val, d int) val { return b.Gather(v, b.Const(graphs.Of([]int64{int64(d)})), 0) }
	state := func(i, d int) val {
		if v := n.In(i); v != nil {
			if batchFirst {
				return b.Gather(v, b.Const(graphs.Of([]int64{int64(d)})), 1)
			}
			return of(v, d)
		}
		one, err := graphs.FromFloats(x.Type, []float64{0}, 1)
		if err != nil {
			return b.Fail("%w", err)
		}
		return b.Op("ConstantOfShape", []val{b.Concat(0, size(b, x, 1), b.Ints(hidden))}, graphs.T("value", one))
	}
	var ys, hs, cs []val // one a direction
	for d := range dirs {
		gates := graphs.RecurrentGates(n.Op)
		k := &recurrentCell{b: b, n: n, acts: acts[d*len(acts)/dirs : (d+1)*len(acts)/dirs], gates: gates, hidden: hidden, r: b.Transpose(of(r, d), 1, 0)}
		in := b.MatMul(x, b.Transpose(of(w, d), 1, 0))
		if bias := n.In(3); bias != nil {
			parts := b.Ops("Split", 2, []val{of(bias, d)}, graphs.I("axis", 0), graphs.I("num_outputs", 2))
			in = b.Add(in, parts[0])
			k.bias = parts[1]
			if n.Op != "GRU" || n.Int("linear_before_reset", 0) == 0 {
				in, k.bias = b.Add(in, parts[1]), nil
			}
		}
		if n.Op == "LSTM" && n.In(7) != nil {
			k.peep = b.Ops("Split", 3, []val{of(n.In(7), d)}, graphs.I("axis", 0), graphs.I("num_outputs", 3))
		}
		h, c := state(5, d), val(nil)
		if n.Op == "LSTM" {
			c = state(6, d)
		}
		k.prepare()
		if b.Err() != nil {
			return nil
		}
		back := d == 1 || n.Str("direction", "forward") == "reverse"
		if looped {
			var y val
			y, h, c = k.loop(in, h, c, lengths, back)
			ys, hs = append(ys, b.Unsqueeze(y, 1)), append(hs, b.Unsqueeze(h, 0))
			if c != nil {
				cs = append(cs, b.Unsqueeze(c, 0))
			}
			continue
		}
		steps := []val{in}
		if time.N > 1 {
			steps = b.Ops("Split", int(time.N), []val{in}, graphs.I("axis", 0), graphs.I("num_outputs", time.N))
		}
		out := make([]val, time.N)
		for i := range out {
			t := i
			if back {
				t = len(out) - 1 - i
			}
			h, c = k.step(b.Squeeze(steps[t], 0), h, c)
			out[t] = b.Unsqueeze(h, 0)
		}
		ys = append(ys, b.Unsqueeze(b.Concat(0, out...), 1))
		hs = append(hs, b.Unsqueeze(h, 0))
		if c != nil {
			cs = append(cs, b.Unsqueeze(c, 0))
		}
	}
	outs := make([]val, len(n.Outputs))
	for i, v := range [][]val{ys, hs, cs} {
		if n.Out(i) == nil {
			continue
		}
		axis := int64(0)
		if i == 0 {
			axis = 1
		}
		outs[i] = b.Concat(axis, v...)
		if batchFirst && i == 0 {
			outs[i] = b.Transpose(outs[i], 2, 0, 1, 3)
		} else if batchFirst {
			outs[i] = b.Transpose(outs[i], 1, 0, 2)
		}
	}
	return outs
}

// A recurrentCell is one direction of a layer.
type recurrentCell struct {
	b       *graphs.Builder
	n       *graphs.Node
	acts    []graphs.RecurrentActivation
	gates   int
	hidden  int64
	r       val   // [hidden, gates·hidden]
	rzr, rh val   // its parts for a GRU's gates and candidate
	bias    val   // of the state's part, where it is kept apart
	peep    []val // weights from the cell state: input, output, forget
}

// loop runs the cell as a Loop over in, the inputs' part of the gates [time, batch, …],
// and returns all states [time, batch, hidden] and the last ones. Beyond the length of
// a sequence its state stays as it is, and the states given out are 0.
func (k *recurrentCell) loop(in, h, c, lengths val, back bool) (y, last, cell val) {
	b := k.b
	if b.Err() != nil {
		return h, h, c
	}
	batch := graphs.Shape{in.Shape[1], graphs.Dim{N: k.hidden}}
	g := &graphs.Graph{Name: k.n.Label()}
	inner := graphs.NewBuilder(g)
	pass, going := inner.Input("pass", graphs.Int64, graphs.Shape{}), inner.Input("going", graphs.Bool, graphs.Shape{})
	one := b.Const(graphs.Of([]int64{1}))
	count := b.Squeeze(size(b, in, 0), 0)
	if back {
		count = b.Identity(count)
		pass = inner.Sub(b.Sub(count, one), pass)
	}
	start, state := []val{h}, []val{inner.Input("h", h.Type, batch), nil}
	if c != nil {
		start, state[1] = append(start, c), inner.Input("c", c.Type, batch)
	}
	for _, v := range start {
		v.Shape = batch
	}
	inside := *k
	inside.b = inner
	next := make([]val, 2)
	next[0], next[1] = inside.step(inner.Gather(in, pass, 0), state[0], state[1])
	y = next[0]
	if lengths != nil {
		live := inner.Unsqueeze(inner.Less(pass, b.Cast(lengths, graphs.Int64)), 1)
		y = inner.Where(live, y, inner.Scalar(y, 0))
		for i := range start {
			next[i] = inner.Where(live, next[i], state[i])
		}
	}
	g.Outputs = append([]val{inner.Identity(going)}, next[:len(start)]...)
	g.Outputs = append(g.Outputs, inner.Identity(y))
	if inner.Err() != nil {
		return b.Fail("%w", inner.Err()), h, c
	}
	name := b.Target().Fresh(k.n.Label() + "/Loop")
	renameAll(g, func(s string) string { return b.Target().Fresh(name + "/" + s) })
	m := &graphs.Node{Name: name, Op: "Loop", Inputs: append([]val{count, nil}, start...), Attrs: []*graphs.Attr{graphs.G("body", g)}}
	for i := range len(start) + 1 {
		m.Outputs = append(m.Outputs, &graphs.Value{Name: b.Target().Fresh(fmt.Sprintf("%s:%d", name, i)), Type: h.Type, Shape: batch, From: m})
	}
	y = m.Outputs[len(start)]
	y.Shape = append(graphs.Shape{in.Shape[0]}, batch...)
	b.Append(m, graphs.OpsetVersion)
	if back {
		y = b.Slice(y, []int64{-1}, []int64{math.MinInt64}, []int64{0}, []int64{-1})
	}
	if c != nil {
		cell = m.Outputs[1]
	}
	return y, m.Outputs[0], cell
}

// prepare splits what does not change from step to step.
func (k *recurrentCell) prepare() {
	if k.n.Op == "GRU" && k.n.Int("linear_before_reset", 0) == 0 {
		b, h := k.b, k.hidden
		parts := b.Ops("Split", 2, []val{k.r, b.Ints(2*h, h)}, graphs.I("axis", 1))
		k.rzr, k.rh = parts[0], parts[1]
	}
}

func (k *recurrentCell) parts(v val, n int) []val {
	if n == 1 {
		return []val{v}
	}
	return k.b.Ops("Split", n, []val{v}, graphs.I("axis", -1), graphs.I("num_outputs", int64(n)))
}

// act applies the cell's function number i, to clipped values if there is a bound.
func (k *recurrentCell) act(i int, x val) val {
	b, a := k.b, k.acts[i]
	if c := k.n.Float("clip", math.Inf(1)); !math.IsInf(c, 1) {
		x = b.Op("Clip", []val{x, b.Scalar(x, -c), b.Scalar(x, c)})
	}
	switch a.Name {
	case "Sigmoid", "Tanh", "Relu", "Softsign", "Softplus":
		return b.Op(a.Name, []val{x})
	case "LeakyRelu", "ThresholdedRelu", "Elu":
		return b.Op(a.Name, []val{x}, graphs.F("alpha", a.Alpha))
	case "HardSigmoid":
		return hardSigmoid(b, x, a.Alpha, a.Beta)
	case "Affine":
		return b.Add(b.Scale(x, a.Alpha), b.Scalar(x, a.Beta))
	case "ScaledTanh":
		return b.Scale(b.Tanh(b.Scale(x, a.Beta)), a.Alpha)
	}
	return b.Fail("%w for activation %q", ErrNoRule, a.Name)
}

// step maps the input's part of the gates and the state to the next state.
func (k *recurrentCell) step(x, h, c val) (val, val) {
	b := k.b
	switch k.n.Op {
	case "RNN":
		return k.act(0, b.Add(x, b.MatMul(h, k.r))), nil
	case "GRU":
		return k.gru(x, h), nil
	}
	g := k.parts(b.Add(x, b.MatMul(h, k.r)), 4) // input, output, forget, cell
	if b.Err() != nil {
		return h, c
	}
	peep := func(v, c val, i int) val {
		if k.peep == nil {
			return v
		}
		return b.Add(v, b.Mul(c, k.peep[i]))
	}
	in := k.act(0, peep(g[0], c, 0))
	var forget val
	if k.n.Int("input_forget", 0) != 0 {
		forget = b.Sub(b.Scalar(in, 1), in)
	} else {
		forget = k.act(0, peep(g[2], c, 2))
	}
	c = b.Add(b.Mul(forget, c), b.Mul(in, k.act(1, g[3])))
	out := k.act(0, peep(g[1], c, 1))
	return b.Mul(out, k.act(2, c)), c
}

// gru: z and r are gates, h' the candidate: h ← (1−z)·h' + z·h = h' + z·(h − h').
func (k *recurrentCell) gru(x, h val) val {
	b := k.b
	var z, cand val
	if k.n.Int("linear_before_reset", 0) != 0 {
		s := b.MatMul(h, k.r)
		if k.bias != nil {
			s = b.Add(s, k.bias)
		}
		gx, gs := k.parts(x, 3), k.parts(s, 3)
		z = k.act(0, b.Add(gx[0], gs[0]))
		cand = k.act(1, b.Add(gx[2], b.Mul(k.act(0, b.Add(gx[1], gs[1])), gs[2])))
	} else {
		gx := b.Ops("Split", 2, []val{x, b.Ints(2*k.hidden, k.hidden)}, graphs.I("axis", -1))
		g := k.parts(k.act(0, b.Add(gx[0], b.MatMul(h, k.rzr))), 2)
		z = g[0]
		cand = k.act(1, b.Add(gx[1], b.MatMul(b.Mul(g[1], h), k.rh)))
	}
	return b.Add(cand, b.Mul(z, b.Sub(h, cand)))
}
