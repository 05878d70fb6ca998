package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/training/bind"
	"ebmrun/training/coopnets"
)

// pairOf builds and binds the energy and the generator of the settings.
func pairOf(ctx context.Context, e environment, c *coopnets.Config) (*bind.Energy, *bind.Generator, error) {
	net, err := e.energy(ctx, c.EnergyNet, c.Reference.Sigma)
	if err != nil {
		return nil, nil, err
	}
	g, err := e.generator(ctx, c.GeneratorNet, c.Sigma)
	if err != nil {
		return nil, nil, errors.Join(err, net.Close())
	}
	return net, g, nil
}

func startCoopNets(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*coopnets.Config)
	if err := c.Check(); err != nil {
		return nil, badInput(err)
	}
	spec, err := c.GeneratorNet()
	if err == nil {
		err = reachable(spec.Tanh, e.set)
	}
	if err != nil {
		return nil, badInput(err)
	}
	net, g, err := pairOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := coopnets.New(*c, net, g, e.set, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), net.Close(), g.Close())
	}
	if e.judge != nil {
		s.Judge, s.JudgeN = e.judge.Measure, e.judge.N
	}
	variant := "jump-start"
	if c.Inference.Steps > 0 {
		variant = "rigorous, inference: " + c.Inference.String()
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("energy %s: %d parameters; generator %s: %d parameters, %d codes; examples of %v",
				c.Net, countParams(net.Params()), c.Generator, countParams(g.Params()), g.Codes(), e.dims),
			"revision: " + c.Langevin.String(),
			"variant: " + variant,
		},
		reports: networks{net, g}.Reports,
		close:   networks{net, g}.Close,
	}, nil
}

func openCoopNets(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*coopnets.Config)
	net, g, err := pairOf(ctx, e, c)
	if err != nil {
		return err
	}
	r.release = networks{net, g}.Close
	if err := coopnets.Weights(net, g).Restore(r.State); err != nil {
		return err
	}
	if r.Model, err = net.Model(nil); err != nil {
		return err
	}
	r.Learned = coopnets.Of(*c, net, g, graphs.Size(e.dims))
	r.Generator, r.Langevin, r.Sigma, r.Residual = g.Model(), c.Langevin, c.Reference.Sigma, c.Sigma
	return nil
}
