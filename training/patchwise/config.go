package patchwise

import (
	"fmt"
	"math"

	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/check"
)

// The ways to spoil learning, to show that a test can fail.
const (
	Flip   = "flip"   // the sign of the parameter gradient
	Freeze = "freeze" // no updates
)

// Config are the settings of the system.
type Config struct {
	Net  string       `yaml:"net"`            // a named network, fully convolutional
	Spec *energy.Spec `yaml:"spec,omitempty"` // or one written out

	Scales   int `yaml:"scales"`   // sizes in geometric steps up to the picture's
	Coarsest int `yaml:"coarsest"` // pixels of the shorter side of the coarsest scale

	Steps     int               `yaml:"steps"`  // iterations in all: a share for each scale, coarse to fine
	Favour    float64           `yaml:"favour"` // how many times as many a scale has as the next finer one; 0 is 1
	Chains    int               `yaml:"chains"`
	First     int               `yaml:"first"`      // Langevin steps on the coarsest scale; 0 is langevin.steps
	Langevin  training.Langevin `yaml:"langevin"`   // on the others
	NoiseOver float64           `yaml:"noise_over"` // share of a scale's iterations in which the noise falls to 0 along a line
	Recover   struct {
		Weight float64 `yaml:"weight"` // λ: how much recovery of the picture counts
		Steps  int     `yaml:"steps"`  // noise-free steps from the coarser recovery
		Shrink float64 `yaml:"shrink"` // on the coarsest scale recovery starts at the picture made so much smaller, and back
	} `yaml:"recover"`
	Paint int `yaml:"paint"` // scale at which translation takes a painting in

	Optim    training.Optim `yaml:"optim"`    // one for each scale
	EMA      float64        `yaml:"ema"`      // decay of the averaged weights that draw and that finer scales build on; 0 takes the last
	Spectral bool           `yaml:"spectral"` // spectral normalisation of all layers but the last
	ScoreL2  float64        `yaml:"score_l2"`
	Guard    training.Guard `yaml:"guard"`
	Sabotage string         `yaml:"sabotage,omitempty"` // flip or freeze
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Langevin.Check(),
		check.AtLeast("scales", c.Scales, 1),
		check.AtLeast("coarsest", c.Coarsest, 4),
		check.If(c.Steps < c.Scales, "steps: wanted at least one for each of %d scales, got %d", c.Scales, c.Steps),
		check.If(c.Paint < 0 || c.Paint >= c.Scales, "paint: wanted a scale below %d, got %d", c.Scales, c.Paint),
		check.AtLeast("chains", c.Chains, 1),
		check.AtLeast("first", c.First, 0),
		check.Within("noise_over", c.NoiseOver, 0, 1),
		check.AtLeast("recover.weight", c.Recover.Weight, 0),
		check.AtLeast("recover.steps", c.Recover.Steps, 0),
		check.If(!(c.Recover.Shrink > 0 && c.Recover.Shrink <= 1), "recover.shrink: wanted a share above 0 and up to 1, got %g", c.Recover.Shrink),
		check.If(!(c.EMA >= 0 && c.EMA < 1), "ema: wanted a decay from 0 to below 1, got %g", c.EMA),
		check.AtLeast("favour", c.Favour, 0),
		check.AtLeast("score_l2", c.ScoreL2, 0),
		check.If(c.Langevin.Clamp == [2]float64{}, "langevin.clamp is off: nothing keeps samples in range"),
		check.OneOf("sabotage", c.Sabotage, "", Flip, Freeze),
	)
}

// Network is the network's description.
func (c *Config) Network() (energy.Spec, error) {
	return onnxmodels.Chosen(c.Spec, energy.ByName, c.Net)
}

// Sizes are heights and widths of a picture of h×w at every scale, coarse to fine.
func (c *Config) Sizes(h, w int) ([][2]int, error) {
	short := min(h, w)
	if short < c.Coarsest {
		return nil, fmt.Errorf("coarsest: wanted at most the picture's %d pixels, got %d", short, c.Coarsest)
	}
	sizes := make([][2]int, c.Scales)
	for k := range sizes {
		f := 1.0
		if c.Scales > 1 {
			f = math.Pow(float64(c.Coarsest)/float64(short), 1-float64(k)/float64(c.Scales-1))
		}
		sizes[k] = [2]int{int(math.Round(f * float64(h))), int(math.Round(f * float64(w)))}
	}
	return sizes, nil
}

// begins is the iteration at which a scale's learning begins.
func (c *Config) begins(scale int) int {
	if c.Favour == 0 || c.Favour == 1 {
		return scale * c.Steps / c.Scales
	}
	part := func(n int) float64 { return 1 - math.Pow(c.Favour, -float64(n)) }
	return int(math.Round(float64(c.Steps) * part(scale) / part(c.Scales)))
}

// length is how many iterations a scale learns.
func (c *Config) length(scale int) int { return c.begins(scale+1) - c.begins(scale) }

// small spends most iterations on coarse scales, which cost least and lay out the picture. Its guard lets chains be wider
// than a picture of little contrast is: they begin at noise of deviation 0.58, and the clamp holds them.
func small(net string, scales, steps int) Config {
	c := Config{
		Net: net, Scales: scales, Coarsest: 24, Steps: steps, Favour: 2, Chains: 2, First: 40, Paint: 1,
		Langevin: training.Langevin{Steps: 15, Step: 1, Noise: 0.005, GradClip: 0.6, Clamp: [2]float64{-1, 1}},
		Optim:    training.Optim{LR: 2e-3, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
		EMA:      0.98,
		Guard:    training.Guard{MaxStd: 20},
	}
	c.Recover.Weight, c.Recover.Steps, c.Recover.Shrink = 0.5, 15, 0.75
	return c
}

// published has the settings of the authors' released code: 4000 iterations for
// each of eight scales, squared step size 0.01 and noise 0.01 that falls to 0 over
// the first quarter of them, one chain.
func published() Config {
	c := Config{
		Net: "patch-128", Scales: 8, Coarsest: 25, Steps: 32000, Chains: 1, First: 60, Paint: 1,
		Langevin:  training.Langevin{Steps: 30, Step: 0.1, Noise: 0.1, Clamp: [2]float64{-1, 1}},
		NoiseOver: 0.25,
		Optim:     training.Optim{LR: 4e-4, Betas: [2]float64{0.5, 0.999}, Decay: 0.125},
		Spectral:  true,
		Guard:     training.Guard{MaxValue: 1e6},
	}
	c.Recover.Weight, c.Recover.Steps, c.Recover.Shrink = 0.1, 30, 0.75
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"picture-small": {"one picture of 64 to 128 pixels, three scales", small("patch-small", 3, 1200)},
	"picture":       {"one picture, five scales, the authors' net for small sides", small("patch-64", 5, 2000)},
	"published":     {"published: one picture of up to 250 pixels, eight scales (released code of the authors)", published()},
}

// For returns the settings for a picture: "small" and "paper" pick a preset, any
// other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Named("patchwise", Presets, "picture-small", "published", name, 3, dims)
	return p.Config, err
}
