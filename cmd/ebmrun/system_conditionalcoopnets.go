package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/runtime"
	"ebmrun/training/bind"
	"ebmrun/training/conditionalcoopnets"
	"ebmrun/training/data"
)

// solver is a conditional energy with its initialiser.
type solver struct {
	*bind.ConditionalEnergy
	initialiser *bind.ConditionalGenerator
}

func (s solver) both() networks { return networks{s.ConditionalEnergy, s.initialiser} }

func (s solver) Close() error                       { return s.both().Close() }
func (s solver) Reports() map[string]runtime.Report { return s.both().Reports() }

// export sets the models to export.
func (s solver) export(r *openedRun) (err error) {
	if r.Given, err = s.Model(nil); err == nil {
		r.Networks = map[string]*graphs.Model{"energy-given": r.Given.Model, "initialiser": s.initialiser.Model().Model}
	}
	return err
}

// solverOf builds and binds the networks of the settings.
func solverOf(ctx context.Context, e environment, c *conditionalcoopnets.Config) (s solver, err error) {
	if err := c.Check(); err != nil {
		return s, err
	}
	es, err := c.EnergyNet()
	if err != nil {
		return s, err
	}
	gs, err := c.GeneratorNet()
	if err != nil {
		return s, err
	}
	em, err := conditional.BuildEnergy(es, e.dims, e.given, c.Reference.Sigma, e.seed)
	if err != nil {
		return s, err
	}
	gm, err := conditional.Build(gs, e.dims, e.given, e.seed)
	if err != nil {
		return s, err
	}
	if s.ConditionalEnergy, err = bind.NewConditional(ctx, em, e.engine, e.bind); err != nil {
		return s, err
	}
	if s.initialiser, err = bind.NewConditionalGenerator(ctx, gm, e.engine, e.bind.Runtime, c.Sigma); err != nil {
		return s, errors.Join(err, s.ConditionalEnergy.Close())
	}
	return s, nil
}

// labelled takes the labels as conditions, if the settings want that.
func labelled(e *environment, c *conditionalcoopnets.Config) (err error) {
	if c.Classes == 0 {
		return nil
	}
	if e.set.Given != nil {
		return fmt.Errorf("conditional-coopnets: wanted either classes or pairs as conditions, got both")
	}
	if c.Classes < 0 && len(e.set.Labels) > 0 {
		c.Classes = slices.Max(e.set.Labels) + 1
	}
	if e.set, err = conditionalcoopnets.Labelled(e.set, c.Classes); err != nil {
		return err
	}
	if e.held != nil {
		if e.held, err = conditionalcoopnets.Labelled(e.held, c.Classes); err != nil {
			return err
		}
	}
	e.given = dimsOf(e.set.Given)
	return nil
}

func startConditional(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*conditionalcoopnets.Config)
	err := labelled(&e, c)
	if err == nil && e.given == nil {
		err = errors.New("conditional-coopnets: wanted conditions: --given, or classes: -1 in the settings")
	}
	if err != nil {
		return nil, badInput(err)
	}
	if spec, err := c.GeneratorNet(); err == nil {
		if err := reachable(spec.Tanh, e.set); err != nil {
			return nil, badInput(err)
		}
	}
	net, err := solverOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := conditionalcoopnets.New(*c, net, net.initialiser, e.set, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), net.Close())
	}
	s.Held = e.held
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("energy %s: %d parameters; initialiser %s: %d parameters, %d codes; examples of %v given %v",
				c.Net, countParams(net.Params()), c.Init, countParams(net.initialiser.Params()), net.initialiser.Codes(), e.dims, e.given),
			"revision: " + c.Langevin.String(),
		},
		reports: net.Reports, close: net.Close,
	}, nil
}

func openConditional(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*conditionalcoopnets.Config)
	if c.Classes > 0 {
		e.given = []int{c.Classes}
	}
	net, err := solverOf(ctx, e, c)
	if err != nil {
		return err
	}
	r.release = net.Close
	m, err := conditionalcoopnets.NewModel(*c, net, net.initialiser, graphs.Size(e.dims), graphs.Size(e.given))
	if err != nil {
		return err
	}
	if err := m.Restore(r.State); err != nil {
		return err
	}
	r.Learned, r.From, r.Langevin, r.Residual = m, e.given, c.Langevin, c.Sigma
	switch {
	case c.Classes > 0:
		r.Learned = conditionalcoopnets.ByClass{Model: m}
	case r.Head.Source.Given == data.Hole:
		r.Learned = conditionalcoopnets.Inpainter{Model: m, Blank: (r.Lo + r.Hi) / 2}
	}
	return net.export(r)
}
