package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training/judge"
	"ebmrun/training/onesidedtranslation"
)

// targetOf binds the energy of the target domain.
func targetOf(ctx context.Context, e environment, c *onesidedtranslation.Config) (levels, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if len(e.dims) != 3 {
		return nil, fmt.Errorf("wanted pictures, got examples of %v", e.dims)
	}
	spec, err := c.Network()
	if err != nil {
		return nil, err
	}
	o := e.bind
	o.Spectral, o.Only = c.Spectral, threeByThree
	return bindLevels(ctx, e, o, []energy.Spec{spec}, [][]int{e.dims}, 0)
}

func startOneSided(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*onesidedtranslation.Config)
	net, err := targetOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := onesidedtranslation.New(*c, net[0], e.set, e.b, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), net.Close())
	}
	j, err := judge.New(e.b, e.heldB)
	if err != nil {
		return nil, errors.Join(badInput(err), net.Close())
	}
	s.Judge = j.Measure
	if e.held != nil {
		s.Held = e.held.Head(j.N)
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{net.describe([]string{c.Net}), "translation: " + c.Langevin.String(),
			fmt.Sprintf("%s between real examples of the target domain (its floor): %.4g", j.Name, j.Floor)},
		reports: net.Reports,
		close:   net.Close,
	}, nil
}

func openOneSided(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*onesidedtranslation.Config)
	net, err := targetOf(ctx, e, c)
	if err != nil {
		return err
	}
	r.release = net.Close
	m, err := onesidedtranslation.NewModel(*c, net[0], e.dims[0], e.dims[1], e.dims[2])
	if err != nil {
		return err
	}
	if err := m.Restore(r.State); err != nil {
		return err
	}
	r.Learned, r.Langevin = m, c.Langevin
	return net.export(r)
}
