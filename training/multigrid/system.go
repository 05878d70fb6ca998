// Package multigrid learns an energy at each of several resolutions together
// (Gao, Lu, Zhou, Zhu, Wu, "Learning Generative ConvNets via Multi-grid Modeling
// and Sampling", CVPR 2018).
//
// The coarsest grid is a single pixel, whose model is a histogram of colours. A
// short Langevin chain on every finer grid starts at the end of the chain on the
// grid before, its pixels repeated. While learning, the chains start at the colours
// of the data batch itself, so that each grid sees data and samples in pairs.
package multigrid

import (
	"context"
	"fmt"
	"time"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/pyramid"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// Labels of the random streams, beside the grids' own, which are their numbers.
const (
	dataNoise = 1000 + iota
	drawn
	explained
)

// System is the learning system. Its parts are set by [New].
type System struct {
	*Model
	Config Config
	Data   *data.Loader

	// Judge, if not nil, measures JudgeN samples against held-out data.
	Judge  func(samples []float32) (training.Metrics, error)
	JudgeN int

	set    *data.Set
	origin training.Origin
	noise  sampler.Noise
	iter   int
	ids    []uint64
	w      []float32
}

// New assembles the system over an energy for each grid but the first. All
// randomness follows from the seed.
func New(c Config, energies []training.Energy, set *data.Set, seed uint64) (*System, error) {
	if len(c.Grids) == 0 || set.H != set.W || set.W != c.Grids[len(c.Grids)-1] {
		return nil, fmt.Errorf("multigrid: the finest of grids %v does not fit pictures of %d×%d", c.Grids, set.H, set.W)
	}
	m, err := NewModel(c, energies, set.C)
	if err != nil {
		return nil, err
	}
	loader, err := data.NewLoader(set, c.Batch, seed)
	if err != nil {
		return nil, fmt.Errorf("multigrid: %w", err)
	}
	m.Colours.Learn(pyramid.Shrink(set.X(), set.H, set.W, set.W))
	return &System{
		Model: m, Config: c, Data: loader, set: set, origin: training.OriginOf("multigrid", seed, set), noise: sampler.Noise{Seed: seed},
		ids: sampler.Chains(0, c.Batch), w: pyramid.Contrast(c.Batch, c.Sabotage == Flip),
	}, nil
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) {
	for _, v := range s.Levels {
		v.Slow(factor)
	}
}

// Step implements [training.System]: each grid samples from where the grid before
// has ended, and learns from the batch at its own resolution.
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	m := training.Metrics{}
	observed := s.grids(s.observe())
	x := observed[0]
	for k, v := range s.Levels {
		x = s.grow(k, x)
		clock := time.Now()
		info, err := v.Sample(ctx, s.noise.Fork(uint64(k+1)), s.ids, uint64(s.iter*v.Langevin.Steps), x)
		if err != nil {
			return nil, err
		}
		m["sampling_seconds"] += time.Since(clock).Seconds()
		clock = time.Now()
		both := append(append(make([]float32, 0, 2*len(x)), observed[k+1]...), x...)
		score, norm, err := v.Learn(ctx, both, s.w, 2*s.Config.ScoreL2/float64(s.Config.Batch))
		if err != nil {
			return nil, err
		}
		m["learning_seconds"] += time.Since(clock).Seconds()
		fd, fs := training.Mean(score[:s.Config.Batch]), training.Mean(score[s.Config.Batch:])
		m[fmt.Sprintf("grid%d/V", v.W)], m[training.Value] = fd-fs, fd-fs
		m["score_data"], m["score_samples"] = fd, fs
		m["r"], m["clipped"], m["grad_norm"] = info.Drift, info.Clamped, norm
	}
	s.iter++
	m["sample_mean"], m[training.SampleStd] = training.Moments(x)
	_, m[training.DataStd] = training.Moments(observed[len(observed)-1])
	return m, nil
}

// observe is the next data batch with data noise.
func (s *System) observe() []float32 {
	x := append([]float32(nil), s.Data.Next().X...)
	if sd := float32(s.Config.Data.Noise); sd > 0 {
		e := make([]float32, len(x))
		s.noise.Fork(dataNoise).Normals(e, s.ids, uint64(s.iter))
		for i := range x {
			x[i] += sd * e[i]
		}
	}
	return x
}

// Draw implements [training.Drawer], with averaged weights where they are kept.
func (s *System) Draw(ctx context.Context, n int, seed uint64) (x []float32, err error) {
	err = pyramid.Averaged(s.Levels, func() error {
		x, err = s.Model.Draw(ctx, n, seed)
		return err
	})
	return x, err
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
	m, err := s.Judge(x)
	if err != nil || s.Config.EMA == 0 {
		return m, err
	}
	// beside it what the last weights alone draw, which swings more
	if x, err = s.Model.Draw(ctx, s.JudgeN, s.noise.Seed); err != nil {
		return nil, err
	}
	last, err := s.Judge(x)
	for name, v := range last {
		if name != training.Objective {
			m["last_weights/"+name] = v
		}
	}
	return m, err
}

// Pictures implements [training.Painter]: samples, and a few of them at every grid.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	const n, few = 100, 10
	x, err := s.Draw(ctx, n, s.noise.Seed)
	if err != nil {
		return nil, err
	}
	var ends [][]float32
	err = pyramid.Averaged(s.Levels, func() error {
		ends, err = s.draw(ctx, 0, s.noise.Seed)
		return err
	})
	if err != nil {
		return nil, err
	}
	var rows []record.Images
	for k, x := range ends {
		side := s.side(k)
		shown := min(few, s.Config.Batch)
		x = x[:shown*s.set.C*side*side]
		rows = append(rows, training.Images(s.set, pyramid.Grow(x, side, side, s.set.W/side)))
	}
	return []training.Picture{{Tag: record.SamplesTag, Images: training.Images(s.set, x)}, {Tag: "grids", Rows: rows}}, nil
}

// Save implements [training.System]. Chains begin anew in every iteration, so the
// grids and the place in the data are all there is.
func (s *System) Save() (*checkpoint.State, error) {
	st := &checkpoint.State{Step: s.iter, Tensors: map[string]checkpoint.Tensor{}}
	for k, v := range s.Levels {
		v.Save(st, k+1)
	}
	s.Colours.save(st)
	return st, s.origin.Save(st, s.Data, s.Config)
}

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	position, err := s.origin.Check(st)
	if err != nil {
		return err
	}
	for k, v := range s.Levels {
		if err := v.Restore(st, k+1); err != nil {
			return err
		}
	}
	if err := s.Colours.restore(st); err != nil {
		return err
	}
	s.iter = st.Step
	return s.Data.Seek(position)
}
