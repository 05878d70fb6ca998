package passes

import (
	"fmt"
	"slices"

	"ebmrun/graphs"
)

// FreeBatch returns a copy of a model, raised to opset 21, in which the first
// axis of the inputs is symbolic, under the given name. Exporters write the
// batch that they traced with into Reshape and Expand constants; those are
// rewritten to follow the input.
//
// The result is proven, not tried: every node on the way must be known to treat
// the rows of a batch alike and apart, so that row i of each output depends on
// row i of the inputs as it did before. A node of which that is not known is an
// error that names it, and so is an output whose first axis is not the batch.
// Inputs whose first axis has another size than the first input's are left as
// they are.
func FreeBatch(m *graphs.Model, axis string) (*graphs.Model, Freed, error) {
	base := Clone(m)
	if err := Raise(base); err != nil {
		return nil, Freed{}, err
	}
	if _, err := InlineFunctions(base); err != nil {
		return nil, Freed{}, err
	}
	inputs, batch, err := batchInputs(base.Graph)
	if err != nil {
		return nil, Freed{}, err
	}
	// What depends on constants alone is computed ahead, with the batch hidden so
	// that it is not taken for a constant.
	for _, v := range inputs {
		v.Shape[0] = graphs.UnknownDim
	}
	if err := reshape(base.Graph); err != nil {
		return nil, Freed{}, err
	}
	if _, err := FoldConstants(base.Graph); err != nil {
		return nil, Freed{}, err
	}
	names := make([]string, len(inputs))
	for i, v := range inputs {
		names[i] = v.Name
	}
	// A Reshape to several axes of size 1 leaves open which of them is the batch:
	// each way that can be proven gives the same rows.
	var choice []int
	var first error
	for range 256 {
		c := Clone(base)
		f := &freer{g: c.Graph, axis: axis, batch: batch, choice: choice, rows: map[*graphs.Value]place{}, sized: map[*graphs.Value]bool{}}
		if err = f.run(names); err == nil {
			return c, Freed{batch, names, f.rewritten}, nil
		}
		if first == nil {
			first = err
		}
		k := len(f.options) - 1
		for k >= 0 && f.options[k][0]+1 >= f.options[k][1] {
			k--
		}
		if k < 0 {
			break
		}
		choice = choice[:0]
		for i := range k {
			choice = append(choice, f.options[i][0])
		}
		choice = append(choice, f.options[k][0]+1)
	}
	return nil, Freed{}, first
}

// Freed says what [FreeBatch] did.
type Freed struct {
	Batch     int64    // that was written into the graph
	Inputs    []string // that hold it
	Rewritten int      // nodes and operands that had it written into them
}

// batchInputs finds the inputs that hold a batch, and the batch that is written
// into the graph.
func batchInputs(g *graphs.Graph) (inputs []*graphs.Value, batch int64, err error) {
	var first graphs.Dim
	for _, v := range g.Inputs {
		if v.Const != nil || v.Opaque != nil || len(v.Shape) == 0 {
			continue
		}
		if inputs == nil {
			first = v.Shape[0]
		}
		if v.Shape[0].Same(first) || inputs == nil {
			inputs = append(inputs, v)
		}
	}
	if inputs == nil {
		return nil, 0, fmt.Errorf("passes: no input has a batch axis")
	}
	if first.Known() {
		if first.N < 1 {
			return nil, 0, fmt.Errorf("passes: input %s: wanted a batch of at least 1", inputs[0])
		}
		return inputs, first.N, nil
	}
	if first.Name == "" {
		return nil, 0, fmt.Errorf("passes: input %s: its first axis has neither a size nor a name", inputs[0])
	}
	// The input's axis is symbolic already: the batch is what some Reshape says.
	if err := Reinfer(g); err != nil {
		return nil, 0, err
	}
	for _, n := range g.Nodes {
		if n.Op != "Reshape" || n.In(0) == nil || n.In(1) == nil {
			continue
		}
		to, ok := graphs.ConstInts(n.In(1))
		if !ok || slices.ContainsFunc(to, func(d int64) bool { return d < 1 }) {
			continue
		}
		size, carries := int64(1), 0
		for _, d := range n.In(0).Shape {
			if d.Known() {
				size *= d.N
			} else if carries++; !d.Same(first) {
				carries = 2
			}
		}
		total := int64(1)
		for _, d := range to {
			total *= d
		}
		if carries == 1 && size > 0 && total%size == 0 {
			return inputs, total / size, nil
		}
	}
	return nil, 0, fmt.Errorf("passes: input %s: no batch is written into the graph", inputs[0])
}

// reshape infers all shapes anew, without what the file declares.
func reshape(g *graphs.Graph) error {
	for _, n := range g.Nodes {
		for _, v := range n.Outputs {
			if v != nil && graphs.Known(n) {
				v.Shape, v.Content = nil, nil
			}
		}
	}
	return Reinfer(g)
}

// A place says where the batch is in a value: row b of the batch is at the
// indices (o·batch + b)·inner + i of the axis, for o < outer and i < inner.
type place struct {
	axis         int
	outer, inner int64
}

func (p place) pure() bool { return p.outer == 1 && p.inner == 1 }

// A freer walks over a graph whose inputs have a symbolic batch, node by node.
type freer struct {
	g     *graphs.Graph
	b     *graphs.Builder
	axis  string
	batch int64

	frozen  map[*graphs.Value]graphs.Shape  // shapes at the batch that was frozen
	shadow  map[*graphs.Value]*graphs.Value // values as they are at that batch
	rows    map[*graphs.Value]place         // values that hold the batch
	sized   map[*graphs.Value]bool          // shapes being computed that hold the size of the batch
	size    *graphs.Value                   // the batch at run time, int64[1]
	fold    *folder
	choice  []int
	options [][2]int // what was chosen, of how many

	rewritten int
}

func (f *freer) run(inputs []string) error {
	var batched []*graphs.Value
	for _, name := range inputs {
		v := f.g.Input(name)
		v.Shape = slices.Clone(v.Shape)
		v.Shape[0] = graphs.D(int(f.batch))
		batched = append(batched, v)
	}
	f.frozen, f.shadow = map[*graphs.Value]graphs.Shape{}, map[*graphs.Value]*graphs.Value{}
	for _, v := range slices.Concat(f.g.Inputs, f.g.Inits) {
		f.frozen[v] = v.Shape
		w := *v
		f.shadow[v] = &w
	}
	for _, v := range batched {
		v.Shape = slices.Clone(v.Shape)
		v.Shape[0] = graphs.Sym(f.axis)
		f.rows[v] = place{0, 1, 1}
	}
	nodes := f.g.Nodes
	f.g.Nodes = nil
	f.b = graphs.NewBuilder(f.g)
	f.b.Prefix("batch")
	f.fold = &folder{root: f.g, inputs: f.g.Inputs, eval: reference}
	for _, n := range nodes {
		err := f.freeze(n)
		if err == nil {
			err = f.node(n)
		}
		if err != nil {
			return fmt.Errorf("passes: the batch cannot be freed: %w", &graphs.NodeError{Node: n, Opset: graphs.OpsetVersion, Err: err})
		}
		if err := f.b.Err(); err != nil {
			return err
		}
	}
	for _, v := range f.g.Outputs {
		if p, ok := f.rows[v]; f.sized[v] || ok && p != (place{0, 1, 1}) {
			return fmt.Errorf("passes: the batch cannot be freed: it is not the first axis of output %s", v)
		}
	}
	if _, err := Prune(f.g); err != nil {
		return err
	}
	return graphs.Check(f.g)
}

// freeze works out the shapes that a node's outputs have with the batch that was
// frozen, and what is known of their content then.
func (f *freer) freeze(n *graphs.Node) error {
	s := *n
	s.Inputs, s.Outputs = make([]*graphs.Value, len(n.Inputs)), make([]*graphs.Value, len(n.Outputs))
	for i, v := range n.Inputs {
		if v != nil {
			s.Inputs[i] = f.shadow[v]
		}
	}
	for i, v := range n.Outputs {
		if v == nil {
			continue
		}
		if graphs.Known(n) {
			v.Shape, v.Content = nil, nil
		}
		w := *v
		w.From, s.Outputs[i], f.shadow[v] = &s, &w, &w
	}
	if err := inferNode(&s, graphs.OpsetVersion); err != nil {
		return err
	}
	known, err := f.fold.node(&s)
	for i, w := range s.Outputs {
		if w == nil {
			continue
		}
		if known != nil && err == nil {
			w.From, w.Const, w.Name, w.Shape = nil, known[i], "const/"+w.Name, graphs.MakeShape(known[i].Dims...)
			if err := inferInits(w); err != nil {
				return err
			}
		}
		f.frozen[n.Outputs[i]] = w.Shape
	}
	return nil
}

// node checks one node, rewrites it where the batch is written into it, and
// notes where the batch is in its outputs.
func (f *freer) node(n *graphs.Node) error {
	touched, sized := false, false
	reads(n, func(v *graphs.Value) {
		_, ok := f.rows[v]
		touched = touched || ok
		sized = sized || f.sized[v]
	})
	var at []place // of the outputs; a negative axis where there is no batch
	switch rule := rowRules[n.Op]; {
	case !touched && !sized:
	case rule == nil || !graphs.Known(n):
		return fmt.Errorf("it is not known to keep the rows of a batch apart")
	default:
		var err error
		if at, err = rule(f, n); err != nil {
			return err
		}
	}
	f.b.Append(n, graphs.OpsetVersion)
	if f.b.Err() == nil && f.folds(n) {
		return nil
	}
	for i, v := range n.Outputs {
		switch {
		case v == nil:
		case i < len(at) && at[i].axis >= 0:
			f.rows[v] = at[i]
			if k := at[i].axis; at[i].pure() && k < len(v.Shape) && !v.Shape[k].Known() {
				v.Shape = slices.Clone(v.Shape)
				v.Shape[k] = graphs.Sym(f.axis)
			}
		case touched || sized:
			f.sized[v] = false
			for _, d := range v.Content {
				f.sized[v] = f.sized[v] || !d.Known()
			}
			if v.Content == nil && at == nil { // a size that cannot be followed any more
				return fmt.Errorf("it computes with the size of the batch")
			}
		}
	}
	return nil
}

// folds makes constants of what a node that was just appended computes, if it
// is known: sizes that do not depend on the batch, as its rule may need them.
func (f *freer) folds(n *graphs.Node) bool {
	if slices.ContainsFunc(n.Outputs, func(v *graphs.Value) bool { return slices.Contains(f.g.Outputs, v) }) {
		return false
	}
	out, err := f.fold.node(n)
	if err != nil || out == nil {
		return false
	}
	f.g.Nodes = f.g.Nodes[:len(f.g.Nodes)-1]
	for i, v := range n.Outputs {
		if v != nil {
			if err := f.fold.constant(f.g, v, out[i]); err != nil {
				f.b.Fail("%w", err)
			}
		}
	}
	return true
}

// nowhere is the place of a batch that is not there.
var nowhere = place{axis: -1}

// carrying lists the inputs that hold the batch.
func (f *freer) carrying(n *graphs.Node) []int {
	var out []int
	for i, v := range n.Inputs {
		if _, ok := f.rows[v]; ok && v != nil {
			out = append(out, i)
		}
	}
	return out
}

// only checks that the batch comes in by the first input alone and that no other
// operand depends on its size.
func (f *freer) only(n *graphs.Node) (place, graphs.Shape, error) {
	for i, v := range n.Inputs {
		if _, ok := f.rows[v]; (ok && i > 0) || f.sized[v] {
			return nowhere, nil, fmt.Errorf("input %d depends on the batch", i)
		}
	}
	p, ok := f.rows[n.Inputs[0]]
	if !ok {
		return nowhere, nil, fmt.Errorf("it computes with the size of the batch")
	}
	return p, f.frozen[n.Inputs[0]], nil
}

// oneRow gives a value that does not hold the batch size 1 on an axis, if its
// rows there are all equal.
func (f *freer) oneRow(v *graphs.Value, axis int) (*graphs.Value, bool) {
	s := f.frozen[v]
	if s == nil || !s[axis].Known() {
		return nil, false
	}
	if s[axis].N == 1 {
		return v, true
	}
	if s[axis].N != f.batch {
		return nil, false
	}
	equal := false
	switch {
	case v.Const != nil:
		equal = equalRows(v.Const, axis)
	case v.From != nil && v.From.Op == "ConstantOfShape":
		equal = true
	case v.From != nil && (v.From.Op == "Expand" || v.From.Op == "Tile"):
		x := f.frozen[v.From.Inputs[0]]
		k := len(x) - len(s) + axis
		equal = x != nil && (k < 0 || x[k].N == 1)
	}
	if !equal {
		return nil, false
	}
	w := f.b.Slice(v, []int64{0}, []int64{1}, []int64{int64(axis)}, nil)
	f.frozen[w] = slices.Clone(s)
	f.frozen[w][axis] = graphs.D(1)
	f.rewritten++
	return w, true
}

// equalRows reports whether a tensor is the same at every index of an axis.
func equalRows(t *graphs.Tensor, axis int) bool {
	v, err := t.AsFloats()
	if err != nil {
		return false
	}
	inner, n := graphs.Size(t.Dims[axis+1:]), t.Dims[axis]
	for i := range v {
		if first := i - (i/inner%n)*inner; v[i] != v[first] {
			return false
		}
	}
	return true
}

// grow repeats a value of size 1 on an axis for every row of the batch.
func (f *freer) grow(v *graphs.Value, axis int) (*graphs.Value, error) {
	w, ok := f.oneRow(v, axis)
	if !ok {
		return nil, fmt.Errorf("operand %s has the batch written into it", v)
	}
	var to []*graphs.Value
	for i := range f.frozen[v] {
		if i == axis {
			to = append(to, f.rowCount())
		} else {
			to = append(to, f.b.Ints(1))
		}
	}
	e := f.b.Expand(w, f.b.Concat(0, to...))
	f.frozen[e] = slices.Clone(f.frozen[v])
	f.frozen[e][axis] = graphs.D(int(f.batch))
	f.rows[e] = place{axis, 1, 1}
	f.rewritten++
	return e, f.b.Err()
}

// rowCount is the size of the batch at run time.
func (f *freer) rowCount() *graphs.Value {
	if f.size == nil {
		for _, v := range f.g.Inputs {
			if p, ok := f.rows[v]; ok && p.axis == 0 {
				f.size = f.b.Op("Shape", []*graphs.Value{v}, graphs.I("start", 0), graphs.I("end", 1))
				break
			}
		}
	}
	return f.size
}

// land tells where the batch of a value is after its elements, in order, get
// other dimensions: before·batch·after elements as rows before, row, after.
func (f *freer) land(before, after int64, to graphs.Shape, axis int) (place, bool) {
	lead, rest := int64(1), int64(1)
	for i, d := range to {
		switch {
		case i == axis:
		case !d.Known() || d.N == 0:
			return nowhere, false
		case i < axis:
			lead *= d.N
		default:
			rest *= d.N
		}
	}
	if before%lead != 0 || after%rest != 0 {
		return nowhere, false
	}
	p := place{axis, before / lead, after / rest}
	return p, to[axis].N == p.outer*f.batch*p.inner
}

// around counts the elements before and after the batch in a value.
func around(s graphs.Shape, p place) (before, after int64, err error) {
	before, after = p.outer, p.inner
	for i, d := range s {
		switch {
		case i == p.axis:
		case !d.Known() || d.N == 0:
			return 0, 0, fmt.Errorf("axis %d must have a known size", i)
		case i < p.axis:
			before *= d.N
		default:
			after *= d.N
		}
	}
	return before, after, nil
}
