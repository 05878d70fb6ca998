// Package video learns an energy of clips with 3-D convolutions over space and
// time (Xie, Zhu, Wu, "Synthesizing Dynamic Patterns by Spatial-Temporal
// Generative ConvNet", CVPR 2017): the generative ConvNet on [C, D, H, W].
//
// Clips with holes can be learned from: in every iteration a second chain fills
// them, with what is known put back after each step, and the filled clips are what
// the energy learns from.
package video

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/sampler"
)

// filling labels the stream of the chains that fill holes.
const filling = 7

// System is the learning system.
type System struct {
	*generativeconvnet.System
	Config Config

	set   *data.Set // what is learned from: holes filled as far as known
	truth []float32 // the clips as they were given
	known []float32 // 1 where a clip is known; nil where all is
	noise sampler.Noise
}

// New assembles the system. Where the settings say so, part of the clips is
// hidden from it first; the same part for the same seed.
func New(c Config, e training.Energy, set *data.Set, seed uint64) (*System, error) {
	core, err := generativeconvnet.Within("video", c.Check, data.Video, c.Config, e, set, seed)
	if err != nil {
		return nil, err
	}
	s := &System{System: core, Config: c, set: set, noise: sampler.Noise{Seed: seed}.Fork(filling)}
	if c.Mask == "" {
		return s, nil
	}
	if s.known, err = Known(c.Mask, c.Missing, set, seed); err != nil {
		return nil, err
	}
	holes := *set // checkpoints bear the hash of the data as they are given
	s.truth, holes.Floats = set.X(), append([]float32(nil), set.X()...)
	Fill(holes.Floats, s.known, set.Dim())
	s.set = &holes
	s.Data, err = data.NewLoader(s.set, c.Batch, seed)
	return s, err
}

// Step implements [training.System].
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	if s.known == nil {
		return s.System.Step(ctx)
	}
	if err := recovery(ctx, s.Energy, s.Config.Recovery, s.noise, uint64(s.Iteration()*s.Config.Recovery.Steps), s.set.Floats, s.known, s.set.Dim()); err != nil {
		return nil, err
	}
	m, err := s.System.Step(ctx)
	if err == nil {
		m["hole_rmse"] = HoleRMSE(s.set.X(), s.truth, s.known)
	}
	return m, err
}

// recovery moves the unknown entries of clips x [n·dim] by Langevin dynamics in place.
func recovery(ctx context.Context, f sampler.Field, l training.Langevin, noise sampler.Noise, t uint64, x, known []float32, dim int) error {
	kept := append([]float32(nil), x...)
	st, err := sampler.NewState(x, dim, sampler.Chains(0, len(x)/dim))
	if err != nil {
		return err
	}
	st.T = t
	k := l.Kernel()
	k.Project = sampler.Hold(kept, known)
	_, err = sampler.Run(ctx, noise, k, f, st, l.Steps, nil)
	return err
}

// Known draws which entries of a set's clips are known: 1, and 0 in the holes.
func Known(mask string, missing float64, set *data.Set, seed uint64) ([]float32, error) {
	r := rand.New(rand.NewPCG(seed, 0x6d61736b))
	frame := set.H * set.W
	known := make([]float32, set.N*set.Dim())
	if mask == Own {
		own := set.Beside["mask"]
		if own == nil || own.Dim() != set.D*frame {
			return nil, fmt.Errorf("video: mask own: %s has no masks of %d×%d×%d beside its clips", set.Name, set.D, set.H, set.W)
		}
		for i := range set.N {
			for c := range set.C {
				for k, v := range own.At(i) {
					if v <= (own.Lo+own.Hi)/2 {
						known[(i*set.C+c)*set.D*frame+k] = 1
					}
				}
			}
		}
		return known, nil
	}
	side := int(math.Round(math.Sqrt(missing) * float64(min(set.H, set.W))))
	for i := range set.N {
		for t := range set.D {
			gone, y0, x0 := r.Float64() < missing, 0, 0
			if mask == Region {
				y0, x0 = r.IntN(set.H-side+1), r.IntN(set.W-side+1)
			}
			for p := range frame {
				y, x := p/set.W, p%set.W
				hole := gone
				switch mask {
				case Region:
					hole = y >= y0 && y < y0+side && x >= x0 && x < x0+side
				case Pixels:
					hole = r.Float64() < missing
				}
				if hole {
					continue
				}
				for c := range set.C {
					known[((i*set.C+c)*set.D+t)*frame+p] = 1
				}
			}
		}
	}
	return known, nil
}

// Fill puts the mean of what is known of each clip into its holes.
func Fill(x, known []float32, dim int) {
	for at := 0; at < len(x); at += dim {
		sum, n := 0.0, 0
		for i := at; i < at+dim; i++ {
			if known[i] != 0 {
				sum, n = sum+float64(x[i]), n+1
			}
		}
		for i := at; i < at+dim; i++ {
			if known[i] == 0 {
				x[i] = float32(sum / math.Max(1, float64(n)))
			}
		}
	}
}

// HoleRMSE is the root mean squared error over the holes.
func HoleRMSE(x, truth, known []float32) float64 {
	sum, n := 0.0, 0
	for i, v := range known {
		if v == 0 {
			d := float64(x[i] - truth[i])
			sum, n = sum+d*d, n+1
		}
	}
	return math.Sqrt(sum / math.Max(1, float64(n)))
}

// Recovered is the clips as they are filled now, [N, C, D, H, W].
func (s *System) Recovered() []float32 { return s.set.Floats }

// Pictures implements [training.Painter]: samples, and filled clips.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	all, err := s.System.Pictures(ctx)
	if err != nil || s.known == nil {
		return all, err
	}
	p, err := training.Show("recovered", s.set, s.set.X()[:min(4, s.set.N)*s.set.Dim()])
	return append(all, p), err
}

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) {
	st, err := s.System.Save()
	if err == nil && s.known != nil {
		st.Tensors["recovered"] = checkpoint.Tensor{Shape: []int{s.set.N, s.set.Dim()}, Data: append([]float32(nil), s.set.X()...)}
	}
	return st, err
}

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	if err := s.System.Restore(st); err != nil {
		return err
	}
	if s.known == nil {
		return nil
	}
	x, err := checkpoint.Values[float32](st, "recovered", s.set.N, s.set.Dim())
	if err != nil {
		return err
	}
	copy(s.set.Floats, x)
	return nil
}

// A Model is a learned energy of clips [C, D, H, W].
type Model struct {
	Config Config
	Field  sampler.Field
	Dims   []int
}

var _ training.Reconstructor = (*Model)(nil)

// Reconstruct implements [training.Reconstructor]: holes begin at the mean of what
// is known of their clip and are filled by the chains of learning.
func (m *Model) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	dim := 1
	for _, d := range m.Dims {
		dim *= d
	}
	if len(x) == 0 || len(x)%dim != 0 || mask != nil && len(mask) != len(x) {
		return nil, fmt.Errorf("video: wanted clips of %v and masks of the same size, got %d and %d values", m.Dims, len(x), len(mask))
	}
	out := append([]float32(nil), x...)
	if mask == nil {
		mask = make([]float32, len(x)) // all is free to move
	} else {
		Fill(out, mask, dim)
	}
	return out, recovery(ctx, m.Field, m.Config.Recovery, sampler.Noise{Seed: seed}, 0, out, mask, dim)
}
