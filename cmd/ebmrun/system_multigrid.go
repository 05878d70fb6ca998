package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/training/multigrid"
)

// gridsOf binds an energy for every grid but the first.
func gridsOf(ctx context.Context, e environment, c *multigrid.Config) (levels, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	specs, err := c.Networks()
	if err != nil {
		return nil, err
	}
	var dims [][]int
	for _, side := range c.Grids[1:] {
		dims = append(dims, []int{e.dims[0], side, side})
	}
	return bindLevels(ctx, e, e.bind, specs, dims, c.Reference.Sigma)
}

func startMultigrid(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*multigrid.Config)
	nets, err := gridsOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := multigrid.New(*c, nets.energies(), e.set, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), nets.Close())
	}
	if e.judge != nil {
		s.Judge, s.JudgeN = e.judge.Measure, e.judge.N
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{nets.describe(c.Nets), fmt.Sprintf("sampling on each of grids %v: %v", c.Grids, c.Langevin)},
		reports: nets.Reports,
		close:   nets.Close,
	}, nil
}

func openMultigrid(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*multigrid.Config)
	nets, err := gridsOf(ctx, e, c)
	if err != nil {
		return err
	}
	r.release = nets.Close
	m, err := multigrid.NewModel(*c, nets.energies(), e.dims[0])
	if err != nil {
		return err
	}
	if err := m.Restore(r.State); err != nil {
		return err
	}
	r.Learned, r.Langevin, r.Sigma = m, c.Langevin, c.Reference.Sigma
	return nets.export(r)
}
