package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/maxent"
	"ebmrun/training/sparseframe"
)

// atomsOf binds the energy of atoms under the reference N(0, I).
func atomsOf(ctx context.Context, e environment, taps []float32) (*bind.Energy, error) {
	m, err := energy.Linear(e.dims, 1, false, energy.Atoms(taps))
	if err != nil {
		return nil, err
	}
	return bind.New(ctx, m, e.engine, e.bind)
}

func startSparseFrame(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*sparseframe.Config)
	var net *bind.Energy
	s, err := sparseframe.New(ctx, *c, func(ctx context.Context, taps []float32) (training.Energy, error) {
		var err error
		net, err = atomsOf(ctx, e, taps)
		return net, err
	}, e.set, e.seed)
	if err != nil {
		if net != nil {
			err = errors.Join(err, net.Close())
		}
		return nil, badInput(err)
	}
	j := &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{fmt.Sprintf("%d wavelets by boosting, Gibbs sweeps over their coefficients in plain Go", c.Atoms)},
		reports: func() map[string]runtime.Report { return nil },
		close:   func() error { return nil },
	}
	if net != nil {
		j.remarks = []string{fmt.Sprintf("%d wavelets by matching pursuit; sampling: %s", len(s.Atoms), c.Config.String())}
		j.reports, j.close = net.Reports, net.Close
	}
	return j, nil
}

func openSparseFrame(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*sparseframe.Config)
	h, w := e.dims[1], e.dims[2]
	t, err := sparseframe.Open(*c, r.State, h, w)
	if err != nil {
		return err
	}
	net, err := atomsOf(ctx, e, t.Taps())
	if err != nil {
		return err
	}
	for j, v := range t.Theta {
		net.Params()[0].W[j] = float32(v)
	}
	net.Refresh()
	// pictures are normalised one by one: no scale leads back
	r.Gain, r.Offset, r.Lo, r.Hi = 1, 0, -8, 8
	model := &sparseframe.Model{Config: *c, Template: t}
	err = restoreMaxent(&c.Config, net, 1, r, func(m *maxent.Model) error {
		m.LogZ, m.Names = t.LogZ, [][]string{t.Names()}
		model.Model = m
		m.Prepare = func(x []float32) []float32 { return c.Prepare(x, h, w, t.Half()) }
		return nil
	})
	r.Learned = model
	return err
}
