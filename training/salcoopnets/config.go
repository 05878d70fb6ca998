package salcoopnets

import (
	"ebmrun/training"
	"ebmrun/training/check"
	"ebmrun/training/conditionalcoopnets"
)

// Config are the settings of the system: those of conditional learning, where an
// example is a saliency map and its condition the picture, and what the supervisor knows.
type Config struct {
	conditionalcoopnets.Config `yaml:",inline"`

	// Supervision is "full", by whole maps, or "scribbles", by maps that are known on
	// strokes alone (the set's "scribbles": 1, −1, and 0 where unknown).
	Supervision string `yaml:"supervision"`
	// Warm is the iterations in which the generator learns from scribbles alone, before
	// maps are recovered and the energy begins to learn.
	Warm int `yaml:"warm"`
	// Revise is the iteration from which the energy revises recovered maps: before, it
	// has to learn.
	Revise int `yaml:"revise"`
	// Recover is the inference of the code behind a map of which scribbles are known.
	Recover training.Langevin `yaml:"recover"`
	// Decide has every pixel of a recovered map take the side, 1 or −1, that it is on: true
	// maps have no others, and a map that hesitates teaches to hesitate.
	Decide bool `yaml:"decide"`
	// Known is what an error on a stroke weighs beside one on what is recovered.
	Known float64 `yaml:"known"`
	// Mirror has half of the pictures learned from left to right.
	Mirror bool `yaml:"mirror"`
	// Draws are the maps whose mean is a prediction.
	Draws int `yaml:"draws"`
}

// The supervisors.
const (
	Full      = "full"
	Scribbles = "scribbles"
)

// Background is a way to spoil weakly supervised learning: maps are not recovered, what
// is unknown is taken for background.
const Background = "background"

// conditional is the part that conditional learning knows.
func (c *Config) conditional() conditionalcoopnets.Config {
	part := c.Config
	if part.Sabotage == Background {
		part.Sabotage = ""
	}
	return part
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	part, weak := c.conditional(), c.Supervision == Scribbles
	return check.First(
		part.Check(),
		check.When(weak, check.In("recover", c.Recover.Check())),
		check.OneOf("supervision", c.Supervision, Full, Scribbles),
		check.If(c.Classes != 0, "classes: a saliency map is drawn from a picture: wanted 0, got %d", c.Classes),
		check.If(c.Warm < 0 || !weak && c.Warm > 0, "warm: wanted 0 or more iterations, and 0 under full supervision, got %d", c.Warm),
		check.When(weak, check.AtLeast("known", c.Known, 0)),
		check.AtLeast("revise", c.Revise, 0),
		check.AtLeast("draws", c.Draws, 1),
		check.If(c.Sabotage == Background && !weak, "sabotage: background wants supervision by scribbles"),
	)
}

// small lets the teacher's share in what the generator is taught grow from 0.
func small(net, gen string, steps int) Config {
	c := Config{Supervision: Full, Draws: 4}
	c.Net, c.Init, c.Steps, c.Batch, c.Sigma = net, gen, steps, 16, 0.3
	c.Langevin = training.Langevin{Steps: 8, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}}
	c.Inference = training.Langevin{Steps: 3, Step: 0.02, Noise: 1, GradClip: 1e3}
	c.Optim = training.Optim{LR: 5e-4, Betas: [2]float64{0.5, 0.999}, Clip: 1}
	c.Teach = training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}, Clip: 10, Decay: 0.05}
	c.Truth, c.TruthEnd, c.ScoreL2 = 1, 0.3, 0.05
	return c
}

func scribbles(c Config) Config {
	c.Supervision, c.Warm, c.Revise, c.TruthEnd = Scribbles, c.Steps/2, c.Steps+1, 0.6
	c.Recover = training.Langevin{Steps: 5, Step: 0.02, Noise: 1, GradClip: 1e3}
	c.Decide, c.Known = true, 4
	return c
}

// published has the settings of the authors' released code on networks of this package.
func published(net, gen string) Config {
	c := small(net, gen, 300000)
	c.Batch, c.TruthEnd = 1, 0
	c.Langevin = training.Langevin{Steps: 3, Step: 0.001, Noise: 1}
	c.Inference = training.Langevin{Steps: 3, Step: 0.1, Noise: 1}
	c.Optim = training.Optim{LR: 1e-3}
	c.Teach = training.Optim{LR: 5e-5}
	c.ScoreL2, c.Guard.MaxValue = 0, 1e7
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"maps-16":      {"16×16 maps", small("coop-16", "unet-16", 1000)},
	"maps-32":      {"32×32 maps", small("coop-32", "unet-32", 1000)},
	"maps-64":      {"64×64 maps", small("coop-64", "unet-64", 1000)},
	"scribbles-16": {"16×16 maps known on strokes", scribbles(small("coop-16", "unet-16", 1000))},
	"scribbles-32": {"32×32 maps known on strokes", scribbles(small("coop-32", "unet-32", 1000))},
	"scribbles-64": {"64×64 maps known on strokes", scribbles(small("coop-64", "unet-64", 1000))},
	"published-16": {"sampling and learning rates of the released code, 16×16", published("coop-16", "unet-16")},
	"published-32": {"the same, 32×32", published("coop-32", "unet-32")},
	"published-64": {"the same, 64×64", published("coop-64", "unet-64")},
}

// For returns the settings for data of the given dimensions: "small", "scribbles" and
// "paper" pick the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Sized("salcoopnets", Presets, map[string]string{"": "maps", "small": "maps", "scribbles": "scribbles", "paper": "published"}, name, dims)
	return p.Config, err
}
