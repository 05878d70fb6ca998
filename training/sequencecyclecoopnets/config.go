package sequencecyclecoopnets

import (
	"ebmrun/training"
	"ebmrun/training/check"

	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/training/cyclecoopnets"
)

// Config are the settings of the system: those of translation of pictures, with
// predictors.
type Config struct {
	cyclecoopnets.Config `yaml:",inline"`

	Predictor string            `yaml:"predictor"` // a named generator without codes, one for each domain
	PredSpec  *conditional.Spec `yaml:"predictor_spec,omitempty"`
	Predict   float64           `yaml:"predict"` // what predictions of true frames count
	// Through is what the frame counts that is predicted in the other domain and brought
	// back. It grows to its value over the first Warm iterations, as Cycle does.
	Through float64 `yaml:"through"`
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Config.Check(),
		check.AtLeast("predict", c.Predict, 0),
		check.AtLeast("through", c.Through, 0),
	)
}

// PredictorNet is the predictors' description.
func (c *Config) PredictorNet() (conditional.Spec, error) {
	return onnxmodels.Chosen(c.PredSpec, conditional.ByName, c.Predictor)
}

// Maps builds translators and predictors of frames of the given dimensions, with their
// losses.
func (c *Config) Maps(a, b []int, seed uint64) (*conditional.Mappings, error) {
	ab, ba, err := c.Translators(a, b, seed)
	if err != nil {
		return nil, err
	}
	s, err := c.PredictorNet()
	if err != nil {
		return nil, err
	}
	two := func(d []int) []int { return []int{2 * d[0], d[1], d[2]} }
	ra, err := conditional.BuildMapping("next-a", s, a, two(a), seed+2)
	if err != nil {
		return nil, err
	}
	rb, err := conditional.BuildMapping("next-b", s, b, two(b), seed+3)
	if err != nil {
		return nil, err
	}
	return conditional.Sequence(ab, ba, ra, rb, c.Cycle > 0)
}

// of takes a preset for pictures.
func of(pictures string, batch int) Config {
	c := Config{Config: cyclecoopnets.Presets[pictures].Config, Predictor: "next-16", Predict: 1, Through: 1}
	c.Batch, c.Cycle, c.Warm = batch, 0, 150
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"clips-16":     {"frames of 16×16", of("pictures-16", 8)},
	"clips-32":     {"frames of 32×32", of("pictures-32", 4)},
	"clips-64":     {"frames of 64×64", of("pictures-64", 2)},
	"published-16": {"sampling and learning rates of the released code for pictures, 16×16", of("published-16", 1)},
	"published-32": {"the same, 32×32", of("published-32", 1)},
	"published-64": {"the same, 64×64", of("published-64", 1)},
}

// For returns the settings for clips of the given dimensions: "small" and "paper" pick
// the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Sized("sequence-cycle-coopnets", Presets, map[string]string{"": "clips", "small": "clips", "paper": "published"}, name, dims)
	return p.Config, err
}
