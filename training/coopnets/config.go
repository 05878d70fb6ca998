package coopnets

import (
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
	"ebmrun/training/check"
)

// Config are the settings of the system.
type Config struct {
	Net       string          `yaml:"net"`       // a named energy
	Generator string          `yaml:"generator"` // a named generator
	Spec      *energy.Spec    `yaml:"spec,omitempty"`
	GenSpec   *generator.Spec `yaml:"generator_spec,omitempty"`

	Steps    int               `yaml:"steps"`    // learning iterations
	Batch    int               `yaml:"batch"`    // examples, and drafts, per iteration
	Langevin training.Langevin `yaml:"langevin"` // the teacher's revision of a draft
	// Inference is the student's Langevin inference of the code behind a revised
	// draft; 0 steps is the jump-start variant, which keeps the code it drew.
	Inference training.Langevin `yaml:"inference"`
	Reference struct {
		Sigma float64 `yaml:"sigma"` // of the energy's Gaussian reference density
	} `yaml:"reference"`
	Sigma   float64        `yaml:"sigma"` // deviation of the generator's residual
	Optim   training.Optim `yaml:"optim"` // of the energy
	Teach   training.Optim `yaml:"teach"` // of the generator
	ScoreL2 float64        `yaml:"score_l2"`
	Guard   training.Guard `yaml:"guard"`

	// Sabotage spoils learning, to show that a test can fail: "flip" turns the sign
	// of the energy's gradient, "freeze" never updates the generator, "still" takes
	// no revision steps.
	Sabotage string `yaml:"sabotage,omitempty"`
}

// The ways to spoil learning.
const (
	Flip   = "flip"
	Freeze = "freeze"
	Still  = "still"
)

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Langevin.Check(),
		check.When(c.Inference.Steps != 0, check.In("inference", c.Inference.Check())),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("batch", c.Batch, 1),
		check.Positive("sigma", c.Sigma),
		check.AtLeast("reference.sigma", c.Reference.Sigma, 0),
		check.AtLeast("score_l2", c.ScoreL2, 0),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze, Still),
	)
}

// EnergyNet is the energy's description.
func (c *Config) EnergyNet() (energy.Spec, error) {
	return onnxmodels.Chosen(c.Spec, energy.ByName, c.Net)
}

// GeneratorNet is the generator's description.
func (c *Config) GeneratorNet() (generator.Spec, error) {
	return onnxmodels.Chosen(c.GenSpec, generator.ByName, c.Generator)
}

// small uses the temperature of the generative ConvNet's presets: scores stay
// near zero and a small energy net needs no gradients of order x/σ_ref². Rates fall to a
// tenth: at a constant one the grid that steps leave on pictures stays, and where a run is
// stopped decides how good it is.
func small(net, gen string, steps int) Config {
	return Config{
		Net: net, Generator: gen, Steps: steps, Batch: 64, Sigma: 0.3,
		Langevin: training.Langevin{Steps: 15, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}, Fused: true},
		Optim:    training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
		Teach:    training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}, Decay: 0.1},
		ScoreL2:  0.05,
	}
}

// published has the settings and networks of the authors' released code
// (jump-start). The released generators have batch normalisation, these have none;
// their first layer is a convolution of a 1×1 map, here a dense layer with a bias for
// every position; and their layers crop one row and column more before than behind,
// which takes a kernel one smaller here.
func published(batch, steps int, e energy.Spec, g generator.Spec) Config {
	c := small("", "", steps)
	c.Spec, c.GenSpec, c.Batch = &e, &g, batch
	e.Activation, e.Init = "leaky", "normal:0.01"
	g.Codes, g.Start, g.Filters, g.Activation, g.Tanh, g.Init = 100, 4, 512, "leaky", true, "normal:0.005"
	c.Langevin = training.Langevin{Steps: 15, Step: 0.002, Noise: 1}
	c.Reference.Sigma, c.ScoreL2 = 0.016, 0
	c.Optim.LR, c.Optim.Clip, c.Teach.LR = 0.007, 0, 1e-4
	c.Optim.Decay, c.Teach.Decay = 0, 0
	c.Guard.MaxValue = 1e10 // scores are of the order of ‖x‖²/(2σ²), above 10⁶, and overshoot it a hundredfold at first
	return c
}

// down and up halve and double the side.
func down(filters, kernel int) energy.Layer {
	return energy.Layer{Filters: filters, Kernel: kernel, Stride: 2, Same: true}
}

func up(filters int) generator.Layer {
	return generator.Layer{Filters: filters, Kernel: 4, Stride: 2, Pad: 1}
}

// digits sums a hundred outputs of the whole 4×4 map.
func digits() energy.Spec {
	return energy.Spec{Layers: []energy.Layer{down(64, 4), down(128, 4), down(256, 4), {Filters: 100, Kernel: 4}}}
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"pictures-16": {"16×16 pictures", small("coop-16", "deconv16", 500)},
	"pictures-28": {"28×28 pictures", small("coop-28", "deconv28", 1500)},
	"pictures-32": {"32×32 pictures", small("coop-32", "deconv32", 1500)},
	"pictures-64": {"64×64 pictures", small("coop-64", "deconv64", 1500)},
	"published-28": {"released code for MNIST, 28×28", published(200, 60000, digits(),
		generator.Spec{Layers: []generator.Layer{{Filters: 256, Kernel: 3, Stride: 2, Pad: 1}, up(128), up(0)}})},
	"published-32": {"the same on 32×32 pictures", published(200, 60000, digits(),
		generator.Spec{Layers: []generator.Layer{up(256), up(128), up(0)}})},
	"published-64": {"released code for scenes, 64×64", published(100, 120000,
		energy.Spec{Layers: []energy.Layer{down(64, 5), down(128, 3), {Filters: 256, Kernel: 3, Pad: 1}, {Filters: 100, Kernel: 16}}},
		generator.Spec{Layers: []generator.Layer{up(256), up(128), up(64), up(0)}})},
}

// For returns the settings for data of the given dimensions: "small" and
// "paper" pick the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Sized("coopnets", Presets, training.Pictures, name, dims)
	return p.Config, err
}
