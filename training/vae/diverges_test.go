package vae_test

import (
	"context"
	"math"
	"testing"

	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/systemtest"
	"ebmrun/training/vae"
)

// bad is a network that gives an error and a divergence of its own for the first example.
type bad struct {
	training.Autoencoder
	err, divergence float64
}

func (b bad) LearnBound(ctx context.Context, x, e, w []float32, kl float32, errs, divergence []float32) error {
	err := b.Autoencoder.LearnBound(ctx, x, e, w, kl, errs, divergence)
	errs[0], divergence[0] = float32(b.err), float32(b.divergence)
	return err
}

// TestDiverges: a run that goes wrong says where. Too high a rate spoils the encoder first;
// the slopes of what is unsound are not looked at.
func TestDiverges(t *testing.T) {
	of := func(change func(c *vae.Config)) *vae.System {
		return system(t, ref.New(), config(change), factors(t, 300, 1))
	}
	giving := func(err, divergence float64) *vae.System {
		s := of(nil)
		s.Net = bad{s.Net, err, divergence}
		return s
	}
	for _, wrong := range []map[string]training.System{
		{"encoder": of(func(c *vae.Config) { c.Optim.LR = 1e30 })},
		{"encoder": giving(1, math.Inf(1)), "generator": giving(math.NaN(), 1)},
		{"encoder": giving(math.NaN(), math.NaN())},
	} {
		systemtest.Diverges(t, wrong)
	}
}
