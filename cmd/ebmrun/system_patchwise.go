package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/patchwise"
)

// A patchBinder binds energies of pictures of any size, and remembers them.
type patchBinder struct {
	ctx  context.Context
	e    environment
	o    bind.Options
	spec energy.Spec
	all  levels
}

// bind implements the Bind of a patchwise.Model.
func (b *patchBinder) bind(scale, h, w int) (training.Energy, error) {
	one, err := bindLevels(b.ctx, b.e, b.o, []energy.Spec{b.spec}, [][]int{{b.e.dims[0], h, w}}, 0)
	if err != nil {
		return nil, err
	}
	b.all = append(b.all, one...)
	return one[0], nil
}

// scalesOf binds an energy for every scale.
func scalesOf(ctx context.Context, e environment, c *patchwise.Config) (*patchBinder, []training.Energy, error) {
	if err := c.Check(); err != nil {
		return nil, nil, err
	}
	if len(e.dims) != 3 {
		return nil, nil, fmt.Errorf("wanted a picture, got examples of %v", e.dims)
	}
	spec, err := c.Network()
	if err != nil {
		return nil, nil, err
	}
	sizes, err := c.Sizes(e.dims[1], e.dims[2])
	if err != nil {
		return nil, nil, err
	}
	b := &patchBinder{ctx: ctx, e: e, o: e.bind, spec: spec}
	b.o.Spectral = c.Spectral
	b.o.Only = func(_ string, dims []int) bool { return dims[0] > 1 } // the last layer has one filter
	var specs []energy.Spec
	var dims [][]int
	for _, s := range sizes {
		specs, dims = append(specs, spec), append(dims, []int{e.dims[0], s[0], s[1]})
	}
	b.all, err = bindLevels(ctx, e, b.o, specs, dims, 0)
	return b, b.all.energies(), err
}

func startPatchwise(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*patchwise.Config)
	b, nets, err := scalesOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := patchwise.New(*c, nets, e.set, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), b.all.Close())
	}
	s.Bind = b.bind
	if e.judge != nil {
		s.Judge, s.JudgeN = e.judge.Measure, e.judge.N
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{b.all.describe([]string{c.Net}), "sampling at each scale: " + c.Langevin.String()},
		reports: b.all.Reports,
		close:   func() error { return b.all.Close() },
	}, nil
}

func openPatchwise(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*patchwise.Config)
	b, nets, err := scalesOf(ctx, e, c)
	if err != nil {
		return err
	}
	r.release = func() error { return b.all.Close() }
	m, err := patchwise.NewModel(*c, nets, e.dims[0], e.dims[1], e.dims[2])
	if err != nil {
		return err
	}
	m.Bind = b.bind
	if err := m.Restore(r.State); err != nil {
		return err
	}
	r.Learned, r.Langevin = m, c.Langevin
	return b.all.export(r)
}
