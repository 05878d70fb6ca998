// Package abp learns a generator by alternating back-propagation (Han, Lu, Zhu,
// Wu, AAAI 2017): every training example keeps a code of its own, Langevin
// dynamics on the posterior p(z | x) moves the codes, and a gradient step on
//
//	(1/n) Σ ‖x_i − g(z_i)‖² / (2σ²)
//
// fits the generator to them: maximum likelihood without an encoder. Examples
// may be incomplete: the error then counts the visible entries only.
package abp

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// Labels of the random streams.
const (
	inference = 1 // learning
	cold      = 2 // reconstruction of new examples
	drawn     = 3 // samples from the prior
)

// System is the learning system. Its parts are set by [New].
type System struct {
	Config    Config
	Generator training.Generator
	Data      *data.Loader

	// Judge, if not nil, measures JudgeN samples from the prior.
	Judge  func(samples []float32) (training.Metrics, error)
	JudgeN int
	// Held, if not nil, are examples whose reconstruction error is reported.
	Held *data.Set

	set    *data.Set
	origin training.Origin
	noise  sampler.Noise
	opt    *training.Optimizer
	iter   int

	codes []float32 // [N, d], one per training example

	chains  *sampler.State
	mask    []float32 // of the batch
	w, errs []float32
	ids     []uint64
}

// New assembles the system over a generator and a data set.
func New(c Config, g training.Generator, set *data.Set, seed uint64) (*System, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("abp: %w", err)
	}
	if c.Optim.Over == 0 {
		c.Optim.Over = c.Steps
	}
	opt, err := c.Optim.New()
	if err != nil {
		return nil, fmt.Errorf("abp: %w", err)
	}
	loader, err := data.NewLoader(set, c.Batch, seed)
	if err != nil {
		return nil, fmt.Errorf("abp: %w", err)
	}
	n := c.Batch
	s := &System{Config: c, Generator: g, Data: loader, set: set, origin: training.OriginOf("abp", seed, set), noise: sampler.Noise{Seed: seed}, opt: opt,
		codes: make([]float32, set.N*g.Codes()), mask: make([]float32, n*set.Dim()),
		w: make([]float32, n), errs: make([]float32, n), ids: make([]uint64, n)}
	rng := rand.New(rand.NewPCG(seed, 0x616270))
	for i := range s.codes {
		s.codes[i] = float32(rng.NormFloat64())
	}
	for i := range s.w {
		s.w[i] = float32(1 / (2 * c.Sigma * c.Sigma * float64(n)))
	}
	s.chains, err = sampler.NewState(make([]float32, n*g.Codes()), g.Codes(), s.ids)
	return s, err
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System]. What fails here is usually inference, whose
// chains diverge when the step is too long for a posterior that has become
// sharp, so the Langevin step follows the learning rate.
func (s *System) Slow(factor float64) { s.opt.Slow(factor) }

func (s *System) kernel() sampler.Langevin {
	k := s.Config.Langevin.Kernel()
	if rate := float32(s.opt.Rate()); rate > 0 {
		k.Size *= rate
	}
	return k
}

// Step implements [training.System]: inference, then learning.
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	b := s.Data.Next()
	s.gather(b.Index)
	s.hide(b.Index, s.mask)

	s.chains.T = uint64(s.iter * s.Config.Langevin.Steps)
	var info sampler.Info
	var err error
	if s.Config.Sabotage != Freeze {
		field := s.Generator.Posterior(b.X, s.mask)
		if info, err = sampler.Run(ctx, s.noise.Fork(inference), s.kernel(), field, s.chains, s.Config.Langevin.Steps, nil); err != nil {
			return nil, err
		}
		s.scatter(b.Index)
	}
	if err := s.Generator.Learn(ctx, s.chains.X, b.X, s.mask, s.w, s.errs); err != nil {
		return nil, err
	}
	norm, err := s.opt.Update(s.Generator.Params())
	if err != nil {
		return nil, err
	}
	s.iter++
	visible := 0.0
	for _, m := range s.mask {
		visible += float64(m)
	}
	m := training.Metrics{"r": info.Drift, "grad_norm": norm}
	for _, e := range s.errs {
		m["mse"] += float64(e) / visible
	}
	for _, v := range s.chains.X {
		m["code_square"] += float64(v) * float64(v) / float64(len(s.chains.X))
	}
	return m, nil
}

// gather takes the codes of a batch, whose chains are numbered by example.
func (s *System) gather(index []int) {
	d := s.Generator.Codes()
	for k, i := range index {
		copy(s.chains.X[k*d:(k+1)*d], s.codes[i*d:])
		s.ids[k] = uint64(i)
	}
	s.chains.Invalidate()
}

func (s *System) scatter(index []int) {
	d := s.Generator.Codes()
	for k, i := range index {
		copy(s.codes[i*d:(i+1)*d], s.chains.X[k*d:])
	}
}

// hide writes the masks of the given examples: 1 is visible.
func (s *System) hide(index []int, mask []float32) {
	dim := s.set.Dim()
	for k, i := range index {
		row := mask[k*dim : (k+1)*dim]
		if s.Config.Data.Hidden == 0 {
			ones(row)
			continue
		}
		rng := rand.New(rand.NewPCG(s.noise.Seed, 1<<50+uint64(i)))
		for j := range row {
			row[j] = 0
			if rng.Float64() >= s.Config.Data.Hidden {
				row[j] = 1
			}
		}
	}
}

func ones(x []float32) {
	for i := range x {
		x[i] = 1
	}
}

// Samples draws n examples g(z), z ~ N(0, I).
func (s *System) Samples(ctx context.Context, n int) ([]float32, error) {
	z := make([]float32, n*s.Generator.Codes())
	s.noise.Fork(drawn).Normals(z, sampler.Chains(0, n), 0)
	x := make([]float32, n*s.set.Dim())
	return x, s.Generator.Forward(ctx, z, x)
}

// Infer explains examples x [n, dim] where mask is 1: it runs Langevin inference
// from the prior for the given number of steps and returns the codes and the
// generator's output, which fills in what the mask hides.
func Infer(ctx context.Context, g training.Generator, l training.Langevin, noise sampler.Noise, x, mask []float32, n, steps int) (z, y []float32, err error) {
	z, y = make([]float32, n*g.Codes()), make([]float32, len(x))
	ids := sampler.Chains(0, n)
	noise.Normals(z, ids, math.MaxUint64)
	st, err := sampler.NewState(z, g.Codes(), ids)
	if err != nil {
		return nil, nil, err
	}
	if _, err := sampler.Run(ctx, noise, l.Kernel(), g.Posterior(x, mask), st, steps, nil); err != nil {
		return nil, nil, err
	}
	return z, y, g.Forward(ctx, z, y)
}

// Reconstruct infers the codes of up to 64 held-out examples from a cold start
// and returns them beside what the generator makes of them.
func (s *System) Reconstruct(ctx context.Context, steps int) (x, y []float32, err error) {
	n := min(64, s.Held.N)
	x = s.Held.X[:n*s.set.Dim()]
	mask := make([]float32, len(x))
	ones(mask)
	_, y, err = Infer(ctx, s.Generator, s.Config.Langevin, s.noise.Fork(cold), x, mask, n, steps)
	return x, y, err
}

// Evaluate implements [training.Evaluator].
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	m := training.Metrics{}
	if s.Held != nil {
		x, y, err := s.Reconstruct(ctx, 200)
		if err != nil {
			return nil, err
		}
		m["held_out/mse"] = MSE(x, y)
		m[training.Objective] = m["held_out/mse"]
	}
	if s.Judge != nil {
		x, err := s.Samples(ctx, s.JudgeN)
		if err != nil {
			return nil, err
		}
		j, err := s.Judge(x)
		if err != nil {
			return nil, err
		}
		for k, v := range j {
			if _, taken := m[k]; !taken {
				m[k] = v
			}
		}
	}
	return m, nil
}

// MSE is the mean squared difference of two batches, per entry.
func MSE(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		d := float64(a[i] - b[i])
		sum += d * d
	}
	return sum / float64(len(a))
}

// Pictures implements [training.Painter]: samples from the prior, held-out
// examples above their reconstructions, and for two codes the manifold.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	if s.set.H == 1 && s.set.W == 1 {
		return nil, nil
	}
	images := func(x []float32) record.Images {
		return record.Images{Data: x, N: len(x) / s.set.Dim(), C: s.set.C, H: s.set.H, W: s.set.W, Lo: s.set.Lo, Hi: s.set.Hi}
	}
	x, err := s.Samples(ctx, 100)
	if err != nil {
		return nil, err
	}
	pics := []training.Picture{{Tag: record.SamplesTag, Images: images(x)}}
	if s.Held != nil {
		x, y, err := s.Reconstruct(ctx, 200)
		if err != nil {
			return nil, err
		}
		n, dim := min(16, s.Held.N), s.set.Dim()
		pics = append(pics, training.Picture{Tag: "reconstructions", Rows: []record.Images{images(x[:n*dim]), images(y[:n*dim])}})
	}
	if s.Generator.Codes() == 2 {
		z := Manifold(8)
		x := make([]float32, len(z)/2*s.set.Dim())
		if err := s.Generator.Forward(ctx, z, x); err != nil {
			return nil, err
		}
		pics = append(pics, training.Picture{Tag: "manifold", Images: images(x)})
	}
	return pics, nil
}

// Manifold is a k×k grid of two codes over [−2, 2]².
func Manifold(k int) []float32 {
	var z []float32
	at := func(i int) float32 { return float32(-2 + 4*float64(i)/float64(k-1)) }
	for i := range k {
		for j := range k {
			z = append(z, at(j), at(i))
		}
	}
	return z
}

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) {
	st := &checkpoint.State{Step: s.iter, Tensors: map[string]checkpoint.Tensor{}}
	training.SaveParams(st, "generator", s.Generator.Params())
	s.opt.Save(st, "optim")
	st.Tensors["codes"] = checkpoint.Tensor{Shape: []int{s.set.N, s.Generator.Codes()}, Data: s.codes}
	return st, s.origin.Save(st, s.Data, s.Config)
}

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	position, err := s.origin.Check(st)
	if err != nil {
		return err
	}
	if err := training.RestoreParams(st, "generator", s.Generator.Params()); err != nil {
		return err
	}
	if err := s.opt.Restore(st, "optim"); err != nil {
		return err
	}
	z, err := checkpoint.Values[float32](st, "codes", s.set.N, s.Generator.Codes())
	if err != nil {
		return err
	}
	copy(s.codes, z)
	s.iter = st.Step
	return s.Data.Seek(position)
}
