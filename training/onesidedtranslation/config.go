package onesidedtranslation

import (
	"fmt"
	"math"

	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/check"
)

// The ways to spoil learning, to show that a test can fail.
const (
	Flip   = "flip"   // the sign of the parameter gradient
	Freeze = "freeze" // no updates
)

// The places where chains begin.
const (
	FromSource = "source" // at examples of the first domain
	FromNoise  = "noise"  // at uniform noise: a control that knows no source
)

// Config are the settings of the system.
type Config struct {
	Net  string       `yaml:"net"`            // a named network
	Spec *energy.Spec `yaml:"spec,omitempty"` // or one written out

	Steps    int               `yaml:"steps"` // learning iterations
	Batch    int               `yaml:"batch"` // examples of each domain per iteration
	Start    string            `yaml:"start"` // source (default) or noise
	Langevin training.Langevin `yaml:"langevin"`
	Apply    int               `yaml:"apply"` // Langevin steps of a translation once learned; 0 is langevin.steps
	Data     struct {
		Noise float64 `yaml:"noise"` // deviation of the noise added to every batch of both domains
	} `yaml:"data"`
	Optim    training.Optim `yaml:"optim"`
	Spectral bool           `yaml:"spectral"` // spectral normalisation of the 3×3 convolutions
	ScoreL2  float64        `yaml:"score_l2"`
	Guard    training.Guard `yaml:"guard"`
	Sabotage string         `yaml:"sabotage,omitempty"` // flip or freeze
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Langevin.Check(),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("batch", c.Batch, 1),
		check.OneOf("start", c.Start, "", FromSource, FromNoise),
		check.AtLeast("apply", c.Apply, 0),
		check.AtLeast("data.noise", c.Data.Noise, 0),
		check.AtLeast("score_l2", c.ScoreL2, 0),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze),
	)
}

// Network is the network's description.
func (c *Config) Network() (energy.Spec, error) {
	return onnxmodels.Chosen(c.Spec, energy.ByName, c.Net)
}

// small uses the temperature of the generative ConvNet's presets.
func small(net string) Config {
	c := Config{
		Net: net, Steps: 800, Batch: 32,
		Langevin: training.Langevin{Steps: 20, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}, Fused: true},
		Optim:    training.Optim{LR: 2e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
		ScoreL2:  0.05,
	}
	c.Data.Noise = 0.01
	return c
}

// published has the settings of the authors' released code for 256×256, in gain terms:
// x + ∂f/∂x without noise, 50 steps to learn and 64 to use. A clamp is added: the released
// sampler has none and drifts out of range.
func published() Config {
	c := Config{
		Net: "residual-16", Steps: 25000, Batch: 16, Apply: 64,
		Langevin: training.Langevin{Steps: 50, Step: math.Sqrt2, Clamp: [2]float64{-1, 1}},
		Optim:    training.Optim{LR: 2e-3, Betas: [2]float64{0.5, 0.999}},
		Spectral: true,
	}
	c.Data.Noise = 0.01
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"digits":      {"28×28 pictures", small("digits28")},
	"pictures-16": {"16×16 pictures", small("swish-16")},
	"pictures-32": {"32×32 pictures", small("swish-32")},
	"pictures-64": {"64×64 pictures", small("swish-64")},
	"residual":    {"pictures whose side is a power of two, small residual blocks", small("residual-4")},
	"published":   {"published: 256×256 pictures (released code of the authors)", published()},
}

// For returns the settings for data of the given dimensions: "small" and
// "paper" pick the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	pick := name
	switch name {
	case "", "small":
		if pick = fmt.Sprintf("pictures-%d", dims[len(dims)-1]); dims[len(dims)-1] == 28 {
			pick = "digits"
		}
	case "paper":
		pick = "published"
	}
	p, err := training.Preset("one-sided-translation", Presets, pick, name, dims)
	return p.Config, err
}
