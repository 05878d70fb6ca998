package vae_test

import (
	"testing"

	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/systemtest"
	"ebmrun/training/vae"
)

// TestDiverges: a run that goes wrong says where.
func TestDiverges(t *testing.T) {
	systemtest.Diverges(t, map[string]training.System{
		"encoder or the generator": system(t, ref.New(), config(func(c *vae.Config) { c.Optim.LR = 1e30 }), factors(t, 300, 1)),
	})
}
