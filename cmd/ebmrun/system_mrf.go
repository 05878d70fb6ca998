package main

import (
	"context"
	"fmt"

	"ebmrun/runtime"
	"ebmrun/training/mrf"
)

func startMRF(_ context.Context, e environment, settings any) (*job, error) {
	c := settings.(*mrf.Config)
	s, err := mrf.New(*c, e.set, e.seed)
	if err != nil {
		return nil, badInput(err)
	}
	if e.judge != nil && e.judge.N == 1 {
		s.Judge = e.judge.Measure
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("%s: neighbourhood of order %d, %d iterations of pseudo-likelihood, then comparison with samples", c.Family, c.Order, c.Newton),
			fmt.Sprintf("sampling: %d %s sweeps of %d pictures per iteration, in plain Go", c.Sweeps, c.Sampler, c.Chains),
		},
		reports: func() map[string]runtime.Report { return nil },
		close:   func() error { return nil },
	}, nil
}

func openMRF(_ context.Context, e environment, settings any, r *openedRun) error {
	l := mrf.NewLearned(*settings.(*mrf.Config), e.dims[1], e.dims[2])
	r.Learned = l
	return l.Restore(r.State)
}
