package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training/coarsetofine"
)

// stagesOf binds an energy for every resolution.
func stagesOf(ctx context.Context, e environment, c *coarsetofine.Config) (levels, error) {
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
	sides, err := c.Sides(e.dims[1], e.dims[2])
	if err != nil {
		return nil, err
	}
	o := e.bind
	o.Spectral, o.Only = c.Spectral, threeByThree
	var specs []energy.Spec
	var dims [][]int
	for _, side := range sides {
		specs, dims = append(specs, spec), append(dims, []int{e.dims[0], side, side})
	}
	return bindLevels(ctx, e, o, specs, dims, 0)
}

// threeByThree picks the weights of 3×3 convolutions.
func threeByThree(_ string, dims []int) bool { return len(dims) == 4 && dims[2] == 3 }

func startCoarseToFine(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*coarsetofine.Config)
	nets, err := stagesOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := coarsetofine.New(*c, nets.energies(), e.set, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), nets.Close())
	}
	if e.judge != nil {
		s.Judge, s.JudgeN = e.judge.Measure, e.judge.N
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{nets.describe([]string{c.Net}), "sampling at each resolution: " + c.Langevin.String()},
		reports: nets.Reports,
		close:   nets.Close,
	}, nil
}

func openCoarseToFine(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*coarsetofine.Config)
	nets, err := stagesOf(ctx, e, c)
	if err != nil {
		return err
	}
	r.release = nets.Close
	m, err := coarsetofine.NewModel(*c, nets.energies(), e.dims[0], e.dims[1], e.dims[2])
	if err != nil {
		return err
	}
	if err := m.Restore(r.State); err != nil {
		return err
	}
	r.Learned, r.Langevin = m, c.Langevin
	return nets.export(r)
}
