// Package coopvaebm learns an energy together with a variational auto-encoder by
// variational MCMC teaching (Xie, Zheng, Li, "Learning Energy-Based Model with
// Variational Auto-Encoder as Amortized Sampler", AAAI 2021).
//
// The generator drafts examples, Langevin dynamics on the energy revises them, and
// the energy learns from how the revised drafts differ from data. Where cooperative
// learning infers the codes behind the revised drafts by Langevin dynamics, here an
// encoder does: encoder and generator learn from the revised drafts as a variational
// auto-encoder, which never sees data.
package coopvaebm

import (
	"context"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/exam"
	"ebmrun/training/sampler"
	"ebmrun/training/vae"
)

// Labels of the random streams.
const (
	prior    = 1 // codes of the drafts
	revision = 2 // the teacher's Langevin noise
	coding   = 3 // the encoder's noise
	drawn    = 4 // samples that are only looked at
)

// cure is what to try where the student's numbers went bad.
const cure = "a smaller teach.lr, or teach.clip"

// System is the learning system. Its parts are set by [New].
type System struct {
	Model
	Data *data.Loader
	Exam exam.Exam

	set    *data.Set
	origin training.Origin
	noise  sampler.Noise
	learn  *training.Optimizer // of the energy
	teach  *training.Optimizer // of encoder and generator
	iter   int

	ids    []uint64
	z, e   []float32 // codes, and the encoder's noise [m, d]
	x      []float32 // data batch, then revised drafts [n+m, dim]
	draft  []float32 // [m, dim]
	drafts *sampler.State

	contrast, score     []float32 // [n+m]
	w, errs, divergence []float32 // [m]
}

// New assembles the system.
func New(c Config, e training.Energy, net training.Autoencoder, set *data.Set, seed uint64) (*System, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("coopvaebm: %w", err)
	}
	learn, err := c.Optim.For(c.Steps).New()
	if err != nil {
		return nil, fmt.Errorf("coopvaebm: %w", err)
	}
	teach, err := c.Teach.For(c.Steps).New()
	if err != nil {
		return nil, fmt.Errorf("coopvaebm: teach: %w", err)
	}
	loader, err := data.NewLoader(set, c.Batch, seed)
	if err != nil {
		return nil, fmt.Errorf("coopvaebm: %w", err)
	}
	n, m, dim, d := c.Batch, c.Drafts, set.Dim(), net.Codes()
	s := &System{Model: Of(c, e, net, dim), Data: loader, Exam: exam.Exam{Seed: seed, Learned: set, Codes: d},
		set: set, origin: training.OriginOf("coopvaebm", seed, set), noise: sampler.Noise{Seed: seed}, learn: learn, teach: teach,
		ids: sampler.Chains(0, m), z: make([]float32, m*d), e: make([]float32, m*d), x: make([]float32, (n+m)*dim), draft: make([]float32, m*dim),
		contrast: make([]float32, n+m), score: make([]float32, n+m), w: make([]float32, m), errs: make([]float32, m), divergence: make([]float32, m)}
	sign := float32(1)
	if c.Sabotage == Flip {
		sign = -1
	}
	for i := range s.contrast {
		if s.contrast[i] = -sign / float32(n); i >= n {
			s.contrast[i] = sign / float32(m)
		}
	}
	for i := range s.w {
		s.w[i] = 1 / float32(m)
	}
	s.drafts, err = sampler.NewState(s.x[n*dim:], dim, s.ids)
	return s, err
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) { s.learn.Slow(factor); s.teach.Slow(factor) }

// Step implements [training.System].
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	n := s.Config.Batch * s.set.Dim()
	observed, revised := s.x[:n], s.x[n:]
	copy(observed, s.Data.Next().X)

	// The generator drafts.
	s.noise.Fork(prior).Normals(s.z, s.ids, uint64(s.iter))
	err := s.Drafts.Net.Forward(ctx, s.z, s.draft)
	if err == nil {
		err = training.Finite(s.draft)
	}
	if err != nil {
		return nil, training.Blame("generator", cure, err)
	}
	copy(revised, s.draft)

	// The teacher revises: K Langevin steps on the energy.
	s.drafts.T = uint64(s.iter * s.Config.Langevin.Steps)
	info, err := s.revise(ctx, s.noise.Fork(revision), s.drafts)
	if err != nil {
		return nil, training.Blame("chains of the revision", "a smaller langevin.step or optim.lr, or langevin.grad_clip", err)
	}
	// ∇θ of mean f(revised) − mean f(data): the teacher learns.
	if err := s.Energy.Learn(ctx, s.x, s.contrast, float32(2*s.Config.ScoreL2/float64(s.Config.Batch)), s.score); err != nil {
		return nil, err
	}
	norm, err := s.learn.Update(s.Energy.Params())
	if err != nil {
		return nil, training.Blame("energy", "a smaller optim.lr, or optim.clip", err)
	}
	s.Energy.Refresh()
	// ∇α,β of mean ‖revised − g(z)‖²/(2σ²) + γ·KL, z = mean + deviation·ε of the
	// encoder: the student learns from what it was taught, not from data.
	s.noise.Fork(coding).Normals(s.e, s.ids, uint64(s.iter))
	if err := s.Drafts.Net.LearnBound(ctx, revised, s.e, s.w, float32(s.weight()), s.errs, s.divergence); err != nil {
		return nil, err
	}
	if err := vae.Sound(s.errs, s.divergence, cure); err != nil {
		return nil, err
	}
	m := s.measure(observed, revised)
	if s.Config.Sabotage != Freeze {
		if m["vae/grad_norm"], err = s.teach.Update(s.Drafts.Net.Params()); err != nil {
			return nil, training.Blame("encoder or the generator", cure, err)
		}
	}
	s.iter++
	m["r"], m["clipped"], m["grad_norm"] = info.Drift, info.Clamped, norm
	return m, nil
}

// weight is that of the divergence in the iteration under way.
func (s *System) weight() float64 {
	w := s.Config.KL.At(s.iter)
	if s.Config.Sabotage == FlipKL {
		w = -w
	}
	return w
}

func (s *System) measure(observed, revised []float32) training.Metrics {
	m := training.Metrics{}
	m.Compare(observed, revised, s.score)
	m["revision"] = training.MSE(revised, s.draft) * float64(s.set.Dim())
	m["fit"], m["code_kl"] = training.Mean(s.errs)/float64(s.set.Dim()), training.Mean(s.divergence)
	return m
}

// Evaluate implements [training.Evaluator]: revised drafts decide which checkpoint
// is best; the drafts alone are measured beside them.
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	m, err := s.Exam.Evaluate(ctx, s)
	if err != nil || s.Exam.Judge == nil {
		return m, err
	}
	x, err := s.Drafts.Draw(ctx, s.Exam.JudgeN, s.Exam.Seed)
	if err != nil {
		return nil, err
	}
	return m, s.Exam.Beside(m, "generator/", x)
}

// Pictures implements [training.Painter].
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	return s.Exam.Pictures(ctx, s, s.set)
}

func (s *System) keep() training.Keep {
	return training.Keep{Origin: s.origin, Data: s.Data, Weights: Weights(s.Energy, s.Drafts.Net), Optimizers: map[string]*training.Optimizer{"optim": s.learn, "teach": s.teach}}
}

// Save implements [training.System]. Chains begin at fresh drafts, so networks,
// optimizers and the place in the data are all there is.
func (s *System) Save() (*checkpoint.State, error) { return s.keep().Save(s.iter, s.Config) }

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error { return s.keep().Restore(st, &s.iter) }

// Weights are all networks, by what a checkpoint calls their weights.
func Weights(e training.Energy, net training.Autoencoder) training.Weights {
	return training.Weights{"weights": e, "vae": net}
}
