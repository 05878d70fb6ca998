package main

import (
	"context"

	"ebmrun/training/bind"
	"ebmrun/training/sampler"
	"ebmrun/training/voxelnet"
)

func startVoxelnet(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*voxelnet.Config)
	return likelihood(ctx, e, &c.Config, c.Check, func(net *bind.Energy) (*voxelnet.System, error) { return voxelnet.New(*c, net, e.set, e.seed) })
}

func openVoxelnet(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*voxelnet.Config)
	return openLikelihood(ctx, e, &c.Config, r, func(f sampler.Field) any { return &voxelnet.Model{Config: *c, Field: f, Dims: e.dims} })
}
