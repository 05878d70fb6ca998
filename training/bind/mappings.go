package bind

import (
	"context"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/optim"
)

// Mappings are mappings and their losses on an engine. They are not safe for
// concurrent use.
type Mappings struct {
	network
	model   *conditional.Mappings
	forward []*graphs.Model
	slopes  *graphs.Model

	forwards []map[int]*call
	learns   map[int]*call
}

var _ training.Mappings = (*Mappings)(nil)

// NewMappings binds mappings that can learn.
func NewMappings(ctx context.Context, m *conditional.Mappings, e runtime.Engine, o runtime.Options) (*Mappings, error) {
	b := &Mappings{network: network{ctx: ctx, engine: e, options: o}, model: m, learns: map[int]*call{}}
	var err error
	if b.slopes, err = m.Slopes(); err != nil {
		return nil, err
	}
	if err := b.adopt(b.slopes.Graph); err != nil {
		return nil, err
	}
	for _, f := range m.Maps {
		b.forward, b.forwards = append(b.forward, passes.Clone(f.Model)), append(b.forwards, map[int]*call{})
	}
	for _, g := range append([]*graphs.Model{b.slopes}, b.forward...) {
		if _, err := passes.WeightsToInputs(g.Graph); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Params implements [training.Mappings].
func (b *Mappings) Params() []optim.Param { return b.params }

// Models are the mappings with their present weights as initializers, by name.
func (b *Mappings) Models() map[string]*graphs.Model {
	out := map[string]*graphs.Model{}
	for _, f := range b.model.Maps {
		out[f.Name] = b.present(f.Model)
	}
	return out
}

// Apply implements [training.Mappings].
func (b *Mappings) Apply(ctx context.Context, k int, x, y []float32) error {
	m := b.model.Maps[k]
	n := len(y) / graphs.Size(m.Dims)
	if n < 1 || len(y) != n*graphs.Size(m.Dims) || len(x) != n*graphs.Size(m.Given) {
		return fmt.Errorf("bind: mapping %s: wanted as many examples of %v as of %v, got %d and %d values", m.Name, m.Given, m.Dims, len(x), len(y))
	}
	c, err := b.need(b.forwards[k], b.forward[k], n)
	if err != nil {
		return err
	}
	c.feed(m.In(), x, n, m.Given...)
	view(&c.out[0], y, n, m.Dims...)
	return c.program.Run(ctx, c.in, c.out)
}

// Learn implements [training.Mappings].
func (b *Mappings) Learn(ctx context.Context, in [][]float32, w []float32, terms [][]float32) error {
	m := b.model
	if len(in) != len(m.Inputs) || len(w) != len(m.Terms) || len(terms) != len(w) {
		return fmt.Errorf("bind: wanted %d inputs and %d terms, got %d, and %d weights of %d", len(m.Inputs), len(m.Terms), len(in), len(w), len(terms))
	}
	n := len(terms[0])
	c, err := b.need(b.learns, b.slopes, n)
	if err != nil {
		return err
	}
	for i, x := range in {
		if len(x) != n*graphs.Size(m.Dims[i]) {
			return fmt.Errorf("bind: input %s: wanted %d examples of %v, got %d values", m.Inputs[i], n, m.Dims[i], len(x))
		}
		c.feed(m.Inputs[i], x, n, m.Dims[i]...)
	}
	for j, name := range m.Terms {
		if len(terms[j]) != n {
			return fmt.Errorf("bind: term %s: wanted room for %d numbers, got %d", name, n, len(terms[j]))
		}
		all := make([]float32, n)
		for i := range all {
			all[i] = w[j]
		}
		c.feed(conditional.WeightPrefix+name, all, n)
		view(&c.out[j], terms[j], n)
	}
	for i, p := range b.params {
		view(&c.out[len(terms)+i], p.G, b.weights[i].Dims[0], b.weights[i].Dims[1:]...)
	}
	return c.program.Run(ctx, c.in, c.out)
}

// Reports tells what the compiled programs run on.
func (b *Mappings) Reports() map[string]runtime.Report {
	out := map[string]runtime.Report{}
	for k, set := range b.forwards {
		for n, c := range set {
			out[fmt.Sprintf("mapping %s, batch %d", b.model.Maps[k].Name, n)] = runtime.Describe(c.program)
		}
	}
	for n, c := range b.learns {
		out[fmt.Sprintf("mappings' parameter gradient, batch %d", n)] = runtime.Describe(c.program)
	}
	return out
}

// Close frees the compiled programs.
func (b *Mappings) Close() error { return closeAll(append(b.forwards, b.learns)...) }
