package bind

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels/flow"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/optim"
)

// Flow is a flow on an engine. It is not safe for concurrent use.
type Flow struct {
	network
	model *flow.Model

	encode, decode, judge, objective *graphs.Model
	encodes, decodes, judges, learns map[int]*call
}

var _ training.Flow = (*Flow)(nil)

// NewFlow binds a flow.
func NewFlow(ctx context.Context, m *flow.Model, e runtime.Engine, o runtime.Options) (*Flow, error) {
	b := &Flow{network: network{ctx: ctx, engine: e, options: o}, model: m,
		encodes: map[int]*call{}, decodes: map[int]*call{}, judges: map[int]*call{}, learns: map[int]*call{}}
	b.encode, b.decode = passes.Clone(m.Encode), passes.Clone(m.Decode)
	var err error
	if b.judge, err = m.Judge(); err != nil {
		return nil, err
	}
	if b.objective, err = m.Objective(); err != nil {
		return nil, err
	}
	// The bound depends on every weight, that of the dequantization included.
	if err := b.adopt(b.objective.Graph); err != nil {
		return nil, err
	}
	for _, g := range []*graphs.Model{b.encode, b.decode, b.judge, b.objective} {
		if _, err := passes.WeightsToInputs(g.Graph); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Params implements [training.Flow].
func (f *Flow) Params() []optim.Param { return f.params }

// Level implements [training.Flow].
func (f *Flow) Level() float64 { return f.model.Spec.Level() }

// Models are both directions with the present weights as initializers: x → z, log_p
// and z → x, log_p.
func (f *Flow) Models() (encode, decode *graphs.Model) {
	now := map[string]*graphs.Tensor{}
	for i, p := range f.params {
		now[p.Name] = graphs.Of(append([]float32(nil), p.W...), f.weights[i].Dims...)
	}
	return flow.With(f.model.Encode, now), flow.With(f.model.Decode, now)
}

// run feeds inputs by name, besides the weights, and fills outputs by name; others
// are the program's own.
func (f *Flow) run(ctx context.Context, set map[int]*call, m *graphs.Model, n int, in, out map[string][]float32) error {
	c := set[n]
	if c == nil {
		var err error
		if c, err = f.compile(m, n, nil); err != nil {
			return err
		}
		c.out = make([]*graphs.Tensor, len(c.program.Outputs()))
		set[n] = c
	}
	for i, v := range c.program.Inputs() {
		if s, ok := in[v.Name]; ok {
			view(&c.in[i], s, n, f.rest(v.Name)...)
		}
	}
	for i, v := range c.program.Outputs() {
		if s, ok := out[v.Name]; ok {
			view(&c.out[i], s, n, f.rest(v.Name)...)
		} else if c.out[i] == nil {
			c.out[i] = graphs.NewTensor(graphs.Float32, v.Shape.Ints()...)
		}
	}
	return c.program.Run(ctx, c.in, c.out)
}

// rest are the sizes of a value after the batch.
func (f *Flow) rest(name string) []int {
	switch name {
	case flow.X, flow.Noise:
		return f.model.Dims
	case flow.Z:
		return []int{graphs.Size(f.model.Dims)}
	}
	return nil
}

// Encode implements [training.Flow].
func (f *Flow) Encode(ctx context.Context, x, z, logP []float32) error {
	if err := f.sizes(len(logP), x, z); err != nil {
		return err
	}
	return f.run(ctx, f.encodes, f.encode, len(logP), map[string][]float32{flow.X: x}, map[string][]float32{flow.Z: z, flow.LogP: logP})
}

// Decode implements [training.Flow].
func (f *Flow) Decode(ctx context.Context, z, x []float32) error {
	n := len(z) / graphs.Size(f.model.Dims)
	if err := f.sizes(n, z, x); err != nil {
		return err
	}
	return f.run(ctx, f.decodes, f.decode, n, map[string][]float32{flow.Z: z}, map[string][]float32{flow.X: x})
}

// Bound implements [training.Flow].
func (f *Flow) Bound(ctx context.Context, x, noise, bound []float32) error {
	if err := f.sizes(len(bound), x, noise); err != nil {
		return err
	}
	return f.run(ctx, f.judges, f.judge, len(bound), map[string][]float32{flow.X: x, flow.Noise: noise}, map[string][]float32{flow.Bound: bound})
}

// Learn implements [training.Flow].
func (f *Flow) Learn(ctx context.Context, x, noise, w, bound []float32) error {
	n := len(w)
	if err := f.sizes(n, x, noise); err != nil {
		return err
	}
	if len(bound) != n {
		return fmt.Errorf("bind: wanted %d bounds, got room for %d", n, len(bound))
	}
	c := f.learns[n]
	if c == nil {
		var err error
		if c, err = f.compile(f.objective, n, nil); err != nil {
			return err
		}
		c.out = make([]*graphs.Tensor, 1+len(f.params))
		for i, p := range f.params {
			c.out[1+i] = graphs.Of(p.G, f.weights[i].Dims...)
		}
		f.learns[n] = c
	}
	return f.run(ctx, f.learns, f.objective, n,
		map[string][]float32{flow.X: x, flow.Noise: noise, flow.Weight: w}, map[string][]float32{flow.Bound: bound})
}

// Start implements [training.Flow].
func (f *Flow) Start(ctx context.Context, x, noise []float32) error {
	n := len(x) / graphs.Size(f.model.Dims)
	if err := f.sizes(n, x, noise); err != nil {
		return err
	}
	m, err := f.model.Start()
	if err != nil {
		return err
	}
	if _, err := passes.WeightsToInputs(m.Graph); err != nil {
		return err
	}
	c, err := f.whole(m, n, f.options)
	if err != nil {
		return err
	}
	for i, v := range c.program.Inputs() {
		switch v.Name {
		case flow.X:
			view(&c.in[i], x, n, f.model.Dims...)
		case flow.Noise:
			view(&c.in[i], noise, n, f.model.Dims...)
		}
	}
	c.out = make([]*graphs.Tensor, len(c.program.Outputs()))
	if err := errors.Join(c.program.Run(ctx, c.in, c.out), c.program.Close()); err != nil {
		return err
	}
	for i, v := range c.program.Outputs() {
		for _, p := range f.params {
			if p.Name == flow.StartOf(v.Name) {
				copy(p.W, c.out[i].F32())
			}
		}
	}
	return nil
}

// sizes checks that slices hold n examples.
func (f *Flow) sizes(n int, of ...[]float32) error {
	for _, x := range of {
		if n < 1 || len(x) != n*graphs.Size(f.model.Dims) {
			return fmt.Errorf("bind: wanted %d examples of %v, got %d values", n, f.model.Dims, len(x))
		}
	}
	return nil
}

// Reports tells what the compiled programs run on.
func (f *Flow) Reports() map[string]runtime.Report {
	out := map[string]runtime.Report{}
	for kind, set := range map[string]map[int]*call{"flow, x to z": f.encodes, "flow, z to x": f.decodes, "flow's bound": f.judges, "flow's parameter gradient": f.learns} {
		for n, c := range set {
			out[fmt.Sprintf("%s, batch %d", kind, n)] = runtime.Describe(c.program)
		}
	}
	return out
}

// Close frees the compiled programs.
func (f *Flow) Close() error {
	return errors.Join(closeAll(f.encodes, f.decodes, f.judges, f.learns))
}
