package coopflow_test

import (
	"testing"

	"ebmrun/training"
	"ebmrun/training/coopflow"
	"ebmrun/training/systemtest"
)

// TestDiverges: a run that goes wrong says where.
func TestDiverges(t *testing.T) {
	of := func(change func(c *coopflow.Config)) training.System {
		return system(t, config(change), newQuadratic(1, 0), newAffine(), numbers(t, 500))
	}
	systemtest.Diverges(t, map[string]training.System{
		"chains of the revision": of(func(c *coopflow.Config) { c.Langevin.Step, c.Langevin.Steps = 1e4, 40 }),
		"energy":                 of(func(c *coopflow.Config) { c.Optim.LR, c.Langevin.Step = 100, 1e-3 }),
		"flow":                   of(func(c *coopflow.Config) { c.Teach.LR = 1e30 }),
	})
}
