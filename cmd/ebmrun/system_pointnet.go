package main

import (
	"context"

	"ebmrun/training/bind"
	"ebmrun/training/pointnet"
	"ebmrun/training/sampler"
)

func startPointnet(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*pointnet.Config)
	return likelihood(ctx, e, &c.Config, c.Check, func(net *bind.Energy) (*pointnet.System, error) { return pointnet.New(*c, net, e.set, e.seed) })
}

func openPointnet(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*pointnet.Config)
	return openLikelihood(ctx, e, &c.Config, r, func(f sampler.Field) any { return &pointnet.Model{Config: *c, Field: f, Dims: e.dims} })
}
