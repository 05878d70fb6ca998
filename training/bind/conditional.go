package bind

import (
	"context"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/sampler"
)

// ConditionalEnergy is an energy of examples under conditions, on an engine. Its
// weights, graphs and reports are those of the [Energy] in it.
type ConditionalEnergy struct {
	*Energy
	given []int
}

// ConditionalGenerator is a generator under conditions, on an engine.
type ConditionalGenerator struct {
	*Generator
	given []int
}

var (
	_ training.ConditionalEnergy    = (*ConditionalEnergy)(nil)
	_ training.Curver               = (*energyGiven)(nil)
	_ training.ConditionalGenerator = (*ConditionalGenerator)(nil)
)

// NewConditional binds an energy whose weights can be learned.
func NewConditional(ctx context.Context, m *conditional.Energy, e runtime.Engine, o Options) (*ConditionalEnergy, error) {
	b, err := New(ctx, m.Model, e, o)
	if err != nil {
		return nil, err
	}
	return &ConditionalEnergy{b, m.Given}, nil
}

// NewConditionalGenerator binds a generator with codes. sigma is the standard
// deviation of the residual x − g(c, z), in data units.
func NewConditionalGenerator(ctx context.Context, m *conditional.Generator, e runtime.Engine, o runtime.Options, sigma float64) (*ConditionalGenerator, error) {
	if m.Codes < 1 {
		return nil, fmt.Errorf("bind: a generator of %v without codes has nothing to infer: wanted at least 1", m.Dims)
	}
	b, err := NewGenerator(ctx, m.Model, e, o, sigma)
	if err != nil {
		return nil, err
	}
	return &ConditionalGenerator{b, m.Given}, nil
}

// input is where a program takes what is called name.
func (c *call) input(name string) **graphs.Tensor {
	for i, in := range c.program.Inputs() {
		if in.Name == name {
			return &c.in[i]
		}
	}
	var none *graphs.Tensor // a network that does not look at it
	return &none
}

// feed points the input called name at a slice.
func (c *call) feed(name string, s []float32, n int, dims ...int) { view(c.input(name), s, n, dims...) }

// conditions checks that c holds n conditions of dims.
func conditions(c []float32, n int, dims []int) error {
	if len(c) != n*graphs.Size(dims) {
		return fmt.Errorf("bind: wanted %d conditions of %v, got %d values", n, dims, len(c))
	}
	return nil
}

// Given implements [training.ConditionalEnergy].
func (e *ConditionalEnergy) Given(c []float32) training.Energy {
	return &energyGiven{e.Energy, e.given, c}
}

type energyGiven struct {
	*Energy
	dims []int
	c    []float32
}

// EnergyGrad implements [sampler.Field].
func (e *energyGiven) EnergyGrad(x, u, g []float32) error {
	n := len(u)
	if err := conditions(e.c, n, e.dims); err != nil {
		return err
	}
	if err := e.sizes(n, x, g); err != nil {
		return err
	}
	c, err := e.slope(n)
	if err != nil {
		return err
	}
	c.feed(onnxmodels.X, x, n, e.model.Dims...)
	c.feed(conditional.Given, e.c, n, e.dims...)
	view(&c.out[0], u, n)
	view(&c.out[2], g, n, e.model.Dims...)
	return c.program.Run(e.ctx, c.in, c.out)
}

// HessianVector implements [training.Curver].
func (e *energyGiven) HessianVector(x, v, hv []float32) error {
	if err := conditions(e.c, len(x)/e.model.Size(), e.dims); err != nil {
		return err
	}
	return e.hessianVector(x, v, hv, func(c *call, n int) { c.feed(conditional.Given, e.c, n, e.dims...) })
}

// Learn implements [training.Energy].
func (e *energyGiven) Learn(ctx context.Context, x, w []float32, l2 float32, score []float32) error {
	n := len(w)
	if err := conditions(e.c, n, e.dims); err != nil {
		return err
	}
	if err := e.sizes(n, x); err != nil {
		return err
	}
	if len(score) != n {
		return fmt.Errorf("bind: wanted %d scores, got room for %d", n, len(score))
	}
	c, err := e.need(e.learns, e.learn, n)
	if err != nil {
		return err
	}
	c.feed(onnxmodels.X, x, n, e.model.Dims...)
	c.feed(conditional.Given, e.c, n, e.dims...)
	c.feed(weightInput, w, n)
	*c.input(l2Input) = graphs.Of([]float32{l2})
	view(&c.out[0], score, n)
	for i, p := range e.params {
		view(&c.out[1+i], p.G, e.weights[i].Dims[0], e.weights[i].Dims[1:]...)
	}
	if err := c.program.Run(ctx, c.in, c.out); err != nil {
		return err
	}
	for i, s := range e.norms {
		if s != nil {
			s.pullBack(e.params[i].G)
		}
	}
	return nil
}

// Given implements [training.ConditionalGenerator].
func (g *ConditionalGenerator) Given(c []float32) training.Generator {
	return &generatorGiven{g.Generator, g.given, c}
}

type generatorGiven struct {
	*Generator
	dims []int
	c    []float32
}

// Forward implements [training.Generator].
func (g *generatorGiven) Forward(ctx context.Context, z, x []float32) error {
	n := len(z) / g.model.Codes
	c, err := g.ready(g.forwards, g.forward, n, z, x)
	if err != nil {
		return err
	}
	view(&c.out[0], x, n, g.model.Dims...)
	return c.program.Run(ctx, c.in, c.out)
}

// ready is a program for n codes and examples, fed with codes and conditions.
func (g *generatorGiven) ready(set map[int]*call, m *graphs.Model, n int, z []float32, examples ...[]float32) (*call, error) {
	if err := conditions(g.c, n, g.dims); err != nil {
		return nil, err
	}
	if err := g.sizes(n, z, examples...); err != nil {
		return nil, err
	}
	c, err := g.need(set, m, n)
	if err != nil {
		return nil, err
	}
	c.feed(generator.Z, z, n, g.model.Codes)
	c.feed(conditional.Given, g.c, n, g.dims...)
	return c, nil
}

// Posterior implements [training.Generator].
func (g *generatorGiven) Posterior(target, mask []float32) sampler.Field {
	return &posteriorGiven{g, target, mask}
}

type posteriorGiven struct {
	g            *generatorGiven
	target, mask []float32
}

// EnergyGrad implements [sampler.Field] over codes.
func (p *posteriorGiven) EnergyGrad(z, u, d []float32) error {
	g, n := p.g, len(u)
	c, err := g.ready(g.posteriors, g.posterior, n, z, p.target, p.mask)
	if err != nil {
		return err
	}
	if len(d) != len(z) {
		return fmt.Errorf("bind: wanted room for %d slopes of codes, got %d", len(z), len(d))
	}
	c.feed(generator.Target, p.target, n, g.model.Dims...)
	c.feed(generator.Mask, p.mask, n, g.model.Dims...)
	view(&c.out[0], u, n)
	if c.out[1] == nil {
		c.out[1] = graphs.NewTensor(graphs.Float32, n)
	}
	view(&c.out[2], d, n, g.model.Codes)
	return c.program.Run(g.ctx, c.in, c.out)
}

// Learn implements [training.Generator].
func (g *generatorGiven) Learn(ctx context.Context, z, target, mask, w, e []float32) error {
	n := len(w)
	c, err := g.ready(g.regress, g.regression, n, z, target, mask)
	if err != nil {
		return err
	}
	if len(e) != n {
		return fmt.Errorf("bind: wanted %d errors, got room for %d", n, len(e))
	}
	c.feed(generator.Target, target, n, g.model.Dims...)
	c.feed(generator.Mask, mask, n, g.model.Dims...)
	c.feed(generator.Weight, w, n)
	view(&c.out[0], e, n)
	for i, p := range g.params {
		view(&c.out[1+i], p.G, g.weights[i].Dims[0], g.weights[i].Dims[1:]...)
	}
	return c.program.Run(ctx, c.in, c.out)
}
