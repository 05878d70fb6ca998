package graphtest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/refeval"
)

// A Drawing is a random graph with inputs on which every value of it is finite: ops of
// the table on shared values of random shapes, sizes 0 and 1 among them. Inputs, weights
// and the first outputs are of one float type.
type Drawing struct {
	Graph *graphs.Graph
	In    []*graphs.Tensor // of Graph.Inputs

	b       *graphs.Builder
	t       graphs.DType
	choices []byte
	rng     Rand
	values  map[*graphs.Value]*graphs.Tensor
	floats  []*graphs.Value // that later nodes may read
	whole   []*graphs.Value // integers and booleans
}

// A Part appends nodes to a drawing.
type Part func(d *Drawing, b *graphs.Builder)

// Draw makes the graph that the choices, random bytes, stand for: with fewer of them it
// is smaller. more are parts to draw beside the package's own.
func Draw(t graphs.DType, choices []byte, more ...Part) (*Drawing, error) {
	d := &Drawing{Graph: &graphs.Graph{Name: "drawn"}, t: t, choices: choices, rng: NewRand(1), values: map[*graphs.Value]*graphs.Tensor{}}
	d.b = graphs.NewBuilder(d.Graph)
	for range 1 + d.Pick(2) {
		d.leaf(d.dims()...)
	}
	parts := slices.Concat(parts, more)
	for len(d.choices) > 0 && len(d.Graph.Nodes) < 40 {
		if err := d.append(parts[(d.Pick(256)<<8+d.Pick(256))%len(parts)]); err != nil {
			return d, err
		}
	}
	return d, d.finish()
}

// Choices are n random bytes.
func Choices(seed uint64, n int) []byte {
	c := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 5))
	for i := range c {
		c[i] = byte(r.Uint32())
	}
	return c
}

// Pick is a choice from 0 … n−1.
func (d *Drawing) Pick(n int) int {
	if len(d.choices) == 0 || n <= 1 {
		return 0
	}
	c := int(d.choices[0])
	d.choices = d.choices[1:]
	return c % n
}

func (d *Drawing) chance(of int) bool { return d.Pick(of) == of-1 }

// dims are sizes of a leaf.
func (d *Drawing) dims() []int {
	dims := make([]int, []int{2, 3, 1, 4, 2, 3, 0}[d.Pick(7)])
	for i := range dims {
		dims[i] = []int{2, 3, 1, 4, 2, 3, 1, 5, 2, 3, 4, 1, 2, 3, 1, 0}[d.Pick(16)]
	}
	return dims
}

// leaf is a new input or weight.
func (d *Drawing) leaf(dims ...int) *graphs.Value {
	x, g := d.tensor(d.rng.Normal(dims...)), d.Graph
	var v *graphs.Value
	switch name := fmt.Sprintf("x%d", len(g.Inputs)+len(g.Inits)); {
	case len(g.Inputs) == 0 || !d.chance(3):
		v = d.b.Input(name, d.t, graphs.MakeShape(dims...))
		d.In = append(d.In, x)
	default:
		v = d.b.Weight(name, x)
	}
	d.values[v] = x
	d.floats = append(d.floats, v)
	return v
}

// tensor gives floats the drawing's type.
func (d *Drawing) tensor(x *graphs.Tensor) *graphs.Tensor {
	x, err := graphs.FromFloats(d.t, x.F64(), x.Dims...)
	if err != nil {
		panic(err)
	}
	return x
}

// append appends a part, or nothing if it does not fit what is there or makes a value
// that is not finite.
func (d *Drawing) append(p Part) error {
	g := d.Graph
	nodes, inits, inputs, floats := len(g.Nodes), len(g.Inits), len(g.Inputs), len(d.floats)
	d.b = graphs.NewBuilder(g)
	p(d, d.b)
	ok, err := d.b.Err() == nil, error(nil)
	if ok {
		ok, err = d.compute(g.Nodes[nodes:])
	}
	if !ok {
		g.Nodes, g.Inits, g.Inputs, d.In, d.floats = g.Nodes[:nodes], g.Inits[:inits], g.Inputs[:inputs], d.In[:inputs], d.floats[:floats]
	}
	return err
}

// compute evaluates new nodes and reports whether their values may stay. What contradicts
// shape inference is an error.
func (d *Drawing) compute(nodes []*graphs.Node) (ok bool, err error) {
	var made []*graphs.Value
	for _, n := range nodes {
		for _, v := range n.Outputs {
			if v != nil {
				made = append(made, v)
			}
		}
	}
	g := *d.Graph
	g.Outputs = made
	p, err := refeval.New(&g, graphs.OpsetVersion, refeval.Options{})
	if err != nil {
		return false, nil
	}
	out, err := p.Run(context.Background(), d.In)
	if err != nil {
		return false, nil
	}
	for i, v := range made {
		if v.Type == graphs.Undefined { // what a node with subgraphs makes
			v.Type, v.Shape = out[i].Type, graphs.MakeShape(out[i].Dims...)
			if v.Type.IsFloat() {
				v.Type = d.t
			}
		}
		if err := Fits(v, out[i]); err != nil {
			return false, err
		}
		f, err := out[i].AsFloats()
		if err != nil || len(f) > 600 {
			return false, nil
		}
		for _, e := range f {
			if v.Type.IsFloat() && !(math.Abs(e) < 1e3) {
				return false, nil
			}
		}
	}
	for i, v := range made {
		d.values[v] = out[i]
		switch {
		case v.Type == d.t:
			d.floats = append(d.floats, v)
		case v.Type == graphs.Int64 || v.Type == graphs.Bool:
			d.whole = append(d.whole, v)
		}
	}
	return true, nil
}

// Fits checks that a tensor is one that a value may hold by what is known of its type,
// sizes and content; of floats any type will do.
func Fits(v *graphs.Value, x *graphs.Tensor) error {
	wrong := func() error { return fmt.Errorf("value %v holds %v%v%v", v, x.Type, x.Dims, v.Content) }
	if v.Type != x.Type && !(v.Type.IsFloat() && x.Type.IsFloat()) || v.Shape != nil && len(v.Shape) != len(x.Dims) {
		return wrong()
	}
	for i, s := range v.Shape {
		if s.Known() && int(s.N) != x.Dims[i] {
			return wrong()
		}
	}
	if v.Content != nil && v.Type == graphs.Int64 {
		if len(v.Content) != x.Len() {
			return wrong()
		}
		for i, c := range v.Content {
			if c.Known() && c.N != x.Data.([]int64)[i] {
				return wrong()
			}
		}
	}
	return nil
}

// finish chooses outputs, the last value among them, so that the inputs matter.
func (d *Drawing) finish() error {
	d.b = graphs.NewBuilder(d.Graph)
	for i := range 1 + d.Pick(3) {
		v := d.floats[len(d.floats)-1]
		if i > 0 {
			v = d.Any()
		}
		d.b.Output(fmt.Sprintf("y%d", i), v)
	}
	if len(d.whole) > 0 && d.chance(4) {
		d.b.Output("k", d.whole[len(d.whole)-1])
	}
	_, err := d.b.Graph()
	return err
}

// Open leaves sizes of a graph's inputs open, in one of 4 ways. Its values are then to
// be inferred again.
func Open(g *graphs.Graph, how int) {
	for i, v := range g.Inputs {
		v.Shape = slices.Clone(v.Shape)
		for k, s := range v.Shape {
			switch how {
			case 0: // batches
				if k == 0 {
					v.Shape[k] = graphs.Sym(fmt.Sprint("batch", s.N))
				}
			case 1: // equal sizes are known to be so
				v.Shape[k] = graphs.Sym(fmt.Sprint("n", s.N))
			case 2:
				v.Shape[k] = graphs.Sym(fmt.Sprintf("n%d_%d", i, k))
			default:
				v.Shape[k] = graphs.UnknownDim
			}
		}
	}
}

// size is a copy of the sizes that a value has here, whatever is known of them.
func (d *Drawing) size(v *graphs.Value) []int { return slices.Clone(d.values[v].Dims) }

// Any is one of the float values.
func (d *Drawing) Any() *graphs.Value { return d.floats[len(d.floats)-1-d.Pick(len(d.floats))] }

// ranked is one of the float values with at least this many axes, none of size 0.
func (d *Drawing) ranked(least int) *graphs.Value {
	var fit []*graphs.Value
	for _, v := range d.floats {
		if len(d.size(v)) >= least && graphs.Size(d.size(v)) > 0 {
			fit = append(fit, v)
		}
	}
	if len(fit) == 0 {
		return d.leaf([]int{2, 3, 4, 5}[:max(least, 1)]...)
	}
	return fit[len(fit)-1-d.Pick(len(fit))]
}

// Of is a value of these sizes: one that is there, one reshaped, or a new leaf.
func (d *Drawing) Of(dims ...int) *graphs.Value {
	var same, size []*graphs.Value
	for _, v := range d.floats {
		switch s := d.size(v); {
		case slices.Equal(s, dims):
			same = append(same, v)
		case graphs.Size(s) == graphs.Size(dims):
			size = append(size, v)
		}
	}
	switch c := d.Pick(4); {
	case c < 2 && len(same) > 0:
		return same[len(same)-1-d.Pick(len(same))]
	case c < 3 && len(size) > 0:
		to := make([]int64, len(dims))
		for i, n := range dims {
			to[i] = int64(n)
		}
		return d.b.ReshapeTo(size[d.Pick(len(size))], to...)
	}
	return d.leaf(dims...)
}

// Within is a value of these sizes with elements between lo and hi.
func (d *Drawing) Within(lo, hi float64, dims ...int) *graphs.Value {
	x := d.Of(dims...)
	return d.b.Add(d.b.Scale(d.b.Sigmoid(x), hi-lo), d.b.Scalar(x, lo))
}

// partner is a value that broadcasts with x, x itself at times.
func (d *Drawing) partner(x *graphs.Value) *graphs.Value {
	if d.chance(6) {
		return x
	}
	dims := d.size(x)
	for i := range dims {
		switch {
		case d.chance(4):
			dims[i] = 1
		case dims[i] == 1 && d.chance(3):
			dims[i] = 3
		}
	}
	switch c := d.Pick(5); {
	case c == 3:
		dims = dims[d.Pick(len(dims)+1):]
	case c == 4 && len(dims) < 4:
		dims = append([]int{1 + d.Pick(3)}, dims...)
	}
	return d.Of(dims...)
}

// axis is one of x's axes, at times counted from the end.
func (d *Drawing) axis(x *graphs.Value) int64 {
	a := int64(d.Pick(len(d.size(x))))
	if d.chance(3) {
		a -= int64(len(d.size(x)))
	}
	return a
}

// axes are some of x's axes.
func (d *Drawing) axes(x *graphs.Value) []int64 {
	var out []int64
	for i := range d.size(x) {
		if d.Pick(2) == 0 {
			a := int64(i)
			if d.chance(3) {
				a -= int64(len(d.size(x)))
			}
			out = append(out, a)
		}
	}
	return out
}

func (d *Drawing) order(n int) []int64 {
	p := make([]int64, n)
	for i := range p {
		k := d.Pick(i + 1)
		p[i], p[k] = p[k], int64(i)
	}
	return p
}
