// Package cyclecoopnets learns to translate between two domains without pairs, by
// alternating MCMC teaching (Xie, Zheng, Fang, Zhu, Wu, "Learning Cycle-Consistent
// Cooperative Networks via Alternating MCMC Teaching for Unsupervised Cross-Domain
// Translation", AAAI 2021).
//
// Each domain has an energy and a translator that leads to it. Translations are revised
// by Langevin dynamics on the energy of the domain they arrive in; each energy learns
// from how revised translations differ from its own examples, and both translators
// learn at once from the revisions and from coming back, after there and back, to where
// they began.
package cyclecoopnets

import (
	"context"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// Labels of the random streams.
const (
	revisionA = 1 // Langevin noise in each domain
	revisionB = 2
	drawn     = 3 // translations that are only looked at
)

// A Variant is what a system that adds to this one has in place of its own.
type Variant struct {
	Name   string // of the system, in checkpoints
	Frames int    // pictures of an example that are translated
	Dim    int    // values of such a picture

	// Window, if not nil, copies Frames pictures of each example of a batch of a domain to
	// out [Frames, n, Dim].
	Window func(domain, iteration int, batch data.Batch, out []float32)

	// Lesson gives what the mappings learn from, [n, Dim] each: from the pictures of both
	// domains and the revised translations that arrived there, and what each of Terms
	// counts as a mean over the values of all the pictures.
	Lesson func(a, b, arrivedB, arrivedA []float32) [][]float32
	Weigh  func(ramp float64) []float64
	Terms  []string
}

// own is the variant of this package: single pictures, there and back.
func own(c Config, dim int) Variant {
	return Variant{Name: "cycle-coopnets", Frames: 1, Dim: dim,
		Lesson: func(a, b, arrivedB, arrivedA []float32) [][]float32 { return [][]float32{a, b, arrivedB, arrivedA} },
		Weigh:  func(ramp float64) []float64 { return []float64{1, 1, c.Cycle * ramp} },
		Terms:  []string{"teach_b", "teach_a", "cycle_l1"}}
}

// A side is one domain in learning.
type side struct {
	set    *data.Set
	loader *data.Loader
	learn  *training.Optimizer
	x      []float32 // pictures, then revised translations [2n, dim]
	draft  []float32 // translations as they arrive [n, dim]
	state  *sampler.State
	score  []float32
}

func (s *side) own() []float32     { return s.x[:len(s.x)/2] }
func (s *side) revised() []float32 { return s.x[len(s.x)/2:] }

// System is the learning system. Its parts are set by [New].
type System struct {
	*Model
	Config Config

	// Judge, if not nil, measures translations of Held, examples of domain a, against b.
	Judge func(samples []float32) (training.Metrics, error)
	Held  *data.Set

	sides    [2]*side
	origin   training.Origin
	noise    sampler.Noise
	teach    *training.Optimizer
	iter     int
	variant  Variant
	contrast []float32
	terms    [][]float32 // of the variant
}

// New assembles the system.
func New(c Config, energyA, energyB training.Energy, maps training.Mappings, a, b *data.Set, seed uint64) (*System, error) {
	return NewAs(own(c, a.Dim()), c, energyA, energyB, maps, a, b, seed)
}

// NewAs is [New] for a variant.
func NewAs(v Variant, c Config, energyA, energyB training.Energy, maps training.Mappings, a, b *data.Set, seed uint64) (*System, error) {
	if a.Dim() != b.Dim() {
		return nil, fmt.Errorf("%s: wanted two domains of one size, got %v and %v", v.Name, a.Dims(), b.Dims())
	}
	m, err := NewModel(c, energyA, energyB, maps, v.Dim)
	if err != nil {
		return nil, err
	}
	n, dim := c.Batch*v.Frames, v.Dim
	s := &System{Model: m, Config: c, Held: a, variant: v, noise: sampler.Noise{Seed: seed}, contrast: make([]float32, 2*n),
		origin: training.Origin{System: v.Name, Seed: seed, Data: a.Hash() + b.Hash()}}
	for range v.Terms {
		s.terms = append(s.terms, make([]float32, c.Batch))
	}
	for i := range n {
		s.contrast[i], s.contrast[n+i] = -1/float32(n), 1/float32(n)
		if c.Sabotage == Flip {
			s.contrast[i], s.contrast[n+i] = s.contrast[n+i], s.contrast[i]
		}
	}
	if s.teach, err = c.Teach.For(c.Steps).New(); err != nil {
		return nil, fmt.Errorf("%s: teach: %w", v.Name, err)
	}
	for k, set := range []*data.Set{a, b} {
		d := &side{set: set, x: make([]float32, 2*n*dim), draft: make([]float32, n*dim), score: make([]float32, 2*n)}
		if d.loader, err = data.NewLoader(set, c.Batch, seed+uint64(k)); err != nil {
			return nil, fmt.Errorf("%s: %w", v.Name, err)
		}
		if d.learn, err = c.Optim.For(c.Steps).New(); err != nil {
			return nil, fmt.Errorf("%s: %w", v.Name, err)
		}
		if d.state, err = sampler.NewState(d.revised(), dim, sampler.Chains(0, n)); err != nil {
			return nil, err
		}
		s.sides[k] = d
	}
	return s, nil
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) {
	s.teach.Slow(factor)
	for _, d := range s.sides {
		d.learn.Slow(factor)
	}
}

// Step implements [training.System].
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	v := &s.variant
	n := s.Config.Batch * v.Frames
	for k, d := range s.sides {
		if b := d.loader.Next(); v.Window != nil {
			v.Window(k, s.iter, b, d.own())
		} else {
			copy(d.own(), b.X)
		}
	}
	m := training.Metrics{}
	// Translate both ways; the energy of the new domain revises.
	for k, from := range s.sides {
		to := s.sides[1-k]
		err := s.Maps.Apply(ctx, k, from.own(), to.draft)
		if err == nil {
			err = training.Finite(to.draft)
		}
		if err != nil {
			return nil, training.Blame("translator", "a smaller teach.lr, or teach.clip", err)
		}
		copy(to.revised(), to.draft)
		info, err := s.revise(ctx, 1-k, to.state, s.noise.Fork(uint64(revisionB-k)), uint64(s.iter*s.Config.Langevin.Steps))
		if err != nil {
			return nil, training.Blame("chains of the revision", "a smaller langevin.step or optim.lr, or langevin.grad_clip", err)
		}
		m["r"] += info.Drift / 2
	}
	// ∇θ of mean f(revised) − mean f(examples), in each domain.
	for k, d := range s.sides {
		e := s.Energies[k]
		if err := e.Learn(ctx, d.x, s.contrast, float32(2*s.Config.ScoreL2/float64(n)), d.score); err != nil {
			return nil, err
		}
		norm, err := d.learn.Update(e.Params())
		if err != nil {
			return nil, training.Blame(names[k], "a smaller optim.lr, or optim.clip", err)
		}
		e.Refresh()
		v := training.Mean(d.score[:n]) - training.Mean(d.score[n:])
		m[training.Value] += v / 2
		m[names[k]+"/V"], m[names[k]+"/grad_norm"] = v, norm
		m[names[k]+"/revision"] = training.MSE(d.revised(), d.draft)
	}
	// ∇α of both lessons and of the way there and back: all are means over values.
	a, b := s.sides[0], s.sides[1]
	weights := v.Weigh(min(1, float64(s.iter+1)/float64(s.Config.Warm+1)))
	w := make([]float32, len(weights))
	for j, c := range weights {
		w[j] = float32(c / float64(n*s.Dim))
	}
	if err := s.Maps.Learn(ctx, v.Lesson(a.own(), b.own(), b.revised(), a.revised()), w, s.terms); err != nil {
		return nil, err
	}
	norm, err := s.teach.Update(s.Maps.Params())
	for _, t := range s.terms {
		if err == nil {
			err = training.Finite(t)
		}
	}
	if err != nil {
		return nil, training.Blame("translators", "a smaller teach.lr, or teach.clip", err)
	}
	s.iter++
	for j, name := range v.Terms {
		m[name] = training.Mean(s.terms[j]) / float64(v.Frames*s.Dim)
	}
	m["translators/grad_norm"] = norm
	_, m[training.DataStd] = training.Moments(b.own())
	_, m[training.SampleStd] = training.Moments(b.revised())
	return m, nil
}

// most examples are translated in an evaluation.
const most = 200

// Evaluate implements [training.Evaluator]: revised translations of held examples of a
// against b, and the mean absolute error of coming back.
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	h := s.Held.Head(most)
	drafts, revised, err := s.Through(ctx, AB, h.X(), s.noise.Seed)
	if err != nil {
		return nil, err
	}
	m := training.Metrics{}
	if s.Judge != nil {
		if m, err = s.Judge(revised); err != nil {
			return nil, err
		}
	}
	back, _, err := s.Through(ctx, BA, drafts, s.noise.Seed)
	if err != nil {
		return nil, err
	}
	for i, v := range back {
		d := float64(v - h.X()[i])
		m["held/cycle_l1"] += max(d, -d) / float64(len(back))
	}
	return m, nil
}

// Pictures implements [training.Painter]: examples of each domain above their revised
// translations.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	var pics []training.Picture
	for k, from := range []*data.Set{s.Held.Head(16), s.sides[1].set.Head(16)} {
		to := s.sides[1-k].set
		drafts, revised, err := s.Through(ctx, k, from.X(), s.noise.Seed)
		if err != nil {
			return nil, err
		}
		if k == AB {
			pics = append(pics, training.Picture{Tag: record.SamplesTag, Images: training.Images(to, revised)})
		}
		pics = append(pics, training.Picture{Tag: []string{"a-to-b", "b-to-a"}[k],
			Rows: []record.Images{training.Images(from, from.X()), training.Images(to, drafts), training.Images(to, revised)}})
	}
	return pics, nil
}

func (s *System) keep() training.Keep {
	return training.Keep{Origin: s.origin, Data: s.sides[0].loader, Weights: s.weights(), Optimizers: map[string]*training.Optimizer{
		names[0] + ".optim": s.sides[0].learn, names[1] + ".optim": s.sides[1].learn, "teach": s.teach,
	}}
}

// Save implements [training.System]. The place in domain b is kept beside that in a.
func (s *System) Save() (*checkpoint.State, error) {
	st, err := s.keep().Save(s.iter, s.Config)
	p := s.sides[1].loader.Position()
	st.Tensors["place-b"] = checkpoint.Tensor{Shape: []int{2}, Data: []uint64{uint64(p.Epoch), uint64(p.Index)}}
	return st, err
}

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	if err := s.keep().Restore(st, &s.iter); err != nil {
		return err
	}
	place, err := checkpoint.Values[uint64](st, "place-b", 2)
	if err != nil {
		return err
	}
	return s.sides[1].loader.Seek(data.Position{Seed: s.noise.Seed + 1, Epoch: int(place[0]), Index: int(place[1])})
}
