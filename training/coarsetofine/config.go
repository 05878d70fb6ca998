package coarsetofine

import (
	"fmt"
	"math"

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
	Net  string       `yaml:"net"`            // a named network that grows
	Spec *energy.Spec `yaml:"spec,omitempty"` // or one written out

	Steps    int               `yaml:"steps"`    // learning iterations in all; those beyond the last stage go on with it
	Phase    int               `yaml:"phase"`    // images in which a stage's newest block is faded in, and images after that
	Batches  []int             `yaml:"batches"`  // examples, and chains, per iteration of each stage; the last serves all others
	Langevin training.Langevin `yaml:"langevin"` // at every resolution
	Cool     bool              `yaml:"cool"`     // the noise falls to 0 along a line over the whole cascade
	Data     struct {
		Noise float64 `yaml:"noise"` // deviation of the noise added to every data batch
	} `yaml:"data"`
	Optim    training.Optim `yaml:"optim"`    // begun anew in every stage
	EMA      float64        `yaml:"ema"`      // decay of the averaged weights that draw and that finer stages grow from; 0 takes the last
	Spectral bool           `yaml:"spectral"` // spectral normalisation of the 3×3 convolutions
	ScoreL2  float64        `yaml:"score_l2"`
	Guard    training.Guard `yaml:"guard"`
	Sabotage string         `yaml:"sabotage,omitempty"` // flip or freeze
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Langevin.Check(),
		check.If(len(c.Batches) == 0, "batches: wanted one number or more"),
		check.EachAtLeast("batches", c.Batches, 1),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("phase", c.Phase, 1),
		check.AtLeast("data.noise", c.Data.Noise, 0),
		check.If(!(c.EMA >= 0 && c.EMA < 1), "ema: wanted a decay from 0 to below 1, got %g", c.EMA),
		check.AtLeast("score_l2", c.ScoreL2, 0),
		check.If(c.Cool && c.Langevin.Fused, "cool: the noise of a fused chain does not fall; set langevin.fused to false"),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze),
	)
}

// Network is the network's description.
func (c *Config) Network() (energy.Spec, error) {
	s := energy.Spec{}
	if c.Spec != nil {
		s = *c.Spec
	} else {
		var err error
		if s, err = energy.ByName(c.Net); err != nil {
			return s, err
		}
	}
	if s.Expand == nil || s.Expand.From == 0 {
		return s, fmt.Errorf("net: wanted a network that grows, such as expand-4")
	}
	return s, nil
}

// Sides are the resolutions that the network grows through to pictures of h×w.
func (c *Config) Sides(h, w int) ([]int, error) {
	s, err := c.Network()
	if err != nil {
		return nil, err
	}
	var sides []int
	for side := s.Expand.From; side <= w; side *= 2 {
		sides = append(sides, side)
	}
	if h != w || len(sides) == 0 || sides[len(sides)-1] != w {
		return nil, fmt.Errorf("the network grows from %d by doubling: no way to pictures of %d×%d", s.Expand.From, h, w)
	}
	return sides, nil
}

func (c *Config) batch(stage int) int { return c.Batches[min(stage, len(c.Batches)-1)] }

// fading is the number of iterations of a stage in which its block is faded in.
func (c *Config) fading(stage int) int {
	return (c.Phase + c.batch(stage) - 1) / c.batch(stage)
}

// place is the stage of an iteration, where in it that is, and the fade α.
func (c *Config) place(iteration, stages int) (stage, since int, alpha float32) {
	for since = iteration; stage < stages-1 && since >= 2*c.fading(stage); stage++ {
		since -= 2 * c.fading(stage)
	}
	if alpha = 1; stage > 0 {
		alpha = float32(min(1, float64(since)/float64(c.fading(stage))))
	}
	return stage, since, alpha
}

// total is the iterations of all stages.
func (c *Config) total(stages int) int {
	n := 0
	for k := range stages {
		n += 2 * c.fading(k)
	}
	return n
}

// small uses the temperature of the generative ConvNet's presets.
func small(net string, stages, phase int, batches ...int) Config {
	c := Config{
		Net: net, Phase: phase, Batches: batches,
		Langevin: training.Langevin{Steps: 12, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}, Fused: true},
		Optim:    training.Optim{LR: 2e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
		EMA:      0.98, // the last weights alone draw now well, now badly
		ScoreL2:  0.05,
	}
	c.Data.Noise = 0.01
	c.Steps = c.total(stages)
	return c
}

// published has the settings of the authors' released code, in gain terms: x + ∂f/∂x +
// σ·ε with σ from 0.015 to 0 over the cascade.
func published(net string, stages, phase int, lr, noise float64, batches ...int) Config {
	c := Config{
		Net: net, Phase: phase, Batches: batches,
		Langevin: training.Langevin{Steps: 15, Step: math.Sqrt2, Noise: 0.015 / math.Sqrt2},
		Cool:     true,
		Optim:    training.Optim{LR: lr, Betas: [2]float64{0.5, 0.999}},
		Spectral: true,
	}
	c.Data.Noise = noise
	c.Steps = c.total(stages)
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"pictures-16":  {"16×16 pictures from 8×8", small("expand-4", 2, 6400, 32)},
	"pictures-32":  {"32×32 pictures from 8×8", small("expand-4", 3, 9600, 32)},
	"pictures-64":  {"64×64 pictures from 8×8", small("expand-8", 4, 9600, 32, 32, 32, 16)},
	"published-32": {"published: CIFAR-10 of 32×32 (released code of the authors)", published("expand-32", 3, 1200000, 1e-3, 0, 256, 128, 64)},
	"published-64": {"published: CelebA of 64×64 (released code of the authors)", published("expand-32", 4, 1500000, 1.2e-3, 0.01, 256, 128, 64, 64)},
}

// For returns the settings for data of the given dimensions: "small" and
// "paper" pick the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Sized("coarse-to-fine", Presets, training.Pictures, name, dims)
	return p.Config, err
}
