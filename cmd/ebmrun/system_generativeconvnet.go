package main

import (
	"context"
	"fmt"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training/bind"
	"ebmrun/training/checkpoint"
	"ebmrun/training/generativeconvnet"
)

func presetGenerativeConvNet(name string, dims []int, examples int) (any, error) {
	c, err := generativeconvnet.For(name, dims, examples)
	return &c, err
}

// energyOf builds and binds the energy that the settings describe.
func energyOf(ctx context.Context, e environment, c *generativeconvnet.Config) (*bind.Energy, error) {
	spec, err := c.Network()
	if err != nil {
		return nil, err
	}
	m, err := energy.Build(spec, e.dims, c.Reference.Sigma, e.seed)
	if err != nil {
		return nil, err
	}
	o := e.bind
	o.Spectral = c.Spectral
	return bind.New(ctx, m, e.engine, o)
}

func startGenerativeConvNet(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*generativeconvnet.Config)
	if err := c.Check(); err != nil {
		return nil, badInput(err)
	}
	net, err := energyOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := generativeconvnet.New(*c, net, e.set, e.seed)
	if err != nil {
		return nil, badInput(err)
	}
	if e.judge != nil {
		s.Judge, s.JudgeN = e.judge.Measure, e.judge.N
		if c.Chains.Init == generativeconvnet.Persistent {
			s.JudgeN = min(s.JudgeN, c.Bank())
		}
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("network %s: %d parameters on examples of %v", c.Net, countParams(net.Params()), e.dims),
			"sampling: " + c.Langevin.String(),
		},
		reports: net.Reports,
		close:   net.Close,
	}, nil
}

func openGenerativeConvNet(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*generativeconvnet.Config)
	net, err := energyOf(ctx, e, c)
	if err != nil {
		return err
	}
	defer net.Close()
	average, err := generativeconvnet.RestoreEnergy(*c, net, r.State)
	if err != nil {
		return err
	}
	if r.Model, err = net.Model(average); err != nil {
		return err
	}
	r.Langevin = c.Langevin
	r.Sigma, r.Gaussian = c.Reference.Sigma, c.Chains.Start == generativeconvnet.Gaussian
	if c.Chains.Init == generativeconvnet.Persistent {
		r.Bank, err = checkpoint.Values[float32](r.State, "chains/x", c.Bank(), r.Model.Size())
	}
	return err
}
