package main

import (
	"context"
	"fmt"

	"ebmrun/runtime"
	"ebmrun/training/frame"
)

func startFrame(_ context.Context, e environment, settings any) (*job, error) {
	c := settings.(*frame.Config)
	s, err := frame.New(*c, e.set, e.seed)
	if err != nil {
		return nil, badInput(err)
	}
	if e.judge != nil && e.judge.N == 1 {
		s.Judge = e.judge.Measure
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("%s: %d grey levels, %d bins, up to %d filters of %d", c.Mode, c.Levels, c.Bins, c.Select.Most, len(s.Gaps())),
			fmt.Sprintf("sampling: %d Gibbs sweeps of %d pictures per iteration, in plain Go", c.Sweeps, c.Chains),
		},
		reports: func() map[string]runtime.Report { return nil },
		close:   func() error { return nil },
	}, nil
}

func openFrame(_ context.Context, e environment, settings any, r *openedRun) error {
	m := &frame.Model{Config: *settings.(*frame.Config), H: e.dims[1], W: e.dims[2]}
	r.Learned = m
	return m.Restore(r.State)
}
