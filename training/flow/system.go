// Package flow learns a normalizing flow by maximum likelihood (Dinh,
// Sohl-Dickstein, Bengio, "Density estimation using Real NVP", ICLR 2017; Kingma and
// Dhariwal, "Glow", NeurIPS 2018): each iteration raises log p(x) of a batch, that of
// pictures filled between their levels.
package flow

import (
	"context"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/exam"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// Labels of the random streams.
const filling = 1 // noise between levels

// System is the learning system. Its parts are set by [New].
type System struct {
	Model
	Config Config
	Data   *data.Loader
	Exam   exam.Exam

	set    *data.Set
	origin training.Origin
	noise  sampler.Noise
	learn  *training.Optimizer
	iter   int
	ids    []uint64

	x, between  []float32 // [n, dim]
	pull, bound []float32 // [n]
}

// New assembles the system.
func New(c Config, f training.Flow, set *data.Set, seed uint64) (*System, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("flow: %w", err)
	}
	learn, err := c.Optim.For(c.Steps).New()
	if err != nil {
		return nil, fmt.Errorf("flow: %w", err)
	}
	model, err := Of(f, set)
	if err != nil {
		return nil, err
	}
	loader, err := data.NewLoader(set, c.Batch, seed)
	if err != nil {
		return nil, fmt.Errorf("flow: %w", err)
	}
	n, dim := c.Batch, set.Dim()
	s := &System{Model: model, Config: c, Data: loader, Exam: exam.Exam{Seed: seed}, set: set, origin: training.OriginOf("flow", seed, set),
		noise: sampler.Noise{Seed: seed}, learn: learn, ids: sampler.Chains(0, n),
		x: make([]float32, n*dim), between: make([]float32, n*dim), pull: make([]float32, n), bound: make([]float32, n)}
	for i := range s.pull {
		s.pull[i] = -1 / float32(n)
		if c.Sabotage == Flip {
			s.pull[i] = -s.pull[i]
		}
	}
	return s, nil
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) { s.learn.Slow(factor) }

// Step implements [training.System].
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	if s.iter == 0 {
		if err := Begin(ctx, s.Flow, s.set, s.Config.Begin, s.noise.Seed); err != nil {
			return nil, err
		}
	}
	copy(s.x, s.Data.Next().X)
	training.Snap(s.x, float64(s.Lo), s.Flow.Level())
	s.noise.Fork(filling).Normals(s.between, s.ids, uint64(s.iter))

	// ∇ of −mean log p(x + noise)
	if err := training.LearnFlow(ctx, s.Flow, s.Config.Piece, s.x, s.between, s.pull, s.bound); err != nil {
		return nil, err
	}
	norm := optim.Norm(s.Flow.Params())
	if s.Config.Sabotage != Freeze {
		var err error
		if norm, err = s.learn.Update(s.Flow.Params()); err == nil {
			err = training.Finite(s.bound)
		}
		if err != nil {
			return nil, training.Blame("flow", "a smaller optim.lr, or optim.clip", err)
		}
	}
	s.iter++
	m := training.Metrics{"grad_norm": norm}
	likelihood(m, "", training.Mean(s.bound), s.Model)
	return m, nil
}

// likelihood adds the two forms of a mean log density.
func likelihood(m training.Metrics, prefix string, logP float64, model Model) {
	m[prefix+"nll"] = -logP
	if level := model.Flow.Level(); level > 0 {
		m[prefix+"bpd"] = training.BitsPerDim(logP, model.Dim, level)
	}
}

// judged is how many held-out examples are measured at most.
const judged = 512

// HeldOut adds the likelihood of held-out examples: bits per dimension of levels,
// nats of continuous values.
func (m Model) HeldOut(ctx context.Context, to training.Metrics, held *data.Set, seed uint64) error {
	if held == nil {
		return nil
	}
	x := append([]float32(nil), held.Head(judged).X()...)
	training.Snap(x, float64(m.Lo), m.Flow.Level())
	bound, err := training.BoundOf(ctx, m.Flow, x, m.Dim, seed)
	if err != nil {
		return err
	}
	likelihood(to, "held_out/", training.Mean(bound), m)
	return nil
}

// Evaluate implements [training.Evaluator]: the likelihood of held-out examples
// decides which checkpoint is best; draws are measured beside it.
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	e := s.Exam
	e.Held = nil // a flow's reconstruction is exact
	m, err := e.Evaluate(ctx, s.Model)
	if err != nil {
		return nil, err
	}
	if err := s.HeldOut(ctx, m, s.Exam.Held, s.noise.Seed); err != nil {
		return nil, err
	}
	if v, ok := m["held_out/nll"]; ok {
		m[training.Objective] = v / float64(s.Dim)
	}
	return m, nil
}

// Pictures implements [training.Painter].
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	return s.Exam.Pictures(ctx, s.Model, s.set)
}

func (s *System) keep() training.Keep {
	return training.Keep{Origin: s.origin, Data: s.Data, Weights: Weights(s.Flow), Optimizers: map[string]*training.Optimizer{"optim": s.learn}}
}

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) { return s.keep().Save(s.iter, s.Config) }

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error { return s.keep().Restore(st, &s.iter) }

// Weights are the flow, by what a checkpoint calls their weights.
func Weights(f training.Flow) training.Weights { return training.Weights{"flow": f} }
