package main

import (
	"context"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/backbone"
	"ebmrun/onnxmodels/energy"
	"ebmrun/training/bind"
	"ebmrun/training/deepframe"
)

// deepFRAMEOf binds the energy on the network that the settings name, for pictures whose values
// lie between lo and hi, and says which layers it has.
func deepFRAMEOf(ctx context.Context, e environment, c *deepframe.Config, lo, hi float32) (*bind.Energy, []deepframe.Layer, error) {
	net, err := backbone.Load(c.Backbone, weightsOf(ctx, e.say))
	if err != nil {
		return nil, nil, err
	}
	var layers []deepframe.Layer
	features := net.Features(backbone.Pixels{Lo: float64(lo), Hi: float64(hi)})
	m, err := energy.Linear(e.dims, c.Reference.Sigma, c.Stationary, func(b *graphs.Builder, x *graphs.Value) []*graphs.Value {
		maps := features(b, x)
		for i, h := range maps {
			d := h.Shape[1:].Ints()
			layers = append(layers, deepframe.Layer{Name: c.Backbone.Cut[i], Units: d[0], Places: graphs.Size(d[1:])})
		}
		return maps
	})
	if err != nil {
		return nil, nil, err
	}
	if err := net.Record(m); err != nil {
		return nil, nil, err
	}
	bound, err := bind.New(ctx, m, e.engine, e.bind)
	return bound, layers, err
}

func startDeepFRAME(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*deepframe.Config)
	if err := c.Check(); err != nil {
		return nil, badInput(err)
	}
	net, _, err := deepFRAMEOf(ctx, e, c, e.set.Lo, e.set.Hi)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := deepframe.New(ctx, *c, net, e.set, e.seed)
	if err != nil {
		return nil, badInput(err)
	}
	// The distance between pictures' principal components wants more than 16 samples.
	if e.judge != nil && (e.set.N == 1 || c.Chains.Number > 16) {
		s.Judge = e.judge.Measure
	}
	remarks := []string{
		fmt.Sprintf("network %s, frozen, cut at %v; %d weights on its responses to examples of %v", c.Backbone.Net, c.Backbone.Cut, countParams(net.Params()), e.dims),
		"sampling: " + c.Langevin.String(),
	}
	if e.set.N > 1 {
		floor, err := s.Floor(ctx)
		if err != nil {
			return nil, err
		}
		remarks = append(remarks, fmt.Sprintf("%s of as many of the examples as there are chains (%d): %.3f", deepframe.Gap, c.Chains.Number, floor))
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard, remarks: remarks,
		reports: net.Reports,
		close:   net.Close,
	}, nil
}

func openDeepFRAME(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*deepframe.Config)
	net, layers, err := deepFRAMEOf(ctx, e, c, r.Lo, r.Hi)
	if err != nil {
		return err
	}
	r.release = net.Close
	m, err := deepframe.Open(*c, net, layers, r.State, graphs.Size(r.Dims))
	if err != nil {
		return err
	}
	r.Learned, r.Bank, r.Langevin = m, m.Chains(), m.Langevin()
	r.Sigma, r.Gaussian = c.Reference.Sigma, true
	r.Model, err = net.Model(nil)
	return err
}
