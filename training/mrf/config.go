package mrf

import (
	"ebmrun/training"
	"ebmrun/training/check"
)

// Families of models, and samplers.
const (
	Ising        = "ising"         // two levels ±1: ψ is their product
	Potts        = "potts"         // ψ is 1 for equal levels
	AutoBinomial = "auto-binomial" // ψ is the product of levels; a level is binomial given its neighbours
	AutoNormal   = "auto-normal"   // continuous and Gaussian

	Gibbs      = "gibbs"
	Metropolis = "metropolis"
	Exchange   = "exchange" // pixels change places: the grey histogram stays

	Flip   = "flip"   // sabotage: weights move the wrong way
	Freeze = "freeze" // sabotage: weights stay at 0
)

// Config are the settings of the system; see the presets for values that work.
type Config struct {
	Family  string         `yaml:"family"`  // ising, potts, auto-binomial or auto-normal
	Levels  int            `yaml:"levels"`  // grey levels; auto-normal has none
	Field   bool           `yaml:"field"`   // weights for single pixels too
	Order   int            `yaml:"order"`   // of the neighbourhood, 1 to 4
	Steps   int            `yaml:"steps"`   // learning iterations
	Newton  int            `yaml:"newton"`  // of which so many fit the pseudo-likelihood; the rest compare with samples
	Rate    float64        `yaml:"rate"`    // of the comparison with samples, in Newton steps; halved after 20 of them
	Chains  int            `yaml:"chains"`  // pictures that are sampled
	Sweeps  int            `yaml:"sweeps"`  // per iteration
	Burn    int            `yaml:"burn"`    // sweeps from noise to a picture that is drawn afterwards
	Sampler string         `yaml:"sampler"` // gibbs, metropolis or exchange
	Guard   training.Guard `yaml:"guard"`

	// Sabotage spoils learning on purpose: "flip" climbs where it should descend, "freeze" never updates.
	Sabotage string `yaml:"sabotage,omitempty"`
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	normal := c.Family == AutoNormal
	return check.First(
		check.OneOf("family", c.Family, Ising, Potts, AutoBinomial, AutoNormal),
		check.If(c.Family == Ising && c.Levels != 2, "levels: wanted 2 for ising, got %d", c.Levels),
		check.When(!normal, check.Within("levels", c.Levels, 2, 32)),
		check.Within("order", c.Order, 1, 4),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("chains", c.Chains, 1),
		check.AtLeast("sweeps", c.Sweeps, 1),
		check.AtLeast("burn", c.Burn, 1),
		check.AtLeast("newton", c.Newton, 0),
		check.AtLeast("rate", c.Rate, 0),
		check.OneOf("sampler", c.Sampler, Gibbs, Metropolis, Exchange),
		check.If(normal && c.Sampler != Gibbs, "sampler: wanted gibbs for auto-normal, got %q", c.Sampler),
		check.If(normal && c.Sabotage == Flip, "sabotage: auto-normal is fitted in one step and cannot be flipped"),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze),
	)
}

// A Preset is a named set of settings and what it is for.
type Preset struct {
	Title  string
	Config Config
}

func preset(family string, levels int, change func(*Config)) Config {
	c := Config{Family: family, Levels: levels, Field: true, Order: 4, Steps: 150, Rate: 0.2, Chains: 2, Sweeps: 10, Burn: 200, Sampler: Gibbs}
	c.Guard.MaxValue = 1e7
	change(&c)
	return c
}

// Presets is the table of settings with a name. The original settings could not be found: "published" is
// the auto-binomial model of Cross and Jain fitted as they did, by pseudo-likelihood alone.
var Presets = map[string]Preset{
	"auto-binomial": {"one texture of 8 grey levels", preset(AutoBinomial, 8, func(*Config) {})},
	"published": {"auto-binomial by pseudo-likelihood, pictures drawn by exchange", preset(AutoBinomial, 8, func(c *Config) {
		c.Steps, c.Newton, c.Sampler = 10, 10, Exchange
	})},
	"potts": {"one texture of 8 grey levels whose equality counts", preset(Potts, 8, func(*Config) {})},
	"ising": {"one texture in black and white", preset(Ising, 2, func(*Config) {})},
	"auto-normal": {"one texture as a Gaussian field", preset(AutoNormal, 0, func(c *Config) {
		c.Steps = 20
	})},
}

// For returns the settings for data of the given dimensions: "small" and "paper" pick the preset that
// fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Named("mrf", Presets, "auto-binomial", "published", name, 0, dims)
	return p.Config, err
}
