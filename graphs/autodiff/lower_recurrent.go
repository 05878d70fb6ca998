package autodiff

import (
	"errors"
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
	l, err := newRecurrentLayer(b, n)
	if err != nil {
		b.Fail("%w", err)
		return nil
	}
	var made [3][]val // states, and last states and cells, one a direction
	for d := range l.dirs {
		k, in := l.cell(d)
		h, c := l.state(5, d), val(nil)
		if n.Op == "LSTM" {
			c = l.state(6, d)
		}
		if b.Err() != nil {
			return nil
		}
		run, back := k.unroll, d == 1 || n.Str("direction", "forward") == "reverse"
		if l.looped {
			run = k.loop
		}
		y, h, c := run(in, h, c, back)
		made[0], made[1] = append(made[0], b.Unsqueeze(y, 1)), append(made[1], b.Unsqueeze(h, 0))
		if c != nil {
			made[2] = append(made[2], b.Unsqueeze(c, 0))
		}
	}
	outs := make([]val, len(n.Outputs))
	for i, perm := range [][]int64{{2, 0, 1, 3}, {1, 0, 2}, {1, 0, 2}} {
		if n.Out(i) == nil {
			continue
		}
		outs[i] = b.Concat(int64(len(perm)-3), made[i]...)
		if l.batchFirst {
			outs[i] = b.Transpose(outs[i], perm...)
		}
	}
	return outs
}

// A recurrentLayer is a node with its settings read.
type recurrentLayer struct {
	b          *graphs.Builder
	n          *graphs.Node
	x, w, r    val // x [time, batch, input]
	lengths    val // of the sequences, nil where all are whole
	dirs       int
	hidden     int64
	acts       []graphs.RecurrentActivation
	batchFirst bool
	looped     bool
}

func newRecurrentLayer(b *graphs.Builder, n *graphs.Node) (*recurrentLayer, error) {
	l := &recurrentLayer{b: b, n: n, x: n.In(0), w: n.In(1), r: n.In(2), lengths: n.In(4), batchFirst: n.Int("layout", 0) != 0}
	if l.x.Shape == nil || l.w.Shape == nil || l.r.Shape == nil || !l.r.Shape[2].Known() || !l.w.Shape[0].Known() {
		return nil, errors.New("the shapes of input and weights must be known")
	}
	if l.batchFirst {
		l.x = b.Transpose(l.x, 1, 0, 2)
	}
	if b.Err() != nil {
		return nil, b.Err()
	}
	time := l.x.Shape[0]
	l.dirs, l.hidden = int(l.w.Shape[0].N), l.r.Shape[2].N
	if l.lengths != nil {
		v, whole := graphs.ConstInts(l.lengths)
		for _, k := range v {
			whole = whole && k == time.N
		}
		if whole {
			l.lengths = nil
		}
	}
	l.looped = l.lengths != nil || !time.Known() || time.N < 1 || time.N > maxSteps
	var err error
	l.acts, err = graphs.RecurrentActivations(n, l.dirs)
	return l, err
}

// row is that of direction d, of an operand with a direction axis in front.
func (l *recurrentLayer) row(v val, d int) val { return l.b.Gather(v, l.direction(d), 0) }

func (l *recurrentLayer) direction(d int) val { return l.b.Const(graphs.Of([]int64{int64(d)})) }

// state is what direction d starts with: input i, or zeros.
func (l *recurrentLayer) state(i, d int) val {
	b := l.b
	if v := l.n.In(i); v != nil && l.batchFirst {
		return b.Gather(v, l.direction(d), 1)
	} else if v != nil {
		return l.row(v, d)
	}
	zero, err := graphs.FromFloats(l.x.Type, []float64{0}, 1)
	if err != nil {
		return b.Fail("%w", err)
	}
	return b.Op("ConstantOfShape", []val{b.Concat(0, size(b, l.x, 1), b.Ints(l.hidden))}, graphs.T("value", zero))
}

// cell is direction d, with the input's part of its gates.
func (l *recurrentLayer) cell(d int) (k *recurrentCell, in val) {
	b, n, per := l.b, l.n, len(l.acts)/l.dirs
	k = &recurrentCell{b: b, n: n, acts: l.acts[d*per : (d+1)*per], hidden: l.hidden, lengths: l.lengths, r: b.Transpose(l.row(l.r, d), 1, 0)}
	in = b.MatMul(l.x, b.Transpose(l.row(l.w, d), 1, 0))
	if bias := n.In(3); bias != nil {
		parts := b.Ops("Split", 2, []val{l.row(bias, d)}, graphs.I("axis", 0), graphs.I("num_outputs", 2))
		in = b.Add(in, parts[0])
		k.bias = parts[1]
		if n.Op != "GRU" || n.Int("linear_before_reset", 0) == 0 {
			in, k.bias = b.Add(in, parts[1]), nil
		}
	}
	if n.Op == "LSTM" && n.In(7) != nil {
		k.peep = b.Ops("Split", 3, []val{l.row(n.In(7), d)}, graphs.I("axis", 0), graphs.I("num_outputs", 3))
	}
	k.prepare()
	return k, in
}

// A recurrentCell is one direction of a layer.
type recurrentCell struct {
	b       *graphs.Builder
	n       *graphs.Node
	acts    []graphs.RecurrentActivation
	hidden  int64
	lengths val
	r       val   // [hidden, gates·hidden]
	rzr, rh val   // its parts for a GRU's gates and candidate
	bias    val   // of the state's part, where it is kept apart
	peep    []val // weights from the cell state: input, output, forget
}

// unroll runs the cell over in, the inputs' part of the gates [time, batch, …], step by step,
// and returns all states [time, batch, hidden] and the last ones.
func (k *recurrentCell) unroll(in, h, c val, back bool) (y, last, cell val) {
	b, time := k.b, in.Shape[0].N
	steps := []val{in}
	if time > 1 {
		steps = b.Ops("Split", int(time), []val{in}, graphs.I("axis", 0), graphs.I("num_outputs", time))
	}
	out := make([]val, time)
	for i := range out {
		t := i
		if back {
			t = len(out) - 1 - i
		}
		h, c = k.step(b.Squeeze(steps[t], 0), h, c)
		out[t] = b.Unsqueeze(h, 0)
	}
	return b.Concat(0, out...), h, c
}

// loop does the same as a Loop. Beyond the length of a sequence its state stays as it is,
// and the states given out are 0.
func (k *recurrentCell) loop(in, h, c val, back bool) (y, last, cell val) {
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
	if k.lengths != nil {
		live := inner.Unsqueeze(inner.Less(pass, b.Cast(k.lengths, graphs.Int64)), 1)
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
