package maxent

import (
	"fmt"

	"ebmrun/training"
	"ebmrun/training/check"
	"ebmrun/training/sampler"
)

// Sabotage.
const (
	Flip   = "flip"   // the sign of the update
	Freeze = "freeze" // no updates
)

// Config are the settings of learning by maximum likelihood with persistent chains.
type Config struct {
	Steps  int `yaml:"steps"`  // learning iterations
	Chains int `yaml:"chains"` // persistent chains, all moved in every iteration
	Batch  int `yaml:"batch"`  // examples at a time where the data's statistics are taken [64]

	HMC struct {
		Step      float64 `yaml:"step"`      // leapfrog step size
		Leapfrogs int     `yaml:"leapfrogs"` // per call; 0 samples by Langevin dynamics instead
		Mass      float64 `yaml:"mass"`      // variance of the momenta [1]
		Calls     int     `yaml:"calls"`     // trajectories, each with its test, per iteration
	} `yaml:"hmc"`
	Langevin training.Langevin `yaml:"langevin"` // in place of HMC
	Draw     int               `yaml:"draw"`     // iterations' worth of sampling from noise to an example that is drawn afterwards [30]
	Optim    training.Optim    `yaml:"optim"`
	Guard    training.Guard    `yaml:"guard"`

	// Sabotage spoils learning on purpose: "flip" climbs where it should descend, "freeze" never updates.
	Sabotage string `yaml:"sabotage,omitempty"`
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	chosen := c.HMC.Leapfrogs > 0
	return check.First(
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("chains", c.Chains, 1),
		check.AtLeast("batch", c.Batch, 0),
		check.AtLeast("draw", c.Draw, 0),
		check.AtLeast("hmc.leapfrogs", c.HMC.Leapfrogs, 0),
		check.When(chosen, check.Positive("hmc.step", c.HMC.Step)),
		check.When(chosen, check.AtLeast("hmc.mass", c.HMC.Mass, 0)),
		check.When(chosen, check.AtLeast("hmc.calls", c.HMC.Calls, 1)),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze),
		check.When(!chosen, c.Langevin.Check()),
	)
}

// Kernel is the sampler, and the steps of it that an iteration takes.
func (c *Config) Kernel() (k sampler.Kernel, steps int) {
	if c.HMC.Leapfrogs == 0 {
		return c.Langevin.Kernel(), c.Langevin.Steps
	}
	return sampler.HMC{Size: float32(c.HMC.Step), Leapfrogs: c.HMC.Leapfrogs, Mass: float32(c.HMC.Mass)}, c.HMC.Calls
}

// String says what the sampler is.
func (c *Config) String() string {
	if c.HMC.Leapfrogs == 0 {
		return "Langevin: " + c.Langevin.String()
	}
	return fmt.Sprintf("HMC: %d calls of %d leapfrogs of size %g, momenta of variance %g", c.HMC.Calls, c.HMC.Leapfrogs, c.HMC.Step, orDefault(c.HMC.Mass, 1))
}

func orDefault[T int | float64](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}
