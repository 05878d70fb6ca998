package bind

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// Generator is a generator model on an engine, with the graphs that learning it
// needs: its output, the posterior of a code, and the regression onto examples.
// It is not safe for concurrent use.
type Generator struct {
	network
	model *generator.Model
	sigma float64
	joint *network // whose weights the posterior reads: its own, and a learned prior's

	forward, posterior, regression *graphs.Model
	forwards, posteriors, regress  map[int]*call

	ahead int       // evaluations of the posterior that a chain has said will come
	long  constants // programs of the posterior for chains that are long
}

var _ training.Generator = (*Generator)(nil)

// NewGenerator binds a generator. sigma is the standard deviation of the
// residual x − g(z), in data units.
func NewGenerator(ctx context.Context, m *generator.Model, e runtime.Engine, o runtime.Options, sigma float64) (*Generator, error) {
	b, err := bindGenerator(ctx, m, e, o, sigma)
	if err != nil {
		return nil, err
	}
	if err := b.adopt(m.Graph); err != nil {
		return nil, err
	}
	if b.regression, err = m.Regression(); err != nil {
		return nil, err
	}
	for _, g := range []*graphs.Model{b.forward, b.posterior, b.regression} {
		if _, err := passes.WeightsToInputs(g.Graph); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// FreezeGenerator binds a generator that does not learn: its weights are constants,
// which libraries run faster.
func FreezeGenerator(ctx context.Context, m *generator.Model, e runtime.Engine, o runtime.Options, sigma float64) (*Generator, error) {
	return bindGenerator(ctx, m, e, o, sigma)
}

func bindGenerator(ctx context.Context, m *generator.Model, e runtime.Engine, o runtime.Options, sigma float64) (*Generator, error) {
	if !(sigma > 0) {
		return nil, fmt.Errorf("bind: residual deviation sigma: wanted a positive number, got %g", sigma)
	}
	b := &Generator{
		network: network{ctx: ctx, engine: e, options: o}, model: m, sigma: sigma,
		forwards: map[int]*call{}, posteriors: map[int]*call{}, regress: map[int]*call{},
	}
	b.forward, b.joint = passes.Clone(m.Model), &b.network
	var err error
	b.posterior, err = m.Posterior(sigma)
	return b, err
}

// Params implements [training.Generator].
func (g *Generator) Params() []optim.Param { return g.params }

// Codes implements [training.Generator].
func (g *Generator) Codes() int { return g.model.Codes }

// Model returns the generator with its present weights as initializers.
func (g *Generator) Model() *generator.Model {
	m := *g.model
	m.Model = g.present(g.model.Model)
	return &m
}

// present is a copy of a model with the present weights as initializers.
func (b *network) present(m *graphs.Model) *graphs.Model {
	m = passes.Clone(m)
	for _, v := range m.Graph.Inits {
		for i, p := range b.params {
			if p.Name == v.Name {
				v.Const = graphs.Of(append([]float32(nil), p.W...), b.weights[i].Dims...)
			}
		}
	}
	return m
}

// Under puts a learned prior of the codes in the place of N(0, I): from now on
// [Generator.Posterior] is the field of prior's U(z) + ‖mask·(target − g(z))‖²/(2σ²),
// one graph that reads the present weights of both.
func (g *Generator) Under(prior *Energy) error { return g.under(g.model, prior) }

// under does so with a generator of the same weights that takes further inputs.
func (g *Generator) under(model *generator.Model, prior *Energy) error {
	if prior.frozen || g.regression == nil {
		return fmt.Errorf("bind: a frozen prior or generator cannot be learned with another")
	}
	m, err := model.PosteriorUnder(prior.model, g.sigma)
	if err != nil {
		return err
	}
	if _, err := passes.WeightsToInputs(m.Graph); err != nil {
		return err
	}
	joint := g.network
	joint.params = slices.Clone(g.params)
	for _, p := range prior.params {
		p.Name = generator.PriorPrefix + p.Name
		joint.params = append(joint.params, p)
	}
	joint.weights = slices.Concat(g.weights, prior.weights)
	err = errors.Join(closeAll(g.posteriors), g.long.close())
	g.posterior, g.joint, g.posteriors, g.long = m, &joint, map[int]*call{}, constants{}
	return err
}

// need returns the call for n examples, compiled if it is the first.
func (b *network) need(set map[int]*call, m *graphs.Model, n int) (*call, error) {
	if c := set[n]; c != nil {
		return c, nil
	}
	c, err := b.compile(m, n, nil)
	if err != nil {
		return nil, err
	}
	c.out = make([]*graphs.Tensor, len(c.program.Outputs()))
	set[n] = c
	return c, nil
}

// Forward implements [training.Generator].
func (g *Generator) Forward(ctx context.Context, z, x []float32) error {
	n := len(z) / g.model.Codes
	if err := g.sizes(n, z, x); err != nil {
		return err
	}
	c, err := g.need(g.forwards, g.forward, n)
	if err != nil {
		return err
	}
	view(&c.in[0], z, n, g.model.Codes)
	view(&c.out[0], x, n, g.model.Dims...)
	return c.program.Run(ctx, c.in, c.out)
}

// Posterior implements [training.Generator].
func (g *Generator) Posterior(target, mask []float32) sampler.Field {
	return &posterior{g, target, mask}
}

type posterior struct {
	g            *Generator
	target, mask []float32
}

// Expect implements [sampler.Planner]. Nobody says when a generator's weights have changed.
func (p *posterior) Expect(evaluations int) {
	p.g.ahead, p.g.long.unsure = evaluations, true
	for _, c := range p.g.posteriors {
		runtime.Renew(c.program)
	}
}

// inference is the program of the posterior of n codes: the one that a long chain is worth, or
// else the one that is fed the weights.
func (g *Generator) inference(n int) (*call, error) {
	c := g.posteriors[n]
	if c == nil {
		var err error
		if c, err = g.joint.keeping(g.posterior, n); err != nil {
			return nil, err
		}
		g.posteriors[n] = c
	}
	if g.ahead == 0 { // no chain, in which they stay the same
		runtime.Renew(c.program)
	}
	if g.regression == nil {
		return c, nil
	}
	if pay, err := g.long.pay(g.joint, g.posterior, n, g.ahead, c); !pay {
		return c, err
	}
	return g.long.of(g.joint, g.posterior, n)
}

// EnergyGrad implements [sampler.Field] over codes.
func (p *posterior) EnergyGrad(z, u, d []float32) error {
	g, n := p.g, len(u)
	if err := errors.Join(g.sizes(n, z, p.target, p.mask), g.sizes(n, d)); err != nil {
		return err
	}
	c, err := g.inference(n)
	if err != nil {
		return err
	}
	view(&c.in[0], z, n, g.model.Codes)
	view(&c.in[1], p.target, n, g.model.Dims...)
	view(&c.in[2], p.mask, n, g.model.Dims...)
	view(&c.out[0], u, n)
	if c.out[1] == nil {
		c.out[1] = graphs.NewTensor(graphs.Float32, n)
	}
	view(&c.out[2], d, n, g.model.Codes)
	return c.program.Run(g.ctx, c.in, c.out)
}

// Learn implements [training.Generator].
func (g *Generator) Learn(ctx context.Context, z, target, mask, w, e []float32) error {
	if g.regression == nil {
		return errors.New("bind: this generator is frozen and cannot learn")
	}
	n := len(w)
	if err := g.sizes(n, z, target, mask); err != nil {
		return err
	}
	if len(e) != n {
		return fmt.Errorf("bind: wanted %d errors, got room for %d", n, len(e))
	}
	c, err := g.need(g.regress, g.regression, n)
	if err != nil {
		return err
	}
	// the inputs are z, target, mask, weight, in this order, before the weights
	for i, s := range [][]float32{z, target, mask} {
		dims := g.model.Dims
		if i == 0 {
			dims = []int{g.model.Codes}
		}
		view(&c.in[i], s, n, dims...)
	}
	view(&c.in[3], w, n)
	view(&c.out[0], e, n)
	for i, p := range g.params {
		view(&c.out[1+i], p.G, g.weights[i].Dims[0], g.weights[i].Dims[1:]...)
	}
	return c.program.Run(ctx, c.in, c.out)
}

// sizes checks that slices hold n codes, and n examples.
func (g *Generator) sizes(n int, z []float32, examples ...[]float32) error {
	if n < 1 || len(z) != n*g.model.Codes {
		return fmt.Errorf("bind: wanted %d codes of %d, got %d values", n, g.model.Codes, len(z))
	}
	for _, x := range examples {
		if len(x) != n*graphs.Size(g.model.Dims) {
			return fmt.Errorf("bind: wanted %d examples of %v, got %d values", n, g.model.Dims, len(x))
		}
	}
	return nil
}

// Reports tells what the compiled programs run on.
func (g *Generator) Reports() map[string]runtime.Report {
	out := map[string]runtime.Report{}
	for kind, set := range map[string]map[int]*call{"generator": g.forwards, "posterior of codes": g.posteriors, "posterior of codes in long chains": g.long.calls, "generator's parameter gradient": g.regress} {
		for n, c := range set {
			out[fmt.Sprintf("%s, batch %d", kind, n)] = runtime.Describe(c.program)
		}
	}
	return out
}

// Close frees the compiled programs.
func (g *Generator) Close() error {
	return errors.Join(closeAll(g.forwards, g.posteriors, g.regress), g.long.close())
}
