package main

import (
	"context"
	"fmt"

	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/backbone"
	"ebmrun/onnxmodels/energy"
	"ebmrun/training/bind"
	"ebmrun/training/deepframe"
)

// deepFRAMEOf builds the energy on the network that the settings name, for
// pictures whose values lie between lo and hi.
func deepFRAMEOf(ctx context.Context, e environment, c *deepframe.Config, lo, hi float32) (*onnxmodels.Model, error) {
	net, err := backbone.Load(c.Backbone, weightsOf(ctx, e.say))
	if err != nil {
		return nil, err
	}
	pixels := backbone.Pixels{Lo: float64(lo), Hi: float64(hi)}
	m, err := energy.Linear(e.dims, c.Reference.Sigma, c.Stationary, net.Features(pixels))
	if err != nil {
		return nil, err
	}
	return m, net.Record(m)
}

func startDeepFRAME(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*deepframe.Config)
	if err := c.Check(); err != nil {
		return nil, badInput(err)
	}
	m, err := deepFRAMEOf(ctx, e, c, e.set.Lo, e.set.Hi)
	if err != nil {
		return nil, badInput(err)
	}
	net, err := bind.New(ctx, m, e.engine, e.bind)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := deepframe.New(ctx, *c, net, e.set, e.seed)
	if err != nil {
		return nil, badInput(err)
	}
	// The distance between pictures' principal components wants more than 16 samples.
	if e.judge != nil && (e.set.N == 1 || c.Chains.Number > 16) {
		s.Judge = e.judge.Measure
	}
	remarks := []string{
		fmt.Sprintf("network %s, frozen, cut at %v; %d weights on its responses to examples of %v", c.Backbone.Net, c.Backbone.Cut, countParams(net.Params()), e.dims),
		"sampling: " + c.Langevin.String(),
	}
	if e.set.N > 1 {
		floor, err := s.Floor(ctx)
		if err != nil {
			return nil, err
		}
		remarks = append(remarks, fmt.Sprintf("%s of as many of the examples as there are chains (%d): %.3f", deepframe.Gap, c.Chains.Number, floor))
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard, remarks: remarks,
		reports: net.Reports,
		close:   net.Close,
	}, nil
}

func openDeepFRAME(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*deepframe.Config)
	m, err := deepFRAMEOf(ctx, e, c, r.Lo, r.Hi)
	if err != nil {
		return err
	}
	net, err := bind.New(ctx, m, e.engine, e.bind)
	if err != nil {
		return err
	}
	defer net.Close()
	if err := deepframe.RestoreEnergy(net, r.State); err != nil {
		return err
	}
	if r.Model, err = net.Model(nil); err != nil {
		return err
	}
	r.Langevin, r.Sigma, r.Gaussian = c.Langevin, c.Reference.Sigma, true
	r.Bank, err = deepframe.Chains(*c, r.State, r.Model.Size())
	return err
}
