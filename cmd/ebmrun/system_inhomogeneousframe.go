package main

import (
	"context"
	"fmt"
	"math"

	"ebmrun/graphs"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/checkpoint"
	"ebmrun/training/inhomogeneousframe"
	"ebmrun/training/maxent"
)

func startInhomogeneousFrame(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*inhomogeneousframe.Config)
	net, err := responsesOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := inhomogeneousframe.New(ctx, *c, net, e.set, e.seed)
	if err != nil {
		return nil, badInput(err)
	}
	return maxentJob(e, s, net, c.Guard, fmt.Sprintf("%d weights of fixed filters", countParams(net.Params()))), nil
}

// responsesOf binds the energy over filter responses that the settings describe.
func responsesOf(ctx context.Context, e environment, c *inhomogeneousframe.Config) (*bind.Energy, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	m, err := c.Network(e.dims)
	if err != nil {
		return nil, err
	}
	return bind.New(ctx, m, e.engine, e.bind)
}

// maxentJob is the job of a system whose energy is linear in its weights.
func maxentJob(e environment, s *maxent.System, net *bind.Energy, guard training.Guard, remarks ...string) *job {
	if e.judge != nil {
		s.Judge, s.JudgeN = e.judge.Measure, e.judge.N
	}
	return &job{
		System: s, steps: s.Config.Steps, guard: guard,
		remarks: append(remarks, "sampling: "+s.Config.String()),
		reports: net.Reports, close: net.Close,
	}
}

func openInhomogeneousFrame(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*inhomogeneousframe.Config)
	net, err := responsesOf(ctx, e, c)
	if err != nil {
		return err
	}
	return restoreMaxent(&c.Config, net, c.Reference.Sigma, r, func(m *maxent.Model) (err error) {
		if m.Names, err = c.Names(); err != nil {
			return err
		}
		return m.Open(r.State)
	})
}

// restoreMaxent restores an energy that is linear in its weights, with its chains.
func restoreMaxent(c *maxent.Config, net *bind.Energy, sigma float64, r *openedRun, restore func(*maxent.Model) error) (err error) {
	r.release = net.Close
	m := &maxent.Model{Config: *c, Energy: net, Dim: graphs.Size(r.Dims), Sigma: sigma}
	if err := restore(m); err != nil {
		return err
	}
	r.Learned, r.Sigma, r.Gaussian = m, sigma, true
	// Langevin steps as long as the leapfrogs, for chains that go on without HMC.
	if r.Langevin = c.Langevin; c.HMC.Leapfrogs > 0 {
		mass := c.HMC.Mass
		if mass == 0 {
			mass = 1
		}
		r.Langevin = training.Langevin{Steps: c.HMC.Calls * c.HMC.Leapfrogs, Step: c.HMC.Step / math.Sqrt(mass), Noise: 1}
	}
	if r.Bank, err = checkpoint.Values[float32](r.State, "chains/x", c.Chains, m.Dim); err != nil {
		return err
	}
	r.Model, err = net.Model(nil)
	return err
}
