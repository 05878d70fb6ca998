package accept

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/coopnets"
	"ebmrun/training/data"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// The one-dimensional case: data N(1, 0.49), an energy x²/(2·2²) − θ₁x − θ₂x², and a
// generator αz + μ with a residual of deviation 0.3.
const (
	gaussMean, gaussVariance = 1, 0.49
	gaussPrior               = 1.0 / 4 // precision of the reference density
	gaussResidual            = 0.3
)

func param(name string, w ...float32) optim.Param {
	return optim.Param{Name: name, W: w, G: make([]float32, len(w))}
}

// parabola is the energy.
type parabola struct{ theta optim.Param }

func (q parabola) Params() []optim.Param { return []optim.Param{q.theta} }
func (parabola) Refresh()                {}

// precision is U″.
func (q parabola) precision() float64 { return gaussPrior - 2*float64(q.theta.W[1]) }

func (q parabola) EnergyGrad(x, u, g []float32) error {
	a, b := q.theta.W[0], q.theta.W[1]
	for i, v := range x {
		u[i], g[i] = gaussPrior*v*v/2-a*v-b*v*v, gaussPrior*v-a-2*b*v
	}
	return nil
}

func (q parabola) Learn(_ context.Context, x, w []float32, l2 float32, score []float32) error {
	clear(q.theta.G)
	for i, v := range x {
		score[i] = q.theta.W[0]*v + q.theta.W[1]*v*v
		pull := w[i] + l2*score[i]
		q.theta.G[0] += pull * v
		q.theta.G[1] += pull * v * v
	}
	return nil
}

// affine is the generator.
type affine struct{ w optim.Param }

func (affine) Codes() int              { return 1 }
func (a affine) Params() []optim.Param { return []optim.Param{a.w} }
func (a affine) at(z float32) float32  { return a.w.W[0]*z + a.w.W[1] }

func (a affine) Forward(_ context.Context, z, x []float32) error {
	for i, v := range z {
		x[i] = a.at(v)
	}
	return nil
}

type fieldFunc func(x, u, g []float32) error

func (f fieldFunc) EnergyGrad(x, u, g []float32) error { return f(x, u, g) }

func (a affine) Posterior(target, mask []float32) sampler.Field {
	const p = 1 / (gaussResidual * gaussResidual)
	return fieldFunc(func(z, u, g []float32) error {
		for i, v := range z {
			r := mask[i] * (target[i] - a.at(v))
			u[i], g[i] = v*v/2+p*r*r/2, v-p*r*a.w.W[0]
		}
		return nil
	})
}

func (a affine) Learn(_ context.Context, z, target, mask, w, e []float32) error {
	clear(a.w.G)
	for i, v := range z {
		r := mask[i] * (target[i] - a.at(v))
		e[i] = r * r
		a.w.G[0] -= 2 * w[i] * r * v
		a.w.G[1] -= 2 * w[i] * r
	}
	return nil
}

// coopGaussian: inferred codes keep the spread that the noise of the revision
// gives, so the rigorous variant learns the data's moments and a curved energy; the
// jump-start variant regresses that spread away, until the energy is flat.
func coopGaussian(ctx context.Context, e Env, it *Item) error {
	const steps, averaged = 2400, 200
	set := &data.Set{Name: "gaussian", N: 20000, C: 1, H: 1, W: 1, Floats: make([]float32, 20000), Gain: 1}
	rng := e.random(41)
	for i := range set.Floats {
		set.Floats[i] = float32(gaussMean + math.Sqrt(gaussVariance)*rng.NormFloat64())
	}
	rigorous := math.NaN()
	for _, arm := range []string{Works, "jump-start", Flipped, frozenStudent} {
		chain := training.Langevin{Steps: 10, Step: 0.15, Noise: 1}
		c := coopnets.Config{Steps: steps, Batch: 100, Sigma: gaussResidual, Langevin: chain, Inference: chain,
			Optim: training.Optim{Name: "sgd", LR: 0.05}, Teach: training.Optim{Name: "sgd", LR: 0.05}}
		c.Reference.Sigma = 1 / math.Sqrt(gaussPrior)
		switch arm {
		case "jump-start":
			c.Inference = training.Langevin{}
		case Flipped:
			c.Sabotage = coopnets.Flip
		case frozenStudent:
			c.Sabotage = coopnets.Freeze
		}
		q, g := parabola{param("theta", 0, 0)}, affine{param("w", 0.3, 0)}
		s, err := coopnets.New(c, q, g, set, e.Seed)
		if err != nil {
			return err
		}
		var mean, variance, precision float64
		w := watch{s, func(m training.Metrics) {
			if s.Iteration() > steps-averaged {
				mean += m["sample_mean"] / averaged
				variance += m[training.SampleStd] * m[training.SampleStd] / averaged
				precision += q.precision() / averaged
			}
		}}
		ended, err := e.learn(ctx, "gaussian", arm, w, steps, c.Guard)
		if err != nil {
			return err
		}
		remark := fmt.Sprintf("mean %.3f, variance %.3f, precision %.3f", mean, variance, precision)
		if ended != nil {
			remark = endedBy(ended)
		}
		switch arm {
		case Works:
			rigorous = precision
			it.Check(arm, "mean of revised drafts, 1 expected", mean, Within(0.9, 1.1), remark)
			it.Check(arm, "their variance, 0.49 expected", variance, Within(0.4, 0.6), "")
			it.Check(arm, "precision of the energy", precision, AtLeast(0.5), "")
		case "jump-start":
			it.Check(arm, "precision of the energy, less that of the rigorous variant", precision-rigorous, AtMost(0), remark)
		default:
			met := 0.0
			if ended == nil && math.Abs(mean-1) <= 0.1 && variance >= 0.4 && variance <= 0.6 && precision > 0.5 {
				met = 1
			}
			it.Check(arm, "meets the demands on W", met, AtMost(0), remark)
		}
	}
	return nil
}

// watch tells of every iteration.
type watch struct {
	*coopnets.System
	each func(training.Metrics)
}

func (w watch) Step(ctx context.Context) (training.Metrics, error) {
	m, err := w.System.Step(ctx)
	if err == nil {
		w.each(m)
	}
	return m, err
}
