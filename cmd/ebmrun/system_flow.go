package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/graphs"
	nets "ebmrun/onnxmodels/flow"
	"ebmrun/training/bind"
	"ebmrun/training/flow"
)

// flowOf builds and binds a flow.
func flowOf(ctx context.Context, e environment, spec nets.Spec) (*bind.Flow, error) {
	m, err := nets.Build(spec, e.dims, e.seed)
	if err != nil {
		return nil, err
	}
	return bind.NewFlow(ctx, m, e.engine, e.bind.Runtime)
}

func startFlow(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*flow.Config)
	if err := c.Check(); err != nil {
		return nil, badInput(err)
	}
	spec, err := c.Network()
	if err != nil {
		return nil, badInput(err)
	}
	f, err := flowOf(ctx, e, spec)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := flow.New(*c, f, e.set, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), f.Close())
	}
	e.examine(&s.Exam)
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{fmt.Sprintf("flow %s: %d parameters for examples of %v; %s", c.Net, countParams(f.Params()), e.dims, filledBy(spec))},
		reports: f.Reports,
		close:   f.Close,
	}, nil
}

// filledBy says what becomes of the gaps between levels.
func filledBy(s nets.Spec) string {
	if s.Levels == 0 {
		return "continuous values"
	}
	return fmt.Sprintf("%d levels, %s dequantization, logit bound %g", s.Levels, s.Dequantize, s.Bound)
}

func openFlow(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*flow.Config)
	spec, err := c.Network()
	if err != nil {
		return err
	}
	f, err := flowOf(ctx, e, spec)
	if err != nil {
		return err
	}
	r.release = f.Close
	if err := flow.Weights(f).Restore(r.State); err != nil {
		return err
	}
	r.Networks = directions(f)
	r.Learned = flow.Model{Flow: f, Dim: graphs.Size(e.dims), Lo: r.Lo, Hi: r.Hi}
	return nil
}

// directions are both of a flow, to export.
func directions(f *bind.Flow) map[string]*graphs.Model {
	encode, decode := f.Models()
	return map[string]*graphs.Model{"flow-encode": encode, "flow-decode": decode}
}
