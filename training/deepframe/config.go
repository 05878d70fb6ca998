package deepframe

import (
	"fmt"

	"ebmrun/onnxmodels/backbone"
	"ebmrun/training"
	"ebmrun/training/check"
	"ebmrun/training/data"
)

// The places where chains begin, and the ways to spoil learning on purpose.
const (
	Gaussian = "gaussian" // a draw from the reference density, or N(0, 1) without one
	Zero     = "zero"     // the mean of the data where its scale is bytes

	Flip   = "flip"   // sabotage: the sign of the parameter gradient
	Freeze = "freeze" // sabotage: no updates
)

// Config are the settings of the system; see the presets for values that work.
type Config struct {
	Backbone   backbone.Spec `yaml:"backbone"`
	Stationary bool          `yaml:"stationary"` // one weight a feature, for textures; otherwise one a feature and position, for aligned objects

	Steps    int               `yaml:"steps"` // learning iterations
	Batch    int               `yaml:"batch"` // examples seen at once when the data's statistics are taken
	Langevin training.Langevin `yaml:"langevin"`

	// Drift is the longest drift of a step, in lengths of its noise (see [Drift]): steps become
	// shorter as slopes become steeper, never longer than langevin.step. 0 leaves them as they are.
	Drift float64 `yaml:"drift"`

	Chains struct {
		Number int    `yaml:"number"` // persistent chains, all revised in every iteration
		Start  string `yaml:"start"`  // gaussian (default) or zero
	} `yaml:"chains"`
	Reference struct {
		Sigma float64 `yaml:"sigma"` // of the Gaussian reference density; 0 is the uniform one
	} `yaml:"reference"`
	Data struct {
		Scale string `yaml:"scale"` // of pictures: bytes is [0, 255] minus the data's mean (default), unit is [−1, 1]
	} `yaml:"data"`
	Optim training.Optim `yaml:"optim"`
	Guard training.Guard `yaml:"guard"`

	Sabotage string `yaml:"sabotage,omitempty"` // flip or freeze, to show that an acceptance test can fail
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Langevin.Check(),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("batch", c.Batch, 1),
		check.AtLeast("chains.number", c.Chains.Number, 1),
		check.OneOf("chains.start", c.Chains.Start, "", Gaussian, Zero),
		check.AtLeast("drift", c.Drift, 0),
		check.If(c.Drift > 0 && c.Langevin.Noise == 0, "drift: wanted 0 where langevin.noise is 0, there are no lengths of it"),
		check.AtLeast("reference.sigma", c.Reference.Sigma, 0),
		check.OneOf("data.scale", c.Data.Scale, "", data.Unit, data.Bytes),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze),
		check.If(c.Reference.Sigma == 0 && c.Langevin.Clamp == [2]float64{}, "reference.sigma and langevin.clamp are both off: nothing keeps samples in range; set one"),
		check.If(len(c.Backbone.Train) > 0, "backbone.train: wanted a frozen network, whose statistics of the data stay what they are; got %v", c.Backbone.Train),
	)
}

// DataScale is the scale that the data is to be brought to.
func (c *Config) DataScale() string {
	if c.Data.Scale == "" {
		return data.Bytes
	}
	return c.Data.Scale
}

// A Preset is a named set of settings and what it is for.
type Preset struct {
	Title  string
	Config Config
}

// frame is the settings that all presets share: pictures in [0, 255] minus their
// mean, a reference density of one grey level, and statistics matched by Adam in
// units of the statistics themselves.
func frame(net string, stationary bool, chains int, cut ...string) Config {
	c := Config{
		Backbone: backbone.Spec{Net: net, Cut: cut}, Stationary: stationary,
		Steps: 300, Batch: 4,
		Langevin: training.Langevin{Steps: 20, Step: 0.3, Noise: 1},
		Optim:    training.Optim{LR: 0.1, Betas: [2]float64{0.5, 0.999}, Decay: 0.05},
		Guard:    training.Guard{MaxValue: 1e9}, // scores are sums over maps of thousands of numbers
	}
	c.Chains.Number, c.Reference.Sigma = chains, 1
	return c
}

// hot is a reference density of more grey levels, and Langevin steps to match. Samples
// keep a grain, which wears off what a colder one freezes: rings, lattices of single
// pixels. The deeper the layers and the flatter the pictures, the steeper the slopes
// that are learned and the shorter the steps that they allow. So they are held to a
// [Drift] of 1.
func hot(c Config, sigma float64, steps int, step float64) Config {
	c.Reference.Sigma, c.Langevin.Steps, c.Langevin.Step, c.Drift = sigma, steps, step, 1
	return c
}

// object has a lower rate: with a weight for every position, those of a few places
// grow large, and the density is sharper for it.
func object(c Config, rate float64) Config {
	c.Optim.LR = rate
	return c
}

// lasting keeps a part of the rate to the end. Chains go on for long after weights
// have moved; where the rate falls sooner few of them go past the data and stay there.
func lasting(c Config, steps int, decay float64) Config {
	c.Steps, c.Optim.Decay = steps, decay
	return c
}

// smooth averages where the network takes a maximum, whose slopes jump.
func smooth(c Config) Config {
	c.Backbone.Pool = "average"
	return c
}

// ten are the layers of VGG16 to conv4_3.
var ten = []string{"conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv4_1", "conv4_2", "conv4_3"}

// Presets is the table of settings with a name. The authors' layer, steps and
// rates are not published; these were found on two cores.
var Presets = map[string]Preset{
	"texture-random": {"one texture; a random network of 3 layers, nothing to obtain", hot(frame("random", true, 2, "relu1", "relu2", "relu3"), 10, 20, 3)},
	"object-random":  {"aligned pictures; a random network of 3 layers, nothing to obtain", lasting(object(hot(frame("random", false, 20, "relu2"), 10, 10, 1.5), 0.05), 120, 0.2)},
	"texture":        {"one texture; VGG16 to conv4_3", lasting(hot(frame("vgg16", true, 1, ten...), 15, 10, 1.5), 300, 0.5)},
	"texture-cold":   {"one texture; VGG16 to conv3_3, less grain and less depth", frame("vgg16", true, 1, "conv1_2", "conv2_2", "conv3_3")},
	"object":         {"aligned pictures; VGG16 to conv3_3", lasting(smooth(object(hot(frame("vgg16", false, 4, "conv1_2", "conv2_2", "conv3_3"), 10, 5, 1), 0.03)), 200, 0.5)},
}

// For returns the settings for data of the given dimensions: "small" and "paper"
// pick by the number of examples (one is a texture), any other name is a key of
// [Presets].
func For(name string, dims []int, examples int) (Config, error) {
	if len(dims) != 3 || dims[1] < 8 || dims[2] < 8 {
		return Config{}, fmt.Errorf("deep-frame: wanted pictures of at least 8×8, got examples of %v", dims)
	}
	kind := "object"
	if examples == 1 {
		kind = "texture"
	}
	switch name {
	case "", "small":
		name = kind + "-random"
	case "paper":
		name = kind
	}
	p, err := training.Preset("deep-frame", Presets, name, name, dims)
	return p.Config, err
}
