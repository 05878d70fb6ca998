package coopvaebm

import (
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
	"ebmrun/training/check"
	"ebmrun/training/vae"
)

// Config are the settings of the system.
type Config struct {
	Net      string       `yaml:"net"` // a named energy
	Spec     *energy.Spec `yaml:"spec,omitempty"`
	vae.Nets `yaml:",inline"`

	Steps     int               `yaml:"steps"`    // learning iterations
	Batch     int               `yaml:"batch"`    // examples per iteration
	Drafts    int               `yaml:"drafts"`   // drafts per iteration, each a chain
	Langevin  training.Langevin `yaml:"langevin"` // the teacher's revision of a draft
	Reference struct {
		Sigma float64 `yaml:"sigma"` // of the energy's Gaussian reference density
	} `yaml:"reference"`
	Sigma   float64        `yaml:"sigma"` // deviation of the generator's residual
	KL      vae.KL         `yaml:"kl"`
	Optim   training.Optim `yaml:"optim"` // of the energy
	Teach   training.Optim `yaml:"teach"` // of encoder and generator
	ScoreL2 float64        `yaml:"score_l2"`
	Rounds  int            `yaml:"rounds"` // of encoding, decoding and revision that fill in hidden entries
	Guard   training.Guard `yaml:"guard"`

	// Sabotage spoils learning, to show that a test can fail: "flip" turns the sign
	// of the energy's gradient, "freeze" never updates encoder and generator,
	// "flip-kl" turns the sign of the divergence.
	Sabotage string `yaml:"sabotage,omitempty"`
}

// The ways to spoil learning.
const (
	Flip   = "flip"
	Freeze = "freeze"
	FlipKL = "flip-kl"
)

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Langevin.Check(),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("batch", c.Batch, 1),
		check.AtLeast("drafts", c.Drafts, 1),
		check.AtLeast("rounds", c.Rounds, 1),
		check.Positive("sigma", c.Sigma),
		check.AtLeast("reference.sigma", c.Reference.Sigma, 0),
		check.AtLeast("score_l2", c.ScoreL2, 0),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze, FlipKL),
		c.KL.Check(),
	)
}

// EnergyNet is the energy's description.
func (c *Config) EnergyNet() (energy.Spec, error) {
	return onnxmodels.Chosen(c.Spec, energy.ByName, c.Net)
}

// small uses the temperature of the generative ConvNet's presets: scores stay near
// zero and a small energy net needs no gradients of order x/σ_ref². The teacher's
// rate falls, so that where a run ends is not a matter of luck; the student's does
// not, or it falls behind.
func small(net, enc, gen string, steps int) Config {
	return Config{
		Net: net, Nets: vae.Nets{Encoder: enc, Generator: gen}, Steps: steps, Batch: 64, Drafts: 64, Sigma: 0.6, Rounds: 10,
		KL:       vae.KL{Weight: 1, Warmup: steps / 10},
		Langevin: training.Langevin{Steps: 15, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}, Fused: true},
		Optim:    training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.5},
		Teach:    training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}},
		ScoreL2:  0.05,
	}
}

// published has the settings of the authors' released code, with σ = 1 and the
// weight of the divergence that its weight of an unscaled squared error, 2σ²γ,
// stands for. The released generators have batch normalisation, these have none;
// rates that it multiplies by 0.98 every 20 epochs are constant here.
func published(batch, drafts, steps, k int, step, teach, weight float64, enc string, e energy.Spec, g generator.Spec) Config {
	c := Config{
		Spec: &e, Nets: vae.Nets{Encoder: enc, GenSpec: &g}, Steps: steps, Batch: batch, Drafts: drafts, Sigma: 1, Rounds: 10,
		KL:       vae.KL{Weight: weight},
		Langevin: training.Langevin{Steps: k, Step: step},
		Optim:    training.Optim{LR: 0.009, Betas: [2]float64{0.5, 0.999}},
		Teach:    training.Optim{LR: teach, Betas: [2]float64{0.5, 0.999}},
	}
	c.Reference.Sigma = 0.016
	c.Guard.MaxValue = 1e7
	return c
}

func up(filters int) generator.Layer {
	return generator.Layer{Filters: filters, Kernel: 4, Stride: 2, Pad: 1}
}

func down(filters int) energy.Layer {
	return energy.Layer{Filters: filters, Kernel: 4, Stride: 2, Pad: 1}
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"pictures-16": {"16×16 pictures, 8 codes", small("coop-16", "conv16", "deconv16", 500)},
	"pictures-28": {"28×28 pictures, 20 codes", small("coop-28", "conv16", "deconv28", 1500)},
	"pictures-32": {"32×32 pictures, 32 codes", small("coop-32", "conv32", "deconv32", 1500)},
	"pictures-64": {"64×64 pictures, 100 codes", small("coop-64", "conv64", "deconv64", 1500)},
	"published-32": {"released code for CIFAR-10, 32×32", published(250, 900, 1000000, 15, 0.002, 2e-4, 1, "vaebm-32",
		energy.Spec{Activation: "leaky", Init: "normal:0.005", Layers: []energy.Layer{{Filters: 64, Kernel: 3, Pad: 1}, down(128), down(256), down(256), {Filters: 1, Kernel: 4}}},
		generator.Spec{Codes: 100, Start: 4, Filters: 256, Activation: "leaky", Tanh: true, Init: "normal:0.005",
			Layers: []generator.Layer{up(128), up(64), up(64), {Kernel: 3, Pad: 1}}})},
	"published-28": {"released code for MNIST and Fashion-MNIST, 28×28", published(400, 400, 750000, 50, 0.001, 1e-4, 1.5, "vaebm-28",
		energy.Spec{Activation: "leaky", Init: "normal:0.005", Layers: []energy.Layer{down(64), down(128), down(256), {Filters: 1, Kernel: 3}}},
		generator.Spec{Codes: 100, Start: 7, Filters: 256, Activation: "relu", Tanh: true, Init: "normal:0.005",
			Layers: []generator.Layer{up(128), up(64), {Kernel: 3, Pad: 1}}})},
}

// For returns the settings for data of the given dimensions: "small" and
// "paper" pick the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Sized("coopvaebm", Presets, training.Pictures, name, dims)
	return p.Config, err
}
