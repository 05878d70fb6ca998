package coopvaebm_test

import (
	"testing"

	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/coopvaebm"
	"ebmrun/training/systemtest"
)

// TestDiverges: a run that goes wrong says where.
func TestDiverges(t *testing.T) {
	of := func(change func(c *coopvaebm.Config)) training.System {
		return system(t, ref.New(), config(change), gaussian(t, 500))
	}
	systemtest.Diverges(t, map[string]training.System{
		"chains of the revision": of(func(c *coopvaebm.Config) { c.Langevin.Step, c.Langevin.Steps = 1e9, 40 }),
		"energy":                 of(func(c *coopvaebm.Config) { c.Optim.LR, c.Langevin.Step = 20, 1e-3 }),
		"generator":              of(func(c *coopvaebm.Config) { c.Teach.LR = 1e40 }),
	})
}
