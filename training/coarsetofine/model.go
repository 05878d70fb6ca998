package coarsetofine

import (
	"context"
	"fmt"
	"math"

	"ebmrun/onnxmodels/energy"
	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/pyramid"
	"ebmrun/training/sampler"
)

// Labels of the random streams, beside the resolutions' own, which are their numbers.
const (
	starts = 1000 + iota
	dataNoise
	explained
)

// A Model is what is learned: an energy for each resolution, each grown from the one
// before, which stays as it was.
type Model struct {
	Stages []*pyramid.Level

	config  Config
	reached int // finest stage that has begun to learn
}

var (
	_ training.Drawer        = (*Model)(nil)
	_ training.Reconstructor = (*Model)(nil)
	_ training.Interpolator  = (*Model)(nil)
)

// NewModel joins energies, coarse to fine, for pictures of c×h×w.
func NewModel(c Config, energies []training.Energy, channels, h, w int) (*Model, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("coarse-to-fine: %w", err)
	}
	sides, err := c.Sides(h, w)
	if err != nil {
		return nil, fmt.Errorf("coarse-to-fine: %w", err)
	}
	if len(energies) != len(sides) {
		return nil, fmt.Errorf("coarse-to-fine: wanted %d energies, got %d", len(sides), len(energies))
	}
	m := &Model{config: c, reached: len(sides) - 1}
	for k, e := range energies {
		v, err := pyramid.NewLevel(e, channels, sides[k], sides[k], c.Langevin, c.Optim.For(2*c.fading(k)), energy.Fade)
		if err == nil && c.EMA > 0 {
			err = v.Average(c.EMA)
		}
		if err != nil {
			return nil, fmt.Errorf("coarse-to-fine: %w", err)
		}
		v.Frozen = c.Sabotage == Freeze
		m.Stages = append(m.Stages, v)
	}
	return m, nil
}

func (m *Model) top() *pyramid.Level { return m.Stages[len(m.Stages)-1] }

// fade sets α of a stage's energy.
func fade(e training.Energy, alpha float32) error {
	for _, p := range e.Params() {
		if p.Name == energy.Fade && p.W[0] != alpha {
			p.W[0] = alpha
			return pyramid.Renew(e)
		}
	}
	return nil
}

// start is the uniform noise that coarsest chains begin with, made of normal numbers.
func start(z []float32) []float32 {
	x := make([]float32, len(z))
	for i, v := range z {
		x[i] = float32(math.Erf(float64(v) / math.Sqrt2)) // 2Φ(v) − 1
	}
	return x
}

// normals are those of the given chains for start.
func (m *Model) normals(noise sampler.Noise, ids []uint64, t uint64) []float32 {
	z := make([]float32, len(ids)*m.Stages[0].Dim())
	noise.Fork(starts).Normals(z, ids, t)
	return z
}

// cascade runs chains from stage `from`, where they are x, up to stage `to`: each
// resolution begins at the pixels of the one before, held in [−1, 1].
func (m *Model) cascade(ctx context.Context, noise sampler.Noise, ids []uint64, t uint64, from, to int, x []float32) ([]float32, sampler.Info, error) {
	var info sampler.Info
	for k := from; k <= to; k++ {
		v := m.Stages[k]
		if k > from {
			x = pyramid.Grow(x, v.H/2, v.W/2, 2)
		}
		var err error
		steps := v.Langevin.Steps
		if noise := noise.Fork(uint64(k + 1)); m.config.Cool {
			all := float32((to - from + 1) * steps)
			kernel := sampler.Anneal{Langevin: v.Langevin.Kernel(), From: t, Noise: func(step uint64) float32 {
				return float32(v.Langevin.Noise) * (1 - (float32((k-from)*steps)+float32(step))/all)
			}}
			info, err = v.Move(ctx, noise, kernel, steps, ids, t, x)
		} else {
			info, err = v.Sample(ctx, noise, ids, t, x)
		}
		if err != nil {
			return nil, info, err
		}
		for i, p := range x {
			x[i] = min(max(p, -1), 1)
		}
	}
	return x, info, nil
}

// drawn is what do makes with averaged weights, where they are kept.
func (m *Model) drawn(do func() ([]float32, error)) (x []float32, err error) {
	err = pyramid.Averaged(m.Stages, func() error {
		x, err = do()
		return err
	})
	return x, err
}

// grown is pictures of a stage at full size.
func (m *Model) grown(stage int, x []float32) []float32 {
	v := m.Stages[stage]
	return pyramid.Grow(x, v.H, v.W, m.top().W/v.W)
}

// Draw implements [training.Drawer]; before the last stage has begun, pictures are the
// finest there are, their pixels repeated.
func (m *Model) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	noise, batch := sampler.Noise{Seed: seed}, m.config.batch(m.reached)
	return m.drawn(func() ([]float32, error) {
		return pyramid.Batches(n, batch, func(first, rows int) ([]float32, error) {
			ids := sampler.Chains(uint64(first), batch)
			x, _, err := m.cascade(ctx, noise, ids, 0, 0, m.reached, start(m.normals(noise, ids, math.MaxUint64)))
			if err != nil {
				return nil, err
			}
			return m.grown(m.reached, x)[:rows*m.top().Dim()], nil
		})
	})
}

// Interpolate implements [training.Interpolator]: equal angles between the normal
// numbers behind two starts, with the same noise along the way.
func (m *Model) Interpolate(ctx context.Context, from, to uint64, frames int) ([]float32, error) {
	if frames < 2 {
		return nil, fmt.Errorf("coarse-to-fine: wanted two frames or more, got %d", frames)
	}
	one := sampler.Chains(0, 1)
	a, b := m.normals(sampler.Noise{Seed: from}, one, math.MaxUint64), m.normals(sampler.Noise{Seed: to}, one, math.MaxUint64)
	z := make([]float32, 0, frames*len(a))
	for k := range frames {
		sin, cos := math.Sincos(math.Pi / 2 * float64(k) / float64(frames-1))
		for i := range a {
			z = append(z, float32(cos*float64(a[i])+sin*float64(b[i])))
		}
	}
	return m.drawn(func() ([]float32, error) {
		x, _, err := m.cascade(ctx, sampler.Noise{Seed: from}, make([]uint64, frames), 0, 0, m.reached, start(z))
		if err != nil {
			return nil, err
		}
		return m.grown(m.reached, x), nil
	})
}

// Reconstruct implements [training.Reconstructor]. With a mask it completes pictures
// through the cascade, see [pyramid.Complete]. Without one it returns what the finer
// stages make of the pictures' thumbnails at the coarsest resolution.
func (m *Model) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	top := m.top()
	dim := top.Dim()
	if len(x) == 0 || len(x)%dim != 0 || mask != nil && len(mask) != len(x) {
		return nil, fmt.Errorf("coarse-to-fine: wanted pictures of %d×%d×%d and a mask of their size, got %d and %d values", top.C, top.H, top.W, len(x), len(mask))
	}
	noise := sampler.Noise{Seed: seed}.Fork(explained)
	part := func(first, rows int) ([]float32, error) {
		ids := sampler.Chains(uint64(first), rows)
		some := x[first*dim : (first+rows)*dim]
		if mask == nil {
			small := pyramid.Shrink(some, top.H, top.W, top.W/m.Stages[0].W)
			if m.reached == 0 {
				return m.grown(0, small), nil
			}
			next := m.Stages[1]
			end, _, err := m.cascade(ctx, noise, ids, 0, 1, m.reached, pyramid.Grow(small, next.H/2, next.W/2, 2))
			if err != nil {
				return nil, err
			}
			return m.grown(m.reached, end), nil
		}
		return pyramid.Complete(ctx, m.Stages, noise, ids, some, mask[first*dim:(first+rows)*dim])
	}
	return m.drawn(func() ([]float32, error) { return pyramid.Batches(len(x)/dim, m.config.batch(m.reached), part) })
}

// Restore takes back what Save of a system has put into a checkpoint, without
// what only learning needs.
func (m *Model) Restore(st *checkpoint.State) error {
	for k, v := range m.Stages {
		if err := v.RestoreLearned(st, k+1); err != nil {
			return err
		}
	}
	m.reached, _, _ = m.config.place(max(st.Step-1, 0), len(m.Stages))
	return nil
}
