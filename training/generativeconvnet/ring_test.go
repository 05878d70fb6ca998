package generativeconvnet_test

import (
	"context"
	"errors"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/bind/bindtest"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/generativeconvnet"
)

func onnxRuntime(t testing.TB) runtime.Engine {
	t.Helper()
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	return e
}

// network binds a new network with one thread.
func network(t testing.TB, c generativeconvnet.Config, e runtime.Engine, dims ...int) *bind.Energy {
	t.Helper()
	spec, err := c.Network()
	if err != nil {
		t.Fatal(err)
	}
	return bindtest.On(t, e, bind.Options{Spectral: c.Spectral})(energy.Build(spec, dims, c.Reference.Sigma, 1))
}

func rings(t testing.TB, part string, n int) *data.Set {
	t.Helper()
	set, err := data.Load(context.Background(), "synthetic/rings", data.Options{Seed: 1, Part: part, Limit: n})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestRings learns eight Gaussians on a circle. The working arm must hold all
// modes and come ten times closer to the data than the arm that never updates;
// the arm with the sign of the update flipped must fail.
func TestRings(t *testing.T) {
	train, held := rings(t, "train", 4000), rings(t, "test", 2000)
	centres, _, _ := data.Modes("synthetic/rings")
	engine := onnxRuntime(t)

	arm := func(wrap func(training.Energy) training.Energy, steps int) (distance float64, shares []float64, err error) {
		c := generativeconvnet.Config{
			Spec:  &energy.Spec{Layers: []energy.Layer{{Filters: 64}, {Filters: 64}, {Filters: 1}}, Activation: "swish"},
			Steps: steps, Batch: 100,
			Langevin: training.Langevin{Steps: 20, Step: 0.1, Noise: 1, Fused: true},
			Chains:   generativeconvnet.Chains{Init: generativeconvnet.Persistent, Start: generativeconvnet.Gaussian, Buffer: 2000, Restart: 0.02},
			Optim:    training.Optim{LR: 3e-3, Betas: [2]float64{0.5, 0.999}, Clip: 10, Decay: 0.05, Over: steps},
		}
		c.Reference.Sigma = 1
		s, err := generativeconvnet.New(c, wrap(network(t, c, engine, 2)), train, 1)
		if err != nil {
			return 0, nil, err
		}
		if err := training.Run(t.Context(), s, training.Options{Steps: steps}); err != nil {
			return 0, nil, err
		}
		x, err := s.Samples(t.Context(), 2000)
		if err != nil {
			return 0, nil, err
		}
		if distance, err = diag.EnergyDistance(held.X(), x, 2); err != nil {
			return 0, nil, err
		}
		shares, _, err = diag.Modes(x, centres, 0.45)
		return distance, shares, err
	}
	passes := func(distance float64, shares []float64, untrained float64) bool {
		for _, s := range shares {
			if s < 0.06 || s > 0.19 {
				return false
			}
		}
		return distance <= 0.1*untrained
	}

	const steps = 1200
	untrained, shares, err := arm(freeze, 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("untrained: energy distance %.4f, shares %.3f", untrained, shares)
	d, shares, err := arm(func(e training.Energy) training.Energy { return e }, steps)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("trained: energy distance %.4f, shares %.3f", d, shares)
	if !passes(d, shares, untrained) {
		t.Errorf("energy distance %g of %g untrained, shares %.3f: wanted at most a tenth, and 0.06 … 0.19 each", d, untrained, shares)
	}
	d, shares, err = arm(flip, steps/5)
	t.Logf("flipped: energy distance %.4f, shares %.3f, %v", d, shares, err)
	if err != nil && !errors.Is(err, training.ErrGuard) {
		t.Fatal(err)
	}
	if err == nil && passes(d, shares, untrained) {
		t.Errorf("the flipped arm passes: energy distance %g, shares %.3f", d, shares)
	}
}
