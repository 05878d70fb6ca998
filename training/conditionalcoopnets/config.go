package conditionalcoopnets

import (
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/check"
)

// Config are the settings of the system.
type Config struct {
	Net      string            `yaml:"net"`       // a named energy, on the channels of example and condition
	Init     string            `yaml:"generator"` // a named conditional generator
	Spec     *energy.Spec      `yaml:"spec,omitempty"`
	InitSpec *conditional.Spec `yaml:"generator_spec,omitempty"`
	// Classes, if not 0, is the number of labels that are the conditions, in place of
	// what the examples are given with; -1 counts those of the data.
	Classes int `yaml:"classes"`

	Steps     int               `yaml:"steps"`     // learning iterations
	Batch     int               `yaml:"batch"`     // pairs per iteration
	Langevin  training.Langevin `yaml:"langevin"`  // the solver's revision of a draft
	Inference training.Langevin `yaml:"inference"` // of the code behind a revised draft; 0 steps keeps the code that was drawn
	Reference struct {
		Sigma float64 `yaml:"sigma"` // of the energy's Gaussian reference density
	} `yaml:"reference"`
	Sigma float64 `yaml:"sigma"` // deviation of the initialiser's residual
	// Truth is the share of the true example in what the initialiser is taught, the rest
	// being the revised draft. It falls to TruthEnd along a line over all iterations.
	Truth    float64        `yaml:"truth"`
	TruthEnd float64        `yaml:"truth_end"`
	Optim    training.Optim `yaml:"optim"` // of the energy
	Teach    training.Optim `yaml:"teach"` // of the initialiser
	ScoreL2  float64        `yaml:"score_l2"`
	Guard    training.Guard `yaml:"guard"`

	// Sabotage spoils learning, to show that a test can fail: "flip" turns the sign of
	// the energy's gradient, "blind" hides the condition from the energy, "freeze"
	// never updates the initialiser.
	Sabotage string `yaml:"sabotage,omitempty"`
}

// The ways to spoil learning.
const (
	Flip   = "flip"
	Blind  = "blind"
	Freeze = "freeze"
)

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Langevin.Check(),
		check.When(c.Inference.Steps != 0, check.In("inference", c.Inference.Check())),
		check.If(c.Langevin.Fused, "langevin.fused: chains under conditions are not fused: wanted false"),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("batch", c.Batch, 1),
		check.If(c.Classes < -1, "classes: wanted a number of labels, 0 for none or -1 for those of the data, got %d", c.Classes),
		check.Positive("sigma", c.Sigma),
		check.If(!(c.Truth >= 0 && c.Truth <= 1 && c.TruthEnd >= 0 && c.TruthEnd <= c.Truth), "truth, truth_end: wanted shares from 0 to 1 that do not grow, got %g and %g", c.Truth, c.TruthEnd),
		check.AtLeast("reference.sigma", c.Reference.Sigma, 0),
		check.AtLeast("score_l2", c.ScoreL2, 0),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Blind, Freeze),
	)
}

// EnergyNet is the energy's description.
func (c *Config) EnergyNet() (energy.Spec, error) {
	return onnxmodels.Chosen(c.Spec, energy.ByName, c.Net)
}

// GeneratorNet is the initialiser's description.
func (c *Config) GeneratorNet() (conditional.Spec, error) {
	return onnxmodels.Chosen(c.InitSpec, conditional.ByName, c.Init)
}

// small uses the temperature of the cooperative presets without conditions.
func small(net, gen string, steps int) Config {
	return Config{
		Net: net, Init: gen, Steps: steps, Batch: 32, Sigma: 0.3,
		Langevin: training.Langevin{Steps: 15, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}},
		Optim:    training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1},
		Teach:    training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}, Clip: 10},
		Truth:    0.5, TruthEnd: 0.2, ScoreL2: 0.05,
	}
}

// published has the settings of the authors' released code for pictures given
// pictures (Langevin noise off), on networks of this package.
func published(net, gen string) Config {
	c := small(net, gen, 100000)
	c.Batch = 50
	c.Langevin = training.Langevin{Steps: 20, Step: 0.002}
	c.Reference.Sigma, c.ScoreL2, c.Truth, c.TruthEnd = 0.016, 0, 0.2, 0.2
	c.Optim.LR, c.Optim.Clip, c.Teach.LR, c.Teach.Clip = 0.003, 0, 2e-4, 0
	c.Guard.MaxValue = 1e7
	return c
}

// labels takes the classes of the data as conditions.
func labels(c Config) Config {
	c.Classes, c.Truth, c.TruthEnd = -1, 0, 0
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"pictures-16":  {"16×16 pictures given pictures", small("coop-16", "unet-16", 600)},
	"pictures-28":  {"28×28 pictures given pictures", small("coop-28", "unet-16", 1000)},
	"pictures-32":  {"32×32 pictures given pictures", small("coop-32", "unet-32", 1000)},
	"pictures-64":  {"64×64 pictures given pictures", small("coop-64", "unet-64", 1000)},
	"labels-16":    {"16×16 pictures given their class", labels(small("coop-16", "unet-16", 800))},
	"labels-28":    {"28×28 pictures given their class", labels(small("coop-28", "unet-16", 1500))},
	"published-16": {"sampling and learning rates of the released code, 16×16", published("coop-16", "unet-16")},
	"published-28": {"the same on 28×28 pictures", published("coop-28", "unet-16")},
	"published-32": {"the same on 32×32 pictures", published("coop-32", "unet-32")},
	"published-64": {"the same on 64×64 pictures", published("coop-64", "unet-64")},
}

// For returns the settings for data of the given dimensions: "small" and "paper" pick
// the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Sized("conditional-coopnets", Presets, training.Pictures, name, dims)
	return p.Config, err
}
