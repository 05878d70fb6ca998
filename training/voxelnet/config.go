package voxelnet

import (
	"fmt"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/check"
	"ebmrun/training/data"
	"ebmrun/training/generativeconvnet"
)

// Config are the settings of the system: those of maximum-likelihood learning, and
// of the chains that complete and refine shapes.
type Config struct {
	generativeconvnet.Config `yaml:",inline"`

	Recovery   training.Langevin `yaml:"recovery"`   // of damaged voxels
	Hold       bool              `yaml:"hold"`       // recovery holds what is known at every step
	Resolution training.Langevin `yaml:"resolution"` // of finer voxels
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Config.Check(),
		check.In("recovery", c.Recovery.Check()),
		check.In("resolution", c.Resolution.Check()),
	)
}

// small uses the temperature of the generative ConvNet's presets for pictures:
// with the released settings shapes of 16³ are still clouds after as many updates.
func small(net string, steps int) Config {
	l := training.Langevin{Steps: 20, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}, Fused: true}
	c := Config{
		Config: generativeconvnet.Config{
			Net: net, Steps: steps, Batch: 20, Langevin: l,
			Chains:  generativeconvnet.Chains{Init: generativeconvnet.Persistent, Buffer: 200, Restart: 0.05},
			Optim:   training.Optim{LR: 2e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
			ScoreL2: 0.05,
		},
	}
	c.Data.Noise = 0.01
	l.Noise, l.Fused = 0, false
	c.Recovery, c.Resolution = l, l
	c.Recovery.Steps, c.Hold = 90, true
	return c
}

// published has the settings of the released code for 32³, on occupancies minus
// their mean with the reference N(0, 0.5²). (One update an epoch of all shapes
// there, one a batch here.)
func published() Config {
	c := Config{
		Config: generativeconvnet.Config{
			Steps: 3000, Batch: 20, NoiseFor: 100,
			Langevin: training.Langevin{Steps: 20, Step: 0.1, Noise: 1},
			Chains:   generativeconvnet.Chains{Init: generativeconvnet.Persistent, Start: generativeconvnet.Gaussian, Buffer: 25},
			Optim:    training.Optim{LR: 0.01, Betas: [2]float64{0.5, 0.999}},
			Guard:    training.Guard{MaxValue: 1e7},
		},
		Recovery:   training.Langevin{Steps: 90, Step: 0.07},
		Resolution: training.Langevin{Steps: 10, Step: 0.01},
	}
	c.Spec = &energy.Spec{Activation: "relu", Init: "normal:0.001", Layers: []energy.Layer{
		{Filters: 200, Kernel: 16, Stride: 3, Same: true}, {Filters: 100, Kernel: 6, Stride: 2, Same: true}, {Filters: 1, Kernel: 6},
	}}
	c.Reference.Sigma, c.Data.Scale = 0.5, data.Share
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"voxels-16":    {"16³ voxels", small("voxel-16", 400)},
	"voxels-32":    {"32³ voxels", small("voxel-32", 400)},
	"published-32": {"32³ voxels, released code of the authors", published()},
}

// For returns the settings for data of the dimensions [1, D, H, W]: "small" and
// "paper" pick the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	pick := name
	switch name {
	case "", "small":
		if pick = "voxels-16"; dims[len(dims)-1] > 16 {
			pick = "voxels-32"
		}
	case "paper":
		pick = fmt.Sprintf("published-%d", dims[len(dims)-1])
	}
	if len(dims) != 4 {
		pick = ""
	}
	p, err := training.Preset("voxelnet", Presets, pick, name, dims)
	return p.Config, err
}
