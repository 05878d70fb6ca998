package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/training/bind"
	"ebmrun/training/latentebm"
)

// latentPairOf builds and binds the prior of codes and the generator under it.
func latentPairOf(ctx context.Context, e environment, c *latentebm.Config) (*bind.Energy, *bind.Generator, error) {
	spec, err := c.GeneratorNet()
	if err != nil {
		return nil, nil, err
	}
	gm, err := generator.Build(spec, e.dims, e.seed)
	if err != nil {
		return nil, nil, err
	}
	pm, err := energy.Build(c.PriorNet(), []int{gm.Codes}, c.Reference.Sigma, e.seed)
	if err != nil {
		return nil, nil, err
	}
	p, err := bind.New(ctx, pm, e.engine, e.bind)
	if err != nil {
		return nil, nil, err
	}
	g, err := bind.NewGenerator(ctx, gm, e.engine, e.bind.Runtime, c.Sigma)
	if err == nil {
		err = g.Under(p)
	}
	if err != nil {
		return nil, nil, errors.Join(err, p.Close())
	}
	return p, g, nil
}

func startLatentEBM(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*latentebm.Config)
	if err := c.Check(); err != nil {
		return nil, badInput(err)
	}
	p, g, err := latentPairOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := latentebm.New(*c, p, g, e.set, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), p.Close(), g.Close())
	}
	e.examine(&s.Exam)
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("prior of %d codes: %d parameters; generator %s: %d parameters; examples of %v",
				g.Codes(), countParams(p.Params()), c.Generator, countParams(g.Params()), e.dims),
			"prior: " + c.Prior.String(),
			"posterior: " + c.Posterior.String(),
		},
		reports: networks{titled{p, "prior: "}, g}.Reports,
		close:   networks{p, g}.Close,
	}, nil
}

func openLatentEBM(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*latentebm.Config)
	p, g, err := latentPairOf(ctx, e, c)
	if err != nil {
		return err
	}
	r.release = networks{p, g}.Close
	if err := latentebm.Weights(p, g).Restore(r.State); err != nil {
		return err
	}
	prior, err := p.Model(nil)
	if err != nil {
		return err
	}
	r.Generator, r.Langevin, r.Residual = g.Model(), c.Posterior, c.Sigma
	r.Networks = map[string]*graphs.Model{"prior": prior.Model}
	r.Learned = &latentebm.Model{Config: *c, Prior: p, Generator: g, Dim: graphs.Size(e.dims)}
	return nil
}
