package generativeconvnet

import (
	"ebmrun/training"
	"ebmrun/training/data"
)

// A Preset is a named set of settings and what it is for.
type Preset struct {
	Title  string
	Config Config
}

func demo(net string) Config {
	c := Config{
		Net: net, Steps: 1000, Batch: 64,
		Langevin: training.Langevin{Steps: 20, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}, Fused: true},
		Chains:   Chains{Init: Persistent, Buffer: 1000, Restart: 0.05},
		Optim:    training.Optim{LR: 2e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
		ScoreL2:  0.05,
	}
	c.Data.Noise = 0.01
	return c
}

func shortRun(net string, steps int) Config {
	c := demo(net)
	c.Chains = Chains{Init: FromNoise}
	c.Langevin.Steps = steps
	return c
}

func with(c Config, change func(*Config)) Config {
	change(&c)
	return c
}

// Presets is the table of settings with a name. Those marked "published" follow
// the authors' released code; the others are sized for two cores.
var Presets = map[string]Preset{
	"digits":       {"28×28 pictures, persistent chains, two minutes on two cores", demo("digits28")},
	"digits-short": {"28×28 pictures, short-run chains from noise", shortRun("digits28-leaky", 30)},
	"pictures-16":  {"16×16 pictures, persistent chains", demo("swish-16")},
	"pictures-32":  {"32×32 pictures, persistent chains", demo("swish-32")},
	"pictures-64":  {"64×64 pictures, persistent chains", with(demo("swish-64"), func(c *Config) { c.Batch = 32 })},
	"texture-small": {"one texture of 64×64 or more: summed ReLU maps, Gaussian reference", with(Config{
		Net: "texture-small", Steps: 300, Batch: 3,
		Langevin: training.Langevin{Steps: 20, Step: 0.3, Noise: 1, Fused: true},
		Chains:   Chains{Init: Persistent, Start: Gaussian, Buffer: 3},
		Optim:    training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}},
	}, func(c *Config) {
		// scores are sums over a map of thousands of numbers in [0, 255]
		c.Reference.Sigma, c.Data.Scale, c.Guard.MaxValue = 1, data.Bytes, 1e6
	})},
	"rings-demo": {"points in the plane, within a minute on the pure-Go engine", with(Config{
		Net: "mlp-small", Steps: 800, Batch: 100,
		Langevin: training.Langevin{Steps: 20, Step: 0.15, Noise: 1},
		Chains:   Chains{Init: Persistent, Start: Gaussian, Buffer: 2000, Restart: 0.02},
		Optim:    training.Optim{LR: 3e-3, Betas: [2]float64{0.5, 0.999}, Clip: 10, Decay: 0.1},
	}, func(c *Config) { c.Reference.Sigma = 2 })},
	"points": {"points in the plane", with(Config{
		Net: "mlp", Steps: 2000, Batch: 200,
		Langevin: training.Langevin{Steps: 40, Step: 0.1, Noise: 1, Fused: true},
		Chains:   Chains{Init: Persistent, Start: Gaussian, Buffer: 4000, Restart: 0.02},
		Optim:    training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}, Clip: 10},
	}, func(c *Config) { c.Reference.Sigma = 2 })},
	"texture-published": {"published: 224×224 texture (released code of the authors)", with(Config{
		Net: "texture", Steps: 600, Batch: 3,
		Langevin: training.Langevin{Steps: 20, Step: 0.3, Noise: 1},
		Chains:   Chains{Init: Persistent, Start: Gaussian, Buffer: 3},
		Optim:    training.Optim{LR: 5e-4, Betas: [2]float64{0.5, 0.999}},
	}, func(c *Config) { c.Reference.Sigma = 1; c.Data.Scale = data.Bytes })},
	"object-published": {"published: 110×110 objects (released code of the authors)", with(Config{
		Net: "object", Steps: 1000, Batch: 16,
		Langevin: training.Langevin{Steps: 10, Step: 0.1, Noise: 1},
		Chains:   Chains{Init: Persistent, Start: Gaussian, Buffer: 16},
		Optim:    training.Optim{LR: 1e-4, Betas: [2]float64{0.5, 0.999}},
	}, func(c *Config) { c.Reference.Sigma = 1; c.Data.Scale = data.Bytes })},
	// Gain mode x ← x + ∂f/∂x + 0.01·ε: s²/2 = 1 and s·τ = 0.01.
	"short-run-published": {"published: 32×32 short-run MCMC (Nijkamp et al., 2019), 100,000 iterations", with(Config{
		Net: "short-run-32-wide", Steps: 100000, Batch: 64,
		Langevin: training.Langevin{Steps: 100, Step: 1.4142135623730951, Noise: 0.00707106781186548, Clamp: [2]float64{-1e9, 1e9}},
		Chains:   Chains{Init: FromNoise},
		Optim:    training.Optim{LR: 1e-4, Betas: [2]float64{0.9, 0.999}},
	}, func(c *Config) { c.Data.Noise = 0.03 })},
}

// For returns the settings for data of the given dimensions: "small" and
// "paper" pick the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, examples int) (Config, error) {
	points := len(dims) == 1 || dims[1] == 1 && dims[2] == 1
	pick := ""
	switch name {
	case "", "small":
		switch {
		case points:
			pick = "points"
		case examples == 1 && dims[1] <= 128 && dims[2] <= 128: // scores are sums over all places
			pick = "texture-small"
		case dims[1] == 28:
			pick = "digits"
		case dims[1] == 16:
			pick = "pictures-16"
		case dims[1] == 32:
			pick = "pictures-32"
		case dims[1] == 64:
			pick = "pictures-64"
		}
	case "paper":
		switch {
		case points:
			pick = "points"
		case examples == 1 && dims[1] == 224:
			pick = "texture-published"
		case dims[1] == 110:
			pick = "object-published"
		case dims[1] == 32:
			pick = "short-run-published"
		}
	default:
		pick = name
	}
	p, err := training.Preset("generative-convnet", Presets, pick, name, dims)
	return p.Config, err
}
