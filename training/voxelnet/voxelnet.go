// Package voxelnet learns an energy of shapes on a grid of voxels (Xie, Zheng,
// Gao, Wang, Zhu, Wu, "Learning Descriptor Networks for 3D Shape Synthesis and
// Analysis", CVPR 2018): the generative ConvNet with 3-D convolutions, whose
// chains lose their noise after a while. A learned energy completes damaged shapes
// and refines coarse ones.
package voxelnet

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/sampler"
)

// System is the learning system.
type System struct {
	*generativeconvnet.System
	Config Config
}

// New assembles the system.
func New(c Config, e training.Energy, set *data.Set, seed uint64) (*System, error) {
	s, err := generativeconvnet.Within("voxelnet", c.Check, data.Voxels, c.Config, e, set, seed)
	return &System{s, c}, err
}

// A Model is a learned energy of volumes [C, D, H, W].
type Model struct {
	Config Config
	Field  sampler.Field
	Dims   []int
}

var (
	_ training.Reconstructor = (*Model)(nil)
	_ training.Refiner       = (*Model)(nil)
)

func (m *Model) size() int {
	n := 1
	for _, d := range m.Dims {
		n *= d
	}
	return n
}

// chain runs Langevin dynamics from x [n·size] in place.
func (m *Model) chain(ctx context.Context, x []float32, l training.Langevin, seed uint64, project func([]float32)) error {
	st, err := sampler.NewState(x, m.size(), sampler.Chains(0, len(x)/m.size()))
	if err != nil {
		return fmt.Errorf("voxelnet: %w", err)
	}
	k := l.Kernel()
	k.Project = project
	_, err = sampler.Run(ctx, sampler.Noise{Seed: seed}, k, m.Field, st, l.Steps, nil)
	return err
}

// Reconstruct implements [training.Reconstructor]: entries where mask is 0 begin
// at the mean of those known in the same shape. With Hold what is known stays at
// every step, so that the rest is drawn given it; without, as in the released code,
// the whole shape moves, and what is known is put back at the end, once.
func (m *Model) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	size := m.size()
	if len(x) == 0 || len(x)%size != 0 || mask != nil && len(mask) != len(x) {
		return nil, fmt.Errorf("voxelnet: wanted shapes of %v and a mask of the same size, got %d and %d values", m.Dims, len(x), len(mask))
	}
	out := append([]float32(nil), x...)
	for at := 0; mask != nil && at < len(x); at += size {
		sum, n := 0.0, 0
		for i := at; i < at+size; i++ {
			if mask[i] != 0 {
				sum, n = sum+float64(x[i]), n+1
			}
		}
		for i := at; i < at+size; i++ {
			if mask[i] == 0 {
				out[i] = float32(sum / math.Max(1, float64(n)))
			}
		}
	}
	put := sampler.Hold(x, mask)
	hold := put
	if !m.Config.Hold {
		hold = nil
	}
	if err := m.chain(ctx, out, m.Config.Recovery, seed, hold); err != nil {
		return nil, err
	}
	put(out)
	return out, nil
}

// Refine makes shapes of the energy's size out of coarse ones, whose sides are
// shorter by a whole factor: every coarse value is repeated, and each step keeps
// the mean of every block at its value.
func (m *Model) Refine(ctx context.Context, coarse []float32, factor int, seed uint64) ([]float32, error) {
	if factor < 1 {
		return nil, fmt.Errorf("voxelnet: wanted a factor of at least 1, got %d", factor)
	}
	for _, d := range m.Dims[1:] {
		if d%factor != 0 {
			return nil, fmt.Errorf("voxelnet: a factor of %d does not divide %v", factor, m.Dims)
		}
	}
	size := m.size() / (factor * factor * factor)
	if len(coarse) == 0 || len(coarse)%size != 0 {
		return nil, fmt.Errorf("voxelnet: wanted coarse shapes of %d values, got %d values", size, len(coarse))
	}
	x, b := Repeat(coarse, m.Dims, factor), blocks{m.Dims, factor}
	sums := make([]float64, len(coarse))
	volume := float64(factor * factor * factor)
	project := func(x []float32) { // x ← x − P(x − y), P the mean of the block
		clear(sums)
		b.each(len(x), func(fine, block int) { sums[block] += float64(x[fine]) })
		b.each(len(x), func(fine, block int) { x[fine] += coarse[block] - float32(sums[block]/volume) })
	}
	return x, m.chain(ctx, x, m.Config.Resolution, seed, project)
}

// blocks pairs the entries of volumes [n, C, D, H, W] with blocks of factor³.
type blocks struct {
	dims   []int
	factor int
}

func (b blocks) each(n int, f func(fine, block int)) {
	c, d, h, w, k := b.dims[0], b.dims[1], b.dims[2], b.dims[3], b.factor
	volume, coarse := d*h*w, (d/k)*(h/k)*(w/k)
	for at := 0; at < n; at += c * volume {
		for p := range c {
			fine, block := at+p*volume, (at/volume+p)*coarse
			for z := range d {
				for y := range h {
					for x := range w {
						f(fine+(z*h+y)*w+x, block+((z/k)*(h/k)+y/k)*(w/k)+x/k)
					}
				}
			}
		}
	}
}

// Repeat is every value of coarse shapes in all places of its block of factor³, of shapes of the given
// dimensions.
func Repeat(coarse []float32, dims []int, factor int) []float32 {
	x := make([]float32, len(coarse)*factor*factor*factor)
	blocks{dims, factor}.each(len(x), func(fine, block int) { x[fine] = coarse[block] })
	return x
}

// Coarsen is the mean of every block of factor³: what [Model.Refine] keeps.
func Coarsen(x []float32, dims []int, factor int) []float32 {
	k := factor * factor * factor
	sums := make([]float64, len(x)/k)
	blocks{dims, factor}.each(len(x), func(fine, block int) { sums[block] += float64(x[fine]) })
	out := make([]float32, len(sums))
	for i, v := range sums {
		out[i] = float32(v / float64(k))
	}
	return out
}
