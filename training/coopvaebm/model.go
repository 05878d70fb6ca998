package coopvaebm

import (
	"context"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/sampler"
	"ebmrun/training/vae"
)

// A Model is what is learned: an energy, and an encoder and a generator that draft
// what it revises. It can do everything but learn.
type Model struct {
	Config Config
	Energy training.Energy
	Drafts vae.Model

	fused *sampler.Fused
}

var (
	_ training.Drawer        = (*Model)(nil)
	_ training.Reconstructor = (*Model)(nil)
	_ training.Interpolator  = (*Model)(nil)
	_ training.Scorer        = (*Model)(nil)
	_ training.Encoder       = (*Model)(nil)
	_ training.Decoder       = (*Model)(nil)
)

// Of is the model of the settings over its networks.
func Of(c Config, e training.Energy, net training.Autoencoder, dim int) Model {
	return Model{Config: c, Energy: e, Drafts: vae.Of(net, dim, c.Sigma, 1, c.Rounds)}
}

// revise takes the teacher's Langevin steps.
func (m *Model) revise(ctx context.Context, noise sampler.Noise, st *sampler.State) (sampler.Info, error) {
	l := m.Config.Langevin
	if f, ok := m.Energy.(training.Fuser); ok && l.Fused && st.Len() == m.Config.Drafts {
		if m.fused == nil {
			m.fused = &sampler.Fused{Chain: f.Chain(l.Kernel()), K: l.Steps}
		}
		st.Invalidate()
		return m.fused.Run(ctx, noise, st, l.Steps, nil)
	}
	return sampler.Run(ctx, noise, l.Kernel(), m.Energy, st, l.Steps, nil)
}

// Revise moves examples in place by the steps that revise drafts.
func (m *Model) Revise(ctx context.Context, x []float32, seed uint64) error {
	dim, noise := m.Drafts.Dim, sampler.Noise{Seed: seed}.Fork(drawn)
	return training.Blocks(len(x)/dim, m.Config.Drafts, func(from, to int) error {
		st, err := sampler.NewState(x[from*dim:to*dim], dim, sampler.Chains(uint64(from), to-from))
		if err != nil {
			return err
		}
		_, err = m.revise(ctx, noise, st)
		return err
	})
}

// Codes implements [training.Decoder].
func (m *Model) Codes() int { return m.Drafts.Codes() }

// Decode implements [training.Decoder]: without revision.
func (m *Model) Decode(ctx context.Context, z []float32) ([]float32, error) {
	return m.Drafts.Decode(ctx, z)
}

// Encode implements [training.Encoder].
func (m *Model) Encode(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	return m.Drafts.Encode(ctx, x, mask, seed)
}

// Draw implements [training.Drawer]: revised drafts.
func (m *Model) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	x, err := m.Drafts.Draw(ctx, n, seed)
	if err != nil {
		return nil, err
	}
	return x, m.Revise(ctx, x, seed)
}

// Interpolate implements [training.Interpolator]: drafts of codes between two, revised.
func (m *Model) Interpolate(ctx context.Context, from, to uint64, frames int) ([]float32, error) {
	x, err := m.Drafts.Interpolate(ctx, from, to, frames)
	if err != nil {
		return nil, err
	}
	return x, m.Revise(ctx, x, from)
}

// Reconstruct implements [training.Reconstructor]: what the generator makes of the
// encoder's code. Hidden entries are filled in by it first and then, in rounds, by
// the teacher, which revises the whole example while what is visible stays.
func (m *Model) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	y, err := m.Drafts.Reconstruct(ctx, x, mask, seed)
	if err != nil || mask == nil {
		return y, err
	}
	k, dim := m.Config.Langevin.Kernel(), m.Drafts.Dim
	noise := sampler.Noise{Seed: seed}.Fork(drawn)
	return y, training.Blocks(len(y)/dim, m.Config.Drafts, func(from, to int) error {
		k.Project = sampler.Hold(x[from*dim:to*dim], mask[from*dim:to*dim])
		st, err := sampler.NewState(y[from*dim:to*dim], dim, sampler.Chains(uint64(from), to-from))
		if err != nil {
			return err
		}
		k.Project(st.X)
		_, err = sampler.Run(ctx, noise, k, m.Energy, st, m.Config.Langevin.Steps, nil)
		return err
	})
}

// Score implements [training.Scorer]: −U(x). Revised drafts that are regressed on
// their codes lose what noise the revision had, so this is no log density.
func (m *Model) Score(_ context.Context, x []float32, _ uint64) (string, []float64, error) {
	dim := m.Drafts.Dim
	if len(x)%dim != 0 {
		return "", nil, fmt.Errorf("coopvaebm: wanted examples of %d values, got %d", dim, len(x))
	}
	out := make([]float64, len(x)/dim)
	return "−U(x), no density", out, training.Blocks(len(out), m.Config.Drafts, func(from, to int) error {
		u, g := make([]float32, to-from), make([]float32, (to-from)*dim)
		if err := m.Energy.EnergyGrad(x[from*dim:to*dim], u, g); err != nil {
			return err
		}
		for i, v := range u {
			out[from+i] = -float64(v)
		}
		return nil
	})
}
