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
	"math/rand/v2"
	"slices"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// Labels of the random streams.
const (
	inference = 1 // learning
	cold      = 2 // reconstruction of new examples, added to the seed
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
	masks masks
	pca   *diag.PCA // of the training examples, once it has been asked for

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
	opt, err := c.Optim.For(c.Steps).New()
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
	if s.masks, err = newMasks(c, set, seed); err != nil {
		return nil, fmt.Errorf("abp: %w", err)
	}
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
// sharp (beyond 2/√λ at its largest precision λ), so the Langevin step follows
// the learning rate, in learning and for new examples.
func (s *System) Slow(factor float64) { s.opt.Slow(factor) }

// Learned is what the system has learned so far.
func (s *System) Learned() *Learned {
	return learned(s.Config, s.Generator, s.set.Dim(), s.opt.Rate())
}

// maxCodes bounds the mean square of codes, which is 1 under the prior.
const maxCodes = 100

// Step implements [training.System]: inference, then learning.
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	b := s.Data.Next()
	s.gather(b.Index)
	s.masks.write(b.Index, s.mask)

	s.chains.T = uint64(s.iter * s.Config.Langevin.Steps)
	var info sampler.Info
	var err error
	if s.Config.Sabotage != Freeze {
		field := s.Generator.Posterior(b.X, s.mask)
		info, err = sampler.Run(ctx, s.noise.Fork(inference), s.Learned().Langevin.Kernel(), field, s.chains, s.Config.Langevin.Steps, nil)
		if err == nil {
			err = bounded(s.chains.X)
		}
		if err != nil {
			return nil, training.Blame("chains of codes", "a smaller langevin.step, or a larger sigma", err)
		}
		s.scatter(b.Index)
	}
	if err := s.Generator.Learn(ctx, s.chains.X, b.X, s.mask, s.w, s.errs); err != nil {
		return nil, err
	}
	norm, err := s.opt.Update(s.Generator.Params())
	if err == nil {
		err = training.Finite(s.errs)
	}
	if err != nil {
		return nil, training.Blame("generator", "a smaller optim.lr, or optim.clip", err)
	}
	s.iter++
	visible := 0.0
	for _, m := range s.mask {
		visible += float64(m)
	}
	m := training.Metrics{"r": info.Drift, "grad_norm": norm, "code_square": square(s.chains.X)}
	for _, e := range s.errs {
		m["mse"] += float64(e) / visible
	}
	return m, nil
}

func square(x []float32) (mean float64) {
	for _, v := range x {
		mean += float64(v) * float64(v) / float64(len(x))
	}
	return mean
}

func bounded(z []float32) error {
	if v := square(z); v > maxCodes {
		return fmt.Errorf("%w: the mean square of the codes is %.4g, wanted about 1 and at most %d", training.ErrGuard, v, maxCodes)
	}
	return nil
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

// Samples draws n examples g(z), z ~ N(0, I).
func (s *System) Samples(ctx context.Context, n int) ([]float32, error) {
	z := make([]float32, n*s.Generator.Codes())
	s.noise.Fork(drawn).Normals(z, sampler.Chains(0, n), 0)
	return s.Learned().Decode(ctx, z)
}

// Fitted draws n examples g(z) from the Gaussian that the codes of the training
// examples have, mean and covariance, in place of the prior that they should have. It
// draws none before every example has been inferred once.
func (s *System) Fitted(ctx context.Context, n int) ([]float32, error) {
	if s.iter*s.Config.Batch < s.set.N || s.set.N <= s.Generator.Codes() {
		return nil, nil
	}
	g, err := diag.FitGaussian(s.codes, s.Generator.Codes())
	if err != nil {
		return nil, fmt.Errorf("abp: codes: %w", err)
	}
	z := make([]float32, n*s.Generator.Codes())
	s.noise.Fork(drawn).Normals(z, sampler.Chains(0, n), 0)
	g.Draw(z)
	return s.Learned().Decode(ctx, z)
}

// Reconstruct infers the codes of up to 64 held-out examples from a cold start
// and returns the examples beside what the generator makes of them.
func (s *System) Reconstruct(ctx context.Context) (x, y []float32, err error) {
	x = s.Held.Head(min(64, s.Held.N)).X()
	y, err = s.Learned().Reconstruct(ctx, x, nil, s.noise.Seed+cold)
	return x, y, err
}

// Recover returns up to n training examples, their masks, and what the generator
// makes of their codes.
func (s *System) Recover(ctx context.Context, n int) (x, mask, y []float32, err error) {
	n = min(n, s.set.N)
	index := make([]int, n)
	for i := range index {
		index[i] = i
	}
	x, mask = s.set.Head(n).X(), make([]float32, n*s.set.Dim())
	s.masks.write(index, mask)
	y, err = s.Learned().Decode(ctx, s.codes[:n*s.Generator.Codes()])
	return x, mask, y, err
}

// baseline is the error of principal components, as many as there are codes.
func (s *System) baseline(x []float32) (float64, error) {
	const most = 4000
	if s.pca == nil {
		train, err := s.set.Subset(rand.New(rand.NewPCG(s.noise.Seed, 0x706361)).Perm(s.set.N)[:min(most, s.set.N)])
		if err != nil {
			return 0, err
		}
		if s.pca, err = diag.FitPCA(train.X(), s.set.Dim(), min(s.Generator.Codes(), s.set.Dim(), train.N-1, 1000)); err != nil {
			return 0, err
		}
	}
	y, err := s.pca.Rebuild(x)
	if err != nil {
		return 0, err
	}
	return training.MSE(x, y), nil
}

// Evaluate implements [training.Evaluator]: the reconstruction of held-out
// examples beside that of as many principal components, and where masks are drawn
// the error of what they hide beside that of the mean of what is visible.
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	m := training.Metrics{}
	if s.Held != nil {
		x, y, err := s.Reconstruct(ctx)
		if err != nil {
			return nil, training.Blame("chains of codes", "a smaller langevin.step, or a larger sigma", err)
		}
		m["held_out/mse"] = training.MSE(x, y)
		m[training.Objective] = m["held_out/mse"]
		if m["held_out/pca_mse"], err = s.baseline(x); err != nil {
			return nil, err
		}
	}
	if s.masks.draw != nil {
		x, mask, y, err := s.Recover(ctx, 256)
		if err != nil {
			return nil, err
		}
		m["hidden/mse"] = hiddenMSE(x, y, mask)
		m["hidden/mean_mse"] = hiddenMSE(x, visibleMean(x, mask, s.set.Dim()), mask)
	}
	if s.Judge != nil {
		for _, d := range []struct {
			prefix string
			draw   func(context.Context, int) ([]float32, error)
		}{{"", s.Samples}, {"fitted/", s.Fitted}} {
			x, err := d.draw(ctx, s.JudgeN)
			if err != nil {
				return nil, err
			}
			if x == nil {
				continue
			}
			j, err := s.Judge(x)
			if err != nil {
				return nil, err
			}
			for k, v := range j {
				if _, taken := m[k]; k != training.Objective || !taken { // reconstruction comes first
					m[d.prefix+k] = v
				}
			}
		}
	}
	return m, nil
}

// hiddenMSE is the mean squared difference where mask is 0.
func hiddenMSE(a, b, mask []float32) float64 {
	sum, n := 0.0, 0.0
	for i, m := range mask {
		if m == 0 {
			d := float64(a[i] - b[i])
			sum, n = sum+d*d, n+1
		}
	}
	return sum / max(n, 1)
}

// visibleMean repeats the mean of the visible values of each entry.
func visibleMean(x, mask []float32, dim int) []float32 {
	sum, n := make([]float64, dim), make([]float64, dim)
	for i, m := range mask {
		sum[i%dim] += float64(m * x[i])
		n[i%dim] += float64(m)
	}
	y := make([]float32, len(x))
	for i := range y {
		y[i] = float32(sum[i%dim] / max(n[i%dim], 1))
	}
	return y
}

// Pictures implements [training.Painter]: samples from the prior, held-out
// examples above their reconstructions, incomplete training examples above their
// recovery and the truth, and for two codes the manifold.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	if s.set.H == 1 && s.set.W == 1 {
		return nil, nil
	}
	images := func(x []float32) record.Images { return training.Images(s.set, x) }
	x, err := s.Samples(ctx, 100)
	if err != nil {
		return nil, err
	}
	pics := []training.Picture{{Tag: record.SamplesTag, Images: images(x)}}
	if x, err = s.Fitted(ctx, 100); err != nil {
		return nil, err
	}
	if x != nil {
		pics = append(pics, training.Picture{Tag: "fitted", Images: images(x)})
	}
	if s.Held != nil {
		x, y, err := s.Reconstruct(ctx)
		if err != nil {
			return nil, err
		}
		n, dim := min(16, s.Held.N), s.set.Dim()
		pics = append(pics, training.Picture{Tag: "reconstructions", Rows: []record.Images{images(x[:n*dim]), images(y[:n*dim])}})
	}
	if s.masks.hidden() {
		x, mask, y, err := s.Recover(ctx, 16)
		if err != nil {
			return nil, err
		}
		seen, grey := slices.Clone(x), (s.set.Lo+s.set.Hi)/2
		for i, m := range mask {
			if m == 0 {
				seen[i] = grey
			}
		}
		rows := []record.Images{images(seen), images(y)}
		if s.masks.draw != nil { // else the truth may be unknown
			rows = append(rows, images(x))
		}
		pics = append(pics, training.Picture{Tag: "recovered", Rows: rows})
	}
	if s.Generator.Codes() == 2 {
		x, err := s.Learned().Decode(ctx, Manifold(8))
		if err != nil {
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

func (s *System) keep() training.Keep {
	return training.Keep{Origin: s.origin, Data: s.Data, Weights: training.Weights{"generator": s.Generator}, Optimizers: map[string]*training.Optimizer{"optim": s.opt}}
}

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) {
	st, err := s.keep().Save(s.iter, s.Config)
	st.Tensors["codes"] = checkpoint.Tensor{Shape: []int{s.set.N, s.Generator.Codes()}, Data: s.codes}
	if s.masks.given != nil {
		st.Tensors["masks"] = checkpoint.Tensor{Shape: []int{s.set.N, s.masks.pixels}, Data: s.masks.given}
	}
	return st, err
}

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	if err := s.keep().Restore(st, &s.iter); err != nil {
		return err
	}
	z, err := checkpoint.Values[float32](st, "codes", s.set.N, s.Generator.Codes())
	if err != nil {
		return err
	}
	copy(s.codes, z)
	if _, stored := st.Tensors["masks"]; stored {
		if s.masks.given, err = checkpoint.Values[uint8](st, "masks", s.set.N, s.masks.pixels); err != nil {
			return err
		}
		s.masks.given = slices.Clone(s.masks.given)
	}
	return nil
}
