// Package conditionalcoopnets learns from pairs of a condition and an example: an
// initialiser that answers fast and an energy that solves slowly teach each other
// (Xie, Zheng, Fang, Zhu, Wu, "Cooperative Training of Fast Thinking Initializer and
// Slow Thinking Solver for Conditional Learning", TPAMI 2021).
//
// The initialiser drafts x = g(c, z), Langevin dynamics on U(x | c) revises the draft
// under the same condition, the energy learns from how revised drafts differ from the
// true examples, and the initialiser learns from how the revision changed its drafts.
// Conditions are pictures, incomplete pictures, or classes.
package conditionalcoopnets

import (
	"context"
	"fmt"
	"slices"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/optim"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// Labels of the random streams.
const (
	prior     = 1 // codes of the drafts
	revision  = 2 // the solver's Langevin noise
	inference = 3 // the initialiser's
	drawn     = 4 // solutions that are only looked at
)

// System is the learning system. Its parts are set by [New].
type System struct {
	*Model
	Config Config
	Data   *data.Loader

	// Held are pairs that are not learned from; Evaluate measures solutions of theirs.
	Held *data.Set

	// Observe, if not nil, is told of the next pairs and may replace the examples of the
	// batch [n, Dim] before they are learned from. In the first Warm iterations the
	// initialiser learns alone, from what is left 1 in mask [n, Dim].
	Observe func(ctx context.Context, b data.Batch, iteration int, observed, mask []float32) error
	Warm    int

	set    *data.Set
	origin training.Origin
	noise  sampler.Noise
	learn  *training.Optimizer // of the energy
	teach  *training.Optimizer // of the initialiser
	iter   int
	ids    []uint64

	x     []float32 // true examples, then revised drafts [2n, Dim]
	given []float32 // their conditions, the same twice [2n, Given]
	draft []float32 // [n, Dim]
	goal  []float32 // what the initialiser is taught [n, Dim]
	known []float32 // mask of ones
	codes *sampler.State
	begin *sampler.State

	contrast, fit []float32 // weights of scores and of errors
	score, errs   []float32
}

// New assembles the system. The set's examples are pairs.
func New(c Config, e training.ConditionalEnergy, g training.ConditionalGenerator, set *data.Set, seed uint64) (*System, error) {
	return NewAs("conditional-coopnets", c, e, g, set, seed)
}

// NewAs is [New] for a system that adds to this one: its checkpoints bear its name.
func NewAs(name string, c Config, e training.ConditionalEnergy, g training.ConditionalGenerator, set *data.Set, seed uint64) (*System, error) {
	if set.Given == nil {
		return nil, fmt.Errorf("conditional-coopnets: %s does not hold pairs", set.Name)
	}
	n, dim, given := c.Batch, set.Dim(), set.Given.Dim()
	m, err := NewModel(c, e, g, dim, given)
	if err != nil {
		return nil, err
	}
	s := &System{Model: m, Config: c, set: set, origin: training.OriginOf(name, seed, set), noise: sampler.Noise{Seed: seed},
		ids: sampler.Chains(0, n), x: make([]float32, 2*n*dim), given: make([]float32, 2*n*given), draft: make([]float32, n*dim),
		goal: make([]float32, n*dim), known: training.Ones(n * dim),
		contrast: make([]float32, 2*n), fit: make([]float32, n), score: make([]float32, 2*n), errs: make([]float32, n)}
	s.origin.Data += set.Given.Hash()
	if s.learn, err = c.Optim.For(c.Steps).New(); err != nil {
		return nil, fmt.Errorf("conditional-coopnets: %w", err)
	}
	if s.teach, err = c.Teach.For(c.Steps).New(); err != nil {
		return nil, fmt.Errorf("conditional-coopnets: teach: %w", err)
	}
	if s.Data, err = data.NewLoader(set, n, seed); err != nil {
		return nil, fmt.Errorf("conditional-coopnets: %w", err)
	}
	for i := range n {
		s.contrast[i], s.contrast[n+i] = -1/float32(n), 1/float32(n)
		if c.Sabotage == Flip {
			s.contrast[i], s.contrast[n+i] = s.contrast[n+i], s.contrast[i]
		}
		s.fit[i] = float32(1 / (2 * c.Sigma * c.Sigma * float64(n)))
	}
	if s.begin, err = sampler.NewState(s.x[n*dim:], dim, s.ids); err != nil {
		return nil, err
	}
	d := g.Given(nil).Codes()
	s.codes, err = sampler.NewState(make([]float32, n*d), d, s.ids)
	return s, err
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) { s.learn.Slow(factor); s.teach.Slow(factor) }

// Step implements [training.System].
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	n := s.Config.Batch
	observed, revised := s.x[:n*s.Dim], s.x[n*s.Dim:]
	given := s.given[:n*s.Given]
	b := s.Data.Next()
	copy(observed, b.X)
	copy(given, b.Given)
	copy(s.given[n*s.Given:], given)
	if s.Observe != nil {
		if err := s.Observe(ctx, b, s.iter, observed, s.known); err != nil {
			return nil, err
		}
	}
	solver, initialiser := s.Energy.Given(s.energyGiven()), s.Generator.Given(given)
	if s.iter < s.Warm {
		return s.warm(ctx, initialiser, observed)
	}

	// The initialiser drafts.
	z := s.codes.X
	s.noise.Fork(prior).Normals(z, s.ids, uint64(s.iter))
	err := initialiser.Forward(ctx, z, s.draft)
	if err == nil {
		err = training.Finite(s.draft)
	}
	if err != nil {
		return nil, training.Blame("initialiser", "a smaller teach.lr, or teach.clip", err)
	}
	copy(revised, s.draft)

	// The solver revises under the same conditions.
	s.begin.T = uint64(s.iter * s.Config.Langevin.Steps)
	s.begin.Invalidate()
	info, err := s.Revise(ctx, given, s.begin, s.noise.Fork(revision), nil)
	if err != nil {
		return nil, training.Blame("chains of the revision", "a smaller langevin.step or optim.lr, or langevin.grad_clip", err)
	}
	// What is taught, and the codes behind it.
	share := s.share()
	for i := range s.goal {
		s.goal[i] = (1-share)*revised[i] + share*observed[i]
	}
	if k := s.Config.Inference; k.Steps > 0 {
		s.codes.T = uint64(s.iter * k.Steps)
		s.codes.Invalidate()
		if _, err := sampler.Run(ctx, s.noise.Fork(inference), k.Kernel(), initialiser.Posterior(s.goal, s.known), s.codes, k.Steps, nil); err != nil {
			return nil, training.Blame("chains of codes", "a smaller inference.step, or a larger sigma", err)
		}
	}
	// ∇θ of mean f(revised | c) − mean f(true | c).
	if err := solver.Learn(ctx, s.x, s.contrast, float32(2*s.Config.ScoreL2/float64(n)), s.score); err != nil {
		return nil, err
	}
	norm, err := s.learn.Update(solver.Params())
	if err != nil {
		return nil, training.Blame("energy", "a smaller optim.lr, or optim.clip", err)
	}
	solver.Refresh()
	// ∇α of mean ‖goal − g(c, z)‖²/(2σ²).
	if err := initialiser.Learn(ctx, z, s.goal, s.known, s.fit, s.errs); err != nil {
		return nil, err
	}
	fitNorm := optim.Norm(initialiser.Params())
	if s.Config.Sabotage != Freeze {
		if fitNorm, err = s.teach.Update(initialiser.Params()); err == nil {
			err = training.Finite(s.errs)
		}
		if err != nil {
			return nil, training.Blame("initialiser", "a smaller teach.lr, or teach.clip", err)
		}
	}
	s.iter++
	m := training.Metrics{"r": info.Drift, "clipped": info.Clamped,
		"grad_norm": norm, "generator/grad_norm": fitNorm, "truth": float64(share),
		"revision": training.MSE(revised, s.draft) * float64(s.Dim), "fit": training.Mean(s.errs) / float64(s.Dim),
		"mse_drafts": training.MSE(s.draft, observed), "mse": training.MSE(revised, observed)}
	m.Compare(observed, revised, s.score)
	return m, nil
}

// warm teaches the initialiser what is known of the examples, each by the mean over its
// own known entries, from fresh codes.
func (s *System) warm(ctx context.Context, initialiser training.Generator, observed []float32) (training.Metrics, error) {
	n := s.Config.Batch
	s.noise.Fork(prior).Normals(s.codes.X, s.ids, uint64(s.iter))
	w := make([]float32, n)
	for i := range w {
		w[i] = s.fit[i] / float32(max(training.Mean(s.known[i*s.Dim:(i+1)*s.Dim]), 1/float64(s.Dim)))
	}
	err := initialiser.Learn(ctx, s.codes.X, observed, s.known, w, s.errs)
	if err != nil {
		return nil, err
	}
	norm, err := s.teach.Update(initialiser.Params())
	if err == nil {
		err = training.Finite(s.errs)
	}
	if err != nil {
		return nil, training.Blame("initialiser", "a smaller teach.lr, or teach.clip", err)
	}
	for i := range s.known {
		s.known[i] = 1
	}
	s.iter++
	return training.Metrics{training.Value: 0, "generator/grad_norm": norm, "fit": training.Mean(s.errs) / float64(s.Dim)}, nil
}

// share of the true examples in what is taught now; it falls after the warm-up.
func (s *System) share() float32 {
	done := min(1, float64(s.iter-s.Warm)/float64(max(1, s.Config.Steps-s.Warm)))
	return float32(s.Config.Truth + (s.Config.TruthEnd-s.Config.Truth)*done)
}

// energyGiven are the conditions that the energy learns under.
func (s *System) energyGiven() []float32 {
	if s.Config.Sabotage == Blind {
		return make([]float32, len(s.given))
	}
	return s.given
}

// most pairs are looked at in an evaluation.
const most = 200

// Evaluate implements [training.Evaluator]: the mean squared error of solutions of held
// pairs, where there are any, and of their drafts.
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	if s.Held == nil || s.Held.Given == nil {
		return nil, nil
	}
	h := s.Held.Head(most)
	drafts, revised, err := s.Solve(ctx, h.Given.X(), s.noise.Seed)
	if err != nil {
		return nil, err
	}
	return training.Metrics{training.Objective: training.MSE(revised, h.X()), "held/mse": training.MSE(revised, h.X()), "held/mse_drafts": training.MSE(drafts, h.X())}, nil
}

// Pictures implements [training.Painter]: conditions, drafts, revised drafts, the truth.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	h := s.set
	if s.Held != nil && s.Held.Given != nil {
		h = s.Held
	}
	h = h.Head(16)
	drafts, revised, err := s.Solve(ctx, h.Given.X(), s.noise.Seed)
	if err != nil {
		return nil, err
	}
	rows := []record.Images{training.Images(h, drafts), training.Images(h, revised), training.Images(h, h.X())}
	if !h.Given.IsVectors() && (h.Given.C == h.C || h.Given.C == 1 || h.Given.C == 3) {
		rows = slices.Insert(rows, 0, training.Images(h.Given, h.Given.X()))
		for i := range rows {
			rows[i] = widened(rows[i], max(h.C, h.Given.C))
		}
	}
	return []training.Picture{{Tag: record.SamplesTag, Images: training.Images(h, revised)}, {Tag: "solutions", Rows: rows}}, nil
}

// widened repeats the channel of grey pictures, to be shown beside coloured ones.
func widened(p record.Images, c int) record.Images {
	if p.C == c {
		return p
	}
	plane, out := p.H*p.W, make([]float32, 0, p.N*c*p.H*p.W)
	for i := range p.N {
		for range c {
			out = append(out, p.Data[i*plane:(i+1)*plane]...)
		}
	}
	p.Data, p.C = out, c
	return p
}

func (s *System) keep() training.Keep {
	return training.Keep{Origin: s.origin, Data: s.Data, Weights: s.weights(), Optimizers: map[string]*training.Optimizer{"optim": s.learn, "teach": s.teach}}
}

// Save implements [training.System]. Chains begin at fresh drafts, so networks,
// optimizers and the place in the data are all there is.
func (s *System) Save() (*checkpoint.State, error) { return s.keep().Save(s.iter, s.Config) }

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error { return s.keep().Restore(st, &s.iter) }
