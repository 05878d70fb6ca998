package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/training/bind"
	"ebmrun/training/coopflow"
	"ebmrun/training/flow"
)

// twoFlowsOf builds and binds the energy and the flow of the settings.
func twoFlowsOf(ctx context.Context, e environment, c *coopflow.Config) (*bind.Energy, *bind.Flow, error) {
	fs, err := c.FlowNet()
	if err != nil {
		return nil, nil, err
	}
	net, err := e.energy(ctx, c.EnergyNet, c.Reference.Sigma)
	if err != nil {
		return nil, nil, err
	}
	f, err := flowOf(ctx, e, fs)
	if err != nil {
		return nil, nil, errors.Join(err, net.Close())
	}
	return net, f, nil
}

func startCoopFlow(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*coopflow.Config)
	if err := c.Check(); err != nil {
		return nil, badInput(err)
	}
	net, f, err := twoFlowsOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := coopflow.New(*c, net, f, e.set, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), net.Close(), f.Close())
	}
	e.examine(&s.Exam)
	variant := "from scratch"
	if c.Pretrain > 0 {
		variant = fmt.Sprintf("the flow learns from data for %d iterations, then the energy alone for %d", c.Pretrain, c.Alone)
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("energy %s: %d parameters; flow %s: %d parameters; examples of %v",
				c.Net, countParams(net.Params()), c.Flow, countParams(f.Params()), e.dims),
			"revision: " + c.Langevin.String(),
			"variant: " + variant,
		},
		reports: networks{net, f}.Reports,
		close:   networks{net, f}.Close,
	}, nil
}

func openCoopFlow(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*coopflow.Config)
	net, f, err := twoFlowsOf(ctx, e, c)
	if err != nil {
		return err
	}
	r.release = networks{net, f}.Close
	if err := coopflow.Weights(net, f).Restore(r.State); err != nil {
		return err
	}
	if r.Model, err = net.Model(nil); err != nil {
		return err
	}
	model := c.Of(net, flow.Model{Flow: f, Dim: graphs.Size(e.dims), Lo: r.Lo, Hi: r.Hi})
	r.Langevin, r.Sigma = model.Langevin, c.Reference.Sigma
	r.Networks, r.Learned, r.Drafts = directions(f), model, model.Flow
	return nil
}
