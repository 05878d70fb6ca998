package main

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/hierarchicalsparseframe"
)

func startHierarchicalSparseFrame(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*hierarchicalsparseframe.Config)
	reports := map[string]runtime.Report{}
	template := e
	template.dims = []int{1, c.Side, c.Side}
	s, err := hierarchicalsparseframe.New(ctx, *c, func(ctx context.Context, taps []float32) (training.Energy, error) {
		net, err := atomsOf(ctx, template, taps)
		if err == nil {
			reports = net.Reports()
		}
		return net, err
	}, e.set, e.seed)
	if err != nil {
		return nil, badInput(err)
	}
	s.Held = e.held
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{fmt.Sprintf("%d templates of %d×%d pixels in %d×%d parts, of %d wavelets each (%s)", c.Clusters, c.Side, c.Side, c.Parts, c.Parts, c.Frame.Atoms, c.Frame.Select)},
		reports: func() map[string]runtime.Report { return reports },
		close:   func() error { return nil },
	}, nil
}

func openHierarchicalSparseFrame(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*hierarchicalsparseframe.Config)
	m, err := hierarchicalsparseframe.NewModel(*c, e.dims[1], e.dims[2])
	if err != nil {
		return err
	}
	if err := m.Restore(r.State); err != nil {
		return err
	}
	r.Networks, e.dims = map[string]*graphs.Model{}, []int{1, c.Side, c.Side}
	for q, t := range m.Templates {
		net, err := atomsOf(ctx, e, t.Taps())
		if err != nil {
			return err
		}
		for j, v := range t.Theta {
			net.Params()[0].W[j] = float32(v)
		}
		net.Refresh()
		model, err := net.Model(nil)
		if err = errors.Join(err, net.Close()); err != nil {
			return err
		}
		r.Networks[fmt.Sprintf("energy-template%d", q+1)] = model.Model
	}
	// pictures are normalised one by one: no scale leads back
	r.Learned, r.Sigma, r.Gaussian = m, 1, true
	r.Gain, r.Offset, r.Lo, r.Hi = 1, 0, -8, 8
	return nil
}
