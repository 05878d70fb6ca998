package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/chain"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/inverseoptimalcontrol"
)

// steered is a cost of controls with the network that follows them and, for iLQR, the cost along
// the tangent of its dynamics.
type steered struct {
	*bind.ConditionalEnergy
	trace   *bind.ConditionalGenerator
	tangent *bind.ConditionalEnergy
}

func (s steered) all() networks {
	all := networks{s.ConditionalEnergy, titled{s.trace, "path, "}}
	if s.tangent != nil {
		all = append(all, titled{s.tangent, "tangent, "})
	}
	return all
}

func (s steered) Close() error                       { return s.all().Close() }
func (s steered) Reports() map[string]runtime.Report { return s.all().Reports() }

// model joins the networks.
func (s steered) model(c *inverseoptimalcontrol.Config, moments int) (*inverseoptimalcontrol.Model, error) {
	m, err := inverseoptimalcontrol.NewModel(*c, s, s.trace, moments)
	if err == nil && s.tangent != nil {
		m.Tangent = s.tangent
	}
	return m, err
}

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
	if c.ILQR > 0 {
		var m *conditional.Energy
		if m, err = c.Net.Tangent(moments, c.Reference.Sigma, e.seed); err == nil {
			s.tangent, err = bind.NewConditional(ctx, m, e.engine, e.bind)
		}
		if err != nil {
			s.tangent = nil
			return s, errors.Join(err, s.Close())
		}
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
	m, err := net.model(c, experts.H)
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
	if net.tangent != nil {
		s.Tangent = net.tangent
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("%s cost of %d features, %d parameters; agents: %d, %s, %d moments of %g s", c.Net.Cost, len(c.Net.Features), countParams(net.Params()), c.Net.Agents, c.Net.Dynamics, s.Moments, c.Net.Step),
			fmt.Sprintf("%d experts of %d examples", s.Count(), e.set.N),
			"sampling: " + controlText(c, c.Langevin),
			"prediction: " + controlText(c, c.Predict),
		},
		reports: net.Reports, close: net.Close,
	}, nil
}

// controlText says how controls are found.
func controlText(c *inverseoptimalcontrol.Config, l training.Langevin) string {
	if c.ILQR > 0 {
		return fmt.Sprintf("%d iterations of iLQR", c.ILQR)
	}
	return l.String()
}

func openControl(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*inverseoptimalcontrol.Config)
	net, err := steeredOf(ctx, e, c, c.Moments(e.dims))
	if err != nil {
		return err
	}
	r.release = net.Close
	m, err := net.model(c, c.Moments(e.dims))
	if err != nil {
		return err
	}
	if err := m.Restore(r.State); err != nil {
		return err
	}
	r.Learned, r.From, r.Langevin = m, c.Net.Given(), c.Predict
	r.Dims = c.Net.Dims(m.Moments)
	return net.export(r)
}

// export sets the models to export: the cost, its slope in the controls, and what follows controls.
func (s steered) export(r *openedRun) (err error) {
	if r.Given, err = s.Model(nil); err != nil {
		return err
	}
	slope, err := chain.Gradient(r.Given)
	r.Networks = map[string]*graphs.Model{"cost": r.Given.Model, "cost-grad": slope, "path": s.trace.Model().Model}
	return err
}
