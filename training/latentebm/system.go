// Package latentebm learns an energy-based prior in the latent space of a
// generator (Pang, Han, Nijkamp, Zhu, Wu, "Learning Latent Space Energy-Based Prior
// Model", NeurIPS 2020).
//
//	p(z) ∝ exp(f(z))·N(z; 0, σ0²I),  x = g(z) + N(0, σ²I)
//
// The prior's energy is U(z) = ‖z‖²/(2σ0²) − f(z). Both networks are learned by
// maximum likelihood: short chains that begin at N(0, σ0²I) give codes z⁻ of the
// prior and, with ‖x − g(z)‖²/(2σ²) added to the energy, codes z⁺ of each example.
// The prior learns from how f differs between them, the generator from the
// reconstruction error at z⁺.
package latentebm

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/exam"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// Labels of the random streams.
const (
	prior     = 1 // chains of the prior
	posterior = 2 // chains of the posterior
	drawn     = 3 // samples that are only looked at
	explained = 4 // codes of new examples
	annealed  = 5 // normalising constants
)

// System is the learning system. Its parts are set by [New].
type System struct {
	Model
	Data *data.Loader
	Exam exam.Exam
	// Observe, if not nil, sees the batch that an iteration learns from before it begins.
	Observe func(b data.Batch)

	set    *data.Set
	origin training.Origin
	noise  sampler.Noise
	learn  *training.Optimizer // of the prior
	teach  *training.Optimizer // of the generator
	iter   int

	ids   []uint64
	z     []float32 // z⁺, then z⁻ [2n, d]
	known []float32 // mask of ones

	negative, positive *sampler.State // views of z

	contrast, fit []float32 // weights of scores and of errors
	score, errs   []float32
}

// New assembles the system. The generator's Posterior must be under the prior.
func New(c Config, p training.Energy, g training.Generator, set *data.Set, seed uint64) (*System, error) {
	return NewAs("latent-ebm", c, p, g, set, seed)
}

// NewAs is New for a system of another name.
func NewAs(name string, c Config, p training.Energy, g training.Generator, set *data.Set, seed uint64) (*System, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	learn, err := c.Optim.For(c.Steps).New()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	teach, err := c.Teach.For(c.Steps).New()
	if err != nil {
		return nil, fmt.Errorf("%s: teach: %w", name, err)
	}
	loader, err := data.NewLoader(set, c.Batch, seed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	n, d := c.Batch, g.Codes()
	s := &System{Model: Model{Config: c, Prior: p, Generator: g, Dim: set.Dim()}, Data: loader, Exam: exam.Exam{Seed: seed, Learned: set, Codes: d},
		set: set, origin: training.OriginOf(name, seed, set), noise: sampler.Noise{Seed: seed}, learn: learn, teach: teach,
		ids: sampler.Chains(0, n), z: make([]float32, 2*n*d), known: training.Ones(n * set.Dim()),
		contrast: make([]float32, 2*n), fit: make([]float32, n), score: make([]float32, 2*n), errs: make([]float32, n)}
	for i := range n {
		s.contrast[i], s.contrast[n+i] = -1/float32(n), 1/float32(n)
		if c.Sabotage == Flip {
			s.contrast[i], s.contrast[n+i] = s.contrast[n+i], s.contrast[i]
		}
		s.fit[i] = float32(1 / (2 * c.Sigma * c.Sigma * float64(n)))
	}
	if s.positive, err = sampler.NewState(s.z[:n*d], d, s.ids); err != nil {
		return nil, err
	}
	s.negative, err = sampler.NewState(s.z[n*d:], d, s.ids)
	return s, err
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) { s.learn.Slow(factor); s.teach.Slow(factor) }

// Step implements [training.System].
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	batch := s.Data.Next()
	if s.Observe != nil {
		s.Observe(batch)
	}
	x := batch.X

	// z⁻ ~ p(z): short run on U from p0.
	s.begin(s.noise.Fork(prior), s.negative.X, s.ids, math.MaxUint64-uint64(s.iter))
	s.negative.T = uint64(s.iter * s.Config.Prior.Steps)
	low, err := s.fromPrior(ctx, s.noise.Fork(prior), s.negative)
	if err != nil {
		return nil, training.Blame("chains of the prior", "a smaller prior.step or optim.lr, or prior.clamp", err)
	}
	// z⁺ ~ p(z | x): the same on U + ‖x − g‖²/(2σ²).
	s.begin(s.noise.Fork(posterior), s.positive.X, s.ids, math.MaxUint64-uint64(s.iter))
	s.positive.T = uint64(s.iter * s.Config.Posterior.Steps)
	high, err := s.fromPosterior(ctx, s.noise.Fork(posterior), s.positive, x, s.known, s.Config.Posterior.Steps)
	if err != nil {
		return nil, training.Blame("chains of codes", "a smaller posterior.step or teach.lr, or a larger sigma", err)
	}
	// ∇α of mean f(z⁻) − mean f(z⁺): the prior learns.
	if err := s.Prior.Learn(ctx, s.z, s.contrast, 0, s.score); err != nil {
		return nil, err
	}
	// ∇β of mean ‖x − g(z⁺)‖²/(2σ²): the generator learns.
	if err := s.Generator.Learn(ctx, s.positive.X, x, s.known, s.fit, s.errs); err != nil {
		return nil, err
	}
	norm, fitNorm := optim.Norm(s.Prior.Params()), optim.Norm(s.Generator.Params())
	if s.Config.Sabotage != Freeze {
		if _, err := s.learn.Update(s.Prior.Params()); err != nil {
			return nil, training.Blame("prior", "a smaller optim.lr, or optim.clip", err)
		}
		if _, err := s.teach.Update(s.Generator.Params()); err != nil {
			return nil, training.Blame("generator", "a smaller teach.lr, or teach.clip", err)
		}
		s.Prior.Refresh()
	}
	s.iter++
	m := s.measure()
	m["prior/r"], m["r"], m["clipped"] = low.Drift, high.Drift, low.Clamped
	m["grad_norm"], m["generator/grad_norm"] = norm, fitNorm
	return m, nil
}

func (s *System) measure() training.Metrics {
	n, d := s.Config.Batch, s.Generator.Codes()
	up, down := training.Mean(s.score[:n]), training.Mean(s.score[n:])
	m := training.Metrics{training.Value: up - down, "score_data": up, "score_samples": down}
	// U of the posterior's codes less U of the prior's
	m["u_gap"] = -m[training.Value]
	precision := 1 / (s.Config.Reference.Sigma * s.Config.Reference.Sigma)
	for i, v := range s.z {
		square := float64(v) * float64(v)
		if i < n*d {
			m["u_gap"] += precision / 2 * square / float64(n)
			m["code_square"] += square / float64(n*d)
			continue
		}
		m["u_gap"] -= precision / 2 * square / float64(n)
		m["prior/code_square"] += square / float64(n*d)
		m["prior/code_most"] = max(m["prior/code_most"], math.Abs(float64(v)))
	}
	for _, e := range s.errs {
		m["mse"] += float64(e) / float64(n*s.Dim)
	}
	return m
}

// Evaluate implements [training.Evaluator]: beside samples of the learned prior,
// those of N(0, σ0²I) through the same generator.
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	m, err := s.Exam.Evaluate(ctx, s)
	if err != nil || s.Exam.Judge == nil {
		return m, err
	}
	z, err := s.PriorCodes(ctx, s.Exam.JudgeN, s.Exam.Seed, false)
	if err != nil {
		return nil, err
	}
	x, err := s.Decode(ctx, z)
	if err != nil {
		return nil, err
	}
	return m, s.Exam.Beside(m, "gaussian/", x)
}

// Pictures implements [training.Painter].
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	return s.Exam.Pictures(ctx, s, s.set)
}

func (s *System) keep() training.Keep {
	return training.Keep{Origin: s.origin, Data: s.Data, Weights: Weights(s.Prior, s.Generator), Optimizers: map[string]*training.Optimizer{"optim": s.learn, "teach": s.teach}}
}

// Save implements [training.System]. Chains begin anew in every iteration, so
// networks, optimizers and the place in the data are all there is.
func (s *System) Save() (*checkpoint.State, error) { return s.keep().Save(s.iter, s.Config) }

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error { return s.keep().Restore(st, &s.iter) }

// Weights are both networks, by what a checkpoint calls their weights.
func Weights(p training.Energy, g training.Generator) training.Weights {
	return training.Weights{"prior": p, "generator": g}
}
