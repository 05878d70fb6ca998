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
	encoder  *graphs.Model
	encoders map[int]*call
}

var _ training.ConditionalGenerator = (*EncodedGenerator)(nil)

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
	if _, err := passes.WeightsToInputs(encoder.Graph); err != nil {
		return nil, err
	}
	return &EncodedGenerator{b, encoder, map[int]*call{}}, b.under(decoder, prior)
}

// Given implements [training.ConditionalGenerator].
func (g *EncodedGenerator) Given(c []float32) training.Generator {
	return &encodedGiven{&generatorGiven{g.Generator, g.given, c}, g}
}

// Reports tells what the compiled programs run on.
func (g *EncodedGenerator) Reports() map[string]runtime.Report {
	out := g.Generator.Reports()
	for n, c := range g.encoders {
		out[fmt.Sprintf("encoder, batch %d", n)] = runtime.Describe(c.program)
	}
	return out
}

// Close frees the compiled programs.
func (g *EncodedGenerator) Close() error {
	return errors.Join(g.Generator.Close(), closeAll(g.encoders))
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

// encode computes what the steps have in common.
func (p *encodedPosterior) encode(n int) error {
	g := p.g
	if err := conditions(g.c, n, g.dims); err != nil {
		return err
	}
	c, err := g.need(g.parts.encoders, g.parts.encoder, n)
	if err != nil {
		return err
	}
	c.feed(conditional.Given, g.c, n, g.dims...)
	ahead := make([]*graphs.Tensor, len(c.out))
	if err := c.program.Run(g.ctx, c.in, ahead); err != nil {
		return err
	}
	p.n, p.ahead = n, ahead
	return nil
}

// EnergyGrad implements [sampler.Field] over codes.
func (p *encodedPosterior) EnergyGrad(z, u, d []float32) error {
	g, n := p.g, len(u)
	if err := errors.Join(g.sizes(n, z, p.target, p.mask), g.sizes(n, d)); err != nil {
		return err
	}
	if p.n != n {
		if err := p.encode(n); err != nil {
			return err
		}
	}
	c, err := g.joint.need(g.posteriors, g.posterior, n)
	if err != nil {
		return err
	}
	c.feed(generator.Z, z, n, g.model.Codes)
	c.feed(conditional.Given, g.c, n, g.dims...)
	c.feed(generator.Target, p.target, n, g.model.Dims...)
	c.feed(generator.Mask, p.mask, n, g.model.Dims...)
	for i, t := range p.ahead {
		*c.input(fmt.Sprintf("%s%d", conditional.AheadPrefix, i)) = t
	}
	view(&c.out[0], u, n)
	if c.out[1] == nil {
		c.out[1] = graphs.NewTensor(graphs.Float32, n)
	}
	view(&c.out[2], d, n, g.model.Codes)
	return c.program.Run(g.ctx, c.in, c.out)
}
