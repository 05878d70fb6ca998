package flow_test

import (
	"testing"

	"ebmrun/training"
	"ebmrun/training/flow"
	"ebmrun/training/systemtest"
)

// TestDiverges: a run that goes wrong says where.
func TestDiverges(t *testing.T) {
	systemtest.Diverges(t, map[string]training.System{
		"flow": system(t, config(func(c *flow.Config) { c.Optim.LR = 1e30 }), newAffine(0), numbers(t, 500, 0)),
	})
}
