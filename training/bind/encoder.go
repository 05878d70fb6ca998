package bind

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels/encoder"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/optim"
)

// Autoencoder is a generator with an encoder on an engine. It is not safe for
// concurrent use.
type Autoencoder struct {
	*Generator
	model *encoder.Model
	both  network // weights of the encoder, then of the generator

	encode, bound   *graphs.Model
	encodes, bounds map[int]*call
}

var _ training.Autoencoder = (*Autoencoder)(nil)

// NewAutoencoder binds an encoder and a generator of the same codes and examples.
// sigma is the standard deviation of the residual x − g(z), in data units.
func NewAutoencoder(ctx context.Context, m *encoder.Model, g *generator.Model, e runtime.Engine, o runtime.Options, sigma float64) (*Autoencoder, error) {
	dec, err := NewGenerator(ctx, g, e, o, sigma)
	if err != nil {
		return nil, err
	}
	a := &Autoencoder{Generator: dec, model: m, both: network{ctx: ctx, engine: e, options: o}, encodes: map[int]*call{}, bounds: map[int]*call{}}
	if err := a.both.adopt(m.Graph); err != nil {
		return nil, err
	}
	a.both.params = slices.Concat(a.both.params, dec.params)
	a.both.weights = slices.Concat(a.both.weights, dec.weights)
	a.encode = passes.Clone(m.Model)
	if a.bound, err = m.Bound(g, sigma); err != nil {
		return nil, err
	}
	for _, g := range []*graphs.Model{a.encode, a.bound} {
		if _, err := passes.WeightsToInputs(g.Graph); err != nil {
			return nil, err
		}
	}
	keep := []string{encoder.Error, encoder.KL}
	for _, p := range a.both.params {
		keep = append(keep, autodiff.GradPrefix+p.Name)
	}
	if len(a.bound.Graph.Outputs) != len(keep) {
		return nil, fmt.Errorf("bind: the bound has slopes of %d weights, the networks have %d", len(a.bound.Graph.Outputs)-2, len(keep)-2)
	}
	return a, passes.CutAt(a.bound.Graph, keep...)
}

// Params implements [training.Autoencoder]: the weights of the encoder, then those
// of the generator.
func (a *Autoencoder) Params() []optim.Param { return a.both.params }

// Encoder returns the encoder with its present weights as initializers.
func (a *Autoencoder) Encoder() *encoder.Model {
	m := *a.model
	m.Model = a.both.present(a.model.Model)
	return &m
}

// Encode implements [training.Autoencoder].
func (a *Autoencoder) Encode(ctx context.Context, x, mean, logvar []float32) error {
	d := a.Codes()
	n := len(mean) / d
	if err := errors.Join(a.sizes(n, mean, x), a.sizes(n, logvar)); err != nil {
		return err
	}
	c, err := a.both.need(a.encodes, a.encode, n)
	if err != nil {
		return err
	}
	view(&c.in[0], x, n, a.Generator.model.Dims...)
	view(&c.out[0], mean, n, d)
	view(&c.out[1], logvar, n, d)
	return c.program.Run(ctx, c.in, c.out)
}

// LearnBound implements [training.Autoencoder].
func (a *Autoencoder) LearnBound(ctx context.Context, x, noise, w []float32, beta float32, e, kl []float32) error {
	n, d := len(w), a.Codes()
	if err := a.sizes(n, noise, x); err != nil {
		return err
	}
	if len(e) != n || len(kl) != n {
		return fmt.Errorf("bind: wanted %d errors and divergences, got room for %d and %d", n, len(e), len(kl))
	}
	c, err := a.both.need(a.bounds, a.bound, n)
	if err != nil {
		return err
	}
	if c.in[3] == nil {
		c.in[3] = graphs.Of(make([]float32, 1))
	}
	view(&c.in[0], x, n, a.Generator.model.Dims...)
	view(&c.in[1], noise, n, d)
	view(&c.in[2], w, n)
	c.in[3].F32()[0] = beta
	view(&c.out[0], e, n)
	view(&c.out[1], kl, n)
	for i, p := range a.both.params {
		view(&c.out[2+i], p.G, a.both.weights[i].Dims[0], a.both.weights[i].Dims[1:]...)
	}
	return c.program.Run(ctx, c.in, c.out)
}

// Reports tells what the compiled programs run on.
func (a *Autoencoder) Reports() map[string]runtime.Report {
	out := a.Generator.Reports()
	for kind, set := range map[string]map[int]*call{"encoder": a.encodes, "bound's parameter gradient": a.bounds} {
		for n, c := range set {
			out[fmt.Sprintf("%s, batch %d", kind, n)] = runtime.Describe(c.program)
		}
	}
	return out
}

// Close frees the compiled programs.
func (a *Autoencoder) Close() error {
	return errors.Join(a.Generator.Close(), closeAll(a.encodes, a.bounds))
}
