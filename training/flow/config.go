package flow

import (
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/flow"
	"ebmrun/training"
	"ebmrun/training/check"
)

// Config are the settings of the system.
type Config struct {
	Net   string         `yaml:"net"` // a named flow
	Spec  *flow.Spec     `yaml:"spec,omitempty"`
	Steps int            `yaml:"steps"` // learning iterations
	Batch int            `yaml:"batch"` // examples per iteration
	Piece int            `yaml:"piece"` // examples that the flow learns from at one time, which bounds memory; 0 is all
	Begin int            `yaml:"begin"` // examples that the normalisations of activations are set by
	Optim training.Optim `yaml:"optim"`
	Guard training.Guard `yaml:"guard"`

	// Sabotage spoils learning, to show that a test can fail: "flip" turns the sign
	// of the gradient, "freeze" updates nothing.
	Sabotage string `yaml:"sabotage,omitempty"`
}

// The ways to spoil learning.
const (
	Flip   = "flip"
	Freeze = "freeze"
)

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("batch", c.Batch, 1),
		check.AtLeast("piece", c.Piece, 0),
		check.AtLeast("begin", c.Begin, 2),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze),
	)
}

// Network is the flow's description.
func (c *Config) Network() (flow.Spec, error) {
	return onnxmodels.Chosen(c.Spec, flow.ByName, c.Net)
}

func small(net string, batch, steps int) Config {
	return Config{Net: net, Steps: steps, Batch: batch, Begin: 256,
		Optim: training.Optim{LR: 2e-3, Clip: 100, Decay: 0.05, Warmup: 20}}
}

func plane(net string) Config {
	c := small(net, 256, 2000)
	c.Optim.LR = 3e-3
	return c
}

// published has Glow's sizes and rate. 64 examples at one time would need 17 GB.
func published(net string) Config {
	c := small(net, 64, 200000)
	c.Piece = 16
	c.Optim = training.Optim{LR: 1e-3, Warmup: 1000, Clip: 100}
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"points":         {"points in the plane, Glow", plane("glow-2d")},
	"points-realnvp": {"points in the plane, RealNVP", plane("realnvp-2d")},
	"points-flowpp":  {"points in the plane, mixtures of logistics", plane("flowpp-2d")},
	"pictures-16":    {"16×16 pictures, Glow", small("whole-16", 32, 1500)},
	"pictures-28":    {"28×28 pictures, Glow", small("glow-28", 32, 2500)},
	"pictures-32":    {"32×32 pictures, Glow", small("glow-32", 32, 1000)},
	"realnvp-28":     {"28×28 pictures, RealNVP", small("realnvp-28", 32, 1000)},
	"flowpp-28":      {"28×28 pictures, Flow++ couplings and variational dequantization", small("flowpp-28", 32, 1000)},
	"flowpp-32":      {"32×32 pictures, Flow++ couplings and variational dequantization", small("flowpp-32", 32, 1000)},
	"published-28":   {"Glow's depth and width, 28×28, 2 scales", published("glow-28-published")},
	"published-32":   {"Glow's depth and width, 32×32, 3 scales", published("glow-32-published")},
}

// For returns the settings for data of the given dimensions: "small" and "paper"
// pick the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Sized("flow", Presets, training.Pictures, name, dims)
	return p.Config, err
}
