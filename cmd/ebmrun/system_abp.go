package main

import (
	"context"
	"fmt"

	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
	"ebmrun/training/abp"
	"ebmrun/training/bind"
)

func presetABP(name string, dims []int, examples int) (any, error) {
	c, err := abp.For(name, dims, examples)
	return &c, err
}

func generatorOf(ctx context.Context, e environment, c *abp.Config) (*bind.Generator, error) {
	spec, err := c.Network()
	if err != nil {
		return nil, err
	}
	m, err := generator.Build(spec, e.dims, e.seed)
	if err != nil {
		return nil, err
	}
	return bind.NewGenerator(ctx, m, e.engine, e.bind.Runtime, c.Sigma)
}

func startABP(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*abp.Config)
	if err := c.Check(); err != nil {
		return nil, badInput(err)
	}
	g, err := generatorOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := abp.New(*c, g, e.set, e.seed)
	if err != nil {
		return nil, badInput(err)
	}
	s.Held = e.held
	if e.judge != nil {
		s.Judge, s.JudgeN = e.judge.Measure, e.judge.N
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("generator %s: %d parameters, %d codes for examples of %v", c.Net, countParams(g.Params()), g.Codes(), e.dims),
			"inference: " + c.Langevin.String(),
		},
		reports: g.Reports,
		close:   g.Close,
	}, nil
}

func openABP(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*abp.Config)
	g, err := generatorOf(ctx, e, c)
	if err != nil {
		return err
	}
	defer g.Close()
	if err := training.RestoreParams(r.State, "generator", g.Params()); err != nil {
		return err
	}
	r.Generator, r.Langevin, r.Residual = g.Model(), c.Langevin, c.Sigma
	return nil
}
