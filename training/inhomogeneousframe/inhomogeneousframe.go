// Package inhomogeneousframe learns FRAME models of aligned objects (Xie, Hu, Zhu, Wu, "Learning
// inhomogeneous FRAME models for object patterns", CVPR 2014):
//
//	p(x) = exp(Σ_k Σ_p θ_k,p·|⟨x, B_k,p⟩|)·q(x)/Z,   q = N(0, σ²I)
//
// with one weight for every Gabor filter k and every place p where it fits, learned by maximum
// likelihood: HMC on persistent chains and log Z tracked along the way, as in package maxent. Pictures
// have mean zero and variance 10 while σ is 1. With weights tied over places the same model is FRAME
// with a parametric potential, for textures.
package inhomogeneousframe

import (
	"context"
	"fmt"
	"math"
	"slices"

	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/check"
	"ebmrun/training/data"
	"ebmrun/training/filters"
	"ebmrun/training/maxent"
)

// Config are the settings of the system; see the presets for values that work.
type Config struct {
	Filters struct {
		Scales       []float64 `yaml:"scales"`       // of Gabor pairs: half sizes of ⌊12·scale + ½⌋ pixels
		Orientations int       `yaml:"orientations"` // of Gabor pairs
		Blobs        []float64 `yaml:"blobs"`        // deviations of differences of Gaussians
	} `yaml:"filters"`
	Tied      bool `yaml:"tied"` // one weight a filter, over a picture whose edges meet: for textures
	Reference struct {
		Sigma float64 `yaml:"sigma"` // of the Gaussian reference density
	} `yaml:"reference"`
	maxent.Config `yaml:",inline"`
}

// DataScale is the scale that the data is to be brought to.
func (c *Config) DataScale() string { return data.Standard }

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	_, err := c.bank()
	return check.First(check.Positive("reference.sigma", c.Reference.Sigma), err, c.Config.Check())
}

func (c *Config) bank() (bank []filters.Filter, err error) {
	for _, s := range c.Filters.Scales {
		long, err := filters.Long(s, c.Filters.Orientations)
		if err != nil {
			return nil, err
		}
		bank = append(bank, long...)
	}
	for _, sd := range c.Filters.Blobs {
		f, err := filters.Blob(sd)
		if err != nil {
			return nil, err
		}
		bank = append(bank, f)
	}
	if len(bank) == 0 {
		return nil, fmt.Errorf("filters: wanted scales or blobs, got neither")
	}
	return bank, nil
}

// Network is the energy of these settings for pictures of the given dimensions, [1, height, width].
func (c *Config) Network(dims []int) (*onnxmodels.Model, error) {
	if len(dims) != 3 || dims[0] != 1 {
		return nil, fmt.Errorf("wanted grey pictures [1, height, width], got examples of %v", dims)
	}
	bank, err := c.bank()
	if err != nil {
		return nil, err
	}
	groups, err := filters.Kernels(bank)
	if err != nil {
		return nil, err
	}
	return energy.Linear(dims, c.Reference.Sigma, c.Tied, energy.Responses(groups, c.Tied))
}

// Names are the filters' names, for every map of responses in turn.
func (c *Config) Names() (names [][]string, err error) {
	bank, err := c.bank()
	last := 0
	// the largest first, as [filters.Kernels] groups them
	slices.SortStableFunc(bank, func(a, b filters.Filter) int { return b.Size - a.Size })
	for _, f := range bank {
		if f.Size != last {
			names, last = append(names, nil), f.Size
		}
		names[len(names)-1] = append(names[len(names)-1], f.Name)
	}
	return names, err
}

// A Preset is a named set of settings and what it is for.
type Preset struct {
	Title  string
	Config Config
}

func preset(change func(*Config)) (c Config) {
	c.Filters.Scales, c.Filters.Orientations = []float64{0.7}, 8
	c.Reference.Sigma = 1
	c.Steps, c.Chains = 80, 24
	c.HMC.Step, c.HMC.Leapfrogs, c.HMC.Mass, c.HMC.Calls = 0.03, 10, 0.1, 3
	c.Optim = training.Optim{Name: "sgd", LR: 0.1 / math.Sqrt(10)}
	// V and log Z sum over thousands of responses
	c.Guard.MaxValue = 1e7
	change(&c)
	return c
}

// Presets is the table of settings with a name. "published" follows the authors' released code.
var Presets = map[string]Preset{
	"objects": {"aligned pictures of 32×32 to 64×64, 24 chains, 80 iterations", preset(func(*Config) {})},
	"published": {"published: pictures of 100×100, 16 orientations at 3 scales, 10×10 chains, 80 iterations", preset(func(c *Config) {
		c.Filters.Scales, c.Filters.Orientations = []float64{0.7, 1, 1.4}, 16
		c.Steps, c.Chains, c.Batch = 80, 100, 10
	})},
	"texture": {"a texture: weights tied over places", preset(func(c *Config) {
		c.Tied, c.Steps, c.Chains = true, 100, 4
		c.Filters.Scales, c.Filters.Orientations = []float64{0.35, 0.5}, 4
		c.Optim = training.Optim{LR: 0.01, Decay: 0.05}
	})},
}

// For returns the settings for data of the given dimensions: "small" and "paper" pick the preset that
// fits, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Named("inhomogeneous-frame", Presets, "objects", "published", name, 0, dims)
	return p.Config, err
}

// New assembles the system over the energy of [Config.Network], and takes the statistics of the data.
func New(ctx context.Context, c Config, e training.Energy, set *data.Set, seed uint64) (*maxent.System, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("inhomogeneous-frame: %w", err)
	}
	return maxent.New(ctx, "inhomogeneous-frame", c.Config, e, c.Reference.Sigma, set, nil, seed)
}
