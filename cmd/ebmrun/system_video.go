package main

import (
	"context"

	"ebmrun/training/bind"
	"ebmrun/training/sampler"
	"ebmrun/training/video"
)

func startVideo(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*video.Config)
	return likelihood(ctx, e, &c.Config, c.Check, func(net *bind.Energy) (*video.System, error) { return video.New(*c, net, e.set, e.seed) })
}

func openVideo(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*video.Config)
	return openLikelihood(ctx, e, &c.Config, r, func(f sampler.Field) any { return &video.Model{Config: *c, Field: f, Dims: e.dims} })
}
