package coopflow

import (
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	nets "ebmrun/onnxmodels/flow"
	"ebmrun/training"
	"ebmrun/training/check"
)

// Config are the settings of the system.
type Config struct {
	Net     string       `yaml:"net"`  // a named energy
	Flow    string       `yaml:"flow"` // a named flow
	Spec    *energy.Spec `yaml:"spec,omitempty"`
	NetSpec *nets.Spec   `yaml:"flow_spec,omitempty"`

	Steps int `yaml:"steps"` // learning iterations, those before included
	// The pre-trained variant: so many iterations teach the flow by data alone, then
	// so many the energy alone, and then both learn together. 0 and 0 is from scratch.
	Pretrain int            `yaml:"pretrain"`
	Prepare  training.Optim `yaml:"prepare"` // of the flow in the iterations before; without a rate it is teach
	Alone    int            `yaml:"alone"`
	Every    int            `yaml:"every"` // the flow learns in one of so many iterations

	Batch    int               `yaml:"batch"`    // examples, and drafts, per iteration
	Piece    int               `yaml:"piece"`    // examples that the flow learns from at one time, which bounds memory; 0 is all
	Begin    int               `yaml:"begin"`    // examples that the flow's normalisations are set by
	Langevin training.Langevin `yaml:"langevin"` // the Langevin flow that revises a draft
	Step     float64           `yaml:"step"`     // its step size outside learning; 0 is the same

	Reference struct {
		Sigma float64 `yaml:"sigma"` // of the energy's Gaussian reference density; 0 is uniform
	} `yaml:"reference"`
	ScoreL2 float64        `yaml:"score_l2"`
	Optim   training.Optim `yaml:"optim"` // of the energy
	Teach   training.Optim `yaml:"teach"` // of the flow
	Guard   training.Guard `yaml:"guard"`

	// Search is the descent to the draft behind a given example.
	Search Search `yaml:"search"`

	// Sabotage spoils learning, to show that a test can fail: "flip" turns the sign
	// of the energy's gradient, "freeze" never updates the energy.
	Sabotage string `yaml:"sabotage,omitempty"`
}

// A Search looks for drafts by Adam, at a rate that falls by a factor each step.
type Search struct {
	Steps int     `yaml:"steps"`
	Rate  float64 `yaml:"rate"`
	Fall  float64 `yaml:"fall"`

	Starts int `yaml:"starts"` // drafts to begin at for examples with unknown entries: that of the least error is kept
}

// The ways to spoil learning.
const (
	Flip   = "flip"
	Freeze = "freeze"
)

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Langevin.Check(),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("pretrain", c.Pretrain, 0),
		check.AtLeast("alone", c.Alone, 0),
		check.AtLeast("every", c.Every, 1),
		check.AtLeast("batch", c.Batch, 1),
		check.AtLeast("piece", c.Piece, 0),
		check.AtLeast("begin", c.Begin, 2),
		check.AtLeast("step", c.Step, 0),
		check.AtLeast("reference.sigma", c.Reference.Sigma, 0),
		check.AtLeast("score_l2", c.ScoreL2, 0),
		check.AtLeast("search.steps", c.Search.Steps, 1),
		check.AtLeast("search.starts", c.Search.Starts, 1),
		check.Positive("search.rate", c.Search.Rate),
		check.If(!(c.Search.Fall > 0 && c.Search.Fall <= 1), "search.fall: wanted a share above 0 and up to 1, got %g", c.Search.Fall),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze),
	)
}

// EnergyNet is the energy's description.
func (c *Config) EnergyNet() (energy.Spec, error) {
	return onnxmodels.Chosen(c.Spec, energy.ByName, c.Net)
}

// FlowNet is the flow's description.
func (c *Config) FlowNet() (nets.Spec, error) {
	return onnxmodels.Chosen(c.NetSpec, nets.ByName, c.Flow)
}

var search = Search{Steps: 200, Rate: 0.05, Fall: 0.99, Starts: 4}

// small revises as coopnets does: a small energy keeps its scores near zero, and the
// chain climbs its slopes in large steps.
func small(net, flow string, batch, steps int) Config {
	return Config{
		Net: net, Flow: flow, Steps: steps, Every: 1, Batch: batch, Begin: 256,
		Langevin: training.Langevin{Steps: 15, Step: 4.472, Noise: 0.001118, GradClip: 0.03, Clamp: [2]float64{-1, 1}, Fused: true},
		Optim:    training.Optim{LR: 1e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
		Teach:    training.Optim{LR: 1e-3, Clip: 100, Warmup: 20, Decay: 0.1},
		ScoreL2:  0.05, Search: search,
	}
}

// pre is the pre-trained variant, whose iterations before come in addition.
func pre(c Config, flow, alone int) Config {
	c.Pretrain, c.Alone = flow, alone
	c.Steps += flow
	return c
}

// prepared is pre at the rate that flows on their own have, which is for less time
// and more progress than one that must not outrun an energy.
func prepared(c Config, flow, alone int) Config {
	c.Prepare = training.Optim{LR: 2e-3, Clip: 100, Warmup: 20, Decay: 0.05}
	return pre(c, flow, alone)
}

// plane revises with noise, without which points collapse to modes. Steps outside
// learning are shorter: those of learning scatter points beyond the modes.
func plane(net, flow string) Config {
	c := small(net, flow, 256, 3000)
	c.Langevin = training.Langevin{Steps: 30, Step: 0.07, Noise: 1, GradClip: 20, Fused: true}
	c.Step = 0.05
	c.Optim = training.Optim{LR: 2e-3, Betas: [2]float64{0.5, 0.999}, Clip: 10, Decay: 0.02}
	c.Teach = training.Optim{LR: 1e-3, Clip: 100, Warmup: 20, Decay: 0.02}
	c.Reference.Sigma, c.ScoreL2 = 2, 0
	return c
}

// published has the settings of the authors' released code for CIFAR-10: no noise,
// every entry moved by at most 0.1 a step. Adam's second decay, 0.5 for the energy
// there, is 0.999, and one batch sets the normalisations, not twenty: their attention
// would not fit into 16 GB.
func published() Config {
	c := Config{
		Net: "coopflow-32-published", Flow: "flowpp-32-published", Steps: 50000 / 28 * 200, Every: 1, Batch: 28, Piece: 4, Begin: 28,
		Langevin: training.Langevin{Steps: 30, Step: 0.03, GradClip: 0.1 / (0.03 * 0.03 / 2), Clamp: [2]float64{-1, 1}},
		Step:     0.04,
		Optim:    training.Optim{LR: 1e-4, Betas: [2]float64{0.5, 0.999}, Warmup: 200},
		Teach:    training.Optim{LR: 1e-4, Clip: 1, Warmup: 200},
		Search:   search,
	}
	c.Guard.MaxValue = 1e7
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"points":           {"points in the plane", plane("mlp-small", "realnvp-2d")},
	"pictures-16":      {"16×16 pictures, Glow", small("swish-16", "glow-16", 64, 600)},
	"pictures-28":      {"28×28 pictures, Glow", small("digits28", "glow-28", 64, 800)},
	"pictures-32":      {"32×32 pictures, Glow", small("swish-32", "glow-32", 64, 600)},
	"pretrained-16":    {"the same at 16×16, a flow that keeps all values, pre-trained", prepared(small("swish-16", "whole-16", 64, 500), 600, 100)},
	"pretrained-28":    {"the same at 28×28, the flow pre-trained", prepared(small("digits28", "glow-28", 64, 500), 500, 100)},
	"pretrained-32":    {"the same at 32×32, the flow pre-trained", prepared(small("swish-32", "glow-32", 64, 400), 400, 100)},
	"published-32":     {"released code for CIFAR-10, from scratch", published()},
	"published-pre-32": {"released code for CIFAR-10, the flow pre-trained", pre(published(), 50000/28*200, 50000/28*25)},
}

// For returns the settings for data of the given dimensions: "small" and "paper"
// pick the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Sized("coopflow", Presets, training.Pictures, name, dims)
	return p.Config, err
}
