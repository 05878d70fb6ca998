package latentebm_test

import (
	"testing"

	"ebmrun/training"
	"ebmrun/training/latentebm"
	"ebmrun/training/systemtest"
)

// TestDiverges: a run that goes wrong says where.
func TestDiverges(t *testing.T) {
	of := func(change func(c *latentebm.Config)) training.System {
		prior := newTilt(1, 0, 0)
		return system(t, config(change), prior, newLinear(prior, 1, 0, 0, 1), normal(t, 500, 1, 1, -1))
	}
	systemtest.Diverges(t, map[string]training.System{
		"chains of the prior": of(func(c *latentebm.Config) { c.Prior.Step = 1e4 }),
		"chains of codes":     of(func(c *latentebm.Config) { c.Posterior.Step, c.Posterior.Steps = 1e4, 60 }),
		"energy":              of(func(c *latentebm.Config) { c.Optim.LR = 1e3 }),
	})
}
