package cyclecoopnets

import (
	"context"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/sampler"
)

// The directions: of the mappings, and of domains by where they begin.
const (
	AB = iota // from a to b
	BA
)

// A Model is what is learned: a translator for each direction, and an energy of each
// domain, by which what arrives there is revised.
type Model struct {
	Energies [2]training.Energy // of a, of b
	Maps     training.Mappings  // AB, BA
	Dim      int                // values of an example of either domain

	config Config
	fused  [2]*sampler.Fused
}

var _ training.Returner = (*Model)(nil)

// NewModel joins the networks with their settings.
func NewModel(c Config, a, b training.Energy, maps training.Mappings, dim int) (*Model, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("cycle-coopnets: %w", err)
	}
	m := &Model{Energies: [2]training.Energy{a, b}, Maps: maps, Dim: dim, config: c}
	for k, e := range m.Energies {
		if f, ok := e.(training.Fuser); ok && c.Langevin.Fused {
			m.fused[k] = &sampler.Fused{Chain: f.Chain(c.Langevin.Kernel()), K: c.Langevin.Steps}
		}
	}
	return m, nil
}

// Translate implements [training.Translator]: revised translations from a to b.
func (m *Model) Translate(ctx context.Context, source []float32, seed uint64) ([]float32, error) {
	_, revised, err := m.Through(ctx, AB, source, seed)
	return revised, err
}

// Return implements [training.Returner]: revised translations from b to a.
func (m *Model) Return(ctx context.Context, source []float32, seed uint64) ([]float32, error) {
	_, revised, err := m.Through(ctx, BA, source, seed)
	return revised, err
}

// Through translates examples in a direction, AB or BA, and revises what comes out.
func (m *Model) Through(ctx context.Context, direction int, source []float32, seed uint64) (drafts, revised []float32, err error) {
	n := len(source) / m.Dim
	if n < 1 || len(source) != n*m.Dim {
		return nil, nil, fmt.Errorf("cycle-coopnets: wanted examples of %d values each, got %d values", m.Dim, len(source))
	}
	drafts = make([]float32, len(source))
	err = training.Blocks(n, m.config.Batch, func(first, end int) error {
		x := drafts[first*m.Dim : end*m.Dim]
		if err := m.Maps.Apply(ctx, direction, source[first*m.Dim:end*m.Dim], x); err != nil {
			return err
		}
		st, err := sampler.NewState(append([]float32(nil), x...), m.Dim, sampler.Chains(uint64(first), end-first))
		if err != nil {
			return err
		}
		_, err = m.revise(ctx, 1-direction, st, sampler.Noise{Seed: seed}.Fork(drawn), 0)
		revised = append(revised, st.X...)
		return err
	})
	return drafts, revised, err
}

// revise takes the Langevin steps of a domain's energy.
func (m *Model) revise(ctx context.Context, domain int, st *sampler.State, noise sampler.Noise, t uint64) (sampler.Info, error) {
	if m.config.Sabotage == Still {
		return sampler.Info{}, nil
	}
	st.T = t
	st.Invalidate()
	l := m.config.Langevin
	if f := m.fused[domain]; f != nil && st.Len() == m.config.Batch {
		return f.Run(ctx, noise, st, l.Steps, nil)
	}
	return sampler.Run(ctx, noise, l.Kernel(), m.Energies[domain], st, l.Steps, nil)
}

// names of the energies in a checkpoint.
var names = [2]string{"energy-a", "energy-b"}

// Restore takes back what Save of a system has put into a checkpoint, without what
// only learning needs.
func (m *Model) Restore(st *checkpoint.State) error {
	return m.weights().Restore(st)
}

// weights are all networks, by what a checkpoint calls their weights.
func (m *Model) weights() training.Weights {
	return training.Weights{names[0]: m.Energies[0], names[1]: m.Energies[1], "translators": m.Maps}
}
