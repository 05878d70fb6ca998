package main

import (
	"context"

	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/sampler"
	"ebmrun/training/video"
)

func startVideo(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*video.Config)
	return likelihood(ctx, e, &c.Config, c.Check, func(net *bind.Energy) (training.System, *generativeconvnet.System, error) {
		s, err := video.New(*c, net, e.set, e.seed)
		if err != nil {
			return nil, nil, err
		}
		return s, s.System, nil
	})
}

func openVideo(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*video.Config)
	return openLikelihood(ctx, e, &c.Config, r, func(f sampler.Field) any { return &video.Model{Config: *c, Field: f, Dims: e.dims} })
}
