package graphs

import "fmt"

// recurrentShapes: recurrent layers.
func recurrentShapes() map[string]func(*inferer) error {
	return map[string]func(*inferer) error{"RNN": inferRecurrent, "GRU": inferRecurrent, "LSTM": inferRecurrent}
}

// RecurrentGates is the number of gates of a recurrent op, 0 for any other op.
func RecurrentGates(op string) int {
	return map[string]int{"RNN": 1, "GRU": 3, "LSTM": 4}[op]
}

// inferRecurrent: X [time, batch, in], W [directions, gates·hidden, in],
// R [directions, gates·hidden, hidden] give Y [time, directions, batch, hidden]
// and the last state [directions, batch, hidden]; with layout 1 batch comes first.
func inferRecurrent(c *inferer) error {
	var v [3]*Value
	for i := range v {
		x, err := c.in(i)
		if err != nil {
			return err
		}
		if x.Shape != nil && len(x.Shape) != 3 {
			return fmt.Errorf("input %s: wanted rank 3", x)
		}
		v[i] = x
	}
	x, w, r := v[0], v[1], v[2]
	hidden := UnknownDim
	if h := c.n.Int("hidden_size", 0); h > 0 {
		hidden = Dim{N: h}
	} else if r.Shape != nil {
		hidden = r.Shape[2]
	}
	dirs := D(1)
	switch d := c.n.Str("direction", "forward"); d {
	case "forward", "reverse":
	case "bidirectional":
		dirs = D(2)
	default:
		return fmt.Errorf("direction %q", d)
	}
	gates := int64(RecurrentGates(c.n.Op))
	if w.Shape != nil && r.Shape != nil {
		in := UnknownDim
		if x.Shape != nil {
			in = x.Shape[2]
		}
		for _, p := range [][2]Dim{{w.Shape[0], dirs}, {r.Shape[0], dirs}, {w.Shape[1], affine(hidden, gates, 0, 1, false)}, {r.Shape[1], affine(hidden, gates, 0, 1, false)}, {r.Shape[2], hidden}, {w.Shape[2], in}} {
			if p[0].Known() && p[1].Known() && p[0].N != p[1].N {
				return fmt.Errorf("weights %s and %s do not fit input %s with %v hidden units, %v directions and %d gates", w, r, x, hidden, dirs, gates)
			}
		}
	}
	time, batch := UnknownDim, UnknownDim
	batchFirst := c.n.Int("layout", 0) != 0
	if x.Shape != nil {
		time, batch = x.Shape[0], x.Shape[1]
		if batchFirst {
			time, batch = batch, time
		}
	}
	y, last := Shape{time, dirs, batch, hidden}, Shape{dirs, batch, hidden}
	if batchFirst {
		y, last = Shape{batch, time, dirs, hidden}, Shape{batch, dirs, hidden}
	}
	c.set(0, x.Type, y)
	c.set(1, x.Type, last)
	if c.n.Op == "LSTM" {
		c.set(2, x.Type, append(Shape{}, last...))
	}
	return nil
}

// A RecurrentActivation is a function applied in a recurrent cell.
type RecurrentActivation struct {
	Name        string
	Alpha, Beta float64
}

// RecurrentActivations lists the functions of a recurrent node, those of the
// first direction first, with the defaults of the op filled in.
func RecurrentActivations(n *Node, dirs int) ([]RecurrentActivation, error) {
	def := map[string][]string{"RNN": {"Tanh"}, "GRU": {"Sigmoid", "Tanh"}, "LSTM": {"Sigmoid", "Tanh", "Tanh"}}[n.Op]
	params := map[string][]float64{
		"LeakyRelu": {float64(float32(0.01))}, "ThresholdedRelu": {1}, "Elu": {1}, "HardSigmoid": {float64(float32(0.2)), 0.5},
		"Affine": {1, 0}, "ScaledTanh": {1, 1},
	}
	var names []string
	for range dirs {
		names = append(names, def...)
	}
	if a := n.Attr("activations"); a != nil && a.Kind == AttrStrings {
		if len(a.Strings) != len(names) {
			return nil, fmt.Errorf("%d activations, wanted %d", len(a.Strings), len(names))
		}
		for i, s := range a.Strings {
			names[i] = string(s)
		}
	}
	given := func(attr string) func() (float64, bool) {
		var list []float32
		if a := n.Attr(attr); a != nil {
			list = a.Floats
		}
		return func() (float64, bool) {
			if len(list) == 0 {
				return 0, false
			}
			v := list[0]
			list = list[1:]
			return float64(v), true
		}
	}
	alpha, beta := given("activation_alpha"), given("activation_beta")
	out := make([]RecurrentActivation, len(names))
	for i, name := range names {
		a := RecurrentActivation{Name: name}
		if p := params[name]; len(p) > 0 {
			a.Alpha = p[0]
			if v, ok := alpha(); ok {
				a.Alpha = v
			}
			if len(p) > 1 {
				a.Beta = p[1]
				if v, ok := beta(); ok {
					a.Beta = v
				}
			}
		}
		out[i] = a
	}
	return out, nil
}
