package abp

import (
	"fmt"
	"sort"
	"strings"

	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
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
	Data     struct {
		// Hidden is the share of entries that learning must not see, a random mask
		// per example that stays the same.
		Hidden float64 `yaml:"hidden"`
	} `yaml:"data"`
	Guard training.Guard `yaml:"guard"`

	// Sabotage "freeze" infers no codes, to show that a test can fail.
	Sabotage string `yaml:"sabotage,omitempty"`
}

// Freeze is the sabotage that leaves all codes where they began.
const Freeze = "freeze"

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	if err := c.Langevin.Check(); err != nil {
		return err
	}
	switch {
	case c.Steps < 1:
		return fmt.Errorf("steps: wanted at least 1, got %d", c.Steps)
	case c.Batch < 1:
		return fmt.Errorf("batch: wanted at least 1, got %d", c.Batch)
	case !(c.Sigma > 0):
		return fmt.Errorf("sigma: wanted a positive deviation, got %g", c.Sigma)
	case !(c.Data.Hidden >= 0 && c.Data.Hidden < 1):
		return fmt.Errorf("data.hidden: wanted a share from 0 to below 1, got %g", c.Data.Hidden)
	case c.Sabotage != "" && c.Sabotage != Freeze:
		return fmt.Errorf("sabotage: wanted freeze, got %q", c.Sabotage)
	}
	return nil
}

// Network is the generator's description.
func (c *Config) Network() (generator.Spec, error) {
	if c.Spec != nil {
		return *c.Spec, nil
	}
	return generator.ByName(c.Net)
}

func preset(net string, batch, steps int) Config {
	return Config{
		Net: net, Steps: steps, Batch: batch, Sigma: 0.3,
		Langevin: training.Langevin{Steps: 15, Step: 0.1, Noise: 1},
		Optim:    training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}},
	}
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
}

// For returns the settings for data of the given dimensions: "small" and
// "paper" pick the preset that fits, any other name is a key of [Presets]. The
// released code has no picture settings beyond 64×64 with 2 codes, so "paper" is
// the 64×64 preset.
func For(name string, dims []int, _ int) (Config, error) {
	pick := name
	if name == "" || name == "small" || name == "paper" {
		pick = fmt.Sprintf("pictures-%d", dims[1])
		if dims[1] == 1 && dims[2] == 1 {
			pick = "points"
		}
	}
	p, ok := Presets[pick]
	if !ok {
		var names []string
		for n := range Presets {
			names = append(names, n)
		}
		sort.Strings(names)
		return Config{}, fmt.Errorf("abp: no preset %q for examples of %v; there are %s", name, dims, strings.Join(names, ", "))
	}
	return p.Config, nil
}
