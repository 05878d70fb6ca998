package latentebm

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/ais"
	"ebmrun/training/sampler"
)

// A Model is what is learned: an energy-based prior of codes and a generator
// whose Posterior is under that prior. It can do everything but learn.
type Model struct {
	Config    Config
	Prior     training.Energy
	Generator training.Generator
	Dim       int // values of one example

	fused *sampler.Fused
}

var (
	_ training.Drawer        = (*Model)(nil)
	_ training.Reconstructor = (*Model)(nil)
	_ training.Interpolator  = (*Model)(nil)
	_ training.Divider       = (*Model)(nil)
)

// begin draws where chains of codes begin, from p0 = N(0, σ0²I).
func (m *Model) begin(noise sampler.Noise, z []float32, ids []uint64, step uint64) {
	noise.Normals(z, ids, step)
	for i := range z {
		z[i] *= float32(m.Config.Reference.Sigma)
	}
}

// fromPrior takes the steps of learning on the prior.
func (m *Model) fromPrior(ctx context.Context, noise sampler.Noise, st *sampler.State) (sampler.Info, error) {
	l := m.Config.Prior
	if f, ok := m.Prior.(training.Fuser); ok && l.Fused {
		if m.fused == nil {
			m.fused = &sampler.Fused{Chain: f.Chain(l.Kernel()), K: l.Steps}
		}
		st.Invalidate()
		return m.fused.Run(ctx, noise, st, l.Steps, nil)
	}
	return sampler.Run(ctx, noise, l.Kernel(), m.Prior, st, l.Steps, nil)
}

// fromPosterior takes Langevin steps on the codes of examples.
func (m *Model) fromPosterior(ctx context.Context, noise sampler.Noise, st *sampler.State, x, mask []float32, steps int) (sampler.Info, error) {
	return sampler.Run(ctx, noise, m.Config.Posterior.Kernel(), m.Generator.Posterior(x, mask), st, steps, nil)
}

// PriorCodes draws n codes: the learned prior's, or with learned false those of p0.
func (m *Model) PriorCodes(ctx context.Context, n int, seed uint64, learned bool) ([]float32, error) {
	d, noise := m.Generator.Codes(), sampler.Noise{Seed: seed}.Fork(drawn)
	z := make([]float32, n*d)
	return z, training.Blocks(n, m.Config.Batch, func(from, to int) error {
		block, ids := z[from*d:to*d], sampler.Chains(uint64(from), to-from)
		m.begin(noise, block, ids, math.MaxUint64)
		if !learned {
			return nil
		}
		st, err := sampler.NewState(block, d, ids)
		if err != nil {
			return err
		}
		_, err = m.fromPrior(ctx, noise, st)
		return err
	})
}

// Decode writes out what the generator makes of codes.
func (m *Model) Decode(ctx context.Context, z []float32) ([]float32, error) {
	return training.FromCodes{Generator: m.Generator, Dim: m.Dim}.Decode(ctx, z)
}

// Draw implements [training.Drawer]: g of codes from the learned prior.
func (m *Model) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	z, err := m.PriorCodes(ctx, n, seed, true)
	if err != nil {
		return nil, err
	}
	return m.Decode(ctx, z)
}

// Encode implements [training.Encoder]: a code of each example, from chains that
// begin at p0 and take the setting infer of steps on the posterior; of several
// restarts the likeliest code.
func (m *Model) Encode(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	if len(x)%m.Dim != 0 || mask != nil && len(mask) != len(x) {
		return nil, fmt.Errorf("latent-ebm: wanted examples of %d values and a mask as long, got %d and %d", m.Dim, len(x), len(mask))
	}
	if mask == nil {
		mask = training.Ones(len(x))
	}
	d, n, noise := m.Generator.Codes(), len(x)/m.Dim, sampler.Noise{Seed: seed}.Fork(explained)
	z := make([]float32, n*d)
	return z, training.Blocks(n, m.Config.Batch, func(from, to int) error {
		block, least := make([]float32, (to-from)*d), make([]float32, to-from)
		for restart := range max(m.Config.Restarts, 1) {
			noise, ids := noise, sampler.Chains(uint64(from), to-from)
			if restart > 0 {
				noise = noise.Fork(uint64(restart))
			}
			m.begin(noise, block, ids, math.MaxUint64)
			st, err := sampler.NewState(block, d, ids)
			if err != nil {
				return err
			}
			part, known := x[from*m.Dim:to*m.Dim], mask[from*m.Dim:to*m.Dim]
			if _, err = m.fromPosterior(ctx, noise, st, part, known, m.Config.Infer); err == nil {
				err = st.Evaluate(m.Generator.Posterior(part, known)) // of where the last step led
			}
			if err != nil {
				return err
			}
			for i, u := range st.U {
				if restart == 0 || u < least[i] {
					least[i] = u
					copy(z[(from+i)*d:(from+i+1)*d], st.X[i*d:])
				}
			}
		}
		return nil
	})
}

// Reconstruct implements [training.Reconstructor].
func (m *Model) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	z, err := m.Encode(ctx, x, mask, seed)
	if err != nil {
		return nil, err
	}
	return m.Decode(ctx, z)
}

// Interpolate implements [training.Interpolator]: between codes, in equal angles.
func (m *Model) Interpolate(ctx context.Context, from, to uint64, frames int) ([]float32, error) {
	a, err := m.PriorCodes(ctx, 1, from, true)
	if err != nil {
		return nil, err
	}
	b, err := m.PriorCodes(ctx, 1, to, true)
	if err != nil {
		return nil, err
	}
	z, err := training.Between(a, b, frames)
	if err != nil {
		return nil, err
	}
	return m.Decode(ctx, z)
}

// Score implements [training.Scorer]: the joint log density of an example and a
// code from its posterior, which tells what is like the data from what is not
// without any normalising constant.
func (m *Model) Score(ctx context.Context, x []float32, seed uint64) (string, []float64, error) {
	p, err := m.Parts(ctx, x, seed)
	if err != nil {
		return "", nil, err
	}
	return p[0].Name, p[0].Values, nil
}

// Parts implements [training.Divider]: the residual's density and the prior's, at the
// same code.
func (m *Model) Parts(ctx context.Context, x []float32, seed uint64) ([]training.Part, error) {
	z, err := m.Encode(ctx, x, nil, seed)
	if err != nil {
		return nil, err
	}
	d, n := m.Generator.Codes(), len(x)/m.Dim
	joint, residual, prior := make([]float64, n), make([]float64, n), make([]float64, n)
	return []training.Part{
			{Name: "log p(x, z) at a posterior code, nats, up to a constant", Values: joint},
			{Name: training.ResidualPart, Values: residual},
			{Name: "log p(z), nats, up to a constant", Values: prior},
		}, training.Blocks(n, m.Config.Batch, func(from, to int) error {
			both, u, slope, part := make([]float32, to-from), make([]float32, to-from), make([]float32, (to-from)*d), x[from*m.Dim:to*m.Dim]
			if err := m.Generator.Posterior(part, training.Ones(len(part))).EnergyGrad(z[from*d:to*d], both, slope); err != nil {
				return err
			}
			if err := m.Prior.EnergyGrad(z[from*d:to*d], u, slope); err != nil {
				return err
			}
			for i, v := range u {
				joint[from+i], prior[from+i] = -float64(both[i]), -float64(v)
				residual[from+i] = joint[from+i] - prior[from+i]
			}
			return nil
		})
}

// LogZ estimates the logarithm of the prior's normalising constant ∫exp(−U(z))dz
// from so many chains, with its standard error.
func (m *Model) LogZ(ctx context.Context, chains int, seed uint64, o ais.Options) (logZ, se float64, err error) {
	w, err := ais.Weights(ctx, sampler.Noise{Seed: seed}.Fork(annealed), m.Prior, m.Generator.Codes(), sampler.Chains(0, chains), m.annealing(o))
	if err != nil {
		return 0, 0, err
	}
	logZ, se, _ = ais.Pool(w)
	return logZ, se, nil
}

// LogLikelihood estimates log p(x_i) in nats from so many chains an example, given
// the logarithm of the prior's constant, with standard errors that leave out the
// latter's: ∫exp(−U(z))·N(x; g(z), σ²I)dz over that constant.
func (m *Model) LogLikelihood(ctx context.Context, x []float32, logZ float64, chains int, seed uint64, o ais.Options) (logp, se []float64, err error) {
	n := len(x) / m.Dim
	logp, se = make([]float64, n), make([]float64, n)
	noise := sampler.Noise{Seed: seed}.Fork(annealed)
	constant := logZ + float64(m.Dim)/2*math.Log(2*math.Pi*m.Config.Sigma*m.Config.Sigma)
	return logp, se, training.Blocks(n, max(1, m.Config.Batch/chains), func(from, to int) error {
		var target []float32
		for i := from; i < to; i++ {
			for range chains {
				target = append(target, x[i*m.Dim:(i+1)*m.Dim]...)
			}
		}
		w, err := ais.Weights(ctx, noise, m.Generator.Posterior(target, training.Ones(len(target))), m.Generator.Codes(),
			sampler.Chains(uint64(from*chains), (to-from)*chains), m.annealing(o))
		if err != nil {
			return err
		}
		for i := range to - from {
			mean, e, _ := ais.Pool(w[i*chains : (i+1)*chains])
			logp[from+i], se[from+i] = mean-constant, e
		}
		return nil
	})
}

// annealing begins at the reference density.
func (m *Model) annealing(o ais.Options) ais.Options {
	if o.Sigma == 0 {
		o.Sigma = m.Config.Reference.Sigma
	}
	return o
}
