package passes

import (
	"fmt"
	"math"
	"slices"

	"ebmrun/graphs"
)

// rowRules is the table of ops that are known to treat the rows of a batch alike
// and apart. A rule checks that a node does, rewrites it if the batch is written
// into it, and returns where the batch is in the node's outputs; nil says that
// they hold sizes at most.
var rowRules map[string]func(f *freer, n *graphs.Node) ([]place, error)

func init() { // rules call one another by way of the table's helpers
	rowRules = map[string]func(f *freer, n *graphs.Node) ([]place, error){
		"Reshape": reshapeRows, "Flatten": flattenRows, "Transpose": transposeRows,
		"Squeeze": squeezeRows, "Unsqueeze": unsqueezeRows,
		"Expand": expandRows, "Tile": tileRows, "ConstantOfShape": constantRows,
		"Concat": concatRows, "Slice": sliceRows, "Pad": padRows, "Resize": resizeRows,
		"Gather": gatherRows, "GatherElements": alongRows, "ScatterElements": alongRows, "GatherND": gatherNDRows,
		"MatMul": matMulRows, "Gemm": gemmRows, "Einsum": einsumRows,
		"LSTM": recurrentRows, "GRU": recurrentRows, "RNN": recurrentRows,
		"LayerNormalization": layerNormRows, "RMSNormalization": layerNormRows,
		"TopK": axisRows(-1), "Split": axisRows(0), "Softmax": axisRows(-1), "LogSoftmax": axisRows(-1), "Hardmax": axisRows(-1),
		"LpNormalization": axisRows(-1),
		"CumSum":          cumSumRows, "ArgMax": argRows, "ArgMin": argRows, "Trilu": triluRows,
		"Shape": func(f *freer, n *graphs.Node) ([]place, error) { return nil, nil },
		"Size":  func(f *freer, n *graphs.Node) ([]place, error) { return nil, nil },
	}
	for _, op := range []string{
		"Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Ceil", "Celu", "Clip", "Cos", "Cosh",
		"Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg",
		"Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign",
		"Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Add", "Sub", "Mul", "Div", "Mod", "Pow", "BitShift", "BitwiseAnd",
		"BitwiseOr", "BitwiseXor", "PRelu", "Max", "Min", "Mean", "Sum", "Equal", "Less", "LessOrEqual", "Greater",
		"GreaterOrEqual", "And", "Or", "Xor", "IsNaN", "IsInf", "Where", "Cast", "Dropout",
	} {
		rowRules[op] = broadcastRows
	}
	for _, op := range []string{
		"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool",
		"BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "DepthToSpace", "SpaceToDepth", "GridSample", "AffineGrid",
	} {
		rowRules[op] = imageRows
	}
	for _, op := range []string{
		"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp",
	} {
		rowRules[op] = reduceRows
	}
}

// every is the same place for all outputs.
func every(n *graphs.Node, p place) []place {
	out := make([]place, len(n.Outputs))
	for i := range out {
		out[i] = p
	}
	return out
}

func errMixed(p place) error { return fmt.Errorf("it works along the batch (axis %d)", p.axis) }

// sizes reports whether a node computes with shapes only, which [freer.node]
// follows by their content.
func (f *freer) sizes(n *graphs.Node) bool {
	for i, v := range n.Inputs {
		if _, ok := f.rows[v]; ok && v != nil {
			return false
		}
		if s := f.frozen[v]; v != nil && i >= 0 && len(s) > 1 {
			return false
		}
	}
	return true
}

// broadcastRows: element by element, operands aligned at their last axes.
func broadcastRows(f *freer, n *graphs.Node) ([]place, error) {
	if f.sizes(n) {
		return nil, nil
	}
	rank := 0
	for _, v := range n.Inputs {
		rank = max(rank, len(f.frozen[v]))
	}
	at := nowhere
	for _, i := range f.carrying(n) {
		p := f.rows[n.Inputs[i]]
		p.axis += rank - len(f.frozen[n.Inputs[i]])
		if at != nowhere && at != p {
			return nil, fmt.Errorf("it joins rows of the batch with one another")
		}
		at = p
	}
	for i, v := range n.Inputs {
		if _, ok := f.rows[v]; v == nil || ok {
			continue
		}
		if f.sized[v] {
			return nil, fmt.Errorf("input %d depends on the size of the batch", i)
		}
		s := f.frozen[v]
		if s == nil {
			return nil, fmt.Errorf("the rank of %s must be known", v)
		}
		k := at.axis - (rank - len(s))
		if k < 0 {
			continue
		}
		w, ok := f.oneRow(v, k)
		if !ok || s[k].N != 1 && !at.pure() {
			return nil, fmt.Errorf("operand %s has the batch written into it", v)
		}
		n.Inputs[i] = w
	}
	return every(n, at), nil
}

// imageRows: batch first, channels second. Operands that have a batch as well
// (the grid of GridSample) get it.
func imageRows(f *freer, n *graphs.Node) ([]place, error) {
	if n.Int("training_mode", 0) != 0 {
		return nil, fmt.Errorf("training mode mixes rows")
	}
	if n.Op == "AffineGrid" {
		return nil, fmt.Errorf("its size holds the batch")
	}
	p, ok := f.rows[n.Inputs[0]]
	if n.Op == "GridSample" {
		for i := range 2 {
			if _, carries := f.rows[n.Inputs[i]]; !carries {
				v, err := f.grow(n.Inputs[i], 0)
				if err != nil {
					return nil, err
				}
				n.Inputs[i] = v
			}
		}
		p = f.rows[n.Inputs[0]]
		if p.axis != 0 || p != f.rows[n.Inputs[1]] {
			return nil, errMixed(p)
		}
		return every(n, p), nil
	}
	if !ok || p.axis != 0 || len(f.carrying(n)) != 1 {
		return nil, errMixed(p)
	}
	return every(n, p), nil
}

func reduceRows(f *freer, n *graphs.Node) ([]place, error) {
	p, s, err := f.only(n)
	if err != nil {
		return nil, err
	}
	axes := []int64{}
	if n.In(1) != nil {
		v, ok := graphs.ConstInts(n.In(1))
		if !ok {
			return nil, fmt.Errorf("its axes must be constant")
		}
		axes = v
	}
	if len(axes) == 0 {
		if n.Int("noop_with_empty_axes", 0) != 0 {
			return every(n, p), nil
		}
		return nil, errMixed(p)
	}
	gone := 0
	for _, a := range axes {
		k, err := graphs.NormAxis(a, len(s))
		if err != nil {
			return nil, err
		}
		if k == p.axis {
			return nil, errMixed(p)
		}
		if k < p.axis {
			gone++
		}
	}
	if n.Int("keepdims", 1) == 0 {
		p.axis -= gone
	}
	return every(n, p), nil
}

func argRows(f *freer, n *graphs.Node) ([]place, error) {
	p, s, err := f.only(n)
	if err != nil {
		return nil, err
	}
	k, err := graphs.NormAxis(n.Int("axis", 0), len(s))
	if err != nil || k == p.axis {
		return nil, errMixed(p)
	}
	if n.Int("keepdims", 1) == 0 && k < p.axis {
		p.axis--
	}
	return every(n, p), nil
}

// axisRows: ops that work along one axis, which must not be the batch's.
func axisRows(def int64) func(f *freer, n *graphs.Node) ([]place, error) {
	return func(f *freer, n *graphs.Node) ([]place, error) {
		if f.sizes(n) {
			return nil, nil
		}
		p, s, err := f.only(n)
		if err != nil {
			return nil, err
		}
		k, err := graphs.NormAxis(n.Int("axis", def), len(s))
		if err != nil || k == p.axis {
			return nil, errMixed(p)
		}
		return every(n, p), nil
	}
}

func cumSumRows(f *freer, n *graphs.Node) ([]place, error) {
	p, s, err := f.only(n)
	if err != nil {
		return nil, err
	}
	a, ok := graphs.ConstInts(n.In(1))
	if !ok || len(a) != 1 {
		return nil, fmt.Errorf("its axis must be constant")
	}
	if k, err := graphs.NormAxis(a[0], len(s)); err != nil || k == p.axis {
		return nil, errMixed(p)
	}
	return every(n, p), nil
}

func triluRows(f *freer, n *graphs.Node) ([]place, error) {
	p, s, err := f.only(n)
	if err == nil && p.axis >= len(s)-2 {
		err = errMixed(p)
	}
	return every(n, p), err
}

func layerNormRows(f *freer, n *graphs.Node) ([]place, error) {
	p, s, err := f.only(n)
	if err != nil {
		return nil, err
	}
	if k, err := graphs.NormAxis(n.Int("axis", -1), len(s)); err != nil || k <= p.axis {
		return nil, errMixed(p)
	}
	return every(n, p), nil
}

func transposeRows(f *freer, n *graphs.Node) ([]place, error) {
	p, s, err := f.only(n)
	if err != nil {
		return nil, err
	}
	p.axis = slices.Index(graphs.Perm(n, len(s)), int64(p.axis))
	return every(n, p), nil
}

// reshapeRows finds the batch among the new axes and has its size inferred.
func reshapeRows(f *freer, n *graphs.Node) ([]place, error) {
	x, y := n.Inputs[0], n.Out(0)
	p, ok := f.rows[x]
	if !ok {
		return expandTo(f, n, false)
	}
	to := f.frozen[y]
	before, after, err := around(f.frozen[x], p)
	if err != nil {
		return nil, err
	}
	var ways []place
	for i := range to {
		if q, ok := f.land(before, after, to, i); ok {
			ways = append(ways, q)
		}
	}
	if len(ways) == 0 {
		return nil, fmt.Errorf("the batch is torn apart by reshaping %v to %v", f.frozen[x], to)
	}
	slices.SortStableFunc(ways, func(a, b place) int { return cost(a) - cost(b) })
	k := 0
	if len(ways) > 1 {
		if i := len(f.options); i < len(f.choice) {
			k = f.choice[i]
		}
		f.options = append(f.options, [2]int{k, len(ways)})
	}
	p = ways[k]
	want := make([]int64, len(to))
	for i, d := range to {
		want[i] = d.N
	}
	want[p.axis] = -1
	have, constant := graphs.ConstInts(n.In(1))
	if constant && slices.Equal(have, want) {
		return every(n, p), nil
	}
	if constant {
		f.rewritten++
	}
	n.Inputs = []*graphs.Value{x, f.b.Ints(want...)}
	return every(n, p), nil
}

// cost prefers places where the batch is an axis of its own.
func cost(p place) int {
	if p.pure() {
		return 0
	}
	return 1
}

func flattenRows(f *freer, n *graphs.Node) ([]place, error) {
	p, s, err := f.only(n)
	if err != nil {
		return nil, err
	}
	k := n.Int("axis", 1)
	if k < 0 {
		k += int64(len(s))
	}
	before, after, err := around(s, p)
	if err != nil {
		return nil, err
	}
	i := 0
	if int64(p.axis) >= k {
		i = 1
	}
	q, ok := f.land(before, after, f.frozen[n.Out(0)], i)
	if !ok {
		return nil, errMixed(p)
	}
	return every(n, q), nil
}

func squeezeRows(f *freer, n *graphs.Node) ([]place, error) {
	if f.sizes(n) {
		return nil, nil
	}
	p, s, err := f.only(n)
	if err != nil {
		return nil, err
	}
	if n.In(1) == nil {
		return nil, fmt.Errorf("which axes it squeezes depends on the batch")
	}
	axes, ok := graphs.ConstInts(n.In(1))
	if !ok {
		return nil, fmt.Errorf("its axes must be constant")
	}
	gone := 0
	for _, a := range axes {
		k, err := graphs.NormAxis(a, len(s))
		if err != nil || k == p.axis {
			return nil, errMixed(p)
		}
		if k < p.axis {
			gone++
		}
	}
	p.axis -= gone
	return every(n, p), nil
}

func unsqueezeRows(f *freer, n *graphs.Node) ([]place, error) {
	if f.sizes(n) {
		return nil, nil
	}
	p, s, err := f.only(n)
	if err != nil {
		return nil, err
	}
	axes, ok := graphs.ConstInts(n.In(1))
	if !ok {
		return nil, fmt.Errorf("its axes must be constant")
	}
	added := make([]bool, len(s)+len(axes))
	for _, a := range axes {
		k, err := graphs.NormAxis(a, len(added))
		if err != nil {
			return nil, err
		}
		added[k] = true
	}
	old := -1
	for i, a := range added {
		if !a {
			old++
		}
		if old == p.axis {
			p.axis = i
			break
		}
	}
	return every(n, p), nil
}

// expandRows: the axis of the batch is given size 1, which leaves it as it is.
func expandRows(f *freer, n *graphs.Node) ([]place, error) {
	x, y := n.Inputs[0], n.Out(0)
	p, ok := f.rows[x]
	if !ok {
		return expandTo(f, n, true)
	}
	to := f.frozen[y]
	p.axis += len(to) - len(f.frozen[x])
	if !f.frozen[x][f.rows[x].axis].Same(to[p.axis]) {
		return nil, errMixed(p)
	}
	have, constant := graphs.ConstInts(n.In(1))
	k := p.axis - (len(to) - len(have))
	switch {
	case constant && (k < 0 || have[k] == 1):
	case to.Known():
		want := make([]int64, len(to))
		for i, d := range to {
			want[i] = d.N
		}
		want[p.axis] = 1
		n.Inputs = []*graphs.Value{x, f.b.Ints(want...)}
		f.rewritten++
	default:
		return nil, fmt.Errorf("sizes that are computed at run time")
	}
	return every(n, p), nil
}

// expandTo: a value without the batch is given a shape that holds it.
func expandTo(f *freer, n *graphs.Node, repeats bool) ([]place, error) {
	shape := n.In(1)
	if n.Op == "ConstantOfShape" {
		shape = n.In(0)
	}
	at := nowhere
	for i, d := range shape.Content {
		if d.Known() {
			continue
		}
		if at != nowhere || !d.Same(graphs.Sym(f.axis)) || !repeats {
			return nil, fmt.Errorf("its shape is computed from the batch")
		}
		at = place{i, 1, 1}
	}
	if at == nowhere {
		return nil, fmt.Errorf("its shape is computed from the batch")
	}
	if n.Op != "ConstantOfShape" {
		x := f.frozen[n.Inputs[0]]
		if k := len(x) - len(shape.Content) + at.axis; k >= 0 {
			one, ok := f.oneRow(n.Inputs[0], k)
			if !ok {
				return nil, fmt.Errorf("its shape is computed from the batch")
			}
			n.Inputs[0] = one
		}
	}
	return every(n, at), nil
}

func constantRows(f *freer, n *graphs.Node) ([]place, error) { return expandTo(f, n, true) }

func tileRows(f *freer, n *graphs.Node) ([]place, error) {
	p, ok := f.rows[n.Inputs[0]]
	if !ok {
		return expandTo(f, n, true)
	}
	r, constant := graphs.ConstInts(n.In(1))
	if !constant || r[p.axis] != 1 {
		return nil, errMixed(p)
	}
	return every(n, p), nil
}

func concatRows(f *freer, n *graphs.Node) ([]place, error) {
	if f.sizes(n) {
		return nil, nil
	}
	at := nowhere
	for _, i := range f.carrying(n) {
		p := f.rows[n.Inputs[i]]
		if at != nowhere && at != p {
			return nil, fmt.Errorf("it joins rows of the batch with one another")
		}
		at = p
	}
	k, err := graphs.NormAxis(n.Int("axis", 0), len(f.frozen[n.Out(0)]))
	if err != nil || at == nowhere || k == at.axis {
		return nil, errMixed(at)
	}
	for i, v := range n.Inputs {
		if _, ok := f.rows[v]; ok {
			continue
		}
		if !at.pure() || f.sized[v] {
			return nil, fmt.Errorf("operand %s has the batch written into it", v)
		}
		if n.Inputs[i], err = f.grow(v, at.axis); err != nil {
			return nil, err
		}
	}
	return every(n, at), nil
}

func sliceRows(f *freer, n *graphs.Node) ([]place, error) {
	if f.sizes(n) {
		return nil, nil
	}
	x := n.Inputs[0]
	p, ok := f.rows[x]
	if !ok {
		return nil, fmt.Errorf("its bounds depend on the batch")
	}
	s, err := graphs.Slices(n, len(f.frozen[x]))
	if err != nil {
		return nil, err
	}
	if s.Axes == nil || s.Steps == nil {
		return nil, fmt.Errorf("its axes and steps must be constant")
	}
	for i, a := range s.Axes {
		if int(a) != p.axis {
			continue
		}
		whole := f.frozen[n.Out(0)][a].Same(f.frozen[x][a]) && s.Steps[i] == 1
		if !whole || !s.Known {
			return nil, errMixed(p)
		}
		if s.Ends[i] < math.MaxInt32 { // else it takes all there is
			ends := slices.Clone(s.Ends)
			ends[i] = math.MaxInt64
			n.Inputs[2] = f.b.Ints(ends...)
			f.rewritten++
		}
	}
	for i := 1; i < len(n.Inputs); i++ {
		if v := n.Inputs[i]; f.sized[v] {
			return nil, fmt.Errorf("its bounds depend on the batch")
		}
	}
	return every(n, p), nil
}

func padRows(f *freer, n *graphs.Node) ([]place, error) {
	p, s, err := f.only(n)
	if err != nil {
		return nil, err
	}
	lo, hi, ok, err := graphs.Pads(n, len(s))
	if err != nil || !ok {
		return nil, fmt.Errorf("its pads must be constant")
	}
	if lo[p.axis] != 0 || hi[p.axis] != 0 {
		return nil, errMixed(p)
	}
	return every(n, p), nil
}

// resizeRows: sizes are given for the axes other than the batch's.
func resizeRows(f *freer, n *graphs.Node) ([]place, error) {
	x := n.Inputs[0]
	p, ok := f.rows[x]
	s, y := f.frozen[x], f.frozen[n.Out(0)]
	if !ok || !s[p.axis].Same(y[p.axis]) || n.Str("coordinate_transformation_mode", "") == "tf_crop_and_resize" {
		return nil, errMixed(p)
	}
	axes := n.Ints("axes")
	if axes == nil {
		axes = make([]int64, len(s))
		for i := range axes {
			axes[i] = int64(i)
		}
	}
	at := slices.IndexFunc(axes, func(a int64) bool { return a == int64(p.axis) || a == int64(p.axis-len(s)) })
	if at < 0 {
		return every(n, p), nil
	}
	empty := func(v *graphs.Value) bool { return v == nil || len(v.Shape) == 1 && v.Shape[0].N == 0 }
	if v := n.In(2); !empty(v) && empty(n.In(3)) {
		if v.Const == nil {
			return nil, fmt.Errorf("its scales must be constant")
		}
		return every(n, p), nil // 1 for the batch, as its size is kept
	}
	var keep, sizes []int64
	for i, a := range axes {
		k, err := graphs.NormAxis(a, len(s))
		if err != nil || i != at && !y[k].Known() {
			return nil, fmt.Errorf("its sizes must be constant")
		}
		if i != at {
			keep, sizes = append(keep, int64(k)), append(sizes, y[k].N)
		}
	}
	n.Attrs = append(slices.DeleteFunc(slices.Clone(n.Attrs), func(a *graphs.Attr) bool { return a.Name == "axes" }), graphs.IntsAttr("axes", keep...))
	n.Inputs = []*graphs.Value{x, nil, nil, f.b.Ints(sizes...)}
	f.rewritten++
	return every(n, p), nil
}

func gatherRows(f *freer, n *graphs.Node) ([]place, error) {
	if f.sizes(n) {
		return nil, nil
	}
	x, idx := n.Inputs[0], n.Inputs[1]
	p, inX := f.rows[x]
	q, inIdx := f.rows[idx]
	k, err := graphs.NormAxis(n.Int("axis", 0), len(f.frozen[x]))
	if err != nil {
		return nil, err
	}
	switch {
	case inX && inIdx, f.sized[idx], f.sized[x], f.frozen[idx] == nil:
		return nil, fmt.Errorf("it picks rows of the batch")
	case inIdx:
		q.axis += k
		return every(n, q), nil
	case k == p.axis:
		return nil, errMixed(p)
	case k < p.axis:
		p.axis += len(f.frozen[idx]) - 1
	}
	return every(n, p), nil
}

// alongRows: operands that are all aligned, and an axis to pick along.
func alongRows(f *freer, n *graphs.Node) ([]place, error) {
	p, ok := f.rows[n.Inputs[0]]
	k, err := graphs.NormAxis(n.Int("axis", 0), len(f.frozen[n.Inputs[0]]))
	if err != nil || !ok || k == p.axis {
		return nil, errMixed(p)
	}
	for i, v := range n.Inputs {
		q, ok := f.rows[v]
		if !ok {
			if !p.pure() {
				return nil, fmt.Errorf("operand %s has the batch written into it", v)
			}
			if n.Inputs[i], err = f.grow(v, p.axis); err != nil {
				return nil, err
			}
		} else if q != p {
			return nil, fmt.Errorf("it joins rows of the batch with one another")
		}
	}
	return every(n, p), nil
}

func gatherNDRows(f *freer, n *graphs.Node) ([]place, error) {
	first := place{0, 1, 1}
	p, ok := f.rows[n.Inputs[0]]
	q, okQ := f.rows[n.Inputs[1]]
	if n.Int("batch_dims", 0) < 1 || !ok || !okQ || p != first || q != first {
		return nil, fmt.Errorf("it picks rows of the batch")
	}
	return every(n, first), nil
}

func matMulRows(f *freer, n *graphs.Node) ([]place, error) {
	rank := 0
	for _, v := range n.Inputs {
		if len(f.frozen[v]) < 2 {
			return nil, fmt.Errorf("operand %s: wanted at least two axes", v)
		}
		rank = max(rank, len(f.frozen[v]))
	}
	at := nowhere
	for _, i := range f.carrying(n) {
		p := f.rows[n.Inputs[i]]
		p.axis += rank - len(f.frozen[n.Inputs[i]])
		if inner := rank - 1 - i; p.axis == inner {
			return nil, errMixed(f.rows[n.Inputs[i]])
		}
		if at != nowhere && (at != p || p.axis >= rank-2) {
			return nil, fmt.Errorf("it joins rows of the batch with one another")
		}
		at = p
	}
	for i, v := range n.Inputs {
		if f.sized[v] {
			return nil, fmt.Errorf("input %d depends on the size of the batch", i)
		}
		if _, ok := f.rows[v]; ok || at.axis >= rank-2 {
			continue
		}
		if k := at.axis - (rank - len(f.frozen[v])); k >= 0 {
			w, ok := f.oneRow(v, k)
			if !ok || f.frozen[v][k].N != 1 && !at.pure() {
				return nil, fmt.Errorf("operand %s has the batch written into it", v)
			}
			n.Inputs[i] = w
		}
	}
	return every(n, at), nil
}

func gemmRows(f *freer, n *graphs.Node) ([]place, error) {
	at := nowhere
	for _, i := range f.carrying(n) {
		if i == 2 {
			continue
		}
		p := f.rows[n.Inputs[i]]
		if n.Int([]string{"transA", "transB"}[i], 0) != 0 {
			p.axis = 1 - p.axis
		}
		if at != nowhere || p.axis != i {
			return nil, errMixed(p)
		}
		at = p
	}
	if c := n.In(2); c != nil {
		p, ok := f.rows[c]
		p.axis += 2 - len(f.frozen[c])
		switch k := at.axis - (2 - len(f.frozen[c])); {
		case f.sized[c], ok && p != at:
			return nil, fmt.Errorf("operand %s has the batch written into it", c)
		case !ok && k >= 0:
			w, ok := f.oneRow(c, k)
			if !ok || f.frozen[c][k].N != 1 && !at.pure() {
				return nil, fmt.Errorf("operand %s has the batch written into it", c)
			}
			n.Inputs[2] = w
		}
	}
	return every(n, at), nil
}

// einsumRows: the label of the batch must be that of no other axis.
func einsumRows(f *freer, n *graphs.Node) ([]place, error) {
	spec, err := graphs.EinsumOf(n)
	if err != nil {
		return nil, err
	}
	label, at := byte(0), nowhere
	for _, i := range f.carrying(n) {
		p := f.rows[n.Inputs[i]]
		l := spec.In[i][p.axis]
		if label != 0 && (label != l || at != place{0, p.outer, p.inner}) {
			return nil, fmt.Errorf("it joins rows of the batch with one another")
		}
		label, at = l, place{0, p.outer, p.inner}
	}
	for i, s := range spec.In {
		for k := range s {
			if _, ok := f.rows[n.Inputs[i]]; s[k] == label && (!ok || k != f.rows[n.Inputs[i]].axis) {
				return nil, fmt.Errorf("operand %s has the batch written into it", n.Inputs[i])
			}
		}
	}
	if at.axis = slices.Index([]byte(spec.Out), label); at.axis < 0 {
		return nil, fmt.Errorf("it sums over the batch")
	}
	return every(n, at), nil
}

// recurrentRows: initial states get the batch.
func recurrentRows(f *freer, n *graphs.Node) ([]place, error) {
	if n.Int("layout", 0) != 0 || n.In(4) != nil || f.rows[n.Inputs[0]] != (place{1, 1, 1}) {
		return nil, fmt.Errorf("a batch in another place than the second axis")
	}
	for i := 5; i < min(len(n.Inputs), 7); i++ {
		v := n.Inputs[i]
		if p, ok := f.rows[v]; v == nil || ok && p == (place{1, 1, 1}) {
			continue
		} else if ok {
			return nil, errMixed(p)
		}
		w, err := f.grow(v, 1)
		if err != nil {
			return nil, err
		}
		n.Inputs[i] = w
	}
	return []place{{2, 1, 1}, {1, 1, 1}, {1, 1, 1}}, nil
}
