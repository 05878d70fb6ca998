package accept

import (
	"context"
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
	"ebmrun/training/abp"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// ABP is the acceptance of abp. The arm F infers no codes.
var ABP = Suite{"abp", []Part{
	{"posterior", "inferred codes of a linear generator have the mean and the variance of Langevin steps", true, codesPosterior},
	{"factors", "a linear generator is learned from scratch", false, codesFactors},
	{"blobs", "discs of 16×16 from three codes, against three principal components", false, codesBlobs},
	{"incomplete", "the same discs with half of all pixels hidden", false, codesIncomplete},
}}

// generator binds a generator network.
func (e Env) generator(ctx context.Context, spec generator.Spec, dims []int, sigma float64) (Generator, error) {
	m, err := generator.Build(spec, dims, e.Seed)
	if err != nil {
		return nil, err
	}
	return e.BindGenerator(ctx, m, sigma)
}

// linearCodes is x = zW of twelve values from three codes.
var linearCodes = generator.Nets["linear"].Spec

// codesPosterior: at precision λ a Langevin step of size s leaves the variance
// 1/λ/(1 − s²λ/4). A likelihood that is divided by the number of examples, as
// released code does it, is found out.
func codesPosterior(ctx context.Context, e Env, it *Item) error {
	const points, chains, size, steps = 5, 4000, 0.1, 300
	set := e.factors(points, 31)
	for _, c := range []struct {
		share float64
		arm   string
	}{{1, Works}, {1.0 / points, "likelihood divided"}} {
		g, err := e.generator(ctx, linearCodes, []int{12}, factorResidual/math.Sqrt(c.share))
		if err != nil {
			return err
		}
		defer g.Close()
		if err := setWeights(g.Params(), map[string][]float32{"layer1.weight": factorWeights(), "layer1.bias": make([]float32, 12)}); err != nil {
			return err
		}
		x := make([]float32, 0, points*chains*12)
		for range chains {
			x = append(x, set.X()...)
		}
		z, _, err := abp.Infer(ctx, g, training.Langevin{Step: size, Noise: 1}, sampler.Noise{Seed: e.Seed}, x, training.Ones(len(x)), points*chains, steps)
		if err != nil {
			return err
		}
		off, wide := 0.0, 0.0
		for k, scale := range factorScales {
			precision, variance := 1+scale*scale/(factorResidual*factorResidual), 0.0
			for p := range points {
				sum, square, mean := 0.0, 0.0, 0.0
				for i := p; i < points*chains; i += points {
					v := float64(z[i*3+k])
					sum += v / chains
					square += v * v / chains
				}
				variance += (square - sum*sum) / points
				for _, v := range set.At(p)[k*factorGroup : (k+1)*factorGroup] {
					mean += scale / 2 * float64(v) / (factorResidual * factorResidual) / precision
				}
				off = max(off, math.Abs(sum-mean))
			}
			wide = max(wide, math.Abs(variance*precision*(1-size*size*precision/4)-1))
		}
		if c.arm == Works {
			it.Check(c.arm, "largest error of a posterior mean", off, AtMost(0.02), "")
			it.Check(c.arm, "largest error of a variance, as a share", wide, AtMost(0.05), "")
		} else {
			it.Check(c.arm, "largest error of a variance, as a share", wide, AtLeast(0.5), "must fail")
		}
	}
	return nil
}

// codesFactors compares what is learned with the factor model itself: its entropy,
// and the space of its columns.
func codesFactors(ctx context.Context, e Env, it *Item) error {
	set := e.factors(2000, 32)
	truth := mat.NewDense(3, 12, nil)
	for i, v := range factorWeights() {
		truth.Set(i/12, i%12, float64(v))
	}
	for _, arm := range []string{Works, Flipped} {
		c := abp.Config{Steps: 400, Batch: 200, Sigma: factorResidual,
			Langevin: training.Langevin{Steps: 15, Step: 0.1, Noise: 1},
			Optim:    training.Optim{LR: 0.02, Betas: [2]float64{0.5, 0.999}}}
		if arm == Flipped {
			c.Sabotage = abp.Freeze
		}
		g, err := e.generator(ctx, linearCodes, []int{12}, c.Sigma)
		if err != nil {
			return err
		}
		defer g.Close()
		s, err := abp.New(c, g, set, e.Seed)
		if err != nil {
			return err
		}
		ended, err := e.learn(ctx, "factors", arm, s, c.Steps, c.Guard)
		if err != nil {
			return err
		}
		w, bias := mat.NewDense(3, 12, nil), mat.NewVecDense(12, nil)
		for _, p := range g.Params() {
			for i, v := range p.W {
				if len(p.W) == 12 {
					bias.SetVec(i, float64(v))
				} else {
					w.Set(i/12, i%12, float64(v))
				}
			}
		}
		nll, angle, err := compareFactors(w, bias, truth)
		if err != nil {
			return err
		}
		if arm == Works {
			it.Check(arm, "likelihood lost against the factor model, nats", nll, AtMost(0.15), endedBy(ended))
			it.Check(arm, "angle between the spaces of the columns, degrees", angle, AtMost(5), "")
		} else {
			it.Check(arm, "likelihood lost against the factor model, nats", nll, AtLeast(0.15), endedBy(ended))
		}
	}
	return nil
}

// compareFactors is the expected loss of likelihood of N(bias, wᵀw + σ²I) against
// that of the true factors, and the largest angle between their row spaces.
func compareFactors(w *mat.Dense, bias *mat.VecDense, truth *mat.Dense) (lost, angle float64, err error) {
	covariance := func(w *mat.Dense) *mat.SymDense {
		c := mat.NewSymDense(12, nil)
		c.SymOuterK(1, w.T())
		for i := range 12 {
			c.SetSym(i, i, c.At(i, i)+factorResidual*factorResidual)
		}
		return c
	}
	var a, b mat.Cholesky
	if !a.Factorize(covariance(w)) || !b.Factorize(covariance(truth)) {
		return 0, 0, errors.New("a covariance is not positive definite")
	}
	var ratio mat.Dense
	var shift mat.VecDense
	if err := errors.Join(a.SolveTo(&ratio, covariance(truth)), a.SolveVecTo(&shift, bias)); err != nil {
		return 0, 0, err
	}
	lost = (a.LogDet() - b.LogDet() + mat.Trace(&ratio) - 12 + mat.Dot(bias, &shift)) / 2
	rows := func(w *mat.Dense) *mat.Dense {
		var qr mat.QR
		qr.Factorize(w.T())
		var q mat.Dense
		qr.QTo(&q)
		return mat.DenseCopyOf(q.Slice(0, 12, 0, 3))
	}
	var overlap mat.Dense
	overlap.Mul(rows(w).T(), rows(truth))
	var svd mat.SVD
	if !svd.Factorize(&overlap, mat.SVDNone) {
		return 0, 0, errors.New("no singular values")
	}
	return lost, math.Acos(min(svd.Values(nil)[2], 1)) * 180 / math.Pi, nil
}

// learnCodes learns discs from three codes.
func (e Env) learnCodes(ctx context.Context, what, arm string, b blobs, steps int, hidden float64, use func(*abp.System) error) error {
	c, err := abp.For("pictures-16", []int{1, 16, 16}, 0)
	if err != nil {
		return err
	}
	spec, err := c.Network()
	if err != nil {
		return err
	}
	spec.Codes = 3
	c.Spec, c.Steps, c.Data.Hidden = &spec, steps, hidden
	if arm == Flipped {
		c.Steps, c.Sabotage = steps/5, abp.Freeze
	}
	g, err := e.generator(ctx, spec, []int{1, 16, 16}, c.Sigma)
	if err != nil {
		return err
	}
	defer g.Close()
	s, err := abp.New(c, g, b.train.Head(1000), e.Seed)
	if err != nil {
		return err
	}
	s.Held = b.held
	ended, err := e.learn(ctx, what, arm, s, c.Steps, c.Guard)
	if err != nil || ended != nil {
		return errors.Join(err, ended)
	}
	return use(s)
}

// codesBlobs: discs have three factors; a generator of three codes must tell more
// of new ones than three linear components. Without inference learning sees codes
// that have nothing to do with the discs.
func codesBlobs(ctx context.Context, e Env, it *Item) error {
	b, err := e.blobs(ctx)
	if err != nil {
		return err
	}
	for _, arm := range []string{Works, Flipped} {
		err := e.learnCodes(ctx, "blobs", arm, b, 1500, 0, func(s *abp.System) error {
			m, err := s.Evaluate(ctx)
			if err != nil {
				return err
			}
			mse, remark := m["held_out/mse"], fmt.Sprintf("error %.4g, of components %.4g, of the mean image %.4g", m["held_out/mse"], m["held_out/pca_mse"], b.variance)
			if arm == Flipped {
				it.Check(arm, "the same", mse/m["held_out/pca_mse"], AtLeast(0.5), remark)
				return nil
			}
			it.Check(arm, "held-out error after 200 cold steps, share of three principal components'", mse/m["held_out/pca_mse"], AtMost(0.5), remark)
			x, y, err := s.Reconstruct(ctx)
			if err != nil {
				return err
			}
			img, err := record.Strip(2, 0, b.row(x), b.row(y))
			return e.show("abp-blobs", img, err)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// row is up to sixteen pictures.
func (b blobs) row(x []float32) record.Images {
	n := min(16, len(x)/b.held.Dim())
	return training.Images(b.held, x[:n*b.held.Dim()])
}

func codesIncomplete(ctx context.Context, e Env, it *Item) error {
	b, err := e.blobs(ctx)
	if err != nil {
		return err
	}
	for _, arm := range []string{Works, Flipped} {
		err := e.learnCodes(ctx, "incomplete", arm, b, 1000, 0.5, func(s *abp.System) error {
			m, err := s.Evaluate(ctx)
			if err != nil {
				return err
			}
			share := m["hidden/mse"] / m["hidden/mean_mse"]
			remark := fmt.Sprintf("error %.4g, of the mean of what is visible %.4g", m["hidden/mse"], m["hidden/mean_mse"])
			if arm == Flipped {
				it.Check(arm, "error of hidden pixels, share of the mean image's", share, AtLeast(0.9), remark)
				return nil
			}
			it.Check(arm, "error of hidden pixels, share of the mean image's", share, AtMost(0.5), remark)
			x, mask, y, err := s.Recover(ctx, 16)
			if err != nil {
				return err
			}
			seen := append([]float32(nil), x...)
			for i, v := range mask {
				seen[i] *= v
			}
			img, err := record.Strip(2, 0, b.row(seen), b.row(y), b.row(x))
			return e.show("abp-incomplete", img, err)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
