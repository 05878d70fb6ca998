package autodiff

import (
	"fmt"
	"math"
	"slices"

	"ebmrun/graphs"
)

// A Lowering rewrites a composite op into primitives that have rules and
// returns the new outputs (nil for one that it does not make), or nil to leave
// the node as it is.
type Lowering func(b *graphs.Builder, n *graphs.Node) []*graphs.Value

// lower rewrites in place the composite ops between wrt and of, and returns of
// as it stands afterwards (the same values, unless their nodes were rewritten).
// Values keep their names.
func lower(b *graphs.Builder, of []*graphs.Value, wrt []*graphs.Value) ([]*graphs.Value, error) {
	g := b.Target()
	active, needed := dependents(g, wrt), ancestors(g, of...)
	now, _, err := rewrite(b, func(n *graphs.Node) Lowering {
		switch {
		case !touches(n, active, needed):
			return nil
		case isScan(n):
			return lowerScan
		case !graphs.Known(n):
			return nil
		}
		return lowerings[n.Op]
	})
	out := slices.Clone(of)
	for i, v := range of {
		if w := now[v]; w != nil {
			out[i] = w
		}
	}
	return out, err
}

// rewrite replaces in place the nodes for which pick gives a lowering, and
// returns what now stands for the values that were rewritten. They keep their
// names.
func rewrite(b *graphs.Builder, pick func(*graphs.Node) Lowering) (now map[*graphs.Value]*graphs.Value, changed bool, err error) {
	g := b.Target()
	now = map[*graphs.Value]*graphs.Value{}
	picked := map[*graphs.Node]Lowering{}
	for _, n := range g.Nodes {
		if f := pick(n); f != nil {
			picked[n] = f
		}
	}
	if len(picked) == 0 {
		return now, false, nil
	}
	g.Fresh("rewritten") // names are collected while all nodes are there
	old := g.Nodes
	g.Nodes = make([]*graphs.Node, 0, len(old))
	taken := map[*graphs.Value]bool{}
	to := func(v *graphs.Value) *graphs.Value {
		if w := now[v]; w != nil {
			return w
		}
		return v
	}
	defer b.Prefix(b.Prefix(""))
	for _, n := range old {
		redirect(n, to)
		var out []*graphs.Value
		made := map[*graphs.Node]bool{}
		if f := picked[n]; f != nil {
			b.Prefix(n.Label())
			start := len(g.Nodes)
			out = f(b, n)
			for _, m := range g.Nodes[min(start, len(g.Nodes)):] {
				made[m] = true
			}
			if err := b.Err(); err != nil {
				if m := unknownBefore(n, nil); m != nil {
					n, err = m, noRule(m)
				}
				return nil, false, fmt.Errorf("autodiff: %w", &graphs.NodeError{Node: n, Opset: graphs.OpsetVersion, Err: err})
			}
		}
		if out == nil {
			g.Nodes = append(g.Nodes, n)
			continue
		}
		changed = true
		for i, o := range n.Outputs {
			if o == nil {
				continue
			}
			if i >= len(out) || out[i] == nil {
				return nil, false, fmt.Errorf("autodiff: %w", &graphs.NodeError{Node: n, Err: fmt.Errorf("output %d has no lowering", i)})
			}
			v := out[i]
			if v.Const != nil || !made[v.From] || taken[v] {
				v = b.Identity(v) // a value with a name or use of its own cannot take over another
			}
			v.Name, v.Doc = o.Name, o.Doc
			if v.Shape == nil || !v.Shape.Known() && o.Shape != nil {
				v.Shape = o.Shape
			}
			now[o], taken[v] = v, true
		}
	}
	for i, o := range g.Outputs {
		g.Outputs[i] = to(o)
	}
	return now, changed, b.Err()
}

// redirect exchanges the values that a node and its subgraphs read.
func redirect(n *graphs.Node, to func(*graphs.Value) *graphs.Value) {
	for i, v := range n.Inputs {
		if v != nil {
			n.Inputs[i] = to(v)
		}
	}
	for _, a := range n.Attrs {
		for _, g := range append(append([]*graphs.Graph{}, a.Graphs...), a.G) {
			if g == nil {
				continue
			}
			for _, m := range g.Nodes {
				redirect(m, to)
			}
			for i, o := range g.Outputs {
				g.Outputs[i] = to(o)
			}
		}
	}
}

func touches(n *graphs.Node, active, needed map[*graphs.Value]bool) bool {
	for _, o := range n.Outputs {
		if o != nil && active[o] && needed[o] {
			return true
		}
	}
	return false
}

// ancestors is the set of values that others are computed from, themselves included.
func ancestors(g *graphs.Graph, of ...*graphs.Value) map[*graphs.Value]bool {
	set := map[*graphs.Value]bool{}
	for _, v := range of {
		set[v] = true
	}
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		n := g.Nodes[i]
		hit := false
		for _, o := range n.Outputs {
			hit = hit || o != nil && set[o]
		}
		if !hit {
			continue
		}
		for _, v := range n.Inputs {
			set[v] = true
		}
		for _, v := range captured(n) {
			set[v] = true
		}
	}
	delete(set, nil)
	return set
}

// one wraps a lowering with a single output.
func one(f func(b *graphs.Builder, n *graphs.Node, x val) val) Lowering {
	return func(b *graphs.Builder, n *graphs.Node) []val { return []val{f(b, n, n.In(0))} }
}

// lowerings is the table of composite ops.
var lowerings = joinLowerings(basicLowerings, samplingLowerings(), regionLowerings(), recurrentLowerings(), compositeLowerings())

func joinLowerings(tables ...map[string]Lowering) map[string]Lowering {
	all := map[string]Lowering{}
	for _, t := range tables {
		for op, l := range t {
			all[op] = l
		}
	}
	return all
}

var basicLowerings = map[string]Lowering{
	"Gelu": one(func(b *graphs.Builder, n *graphs.Node, x val) val {
		if n.Str("approximate", "none") == "tanh" {
			cube := b.Mul(b.Mul(x, x), x)
			u := b.Scale(b.Add(x, b.Scale(cube, 0.044715)), math.Sqrt(2/math.Pi))
			return b.Mul(b.Scale(x, 0.5), b.Add(b.Tanh(u), b.Scalar(x, 1)))
		}
		phi := b.Add(b.Op("Erf", []val{b.Scale(x, math.Sqrt2/2)}), b.Scalar(x, 1))
		return b.Mul(b.Scale(x, 0.5), phi)
	}),
	// x·σ(αx)
	"Swish": one(func(b *graphs.Builder, n *graphs.Node, x val) val {
		return b.Mul(x, b.Sigmoid(b.Scale(x, n.Float("alpha", 1))))
	}),
	"Mish": one(func(b *graphs.Builder, n *graphs.Node, x val) val {
		return b.Mul(x, b.Tanh(b.Op("Softplus", []val{x})))
	}),
	"HardSigmoid": one(func(b *graphs.Builder, n *graphs.Node, x val) val {
		return hardSigmoid(b, x, n.Float("alpha", float64(float32(0.2))), n.Float("beta", 0.5))
	}),
	"HardSwish": one(func(b *graphs.Builder, n *graphs.Node, x val) val {
		return b.Mul(x, hardSigmoid(b, x, 1.0/6, 0.5))
	}),
	// max(0,x) + min(0, α(exp(x/α)−1))
	"Celu": one(func(b *graphs.Builder, n *graphs.Node, x val) val {
		a := n.Float("alpha", 1)
		e := b.Op("Elu", []val{b.Scale(x, 1/a)})
		return b.Scale(e, a)
	}),
	"Selu": one(func(b *graphs.Builder, n *graphs.Node, x val) val {
		e := b.Op("Elu", []val{x}, graphs.F("alpha", n.Float("alpha", float64(float32(1.67326319217681884765625)))))
		return b.Scale(e, n.Float("gamma", float64(float32(1.05070102214813232421875))))
	}),
	"GlobalAveragePool": one(func(b *graphs.Builder, n *graphs.Node, x val) val { return b.Mean(x, true, spatial(b, x)...) }),
	"GlobalMaxPool": one(func(b *graphs.Builder, n *graphs.Node, x val) val {
		return b.Op("ReduceMax", []val{x, b.Ints(spatial(b, x)...)})
	}),
	"ReduceL1": reduceBy(func(b *graphs.Builder, x val, sum func(val) val) val { return sum(b.Op("Abs", []val{x})) }),
	"ReduceSumSquare": reduceBy(func(b *graphs.Builder, x val, sum func(val) val) val {
		return sum(b.Mul(x, x))
	}),
	"ReduceLogSum":    reduceBy(func(b *graphs.Builder, x val, sum func(val) val) val { return b.Log(sum(x)) }),
	"ReduceLogSumExp": one(logSumExp),
	"LpNormalization": one(func(b *graphs.Builder, n *graphs.Node, x val) val {
		axis := n.Int("axis", -1)
		// a vector of zeros stays one: its norm is taken to be 1
		norm := b.Sum(b.Op("Abs", []val{x}), true, axis)
		if n.Int("p", 2) == 2 {
			norm = b.Sum(b.Mul(x, x), true, axis)
		}
		norm = b.Where(b.Equal(norm, b.Scalar(x, 0)), b.Scalar(x, 1), norm)
		if n.Int("p", 2) == 2 {
			norm = b.Sqrt(norm)
		}
		return b.Div(x, norm)
	}),
	"MeanVarianceNormalization": one(func(b *graphs.Builder, n *graphs.Node, x val) val {
		axes := n.Ints("axes")
		if axes == nil {
			axes = []int64{0, 2, 3}
		}
		c := b.Sub(x, b.Mean(x, true, axes...))
		v := b.Mean(b.Mul(c, c), true, axes...)
		// the least normal number keeps the slope finite where all elements are equal
		return b.Div(c, b.Add(b.Sqrt(b.Op("Max", []val{v, b.Scalar(x, 1.2e-38)})), b.Scalar(x, 1e-9)))
	}),
	"LayerNormalization":    lowerLayerNorm,
	"RMSNormalization":      one(lowerRMSNorm),
	"InstanceNormalization": one(lowerInstanceNorm),
	"GroupNormalization":    one(lowerGroupNorm),
	"BatchNormalization":    lowerBatchNorm,
	"Pad":                   lowerPad,
}

func hardSigmoid(b *graphs.Builder, x val, alpha, beta float64) val {
	u := b.Add(b.Scale(x, alpha), b.Scalar(x, beta))
	return b.Op("Clip", []val{u, b.Scalar(x, 0), b.Scalar(x, 1)})
}

// spatial lists the axes after batch and channel.
func spatial(b *graphs.Builder, x val) []int64 {
	if len(x.Shape) < 3 {
		b.Fail("%s needs a batch, a channel and at least one spatial axis", x)
		return nil
	}
	return iota64(len(x.Shape))[2:]
}

// reduceBy writes a reduction through ReduceSum with the same axes.
func reduceBy(f func(b *graphs.Builder, x val, sum func(val) val) val) Lowering {
	return func(b *graphs.Builder, n *graphs.Node) []val {
		return []val{f(b, n.In(0), func(v val) val { return b.Op("ReduceSum", append([]val{v}, n.Inputs[1:]...), n.Attrs...) })}
	}
}

// logSumExp subtracts the maximum, whose own slope cancels, so that nothing
// overflows: y = m + log Σ exp(x − m).
func logSumExp(b *graphs.Builder, n *graphs.Node, x val) val {
	with := func(op string, v val, keep int64) val {
		attrs := []*graphs.Attr{graphs.I("keepdims", keep), graphs.I("noop_with_empty_axes", n.Int("noop_with_empty_axes", 0))}
		return b.Op(op, append([]val{v}, n.Inputs[1:]...), attrs...)
	}
	keep := n.Int("keepdims", 1)
	m := with("ReduceMax", x, 1)
	s := b.Log(with("ReduceSum", b.Exp(b.Sub(x, m)), keep))
	if keep == 0 {
		m = with("ReduceMax", x, 0)
	}
	return b.Add(s, m)
}

// standardize subtracts the mean and divides by the deviation over the axes.
func standardize(b *graphs.Builder, x val, eps float64, axes []int64) val {
	c := b.Sub(x, b.Mean(x, true, axes...))
	v := b.Mean(b.Mul(c, c), true, axes...)
	return b.Div(c, b.Sqrt(b.Add(v, b.Scalar(x, eps))))
}

func lowerLayerNorm(b *graphs.Builder, n *graphs.Node) []val {
	x := n.In(0)
	if x.Shape == nil {
		b.Fail("%w", errRank(x))
		return nil
	}
	axis, err := graphs.NormAxis(n.Int("axis", -1), len(x.Shape))
	if err != nil {
		b.Fail("%w", err)
		return nil
	}
	axes := iota64(len(x.Shape))[axis:]
	mean := b.Mean(x, true, axes...)
	c := b.Sub(x, mean)
	v := b.Mean(b.Mul(c, c), true, axes...)
	inv := b.Recip(b.Sqrt(b.Add(v, b.Scalar(x, n.Float("epsilon", 1e-5)))))
	y := b.Mul(b.Mul(c, inv), n.In(1))
	if n.In(2) != nil {
		y = b.Add(y, n.In(2))
	}
	return []val{y, mean, inv}
}

func lowerRMSNorm(b *graphs.Builder, n *graphs.Node, x val) val {
	axis, err := graphs.NormAxis(n.Int("axis", -1), len(x.Shape))
	if err != nil {
		return b.Fail("%w", err)
	}
	v := b.Mean(b.Mul(x, x), true, iota64(len(x.Shape))[axis:]...)
	return b.Mul(b.Div(x, b.Sqrt(b.Add(v, b.Scalar(x, n.Float("epsilon", 1e-5))))), n.In(1))
}

// perChannel gives a vector over channels the shape [C, 1, …] of x's rank.
func perChannel(b *graphs.Builder, v, x val) val {
	dims := []int64{-1}
	for range max(len(x.Shape)-2, 0) {
		dims = append(dims, 1)
	}
	return b.ReshapeTo(v, dims...)
}

func lowerInstanceNorm(b *graphs.Builder, n *graphs.Node, x val) val {
	if x.Shape == nil {
		return b.Fail("%w", errRank(x))
	}
	y := standardize(b, x, n.Float("epsilon", 1e-5), spatial(b, x))
	return b.Add(b.Mul(y, perChannel(b, n.In(1), x)), perChannel(b, n.In(2), x))
}

// lowerGroupNorm: opset 21, where scale and bias are per channel.
func lowerGroupNorm(b *graphs.Builder, n *graphs.Node, x val) val {
	if x.Shape == nil {
		return b.Fail("%w", errRank(x))
	}
	groups := n.Int("num_groups", 1)
	y := standardize(b, b.ReshapeTo(x, 0, groups, -1), n.Float("epsilon", 1e-5), []int64{2})
	y = b.ReshapeLike(y, x)
	return b.Add(b.Mul(y, perChannel(b, n.In(1), x)), perChannel(b, n.In(2), x))
}

// lowerBatchNorm: inference, an affine map per channel.
func lowerBatchNorm(b *graphs.Builder, n *graphs.Node) []val {
	x := n.In(0)
	if n.Int("training_mode", 0) != 0 {
		b.Fail("%w: training mode has no gradient; export the model in evaluation mode", ErrNoRule)
		return nil
	}
	if x.Shape == nil {
		b.Fail("%w", errRank(x))
		return nil
	}
	ch := func(i int) val {
		if len(x.Shape) <= 2 {
			return n.In(i)
		}
		return perChannel(b, n.In(i), x)
	}
	inv := b.Div(ch(1), b.Sqrt(b.Add(ch(4), b.Scalar(x, n.Float("epsilon", 1e-5)))))
	return []val{b.Add(b.Mul(b.Sub(x, ch(3)), inv), ch(2))}
}

// lowerPad writes reflect, edge and wrap padding as a Gather along each padded
// axis; zero padding is left as it is.
func lowerPad(b *graphs.Builder, n *graphs.Node) []val {
	mode := n.Str("mode", "constant")
	if mode == "constant" {
		return nil
	}
	x := n.In(0)
	if x.Shape == nil {
		b.Fail("%w", errRank(x))
		return nil
	}
	lo, hi, ok, err := graphs.Pads(n, len(x.Shape))
	if err != nil || !ok {
		b.Fail("the pads of mode %s must be constant", mode)
		return nil
	}
	y := x
	for a := range lo {
		if lo[a] == 0 && hi[a] == 0 {
			continue
		}
		if !x.Shape[a].Known() {
			y = padUnknown(b, y, mode, a, lo[a], hi[a])
			continue
		}
		size := x.Shape[a].N
		first, left := max(0, -lo[a]), size+min(0, lo[a])+min(0, hi[a]) // what is cropped goes first
		if left < 1 || max(lo[a], hi[a]) > 1<<24 {
			b.Fail("pads %d and %d of mode %s do not fit axis %d of %s", lo[a], hi[a], mode, a, x)
			return nil
		}
		idx := make([]int64, 0, lo[a]+size+hi[a])
		for i := -max(0, lo[a]); i < left+max(0, hi[a]); i++ {
			idx = append(idx, first+padIndex(mode, i, left))
		}
		y = b.Gather(y, b.Ints(idx...), int64(a))
	}
	return []val{y}
}

// padUnknown pads an axis of unknown size, which must be larger than the pads:
// what is added is counted from either end.
func padUnknown(b *graphs.Builder, x val, mode string, axis int, lo, hi int64) val {
	if lo < 0 || hi < 0 || max(lo, hi) > 1<<24 {
		return b.Fail("pads %d and %d of mode %s need a known size of axis %d of %s", lo, hi, mode, axis, x)
	}
	pick := func(count int64, at func(i int64) int64) []val {
		if count == 0 {
			return nil
		}
		idx := make([]int64, count)
		for i := range idx {
			idx[i] = at(int64(i))
		}
		return []val{b.Gather(x, b.Ints(idx...), int64(axis))}
	}
	before, after := func(i int64) int64 { return lo - i }, func(i int64) int64 { return -2 - i } // reflect
	switch mode {
	case "edge":
		before, after = func(int64) int64 { return 0 }, func(int64) int64 { return -1 }
	case "wrap":
		before, after = func(i int64) int64 { return i - lo }, func(i int64) int64 { return i }
	}
	parts := append(pick(lo, before), x)
	return b.Concat(int64(axis), append(parts, pick(hi, after)...)...)
}

// padIndex is the element that stands at position i of an axis of the given
// size, for i outside it.
func padIndex(mode string, i, size int64) int64 {
	switch mode {
	case "edge":
		return min(max(i, 0), size-1)
	case "wrap":
		return ((i % size) + size) % size
	}
	if size == 1 {
		return 0
	}
	period := 2 * (size - 1)
	i = ((i % period) + period) % period
	return min(i, period-i)
}
