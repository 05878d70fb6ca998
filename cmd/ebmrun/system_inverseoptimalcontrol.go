package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/chain"
	"ebmrun/runtime"
	"ebmrun/training/bind"
	"ebmrun/training/inverseoptimalcontrol"
)

func presetControl(name string, dims []int, examples int) (any, error) {
	c, err := inverseoptimalcontrol.For(name, dims, examples)
	return &c, err
}

// steered is a cost of controls with the network that follows them.
type steered struct {
	*bind.ConditionalEnergy
	trace *bind.ConditionalGenerator
}

func (s steered) both() networks                     { return networks{s.ConditionalEnergy, titled{s.trace, "path, "}} }
func (s steered) Close() error                       { return s.both().Close() }
func (s steered) Reports() map[string]runtime.Report { return s.both().Reports() }

// steeredOf builds and binds the networks of the settings, for controls over so many moments.
func steeredOf(ctx context.Context, e environment, c *inverseoptimalcontrol.Config, moments int) (s steered, err error) {
	if err := c.Check(); err != nil {
		return s, err
	}
	em, err := c.Net.Build(moments, c.Reference.Sigma, e.seed)
	if err != nil {
		return s, err
	}
	tm, err := c.Net.Trace(moments)
	if err != nil {
		return s, err
	}
	if s.ConditionalEnergy, err = bind.NewConditional(ctx, em, e.engine, e.bind); err != nil {
		return s, err
	}
	if s.trace, err = bind.NewConditionalGenerator(ctx, tm, e.engine, e.bind.Runtime, 1); err != nil {
		return s, errors.Join(err, s.ConditionalEnergy.Close())
	}
	return s, nil
}

// normalised sets what features are divided by, where the settings want that and do not say it yet.
func normalised(ctx context.Context, e environment, c *inverseoptimalcontrol.Config) error {
	if !c.Normalise || c.Net.Norm != nil {
		return nil
	}
	experts, err := c.Experts(e.set)
	if err != nil {
		return err
	}
	net, err := steeredOf(ctx, e, c, experts.H)
	if err != nil {
		return err
	}
	m, err := inverseoptimalcontrol.NewModel(*c, net, net.trace, experts.H)
	if err == nil {
		c.Net.Norm, err = m.Norms(ctx, experts)
	}
	return errors.Join(err, net.Close())
}

func startControl(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*inverseoptimalcontrol.Config)
	if err := normalised(ctx, e, c); err != nil {
		return nil, badInput(err)
	}
	net, err := steeredOf(ctx, e, c, c.Moments(e.dims))
	if err != nil {
		return nil, badInput(err)
	}
	s, err := inverseoptimalcontrol.New(*c, net, net.trace, e.set, e.held, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), net.Close())
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("%s cost of %d features, %d parameters; %d agents, %s, %d moments of %g s", c.Net.Cost, len(c.Net.Features), countParams(net.Params()), c.Net.Agents, c.Net.Dynamics, s.Moments, c.Net.Step),
			fmt.Sprintf("%d experts of %d examples", s.Count(), e.set.N),
			"sampling: " + c.Langevin.String(),
			"prediction: " + c.Predict.String(),
		},
		reports: net.Reports, close: net.Close,
	}, nil
}

func openControl(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*inverseoptimalcontrol.Config)
	net, err := steeredOf(ctx, e, c, c.Moments(e.dims))
	if err != nil {
		return err
	}
	r.release = net.Close
	m, err := inverseoptimalcontrol.NewModel(*c, net, net.trace, c.Moments(e.dims))
	if err != nil {
		return err
	}
	if err := m.Restore(r.State); err != nil {
		return err
	}
	r.Learned, r.From, r.Langevin = m, c.Net.Given(), c.Predict
	r.Dims = c.Net.Dims(m.Moments)
	r.Networks, err = net.networks()
	return err
}

// networks are the models to export: the cost, its slope in the controls, and what follows controls.
func (s steered) networks() (map[string]*graphs.Model, error) {
	m, err := s.Model(nil)
	if err != nil {
		return nil, err
	}
	slope, err := chain.Gradient(m)
	if err != nil {
		return nil, err
	}
	return map[string]*graphs.Model{"cost": m.Model, "cost-grad": slope, "path": s.trace.Model().Model}, nil
}
