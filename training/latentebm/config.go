package latentebm

import (
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/training"
	"ebmrun/training/check"
)

// Config are the settings of the system.
type Config struct {
	Generator string          `yaml:"generator"` // a named generator
	GenSpec   *generator.Spec `yaml:"generator_spec,omitempty"`
	Hidden    []int           `yaml:"hidden"` // units of the prior's hidden layers, GELU

	Steps     int               `yaml:"steps"`     // learning iterations
	Batch     int               `yaml:"batch"`     // examples, and codes of the prior, per iteration
	Prior     training.Langevin `yaml:"prior"`     // short run on the prior
	Posterior training.Langevin `yaml:"posterior"` // short run on the posterior of an example's code
	Infer     int               `yaml:"infer"`     // steps that explain a new example
	Restarts  int               `yaml:"restarts"`  // chains that explain it, of which the likeliest is kept [1]
	Reference struct {
		Sigma float64 `yaml:"sigma"` // σ0, where chains begin
	} `yaml:"reference"`
	Sigma float64        `yaml:"sigma"` // deviation of the residual x − g(z)
	Optim training.Optim `yaml:"optim"` // of the prior
	Teach training.Optim `yaml:"teach"` // of the generator
	Guard training.Guard `yaml:"guard"`

	// Sabotage spoils learning, to show that a test can fail: "flip" swaps the codes
	// of prior and posterior where the prior learns, "freeze" updates nothing.
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
		check.In("prior", c.Prior.Check()),
		check.In("posterior", c.Posterior.Check()),
		check.EachAtLeast("hidden", c.Hidden, 1),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("batch", c.Batch, 1),
		check.AtLeast("infer", c.Infer, 1),
		check.AtLeast("restarts", c.Restarts, 0),
		check.Positive("sigma", c.Sigma),
		check.Positive("reference.sigma", c.Reference.Sigma),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze),
	)
}

// PriorNet describes f: a multi-layer perceptron of codes.
func (c *Config) PriorNet() energy.Spec {
	s := energy.Spec{Activation: "gelu"}
	for _, h := range c.Hidden {
		s.Layers = append(s.Layers, energy.Layer{Filters: h})
	}
	s.Layers = append(s.Layers, energy.Layer{Filters: 1})
	return s
}

// GeneratorNet is the generator's description.
func (c *Config) GeneratorNet() (generator.Spec, error) {
	return onnxmodels.Chosen(c.GenSpec, generator.ByName, c.Generator)
}

// bounded holds codes within six deviations of p0.
func bounded(steps int, step float64) training.Langevin {
	return training.Langevin{Steps: steps, Step: step, Noise: 1, Clamp: [2]float64{-6, 6}}
}

func small(gen string, hidden, batch, steps int) Config {
	c := Config{
		Generator: gen, Hidden: []int{hidden, hidden}, Steps: steps, Batch: batch, Sigma: 0.3,
		Prior: bounded(30, 0.3), Posterior: bounded(15, 0.1), Infer: 60,
		Optim: training.Optim{LR: 2e-4, Betas: [2]float64{0.5, 0.999}},
		Teach: training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}},
	}
	c.Prior.Fused = true
	c.Reference.Sigma = 1
	return c
}

// anomalies has few codes and a wide residual, by which log p(x, z) is not the residual's
// alone: what the prior thinks of a code counts as much as how well it explains the example.
func anomalies() Config {
	c := small("", 200, 50, 2500)
	g := generator.Nets["deconv28"].Spec
	g.Codes = 8
	c.GenSpec, c.Sigma = &g, 1
	c.Prior, c.Posterior, c.Infer = bounded(40, 0.4), bounded(10, 0.2), 40
	c.Prior.Fused = true
	c.Optim.LR, c.Optim.Decay, c.Teach.Decay = 3e-4, 0.1, 0.1
	return c
}

// published has the settings of the authors' released code. Its first layer is a
// convolution of 1×1, here a dense layer with a bias for every position; the
// rates, which the authors multiply by 0.998 every epoch, fall along a cosine to
// what that comes to.
func published(k0, k1, batch, hidden, examples, epochs int, filters ...int) Config {
	g := &generator.Spec{Codes: 100, Start: 4, Filters: filters[0], Activation: "leaky", Tanh: true, Init: "xavier"}
	for _, n := range append(filters[1:], 0) { // the last is replaced by the data's channels
		g.Layers = append(g.Layers, generator.Layer{Filters: n, Kernel: 4, Stride: 2, Pad: 1})
	}
	c := Config{
		GenSpec: g, Hidden: []int{hidden, hidden}, Steps: examples / batch * epochs, Batch: batch, Sigma: 0.3,
		Prior:     training.Langevin{Steps: k0, Step: 0.4, Noise: 1},
		Posterior: training.Langevin{Steps: k1, Step: 0.1, Noise: 1}, Infer: k1,
		Optim: training.Optim{LR: 2e-5, Betas: [2]float64{0.5, 0.999}},
		Teach: training.Optim{LR: 1e-4, Betas: [2]float64{0.5, 0.999}},
	}
	for _, o := range []*training.Optim{&c.Optim, &c.Teach} {
		o.Decay = 0.67
		if epochs > 300 {
			o.Decay = 0.45
		}
	}
	c.Reference.Sigma = 1
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"pictures-16":   {"16×16 pictures, 8 codes", small("deconv16", 64, 64, 500)},
	"pictures-28":   {"28×28 pictures, 20 codes", small("deconv28", 100, 100, 1500)},
	"pictures-32":   {"32×32 pictures, 32 codes", small("deconv32", 100, 64, 1500)},
	"pictures-64":   {"64×64 pictures, 100 codes", small("deconv64", 200, 50, 1500)},
	"points":        {"points in the plane, 2 codes", small("mlp", 64, 200, 1500)},
	"anomalies-28":  {"28×28 pictures, 8 codes, to tell what is unlike the data", anomalies()},
	"published-32":  {"released code for SVHN, 32×32", published(60, 20, 100, 200, 73257, 201, 512, 256, 128)},
	"published-128": {"released code for faces, 128×128", published(80, 40, 400, 1000, 30000, 400, 2048, 1024, 512, 256, 128)},
}

// For returns the settings for data of the given dimensions: "small" and
// "paper" pick the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Sized("latent-ebm", Presets, training.Pictures, name, dims)
	return p.Config, err
}
