package ais_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"ebmrun/training/ais"
	"ebmrun/training/sampler"
)

// A field is an energy in Go.
type field func(z, u, g []float32) error

func (f field) EnergyGrad(z, u, g []float32) error { return f(z, u, g) }

// gaussian is U = c + Σ p_k(z_k − m_k)²/2, whose logarithm of ∫exp(−U) is known.
func gaussian(c float64, m, p []float64) (f field, logZ float64) {
	logZ = -c
	for _, v := range p {
		logZ += math.Log(2*math.Pi/v) / 2
	}
	return func(z, u, g []float32) error {
		for i := range u {
			sum := c
			for k := range m {
				d := float64(z[i*len(m)+k]) - m[k]
				sum += p[k] * d * d / 2
				g[i*len(m)+k] = float32(p[k] * d)
			}
			u[i] = float32(sum)
		}
		return nil
	}, logZ
}

// TestGaussian: the constants of Gaussians that are shifted, wide and sharp, and of
// a mixture of two that a single path must split between.
func TestGaussian(t *testing.T) {
	const n = 1024
	measure := func(f sampler.Field, dim int, o ais.Options) (mean, se, effective float64) {
		logw, err := ais.Weights(t.Context(), sampler.Noise{Seed: 1}, f, dim, sampler.Chains(0, n), o)
		if err != nil {
			t.Fatal(err)
		}
		return ais.Pool(logw)
	}
	for what, c := range map[string]struct {
		m, p  []float64
		sigma float64
	}{
		"the start itself": {[]float64{0, 0}, []float64{1, 1}, 1},
		"shifted":          {[]float64{2, -1, 0}, []float64{1, 1, 1}, 1},
		"sharp":            {[]float64{1, -1, 0.5}, []float64{400, 100, 1}, 1},
		"wide start":       {[]float64{1, -1, 0.5}, []float64{40, 10, 1}, 3},
	} {
		f, want := gaussian(3, c.m, c.p)
		mean, se, effective := measure(f, len(c.m), ais.Options{Sigma: c.sigma, Levels: 400})
		t.Logf("%s: %.4f ± %.4f, %.4f expected, %.0f %% of the weights", what, mean, se, want, 100*effective)
		if d := math.Abs(mean - want); d > 0.1 || d > 4*se+1e-3 || effective < 0.3 {
			t.Errorf("%s: log Z is %.4f ± %.4f, wanted %.4f", what, mean, se, want)
		}
	}
	two := field(func(z, u, g []float32) error {
		for i, v := range z {
			a, b := -2*math.Pow(float64(v)-1.5, 2), math.Log(3)-2*math.Pow(float64(v)+1.5, 2)
			most := max(a, b)
			u[i] = -float32(most + math.Log(math.Exp(a-most)+math.Exp(b-most)))
			share := 1 / (1 + math.Exp(b-a))
			g[i] = float32(4 * (float64(v) - 1.5*share + 1.5*(1-share)))
		}
		return nil
	})
	if mean, se, _ := measure(two, 1, ais.Options{}); math.Abs(mean-math.Log(4*math.Sqrt(math.Pi/2))) > 0.05 {
		t.Errorf("two modes: log Z is %.4f ± %.4f, wanted %.4f", mean, se, math.Log(4*math.Sqrt(math.Pi/2)))
	}
	// without annealing the sharp density is missed
	f, want := gaussian(3, []float64{1, -1, 0.5}, []float64{400, 100, 1})
	if mean, _, effective := measure(f, 3, ais.Options{Levels: 1}); math.Abs(mean-want) < 0.1 && effective > 0.3 {
		t.Errorf("plain importance sampling passes: %.4f, %.4f expected", mean, want)
	}
}

func TestPool(t *testing.T) {
	mean, se, effective := ais.Pool([]float64{1000, 1000 + math.Log(3)})
	if math.Abs(mean-1000-math.Log(2)) > 1e-12 || math.Abs(effective-0.8) > 1e-12 || math.Abs(se-math.Sqrt(0.125)) > 1e-12 {
		t.Errorf("got %g ± %g, effective %g", mean-1000, se, effective)
	}
}

func TestErrors(t *testing.T) {
	f, _ := gaussian(0, []float64{0}, []float64{1})
	run := func(ctx context.Context, f sampler.Field, o ais.Options) error {
		_, err := ais.Weights(ctx, sampler.Noise{}, f, 1, sampler.Chains(0, 2), o)
		return err
	}
	if err := run(t.Context(), f, ais.Options{Levels: -1}); err == nil || !strings.Contains(err.Error(), "positive") {
		t.Errorf("negative levels: %v", err)
	}
	broken := errors.New("broken")
	if err := run(t.Context(), field(func(_, _, _ []float32) error { return broken }), ais.Options{}); !errors.Is(err, broken) {
		t.Errorf("a broken field: %v", err)
	}
	nan := field(func(_, u, _ []float32) error { u[0], u[1] = 0, float32(math.NaN()); return nil })
	if err := run(t.Context(), nan, ais.Options{}); err == nil || !strings.Contains(err.Error(), "chain 1") {
		t.Errorf("an energy that is no number: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, f, ais.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled run: %v", err)
	}
}
