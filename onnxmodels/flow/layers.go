package flow

import (
	"hash/fnv"
	"math"
	"math/rand/v2"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/nn"
)

// A layer is a bijection h ↔ y of values [batch, C, H, W] or [batch, C]. Each
// direction returns the logarithm of its own |det| beside the value: [batch], or a
// scalar where it is the same for every example.
type layer interface {
	forward(n *net, h *graphs.Value) (y, logDet *graphs.Value) // from data towards codes
	inverse(n *net, y *graphs.Value) (h, logDet *graphs.Value)
}

// A net builds one graph. Weights are drawn from the seed and their layer's name
// alone, so that graphs built in any order have the same ones.
type net struct {
	*nn.Net
	seed    uint64
	codes   []*graphs.Value // what has left on the way to the codes, in this order
	context *graphs.Value   // [batch, A, H, W] that couplings see besides their own half, nil for none
	measure bool            // normalisations measure what they are given, see start
}

// at begins a named layer and returns what ends it.
func (n *net) at(name string) func() {
	h := fnv.New64a()
	h.Write([]byte(name))
	n.Rng = rand.New(rand.NewPCG(n.seed, h.Sum64()))
	old := n.Prefix(name)
	return func() { n.Prefix(old) }
}

// channels is the size of axis 1.
func (n *net) channels(h *graphs.Value) int {
	if n.Err() != nil || len(h.Shape) != 2 && len(h.Shape) != 4 || !h.Shape[1:].Known() {
		n.Fail("flow: %v is neither [batch, channels, height, width] nor [batch, channels]", h)
		return 0
	}
	return int(h.Shape[1].N)
}

// pixels is the number of values of one channel.
func pixels(h *graphs.Value) float64 {
	if len(h.Shape) == 4 {
		return float64(h.Shape[2].N * h.Shape[3].N)
	}
	return 1
}

// perChannel are the sizes of a weight with one number a channel of h.
func perChannel(h *graphs.Value, c int) []int {
	if len(h.Shape) == 4 {
		return []int{c, 1, 1}
	}
	return []int{c}
}

// filled is a weight of equal numbers.
func (n *net) filled(name string, v float32, dims ...int) *graphs.Value {
	w := make([]float32, graphs.Size(dims))
	for i := range w {
		w[i] = v
	}
	return n.Weight(name, graphs.Of(w, dims...))
}

// shaped keeps the batch axis symbolic where a reshape lost its name.
func (n *net) shaped(h *graphs.Value, dims ...int64) *graphs.Value {
	y := n.ReshapeTo(h, append([]int64{-1}, dims...)...)
	if n.Err() == nil {
		y.Shape = append(graphs.Shape{h.Shape[0]}, y.Shape[1:]...)
	}
	return y
}

// slice takes h[lo:hi] on an axis.
func (n *net) slice(h *graphs.Value, axis, lo, hi int64) *graphs.Value {
	return n.Slice(h, []int64{lo}, []int64{hi}, []int64{axis}, nil)
}

// parts cuts h along an axis into parts of the given sizes, in one node: the way back
// then joins slopes, where it would pad and add those of slices.
func (n *net) parts(h *graphs.Value, axis int64, sizes ...int64) []*graphs.Value {
	return n.Ops("Split", len(sizes), []*graphs.Value{h, n.Ints(sizes...)}, graphs.I("axis", axis))
}

// chained applies layers one after the other and adds their log-determinants.
type chained []layer

func (c chained) forward(n *net, h *graphs.Value) (y, logDet *graphs.Value) {
	for _, l := range c {
		var d *graphs.Value
		h, d = l.forward(n, h)
		logDet = n.total(logDet, d)
	}
	return h, logDet
}

func (c chained) inverse(n *net, y *graphs.Value) (h, logDet *graphs.Value) {
	for i := len(c) - 1; i >= 0; i-- {
		var d *graphs.Value
		y, d = c[i].inverse(n, y)
		logDet = n.total(logDet, d)
	}
	return y, logDet
}

// total adds log-determinants; nil is 0.
func (n *net) total(a, b *graphs.Value) *graphs.Value {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return n.Add(a, b)
}

// actNorm is y = (h + bias)·exp(scale) with one bias and one log-scale a channel
// (Kingma and Dhariwal, "Glow", NeurIPS 2018).
type actNorm struct{ name string }

const startPrefix = "start/" // outputs of the graph that measures: one per weight of a normalisation

func (l actNorm) weights(n *net, h *graphs.Value) (bias, scale *graphs.Value) {
	dims := perChannel(h, n.channels(h))
	return n.filled(l.name+".bias", 0, dims...), n.filled(l.name+".scale", 0, dims...)
}

func (l actNorm) forward(n *net, h *graphs.Value) (y, logDet *graphs.Value) {
	defer n.at(l.name)()
	bias, scale := l.weights(n, h)
	if n.measure {
		bias, scale = l.start(n, h)
	}
	return n.Mul(n.Add(h, bias), n.Exp(scale)), n.Scale(n.Sum(scale, false), pixels(h))
}

// start gives the weights under which this batch has mean 0 and deviation 1 in
// every channel.
func (l actNorm) start(n *net, h *graphs.Value) (bias, scale *graphs.Value) {
	axes := []int64{0, 2, 3}[:len(h.Shape)-1]
	mean := n.Mean(h, true, axes...)
	d := n.Sub(h, mean)
	variance := n.Mean(n.Mul(d, d), true, axes...)
	scale = n.Scale(n.Log(n.Add(variance, n.Scalar(h, 1e-8))), -0.5)
	bias, scale = n.Squeeze(n.Neg(mean), 0), n.Squeeze(scale, 0)
	return n.Output(startPrefix+l.name+".bias", bias), n.Output(startPrefix+l.name+".scale", scale)
}

func (l actNorm) inverse(n *net, y *graphs.Value) (h, logDet *graphs.Value) {
	defer n.at(l.name)()
	bias, scale := l.weights(n, y)
	return n.Sub(n.Mul(y, n.Exp(n.Neg(scale))), bias), n.Scale(n.Sum(scale, false), -pixels(y))
}

// mixing is an invertible 1×1 convolution, the same matrix W at every pixel (Kingma
// and Dhariwal, 2018). W = P·L·(U + diag(sign·exp(scale))) with a fixed permutation P and
// fixed signs, L unit lower triangular and U strictly upper triangular, so
// log|det W| = Σ scale. At first W is a random rotation.
type mixing struct{ name string }

// factors adds P as indices of rows, L − 1, U, and the diagonal.
func (l mixing) factors(n *net, h *graphs.Value) (perm, lower, upper, scale, sign *graphs.Value) {
	c := n.channels(h)
	if n.Err() != nil {
		return h, h, h, h, h
	}
	p, lu := decompose(rotation(n.Rng, c))
	lo, up, log, sg := make([]float32, c*c), make([]float32, c*c), make([]float32, c), make([]float32, c)
	below, above := make([]float32, c*c), make([]float32, c*c)
	for i := range c {
		for j := range c {
			switch v := float32(lu[i][j]); {
			case i > j:
				lo[i*c+j], below[i*c+j] = v, 1
			case i < j:
				up[i*c+j], above[i*c+j] = v, 1
			default:
				log[i], sg[i] = float32(math.Log(math.Abs(lu[i][i]))), float32(math.Copysign(1, lu[i][i]))
			}
		}
	}
	// The masks keep the other triangle out, whatever an optimizer does to it.
	lower = n.Mul(n.Weight(l.name+".lower", graphs.Of(lo, c, c)), n.Const(graphs.Of(below, c, c)))
	upper = n.Mul(n.Weight(l.name+".upper", graphs.Of(up, c, c)), n.Const(graphs.Of(above, c, c)))
	return n.Ints(p...), lower, upper, n.Weight(l.name+".scale", graphs.Of(log, c)), n.Const(graphs.Of(sg, c))
}

func (l mixing) forward(n *net, h *graphs.Value) (y, logDet *graphs.Value) {
	defer n.at(l.name)()
	perm, lower, upper, scale, sign := l.factors(n, h)
	one := identity(n, n.channels(h))
	diagonal := n.Mul(n.Mul(sign, n.Exp(scale)), one)
	w := n.Gather(n.MatMul(n.Add(one, lower), n.Add(upper, diagonal)), perm, 0)
	return l.apply(n, h, w), n.Scale(n.Sum(scale, false), pixels(h))
}

func (l mixing) inverse(n *net, y *graphs.Value) (h, logDet *graphs.Value) {
	defer n.at(l.name)()
	perm, lower, upper, scale, sign := l.factors(n, y)
	c := n.channels(y)
	if n.Err() != nil {
		return y, nil
	}
	// (D + U)⁻¹ = (1 + D⁻¹U)⁻¹·D⁻¹, where D⁻¹ scales rows, then columns.
	d := n.Mul(sign, n.Exp(n.Neg(scale)))
	upperInverse := n.Mul(unipotentInverse(n, n.Mul(n.Unsqueeze(d, 1), upper), c), d)
	w := n.Gather(n.MatMul(upperInverse, unipotentInverse(n, lower, c)), perm, 1)
	return l.apply(n, y, w), n.Scale(n.Sum(scale, false), -pixels(y))
}

// apply multiplies every pixel by the matrix w.
func (l mixing) apply(n *net, h, w *graphs.Value) *graphs.Value {
	if len(h.Shape) == 2 {
		return n.MatMul(h, n.Transpose(w, 1, 0))
	}
	c := int64(n.channels(h))
	return n.Op("Conv", []*graphs.Value{h, n.ReshapeTo(w, c, c, 1, 1)})
}

func identity(n *net, c int) *graphs.Value {
	one := make([]float32, c*c)
	for i := range c {
		one[i*c+i] = 1
	}
	return n.Const(graphs.Of(one, c, c))
}

// unipotentInverse is (1 + N)⁻¹ for a strictly triangular N of size c: from blocks
// on the diagonal that are inverted, X, to blocks of twice the size, by X − X·M·X with
// what N has between two of them, M. The series of powers of N would lose all digits
// to cancellation where there are many channels.
func unipotentInverse(n *net, m *graphs.Value, c int) *graphs.Value {
	x := identity(n, c)
	for k := 1; k < c; k *= 2 {
		between := make([]float32, c*c)
		for i := range c {
			for j := range c {
				if i/k != j/k && i/(2*k) == j/(2*k) {
					between[i*c+j] = 1
				}
			}
		}
		x = n.Sub(x, n.MatMul(n.MatMul(x, n.Mul(m, n.Const(graphs.Of(between, c, c)))), x))
	}
	return x
}

// rotation is a random orthogonal matrix.
func rotation(rng *rand.Rand, c int) [][]float64 {
	q := make([][]float64, c)
	for i := range q {
		q[i] = make([]float64, c)
		for j := range q[i] {
			q[i][j] = rng.NormFloat64()
		}
		// Gram-Schmidt, twice for the sake of rounding
		for range 2 {
			for _, p := range q[:i] {
				dot := 0.0
				for j := range p {
					dot += p[j] * q[i][j]
				}
				for j := range p {
					q[i][j] -= dot * p[j]
				}
			}
		}
		norm := 0.0
		for _, v := range q[i] {
			norm += v * v
		}
		for j := range q[i] {
			q[i][j] /= math.Sqrt(norm)
		}
	}
	return q
}

// decompose is the LU decomposition with row pivots: row i of a is row p[i] of L·U,
// both triangles in one matrix.
func decompose(a [][]float64) (p []int64, lu [][]float64) {
	c := len(a)
	rows := make([]int64, c) // rows[k] is the row of a that has become row k
	for i := range rows {
		rows[i] = int64(i)
	}
	for k := range c {
		best := k
		for i := k; i < c; i++ {
			if math.Abs(a[i][k]) > math.Abs(a[best][k]) {
				best = i
			}
		}
		a[k], a[best], rows[k], rows[best] = a[best], a[k], rows[best], rows[k]
		for i := k + 1; i < c; i++ {
			a[i][k] /= a[k][k]
			for j := k + 1; j < c; j++ {
				a[i][j] -= a[i][k] * a[k][j]
			}
		}
	}
	p = make([]int64, c)
	for k, i := range rows {
		p[i] = int64(k)
	}
	return p, a
}

// squeeze trades windows of 2×2 pixels for four times the channels.
type squeeze struct{}

func (squeeze) forward(n *net, h *graphs.Value) (y, logDet *graphs.Value) {
	if n.Err() == nil && (len(h.Shape) != 4 || h.Shape[2].N%2 != 0 || h.Shape[3].N%2 != 0) {
		return n.Fail("flow: cannot squeeze %v: wanted an even height and width", h), nil
	}
	return n.Op("SpaceToDepth", []*graphs.Value{h}, graphs.I("blocksize", 2)), nil
}

func (squeeze) inverse(n *net, y *graphs.Value) (h, logDet *graphs.Value) {
	return n.Op("DepthToSpace", []*graphs.Value{y}, graphs.I("blocksize", 2)), nil
}

// leave lets the second half of the channels leave as codes, which the layers after
// it do not see: a flow of several scales (Dinh et al., "Density estimation using
// Real NVP", ICLR 2017).
type leave struct{}

func (leave) forward(n *net, h *graphs.Value) (y, logDet *graphs.Value) {
	c := int64(n.channels(h))
	if n.Err() == nil && c < 2 {
		return n.Fail("flow: half of %v cannot leave: wanted at least 2 channels", h), nil
	}
	half := n.parts(h, 1, (c+1)/2, c/2)
	n.codes = append(n.codes, half[1])
	return half[0], nil
}

func (leave) inverse(n *net, y *graphs.Value) (h, logDet *graphs.Value) {
	last := len(n.codes) - 1
	h = n.Concat(1, y, n.codes[last])
	n.codes = n.codes[:last]
	return h, nil
}

// logit maps values of (−range, range) to the line: p = (1 + bound·h/range)/2,
// y = log p − log(1 − p). The bound, below 1, keeps the ends of the range finite; the
// inverse undoes it exactly.
type logit struct{ bound, half float64 }

func (l logit) forward(n *net, h *graphs.Value) (y, logDet *graphs.Value) {
	defer n.at("logit")()
	v := n.Scale(h, l.bound/l.half)
	one := n.Scalar(h, 1)
	p, q := n.Log(n.Add(one, v)), n.Log(n.Sub(one, v)) // log 2p and log 2(1−p)
	// dy/dh = (bound/2range)/(p(1−p))
	return n.Sub(p, q), n.Sub(n.Scalar(h, l.constant(h)), n.SumAll(n.Add(p, q)))
}

// constant is the part of the log-determinant that is the same for all examples.
func (l logit) constant(h *graphs.Value) float64 {
	return math.Log(2*l.bound/l.half) * size(h)
}

func (l logit) inverse(n *net, y *graphs.Value) (h, logDet *graphs.Value) {
	defer n.at("logit")()
	// v = 2·sigmoid(y) − 1 = tanh(y/2); log 4p(1−p) = −2·log cosh(y/2)
	half := n.Scale(y, 0.5)
	sech := n.Sub(n.Scalar(y, 2*math.Ln2), n.Add(softplus(n, y), softplus(n, n.Neg(y))))
	return n.Div(n.Tanh(half), n.Scalar(y, l.bound/l.half)), n.Sub(n.SumAll(sech), n.Scalar(y, l.constant(y)))
}

// size is the number of values of one example.
func size(h *graphs.Value) float64 {
	d := 1.0
	for _, v := range h.Shape[1:] {
		d *= float64(v.N)
	}
	return d
}

func softplus(n *net, x *graphs.Value) *graphs.Value { return n.Op("Softplus", []*graphs.Value{x}) }

// gaussian is log N(z; 0, 1) [batch].
func gaussian(n *net, z *graphs.Value) *graphs.Value {
	return n.Sub(n.Scale(n.SumAll(n.Mul(z, z)), -0.5), n.Scalar(z, size(z)*math.Log(2*math.Pi)/2))
}
