package video

import (
	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/check"
	"ebmrun/training/data"
	"ebmrun/training/generativeconvnet"
)

// What is missing from clips that are learned from.
const (
	Region = "region" // a square in every frame, at another place in each
	Frames = "frames" // whole frames
	Pixels = "pixels" // single pixels
	Own    = "own"    // what the data's own masks say, such as a moving object
)

// Config are the settings of the system: those of maximum-likelihood learning, and
// of clips with holes.
type Config struct {
	generativeconvnet.Config `yaml:",inline"`

	Mask     string            `yaml:"mask,omitempty"` // region, frames, pixels or own; none where clips are whole
	Missing  float64           `yaml:"missing"`        // share of a frame, of the frames or of the pixels that is missing
	Recovery training.Langevin `yaml:"recovery"`       // of holes, in every iteration
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Config.Check(),
		check.In("recovery", c.Recovery.Check()),
		check.OneOf("mask", c.Mask, "", Region, Frames, Pixels, Own),
		check.If(c.Mask != "" && c.Mask != Own && !(c.Missing > 0 && c.Missing < 1), "missing: wanted a share between 0 and 1, got %g", c.Missing),
	)
}

// texture has the released settings, in [0, 255] minus the mean and with the
// reference N(0, 1).
func texture(net string, steps int) Config {
	c := Config{
		Config: generativeconvnet.Config{
			Net: net, Steps: steps, Batch: 3,
			Langevin: training.Langevin{Steps: 20, Step: 0.3, Noise: 1, Fused: true},
			Chains:   generativeconvnet.Chains{Init: generativeconvnet.Persistent, Start: generativeconvnet.Gaussian, Buffer: 3},
			Optim:    training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}},
			Guard:    training.Guard{MaxValue: 1e7},
		},
		Missing:  0.5,
		Recovery: training.Langevin{Steps: 20, Step: 0.3, Noise: 1},
	}
	c.Reference.Sigma, c.Data.Scale = 1, data.Bytes
	return c
}

func published(layers ...energy.Layer) Config {
	c := texture("", 500)
	c.Spec = &energy.Spec{Activation: "relu", Init: "normal:0.001", SumActive: true, Layers: layers}
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"clip": {"clips of some 24 frames of 32×32 and more", texture("video-small", 300)},
	"published": {"stationary in space and time, 70 frames of 224×224 (released code of the authors)", published(
		energy.Layer{Filters: 120, Kernel: 15, Stride: 7, Same: true},
		energy.Layer{Filters: 40, Kernel: 7, Stride: 3, Same: true},
		energy.Layer{Filters: 20, Kernels: []int{2, 3, 3}, Strides: []int{1, 2, 2}, Same: true})},
	"published-temporal": {"stationary in time alone, 70 frames of 100×100 (released code of the authors)", published(
		energy.Layer{Filters: 120, Kernel: 7, Stride: 2, Same: true},
		energy.Layer{Filters: 30, Kernels: []int{5, 50, 50}, Stride: 2, Pads: []int{2, 0, 0}},
		energy.Layer{Filters: 5, Kernels: []int{2, 1, 1}, Strides: []int{1, 2, 2}, Pads: []int{1, 0, 0}})},
}

// For returns the settings for clips [C, D, H, W]: "small" and "paper" pick a
// preset, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Named("video", Presets, "clip", "published", name, 4, dims)
	return p.Config, err
}
