// Package coopnets learns an energy and a generator together by MCMC teaching
// (Xie, Lu, Gao, Zhu, Wu, "Cooperative Training of Descriptor and Generator
// Networks", TPAMI 2020).
//
// The generator (student) drafts examples, Langevin dynamics on the energy
// (teacher) revises them, the energy learns from how the revised drafts differ
// from data, and the generator learns from how the revision changed its drafts.
// In the rigorous variant the student infers the codes behind the revised drafts
// by Langevin dynamics before it learns; the jump-start variant keeps the codes
// it drew. Only the energy of the rigorous variant tends to a log density.
package coopnets

import (
	"context"
	"fmt"
	"math"

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
	revision  = 2 // the teacher's Langevin noise
	inference = 3 // the student's
	drawn     = 4 // samples that are only looked at
)

// System is the learning system. Its parts are set by [New].
type System struct {
	Config    Config
	Energy    training.Energy
	Generator training.Generator
	Data      *data.Loader

	// Judge, if not nil, measures JudgeN revised samples.
	Judge  func(samples []float32) (training.Metrics, error)
	JudgeN int

	set    *data.Set
	origin training.Origin
	noise  sampler.Noise
	teach  *training.Optimizer // of the generator
	learn  *training.Optimizer // of the energy
	fused  *sampler.Fused
	iter   int
	ids    []uint64
	x      []float32 // data batch, then revised drafts [2n, dim]
	draft  []float32 // [n, dim]
	known  []float32 // mask of ones
	drafts *sampler.State
	codes  *sampler.State

	contrast, fit []float32 // weights of scores and of errors
	score, errs   []float32
}

// New assembles the system.
func New(c Config, e training.Energy, g training.Generator, set *data.Set, seed uint64) (*System, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("coopnets: %w", err)
	}
	learn, err := c.Optim.For(c.Steps).New()
	if err != nil {
		return nil, fmt.Errorf("coopnets: %w", err)
	}
	teach, err := c.Teach.For(c.Steps).New()
	if err != nil {
		return nil, fmt.Errorf("coopnets: teach: %w", err)
	}
	loader, err := data.NewLoader(set, c.Batch, seed)
	if err != nil {
		return nil, fmt.Errorf("coopnets: %w", err)
	}
	n, dim := c.Batch, set.Dim()
	s := &System{Config: c, Energy: e, Generator: g, Data: loader, set: set, origin: training.OriginOf("coopnets", seed, set), noise: sampler.Noise{Seed: seed}, learn: learn, teach: teach,
		ids: sampler.Chains(0, n), x: make([]float32, 2*n*dim), draft: make([]float32, n*dim), known: training.Ones(n * dim),
		contrast: make([]float32, 2*n), fit: make([]float32, n), score: make([]float32, 2*n), errs: make([]float32, n)}
	for i := range n {
		s.contrast[i], s.contrast[n+i] = -1/float32(n), 1/float32(n)
		if c.Sabotage == Flip {
			s.contrast[i], s.contrast[n+i] = s.contrast[n+i], s.contrast[i]
		}
		s.fit[i] = float32(1 / (2 * c.Sigma * c.Sigma * float64(n)))
	}
	if s.drafts, err = sampler.NewState(s.x[n*dim:], dim, s.ids); err != nil {
		return nil, err
	}
	if s.codes, err = sampler.NewState(make([]float32, n*g.Codes()), g.Codes(), s.ids); err != nil {
		return nil, err
	}
	if f, ok := e.(training.Fuser); ok && c.Langevin.Fused {
		s.fused = &sampler.Fused{Chain: f.Chain(c.Langevin.Kernel()), K: c.Langevin.Steps}
	}
	return s, nil
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

	// The student drafts.
	z := s.codes.X
	s.noise.Fork(prior).Normals(z, s.ids, uint64(s.iter))
	err := s.Generator.Forward(ctx, z, s.draft)
	if err == nil {
		err = training.Finite(s.draft)
	}
	if err != nil {
		return nil, training.Blame("generator", "a smaller teach.lr, or teach.clip", err)
	}
	copy(revised, s.draft)

	// The teacher revises: K Langevin steps on the energy.
	info, err := s.revise(ctx, s.drafts, s.noise.Fork(revision), uint64(s.iter*s.Config.Langevin.Steps))
	if err != nil {
		return nil, training.Blame("chains of the revision", "a smaller langevin.step or optim.lr, or langevin.grad_clip", err)
	}
	// The student infers the codes behind what it is taught, or keeps its own.
	if k := s.Config.Inference; k.Steps > 0 {
		s.codes.T = uint64(s.iter * k.Steps)
		s.codes.Invalidate()
		field := s.Generator.Posterior(revised, s.known)
		if _, err := sampler.Run(ctx, s.noise.Fork(inference), k.Kernel(), field, s.codes, k.Steps, nil); err != nil {
			return nil, training.Blame("chains of codes", "a smaller inference.step, or a larger sigma", err)
		}
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
	// ∇α of mean ‖revised − g(z)‖²/(2σ²): the student learns.
	if err := s.Generator.Learn(ctx, z, revised, s.known, s.fit, s.errs); err != nil {
		return nil, err
	}
	fitNorm := optim.Norm(s.Generator.Params())
	if s.Config.Sabotage != Freeze {
		if fitNorm, err = s.teach.Update(s.Generator.Params()); err == nil {
			err = training.Finite(s.errs)
		}
		if err != nil {
			return nil, training.Blame("generator", "a smaller teach.lr, or teach.clip", err)
		}
	}
	s.iter++
	m := s.measure(observed, revised)
	m["r"], m["clipped"], m["grad_norm"], m["generator/grad_norm"] = info.Drift, info.Clamped, norm, fitNorm
	return m, nil
}

func (s *System) revise(ctx context.Context, st *sampler.State, noise sampler.Noise, t uint64) (sampler.Info, error) {
	if s.Config.Sabotage == Still {
		return sampler.Info{}, nil
	}
	st.T = t
	st.Invalidate()
	l := s.Config.Langevin
	if s.fused != nil && st.Len() == s.Config.Batch {
		return s.fused.Run(ctx, noise, st, l.Steps, nil)
	}
	return sampler.Run(ctx, noise, l.Kernel(), s.Energy, st, l.Steps, nil)
}

func (s *System) measure(observed, revised []float32) training.Metrics {
	m := training.Metrics{}
	m.Compare(observed, revised, s.score)
	m["revision"] = training.MSE(revised, s.draft) * float64(s.set.Dim())
	for _, e := range s.errs {
		m["fit"] += float64(e) / float64(len(revised))
	}
	return m
}

// Samples draws n drafts and, if asked, revises them with the learned chain. It
// does not change the system.
func (s *System) Samples(ctx context.Context, n int, revised bool) ([]float32, error) {
	dim, d, out := s.set.Dim(), s.Generator.Codes(), make([]float32, 0, n*s.set.Dim())
	for len(out) < n*dim {
		ids := sampler.Chains(uint64(len(out)/dim), s.Config.Batch)
		noise := s.noise.Fork(drawn)
		z, x := make([]float32, len(ids)*d), make([]float32, len(ids)*dim)
		noise.Normals(z, ids, math.MaxUint64)
		if err := s.Generator.Forward(ctx, z, x); err != nil {
			return nil, err
		}
		if revised {
			st, err := sampler.NewState(x, dim, ids)
			if err != nil {
				return nil, err
			}
			if _, err := s.revise(ctx, st, noise, 0); err != nil {
				return nil, err
			}
		}
		out = append(out, x...)
	}
	return out[:n*dim], nil
}

// Evaluate implements [training.Evaluator]: revised samples decide which
// checkpoint is best; the drafts are measured beside them.
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	if s.Judge == nil {
		return nil, nil
	}
	all := training.Metrics{}
	for _, revised := range []bool{false, true} {
		x, err := s.Samples(ctx, s.JudgeN, revised)
		if err != nil {
			return nil, err
		}
		m, err := s.Judge(x)
		if err != nil {
			return nil, err
		}
		for k, v := range m {
			switch {
			case revised:
				all[k] = v
			case k != training.Objective:
				all["generator/"+k] = v
			}
		}
	}
	return all, nil
}

// Pictures implements [training.Painter]: revised samples, and drafts.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	var pics []training.Picture
	for _, revised := range []bool{true, false} {
		x, err := s.Samples(ctx, 100, revised)
		if err != nil {
			return nil, err
		}
		tag := record.SamplesTag
		if !revised {
			tag = "drafts"
		}
		pics = append(pics, training.Picture{Tag: tag, Images: training.Images(s.set, x)})
	}
	return pics, nil
}

func (s *System) keep() training.Keep {
	return training.Keep{Origin: s.origin, Data: s.Data, Weights: Weights(s.Energy, s.Generator), Optimizers: map[string]*training.Optimizer{"optim": s.learn, "teach": s.teach}}
}

// Save implements [training.System]. Chains begin at fresh drafts, so networks,
// optimizers and the place in the data are all there is.
func (s *System) Save() (*checkpoint.State, error) { return s.keep().Save(s.iter, s.Config) }

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error { return s.keep().Restore(st, &s.iter) }

// Weights are both networks, by what a checkpoint calls their weights.
func Weights(e training.Energy, g training.Generator) training.Weights {
	return training.Weights{"weights": e, "generator": g}
}
