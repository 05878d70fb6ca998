package refeval

import (
	"fmt"
	"math"
	"math/cmplx"

	"ebmrun/graphs"
)

func compositeKernels() map[string]kernel {
	return map[string]kernel{
		"Attention": attention, "RotaryEmbedding": rotary, "DFT": dft, "STFT": stft, "Det": det,
		"SoftmaxCrossEntropyLoss": loss(true), "NegativeLogLikelihoodLoss": loss(false),
		"QuantizeLinear": quantize, "DequantizeLinear": dequantize,
	}
}

// heads views a rank 3 or 4 operand as [batch, heads, length, size].
type heads struct {
	v                          []float64
	batch, heads, length, size int
	merged                     bool // stored as [batch, length, heads·size]
}

func headsOf(a *array, n int) (*heads, error) {
	v, err := a.floats()
	if err != nil {
		return nil, err
	}
	switch {
	case !a.t.IsFloat():
	case len(a.dims) == 4:
		return &heads{v, a.dims[0], a.dims[1], a.dims[2], a.dims[3], false}, nil
	case len(a.dims) == 3 && n > 0 && a.dims[2]%n == 0:
		return &heads{v, a.dims[0], n, a.dims[1], a.dims[2] / n, true}, nil
	}
	return nil, fmt.Errorf("operand %v does not have %d heads", a, n)
}

func (h *heads) row(b, k, i int) []float64 {
	at := ((b*h.heads+k)*h.length + i) * h.size
	if h.merged {
		at = ((b*h.length+i)*h.heads + k) * h.size
	}
	return h.v[at : at+h.size]
}

// attention is softmax(Q·Kᵀ·scale + mask)·V per head.
func attention(c *call) ([]*array, error) {
	in, err := c.args(3)
	if err != nil {
		return nil, err
	}
	q, err := headsOf(in[0], int(c.n.Int("q_num_heads", 0)))
	if err != nil {
		return nil, err
	}
	kv := [2]*heads{}
	past := 0
	for i := range kv {
		if kv[i], err = headsOf(in[1+i], int(c.n.Int("kv_num_heads", 0))); err != nil {
			return nil, err
		}
		if p := c.opt(4 + i); p != nil {
			if kv[i], err = kv[i].after(p); err != nil {
				return nil, err
			}
			past = p.dims[2]
		}
	}
	k, v := kv[0], kv[1]
	if k.heads < 1 || q.heads%k.heads != 0 || v.heads != k.heads || k.size != q.size || v.length != k.length || k.batch != q.batch || v.batch != q.batch {
		return nil, fmt.Errorf("operands %v, %v, %v do not fit", in[0], in[1], in[2])
	}
	if c.opt(6) != nil {
		return nil, fmt.Errorf("nonpad_kv_seqlen is not supported")
	}
	scoreDims := []int{q.batch, q.heads, q.length, k.length}
	if err := c.check(scoreDims); err != nil {
		return nil, err
	}
	var mask func(int) float64
	if m := c.opt(3); m != nil {
		if mask, err = c.attentionMask(m, scoreDims); err != nil {
			return nil, err
		}
	}
	causal := c.n.Int("is_causal", 0) != 0
	capAt := c.n.Float("softcap", 0)
	if capAt > 0 && (mask != nil || causal) {
		return nil, fmt.Errorf("softcap together with a mask: versions of the op differ in their order")
	}
	scale := c.n.Float("scale", 1/math.Sqrt(float64(q.size)))
	stage := c.n.Int("qk_matmul_output_mode", 0)
	scores := make([]float64, graphs.Size(scoreDims))
	shown := make([]float64, len(scores))
	dims := []int{q.batch, q.heads, q.length, v.size}
	if q.merged {
		dims = []int{q.batch, q.length, q.heads * v.size}
	}
	if err := c.check(dims); err != nil {
		return nil, err
	}
	y := make([]float64, graphs.Size(dims))
	out := &heads{y, q.batch, q.heads, q.length, v.size, q.merged}
	for b := range q.batch {
		for h := range q.heads {
			g := h / (q.heads / k.heads)
			for i := range q.length {
				at := ((b*q.heads+h)*q.length + i) * k.length
				row := scores[at : at+k.length]
				for j := range row {
					for e, x := range q.row(b, h, i) {
						row[j] += scale * x * k.row(b, g, j)[e]
					}
				}
				show := func(at64 int64) {
					if stage == at64 {
						copy(shown[at:], row)
					}
				}
				show(0)
				for j := range row {
					if mask != nil {
						row[j] += mask(at + j)
					}
					if causal && j > i+past {
						row[j] = math.Inf(-1)
					}
				}
				show(1)
				if capAt > 0 {
					for j := range row {
						row[j] = capAt * math.Tanh(row[j]/capAt)
					}
				}
				show(2)
				expRow(row)
				show(3)
				for j, w := range row {
					for e, x := range v.row(b, g, j) {
						out.row(b, h, i)[e] += w * x
					}
				}
			}
		}
	}
	present := func(h *heads, t graphs.DType) *array {
		return c.fromFloats(t, []int{h.batch, h.heads, h.length, h.size}, h.split())
	}
	all := []*array{c.fromFloats(in[0].t, dims, y), present(k, in[1].t), present(v, in[2].t), c.fromFloats(in[0].t, scoreDims, shown)}
	return all[:min(len(all), len(c.n.Outputs))], nil
}

// split is the elements in the order [batch, heads, length, size].
func (h *heads) split() []float64 {
	if !h.merged {
		return h.v
	}
	out := make([]float64, 0, len(h.v))
	for b := range h.batch {
		for k := range h.heads {
			for i := range h.length {
				out = append(out, h.row(b, k, i)...)
			}
		}
	}
	return out
}

// after appends h to the rows of an earlier part.
func (h *heads) after(past *array) (*heads, error) {
	p, err := headsOf(past, 0)
	if err != nil {
		return nil, err
	}
	if p.batch != h.batch || p.heads != h.heads || p.size != h.size {
		return nil, fmt.Errorf("past %v does not fit", past)
	}
	joined := &heads{nil, h.batch, h.heads, p.length + h.length, h.size, false}
	for b := range h.batch {
		for k := range h.heads {
			for i := range p.length {
				joined.v = append(joined.v, p.row(b, k, i)...)
			}
			for i := range h.length {
				joined.v = append(joined.v, h.row(b, k, i)...)
			}
		}
	}
	return joined, nil
}

// attentionMask reads what is added to the score at a flat position.
func (c *call) attentionMask(m *array, dims []int) (func(int) float64, error) {
	v, err := m.floats()
	if err != nil {
		return nil, err
	}
	if len(m.dims) > 4 || len(m.dims) < 2 {
		return nil, fmt.Errorf("mask %v: wanted rank 2 to 4", m)
	}
	st := make([]int, 4)
	own := strides(m.dims)
	for i, d := range m.dims {
		k := 4 - len(m.dims) + i
		if d != dims[k] && d != 1 {
			return nil, fmt.Errorf("mask %v does not broadcast to %v", m, dims)
		}
		if d != 1 {
			st[k] = own[i]
		}
	}
	return func(at int) float64 {
		off := 0
		for i := 3; i >= 0; i-- {
			off += at % dims[i] * st[i]
			at /= dims[i]
		}
		if m.t == graphs.Bool {
			if v[off] != 0 {
				return 0
			}
			return math.Inf(-1)
		}
		return v[off]
	}, nil
}

// rotary turns pairs of elements by angles whose cosine and sine are given.
func rotary(c *call) ([]*array, error) {
	in, err := c.args(3)
	if err != nil {
		return nil, err
	}
	x, err := headsOf(in[0], int(c.n.Int("num_heads", 0)))
	if err != nil {
		return nil, err
	}
	rot := int(c.n.Int("rotary_embedding_dim", 0))
	if rot == 0 {
		rot = x.size
	}
	half := rot / 2
	if rot < 0 || rot > x.size || rot%2 != 0 {
		return nil, fmt.Errorf("%d rotated elements of %d", rot, x.size)
	}
	var cs [2][]float64
	for i := range cs {
		a := in[1+i]
		if cs[i], err = a.floats(); err != nil {
			return nil, err
		}
		if len(a.dims) < 2 || a.dims[len(a.dims)-1] != half || len(cs[i]) != len(cs[0]) || !a.t.IsFloat() {
			return nil, fmt.Errorf("cache %v: wanted rows of %d", a, half)
		}
	}
	rows := 0
	if half > 0 {
		rows = len(cs[0]) / half
	}
	pos := make([]int, x.batch*x.length)
	if p := c.opt(3); p != nil {
		if pos, err = indices(p, rows); err != nil {
			return nil, err
		}
	} else {
		for i := range pos {
			pos[i] = i
		}
	}
	if len(pos) != x.batch*x.length || half > 0 && c.opt(3) == nil && rows != len(pos) {
		return nil, fmt.Errorf("positions of %d rows, wanted %d", len(pos), x.batch*x.length)
	}
	y := append([]float64{}, x.v...)
	to := *x
	to.v = y
	for b := range x.batch {
		for h := range x.heads {
			for i := range x.length {
				src, dst := x.row(b, h, i), to.row(b, h, i)
				for j := range half {
					k, l := j, j+half
					if c.n.Int("interleaved", 0) != 0 {
						k, l = 2*j, 2*j+1
					}
					co, si := cs[0][pos[b*x.length+i]*half+j], cs[1][pos[b*x.length+i]*half+j]
					dst[k], dst[l] = co*src[k]-si*src[l], si*src[k]+co*src[l]
				}
			}
		}
	}
	return []*array{c.fromFloats(in[0].t, in[0].dims, y)}, nil
}

// signal is the first input, its numbers, and the sizes of what a transform makes of it.
func (c *call) signal() (x *array, v []float64, dims []int, err error) {
	if x, err = c.arg(0); err != nil {
		return nil, nil, nil, err
	}
	if dims, err = c.outDims(0); err != nil {
		return nil, nil, nil, err
	}
	v, err = x.floats()
	return x, v, dims, err
}

// complexAt is a number of one part or two.
func complexAt(v []float64, at, parts int) complex128 {
	if parts == 2 {
		return complex(v[at], v[at+1])
	}
	return complex(v[at], 0)
}

// dft is the discrete Fourier transform along one axis, by its definition.
func dft(c *call) ([]*array, error) {
	d, err := graphs.DFTOf(c.n)
	if err != nil {
		return nil, err
	}
	x, v, dims, err := c.signal()
	if err != nil {
		return nil, err
	}
	if !x.t.IsFloat() || !d.Length.Known() {
		return nil, badData(x)
	}
	parts := x.dims[len(x.dims)-1]
	n, size, out := int(d.Length.N), x.dims[d.Axis], dims[d.Axis]
	inner := graphs.Size(x.dims[d.Axis+1 : len(x.dims)-1])
	sign, norm := -1.0, 1.0
	if d.Inverse {
		sign, norm = 1, 1/float64(n)
	}
	y := make([]float64, graphs.Size(dims))
	for o := range graphs.Size(x.dims[:d.Axis]) {
		for k := range out {
			for i := range inner {
				sum := complex(0, 0)
				for t := range min(size, n) {
					at := ((o*size+t)*inner + i) * parts
					sum += complexAt(v, at, parts) * cmplx.Rect(1, sign*2*math.Pi*float64(k*t%n)/float64(n))
				}
				at := ((o*out+k)*inner + i) * 2
				y[at], y[at+1] = norm*real(sum), norm*imag(sum)
			}
		}
	}
	return []*array{c.fromFloats(x.t, dims, y)}, nil
}

// stft is the transform of windowed frames of a signal [batch, length, parts].
func stft(c *call) ([]*array, error) {
	s, err := graphs.STFTOf(c.n)
	if err != nil {
		return nil, err
	}
	x, v, dims, err := c.signal()
	if err != nil {
		return nil, err
	}
	window := make([]float64, s.Length)
	for i := range window {
		window[i] = 1
	}
	if c.n.In(2) != nil {
		w, err := c.arg(2)
		if err != nil {
			return nil, err
		}
		if window, err = w.floats(); err != nil {
			return nil, err
		}
	}
	length, parts := x.dims[1], x.dims[2]
	if !x.t.IsFloat() || len(window) != int(s.Length) || len(dims) != 4 {
		return nil, badData(x)
	}
	y := make([]float64, 0, graphs.Size(dims))
	for o := range dims[0] {
		for frame := range dims[1] {
			for k := range dims[2] {
				sum := complex(0, 0)
				for t, w := range window {
					at := (o*length + frame*int(s.Step) + t) * parts
					sum += complex(w, 0) * complexAt(v, at, parts) * cmplx.Rect(1, -2*math.Pi*float64(k*t%len(window))/float64(len(window)))
				}
				y = append(y, real(sum), imag(sum))
			}
		}
	}
	return []*array{c.fromFloats(x.t, dims, y)}, nil
}

// det is the determinant of the last two axes, by elimination.
func det(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	v, err := wide(x)
	if err != nil {
		return nil, err
	}
	n := x.dims[len(x.dims)-1]
	y := make([]float64, graphs.Size(dims))
	for b := range y {
		m := v[b*n*n : (b+1)*n*n]
		y[b] = 1
		for k := range n {
			p := k
			for i := k + 1; i < n; i++ {
				if math.Abs(m[i*n+k]) > math.Abs(m[p*n+k]) {
					p = i
				}
			}
			if y[b] *= m[p*n+k]; y[b] == 0 {
				break
			}
			if p != k {
				y[b] = -y[b]
				for j := range n {
					m[k*n+j], m[p*n+j] = m[p*n+j], m[k*n+j]
				}
			}
			for i := k + 1; i < n; i++ {
				f := m[i*n+k] / m[k*n+k]
				for j := k; j < n; j++ {
					m[i*n+j] -= f * m[k*n+j]
				}
			}
		}
	}
	return []*array{c.fromFloats(x.t, dims, y)}, nil
}

// loss is the negative log-likelihood of the targets; with logits set, scores
// are first turned into log-probabilities.
func loss(logits bool) kernel {
	return func(c *call) ([]*array, error) {
		in, err := c.args(2)
		if err != nil {
			return nil, err
		}
		x, t := in[0], in[1]
		v, err := wide(x)
		if err != nil {
			return nil, err
		}
		target, err := t.ints()
		if err != nil {
			return nil, err
		}
		if len(x.dims) < 2 || len(target) != x.dims[0]*graphs.Size(x.dims[2:]) {
			return nil, fmt.Errorf("targets %v do not fit scores %v", t, x)
		}
		classes, inner := x.dims[1], graphs.Size(x.dims[2:])
		if logits {
			c.lanes(x.dims, 1, func(at, n, step int) {
				row := make([]float64, n)
				for i := range row {
					row[i] = v[at+i*step]
				}
				logRow(row)
				for i := range row {
					v[at+i*step] = row[i]
				}
			})
		}
		weights := make([]float64, classes)
		for i := range weights {
			weights[i] = 1
		}
		if w := c.opt(2); w != nil {
			if weights, err = w.floats(); err != nil || len(weights) != classes {
				return nil, fmt.Errorf("weights %v for %d classes", w, classes)
			}
		}
		ignore, ignores := c.n.Int("ignore_index", 0), c.n.Attr("ignore_index") != nil
		y := make([]float64, len(target))
		sum, total := 0.0, 0.0
		for i, k := range target {
			if ignores && k == ignore {
				continue
			}
			if k < 0 || k >= int64(classes) {
				return nil, fmt.Errorf("target %d of %d classes", k, classes)
			}
			w := weights[k]
			y[i] = -w * v[(i/inner*classes+int(k))*inner+i%inner]
			sum, total = sum+y[i], total+w
		}
		out := make([]*array, 2)
		switch r := c.n.Str("reduction", "mean"); r {
		case "none":
			out[0] = c.fromFloats(x.t, t.dims, y)
		case "sum":
			out[0] = c.fromFloats(x.t, []int{}, []float64{sum})
		case "mean":
			out[0] = c.fromFloats(x.t, []int{}, []float64{sum / total})
		default:
			return nil, fmt.Errorf("reduction %q", r)
		}
		out[1] = c.fromFloats(x.t, x.dims, v)
		return out[:min(2, len(c.n.Outputs))], nil
	}
}

// perAxis gives scale and zero point of each element of x: one for all, or one
// for each position along an axis.
func (c *call) perAxis(x *array) (scale, zero func(i int) float64, err error) {
	if c.n.Int("block_size", 0) != 0 {
		return nil, nil, fmt.Errorf("blocked quantization is not supported")
	}
	read := func(i int) (func(int) float64, error) {
		a := c.opt(i)
		if a == nil {
			return func(int) float64 { return 0 }, nil
		}
		v, err := a.floats()
		if err != nil {
			return nil, err
		}
		if len(v) == 1 {
			return func(int) float64 { return v[0] }, nil
		}
		axis, err := c.axis("axis", 1, len(x.dims))
		if err != nil {
			return nil, err
		}
		if len(v) != x.dims[axis] {
			return nil, fmt.Errorf("%d scales for an axis of %d", len(v), x.dims[axis])
		}
		step := graphs.Size(x.dims[axis+1:])
		return func(i int) float64 { return v[i/step%len(v)] }, nil
	}
	if scale, err = read(1); err != nil {
		return nil, nil, err
	}
	zero, err = read(2)
	return scale, zero, err
}

// quantize is saturate(round(x/scale) + zero).
func quantize(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	x := in[0]
	v, err := wide(x)
	if err != nil {
		return nil, err
	}
	t := c.outType(0)
	lo, hi, ok := graphs.IntRange(t)
	if !ok {
		return nil, fmt.Errorf("type %v is not supported", t)
	}
	scale, zero, err := c.perAxis(x)
	if err != nil {
		return nil, err
	}
	out := make([]int64, len(v))
	for i := range v {
		q := v[i] / scale(i)
		if c.set.round {
			q = float64(float32(v[i]) / float32(scale(i)))
		}
		q = min(max(math.RoundToEven(q)+zero(i), lo), hi)
		if math.IsNaN(q) {
			q = 0
		}
		out[i] = int64(q)
	}
	return []*array{c.fresh(t, x.dims, out)}, nil
}

// dequantize is (x − zero)·scale.
func dequantize(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	x := in[0]
	if _, err := x.ints(); err != nil || !in[1].t.IsFloat() {
		return nil, badData(x)
	}
	v, err := x.floats()
	if err != nil {
		return nil, err
	}
	scale, zero, err := c.perAxis(x)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(v))
	for i := range v {
		out[i] = (v[i] - zero(i)) * scale(i)
	}
	return []*array{c.fromFloats(in[1].t, x.dims, out)}, nil
}
