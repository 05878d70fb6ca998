package vae

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/ais"
	"ebmrun/training/sampler"
)

// A Model is an encoder and a generator. It can do everything but learn.
type Model struct {
	training.FromCodes
	Net    training.Autoencoder
	Sigma  float64 // deviation of the residual x − g(z)
	Draws  int     // codes that importance-weigh the likelihood of an example
	Rounds int     // of encoding and decoding that fill in hidden entries
}

// Of is the model of a network for examples of dim values.
func Of(net training.Autoencoder, dim int, sigma float64, draws, rounds int) Model {
	return Model{FromCodes: training.FromCodes{Generator: net, Dim: dim}, Net: net, Sigma: sigma, Draws: draws, Rounds: rounds}
}

var (
	_ training.Drawer        = (*Model)(nil)
	_ training.Reconstructor = (*Model)(nil)
	_ training.Interpolator  = (*Model)(nil)
	_ training.Divider       = (*Model)(nil)
	_ training.Encoder       = (*Model)(nil)
	_ training.Decoder       = (*Model)(nil)
)

// Sound blames a network whose numbers went bad: a divergence is the encoder's alone,
// errors where the divergence is sound are the generator's.
func Sound(errs, divergence []float32, cure string) error {
	if err := training.Finite(divergence); err != nil {
		return training.Blame("encoder", cure, err)
	}
	return training.Blame("generator", cure, training.Finite(errs))
}

// posterior is the mean and the log variance of q(z | x).
func (m *Model) posterior(ctx context.Context, x []float32) (mean, logvar []float32, err error) {
	if len(x)%m.Dim != 0 {
		return nil, nil, fmt.Errorf("vae: wanted examples of %d values, got %d", m.Dim, len(x))
	}
	d, n := m.Codes(), len(x)/m.Dim
	mean, logvar = make([]float32, n*d), make([]float32, n*d)
	return mean, logvar, training.Blocks(n, training.Block, func(from, to int) error {
		return m.Net.Encode(ctx, x[from*m.Dim:to*m.Dim], mean[from*d:to*d], logvar[from*d:to*d])
	})
}

// Encode implements [training.Encoder]: the encoder's mean. Hidden entries are
// filled in first, from 0 on, by rounds in which they become what the generator
// makes of a code that the encoder draws (Rezende, Mohamed, Wierstra, 2014,
// section F).
func (m *Model) Encode(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	if mask == nil {
		mean, _, err := m.posterior(ctx, x)
		return mean, err
	}
	if len(mask) != len(x) {
		return nil, fmt.Errorf("vae: wanted a mask of %d values, got %d", len(x), len(mask))
	}
	filled := make([]float32, len(x))
	paste := func(y []float32) {
		for i, k := range mask {
			filled[i] = 0
			if k != 0 {
				filled[i] = x[i]
			} else if y != nil {
				filled[i] = y[i]
			}
		}
	}
	paste(nil)
	noise := sampler.Noise{Seed: seed}.Fork(filling)
	for round := range m.Rounds {
		z, logvar, err := m.posterior(ctx, filled)
		if err != nil {
			return nil, err
		}
		e := make([]float32, len(z))
		noise.Normals(e, sampler.Chains(0, len(x)/m.Dim), uint64(round))
		reparameterise(z, logvar, e)
		y, err := m.Decode(ctx, z)
		if err != nil {
			return nil, err
		}
		paste(y)
	}
	mean, _, err := m.posterior(ctx, filled)
	return mean, err
}

// reparameterise turns means into draws.
func reparameterise(mean, logvar, noise []float32) {
	for i := range mean {
		mean[i] += float32(math.Exp(float64(logvar[i])/2)) * noise[i]
	}
}

// Reconstruct implements [training.Reconstructor].
func (m *Model) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	z, err := m.Encode(ctx, x, mask, seed)
	if err != nil {
		return nil, err
	}
	return m.Decode(ctx, z)
}

// Score implements [training.Scorer]: the importance-weighted bound on log p(x)
// (Burda, Grosse, Salakhutdinov, 2016), which rises to it with the number of draws.
func (m *Model) Score(ctx context.Context, x []float32, seed uint64) (string, []float64, error) {
	name := fmt.Sprintf("lower bound on log p(x) from %d draws, nats", m.Draws)
	mean, logvar, err := m.posterior(ctx, x)
	if err != nil {
		return "", nil, err
	}
	d, n := m.Codes(), len(x)/m.Dim
	noise := sampler.Noise{Seed: seed}.Fork(weighing)
	logw := make([][]float64, n)
	z, e := make([]float32, n*d), make([]float32, n*d)
	for k := range m.Draws {
		noise.Normals(e, sampler.Chains(0, n), uint64(k))
		copy(z, mean)
		reparameterise(z, logvar, e)
		y, err := m.Decode(ctx, z)
		if err != nil {
			return "", nil, err
		}
		for i := range n {
			logw[i] = append(logw[i], m.weight(x[i*m.Dim:(i+1)*m.Dim], y[i*m.Dim:(i+1)*m.Dim], z[i*d:(i+1)*d], e[i*d:(i+1)*d], logvar[i*d:(i+1)*d]))
		}
	}
	out := make([]float64, n)
	for i, w := range logw {
		out[i], _, _ = ais.Pool(w)
	}
	return name, out, nil
}

// Parts implements [training.Divider]: the residual's density at one draw, and the
// divergence in closed form, of which the evidence lower bound is made.
func (m *Model) Parts(ctx context.Context, x []float32, seed uint64) ([]training.Part, error) {
	name, score, err := m.Score(ctx, x, seed)
	if err != nil {
		return nil, err
	}
	z, logvar, err := m.posterior(ctx, x)
	if err != nil {
		return nil, err
	}
	d, n := m.Codes(), len(x)/m.Dim
	residual, divergence := make([]float64, n), make([]float64, n)
	for i := range n * d {
		mean, v := float64(z[i]), float64(logvar[i])
		divergence[i/d] += (1 + v - mean*mean - math.Exp(v)) / 2
	}
	e := make([]float32, n*d)
	sampler.Noise{Seed: seed}.Fork(weighing).Normals(e, sampler.Chains(0, n), 0)
	reparameterise(z, logvar, e)
	y, err := m.Decode(ctx, z)
	if err != nil {
		return nil, err
	}
	for i, v := range x {
		r := float64(v - y[i])
		residual[i/m.Dim] -= r * r / (2 * m.Sigma * m.Sigma)
	}
	return []training.Part{
		{Name: name, Values: score},
		{Name: training.ResidualPart, Values: residual},
		{Name: "−KL(q(z | x) ‖ p(z)), nats", Values: divergence},
	}, nil
}

// weight is log p(x | z) + log p(z) − log q(z | x).
func (m *Model) weight(x, y, z, e, logvar []float32) float64 {
	sum := -float64(m.Dim) / 2 * math.Log(2*math.Pi*m.Sigma*m.Sigma)
	for i, v := range x {
		r := float64(v - y[i])
		sum -= r * r / (2 * m.Sigma * m.Sigma)
	}
	for k, v := range z {
		sum += (float64(e[k])*float64(e[k]) + float64(logvar[k]) - float64(v)*float64(v)) / 2
	}
	return sum
}

// Bound is the evidence lower bound in nats, for a mean squared error per value and
// a divergence.
func Bound(mse, kl, sigma float64, dim int) float64 {
	return -float64(dim)/2*(math.Log(2*math.Pi*sigma*sigma)+mse/(sigma*sigma)) - kl
}
