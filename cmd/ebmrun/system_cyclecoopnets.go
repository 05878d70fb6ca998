package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/training/bind"
	"ebmrun/training/cyclecoopnets"
	"ebmrun/training/judge"
)

// domains are the energies of two domains and the mappings between them.
type domains struct {
	a, b *bind.Energy
	maps *bind.Mappings
}

func (d domains) Close() error {
	var errs []error
	for _, e := range []*bind.Energy{d.a, d.b} {
		if e != nil {
			errs = append(errs, e.Close())
		}
	}
	if d.maps != nil {
		errs = append(errs, d.maps.Close())
	}
	return errors.Join(errs...)
}

func (d domains) Reports() map[string]runtime.Report {
	return networks{d.maps, titled{d.a, "a: "}, titled{d.b, "b: "}}.Reports()
}

// networks are the models to export beside the energy of domain b.
func (d domains) networks() (map[string]*graphs.Model, error) {
	a, err := d.a.Model(nil)
	if err != nil {
		return nil, err
	}
	all := map[string]*graphs.Model{"energy-a": a.Model}
	for name, m := range d.maps.Models() {
		all["translator-"+name] = m
	}
	return all, nil
}

// energiesOf builds and binds one energy for each domain.
func energiesOf(ctx context.Context, e environment, s energy.Spec, a, b []int, sigma float64) (d domains, err error) {
	for k, dims := range [][]int{a, b} {
		m, err := energy.Build(s, dims, sigma, e.seed+uint64(k))
		if err != nil {
			return d, errors.Join(err, d.Close())
		}
		net, err := bind.New(ctx, m, e.engine, e.bind)
		if err != nil {
			return d, errors.Join(err, d.Close())
		}
		if k == 0 {
			d.a = net
		} else {
			d.b = net
		}
	}
	return d, nil
}

func domainsOf(ctx context.Context, e environment, c *cyclecoopnets.Config) (d domains, err error) {
	if err := c.Check(); err != nil {
		return d, err
	}
	s, err := c.EnergyNet()
	if err != nil {
		return d, err
	}
	m, err := c.Maps(e.dims, e.dimsB, e.seed)
	if err != nil {
		return d, err
	}
	if d, err = energiesOf(ctx, e, s, e.dims, e.dimsB, c.Reference.Sigma); err != nil {
		return d, err
	}
	if d.maps, err = bind.NewMappings(ctx, m, e.engine, e.bind.Runtime); err != nil {
		return d, errors.Join(err, d.Close())
	}
	return d, nil
}

func startCycle(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*cyclecoopnets.Config)
	if spec, err := c.TranslatorNet(); err == nil {
		if err := cmp.Or(reachable(spec.Tanh, e.set), reachable(spec.Tanh, e.b)); err != nil {
			return nil, badInput(err)
		}
	}
	d, err := domainsOf(ctx, e, c)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := cyclecoopnets.New(*c, d.a, d.b, d.maps, e.set, e.b, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), d.Close())
	}
	j, err := judge.New(e.b, e.heldB)
	if err != nil {
		return nil, errors.Join(badInput(err), d.Close())
	}
	s.Judge = j.Measure
	if e.held != nil {
		s.Held = e.held
	}
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("energies %s: %d parameters each; translators %s: %d parameters together; examples of %v and %v",
				c.Net, countParams(d.a.Params()), c.Translator, countParams(d.maps.Params()), e.dims, e.dimsB),
			"revision: " + c.Langevin.String(),
			fmt.Sprintf("%s between real examples of domain b (its floor): %.4g", j.Name, j.Floor),
		},
		reports: d.Reports, close: d.Close,
	}, nil
}

func openCycle(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*cyclecoopnets.Config)
	d, err := domainsOf(ctx, e, c)
	if err != nil {
		return err
	}
	r.release = d.Close
	m, err := cyclecoopnets.NewModel(*c, d.a, d.b, d.maps, graphs.Size(e.dims))
	if err != nil {
		return err
	}
	if err := m.Restore(r.State); err != nil {
		return err
	}
	if r.Model, err = d.b.Model(nil); err != nil {
		return err
	}
	r.Learned, r.From, r.Dims, r.Langevin, r.Sigma = m, e.dims, e.dimsB, c.Langevin, c.Reference.Sigma
	nets, err := d.networks()
	if r.Networks = map[string]*graphs.Model{}; err == nil {
		maps.Copy(r.Networks, nets)
	}
	return err
}
