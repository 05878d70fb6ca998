package multigrid

import (
	"fmt"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/check"
)

// The ways to spoil learning, to show that a test can fail.
const (
	Flip   = "flip"   // the sign of the parameter gradient
	Freeze = "freeze" // no updates
)

// Config are the settings of the system.
type Config struct {
	Grids []int         `yaml:"grids"`           // sides of the grids: 1, then each a multiple of the one before, to the pictures' side
	Nets  []string      `yaml:"nets"`            // a named network for each grid but the first
	Specs []energy.Spec `yaml:"specs,omitempty"` // or networks written out
	Bins  int           `yaml:"bins"`            // of each channel in the histogram of the 1×1 grid

	Steps     int               `yaml:"steps"`    // learning iterations
	Batch     int               `yaml:"batch"`    // examples, and chains, per iteration
	Langevin  training.Langevin `yaml:"langevin"` // on every grid
	Reference struct {
		Sigma float64 `yaml:"sigma"` // of the Gaussian reference density; 0 is the uniform one
	} `yaml:"reference"`
	Data struct {
		Noise float64 `yaml:"noise"` // deviation of the noise added to every data batch
	} `yaml:"data"`
	Optim    training.Optim `yaml:"optim"` // one for each grid
	EMA      float64        `yaml:"ema"`   // decay of the averaged weights that draw; 0 draws with the last
	ScoreL2  float64        `yaml:"score_l2"`
	Guard    training.Guard `yaml:"guard"`
	Sabotage string         `yaml:"sabotage,omitempty"` // flip or freeze
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Langevin.Check(),
		c.grids(),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("batch", c.Batch, 1),
		check.Within("bins", c.Bins, 1, 64),
		check.AtLeast("reference.sigma", c.Reference.Sigma, 0),
		check.AtLeast("data.noise", c.Data.Noise, 0),
		check.If(!(c.EMA >= 0 && c.EMA < 1), "ema: wanted a decay from 0 to below 1, got %g", c.EMA),
		check.AtLeast("score_l2", c.ScoreL2, 0),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze),
		check.If(c.Reference.Sigma == 0 && c.Langevin.Clamp == [2]float64{}, "reference.sigma and langevin.clamp are both off: nothing keeps samples in range; set one"),
	)
}

// grids checks that each grid refines the one before it and has a network.
func (c *Config) grids() error {
	nets := len(c.Nets)
	if c.Specs != nil {
		nets = len(c.Specs)
	}
	if len(c.Grids) < 2 || c.Grids[0] != 1 || nets != len(c.Grids)-1 {
		return fmt.Errorf("grids: wanted sides that begin with 1 and a network for each of the others, got %v and %d networks", c.Grids, nets)
	}
	for k, side := range c.Grids[1:] {
		if below := c.Grids[k]; side <= below || side%below != 0 {
			return fmt.Errorf("grids: wanted a multiple of %d after it, got %d", below, side)
		}
	}
	return nil
}

// Networks are the descriptions of the energies, coarse to fine.
func (c *Config) Networks() ([]energy.Spec, error) {
	if c.Specs != nil {
		return c.Specs, nil
	}
	var all []energy.Spec
	for _, name := range c.Nets {
		s, err := energy.ByName(name)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// small uses the temperature of the generative ConvNet's presets.
func small(grids []int, nets ...string) Config {
	c := Config{
		Grids: grids, Nets: nets, Bins: 16, Steps: 800, Batch: 50,
		Langevin: training.Langevin{Steps: 15, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}, Fused: true},
		Optim:    training.Optim{LR: 2e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
		EMA:      0.99, // the last weights alone draw now well, now badly
		ScoreL2:  0.05,
	}
	c.Data.Noise = 0.01
	return c
}

// published has the settings of the authors' released code: 90 steps of 0.3 without
// noise on [0, 255], which is 0.3/127.5 on [−1, 1], and a large rate that only
// networks with normalised layers bear.
func published(grids []int, nets ...string) Config {
	return Config{
		Grids: grids, Nets: nets, Bins: 16, Steps: 70000, Batch: 100,
		Langevin: training.Langevin{Steps: 90, Step: 0.3 / 127.5, Clamp: [2]float64{-1, 1}},
		Optim:    training.Optim{LR: 0.3, Betas: [2]float64{0.5, 0.999}},
		Guard:    training.Guard{MaxValue: 1e9},
	}
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"pictures-16":  {"16×16 pictures, grids 1, 4, 16", small([]int{1, 4, 16}, "swish-4", "swish-16")},
	"pictures-28":  {"28×28 pictures, grids 1, 7, 28", small([]int{1, 7, 28}, "swish-7", "digits28")},
	"pictures-32":  {"32×32 pictures, grids 1, 4, 16, 32", small([]int{1, 4, 16, 32}, "swish-4", "swish-16", "swish-32")},
	"pictures-64":  {"64×64 pictures, grids 1, 4, 16, 64", small([]int{1, 4, 16, 64}, "swish-4", "swish-16", "swish-64")},
	"published-64": {"published: 64×64 pictures (released code of the authors)", published([]int{1, 4, 16, 64}, "grid-4", "grid-16", "grid-64")},
}

// For returns the settings for data of the given dimensions: "small" and
// "paper" pick the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Sized("multigrid", Presets, training.Pictures, name, dims)
	return p.Config, err
}
