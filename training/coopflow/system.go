// Package coopflow learns an energy and a normalizing flow together (Xie, Zhu, Li, Li,
// "A Tale of Two Flows: Cooperative Learning of Langevin Flow and Normalizing Flow Toward
// Energy-Based Model", ICLR 2022).
//
// The normalizing flow drafts examples, the Langevin flow, K short steps on the
// energy, revises them, the flow learns from the revised drafts by exact likelihood, and
// the energy from how they differ from data. In the pre-trained variant the flow learns from
// data first, then the energy alone.
package coopflow

import (
	"context"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/exam"
	"ebmrun/training/flow"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// Labels of the random streams.
const (
	prior    = 1 // codes of the drafts
	revision = 2 // Langevin noise
	filling  = 3 // noise between levels
	drawn    = 4 // of revisions that are only looked at
)

// System is the learning system. Its parts are set by [New].
type System struct {
	Model
	Config Config
	Energy training.Energy
	Data   *data.Loader
	Exam   exam.Exam

	set     *data.Set
	origin  training.Origin
	noise   sampler.Noise
	learn   *training.Optimizer // of the energy
	teach   *training.Optimizer // of the flow
	prepare *training.Optimizer // of the flow before, by data alone
	fused   *sampler.Fused
	iter    int
	ids     []uint64
	drafts  *sampler.State

	x                     []float32 // data batch, then revised drafts [2n, dim]
	z, draft, between     []float32 // [n, dim]
	contrast, score, pull []float32 // [2n], [2n], [n]
	bound                 []float32 // [n]
}

// New assembles the system.
func New(c Config, e training.Energy, f training.Flow, set *data.Set, seed uint64) (*System, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("coopflow: %w", err)
	}
	if c.Prepare.LR == 0 {
		c.Prepare = c.Teach
	}
	together := max(c.Steps-c.Pretrain, 1) // iterations
	learn, err := c.Optim.For(together).New()
	if err != nil {
		return nil, fmt.Errorf("coopflow: %w", err)
	}
	teach, err := c.Teach.For(max((together-c.Alone)/c.Every, 1)).New()
	if err != nil {
		return nil, fmt.Errorf("coopflow: teach: %w", err)
	}
	prepare, err := c.Prepare.For(max(c.Pretrain, 1)).New()
	if err != nil {
		return nil, fmt.Errorf("coopflow: prepare: %w", err)
	}
	loader, err := data.NewLoader(set, c.Batch, seed)
	if err != nil {
		return nil, fmt.Errorf("coopflow: %w", err)
	}
	student, err := flow.Of(f, set)
	if err != nil {
		return nil, err
	}
	n, dim := c.Batch, set.Dim()
	some := func(n int) []float32 { return make([]float32, n) }
	s := &System{Model: c.Of(e, student), Config: c, Energy: e, Data: loader, Exam: exam.Exam{Seed: seed}, set: set, origin: training.OriginOf("coopflow", seed, set),
		noise: sampler.Noise{Seed: seed}, learn: learn, teach: teach, prepare: prepare, ids: sampler.Chains(0, n),
		x: some(2 * n * dim), z: some(n * dim), draft: some(n * dim), between: some(n * dim),
		contrast: some(2 * n), score: some(2 * n), pull: some(n), bound: some(n)}
	for i := range n {
		s.contrast[i], s.contrast[n+i], s.pull[i] = -1/float32(n), 1/float32(n), -1/float32(n)
		if c.Sabotage == Flip {
			s.contrast[i], s.contrast[n+i] = s.contrast[n+i], s.contrast[i]
		}
	}
	if s.drafts, err = sampler.NewState(s.x[n*dim:], dim, s.ids); err != nil {
		return nil, err
	}
	if u, ok := e.(training.Fuser); ok && c.Langevin.Fused {
		s.fused = &sampler.Fused{Chain: u.Chain(c.Langevin.Kernel()), K: c.Langevin.Steps}
	}
	return s, nil
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) {
	for _, o := range []*training.Optimizer{s.learn, s.teach, s.prepare} {
		o.Slow(factor)
	}
}

// Step implements [training.System].
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	c := s.Config
	if s.iter == 0 {
		if err := flow.Begin(ctx, s.Flow.Flow, s.set, c.Begin, s.noise.Seed); err != nil {
			return nil, err
		}
	}
	n := c.Batch * s.set.Dim()
	observed, revised := s.x[:n], s.x[n:]
	copy(observed, s.Data.Next().X)
	m := training.Metrics{}
	if s.iter < c.Pretrain {
		copy(s.draft, observed)
		training.Snap(s.draft, float64(s.set.Lo), s.Flow.Flow.Level())
		err := s.likelihood(ctx, s.prepare, s.draft, m)
		s.iter++
		return m, err
	}
	// The flow drafts.
	s.noise.Fork(prior).Normals(s.z, s.ids, uint64(s.iter))
	err := s.Flow.Flow.Decode(ctx, s.z, s.draft)
	if err == nil {
		err = training.Finite(s.draft)
	}
	if err != nil {
		return nil, training.Blame("flow", "a smaller teach.lr, or teach.clip", err)
	}
	if lo, hi := s.set.Lo, s.set.Hi; lo < hi {
		for i, v := range s.draft {
			s.draft[i] = min(max(v, lo), hi)
		}
	}
	copy(revised, s.draft)
	// The Langevin flow revises: K steps on the energy.
	s.drafts.T = uint64(s.iter * c.Langevin.Steps)
	s.drafts.Invalidate()
	info, err := s.revise(ctx)
	if err != nil {
		return nil, training.Blame("chains of the revision", "a smaller langevin.step or optim.lr, or langevin.grad_clip", err)
	}
	// ∇α of −mean log q(revised): the flow learns.
	if phase := s.iter - c.Pretrain - c.Alone; phase >= 0 && phase%c.Every == 0 {
		if err := s.likelihood(ctx, s.teach, revised, m); err != nil {
			return nil, err
		}
	}
	// ∇θ of mean f(revised) − mean f(data): the energy learns.
	if err := s.Energy.Learn(ctx, s.x, s.contrast, float32(2*c.ScoreL2/float64(c.Batch)), s.score); err != nil {
		return nil, err
	}
	norm := optim.Norm(s.Energy.Params())
	if c.Sabotage != Freeze {
		if norm, err = s.learn.Update(s.Energy.Params()); err != nil {
			return nil, training.Blame("energy", "a smaller optim.lr, or optim.clip", err)
		}
		s.Energy.Refresh()
	}
	s.iter++
	m["r"], m["clipped"], m["grad_norm"] = info.Drift, info.Clamped, norm
	s.measure(m, observed, revised)
	return m, nil
}

func (s *System) revise(ctx context.Context) (sampler.Info, error) {
	l, noise := s.Config.Langevin, s.noise.Fork(revision)
	if s.fused != nil {
		return s.fused.Run(ctx, noise, s.drafts, l.Steps, nil)
	}
	return sampler.Run(ctx, noise, l.Kernel(), s.Energy, s.drafts, l.Steps, nil)
}

// likelihood is one step of the flow on −mean log q(x).
func (s *System) likelihood(ctx context.Context, by *training.Optimizer, x []float32, m training.Metrics) error {
	s.noise.Fork(filling).Normals(s.between, s.ids, uint64(s.iter))
	if err := training.LearnFlow(ctx, s.Flow.Flow, s.Config.Piece, x, s.between, s.pull, s.bound); err != nil {
		return err
	}
	norm, err := by.Update(s.Flow.Flow.Params())
	if err == nil {
		err = training.Finite(s.bound)
	}
	if err != nil {
		return training.Blame("flow", "a smaller teach.lr, or teach.clip", err)
	}
	m["flow/nll"], m["flow/grad_norm"] = -training.Mean(s.bound), norm
	return nil
}

func (s *System) measure(m training.Metrics, observed, revised []float32) {
	m.Compare(observed, revised, s.score)
	m["revision"] = training.MSE(revised, s.draft) * float64(s.set.Dim())
}

// Evaluate implements [training.Evaluator]: revised drafts decide which checkpoint is
// best; the flow's own, and its likelihood of held-out data, are measured beside them.
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	e := s.Exam
	e.Held = nil // a search for each example takes long
	m, err := e.Evaluate(ctx, s.Model)
	if err != nil {
		return nil, err
	}
	if e.Judge != nil {
		x, err := s.Flow.Draw(ctx, e.JudgeN, e.Seed)
		if err != nil {
			return nil, err
		}
		if err := e.Beside(m, "flow/", x); err != nil {
			return nil, err
		}
	}
	own := training.Metrics{}
	if err := s.Flow.HeldOut(ctx, own, s.Exam.Held, s.noise.Seed); err != nil {
		return nil, err
	}
	for k, v := range own {
		m["flow/"+k] = v
	}
	return m, nil
}

// Pictures implements [training.Painter]: revised drafts, the drafts, and ways
// between codes.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	e := s.Exam
	e.Held = nil
	pics, err := e.Pictures(ctx, s.Model, s.set)
	if err != nil || pics == nil {
		return pics, err
	}
	x, err := s.Flow.Draw(ctx, 100, e.Seed)
	if err != nil {
		return nil, err
	}
	return append(pics, training.Picture{Tag: "drafts", Images: training.Images(s.set, x)}), nil
}

func (s *System) keep() training.Keep {
	return training.Keep{Origin: s.origin, Data: s.Data, Weights: Weights(s.Energy, s.Flow.Flow), Optimizers: map[string]*training.Optimizer{"optim": s.learn, "teach": s.teach, "prepare": s.prepare}}
}

// Save implements [training.System]. Chains begin at fresh drafts, so networks,
// optimizers and the place in the data are all there is.
func (s *System) Save() (*checkpoint.State, error) { return s.keep().Save(s.iter, s.Config) }

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error { return s.keep().Restore(st, &s.iter) }

// Weights are both networks, by what a checkpoint calls their weights.
func Weights(e training.Energy, f training.Flow) training.Weights {
	return training.Weights{"weights": e, "flow": f}
}
