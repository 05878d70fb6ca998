package sparseframe

import (
	"math"

	"ebmrun/training"
	"ebmrun/training/check"
	"ebmrun/training/maxent"
)

// Ways to select atoms.
const (
	Pursuit = "pursuit" // all at first, by shared matching pursuit; then weights by HMC
	Boost   = "boost"   // while learning: those that the samples miss most; Gibbs sweeps over coefficients
)

// Config are the settings of the system; see the presets for values that work.
type Config struct {
	Select       string    `yaml:"select"`       // pursuit or boost
	Atoms        int       `yaml:"atoms"`        // to select
	Scales       []float64 `yaml:"scales"`       // of Gabor waves: half sizes of ⌊12·scale + ½⌋ pixels
	Orientations int       `yaml:"orientations"` // over half a turn
	Shift        int       `yaml:"shift"`        // pixels that an atom may move along its normal in a picture
	Turn         int       `yaml:"turn"`         // orientations that it may turn
	Local        bool      `yaml:"local"`        // normalise contrast locally
	Cells        int       `yaml:"cells"`        // boost: one winner in each of cells×cells parts of the picture
	Keep         float64   `yaml:"keep"`         // boost: of the winners, those within this share of the best
	Every        int       `yaml:"every"`        // boost: iterations between two selections
	Sweeps       int       `yaml:"sweeps"`       // boost: Gibbs sweeps per iteration

	maxent.Config `yaml:",inline"`
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	boost := c.Select == Boost
	return check.First(
		check.OneOf("select", c.Select, Pursuit, Boost),
		check.AtLeast("atoms", c.Atoms, 1),
		check.If(len(c.Scales) == 0, "scales: wanted at least one"),
		check.Within("shift", c.Shift, 0, 16),
		check.If(c.Turn < 0 || 2*c.Turn >= c.Orientations && c.Turn > 0, "turn: wanted 0 or more, and less than half the %d orientations, got %d", c.Orientations, c.Turn),
		check.When(boost, check.AtLeast("cells", c.Cells, 1)),
		check.If(boost && !(c.Keep > 0 && c.Keep <= 1), "keep: wanted a share above 0 and up to 1, got %g", c.Keep),
		check.When(boost, check.AtLeast("every", c.Every, 1)),
		check.When(boost, check.AtLeast("sweeps", c.Sweeps, 1)),
		c.Config.Check(),
	)
}

// A Preset is a named set of settings and what it is for.
type Preset struct {
	Title  string
	Config Config
}

func preset(how string, change func(*Config)) Config {
	c := Config{Select: how, Atoms: 60, Scales: []float64{0.7}, Orientations: 8, Shift: 3, Turn: 1, Local: true, Cells: 5, Keep: 0.8, Every: 1, Sweeps: 2}
	c.Steps, c.Chains = 60, 16
	c.HMC.Step, c.HMC.Leapfrogs, c.HMC.Mass, c.HMC.Calls = 0.03, 10, 0.1, 3
	c.Optim = training.Optim{Name: "sgd", LR: 0.1 / math.Sqrt(10)}
	c.Guard.MaxValue = 1e7
	change(&c)
	return c
}

// Presets is the table of settings with a name. Those marked "published" follow the authors' released code.
var Presets = map[string]Preset{
	"pursuit": {"aligned pictures of about 64×64: 60 wavelets by matching pursuit, then HMC", preset(Pursuit, func(*Config) {})},
	"boost":   {"the same wavelets by generative boosting", preset(Boost, func(*Config) {})},
	"published-pursuit": {"published: 100×100, 300 wavelets of 16 orientations by matching pursuit, 10×10 chains", preset(Pursuit, func(c *Config) {
		c.Atoms, c.Orientations, c.Steps, c.Chains, c.Batch = 300, 16, 80, 100, 20
	})},
	"published-boost": {"published: 100×100, 300 wavelets at 3 scales by generative boosting, 10×10 chains", preset(Boost, func(c *Config) {
		c.Atoms, c.Orientations, c.Steps, c.Chains, c.Sweeps = 300, 16, 80, 100, 1
		c.Scales = []float64{1.4, 1, 0.7}
	})},
}

// For returns the settings for data of the given dimensions: "small" and "paper" pick the preset that
// fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Named("sparse-frame", Presets, "boost", "published-pursuit", name, 0, dims)
	return p.Config, err
}
