package maxent

import (
	"fmt"

	"ebmrun/training"
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
	switch {
	case c.Steps < 1:
		return fmt.Errorf("steps: wanted at least 1, got %d", c.Steps)
	case c.Chains < 1:
		return fmt.Errorf("chains: wanted at least 1, got %d", c.Chains)
	case c.Batch < 0 || c.Draw < 0:
		return fmt.Errorf("batch, draw: wanted 0 or more, got %d and %d", c.Batch, c.Draw)
	case c.HMC.Leapfrogs < 0:
		return fmt.Errorf("hmc.leapfrogs: wanted 0 or more, got %d", c.HMC.Leapfrogs)
	case c.HMC.Leapfrogs > 0 && (!(c.HMC.Step > 0) || !(c.HMC.Mass >= 0) || c.HMC.Calls < 1):
		return fmt.Errorf("hmc: wanted a positive step, a mass of 0 or more and at least 1 call, got %g, %g and %d", c.HMC.Step, c.HMC.Mass, c.HMC.Calls)
	case c.Sabotage != "" && c.Sabotage != Flip && c.Sabotage != Freeze:
		return fmt.Errorf("sabotage: wanted flip or freeze, got %q", c.Sabotage)
	}
	if c.HMC.Leapfrogs == 0 {
		return c.Langevin.Check()
	}
	return nil
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
