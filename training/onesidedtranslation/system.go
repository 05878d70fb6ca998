// Package onesidedtranslation moves pictures of one domain to another by an energy of
// the other domain alone (Zhao, Xie, Li, "Learning Energy-Based Generative Models via
// Coarse-to-Fine Expanding and Sampling", ICLR 2021).
//
// Langevin chains begin at pictures of the source domain and descend towards the target
// domain's energy, which learns from how their ends differ from pictures of the target.
// Pairs of pictures are not needed: short chains keep what they began with as far as the
// energy lets them.
package onesidedtranslation

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/pyramid"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// Labels of the random streams beside the learning chains' own.
const (
	sourceNoise = 1 + iota
	targetNoise
	applied
)

// A Model is what is learned: an energy of the target domain.
type Model struct {
	Level *pyramid.Level

	config Config
}

var _ training.Translator = (*Model)(nil)

// NewModel joins an energy with its settings, for pictures of c×h×w.
func NewModel(c Config, e training.Energy, channels, h, w int) (*Model, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("one-sided-translation: %w", err)
	}
	v, err := pyramid.NewLevel(e, channels, h, w, c.Langevin, c.Optim.For(c.Steps))
	if err != nil {
		return nil, fmt.Errorf("one-sided-translation: %w", err)
	}
	v.Frozen = c.Sabotage == Freeze
	return &Model{v, c}, nil
}

// Translate implements [training.Translator].
func (m *Model) Translate(ctx context.Context, source []float32, seed uint64) ([]float32, error) {
	out, _, err := m.Trace(ctx, source, seed)
	return out, err
}

// Trace translates pictures [n, C, H, W] and tells where they were changed: for every
// pixel [n, H, W] the way it went over all steps, mean over the channels.
func (m *Model) Trace(ctx context.Context, source []float32, seed uint64) (out, heat []float32, err error) {
	v := m.Level
	dim, size := v.Dim(), v.H*v.W
	if len(source) == 0 || len(source)%dim != 0 {
		return nil, nil, fmt.Errorf("one-sided-translation: wanted pictures of %d×%d×%d, got %d values", v.C, v.H, v.W, len(source))
	}
	steps := m.config.Apply
	if steps == 0 {
		steps = v.Langevin.Steps
	}
	heat = make([]float32, 0, len(source)/v.C)
	out, err = pyramid.Batches(len(source)/dim, m.config.Batch, func(first, rows int) ([]float32, error) {
		x := m.begin(source[first*dim:(first+rows)*dim], rand.New(rand.NewPCG(seed, uint64(first))))
		was, way := append([]float32(nil), x...), make([]float32, rows*size)
		k := v.Langevin.Kernel()
		k.Project = func(x []float32) {
			for i, p := range x {
				way[i/dim*size+i%size] += float32(math.Abs(float64(p-was[i]))) / float32(v.C)
			}
			copy(was, x)
		}
		_, err := v.Move(ctx, sampler.Noise{Seed: seed}.Fork(applied), k, steps, sampler.Chains(uint64(first), rows), 0, x)
		heat = append(heat, way...)
		return x, err
	})
	return out, heat, err
}

// begin is where chains begin that are given sources.
func (m *Model) begin(source []float32, r *rand.Rand) []float32 {
	x := append([]float32(nil), source...)
	if m.config.Start == FromNoise {
		for i := range x {
			x[i] = 2*r.Float32() - 1
		}
	}
	return x
}

// Restore takes back what Save of a system has put into a checkpoint, without
// what only learning needs.
func (m *Model) Restore(st *checkpoint.State) error {
	return pyramid.RestoreEnergy(m.Level.Energy, st, 1)
}

// System is the learning system. Its parts are set by [New].
type System struct {
	*Model
	Config Config

	// Judge, if not nil, measures translations of Held, examples of the source domain,
	// against examples of the target domain.
	Judge func(samples []float32) (training.Metrics, error)
	Held  *data.Set

	a, b    *data.Set
	sources *data.Loader
	targets *data.Loader
	origin  training.Origin
	noise   sampler.Noise
	iter    int
	ids     []uint64
	w       []float32
}

// New assembles the system: pictures of a become pictures of b. All randomness follows
// from the seed.
func New(c Config, e training.Energy, a, b *data.Set, seed uint64) (*System, error) {
	if a.C != b.C || a.H != b.H || a.W != b.W {
		return nil, fmt.Errorf("one-sided-translation: wanted two domains of one size, got %d×%d×%d and %d×%d×%d", a.C, a.H, a.W, b.C, b.H, b.W)
	}
	m, err := NewModel(c, e, a.C, a.H, a.W)
	if err != nil {
		return nil, err
	}
	s := &System{Model: m, Config: c, a: a, b: b, Held: a, noise: sampler.Noise{Seed: seed},
		origin: training.Origin{System: "one-sided-translation", Seed: seed, Data: a.Hash() + b.Hash()},
		ids:    sampler.Chains(0, c.Batch), w: pyramid.Contrast(c.Batch, c.Sabotage == Flip)}
	if s.sources, err = data.NewLoader(a, c.Batch, seed); err != nil {
		return nil, fmt.Errorf("one-sided-translation: %w", err)
	}
	if s.targets, err = data.NewLoader(b, c.Batch, seed+1); err != nil {
		return nil, fmt.Errorf("one-sided-translation: %w", err)
	}
	return s, nil
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) { s.Level.Slow(factor) }

// Step implements [training.System].
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	v, n := s.Level, s.Config.Batch
	source, target := s.noisy(s.sources, sourceNoise), s.noisy(s.targets, targetNoise)
	x := s.begin(source, rand.New(rand.NewPCG(s.noise.Seed, 1<<44+uint64(s.iter))))
	clock := time.Now()
	info, err := v.Sample(ctx, s.noise, s.ids, uint64(s.iter*v.Langevin.Steps), x)
	if err != nil {
		return nil, err
	}
	m := training.Metrics{"sampling_seconds": time.Since(clock).Seconds()}
	clock = time.Now()
	// ∇θ of mean f(translations) − mean f(targets)
	score, norm, err := v.Learn(ctx, append(append(make([]float32, 0, 2*len(x)), target...), x...), s.w, 2*s.Config.ScoreL2/float64(n))
	if err != nil {
		return nil, err
	}
	m["learning_seconds"] = time.Since(clock).Seconds()
	s.iter++
	m.Compare(target, x, score)
	m["r"], m["clipped"], m["grad_norm"] = info.Drift, info.Clamped, norm
	m["moved"] = math.Sqrt(training.MSE(x, source))
	return m, nil
}

// noisy is the next batch of a domain with data noise.
func (s *System) noisy(l *data.Loader, label uint64) []float32 {
	x := append([]float32(nil), l.Next().X...)
	if sd := float32(s.Config.Data.Noise); sd > 0 {
		e := make([]float32, len(x))
		s.noise.Fork(label).Normals(e, s.ids, uint64(s.iter))
		for i := range x {
			x[i] += sd * e[i]
		}
	}
	return x
}

// Evaluate implements [training.Evaluator].
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	if s.Judge == nil {
		return nil, nil
	}
	x, err := s.Translate(ctx, s.Held.X(), s.noise.Seed)
	if err != nil {
		return nil, err
	}
	return s.Judge(x)
}

// Pictures implements [training.Painter]: sources, their translations and where they were
// changed.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	some := s.Held.Head(12)
	out, heat, err := s.Trace(ctx, some.X(), s.noise.Seed)
	if err != nil {
		return nil, err
	}
	most := float32(1e-6)
	for _, v := range heat {
		most = max(most, v)
	}
	size := s.a.H * s.a.W
	map3 := make([]float32, 0, len(out))
	for i := range some.N {
		for range s.a.C {
			map3 = append(map3, heat[i*size:(i+1)*size]...)
		}
	}
	images := func(x []float32, lo, hi float32) record.Images {
		return record.Images{Data: x, N: some.N, C: s.a.C, H: s.a.H, W: s.a.W, Lo: lo, Hi: hi}
	}
	return []training.Picture{{Tag: record.SamplesTag, Rows: []record.Images{images(some.X(), s.a.Lo, s.a.Hi), images(out, s.b.Lo, s.b.Hi), images(map3, 0, most)}}}, nil
}

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) {
	st := &checkpoint.State{Step: s.iter, Tensors: map[string]checkpoint.Tensor{}}
	s.Level.Save(st, 1)
	at := s.targets.Position()
	st.Tensors["targets"] = checkpoint.Tensor{Shape: []int{2}, Data: []int64{int64(at.Epoch), int64(at.Index)}}
	return st, s.origin.Save(st, s.sources, s.Config)
}

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	position, err := s.origin.Check(st)
	if err != nil {
		return err
	}
	if err := s.Level.Restore(st, 1); err != nil {
		return err
	}
	at, err := checkpoint.Values[int64](st, "targets", 2)
	if err != nil {
		return err
	}
	s.iter = st.Step
	if err := s.targets.Seek(data.Position{Seed: s.noise.Seed + 1, Epoch: int(at[0]), Index: int(at[1])}); err != nil {
		return err
	}
	return s.sources.Seek(position)
}
