package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/training/bind"
	"ebmrun/training/coopvaebm"
)

// teachersOf builds and binds the energy, and the encoder with its generator.
func teachersOf(ctx context.Context, e environment, c *coopvaebm.Config) (*bind.Energy, *bind.Autoencoder, error) {
	net, err := e.energy(ctx, c.EnergyNet, c.Reference.Sigma)
	if err != nil {
		return nil, nil, err
	}
	a, err := autoencoderOf(ctx, e, &c.Nets, c.Sigma)
	if err != nil {
		return nil, nil, errors.Join(err, net.Close())
	}
	return net, a, nil
}

func startCoopVAEBM(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*coopvaebm.Config)
	if err := c.Check(); err != nil {
		return nil, badInput(err)
	}
	net, a, err := teachersOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := coopvaebm.New(*c, net, a, e.set, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), net.Close(), a.Close())
	}
	e.examine(&s.Exam)
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("energy %s: %d parameters; encoder %s and generator %s: %d parameters, %d codes; examples of %v",
				c.Net, countParams(net.Params()), c.Encoder, c.Generator, countParams(a.Params()), a.Codes(), e.dims),
			"revision: " + c.Langevin.String(),
		},
		reports: networks{net, a}.Reports,
		close:   networks{net, a}.Close,
	}, nil
}

func openCoopVAEBM(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*coopvaebm.Config)
	net, a, err := teachersOf(ctx, e, c)
	if err != nil {
		return err
	}
	r.release = networks{net, a}.Close
	if err := coopvaebm.Weights(net, a).Restore(r.State); err != nil {
		return err
	}
	if r.Model, err = net.Model(nil); err != nil {
		return err
	}
	m := coopvaebm.Of(*c, net, a, graphs.Size(e.dims))
	r.Learned, r.Generator, r.Langevin, r.Sigma, r.Residual = &m, a.Model(), c.Langevin, c.Reference.Sigma, c.Sigma
	r.Networks = map[string]*graphs.Model{"encoder": a.Encoder().Model}
	return nil
}
