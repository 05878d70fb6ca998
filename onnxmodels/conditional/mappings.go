package conditional

import (
	"fmt"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/generator"
)

// WeightPrefix begins the inputs [batch] of an objective that weigh the terms.
const WeightPrefix = "weight/"

// A Mapping is a generator without codes that has a name: its graph takes NAME/given
// and gives NAME/x, and its weights begin with NAME/ too.
type Mapping struct {
	*graphs.Model
	Name        string
	Given, Dims []int
}

// In and Out are the names of what the mapping takes and gives.
func (m *Mapping) In() string  { return m.Name + "/" + Given }
func (m *Mapping) Out() string { return m.Name + "/" + generator.X }

// BuildMapping makes a mapping of examples given to examples of dims.
func BuildMapping(name string, s Spec, dims, given []int, seed uint64) (*Mapping, error) {
	if s.Codes != 0 {
		return nil, fmt.Errorf("conditional: a mapping has no codes, got %d", s.Codes)
	}
	m, err := Build(s, dims, given, seed)
	if err != nil {
		return nil, err
	}
	err = passes.RenameFunc(m.Graph, func(old string) string { return name + "/" + old })
	return &Mapping{m.Model.Model, name, given, dims}, err
}

// Mappings are mappings that are taught together by a sum of losses. Objective has
// Inputs, then WEIGHT/TERM [batch] for every term, and gives each term [batch]: what an
// example adds to that loss before it is weighed.
type Mappings struct {
	Maps      []*Mapping
	Inputs    []string
	Dims      [][]int // of each input
	Terms     []string
	Objective *graphs.Model
}

// objective is a graph of losses under construction.
type objective struct {
	*graphs.Builder
	m    *Mappings
	uses int
	err  error
}

func newObjective(maps ...*Mapping) *objective {
	return &objective{Builder: graphs.NewBuilder(&graphs.Graph{Name: "objective"}), m: &Mappings{Maps: maps}}
}

// in is an input of examples of the given dimensions.
func (o *objective) in(name string, dims []int) *graphs.Value {
	o.m.Inputs, o.m.Dims = append(o.m.Inputs, name), append(o.m.Dims, dims)
	return o.Input(name, graphs.Float32, append(graphs.Shape{onnxmodels.Batch}, graphs.MakeShape(dims...)...))
}

// apply is what a mapping makes of x; all uses of it share its weights.
func (o *objective) apply(m *Mapping, x *graphs.Value) *graphs.Value {
	if o.err != nil || o.Err() != nil {
		return x
	}
	o.uses++
	p, err := autodiff.Prepare(m.Model)
	if err != nil {
		o.err = err
		return x
	}
	out, err := passes.Inline(o.Builder, p.Graph, map[string]*graphs.Value{m.In(): x}, fmt.Sprintf("use%d", o.uses))
	if err != nil {
		o.err = err
		return x
	}
	return out[m.Out()]
}

// square and distance are the sums of squared and of absolute differences [batch].
func (o *objective) square(x, y *graphs.Value) *graphs.Value {
	d := o.Sub(x, y)
	return o.Sum(o.Mul(d, d), false, 1, 2, 3)
}

func (o *objective) distance(x, y *graphs.Value) *graphs.Value {
	return o.Sum(o.Op("Abs", []*graphs.Value{o.Sub(x, y)}), false, 1, 2, 3)
}

// term adds a loss.
func (o *objective) term(name string, v *graphs.Value) {
	o.m.Terms = append(o.m.Terms, name)
	o.Output(name, v)
}

func (o *objective) done() (*Mappings, error) {
	if o.err != nil {
		return nil, o.err
	}
	g, err := o.Graph()
	if err != nil {
		return nil, err
	}
	o.m.Objective = graphs.NewModel(g)
	return o.m, nil
}

// Slopes is the model inputs, weights of terms → terms, grad/weights of the sum over
// examples and terms of WEIGHT·term. Each weight of the maps has a slope.
func (m *Mappings) Slopes() (*graphs.Model, error) {
	p, err := autodiff.Prepare(m.Objective)
	if err != nil {
		return nil, err
	}
	weights := passes.Weights(p.Graph)
	b := graphs.NewBuilder(p.Graph)
	var total *graphs.Value
	keep := append([]string(nil), m.Terms...)
	for _, name := range m.Terms {
		t := p.Graph.Output(name)
		t = b.Mul(b.Input(WeightPrefix+name, graphs.Float32, t.Shape), t)
		if total != nil {
			t = b.Add(total, t)
		}
		total = t
	}
	slopes, err := autodiff.Append(b, total, nil, weights...)
	if err != nil {
		return nil, err
	}
	for i, v := range weights {
		if slopes[i] == nil {
			slopes[i] = b.Zeros(v)
		}
		b.Output(autodiff.GradPrefix+v.Name, slopes[i])
		keep = append(keep, autodiff.GradPrefix+v.Name)
	}
	if _, err := b.Graph(); err != nil {
		return nil, err
	}
	if err := passes.CutAt(p.Graph, keep...); err != nil {
		return nil, err
	}
	return p, autodiff.Tidy(p.Graph)
}

// Cycle joins two mappings between domains a and b. The inputs are a, b, and what the
// translations of a and of b are taught to be, goal-b and goal-a. The terms are
//
//	teach-b = ‖goal-b − ab(a)‖²,  teach-a = ‖goal-a − ba(b)‖²,
//	cycle   = |a − ba(ab(a))| + |b − ab(ba(b))|, absolute differences summed.
func Cycle(ab, ba *Mapping) (*Mappings, error) {
	o := newObjective(ab, ba)
	a, b := o.in("a", ab.Given), o.in("b", ba.Given)
	goalB, goalA := o.in("goal-b", ab.Dims), o.in("goal-a", ba.Dims)
	toB, toA := o.apply(ab, a), o.apply(ba, b)
	o.term("teach-b", o.square(goalB, toB))
	o.term("teach-a", o.square(goalA, toA))
	o.term("cycle", o.Add(o.distance(a, o.apply(ba, toB)), o.distance(b, o.apply(ab, toA))))
	return o.done()
}

// Sequence joins mappings between pictures of two domains, and a predictor for each
// domain, which takes two pictures stacked and gives the one that follows. The inputs are
// three pictures in a row of each domain, a0 a1 a2 b0 b1 b2, and what their translations
// are taught to be, goal-b0 … goal-b2, goal-a0 … goal-a2. The terms are
//
//	teach-b = Σ_t ‖goal-b_t − ab(a_t)‖²,       predict-a = ‖a2 − ra(a0, a1)‖²,
//	through-a = ‖a2 − ba(rb(ab(a0), ab(a1)))‖²,
//
// the same of the other domain, and, if cycle, Σ_t |a_t − ba(ab(a_t))| + |b_t − ab(ba(b_t))|.
func Sequence(ab, ba, ra, rb *Mapping, cycle bool) (*Mappings, error) {
	o := newObjective(ab, ba, ra, rb)
	const frames = 3
	three := func(name string, dims []int) (v [frames]*graphs.Value) {
		for t := range v {
			v[t] = o.in(fmt.Sprintf("%s%d", name, t), dims)
		}
		return v
	}
	a, b := three("a", ab.Given), three("b", ba.Given)
	goalB, goalA := three("goal-b", ab.Dims), three("goal-a", ba.Dims)
	sum := func(f func(t int) *graphs.Value) *graphs.Value {
		v := f(0)
		for t := 1; t < frames; t++ {
			v = o.Add(v, f(t))
		}
		return v
	}
	var toB, toA [frames]*graphs.Value
	for t := range frames {
		toB[t], toA[t] = o.apply(ab, a[t]), o.apply(ba, b[t])
	}
	next := func(r *Mapping, x [frames]*graphs.Value) *graphs.Value { return o.apply(r, o.Concat(1, x[0], x[1])) }
	o.term("teach-b", sum(func(t int) *graphs.Value { return o.square(goalB[t], toB[t]) }))
	o.term("teach-a", sum(func(t int) *graphs.Value { return o.square(goalA[t], toA[t]) }))
	o.term("predict-a", o.square(a[2], next(ra, a)))
	o.term("predict-b", o.square(b[2], next(rb, b)))
	o.term("through-a", o.square(a[2], o.apply(ba, next(rb, toB))))
	o.term("through-b", o.square(b[2], o.apply(ab, next(ra, toA))))
	if cycle {
		o.term("cycle", sum(func(t int) *graphs.Value {
			return o.Add(o.distance(a[t], o.apply(ba, toB[t])), o.distance(b[t], o.apply(ab, toA[t])))
		}))
	}
	return o.done()
}
