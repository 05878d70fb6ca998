package bind

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/sampler"
)

// EncodedGenerator is a conditional generator under a learned prior of its codes. A
// posterior computes what depends on the conditions alone once, before its first step:
// conditions and weights must stay until its last.
type EncodedGenerator struct {
	*ConditionalGenerator
	encoder, decoder   *graphs.Model
	encoders, decoders map[int]*call
}

var (
	_ training.ConditionalGenerator = (*EncodedGenerator)(nil)
	_ training.Fixer                = (*EncodedGenerator)(nil)
)

// NewEncoded binds a generator whose posteriors are under the prior, as by
// [Generator.Under].
func NewEncoded(ctx context.Context, m *conditional.Generator, e runtime.Engine, o runtime.Options, sigma float64, prior *Energy) (*EncodedGenerator, error) {
	b, err := NewConditionalGenerator(ctx, m, e, o, sigma)
	if err != nil {
		return nil, err
	}
	encoder, decoder, err := m.Ahead()
	if err != nil {
		return nil, err
	}
	forward := passes.Clone(decoder.Model)
	for _, m := range []*graphs.Model{encoder, forward} {
		if _, err := passes.WeightsToInputs(m.Graph); err != nil {
			return nil, err
		}
	}
	return &EncodedGenerator{b, encoder, forward, map[int]*call{}, map[int]*call{}}, b.under(decoder, prior)
}

// Given implements [training.ConditionalGenerator].
func (g *EncodedGenerator) Given(c []float32) training.Generator {
	return &encodedGiven{&generatorGiven{g.Generator, g.given, c}, g}
}

// Reports tells what the compiled programs run on.
func (g *EncodedGenerator) Reports() map[string]runtime.Report {
	out := g.Generator.Reports()
	for what, calls := range map[string]map[int]*call{"encoder": g.encoders, "decoder": g.decoders} {
		for n, c := range calls {
			out[fmt.Sprintf("%s, batch %d", what, n)] = runtime.Describe(c.program)
		}
	}
	return out
}

// Close frees the compiled programs.
func (g *EncodedGenerator) Close() error {
	return errors.Join(g.Generator.Close(), closeAll(g.encoders, g.decoders))
}

type encodedGiven struct {
	*generatorGiven
	parts *EncodedGenerator
}

// Posterior implements [training.Generator].
func (g *encodedGiven) Posterior(target, mask []float32) sampler.Field {
	return &encodedPosterior{g: g, target: target, mask: mask}
}

type encodedPosterior struct {
	g            *encodedGiven
	target, mask []float32
	n            int
	ahead        []*graphs.Tensor
}

// encode computes what depends on n conditions alone.
func (g *EncodedGenerator) encode(ctx context.Context, given []float32, n int) ([]*graphs.Tensor, error) {
	if err := conditions(given, n, g.given); err != nil {
		return nil, err
	}
	c, err := g.need(g.encoders, g.encoder, n)
	if err != nil {
		return nil, err
	}
	c.feed(conditional.Given, given, n, g.given...)
	ahead := make([]*graphs.Tensor, len(c.out))
	return ahead, c.program.Run(ctx, c.in, ahead)
}

// take feeds a program what is computed of the conditions.
func (c *call) take(ahead []*graphs.Tensor) {
	for i, t := range ahead {
		*c.input(fmt.Sprintf("%s%d", conditional.AheadPrefix, i)) = t
	}
}

// Fixed implements [training.Fixer].
func (g *EncodedGenerator) Fixed(ctx context.Context, given []float32) (func(ctx context.Context, z, x []float32) error, error) {
	n := len(given) / graphs.Size(g.given)
	ahead, err := g.encode(ctx, given, n)
	if err != nil {
		return nil, err
	}
	c, err := g.need(g.decoders, g.decoder, n)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, z, x []float32) error {
		if err := g.sizes(n, z, x); err != nil {
			return err
		}
		c.feed(generator.Z, z, n, g.model.Codes)
		c.feed(conditional.Given, given, n, g.given...)
		c.take(ahead)
		view(&c.out[0], x, n, g.model.Dims...)
		return c.program.Run(ctx, c.in, c.out)
	}, nil
}

// EnergyGrad implements [sampler.Field] over codes.
func (p *encodedPosterior) EnergyGrad(z, u, d []float32) error {
	g, n := p.g, len(u)
	if err := errors.Join(g.sizes(n, z, p.target, p.mask), g.sizes(n, d)); err != nil {
		return err
	}
	if p.n != n {
		var err error
		if p.ahead, err = g.parts.encode(g.ctx, g.c, n); err != nil {
			return err
		}
		p.n = n
	}
	c, err := g.joint.need(g.posteriors, g.posterior, n)
	if err != nil {
		return err
	}
	c.feed(generator.Z, z, n, g.model.Codes)
	c.feed(conditional.Given, g.c, n, g.dims...)
	c.feed(generator.Target, p.target, n, g.model.Dims...)
	c.feed(generator.Mask, p.mask, n, g.model.Dims...)
	c.take(p.ahead)
	view(&c.out[0], u, n)
	if c.out[1] == nil {
		c.out[1] = graphs.NewTensor(graphs.Float32, n)
	}
	view(&c.out[2], d, n, g.model.Codes)
	return c.program.Run(g.ctx, c.in, c.out)
}
