package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"ebmrun/training/bind"
	"ebmrun/training/judge"
	"ebmrun/training/sequencecyclecoopnets"
)

// clipsOf builds and binds the networks of frames of both domains.
func clipsOf(ctx context.Context, e environment, c *sequencecyclecoopnets.Config) (d domains, shape sequencecyclecoopnets.Shape, err error) {
	if err := c.Check(); err != nil {
		return d, shape, err
	}
	if shape, err = sequencecyclecoopnets.ShapeOf(e.dims); err != nil {
		return d, shape, err
	}
	s, err := c.EnergyNet()
	if err != nil {
		return d, shape, err
	}
	m, err := c.Maps(shape.Frame(), shape.Frame(), e.seed)
	if err != nil {
		return d, shape, err
	}
	if d, err = energiesOf(ctx, e, s, shape.Frame(), shape.Frame(), c.Reference.Sigma); err != nil {
		return d, shape, err
	}
	if d.maps, err = bind.NewMappings(ctx, m, e.engine, e.bind.Runtime); err != nil {
		return d, shape, errors.Join(err, d.Close())
	}
	return d, shape, nil
}

func startSequence(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*sequencecyclecoopnets.Config)
	if spec, err := c.TranslatorNet(); err == nil {
		if err := cmp.Or(reachable(spec.Tanh, e.set), reachable(spec.Tanh, e.b)); err != nil {
			return nil, badInput(err)
		}
	}
	d, _, err := clipsOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := sequencecyclecoopnets.New(*c, d.a, d.b, d.maps, e.set, e.b, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), d.Close())
	}
	j, err := judge.New(e.b, e.heldB)
	if err != nil {
		return nil, errors.Join(badInput(err), d.Close())
	}
	s.Judge = j.Measure
	if e.held != nil {
		s.Held = e.held
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("energies of frames %s: %d parameters each; translators %s and predictors %s: %d parameters together; clips of %v",
				c.Net, countParams(d.a.Params()), c.Translator, c.Predictor, countParams(d.maps.Params()), e.dims),
			"revision: " + c.Langevin.String(),
			fmt.Sprintf("%s between real clips of domain b (its floor): %.4g", j.Name, j.Floor),
		},
		reports: d.Reports, close: d.Close,
	}, nil
}

func openSequence(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*sequencecyclecoopnets.Config)
	d, shape, err := clipsOf(ctx, e, c)
	if err != nil {
		return err
	}
	r.release = d.Close
	m, err := sequencecyclecoopnets.NewModel(*c, d.a, d.b, d.maps, shape)
	if err != nil {
		return err
	}
	if err := m.Restore(r.State); err != nil {
		return err
	}
	b, err := d.b.Model(nil)
	if err != nil {
		return err
	}
	r.Learned, r.From, r.Langevin, r.Sigma = m, e.dims, c.Langevin, c.Reference.Sigma
	if r.Networks, err = d.networks(); err == nil {
		r.Networks["energy-b"] = b.Model
	}
	return err
}
