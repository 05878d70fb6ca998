// Package pointnet learns an energy of sets of points (Xie, Xu, Zheng, Zhu, Wu,
// "Generative PointNet: Deep Energy-Based Learning on Unordered Point Sets for 3D
// Generation, Reconstruction and Classification", CVPR 2021). The energy does not
// depend on the order of the points; chains begin at a Gaussian cloud and are
// short, so that K steps are a generator with starts that can be searched for.
package pointnet

import (
	"context"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/check"
	"ebmrun/training/data"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/sampler"
	"ebmrun/training/shortrun"
)

// Config are the settings of the system: those of maximum-likelihood learning by
// short chains, and of the search for starts.
type Config struct {
	generativeconvnet.Config `yaml:",inline"`

	Search struct {
		Steps int     `yaml:"steps"` // iterations of descent
		Rate  float64 `yaml:"rate"`
	} `yaml:"search"`
}

// Check reports the first setting that makes no sense.
func (c *Config) Check() error {
	return check.First(
		c.Config.Check(),
		check.AtLeast("search.steps", c.Search.Steps, 1),
		check.Positive("search.rate", c.Search.Rate),
	)
}

func small(net string, steps int) Config {
	c := Config{Config: generativeconvnet.Config{
		Net: net, Steps: steps, Batch: 32,
		Langevin: training.Langevin{Steps: 48, Step: 0.1, Noise: 0.1, GradClip: 20, Clamp: [2]float64{-1, 1}, Fused: true},
		Chains:   generativeconvnet.Chains{Init: generativeconvnet.FromNoise, Start: generativeconvnet.Gaussian, Spread: 0.4},
		Optim:    training.Optim{LR: 3e-3, Betas: [2]float64{0.9, 0.999}, Decay: 0.03},
		ScoreL2:  2e-3,
		Guard:    training.Guard{MaxValue: 1e7},
	}}
	c.Reference.Sigma, c.Data.Noise = 0.3, 0.01
	c.Search.Steps, c.Search.Rate = 64, 0.2
	return c
}

// published has the settings of the released code.
func published() Config {
	c := small("points-medium", 2000)
	c.Batch, c.Optim.LR, c.Optim.Decay = 128, 5e-4, 0
	c.Langevin = training.Langevin{Steps: 64, Step: 0.01, Noise: 1, Clamp: [2]float64{-1, 1}}
	c.Chains.Spread, c.ScoreL2 = 0, 0
	return c
}

// Presets is the table of settings with a name.
var Presets = map[string]struct {
	Title  string
	Config Config
}{
	"points":    {"sets of a few hundred points", small("points-waves", 240)},
	"published": {"2,048 points, released code of the authors", published()},
}

// For returns the settings for sets of points [N, 3]: "small" and "paper" pick a
// preset, any other name is a key of [Presets].
func For(name string, dims []int, _ int) (Config, error) {
	p, err := training.Named("pointnet", Presets, "points", "published", name, 2, dims)
	return p.Config, err
}

// System is the learning system.
type System struct {
	*generativeconvnet.System
	Config Config
}

// New assembles the system.
func New(c Config, e training.Energy, set *data.Set, seed uint64) (*System, error) {
	s, err := generativeconvnet.Within("pointnet", c.Check, data.Cloud, c.Config, e, set, seed)
	return &System{s, c}, err
}

// A Model is the short run of a learned energy as a generator of sets [N, 3].
type Model struct {
	Config Config
	Field  sampler.Field
	Dims   []int
}

var (
	_ training.Drawer        = (*Model)(nil)
	_ training.Reconstructor = (*Model)(nil)
	_ training.Interpolator  = (*Model)(nil)
)

func (m *Model) size() int { return m.Dims[0] * m.Dims[1] }

// generator is the noise-free chain. As in the released code, starts are searched for as if the network had no
// curvature, by steps whose signs are those of the slope and whose sizes fall.
func (m *Model) generator() *shortrun.Generator {
	return &shortrun.Generator{Field: m.Field, Kernel: m.Config.Langevin.Kernel(), K: m.Config.Langevin.Steps, Dim: m.size(),
		Sigma: m.Config.Reference.Sigma, Flat: true, Signs: 0.9}
}

// starts are n clouds as those that learning began with.
func (m *Model) starts(seed uint64, n int) []float32 {
	z := make([]float32, n*m.size())
	sampler.Noise{Seed: seed}.Normals(z, sampler.Chains(0, n), 0)
	for i := range z {
		z[i] *= float32(m.Config.Reference.Sigma)
	}
	if spread := m.Config.Chains.Spread; spread > 0 {
		maps := make([]float32, n*m.Dims[1]*m.Dims[1])
		sampler.Noise{Seed: seed}.Fork(2).Normals(maps, sampler.Chains(0, n), 0)
		generativeconvnet.Deform(z, maps, m.Dims[1], spread)
	}
	return z
}

// Draw implements [training.Drawer]: chains with their noise.
func (m *Model) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	x := m.starts(seed, n)
	return x, training.Blocks(n, m.Config.Batch, func(first, end int) error {
		part := x[first*m.size() : end*m.size()]
		st, err := sampler.NewState(part, m.size(), sampler.Chains(uint64(first), end-first))
		if err != nil {
			return err
		}
		_, err = sampler.Run(ctx, sampler.Noise{Seed: seed}.Fork(1), m.Config.Langevin.Kernel(), m.Field, st, m.Config.Langevin.Steps, nil)
		return err
	})
}

// Reconstruct implements [training.Reconstructor]: the starts whose noise-free
// runs end nearest to the given sets, point by point in their order.
func (m *Model) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	if mask != nil {
		return nil, fmt.Errorf("pointnet: sets of points have no missing entries: points that are not there are left out")
	}
	r, err := m.generator().Reconstruct(ctx, x, m.starts(seed, len(x)/m.size()), m.Config.Search.Steps, m.Config.Search.Rate)
	if err != nil {
		return nil, err
	}
	return r.X, nil
}

// Interpolate implements [training.Interpolator]: noise-free runs from starts
// between two.
func (m *Model) Interpolate(ctx context.Context, from, to uint64, frames int) ([]float32, error) {
	z, err := training.Between(m.starts(from, 1), m.starts(to, 1), frames)
	if err != nil {
		return nil, err
	}
	return m.generator().Map(ctx, z)
}
