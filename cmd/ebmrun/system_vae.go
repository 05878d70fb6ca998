package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/encoder"
	"ebmrun/onnxmodels/generator"
	"ebmrun/training/bind"
	"ebmrun/training/vae"
)

// autoencoderOf builds and binds an encoder and a generator.
func autoencoderOf(ctx context.Context, e environment, n *vae.Nets, sigma float64) (*bind.Autoencoder, error) {
	gs, err := n.GeneratorNet()
	if err != nil {
		return nil, err
	}
	es, err := n.EncoderNet()
	if err != nil {
		return nil, err
	}
	gm, err := generator.Build(gs, e.dims, e.seed)
	if err != nil {
		return nil, err
	}
	em, err := encoder.Build(es, e.dims, gm.Codes, e.seed)
	if err != nil {
		return nil, err
	}
	return bind.NewAutoencoder(ctx, em, gm, e.engine, e.bind.Runtime, sigma)
}

func startVAE(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*vae.Config)
	if err := c.Check(); err != nil {
		return nil, badInput(err)
	}
	a, err := autoencoderOf(ctx, e, &c.Nets, c.Sigma)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := vae.New(*c, a, e.set, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), a.Close())
	}
	e.examine(&s.Exam)
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{fmt.Sprintf("encoder %s and generator %s: %d parameters, %d codes for examples of %v",
			c.Encoder, c.Generator, countParams(a.Params()), a.Codes(), e.dims)},
		reports: a.Reports,
		close:   a.Close,
	}, nil
}

func openVAE(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*vae.Config)
	a, err := autoencoderOf(ctx, e, &c.Nets, c.Sigma)
	if err != nil {
		return err
	}
	r.release = a.Close
	if err := vae.Weights(a).Restore(r.State); err != nil {
		return err
	}
	m := vae.Of(a, graphs.Size(e.dims), c.Sigma, c.Draws, c.Rounds)
	r.Learned, r.Generator, r.Residual = &m, a.Model(), c.Sigma
	r.Networks = map[string]*graphs.Model{"encoder": a.Encoder().Model}
	return nil
}
