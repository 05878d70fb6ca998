// Package patchwise learns energies of the patches of a single picture at several
// scales (Zheng, Xie, Li, "Patchwise Generative ConvNet: Training Energy-Based Models
// from a Single Natural Image for Internal Learning", CVPR 2021).
//
// Each scale has a fully convolutional energy of its own, learned after the coarser
// ones, which stay as they are. Chains on the coarsest scale begin at noise, on the
// others at samples of the scale below, made larger. One more chain at each scale,
// the recovery, begins at the recovery of the scale below and is taught to end at the
// picture itself, which ties the model to the picture's layout.
package patchwise

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/pyramid"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// System is the learning system. Its parts are set by [New].
type System struct {
	*Model
	Config Config

	// Judge, if not nil, measures JudgeN samples.
	Judge  func(samples []float32) (training.Metrics, error)
	JudgeN int

	set    *data.Set
	data   *data.Loader // of the one picture; it says where a checkpoint stands
	origin training.Origin
	noise  sampler.Noise
	iter   int
	ids    []uint64
	w      []float32   // of the picture, the samples and the recovery
	image  [][]float32 // the picture at every scale
	from   [][]float32 // where recovery begins at every scale; nil for those that have not begun to learn
}

// New assembles the system over an energy for each scale of one picture. All
// randomness follows from the seed.
func New(c Config, energies []training.Energy, set *data.Set, seed uint64) (*System, error) {
	if set.N != 1 {
		return nil, fmt.Errorf("patchwise: wanted one picture, got %d examples", set.N)
	}
	m, err := NewModel(c, energies, set.C, set.H, set.W)
	if err != nil {
		return nil, err
	}
	loader, err := data.NewLoader(set, 1, seed)
	if err != nil {
		return nil, fmt.Errorf("patchwise: %w", err)
	}
	s := &System{Model: m, Config: c, set: set, data: loader, origin: training.OriginOf("patchwise", seed, set), noise: sampler.Noise{Seed: seed},
		ids: sampler.Chains(0, c.Chains), from: make([][]float32, c.Scales)}
	for _, v := range m.Scales {
		s.image = append(s.image, pyramid.Resize(set.X(), set.H, set.W, v.H, v.W))
	}
	// mean f(samples) − f(picture) + λ·(f(recovery) − f(picture))
	s.w = append(s.w, -1-float32(c.Recover.Weight))
	for range c.Chains {
		s.w = append(s.w, 1/float32(c.Chains))
	}
	s.w = append(s.w, float32(c.Recover.Weight))
	if c.Sabotage == Flip {
		for i := range s.w {
			s.w[i] = -s.w[i]
		}
	}
	m.reached = 0
	return s, nil
}

// scaleAt is the scale that an iteration learns.
func (c *Config) scaleAt(iteration int) int {
	k := 0
	for k+1 < c.Scales && iteration >= c.begins(k+1) {
		k++
	}
	return k
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) {
	for _, v := range s.Scales {
		v.Slow(factor)
	}
}

// Step implements [training.System].
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	k := s.Config.scaleAt(s.iter)
	v := s.Scales[k]
	if k > s.reached { // what finer scales build on stays as its average is
		s.Scales[k-1].Settle()
	}
	s.reached = k
	clock := time.Now()
	// Chains begin at noise, or at samples of the scale below.
	x, err := s.start(ctx, k)
	if err != nil {
		return nil, err
	}
	kernel := v.Langevin.Kernel()
	kernel.Noise *= s.heat(k)
	info, err := v.Move(ctx, s.noise.Fork(uint64(k+1)), kernel, v.Langevin.Steps, s.ids, uint64(s.iter*v.Langevin.Steps), x)
	if err != nil {
		return nil, err
	}
	// Recovery begins at that of the scale below.
	if err := s.begin(ctx, k); err != nil {
		return nil, err
	}
	recovered := append([]float32(nil), s.from[k]...)
	if err := descend(ctx, v, s.Config.Recover.Steps, recovered, nil); err != nil {
		return nil, err
	}
	m := training.Metrics{"scale": float64(k), "sampling_seconds": time.Since(clock).Seconds()}
	clock = time.Now()
	all := append(append(append([]float32(nil), s.image[k]...), x...), recovered...)
	score, norm, err := v.Learn(ctx, all, s.w, 2*s.Config.ScoreL2/float64(s.Config.Chains))
	if err != nil {
		return nil, err
	}
	m["learning_seconds"] = time.Since(clock).Seconds()
	s.iter++
	last := len(score) - 1
	m["score_data"], m["score_samples"] = float64(score[0]), training.Mean(score[1:last])
	m[training.Value] = m["score_data"] - m["score_samples"]
	m["sample_mean"], m[training.SampleStd] = training.Moments(x)
	_, m[training.DataStd] = training.Moments(s.image[k])
	m["r"], m["clipped"], m["grad_norm"] = info.Drift, info.Clamped, norm
	m["recovery_mse"] = training.MSE(recovered, s.image[k])
	return m, nil
}

// start places the chains of an iteration at a scale.
func (s *System) start(ctx context.Context, k int) ([]float32, error) {
	first := s.Scales[0]
	x := noise(rand.New(rand.NewPCG(s.noise.Seed, 1<<43+uint64(s.iter))), s.Config.Chains, first.C, first.H*first.W)
	if k == 0 {
		return x, nil
	}
	x, err := s.run(ctx, x, 0, k-1, 1, 1, nil)
	if err != nil {
		return nil, err
	}
	return pyramid.Resize(x, s.Scales[k-1].H, s.Scales[k-1].W, s.Scales[k].H, s.Scales[k].W), nil
}

// heat is how much of the noise is left in an iteration at a scale.
func (s *System) heat(k int) float32 {
	over := s.Config.NoiseOver * float64(s.Config.length(k))
	if over == 0 {
		return 1
	}
	return float32(max(0, 1-float64(s.iter-s.Config.begins(k))/over))
}

// begin fixes where recovery begins at a scale, once.
func (s *System) begin(ctx context.Context, k int) error {
	switch {
	case s.from[k] != nil:
		return nil
	case k == 0:
		s.from[0] = s.blurred(s.image[0])
		return nil
	}
	below := s.Scales[k-1]
	x := append([]float32(nil), s.from[k-1]...)
	if err := descend(ctx, below, s.Config.Recover.Steps, x, nil); err != nil {
		return err
	}
	s.from[k] = pyramid.Resize(x, below.H, below.W, s.Scales[k].H, s.Scales[k].W)
	return nil
}

// Recovery is the end of the recovery chain at every scale that has learned, and its
// PSNR in decibels against the picture there.
func (s *System) Recovery(ctx context.Context) (ends [][]float32, psnr []float64, err error) {
	for k, from := range s.from {
		if from == nil {
			break
		}
		x := append([]float32(nil), from...)
		if err := pyramid.Averaged(s.Scales[k:k+1], func() error {
			return descend(ctx, s.Scales[k], s.Config.Recover.Steps, x, nil)
		}); err != nil {
			return nil, nil, err
		}
		p, err := diag.PSNR(s.image[k], x, 2)
		if err != nil {
			return nil, nil, err
		}
		ends, psnr = append(ends, x), append(psnr, p)
	}
	return ends, psnr, nil
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

// Pictures implements [training.Painter]: samples, and beside the picture its
// recovery.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	const n = 4
	x, err := s.Draw(ctx, n, s.noise.Seed)
	if err != nil {
		return nil, err
	}
	pics := []training.Picture{{Tag: record.SamplesTag, Images: training.Images(s.set, x)}}
	ends, _, err := s.Recovery(ctx)
	if err != nil || len(ends) == 0 {
		return pics, err
	}
	v := s.Scales[len(ends)-1]
	both := append(append([]float32(nil), s.set.X()...), pyramid.Resize(ends[len(ends)-1], v.H, v.W, s.set.H, s.set.W)...)
	return append(pics, training.Picture{Tag: "recovery", Rows: []record.Images{training.Images(s.set, both)}}), nil
}

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) {
	st := &checkpoint.State{Step: s.iter, Tensors: map[string]checkpoint.Tensor{}}
	for k, v := range s.Scales {
		v.Save(st, k+1)
		if s.from[k] != nil {
			st.Tensors[fmt.Sprintf("recovery%d", k+1)] = checkpoint.Tensor{Shape: []int{v.C, v.H, v.W}, Data: s.from[k]}
		}
	}
	return st, s.origin.Save(st, s.data, s.Config)
}

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	position, err := s.origin.Check(st)
	if err != nil {
		return err
	}
	for k, v := range s.Scales {
		if err := v.Restore(st, k+1); err != nil {
			return err
		}
		name := fmt.Sprintf("recovery%d", k+1)
		if s.from[k] = nil; st.Step <= s.Config.begins(k) {
			continue // this scale has not begun
		}
		x, err := checkpoint.Values[float32](st, name, v.C, v.H, v.W)
		if err != nil {
			return err
		}
		s.from[k] = append([]float32(nil), x...)
	}
	s.iter, s.reached = st.Step, s.Config.scaleAt(max(st.Step-1, 0))
	for _, v := range s.Scales[:s.reached] {
		v.Settle()
	}
	return s.data.Seek(position)
}
