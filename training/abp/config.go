package abp

import (
	"fmt"
	"math"

	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
	"ebmrun/training/check"
)

// Config are the settings of the system.
type Config struct {
	Net  string          `yaml:"net"`            // a named generator
	Spec *generator.Spec `yaml:"spec,omitempty"` // or one written out

	Steps    int               `yaml:"steps"` // learning iterations
	Batch    int               `yaml:"batch"` // examples per iteration
	Sigma    float64           `yaml:"sigma"` // deviation of the residual x − g(z)
	Langevin training.Langevin `yaml:"langevin"`
	Optim    training.Optim    `yaml:"optim"`
	// Likelihood "sum", or nothing, is the paper's; "legacy-mean" is that of released
	// code, which divides it by the batch size in inference, so that codes stay
	// closer to the prior.
	Likelihood string `yaml:"likelihood,omitempty"`
	// Data says what learning must not see of the examples: at most one of them.
	Data struct {
		Hidden float64 `yaml:"hidden"`           // share of pixels, drawn for each example once
		Square int     `yaml:"square,omitempty"` // side of a square in each example, in pixels
		Masks  string  `yaml:"masks,omitempty"`  // picture, or one for each example, white where pixels are missing
	} `yaml:"data"`
	Cold  Cold           `yaml:"cold"`
	Guard training.Guard `yaml:"guard"`

	// Sabotage "freeze" infers no codes, to show that a test can fail.
	Sabotage string `yaml:"sabotage,omitempty"`
}

// Cold is how new examples are explained: by chains from the prior, of which the
// one with the highest joint density is taken.
type Cold struct {
	Steps    int `yaml:"steps"`    // [200]
	Restarts int `yaml:"restarts"` // [1]
	// Settle is how many more steps go downhill, without noise and a quarter as
	// long, to the nearest most likely codes [0].
	Settle int `yaml:"settle,omitempty"`
	// Sharp is how many times as much the residual weighs while codes settle [1]: where
	// much of an example is hidden, σ alone lets codes end that miss what is visible.
	Sharp float64 `yaml:"sharp,omitempty"`
}

func (c Cold) defaults() Cold {
	if c.Steps == 0 {
		c.Steps = 200
	}
	c.Restarts = max(c.Restarts, 1)
	if c.Sharp == 0 {
		c.Sharp = 1
	}
	return c
}

// Names of the likelihoods.
const (
	Sum        = "sum"
	LegacyMean = "legacy-mean"
)

// Freeze is the sabotage that leaves all codes where they began.
const Freeze = "freeze"

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Langevin.Check(),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("batch", c.Batch, 1),
		check.Positive("sigma", c.Sigma),
		check.If(!(c.Data.Hidden >= 0 && c.Data.Hidden < 1), "data.hidden: wanted a share from 0 to below 1, got %g", c.Data.Hidden),
		check.AtLeast("data.square", c.Data.Square, 0),
		check.If(c.Data.Hidden > 0 && c.Data.Square > 0 || c.Data.Masks != "" && (c.Data.Hidden > 0 || c.Data.Square > 0), "data: wanted one of hidden, square and masks, got %g, %d and %q", c.Data.Hidden, c.Data.Square, c.Data.Masks),
		check.AtLeast("cold.steps", c.Cold.Steps, 0),
		check.AtLeast("cold.restarts", c.Cold.Restarts, 0),
		check.AtLeast("cold.settle", c.Cold.Settle, 0),
		check.AtLeast("cold.sharp", c.Cold.Sharp, 0),
		check.OneOf("likelihood", c.Likelihood, "", Sum, LegacyMean),
		check.OneOf("sabotage", c.Sabotage, "", Freeze),
	)
}

// Network is the generator's description.
func (c *Config) Network() (generator.Spec, error) {
	return onnxmodels.Chosen(c.Spec, generator.ByName, c.Net)
}

// Residual is the deviation of the residual in the posterior of codes.
func (c *Config) Residual() float64 {
	if c.Likelihood == LegacyMean {
		return c.Sigma * math.Sqrt(float64(c.Batch))
	}
	return c.Sigma
}

func preset(net string, batch, steps int) Config {
	return Config{
		Net: net, Steps: steps, Batch: batch, Sigma: 0.3,
		Langevin: training.Langevin{Steps: 15, Step: 0.1, Noise: 1},
		Optim:    training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}},
	}
}

// published has the settings of a released 64×64 example of 11 pictures with two
// codes, on a network of this package.
func published() Config {
	c := preset("deconv64", 11, 600)
	spec := generator.Nets["deconv64"].Spec
	spec.Codes = 2
	c.Net, c.Spec = "", &spec
	c.Langevin.Steps, c.Langevin.Step, c.Likelihood = 30, 0.3, LegacyMean
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"pictures-16": {"16×16 pictures", preset("deconv16", 64, 1500)},
	"pictures-28": {"28×28 pictures", preset("deconv28", 100, 1500)},
	"pictures-32": {"32×32 pictures", preset("deconv32", 64, 1500)},
	"pictures-64": {"64×64 pictures: 100 codes", preset("deconv64", 50, 1500)},
	"points":      {"points in the plane", preset("mlp", 100, 1500)},

	"published-64": {"64×64 pictures, 2 codes: sampling and learning rate of released code", published()},
}

// For returns the settings for data of the given dimensions: "small" and
// "paper" pick the preset that fits, any other name is a key of [Presets].
// Published picture settings are known for 64×64 only; for other sizes "paper" is
// the preset of that size.
func For(name string, dims []int, _ int) (Config, error) {
	pick := name
	switch {
	case name == "paper" && dims[1] == 64:
		pick = "published-64"
	case name == "" || name == "small" || name == "paper":
		pick = fmt.Sprintf("pictures-%d", dims[1])
		if dims[1] == 1 && dims[2] == 1 {
			pick = "points"
		}
	}
	p, err := training.Preset("abp", Presets, pick, name, dims)
	return p.Config, err
}
