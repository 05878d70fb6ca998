package refeval

import (
	"fmt"
	"math"

	"ebmrun/graphs"
)

func recurrentKernels() map[string]kernel {
	return map[string]kernel{"RNN": recurrent, "GRU": recurrent, "LSTM": recurrent}
}

// activation returns the named function of a recurrent op.
func activation(name string, alpha, beta float64) (func(float64) float64, error) {
	switch name {
	case "Sigmoid":
		return func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }, nil
	case "Tanh":
		return math.Tanh, nil
	case "Relu":
		return func(x float64) float64 { return max(x, 0) }, nil
	case "Affine":
		return func(x float64) float64 { return alpha*x + beta }, nil
	case "LeakyRelu":
		return func(x float64) float64 { return max(x, 0) + alpha*min(x, 0) }, nil
	case "ThresholdedRelu":
		return func(x float64) float64 {
			if x > alpha {
				return x
			}
			return 0
		}, nil
	case "ScaledTanh":
		return func(x float64) float64 { return alpha * math.Tanh(beta*x) }, nil
	case "HardSigmoid":
		return func(x float64) float64 { return min(max(alpha*x+beta, 0), 1) }, nil
	case "Elu":
		return func(x float64) float64 { return max(x, 0) + alpha*math.Expm1(min(x, 0)) }, nil
	case "Softsign":
		return func(x float64) float64 { return x / (1 + math.Abs(x)) }, nil
	case "Softplus":
		return func(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }, nil
	}
	return nil, fmt.Errorf("activation %q", name)
}

// recurrent runs an RNN, GRU or LSTM layer step by step.
func recurrent(c *call) ([]*array, error) {
	in, err := c.args(3)
	if err != nil {
		return nil, err
	}
	if _, err := c.outDims(0); err != nil && c.n.Out(0) != nil {
		return nil, err
	}
	x := in[0]
	batchFirst := c.n.Int("layout", 0) != 0
	time, batch := x.dims[0], x.dims[1]
	if batchFirst {
		time, batch = batch, time
	}
	op := c.n.Op
	gates, width := graphs.RecurrentGates(op), x.dims[2]
	dirs, hidden := in[1].dims[0], in[2].dims[2]
	direction := c.n.Str("direction", "forward")
	if want := map[string]int{"forward": 1, "reverse": 1, "bidirectional": 2}[direction]; want != dirs || in[2].dims[0] != dirs ||
		in[1].dims[1] != gates*hidden || in[2].dims[1] != gates*hidden || in[1].dims[2] != width {
		return nil, fmt.Errorf("weights %v and %v do not fit input %v, direction %s and %d gates", in[1], in[2], x, direction, gates)
	}
	// operand i with so many elements; zeros if it is absent
	operand := func(i, n int) ([]float64, error) {
		a := c.opt(i)
		if a == nil {
			return make([]float64, n), nil
		}
		v, err := a.floats()
		if err == nil && (len(v) != n || !a.t.IsFloat()) {
			err = fmt.Errorf("input %d: wanted %d elements, got %v", i, n, a)
		}
		return v, err
	}
	at := func(d, b int) int { // of a state vector
		if batchFirst {
			return (b*dirs + d) * hidden
		}
		return (d*batch + b) * hidden
	}
	var vals [8][]float64
	for i, n := range []int{0: time * batch * width, 1: dirs * gates * hidden * width, 2: dirs * gates * hidden * hidden, 3: dirs * 2 * gates * hidden,
		5: dirs * batch * hidden, 6: dirs * batch * hidden, 7: dirs * 3 * hidden} {
		if i == 4 || i > 5 && op != "LSTM" {
			continue
		}
		if vals[i], err = operand(i, n); err != nil {
			return nil, err
		}
	}
	lengths := make([]int, batch)
	for b := range lengths {
		lengths[b] = time
	}
	if a := c.opt(4); a != nil {
		v, err := a.ints()
		if err != nil || len(v) != batch {
			return nil, fmt.Errorf("sequence lengths %v: wanted %d integers", a, batch)
		}
		for b, n := range v {
			if n < 0 || n > int64(time) {
				return nil, fmt.Errorf("sequence length %d of %d", n, time)
			}
			lengths[b] = int(n)
		}
	}
	funcs, err := activations(c.n, dirs)
	if err != nil {
		return nil, err
	}
	clip := c.n.Float("clip", math.Inf(1))
	y := make([]float64, time*dirs*batch*hidden)
	last, cells := make([]float64, dirs*batch*hidden), make([]float64, dirs*batch*hidden)
	for d := range dirs {
		k := &cell{op: op, hidden: hidden, f: funcs[d], clip: clip,
			reset: c.n.Int("linear_before_reset", 0) != 0, coupled: c.n.Int("input_forget", 0) != 0,
			w: vals[1][d*gates*hidden*width:][:gates*hidden*width], r: vals[2][d*gates*hidden*hidden:][:gates*hidden*hidden],
			wb: vals[3][d*2*gates*hidden:][:gates*hidden], rb: vals[3][(d*2+1)*gates*hidden:][:gates*hidden]}
		if op == "LSTM" {
			k.peep = vals[7][d*3*hidden:][:3*hidden]
		}
		for b := range batch {
			h := append([]float64{}, vals[5][at(d, b):][:hidden]...)
			state := make([]float64, hidden)
			if op == "LSTM" {
				copy(state, vals[6][at(d, b):][:hidden])
			}
			for i := range lengths[b] {
				t := i
				if d == 1 || direction == "reverse" {
					t = lengths[b] - 1 - i
				}
				row := (t*batch + b) * width
				to := ((t*dirs+d)*batch + b) * hidden
				if batchFirst {
					row, to = (b*time+t)*width, ((b*time+t)*dirs+d)*hidden
				}
				k.step(vals[0][row:][:width], h, state)
				copy(y[to:], h)
			}
			copy(last[at(d, b):], h)
			copy(cells[at(d, b):], state)
		}
	}
	yDims, lastDims := []int{time, dirs, batch, hidden}, []int{dirs, batch, hidden}
	if batchFirst {
		yDims, lastDims = []int{batch, time, dirs, hidden}, []int{batch, dirs, hidden}
	}
	out := []*array{c.fromFloats(x.t, yDims, y), c.fromFloats(x.t, lastDims, last), c.fromFloats(x.t, lastDims, cells)}
	return out[:min(len(out), len(c.n.Outputs))], nil
}

// activations reads the functions of each direction.
func activations(n *graphs.Node, dirs int) ([][]func(float64) float64, error) {
	def := map[string][]string{"RNN": {"Tanh"}, "GRU": {"Sigmoid", "Tanh"}, "LSTM": {"Sigmoid", "Tanh", "Tanh"}}[n.Op]
	names, err := graphs.RecurrentActivations(n, dirs)
	if err != nil {
		return nil, err
	}
	out := make([][]func(float64) float64, dirs)
	for i, a := range names {
		f, err := activation(a.Name, a.Alpha, a.Beta)
		if err != nil {
			return nil, err
		}
		out[i/len(def)] = append(out[i/len(def)], f)
	}
	return out, nil
}

// A cell is one direction of a recurrent layer.
type cell struct {
	op             string
	hidden         int
	f              []func(float64) float64
	clip           float64
	reset, coupled bool
	w, r, wb, rb   []float64
	peep           []float64
}

// sum is gate g's input for unit j: the input's part and the state's part.
func (k *cell) sum(g, j int, x, h []float64) (fromX, fromH float64) {
	row := g*k.hidden + j
	fromX, fromH = k.wb[row], k.rb[row]
	for i, v := range x {
		fromX += k.w[row*len(x)+i] * v
	}
	for i, v := range h {
		fromH += k.r[row*len(h)+i] * v
	}
	return
}

func (k *cell) act(f int, x float64) float64 {
	return k.f[f](min(max(x, -k.clip), k.clip))
}

// step replaces the state h (and the LSTM's cell state c).
func (k *cell) step(x, h, c []float64) {
	n := k.hidden
	next := make([]float64, n)
	switch k.op {
	case "RNN":
		for j := range n {
			a, b := k.sum(0, j, x, h)
			next[j] = k.act(0, a+b)
		}
	case "GRU": // gates z, r, h
		rh := make([]float64, n)
		for j := range n {
			a, b := k.sum(1, j, x, h)
			rh[j] = k.act(0, a+b) * h[j]
		}
		for j := range n {
			a, b := k.sum(0, j, x, h)
			z := k.act(0, a+b)
			var cand float64
			if k.reset {
				a, b = k.sum(1, j, x, h)
				r := k.act(0, a+b)
				a, b = k.sum(2, j, x, h)
				cand = k.act(1, a+r*b)
			} else {
				a, b = k.sum(2, j, x, rh)
				cand = k.act(1, a+b)
			}
			next[j] = (1-z)*cand + z*h[j]
		}
	case "LSTM": // gates i, o, f, c
		for j := range n {
			a, b := k.sum(0, j, x, h)
			in := k.act(0, a+b+k.peep[j]*c[j])
			a, b = k.sum(2, j, x, h)
			forget := k.act(0, a+b+k.peep[2*n+j]*c[j])
			if k.coupled {
				forget = 1 - in
			}
			a, b = k.sum(3, j, x, h)
			state := forget*c[j] + in*k.act(1, a+b)
			a, b = k.sum(1, j, x, h)
			next[j] = k.act(0, a+b+k.peep[n+j]*state) * k.act(2, state)
			c[j] = state
		}
	}
	copy(h, next)
}
