package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	weightfile "ebmrun/export/weights"
	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/onnxmodels/chain"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/swin"
	"ebmrun/onnxmodels/torchfile"
	"ebmrun/training/bind"
	"ebmrun/training/generativeswin"
	"ebmrun/training/latentebm"
)

// swinPairOf builds and binds the prior of codes and the generator of maps under it.
// Trained weights are read where learning begins.
func swinPairOf(ctx context.Context, e environment, c *generativeswin.Config, trained string) (*bind.Energy, *bind.EncodedGenerator, error) {
	if err := c.Check(); err != nil {
		return nil, nil, err
	}
	spec, err := c.Network()
	if err != nil {
		return nil, nil, err
	}
	gm, err := swin.Build(spec, e.dims, e.given, e.seed)
	if err != nil {
		return nil, nil, err
	}
	if trained != "" {
		if err := putSwin(gm.Model.Model, trained, spec); err != nil {
			return nil, nil, err
		}
	}
	pm, err := energy.Build(c.PriorNet(), []int{gm.Codes}, c.Reference.Sigma, e.seed)
	if err != nil {
		return nil, nil, err
	}
	p, err := bind.New(ctx, pm, e.engine, e.bind)
	if err != nil {
		return nil, nil, err
	}
	g, err := bind.NewEncoded(ctx, gm, e.engine, e.bind.Runtime, c.Residual(graphs.Size(e.dims)), p)
	if err != nil {
		return nil, nil, errors.Join(err, p.Close())
	}
	return p, g, nil
}

// putSwin sets a transformer's weights to those of a file: any exporter's .onnx file, what
// PyTorch saves, or a file that has them by name.
func putSwin(m *graphs.Model, path string, spec swin.Spec) error {
	var w map[string]*graphs.Tensor
	var err error
	switch filepath.Ext(path) {
	case ".onnx":
		var file *graphs.Model
		if file, err = onnxio.Read(path); err == nil {
			if w, err = swin.Official(file, spec); err != nil {
				err = fmt.Errorf("weights: %s: %w", printable(path), err)
			}
		}
	case ".pth", ".pt", ".bin":
		w, err = torchfile.Read(path)
	default:
		w, _, err = weightfile.Read(path)
	}
	if err != nil {
		return err
	}
	if err := swin.Put(m, swin.Named(w)); err != nil {
		return fmt.Errorf("weights: %s: %w", printable(path), err)
	}
	return nil
}

func startSwin(ctx context.Context, e environment, settings any) (*job, error) {
	c := settings.(*generativeswin.Config)
	spec, err := c.Network()
	if err == nil {
		err = errors.Join(mapsGiven(e), reachable(spec.Tanh, e.set))
	}
	if err != nil {
		return nil, badInput(err)
	}
	p, g, err := swinPairOf(ctx, e, c, c.Weights)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := generativeswin.New(*c, p, g, e.set, e.seed)
	if err != nil {
		return nil, errors.Join(badInput(err), p.Close(), g.Close())
	}
	s.Held = e.held
	return &job{
		System: s, steps: c.Steps, guard: c.Guard,
		remarks: []string{
			fmt.Sprintf("prior of %d codes: %d parameters; generator %s: %d parameters; maps of %v given %v",
				g.Codes(), countParams(p.Params()), c.Generator, countParams(g.Params()), e.dims, e.given),
			"prior: " + c.Prior.String(),
			"posterior: " + c.Posterior.String(),
		},
		reports: networks{titled{p, "prior: "}, g}.Reports,
		close:   networks{p, g}.Close,
	}, nil
}

func openSwin(ctx context.Context, e environment, settings any, r *openedRun) error {
	c := settings.(*generativeswin.Config)
	p, g, err := swinPairOf(ctx, e, c, "")
	if err != nil {
		return err
	}
	r.release = networks{p, g}.Close
	m, err := generativeswin.NewModel(*c, p, g, graphs.Size(e.dims), graphs.Size(e.given))
	if err != nil {
		return err
	}
	if err := latentebm.Weights(p, g.Given(nil)).Restore(r.State); err != nil {
		return err
	}
	prior, err := p.Model(nil)
	if err != nil {
		return err
	}
	r.Learned, r.From, r.Langevin, r.Residual = m, e.given, c.Posterior, c.Sigma
	whole := &conditional.Generator{Model: g.Model(), Given: e.given}
	encoder, decoder, err := whole.Ahead()
	if err != nil {
		return err
	}
	k := c.Prior
	codes, err := chain.Sampler(prior, chain.Step{Size: k.Step, Noise: k.Noise, GradClip: k.GradClip, ClampMin: k.Clamp[0], ClampMax: k.Clamp[1]})
	if err != nil {
		return err
	}
	// the generator, and the same in two parts: many codes of a picture need the first once;
	// the prior, and the chain that codes are drawn by
	r.Networks = map[string]*graphs.Model{"prior": prior.Model, "codes": codes, "generator-given": whole.Model.Model, "encoder": encoder, "decoder": decoder.Model}
	return nil
}
