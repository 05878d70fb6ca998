package flow

import (
	"fmt"
	"math"
	"math/rand/v2"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/nn"
)

// The two ways to split values into halves.
const (
	Channels     = "channels"
	Checkerboard = "checkerboard"
)

// split cuts h into two halves: by channels, or black and white fields of a
// checkerboard as maps of half the width.
func (n *net) split(h *graphs.Value, by string) (a, b *graphs.Value) {
	c := int64(n.channels(h))
	switch {
	case n.Err() != nil:
		return h, h
	case by == Channels && c < 2:
		return n.Fail("flow: cannot split %v: wanted at least 2 channels", h), h
	case by == Channels:
		halves := n.parts(h, 1, (c+1)/2, c/2)
		return halves[0], halves[1]
	case len(h.Shape) != 4 || h.Shape[2].N%2 != 0 || h.Shape[3].N%2 != 0:
		return n.Fail("flow: no checkerboard on %v: wanted an even height and width", h), h
	}
	rows, columns := h.Shape[2].N, h.Shape[3].N
	grid := n.shaped(h, c, rows/2, 2, columns/2, 2)
	var field [2][]*graphs.Value // by row and column
	for i, row := range n.parts(grid, 3, 1, 1) {
		field[i] = n.parts(row, 5, 1, 1)
	}
	half := func(even, odd *graphs.Value) *graphs.Value {
		return n.shaped(n.Concat(3, even, odd), c, rows, columns/2)
	}
	return half(field[0][0], field[1][1]), half(field[0][1], field[1][0])
}

// join undoes split.
func (n *net) join(a, b *graphs.Value, by string) *graphs.Value {
	if by == Channels || n.Err() != nil {
		return n.Concat(1, a, b)
	}
	c, rows, columns := a.Shape[1].N, a.Shape[2].N, a.Shape[3].N
	of := func(h *graphs.Value) []*graphs.Value { return n.parts(n.shaped(h, c, rows/2, 2, columns, 1), 3, 1, 1) }
	ra, rb := of(a), of(b)
	even, odd := n.Concat(5, ra[0], rb[0]), n.Concat(5, rb[1], ra[1])
	return n.shaped(n.Concat(3, even, odd), c, rows, 2*columns)
}

// Kinds of couplings.
const (
	Sigmoid  = "sigmoid"  // y = (b + t)·s with s = (1 + sigmoid(r + 2))/2: Glow, bounded
	Tanh     = "tanh"     // y = (b + t)·s with log s = α·tanh r, α learned: RealNVP
	Logistic = "logistic" // y = (logit F(b) + t)·s with log s = α·tanh r and F the distribution function of a mixture of logistics: Flow++
)

// A Coupling describes couplings: one half of the values goes through unchanged
// and a network makes of it what changes the other half, entry by entry.
type Coupling struct {
	Kind       string `yaml:"kind"`                 // sigmoid, tanh or logistic
	Components int    `yaml:"components,omitempty"` // logistic: of the mixture
	Hidden     int    `yaml:"hidden"`               // filters, or units, of the network
	Blocks     int    `yaml:"blocks,omitempty"`     // gated residual blocks; 0 is a plain network of two hidden layers
	Heads      int    `yaml:"heads,omitempty"`      // of the attention in every block, 0 for none
	Activation string `yaml:"activation"`           // of a plain network
}

// check reports the first setting that makes no sense.
func (c Coupling) check() error {
	switch {
	case c.Kind != Sigmoid && c.Kind != Tanh && c.Kind != Logistic:
		return fmt.Errorf("flow: coupling.kind: wanted sigmoid, tanh or logistic, got %q", c.Kind)
	case c.Hidden < 1:
		return fmt.Errorf("flow: coupling.hidden: wanted at least 1, got %d", c.Hidden)
	case (c.Kind == Logistic) != (c.Components > 0) || c.Components < 0:
		return fmt.Errorf("flow: coupling.components: wanted at least 1 of a logistic coupling and 0 of others, got %d of %q", c.Components, c.Kind)
	case c.Blocks < 0 || c.Heads < 0 || c.Heads > 0 && (c.Blocks == 0 || c.Hidden%c.Heads != 0):
		return fmt.Errorf("flow: coupling.heads: wanted heads that divide the %d filters of gated blocks, got %d in %d blocks", c.Hidden, c.Heads, c.Blocks)
	case c.Blocks == 0 && nn.Activations[c.Activation] == nil:
		return fmt.Errorf("flow: coupling.activation: no activation %q", c.Activation)
	}
	return nil
}

// coupling is the layer. flip changes the first half instead of the second.
type coupling struct {
	name string
	by   string
	flip bool
	Coupling
}

func (l coupling) forward(n *net, h *graphs.Value) (y, logDet *graphs.Value) {
	return l.through(n, h, l.change)
}

func (l coupling) inverse(n *net, y *graphs.Value) (h, logDet *graphs.Value) {
	return l.through(n, y, l.undo)
}

// through changes one half by what the network makes of the other.
func (l coupling) through(n *net, h *graphs.Value, f func(n *net, b *graphs.Value, p []*graphs.Value) (y, logDet *graphs.Value)) (y, logDet *graphs.Value) {
	defer n.at(l.name)()
	a, b := n.split(h, l.by)
	if l.flip {
		a, b = b, a
	}
	seen := a
	if n.context != nil {
		ca, cb := n.split(n.context, l.by)
		seen = n.Concat(1, a, ca, cb)
	}
	b, logDet = f(n, b, l.network(n, seen, b))
	if l.flip {
		a, b = b, a
	}
	return n.join(a, b, l.by), logDet
}

// numbers is how many parameters change one entry.
func (l coupling) numbers() int {
	if l.Kind == Logistic {
		return 2 + 3*l.Components
	}
	return 2
}

// network makes the parameters from the other half: t and the number that log s is made
// of, each [batch, 1, shape of b], and of a mixture weights, centres and log-widths,
// [batch, components, shape of b].
func (l coupling) network(n *net, a, b *graphs.Value) []*graphs.Value {
	c, sizes := n.channels(b), []int64{1, 1}
	if k := int64(l.Components); l.Kind == Logistic {
		sizes = append(sizes, k, k, k)
	}
	if n.Err() != nil {
		return n.parts(a, 1, sizes...)
	}
	h := l.trunk(n, a)
	// The last layer is zero, so that a new coupling changes nothing; centres of a
	// mixture begin apart, for equal ones would stay equal.
	weights, biases := n.Net.Weights, n.Net.Biases
	n.Net.Weights, n.Net.Biases = nil, func(rng *rand.Rand, w []float32, _, _ int) {
		if l.Kind == Logistic {
			for i := range l.Components * c {
				w[(2+l.Components)*c+i] = float32(rng.NormFloat64())
			}
		}
	}
	out := n.layer(l.name+".out", h, l.numbers()*c, 3)
	n.Net.Weights, n.Net.Biases = weights, biases
	dims := []int64{int64(l.numbers())}
	for _, d := range b.Shape[1:] {
		dims = append(dims, d.N)
	}
	return n.parts(n.shaped(out, dims...), 1, sizes...)
}

// layer is a convolution that keeps the size, or a dense layer for points.
func (n *net) layer(name string, h *graphs.Value, filters, kernel int) *graphs.Value {
	if len(h.Shape) == 2 {
		return n.Dense(name, h, filters)
	}
	return n.Conv(name, h, nn.Conv{Filters: filters, Kernel: kernel, Pad: kernel / 2})
}

func (l coupling) trunk(n *net, h *graphs.Value) *graphs.Value {
	if l.Blocks == 0 {
		h = n.Activate(l.Activation, n.layer(l.name+".in", h, l.Hidden, 3))
		return n.Activate(l.Activation, n.layer(l.name+".mid", h, l.Hidden, 1))
	}
	h = n.layer(l.name+".in", h, l.Hidden, 3)
	for i := range l.Blocks {
		name := fmt.Sprintf("%s.block%d", l.name, i+1)
		h = n.normed(name+".norm", n.Add(h, n.gated(name, h, l.Hidden)))
		if l.Heads > 0 {
			h = n.normed(name+".attention.norm", n.Add(h, n.attention(name+".attention", h, l.Heads)))
		}
	}
	return h
}

// gated is a convolution of the concatenated ELU and a gate of the same (Ho et al.,
// "Flow++", ICML 2019), without the published dropout and weight normalisation.
func (n *net) gated(name string, h *graphs.Value, filters int) *graphs.Value {
	both := func(x *graphs.Value) *graphs.Value {
		return n.Activate("elu", n.Concat(1, x, n.Neg(x)))
	}
	u := n.layer(name+".conv", both(h), filters, 3)
	u = n.layer(name+".gate", both(u), 2*filters, 1)
	f := int64(filters)
	half := n.parts(u, 1, f, f)
	return n.Mul(half[0], n.Sigmoid(half[1]))
}

// normed is layer normalisation over the channels of every pixel.
func (n *net) normed(name string, h *graphs.Value) *graphs.Value {
	dims := perChannel(h, n.channels(h))
	mean := n.Mean(h, true, 1)
	d := n.Sub(h, mean)
	sd := n.Sqrt(n.Add(n.Mean(n.Mul(d, d), true, 1), n.Scalar(h, 1e-5)))
	return n.Add(n.Mul(n.Div(d, sd), n.filled(name+".gain", 1, dims...)), n.filled(name+".bias", 0, dims...))
}

// attention lets every pixel look at all others, with a place of its own in the
// input; its output is gated.
func (n *net) attention(name string, h *graphs.Value, heads int) *graphs.Value {
	if n.Err() != nil || len(h.Shape) != 4 {
		return n.Fail("flow: attention wants [batch, channels, height, width], got %v", h)
	}
	c, area := h.Shape[1].N, h.Shape[2].N*h.Shape[3].N
	place := make([]float32, c*area)
	for i := range place {
		place[i] = float32(n.Rng.NormFloat64() * 0.01)
	}
	x := n.Add(h, n.Weight(name+".place", graphs.Of(place, int(c), int(h.Shape[2].N), int(h.Shape[3].N))))
	k, depth := int64(heads), c/int64(heads)
	qkv := n.shaped(n.layer(name+".in", x, int(3*c), 1), 3, k, depth, area)
	part := n.parts(qkv, 1, 1, 1, 1)
	q, key, v := n.Squeeze(part[0], 1), n.Squeeze(part[1], 1), n.Squeeze(part[2], 1)          // [batch, heads, depth, area]
	scores := n.Scale(n.MatMul(n.Transpose(q, 0, 1, 3, 2), key), 1/math.Sqrt(float64(depth))) // [batch, heads, area, area]
	seen := n.MatMul(v, n.Transpose(n.Op("Softmax", []*graphs.Value{scores}, graphs.I("axis", -1)), 0, 1, 3, 2))
	half := n.parts(n.layer(name+".gate", n.shaped(seen, c, h.Shape[2].N, h.Shape[3].N), int(2*c), 1), 1, c, c)
	return n.Mul(half[0], n.Sigmoid(half[1]))
}

// smallest bounds the scale of a sigmoid coupling from below, where Glow lets it come
// to 0: inverses of such couplings explode on draws unlike the data (Behrmann, Vicol,
// Wang, Grosse, Jacobsen, AISTATS 2021, who bound it so).
const smallest = 0.5

// affine is t and log s.
func (l coupling) affine(n *net, p []*graphs.Value) (shift, scale *graphs.Value) {
	shift, scale = n.Squeeze(p[0], 1), n.Squeeze(p[1], 1)
	if l.Kind == Sigmoid {
		scale = n.Sigmoid(n.Add(scale, n.Scalar(scale, 2)))
		return shift, n.Log(n.Add(n.Scale(scale, 1-smallest), n.Scalar(scale, smallest)))
	}
	dims := perChannel(shift, n.channels(shift))
	return shift, n.Mul(n.filled(l.name+".scale", 1, dims...), n.Tanh(scale))
}

// change is b → y.
func (l coupling) change(n *net, b *graphs.Value, p []*graphs.Value) (y, logDet *graphs.Value) {
	shift, scale := l.affine(n, p)
	if l.Kind == Logistic {
		var d *graphs.Value
		b, d = l.mixture(n, p).forward(n, b)
		logDet = n.SumAll(d)
	}
	return n.Mul(n.Add(b, shift), n.Exp(scale)), n.total(logDet, n.SumAll(scale))
}

// undo is y → b.
func (l coupling) undo(n *net, y *graphs.Value, p []*graphs.Value) (b, logDet *graphs.Value) {
	shift, scale := l.affine(n, p)
	b = n.Sub(n.Mul(y, n.Exp(n.Neg(scale))), shift)
	if l.Kind == Logistic {
		m := l.mixture(n, p)
		b = m.inverse(n, b)
		_, d := m.forward(n, b)
		logDet = n.Neg(n.SumAll(d))
	}
	return b, n.total(logDet, n.Neg(n.SumAll(scale)))
}

// A mixture of logistic distributions of every entry: weights, centres and widths,
// as logarithms but for the centres, [batch, components, shape of an entry].
type mixture struct{ weight, centre, width *graphs.Value }

// narrowest bounds the log-width of a component from below (Flow++).
const narrowest = -7

func (l coupling) mixture(n *net, p []*graphs.Value) mixture {
	return mixture{
		weight: n.Op("LogSoftmax", p[2:3], graphs.I("axis", 1)),
		centre: p[3],
		width:  n.Op("Max", []*graphs.Value{p[4], n.Scalar(p[4], narrowest)}),
	}
}

// logit is log F(x) and log(1 − F(x)), each a sum over components that neither
// overflows nor cancels, and the components' standardized places.
func (m mixture) logit(n *net, x *graphs.Value) (below, above, at *graphs.Value) {
	at = n.Mul(n.Sub(n.Unsqueeze(x, 1), m.centre), n.Exp(n.Neg(m.width)))
	below = n.logSum(n.Sub(m.weight, softplus(n, n.Neg(at))))
	above = n.logSum(n.Sub(m.weight, softplus(n, at)))
	return below, above, at
}

// logSum is log Σ exp over components.
func (n *net) logSum(x *graphs.Value) *graphs.Value {
	return n.Op("ReduceLogSumExp", []*graphs.Value{x, n.Ints(1)}, graphs.I("keepdims", 0))
}

// forward is x → logit F(x), with the logarithm of the slope F′/(F·(1−F)) of every entry.
func (m mixture) forward(n *net, x *graphs.Value) (y, logSlope *graphs.Value) {
	below, above, at := m.logit(n, x)
	// a component's density is sigmoid(t)·sigmoid(−t)/width
	density := n.Sub(n.Sub(m.weight, m.width), n.Add(softplus(n, at), softplus(n, n.Neg(at))))
	return n.Sub(below, above), n.Sub(n.logSum(density), n.Add(below, above))
}

// halvings of the bracket of the inverse: more than float32 can tell apart.
const halvings = 40

// inverse finds x of logit F(x) = y by bisection, a Loop of the graph. The value
// lies between the components' own quantiles, centre + width·y, so that the bracket is
// exact and needs no search.
func (m mixture) inverse(n *net, y *graphs.Value) *graphs.Value {
	own := n.Add(m.centre, n.Mul(n.Exp(m.width), n.Unsqueeze(y, 1)))
	end := func(op string) *graphs.Value {
		return n.Op(op, []*graphs.Value{own, n.Ints(1)}, graphs.I("keepdims", 0))
	}
	lo, hi := end("ReduceMin"), end("ReduceMax")
	if n.Err() != nil {
		return y
	}
	body := &graphs.Graph{Name: "bisection"}
	b := &net{Net: &nn.Net{Builder: graphs.NewBuilder(body)}}
	b.Input("halving", graphs.Int64, graphs.Shape{})
	more := b.Input("more_in", graphs.Bool, graphs.Shape{})
	from, to := b.Input("lo_in", graphs.Float32, lo.Shape), b.Input("hi_in", graphs.Float32, hi.Shape)
	middle := b.Scale(b.Add(from, to), 0.5)
	below, above, _ := m.logit(b, middle)
	low := b.Less(b.Sub(below, above), y)
	b.Output("more_out", b.Identity(more))
	b.Output("lo_out", b.Where(low, middle, from))
	b.Output("hi_out", b.Where(low, to, middle))
	if err := b.Err(); err != nil {
		return n.Fail("flow: bisection: %w", err)
	}
	g := n.Target()
	loop := &graphs.Node{Name: g.Fresh("bisection"), Op: "Loop", Inputs: []*graphs.Value{n.Const(graphs.Of([]int64{halvings})), nil, lo, hi}, Attrs: []*graphs.Attr{graphs.G("body", body)}}
	for _, v := range []*graphs.Value{lo, hi} {
		loop.Outputs = append(loop.Outputs, &graphs.Value{Name: g.Fresh("bisection/end"), Type: graphs.Float32, Shape: v.Shape, From: loop})
	}
	n.Append(loop, graphs.OpsetVersion)
	return n.Scale(n.Add(loop.Outputs[0], loop.Outputs[1]), 0.5)
}
