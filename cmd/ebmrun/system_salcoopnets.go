package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"ebmrun/graphs"
	"ebmrun/training/data"
	"ebmrun/training/salcoopnets"
)

// mapsGiven refuses pictures where maps are wanted, which happens when --data and --given
// are mistaken for one another, and maps of 0 and 1 of 255.
func mapsGiven(e environment) error {
	switch {
	case len(e.dims) != 3 || len(e.given) != 3:
		return nil
	case e.dims[0] == 1:
		return bright(e.set)
	case e.given[0] == 1:
		return fmt.Errorf("%s has %d channels and what it is given has 1: wanted the maps as --data and the pictures as --given", e.set.Name, e.dims[0])
	}
	return fmt.Errorf("%s: maps of %d channels: wanted grey files", e.set.Name, e.dims[0])
}

// bright refuses maps, from −1 to 1, of which none shows anything.
func bright(maps *data.Set) error {
	most := float32(-1)
	for i := range maps.N {
		if most = max(most, slices.Max(maps.At(i))); most > 0 {
			return nil
		}
	}
	if maps.N == 0 {
		return nil
	}
	return fmt.Errorf("%s: nothing is salient in any map: wanted 255 where something is, got %.0f at most", maps.Name, 255*(most+1)/2)
}

func startSaliency(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*salcoopnets.Config)
	err := errors.Join(c.Check(), mapsGiven(e))
	if err != nil {
		return nil, badInput(err)
	}
	if spec, err := c.GeneratorNet(); err == nil {
		if err := reachable(spec.Tanh, e.set); err != nil {
			return nil, badInput(err)
		}
	}
	part := c.Config
	part.Sabotage = ""
	net, err := solverOf(ctx, e, &part)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := salcoopnets.New(*c, net, net.initialiser, e.set, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), net.Close())
	}
	s.Held = e.held
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("energy %s: %d parameters; generator %s: %d parameters, %d codes; maps of %v given %v; supervision: %s",
				c.Net, countParams(net.Params()), c.Init, countParams(net.initialiser.Params()), net.initialiser.Codes(), e.dims, e.given, c.Supervision),
			"revision: " + c.Langevin.String(),
		},
		reports: net.Reports, close: net.Close,
	}, nil
}

func openSaliency(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*salcoopnets.Config)
	part := c.Config
	part.Sabotage = ""
	net, err := solverOf(ctx, e, &part)
	if err != nil {
		return err
	}
	r.release = net.Close
	m, err := salcoopnets.NewModel(*c, net, net.initialiser, graphs.Size(e.dims), graphs.Size(e.given))
	if err != nil {
		return err
	}
	if err := m.Restore(r.State); err != nil {
		return err
	}
	r.Learned, r.From, r.Langevin, r.Residual = m, e.given, c.Langevin, c.Sigma
	return net.export(r)
}
