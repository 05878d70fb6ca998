// Package coarsetofine learns an energy of small pictures and grows it to finer ones
// (Zhao, Xie, Li, "Learning Energy-Based Generative Models via Coarse-to-Fine Expanding
// and Sampling", ICLR 2021).
//
// A stage begins with a copy of all weights of the stage before and a new block below
// them, which is faded in. Samples come from a cascade: short Langevin chains from
// noise at the coarsest resolution with the energy learned there, then from their ends,
// pixels repeated, with the next energy. Coarser energies stay as they were.
package coarsetofine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/pyramid"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// System is the learning system. Its parts are set by [New].
type System struct {
	*Model
	Config Config

	// Judge, if not nil, measures JudgeN samples against held-out data.
	Judge  func(samples []float32) (training.Metrics, error)
	JudgeN int

	set    *data.Set
	loader *data.Loader
	stage  int // that the loader's batch belongs to
	origin training.Origin
	noise  sampler.Noise
	iter   int
}

// New assembles the system over an energy for each resolution. All randomness follows
// from the seed.
func New(c Config, energies []training.Energy, set *data.Set, seed uint64) (*System, error) {
	if set.Lo != -1 || set.Hi != 1 {
		return nil, fmt.Errorf("coarse-to-fine: wanted values in [−1, 1], as pictures have, got [%g, %g]", set.Lo, set.Hi)
	}
	m, err := NewModel(c, energies, set.C, set.H, set.W)
	if err != nil {
		return nil, err
	}
	s := &System{Model: m, Config: c, set: set, origin: training.OriginOf("coarse-to-fine", seed, set), noise: sampler.Noise{Seed: seed}}
	m.reached = 0
	s.loader, err = data.NewLoader(set, c.batch(0), seed)
	return s, err
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) {
	for _, v := range s.Stages {
		v.Slow(factor)
	}
}

// Step implements [training.System].
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	k, since, alpha := s.Config.place(s.iter, len(s.Stages))
	v, n := s.Stages[k], s.Config.batch(k)
	if since == 0 && k > 0 {
		// The stage begins with what the one before has learned, faded in wholly.
		s.Stages[k-1].Settle()
		if err := pyramid.Carry(v.Energy, s.Stages[k-1].Energy); err != nil {
			return nil, err
		}
		if s.Config.EMA > 0 {
			if err := v.Average(s.Config.EMA); err != nil {
				return nil, err
			}
		}
	}
	if k > 0 {
		if err := errors.Join(fade(s.Stages[k-1].Energy, 1), fade(v.Energy, alpha)); err != nil {
			return nil, err
		}
	}
	s.reached = k
	observed, err := s.observe(k)
	if err != nil {
		return nil, err
	}
	clock := time.Now()
	ids := sampler.Chains(0, n)
	x, info, err := s.cascade(ctx, s.noise, ids, uint64(s.iter*v.Langevin.Steps), 0, k, start(s.normals(s.noise, ids, uint64(s.iter))))
	if err != nil {
		return nil, err
	}
	m := training.Metrics{"side": float64(v.W), "fade": float64(alpha), "sampling_seconds": time.Since(clock).Seconds()}
	clock = time.Now()
	both := append(append(make([]float32, 0, 2*len(x)), observed...), x...)
	score, norm, err := v.Learn(ctx, both, pyramid.Contrast(n, s.Config.Sabotage == Flip), 2*s.Config.ScoreL2/float64(n))
	if err != nil {
		return nil, err
	}
	m["learning_seconds"] = time.Since(clock).Seconds()
	s.iter++
	m.Compare(observed, x, score)
	m["r"], m["clipped"], m["grad_norm"] = info.Drift, info.Clamped, norm
	return m, nil
}

// observe is the next data batch at a stage's resolution, with data noise.
func (s *System) observe(k int) ([]float32, error) {
	if k != s.stage {
		at := s.loader.Position()
		var err error
		if s.loader, err = data.NewLoader(s.set, s.Config.batch(k), s.noise.Seed); err != nil {
			return nil, err
		}
		if err := s.loader.Seek(at); err != nil {
			return nil, err
		}
		s.stage = k
	}
	v := s.Stages[k]
	x := pyramid.Shrink(s.loader.Next().X, s.set.H, s.set.W, s.set.W/v.W)
	if sd := float32(s.Config.Data.Noise); sd > 0 {
		e := make([]float32, len(x))
		s.noise.Fork(dataNoise).Normals(e, sampler.Chains(0, s.Config.batch(k)), uint64(s.iter))
		for i := range x {
			x[i] += sd * e[i]
		}
	}
	return x, nil
}

// Evaluate implements [training.Evaluator].
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	if s.Judge == nil {
		return nil, nil
	}
	x, err := s.Draw(ctx, s.JudgeN, s.noise.Seed)
	if err != nil {
		return nil, err
	}
	return s.Judge(x)
}

// Pictures implements [training.Painter]: samples, and the way between pairs of them.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	const n, frames = 100, 11
	x, err := s.Draw(ctx, n, s.noise.Seed)
	if err != nil {
		return nil, err
	}
	pics := []training.Picture{{Tag: record.SamplesTag, Images: training.Images(s.set, x)}}
	var rows []record.Images
	for k := range uint64(4) {
		way, err := s.Interpolate(ctx, 2*k, 2*k+1, frames)
		if err != nil {
			return nil, err
		}
		rows = append(rows, training.Images(s.set, way))
	}
	return append(pics, training.Picture{Tag: "interpolation", Rows: rows}), nil
}

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) {
	st := &checkpoint.State{Step: s.iter, Tensors: map[string]checkpoint.Tensor{}}
	for k, v := range s.Stages {
		v.Save(st, k+1)
	}
	return st, s.origin.Save(st, s.loader, s.Config)
}

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	position, err := s.origin.Check(st)
	if err != nil {
		return err
	}
	for k, v := range s.Stages {
		if err := v.Restore(st, k+1); err != nil {
			return err
		}
	}
	s.iter = st.Step
	s.reached, _, _ = s.Config.place(max(st.Step-1, 0), len(s.Stages))
	for _, v := range s.Stages[:s.reached] {
		v.Settle()
	}
	return s.loader.Seek(position)
}
