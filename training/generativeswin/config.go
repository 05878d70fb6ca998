package generativeswin

import (
	"math"

	"ebmrun/onnxmodels/swin"
	"ebmrun/training"
	"ebmrun/training/check"
	"ebmrun/training/latentebm"
)

// Config are the settings of the system: those of a learned prior of codes, where the
// generator is a named network of package swin, and an example a saliency map.
type Config struct {
	latentebm.Config `yaml:",inline"`

	Swin    *swin.Spec `yaml:"swin_spec,omitempty"` // in place of a named network
	Weights string     `yaml:"weights,omitempty"`   // trained transformer to begin with: its .onnx file, or a file of its weights by name
	Draws   int        `yaml:"draws"`               // maps whose mean is a prediction
	Loss    string     `yaml:"loss"`                // what the transformer learns by: gaussian (the default), or structure, as package swin has them
	Overlap float64    `yaml:"overlap"`             // weight of the overlap in the structure loss, 1 in the paper, which 0 stands for
	Begin   int        `yaml:"begin"`               // iterations with codes of the prior, before an example has a say in its code, at full weight after as many again
	Mirror  bool       `yaml:"mirror"`              // half of the pictures are learned from left to right
	Piece   int        `yaml:"piece"`               // examples that the transformer learns from at one time, which bounds memory; 0 is all
}

// Mean is a way to spoil learning: the likelihood of the code is the mean over the pixels
// of a batch, not their sum for each example.
const Mean = "mean"

// latent is the part that learning a prior knows.
func (c *Config) latent() latentebm.Config {
	part := c.Config
	if part.Sabotage == Mean {
		part.Sabotage = ""
	}
	return part
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	part := c.latent()
	return check.First(
		part.Check(),
		check.If(c.GenSpec != nil, "generator_spec: wanted swin_spec, of a network that looks at pictures"),
		check.AtLeast("draws", c.Draws, 1),
		check.AtLeast("begin", c.Begin, 0),
		check.AtLeast("overlap", c.Overlap, 0),
		check.AtLeast("piece", c.Piece, 0),
		check.OneOf("loss", c.Loss, "", swin.Gaussian, swin.Structure),
	)
}

// Network is the generator's description.
func (c *Config) Network() (s swin.Spec, err error) {
	if c.Swin != nil {
		s = *c.Swin
	} else if s, err = swin.ByName(c.Generator); err != nil {
		return s, err
	}
	s.Loss, s.Overlap, s.Tanh = c.Loss, c.Overlap, s.Tanh || c.Loss == swin.Structure
	return s, nil
}

// Residual is the deviation of the residual that codes are inferred with, for maps of so
// many pixels.
func (c *Config) Residual(pixels int) float64 {
	if c.Sabotage == Mean {
		return c.Sigma * math.Sqrt(float64(pixels*c.Batch))
	}
	return c.Sigma
}

// small gives the overlap less weight than the paper: it would have a map show both of
// two things where either may be meant, which leaves codes nothing to choose. A smaller
// deviation lets codes choose more, and know more of what the picture tells.
func small(net string, side int) Config {
	c := Config{Draws: 8, Loss: swin.Structure, Overlap: 0.4, Mirror: true}
	c.Generator, c.Hidden, c.Steps, c.Batch, c.Sigma = net, []int{60, 60}, 2000, 16, float64(side)/32
	c.Reference.Sigma, c.Begin = 1, c.Steps/6
	c.Prior = training.Langevin{Steps: 5, Step: 0.4, Noise: 1, Clamp: [2]float64{-6, 6}, Fused: true}
	c.Posterior = training.Langevin{Steps: 5, Step: 0.2, Noise: 1, GradClip: 60, Clamp: [2]float64{-6, 6}}
	c.Infer = 20
	c.Optim = training.Optim{LR: 1e-4, Betas: [2]float64{0.5, 0.999}}
	c.Teach = training.Optim{LR: 2e-3, Betas: [2]float64{0.5, 0.999}, Clip: 10, Decay: 0.05, Warmup: 30}
	return c
}

// whole has the loss of the paper.
func whole(net string, side int) Config {
	c := small(net, side)
	c.Overlap, c.Sigma = 1, 0.7*float64(side)/32
	return c
}

// four learns a deeper network, more slowly: at the rate of the others its loss leaps.
func four() Config {
	c := whole("swin-96", 96)
	c.Steps, c.Teach.LR, c.Teach.Warmup = 2000, 5e-4, 60
	c.Begin = c.Steps / 6
	return c
}

// trained has the schedule and the chains of the small networks, for a transformer that
// has been trained before.
func trained(net string, side int) Config {
	c := whole(net, side)
	c.Steps, c.Batch, c.Piece = 12000, 8, 1
	c.Begin = c.Steps / 6
	c.Teach.LR, c.Teach.Warmup = 1e-4, 200
	return c
}

// published has the rates and chains of the authors' released code, with the likelihood of
// the paper. Its deviation, in the scale from −1 to 1, is that of 32×32 pixels and grows with the side,
// and codes hear of examples when the small ones do. The rate, which the authors halve from the twentieth
// of thirty epochs on, falls along a cosine.
func published(net string, side int) Config {
	c := whole(net, side)
	c.Batch, c.Steps, c.Draws, c.Sigma = 10, 30*1055, 10, 0.6*float64(side)/32
	c.Begin, c.Posterior.Step, c.Infer = c.Steps/6, 0.1, c.Posterior.Steps
	c.Piece = 1
	c.Optim.LR = 6e-5
	c.Teach = training.Optim{LR: 6e-5, Betas: [2]float64{0.5, 0.999}, Decay: 0.01}
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"maps-16":       {"16×16 maps", small("swin-16", 16)},
	"maps-32":       {"32×32 maps", small("swin-32", 32)},
	"maps-64":       {"64×64 maps", small("swin-64", 64)},
	"maps-96":       {"96×96 maps, four stages", four()},
	"maps-224":      {"224×224 maps, on a trained Swin-T", trained("swin-tiny", 224)},
	"maps-384":      {"384×384 maps, on a trained Swin-B", trained("swin-base", 384)},
	"published-16":  {"chains and rates of the released code, 16×16", published("swin-16", 16)},
	"published-32":  {"the same, 32×32", published("swin-32", 32)},
	"published-64":  {"the same, 64×64", published("swin-64", 64)},
	"published-96":  {"the same, 96×96", published("swin-96", 96)},
	"published-224": {"the same, 224×224, on Swin-T", published("swin-tiny", 224)},
	"published-384": {"released code, 384×384, on Swin-B", published("swin-base", 384)},
}

// For returns the settings for maps of the given dimensions: "small" and "paper" pick
// the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Sized("generative-swin", Presets, map[string]string{"": "maps", "small": "maps", "paper": "published"}, name, dims)
	return p.Config, err
}
