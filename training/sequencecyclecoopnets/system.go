// Package sequencecyclecoopnets learns to translate clips between two domains without
// pairs, so that motion stays and appearance changes: cooperative learning of energies
// and translators of frames, with a predictor of the next frame in each domain in place
// of the way back (after Xie, Zheng, Fang, Zhu, Wu, AAAI 2021, and the tutorial on
// cooperative learning).
//
// What a predictor of the other domain makes of two translated frames must, brought
// back, be the frame that follows. Clips are translated frame by frame.
package sequencecyclecoopnets

import (
	"context"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/cyclecoopnets"
	"ebmrun/training/data"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// frames of a window: two that a predictor sees and the one that follows.
const frames = 3

// start labels the random streams that windows begin by, one a domain.
const start = 21

// The predictors among the mappings, after those of cyclecoopnets.
const (
	nextA = cyclecoopnets.BA + 1 + iota
	nextB
)

// A Shape is that of a clip, the same in both domains.
type Shape struct{ C, D, H, W int }

// ShapeOf reads the dimensions of a clip.
func ShapeOf(dims []int) (Shape, error) {
	if len(dims) != 4 || dims[1] < frames {
		return Shape{}, fmt.Errorf("sequence-cycle-coopnets: wanted clips [C, D, H, W] of %d frames or more, got %v", frames, dims)
	}
	return Shape{dims[0], dims[1], dims[2], dims[3]}, nil
}

// Dim is the values of a frame.
func (s Shape) Dim() int { return s.C * s.H * s.W }

// Frame are the dimensions of a frame.
func (s Shape) Frame() []int { return []int{s.C, s.H, s.W} }

// frame copies frame t of a clip to or from a picture [C, H, W].
func (s Shape) frame(clip []float32, t int, picture []float32, into bool) {
	plane := s.H * s.W
	for c := range s.C {
		part, of := clip[(c*s.D+t)*plane:][:plane], picture[c*plane:][:plane]
		if into {
			part, of = of, part
		}
		copy(of, part)
	}
}

// Split is the frames of clips as pictures, clip after clip.
func (s Shape) Split(clips []float32) []float32 {
	out := make([]float32, len(clips))
	for i := range len(clips) / s.Dim() {
		s.frame(clips[i/s.D*s.D*s.Dim():], i%s.D, out[i*s.Dim():], false)
	}
	return out
}

// Join is the opposite of Split.
func (s Shape) Join(pictures []float32) []float32 {
	out := make([]float32, len(pictures))
	for i := range len(pictures) / s.Dim() {
		s.frame(out[i/s.D*s.D*s.Dim():], i%s.D, pictures[i*s.Dim():], true)
	}
	return out
}

// A Model is what is learned: translators, energies and predictors of frames.
type Model struct {
	Frames *cyclecoopnets.Model
	Shape
}

var _ training.Returner = (*Model)(nil)

// NewModel joins the networks with their settings.
func NewModel(c Config, a, b training.Energy, maps training.Mappings, shape Shape) (*Model, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("sequence-cycle-coopnets: %w", err)
	}
	m, err := cyclecoopnets.NewModel(c.Config, a, b, maps, shape.Dim())
	return &Model{m, shape}, err
}

// Translate implements [training.Translator]: clips of a, frame by frame.
func (m *Model) Translate(ctx context.Context, source []float32, seed uint64) ([]float32, error) {
	return m.through(ctx, m.Frames.Translate, source, seed)
}

// Return implements [training.Returner]: clips of b, frame by frame.
func (m *Model) Return(ctx context.Context, source []float32, seed uint64) ([]float32, error) {
	return m.through(ctx, m.Frames.Return, source, seed)
}

func (m *Model) through(ctx context.Context, frames func(context.Context, []float32, uint64) ([]float32, error), source []float32, seed uint64) ([]float32, error) {
	if len(source) == 0 || len(source)%(m.D*m.Dim()) != 0 {
		return nil, fmt.Errorf("sequence-cycle-coopnets: wanted clips of %+v, got %d values", m.Shape, len(source))
	}
	x, err := frames(ctx, m.Split(source), seed)
	if err != nil {
		return nil, err
	}
	return m.Join(x), nil
}

// Predict is the frame [n, C, H, W] that follows pairs of frames [n, 2C, H, W] of domain 0
// or 1.
func (m *Model) Predict(ctx context.Context, domain int, pairs []float32) ([]float32, error) {
	out := make([]float32, len(pairs)/2)
	two := 2 * m.Dim()
	return out, training.Blocks(len(pairs)/two, training.Block, func(first, end int) error {
		return m.Frames.Maps.Apply(ctx, nextA+domain, pairs[first*two:end*two], out[first*m.Dim():end*m.Dim()])
	})
}

// Follow is all pairs of frames of clips, stacked, and the frames that follow them.
func (m *Model) Follow(clips []float32) (pairs, next []float32) {
	x, d := m.Split(clips), m.Dim()
	for i := range len(x) / d {
		if i%m.D < m.D-2 {
			pairs = append(pairs, x[i*d:(i+2)*d]...)
			next = append(next, x[(i+2)*d:(i+3)*d]...)
		}
	}
	return pairs, next
}

// Restore takes back what Save of a system has put into a checkpoint.
func (m *Model) Restore(st *checkpoint.State) error { return m.Frames.Restore(st) }

// System is the learning system. Its parts are set by [New].
type System struct {
	*cyclecoopnets.System
	Config Config

	model *Model
	seed  uint64
	a, b  *data.Set
}

// New assembles the system from clips of two domains.
func New(c Config, energyA, energyB training.Energy, maps training.Mappings, a, b *data.Set, seed uint64) (*System, error) {
	shape, err := ShapeOf(a.Dims())
	if err != nil {
		return nil, err
	}
	if other, err := ShapeOf(b.Dims()); err != nil || other != shape {
		return nil, fmt.Errorf("sequence-cycle-coopnets: wanted clips of two domains of one shape, got %v and %v", a.Dims(), b.Dims())
	}
	m, err := NewModel(c, energyA, energyB, maps, shape)
	if err != nil {
		return nil, err
	}
	v := cyclecoopnets.Variant{Name: "sequence-cycle-coopnets", Frames: frames, Dim: shape.Dim(),
		Terms: []string{"teach_b", "teach_a", "predict_a", "predict_b", "through_a", "through_b"},
		Weigh: func(ramp float64) []float64 {
			// predictions are of one frame in three
			p, s := frames*c.Predict, frames*c.Through*ramp
			w := []float64{1, 1, p, p, s, s}
			if c.Cycle > 0 {
				w = append(w, c.Cycle*ramp)
			}
			return w
		},
		// Windows never cross the end of a clip.
		Window: func(domain, iteration int, batch data.Batch, out []float32) {
			n, d := len(batch.Index), shape.Dim()
			for i := range n {
				r := sampler.Stream(seed, uint64(start+domain)<<32+uint64(i), uint64(iteration))
				first := r.IntN(shape.D - frames + 1)
				for t := range frames {
					shape.frame(batch.X[i*shape.D*d:], first+t, out[(t*n+i)*d:], false)
				}
			}
		},
		Lesson: func(a, b, arrivedB, arrivedA []float32) (in [][]float32) {
			for _, x := range [][]float32{a, b, arrivedB, arrivedA} {
				n := len(x) / frames
				for t := range frames {
					in = append(in, x[t*n:(t+1)*n])
				}
			}
			return in
		},
	}
	if c.Cycle > 0 {
		v.Terms = append(v.Terms, "cycle_l1")
	}
	s, err := cyclecoopnets.NewAs(v, c.Config, energyA, energyB, maps, a, b, seed)
	if err != nil {
		return nil, err
	}
	return &System{System: s, Config: c, model: m, seed: seed, a: a, b: b}, nil
}

// Learned is what is learned so far.
func (s *System) Learned() *Model { return s.model }

// most clips are looked at in an evaluation.
const most = 40

// Evaluate implements [training.Evaluator]: translations of held clips against b, and the
// predictor's error as a share of that of the frame before, taken for the next.
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	h := s.Held.Head(most)
	x, err := s.model.Translate(ctx, h.X(), s.seed)
	if err != nil {
		return nil, err
	}
	m := training.Metrics{}
	if s.Judge != nil {
		if m, err = s.Judge(x); err != nil {
			return nil, err
		}
	}
	m["held/predict_ratio"], err = s.model.Foresight(ctx, 0, h.X())
	return m, err
}

// Foresight is the squared error of predicted frames of clips, as a share of that of the
// last frame seen.
func (m *Model) Foresight(ctx context.Context, domain int, clips []float32) (float64, error) {
	pairs, next := m.Follow(clips)
	p, err := m.Predict(ctx, domain, pairs)
	if err != nil {
		return 0, err
	}
	var last []float32
	for i := range len(next) / m.Dim() {
		last = append(last, pairs[(2*i+1)*m.Dim():(2*i+2)*m.Dim()]...)
	}
	return training.MSE(p, next) / training.MSE(last, next), nil
}

// Pictures implements [training.Painter]: clips of a above their translations.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	h := s.Held.Head(6)
	x, err := s.model.Translate(ctx, h.X(), s.seed)
	if err != nil {
		return nil, err
	}
	p, err := training.Show(record.SamplesTag, s.b, x)
	if err != nil {
		return nil, err
	}
	from, err := training.Show("a", s.a, h.X())
	if err != nil {
		return nil, err
	}
	both := training.Picture{Tag: "a-to-b"}
	for i := range from.Rows {
		both.Rows = append(both.Rows, from.Rows[i], p.Rows[i])
	}
	return []training.Picture{p, both}, nil
}
