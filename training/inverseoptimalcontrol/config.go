package inverseoptimalcontrol

import (
	"ebmrun/onnxmodels/control"
	"ebmrun/training"
	"ebmrun/training/check"
)

// Where chains begin.
const (
	FromZero   = "zero"       // at controls of 0, in every iteration
	Persistent = "persistent" // of each expert: where they ended the last time
)

// Config are the settings of the system.
type Config struct {
	Net control.Spec `yaml:"net"` // dynamics and cost
	// From is the scene of every example, where the data hold none.
	From []float64 `yaml:"from,omitempty"`
	// History, if not 0, says that the data are states and not controls, agent by agent, and how many
	// of their moments are past: the last of these gives the scene, with
	// the constant controls that fit the past, and the experts' controls are those by which states
	// differ. Metres is the unit of places.
	//
	// Speeds and headings lead to places, which were seen too: an example in which the two come apart by
	// more than Drift metres at the end is left out, unless that is 0.
	History int     `yaml:"history,omitempty"`
	Metres  float64 `yaml:"metres,omitempty"`
	Drift   float64 `yaml:"drift,omitempty"`

	Steps     int               `yaml:"steps"`    // learning iterations
	Batch     int               `yaml:"batch"`    // experts, and chains, per iteration
	Langevin  training.Langevin `yaml:"langevin"` // of controls, while learning; without noise it descends
	Chains    string            `yaml:"chains"`   // zero or persistent
	Predict   training.Langevin `yaml:"predict"`  // of controls that are predicted, from 0
	ILQR      int               `yaml:"ilqr"`     // iterations of an iterative linear-quadratic regulator in the place of both; 0 is none
	Draws     int               `yaml:"draws"`    // predictions of each scene in an evaluation
	Reference struct {
		Sigma float64 `yaml:"sigma"` // of the Gaussian reference density of normalised controls; 0 is none
	} `yaml:"reference"`
	// Normalise divides every feature by its mean over the experts, so that all weigh alike at first.
	Normalise bool           `yaml:"normalise"`
	Length    float64        `yaml:"length,omitempty"` // the weights are held at this Euclidean length; 0 is free
	Optim     training.Optim `yaml:"optim"`
	Guard     training.Guard `yaml:"guard"`

	// Sabotage spoils learning, to show that a test can fail: "flip" turns the sign of the
	// gradient, "freeze" never updates.
	Sabotage string `yaml:"sabotage,omitempty"`
}

// The ways to spoil learning.
const (
	Flip   = "flip"
	Freeze = "freeze"
)

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	if err := c.Net.Check(); err != nil {
		return err
	}
	return check.First(
		c.Langevin.Check(),
		check.In("predict", c.Predict.Check()),
		check.If(c.Langevin.Fused || c.Predict.Fused, "langevin.fused: chains under conditions are not fused: wanted false"),
		check.AtLeast("steps", c.Steps, 1),
		check.AtLeast("batch", c.Batch, 1),
		check.AtLeast("draws", c.Draws, 1),
		check.AtLeast("ilqr", c.ILQR, 0),
		check.If(c.ILQR > 0 && (c.Langevin.Noise != 0 || c.Predict.Noise != 0), "ilqr: finds the best controls and draws none: wanted langevin.noise and predict.noise of 0, got %g and %g", c.Langevin.Noise, c.Predict.Noise),
		check.OneOf("chains", c.Chains, FromZero, Persistent),
		check.If(c.From != nil && len(c.From) != c.Net.Given()[0], "from: wanted %d numbers of a scene, got %d", c.Net.Given()[0], len(c.From)),
		check.AtLeast("drift", c.Drift, 0),
		check.If(c.History < 0 || c.History == 1, "history: wanted at least 2 moments, or 0 for data that are controls, got %d", c.History),
		check.If(c.History > 0 && (!(c.Metres > 0) || len(c.Net.States()) != 4), "history: wanted states in the plane and metres, their unit, got those of %s and %g", c.Net.Dynamics, c.Metres),
		check.AtLeast("reference.sigma", c.Reference.Sigma, 0),
		check.AtLeast("length", c.Length, 0),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze),
	)
}

// regulator is the linear-quadratic problem of synthetic/regulator.
func regulator() Config {
	return Config{
		Net: control.Spec{Dynamics: "integrator", Step: 1, Agents: 1, Scene: []string{"x"}, Features: []string{"state", "control"},
			Unit: []float64{1}, Start: 0.3, Cost: "linear"},
		From: []float64{1}, Steps: 500, Batch: 400,
		Langevin: training.Langevin{Steps: 40, Step: 0.03, Noise: 1}, Chains: Persistent,
		Predict: training.Langevin{Steps: 3000, Step: 0.03, Noise: 1}, Draws: 4,
		Optim: training.Optim{LR: 0.05, Decay: 0.02},
	}
}

// road are vehicles of synthetic/drive, who learn by descending: that tells the ratios of the weights
// and not their length, which is held.
func road(agents int) Config {
	c := Config{
		Net: control.Spec{Dynamics: "bicycle", Step: 0.1, Base: 2.8, Agents: agents,
			Scene:    []string{"y", "heading", "speed", "curvature", "limit", "obstacle-x", "obstacle-y"},
			Features: []string{"lane", "heading", "speed", "acceleration", "steering", "obstacle"},
			Unit:     []float64{4, 0.1}, Start: 0.1, Cost: "linear"},
		Steps: 300, Batch: 50,
		Langevin: training.Langevin{Steps: 64, Step: 0.15, Clamp: [2]float64{-5, 5}}, Chains: Persistent,
		Predict: training.Langevin{Steps: 1024, Step: 0.15, Clamp: [2]float64{-5, 5}}, Draws: 1,
		Normalise: true, Length: 0.25,
		Optim: training.Optim{LR: 0.005, Decay: 0.1},
	}
	if agents > 1 {
		c.Net.Scene = append(c.Net.Scene, "x")
	}
	return c
}

// with is c with a network for the cost.
func with(c Config, cost string) Config {
	c.Net.Cost, c.Net.Hidden, c.Net.Window = cost, 16, 5
	c.Length = 0 // the network is not held
	switch cost {
	case "mlp":
		c.Optim.LR = 0.02
	case "cnn": // steep costs over several moments want smaller steps
		c.Optim.LR, c.Langevin.Step, c.Predict.Step = 0.003, 0.1, 0.1
	}
	return c
}

// regulated finds the best controls by iLQR.
func regulated(c Config) Config {
	c.ILQR = 10
	return c
}

// sampled draws controls with noise of the given multiplier, several for a scene. The noise tells
// how long the weights are.
func sampled(c Config, noise float64) Config {
	c.Langevin.Noise, c.Predict.Noise, c.Draws, c.Length = noise, noise, 8, 0
	return c
}

// aircraft are flights seen every 10 s, 30 s of them past. They learn from sampled controls and predict the
// best ones.
func aircraft() Config {
	c := Config{
		Net: control.Spec{Dynamics: "unicycle", Step: 10, Agents: 1, Scene: []string{"speed", "acceleration", "turn"},
			Features: []string{"acceleration", "steering", "jerk", "swerve", "pace", "course"},
			Unit:     []float64{0.2, 0.01}, Start: 0.1, Cost: "linear"},
		History: 3, Metres: 1000, Drift: 500, Steps: 400, Batch: 64,
		Langevin: training.Langevin{Steps: 64, Step: 0.07, Noise: 1, Clamp: [2]float64{-5, 5}}, Chains: Persistent,
		Predict: training.Langevin{Steps: 1024, Step: 0.07, Clamp: [2]float64{-5, 5}}, Draws: 1,
		Normalise: true,
		Optim:     training.Optim{LR: 0.01, Decay: 0.1},
	}
	return c
}

// near adds a reference density that keeps normalised controls within about 0.4 while a network is
// still flat, and learns in smaller steps.
func near(c Config) Config {
	c.Reference.Sigma, c.Optim.LR = 0.4, 0.003
	return c
}

// published has the ten features of the paper's appendix and its 1,024 steps of prediction, and
// learning rates of this package: the paper prints none. What it learned from is no public set.
func published(agents int) Config {
	c := sampled(road(agents), 0.1)
	c.Net.Features = []string{"goal-x", "goal-y", "lane", "heading", "acceleration", "steering", "jerk", "swerve", "obstacle", "speed"}
	c.Langevin.Steps, c.Batch, c.Steps = 64, 64, 2000
	c.Langevin.Step, c.Predict.Step = 0.05, 0.05 // changes of controls are steep
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"regulator":        {"a linear-quadratic problem, sampled", regulator()},
	"drive":            {"one vehicle, best controls, linear cost", road(1)},
	"drive-ilqr":       {"one vehicle, best controls by iLQR, linear cost", regulated(road(1))},
	"drive-langevin":   {"one vehicle, sampled controls, linear cost", sampled(road(1), 0.1)},
	"drive-mlp":        {"one vehicle, a network on the features of each moment", with(road(1), "mlp")},
	"drive-residual":   {"one vehicle, linear cost and such a network", with(road(1), "residual")},
	"drive-cnn":        {"one vehicle, a network over five moments", with(road(1), "cnn")},
	"convoy":           {"three vehicles together, best controls, linear cost", road(3)},
	"flights":          {"aircraft seen every 10 s, sampled controls, linear cost", aircraft()},
	"flights-residual": {"aircraft, linear cost and such a network", near(with(aircraft(), "residual"))},
	"published-drive":  {"the paper's ten features, one vehicle", published(1)},
	"published-convoy": {"the paper's ten features, three vehicles together", published(3)},
}

// For returns the settings for data of the given dimensions [T, values]: "small" and "paper" pick
// the preset that fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	width := 0
	if len(dims) == 2 {
		width = dims[1]
	}
	pick := name
	switch name {
	case "", "small":
		pick = map[int]string{1: "regulator", 2: "drive", 4: "flights", 6: "convoy"}[width]
	case "paper":
		pick = map[int]string{2: "published-drive", 6: "published-convoy"}[width]
	}
	p, err := training.Preset("inverse-optimal-control", Presets, pick, name, dims)
	return p.Config, err
}
