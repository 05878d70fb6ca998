package multigrid

import (
	"context"
	"fmt"
	"math/rand/v2"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/pyramid"
	"ebmrun/training/sampler"
)

// A Model is what is learned: the colours of the 1×1 grid and an energy for each
// finer one.
type Model struct {
	Colours *Colours
	Levels  []*pyramid.Level // one for each grid but the first
	batch   int
}

var (
	_ training.Drawer        = (*Model)(nil)
	_ training.Reconstructor = (*Model)(nil)
)

// NewModel joins energies, coarse to fine, for pictures of c channels.
func NewModel(c Config, energies []training.Energy, channels int) (*Model, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("multigrid: %w", err)
	}
	if len(energies) != len(c.Grids)-1 {
		return nil, fmt.Errorf("multigrid: wanted %d energies, got %d", len(c.Grids)-1, len(energies))
	}
	m := &Model{Colours: newColours(channels, c.Bins), batch: c.Batch}
	for k, e := range energies {
		side := c.Grids[k+1]
		v, err := pyramid.NewLevel(e, channels, side, side, c.Langevin, c.Optim.For(c.Steps))
		if err != nil {
			return nil, fmt.Errorf("multigrid: %w", err)
		}
		v.Frozen = c.Sabotage == Freeze
		if c.EMA > 0 {
			if err := v.Average(c.EMA); err != nil {
				return nil, fmt.Errorf("multigrid: %w", err)
			}
		}
		m.Levels = append(m.Levels, v)
	}
	return m, nil
}

// side is the side of grid k, which is level k−1.
func (m *Model) side(k int) int {
	if k == 0 {
		return 1
	}
	return m.Levels[k-1].W
}

// grids is pictures at every grid, coarse to fine.
func (m *Model) grids(x []float32) [][]float32 {
	all := make([][]float32, len(m.Levels)+1)
	for k := len(m.Levels); ; k-- {
		if all[k] = x; k == 0 {
			return all
		}
		x = pyramid.Shrink(x, m.side(k), m.side(k), m.side(k)/m.side(k-1))
	}
}

// grow takes pictures from grid k to the next.
func (m *Model) grow(k int, x []float32) []float32 {
	return pyramid.Grow(x, m.side(k), m.side(k), m.side(k+1)/m.side(k))
}

// Cascade runs chains from grid `from` to the finest, each grid starting at the
// pixels of the one before, and returns the chains' ends at every grid from there on.
func (m *Model) Cascade(ctx context.Context, noise sampler.Noise, ids []uint64, from int, x []float32) ([][]float32, error) {
	ends := [][]float32{x}
	for k, v := range m.Levels[from:] {
		x = m.grow(from+k, x)
		if _, err := v.Sample(ctx, noise.Fork(uint64(from+k+1)), ids, 0, x); err != nil {
			return nil, err
		}
		ends = append(ends, x)
	}
	return ends, nil
}

// Draw implements [training.Drawer].
func (m *Model) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	return pyramid.Batches(n, m.batch, func(first, rows int) ([]float32, error) {
		ends, err := m.draw(ctx, first, seed)
		if err != nil {
			return nil, err
		}
		return ends[len(ends)-1][:rows*m.Levels[len(m.Levels)-1].Dim()], nil
	})
}

// draw is one batch of samples at every grid.
func (m *Model) draw(ctx context.Context, first int, seed uint64) ([][]float32, error) {
	r := rand.New(rand.NewPCG(seed, 1<<42+uint64(first)))
	c := len(m.Colours.Lo)
	x := make([]float32, m.batch*c)
	for i := range m.batch {
		m.Colours.Draw(r, x[i*c:(i+1)*c])
	}
	return m.Cascade(ctx, sampler.Noise{Seed: seed}.Fork(drawn), sampler.Chains(uint64(first), m.batch), 0, x)
}

// Reconstruct implements [training.Reconstructor]. With a mask it completes
// pictures: every grid's chain starts at the one before, at first at the mean of
// what is visible, and after every step blocks that are wholly visible are put
// where they should be by then. Without one it returns what the finer grids make of the pictures'
// thumbnails, the coarsest grid above 1×1.
func (m *Model) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	top := m.Levels[len(m.Levels)-1]
	dim := top.Dim()
	if len(x) == 0 || len(x)%dim != 0 || mask != nil && len(mask) != len(x) {
		return nil, fmt.Errorf("multigrid: wanted pictures of %d×%d×%d and a mask of their size, got %d and %d values", top.C, top.H, top.W, len(x), len(mask))
	}
	noise := sampler.Noise{Seed: seed}.Fork(explained)
	return pyramid.Batches(len(x)/dim, m.batch, func(first, rows int) ([]float32, error) {
		ids := sampler.Chains(uint64(first), rows)
		part := x[first*dim : (first+rows)*dim]
		if mask == nil {
			ends, err := m.Cascade(ctx, noise, ids, 1, m.grids(part)[1])
			if err != nil {
				return nil, err
			}
			return ends[len(ends)-1], nil
		}
		return pyramid.Complete(ctx, m.Levels, noise, ids, part, mask[first*dim:(first+rows)*dim])
	})
}

// Restore takes back what Save of a system has put into a checkpoint, without
// what only learning needs.
func (m *Model) Restore(st *checkpoint.State) error {
	for k, v := range m.Levels {
		if err := v.RestoreLearned(st, k+1); err != nil {
			return err
		}
	}
	return m.Colours.restore(st)
}
