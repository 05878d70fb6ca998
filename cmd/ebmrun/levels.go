package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/bind"
)

// levels are the bound energies of a system that has one for each resolution.
type levels []*bind.Energy

// bindLevels builds and binds an energy for each description and its dimensions,
// each from a seed of its own.
func bindLevels(ctx context.Context, e environment, o bind.Options, specs []energy.Spec, dims [][]int, sigma float64) (all levels, err error) {
	if len(specs) != len(dims) {
		return nil, fmt.Errorf("wanted a network for each of %d sizes, got %d", len(dims), len(specs))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, all.Close())
		}
	}()
	for k, s := range specs {
		m, err := energy.Build(s, dims[k], sigma, e.seed+uint64(k)<<32)
		if err != nil {
			return all, err
		}
		net, err := bind.New(ctx, m, e.engine, o)
		if err != nil {
			return all, err
		}
		all = append(all, net)
	}
	return all, nil
}

// energies are the levels as systems see them.
func (l levels) energies() []training.Energy {
	var all []training.Energy
	for _, e := range l {
		all = append(all, e)
	}
	return all
}

// describe is a line about the networks.
func (l levels) describe(names []string) string {
	var parts []string
	for k, e := range l {
		name := "written out"
		if len(names) > 0 { // the last name serves all others
			name = names[min(k, len(names)-1)]
		}
		parts = append(parts, fmt.Sprintf("%s on %v with %d parameters", name, e.Dims(), countParams(e.Params())))
	}
	return "energies: " + strings.Join(parts, "; ")
}

// bound are the levels as networks, each under its dimensions.
func (l levels) bound() (all networks) {
	for _, e := range l {
		all = append(all, titled{e, fmt.Sprint(e.Dims()) + ", "})
	}
	return all
}

// Reports tells what the programs of every level run on.
func (l levels) Reports() map[string]runtime.Report { return l.bound().Reports() }

// Close frees every level.
func (l levels) Close() error { return l.bound().Close() }

// export hands the energies to a run as networks, the finest as "energy" and the others
// named after their sides. None is the run's model: chains from noise on the finest
// energy alone are not what the system draws.
func (l levels) export(r *openedRun) error {
	r.Networks = map[string]*graphs.Model{}
	for k, e := range l {
		m, err := e.Model(nil)
		if err != nil {
			return err
		}
		name := "energy"
		if d := e.Dims(); k < len(l)-1 {
			name = fmt.Sprintf("energy-%dx%d", d[1], d[2])
		}
		r.Networks[name] = m.Model
	}
	return nil
}
