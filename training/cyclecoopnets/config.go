package cyclecoopnets

import (
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/check"
)

// Config are the settings of the system.
type Config struct {
	Net        string            `yaml:"net"`        // a named energy, one for each domain
	Translator string            `yaml:"translator"` // a named generator without codes, one for each direction
	Spec       *energy.Spec      `yaml:"spec,omitempty"`
	TransSpec  *conditional.Spec `yaml:"translator_spec,omitempty"`

	Steps     int               `yaml:"steps"`    // learning iterations
	Batch     int               `yaml:"batch"`    // examples of each domain per iteration
	Langevin  training.Langevin `yaml:"langevin"` // revision of a translation by its new domain's energy
	Reference struct {
		Sigma float64 `yaml:"sigma"` // of the energies' Gaussian reference density
	} `yaml:"reference"`
	// Cycle is λ: what the mean absolute error after there and back counts beside the
	// mean squared difference of a translation and its revision. It grows to its value
	// over the first Warm iterations.
	Cycle   float64        `yaml:"cycle"`
	Warm    int            `yaml:"warm"`
	Optim   training.Optim `yaml:"optim"` // of the energies
	Teach   training.Optim `yaml:"teach"` // of the translators
	ScoreL2 float64        `yaml:"score_l2"`
	Guard   training.Guard `yaml:"guard"`

	// Sabotage spoils learning, to show that a test can fail: "flip" turns the sign of
	// the energies' gradients, "still" takes no revision steps.
	Sabotage string `yaml:"sabotage,omitempty"`
}

// The ways to spoil learning.
const (
	Flip  = "flip"
	Still = "still"
)

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Langevin.Check(),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("batch", c.Batch, 1),
		check.AtLeast("reference.sigma", c.Reference.Sigma, 0),
		check.AtLeast("cycle", c.Cycle, 0),
		check.AtLeast("warm", c.Warm, 0),
		check.AtLeast("score_l2", c.ScoreL2, 0),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Still),
	)
}

// EnergyNet is the energies' description.
func (c *Config) EnergyNet() (energy.Spec, error) {
	return onnxmodels.Chosen(c.Spec, energy.ByName, c.Net)
}

// TranslatorNet is the translators' description.
func (c *Config) TranslatorNet() (conditional.Spec, error) {
	return onnxmodels.Chosen(c.TransSpec, conditional.ByName, c.Translator)
}

// Translators builds a translator for each direction between domains of the given
// dimensions.
func (c *Config) Translators(a, b []int, seed uint64) (ab, ba *conditional.Mapping, err error) {
	s, err := c.TranslatorNet()
	if err != nil {
		return nil, nil, err
	}
	if ab, err = conditional.BuildMapping("ab", s, b, a, seed); err != nil {
		return nil, nil, err
	}
	ba, err = conditional.BuildMapping("ba", s, a, b, seed+1)
	return ab, ba, err
}

// Maps are both translators with their losses.
func (c *Config) Maps(a, b []int, seed uint64) (*conditional.Mappings, error) {
	ab, ba, err := c.Translators(a, b, seed)
	if err != nil {
		return nil, err
	}
	return conditional.Cycle(ab, ba)
}

// small uses the temperature of the cooperative presets.
func small(net, translator string, steps int) Config {
	return Config{
		Net: net, Translator: translator, Steps: steps, Batch: 16, Cycle: 5, Warm: 50,
		Langevin: training.Langevin{Steps: 15, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}, Fused: true},
		Optim:    training.Optim{LR: 5e-4, Betas: [2]float64{0.5, 0.999}, Clip: 1},
		Teach:    training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}, Decay: 0.1},
		ScoreL2:  0.05,
	}
}

// published has the settings of the authors' released code (Langevin noise off), on
// networks of this package.
func published(net, translator string) Config {
	c := small(net, translator, 100000)
	c.Batch, c.Cycle, c.Warm = 1, 10, 0
	c.Langevin = training.Langevin{Steps: 20, Step: 0.002}
	c.Reference.Sigma, c.ScoreL2 = 0.016, 0
	c.Optim.LR, c.Optim.Clip, c.Teach.LR = 2e-4, 0, 2e-4
	c.Guard.MaxValue = 1e7
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"pictures-16":  {"16×16 pictures", small("coop-16", "resnet-16", 600)},
	"pictures-28":  {"28×28 pictures", small("coop-28", "resnet-16", 800)},
	"pictures-32":  {"32×32 pictures", small("coop-32", "resnet-16", 800)},
	"pictures-64":  {"64×64 pictures", small("coop-64", "resnet-64", 800)},
	"published-16": {"sampling and learning rates of the released code, 16×16", published("coop-16", "resnet-9")},
	"published-28": {"the same on 28×28 pictures", published("coop-28", "resnet-9")},
	"published-32": {"the same on 32×32 pictures", published("coop-32", "resnet-9")},
	"published-64": {"the same on 64×64 pictures", published("coop-64", "resnet-9")},
}

// For returns the settings for data of the given dimensions: "small" and "paper" pick
// the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Sized("cycle-coopnets", Presets, training.Pictures, name, dims)
	return p.Config, err
}
