package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/checkpoint"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/sampler"
)

// energyOf builds and binds the energy that the settings describe.
func energyOf(ctx context.Context, e environment, c *generativeconvnet.Config) (*bind.Energy, error) {
	e.bind.Spectral = c.Spectral
	return e.energy(ctx, c.Network, c.Reference.Sigma)
}

func startGenerativeConvNet(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*generativeconvnet.Config)
	return likelihood(ctx, e, c, c.Check, func(net *bind.Energy) (*generativeconvnet.System, error) {
		return generativeconvnet.New(*c, net, e.set, e.seed)
	})
}

// likelihood is the job of a system whose core is maximum-likelihood learning of
// one energy.
func likelihood[S interface {
	training.System
	Core() *generativeconvnet.System
}](ctx context.Context, e environment, c *generativeconvnet.Config, check func() error, make func(*bind.Energy) (S, error)) (*job, error) {
	if err := check(); err != nil {
		return nil, badInput(err)
	}
	net, err := energyOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := make(net)
	if err != nil {
		return nil, errors.Join(badInput(err), net.Close())
	}
	if core := s.Core(); e.judge != nil {
		core.Judge, core.JudgeN = e.judge.Measure, e.judge.N
		if c.Chains.Init == generativeconvnet.Persistent {
			core.JudgeN = min(core.JudgeN, c.Bank())
		}
		if core.JudgeN < e.judge.Least {
			core.Judge = nil
			e.say(fmt.Sprintf("samples are not judged: %s wants %d at least, and there are %d chains (chains.buffer)", e.judge.Name, e.judge.Least, c.Bank()))
		}
	}
	name := c.Net
	if c.Spec != nil {
		name = "of the settings"
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("network %s: %d parameters on examples of %v", name, countParams(net.Params()), e.dims),
			"sampling: " + c.Langevin.String(),
		},
		reports: net.Reports,
		close:   net.Close,
	}, nil
}

func openGenerativeConvNet(ctx context.Context, e environment, settings any, r *openedRun) error {
	return openLikelihood(ctx, e, settings.(*generativeconvnet.Config), r, nil)
}

// openLikelihood restores such a run: its energy, and what learned makes of it.
func openLikelihood(ctx context.Context, e environment, c *generativeconvnet.Config, r *openedRun, learned func(sampler.Field) any) error {
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
		if r.Bank, err = checkpoint.Values[float32](r.State, "chains/x", c.Bank(), r.Model.Size()); err != nil {
			return err
		}
	}
	if learned != nil {
		field, err := bind.Freeze(ctx, r.Model, e.engine, bind.Options{Runtime: e.bind.Runtime})
		if err != nil {
			return err
		}
		r.Learned, r.release = learned(field), field.Close
	}
	return nil
}
