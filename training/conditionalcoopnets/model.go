package conditionalcoopnets

import (
	"context"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/sampler"
)

// A Model is what is learned: an initialiser that drafts an example for a condition,
// and an energy by which the draft is revised.
type Model struct {
	Energy     training.ConditionalEnergy
	Generator  training.ConditionalGenerator
	Dim, Given int // values of an example, and of a condition

	config Config
}

var _ training.Translator = (*Model)(nil)

// NewModel joins the networks with their settings.
func NewModel(c Config, e training.ConditionalEnergy, g training.ConditionalGenerator, dim, given int) (*Model, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("conditional-coopnets: %w", err)
	}
	return &Model{e, g, dim, given, c}, nil
}

// Translate implements [training.Translator]: revised drafts for conditions.
func (m *Model) Translate(ctx context.Context, source []float32, seed uint64) ([]float32, error) {
	_, revised, err := m.Solve(ctx, source, seed)
	return revised, err
}

// Solve drafts an example for each condition [n, Given] and revises it. Other seeds
// give other solutions.
func (m *Model) Solve(ctx context.Context, given []float32, seed uint64) (drafts, revised []float32, err error) {
	n := len(given) / m.Given
	if n < 1 || len(given) != n*m.Given {
		return nil, nil, fmt.Errorf("conditional-coopnets: wanted conditions of %d values each, got %d values", m.Given, len(given))
	}
	noise := sampler.Noise{Seed: seed}.Fork(drawn)
	drafts = make([]float32, n*m.Dim)
	err = training.Blocks(n, training.Block, func(first, end int) error {
		c, ids := given[first*m.Given:end*m.Given], sampler.Chains(uint64(first), end-first)
		g := m.Generator.Given(c)
		z := make([]float32, len(ids)*g.Codes())
		noise.Normals(z, ids, ^uint64(0))
		x := drafts[first*m.Dim : end*m.Dim]
		if err := g.Forward(ctx, z, x); err != nil {
			return err
		}
		st, err := sampler.NewState(append([]float32(nil), x...), m.Dim, ids)
		if err != nil {
			return err
		}
		_, err = m.Revise(ctx, c, st, noise, nil)
		revised = append(revised, st.X...)
		return err
	})
	return drafts, revised, err
}

// Refine revises given examples, which another model may have made.
func (m *Model) Refine(ctx context.Context, given, x []float32, seed uint64) ([]float32, error) {
	out := append([]float32(nil), x...)
	return out, training.Blocks(len(x)/m.Dim, training.Block, func(first, end int) error {
		st, err := sampler.NewState(out[first*m.Dim:end*m.Dim], m.Dim, sampler.Chains(uint64(first), end-first))
		if err != nil {
			return err
		}
		_, err = m.Revise(ctx, given[first*m.Given:end*m.Given], st, sampler.Noise{Seed: seed}.Fork(drawn), nil)
		return err
	})
}

// Revise takes the Langevin steps of learning under conditions. keep, if not nil, is
// called after every step.
func (m *Model) Revise(ctx context.Context, given []float32, st *sampler.State, noise sampler.Noise, keep func(x []float32)) (sampler.Info, error) {
	if m.config.Sabotage == Blind {
		given = make([]float32, len(given))
	}
	k := m.config.Langevin.Kernel()
	k.Project = keep
	return sampler.Run(ctx, noise, k, m.Energy.Given(given), st, m.config.Langevin.Steps, nil)
}

// Restore takes back what Save of a system has put into a checkpoint, without what
// only learning needs.
func (m *Model) Restore(st *checkpoint.State) error { return m.weights().Restore(st) }

// weights are both networks, by what a checkpoint calls their weights.
func (m *Model) weights() training.Weights {
	return training.Weights{"weights": m.Energy.Given(nil), "generator": m.Generator.Given(nil)}
}

// Labelled is a set whose conditions are its classes: 1 for the class of the example
// and 0 for the others.
func Labelled(set *data.Set, classes int) (*data.Set, error) {
	if set.Labels == nil {
		return nil, fmt.Errorf("conditional-coopnets: %s has no labels to be the conditions", set.Name)
	}
	for _, l := range set.Labels {
		if l < 0 || classes >= 0 && l >= classes {
			return nil, fmt.Errorf("conditional-coopnets: %s: wanted labels 0 … %d, got %d", set.Name, classes-1, l)
		}
	}
	out := *set
	out.Given = &data.Set{Name: set.Name + " classes", N: set.N, C: classes, H: 1, W: 1, Floats: OneHot(set.Labels, classes), Hi: 1, Gain: 1}
	return &out, nil
}

// OneHot are the conditions of labels [n, classes].
func OneHot(labels []int, classes int) []float32 {
	x := make([]float32, len(labels)*classes)
	for i, l := range labels {
		x[i*classes+l] = 1
	}
	return x
}

// ByClass draws examples of the classes, one after another.
type ByClass struct{ *Model }

var _ training.Drawer = ByClass{}

// Draw implements [training.Drawer].
func (m ByClass) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	labels := make([]int, n)
	for i := range labels {
		labels[i] = i % m.Given
	}
	return m.Translate(ctx, OneHot(labels, m.Given), seed)
}
