// Package vae learns a variational auto-encoder (Kingma and Welling,
// "Auto-Encoding Variational Bayes", ICLR 2014): the baseline of generators that are
// learned without chains.
//
// An encoder gives a Gaussian q(z | x) for the posterior of the model z ~ N(0, I),
// x = g(z) + N(0, σ²I), and both networks descend on
//
//	mean of ‖x − g(z)‖²/(2σ²) + w·KL(q(z | x) ‖ N(0, I)),  z = mean + deviation·ε,
//
// which for w = 1 is minus the evidence lower bound, up to a constant. The
// divergence is exact, and the noise ε is drawn outside the graph.
package vae

import (
	"context"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/exam"
	"ebmrun/training/sampler"
)

// Labels of the random streams.
const (
	coding   = 1 // codes in learning
	filling  = 2 // codes that fill in hidden entries
	weighing = 3 // codes that weigh a likelihood
)

// cure is what to try where numbers went bad.
const cure = "a smaller optim.lr, or optim.clip"

// System is the learning system. Its parts are set by [New].
type System struct {
	Model
	Config Config
	Data   *data.Loader
	Exam   exam.Exam

	set    *data.Set
	origin training.Origin
	noise  sampler.Noise
	opt    *training.Optimizer
	iter   int

	ids                    []uint64
	e, w, errs, divergence []float32
}

// New assembles the system over a network, whose posterior must have the
// deviation of the settings, and a data set.
func New(c Config, net training.Autoencoder, set *data.Set, seed uint64) (*System, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("vae: %w", err)
	}
	opt, err := c.Optim.For(c.Steps).New()
	if err != nil {
		return nil, fmt.Errorf("vae: %w", err)
	}
	loader, err := data.NewLoader(set, c.Batch, seed)
	if err != nil {
		return nil, fmt.Errorf("vae: %w", err)
	}
	n := c.Batch
	s := &System{Model: Of(net, set.Dim(), c.Sigma, c.Draws, c.Rounds), Config: c, Data: loader, Exam: exam.Exam{Seed: seed, Learned: set, Codes: net.Codes()},
		set: set, origin: training.OriginOf("vae", seed, set), noise: sampler.Noise{Seed: seed}, opt: opt, ids: sampler.Chains(0, n),
		e: make([]float32, n*net.Codes()), w: make([]float32, n), errs: make([]float32, n), divergence: make([]float32, n)}
	for i := range s.w {
		s.w[i] = 1 / float32(n)
	}
	return s, nil
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) { s.opt.Slow(factor) }

// Step implements [training.System].
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	x := s.Data.Next().X
	weight := s.Config.KL.At(s.iter)
	if s.Config.Sabotage == Flip {
		weight = -weight
	}
	s.noise.Fork(coding).Normals(s.e, s.ids, uint64(s.iter))
	if err := s.Net.LearnBound(ctx, x, s.e, s.w, float32(weight), s.errs, s.divergence); err != nil {
		return nil, err
	}
	if err := Sound(s.errs, s.divergence, cure); err != nil {
		return nil, err
	}
	m := training.Metrics{"code_kl": training.Mean(s.divergence), "mse": training.Mean(s.errs) / float64(s.Dim)}
	m["elbo"] = Bound(m["mse"], m["code_kl"], s.Sigma, s.Dim)
	if s.Config.Sabotage != Freeze {
		norm, err := s.opt.Update(s.Net.Params())
		if err != nil {
			return nil, training.Blame("encoder or the generator", cure, err)
		}
		m["grad_norm"] = norm
	}
	s.iter++
	return m, nil
}

// Evaluate implements [training.Evaluator].
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	return s.Exam.Evaluate(ctx, s)
}

// Pictures implements [training.Painter].
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	return s.Exam.Pictures(ctx, s, s.set)
}

func (s *System) keep() training.Keep {
	return training.Keep{Origin: s.origin, Data: s.Data, Weights: Weights(s.Net), Optimizers: map[string]*training.Optimizer{"optim": s.opt}}
}

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) { return s.keep().Save(s.iter, s.Config) }

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error { return s.keep().Restore(st, &s.iter) }

// Weights are both networks, by what a checkpoint calls their weights.
func Weights(net training.Autoencoder) training.Weights { return training.Weights{"vae": net} }
