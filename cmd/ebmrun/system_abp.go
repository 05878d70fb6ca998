package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"ebmrun/graphs"
	"ebmrun/training/abp"
	"ebmrun/training/bind"
	"ebmrun/training/data"
)

func generatorOf(ctx context.Context, e environment, c *abp.Config) (*bind.Generator, error) {
	return e.generator(ctx, c.Network, c.Residual())
}

func startABP(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*abp.Config)
	if err := c.Check(); err != nil {
		return nil, badInput(err)
	}
	spec, err := c.Network()
	if err == nil {
		err = reachable(spec.Tanh, e.set)
	}
	if err != nil {
		return nil, badInput(err)
	}
	g, err := generatorOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := abp.New(*c, g, e.set, e.seed)
	if err == nil {
		err = hide(ctx, s, c.Data.Masks, e.set)
	}
	if err != nil {
		return nil, errors.Join(badInput(err), g.Close())
	}
	s.Held = e.held
	if e.judge != nil {
		s.Judge, s.JudgeN = e.judge.Measure, e.judge.N
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("generator %s: %d parameters, %d codes for examples of %v", c.Net, countParams(g.Params()), g.Codes(), e.dims),
			"inference: " + c.Langevin.String(),
		},
		reports: g.Reports,
		close:   g.Close,
	}, nil
}

// reachable checks that a generator that ends in tanh can make the data.
func reachable(tanh bool, set *data.Set) error {
	if !tanh {
		return nil
	}
	lo, hi := set.Lo, set.Hi
	if lo >= hi { // not declared
		lo, hi = slices.Min(set.X()), slices.Max(set.X())
	}
	if lo < -1 || hi > 1 {
		return fmt.Errorf("%s has values from %.4g to %.4g, and the generator, which ends in tanh, makes values from -1 to 1", set.Name, lo, hi)
	}
	return nil
}

// hide gives the training examples the masks of a file or folder: one for all,
// one for each, or one for each example of data that was split, in its order.
func hide(ctx context.Context, s *abp.System, path string, set *data.Set) error {
	if path == "" {
		return nil
	}
	m, err := data.Load(ctx, path, data.Options{Grey: true})
	if err != nil {
		return err
	}
	if m.N > set.N {
		if m, err = data.Load(ctx, path, data.Options{Grey: true, Part: "train"}); err != nil {
			return err
		}
	}
	return s.Hide(m)
}

func openABP(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*abp.Config)
	g, err := generatorOf(ctx, e, c)
	if err != nil {
		return err
	}
	r.release = g.Close
	if r.Learned, err = abp.Open(*c, g, graphs.Size(e.dims), r.State); err != nil {
		return err
	}
	r.Generator, r.Langevin, r.Residual = g.Model(), c.Langevin, c.Residual()
	return nil
}
