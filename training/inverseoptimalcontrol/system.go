// Package inverseoptimalcontrol learns a cost of controls from experts (Xu, Xie, Zhao, Baker,
// Zhao, Wu, "Energy-Based Continuous Inverse Optimal Control", TNNLS 2022).
//
// Controls u in a scene have the density p(u | scene) ∝ exp(−C_θ(u | scene)); known dynamics
// lead from controls to a path, whose features the cost weighs. Langevin dynamics draws controls,
// or without noise descends to the best ones, by back-propagation through time, and the cost
// falls at what experts did and rises at what was drawn. Several agents share one cost and are
// drawn together.
package inverseoptimalcontrol

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// Labels of the random streams.
const (
	sampling = 1 // Langevin noise while learning
	drawn    = 2 // of predictions
)

// System is the learning system. Its parts are set by [New].
type System struct {
	*Model
	Config Config
	Data   *data.Loader

	experts, held *data.Set
	origin        training.Origin
	noise         sampler.Noise
	optim         *training.Optimizer
	iter          int

	x, given []float32 // experts, then what is drawn [2n, dim]; their scenes, the same twice
	bank     []float32 // where the chain of each expert ended [N, dim]; nil unless persistent
	chains   *sampler.State

	contrast, score []float32
}

// New assembles the system. held, which may be nil, is not learned from; both sets are as the
// settings say, controls given scenes or states.
func New(c Config, e training.ConditionalEnergy, trace training.ConditionalGenerator, set, held *data.Set, seed uint64) (*System, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("inverse-optimal-control: %w", err)
	}
	experts, err := c.Experts(set)
	if err != nil {
		return nil, err
	}
	m, err := NewModel(c, e, trace, experts.H)
	if err != nil {
		return nil, err
	}
	n, dim := c.Batch, experts.Dim()
	s := &System{Model: m, Config: c, experts: experts, held: experts, origin: training.OriginOf("inverse-optimal-control", seed, experts), noise: sampler.Noise{Seed: seed},
		x: make([]float32, 2*n*dim), given: make([]float32, 2*n*m.sceneSize()), contrast: make([]float32, 2*n), score: make([]float32, 2*n)}
	if held != nil {
		if s.held, err = c.Experts(held); err != nil {
			return nil, err
		}
	}
	m.scenes = s.held.Head(kept).Given.X()
	if c.Chains == Persistent {
		s.bank = make([]float32, experts.N*dim)
	}
	if s.optim, err = c.Optim.For(c.Steps).New(); err != nil {
		return nil, fmt.Errorf("inverse-optimal-control: %w", err)
	}
	if s.Data, err = data.NewLoader(experts, n, seed); err != nil {
		return nil, fmt.Errorf("inverse-optimal-control: %w", err)
	}
	for i := range n {
		s.contrast[i], s.contrast[n+i] = -1/float32(n), 1/float32(n)
		if c.Sabotage == Flip {
			s.contrast[i], s.contrast[n+i] = s.contrast[n+i], s.contrast[i]
		}
	}
	s.chains, err = sampler.NewState(s.x[n*dim:], dim, sampler.Chains(0, n))
	return s, err
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Count is how many experts are learned from.
func (s *System) Count() int { return s.experts.N }

// Slow implements [training.System].
func (s *System) Slow(factor float64) { s.optim.Slow(factor) }

// Step implements [training.System].
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	n, dim := s.Config.Batch, s.dim()
	b := s.Data.Next()
	did, drawn := s.x[:n*dim], s.x[n*dim:]
	copy(did, b.X)
	given := s.given[:n*s.sceneSize()]
	copy(given, b.Given)
	copy(s.given[len(given):], given)

	// Controls are drawn in the experts' scenes.
	clear(drawn)
	if s.bank != nil {
		for i, k := range b.Index {
			copy(drawn[i*dim:(i+1)*dim], s.bank[k*dim:])
		}
	}
	info, err := s.solve(ctx, given)
	if err != nil {
		return nil, training.Blame("chains", "a smaller langevin.step or optim.lr, or langevin.clamp", err)
	}
	if s.bank != nil {
		for i, k := range b.Index {
			copy(s.bank[k*dim:(k+1)*dim], drawn[i*dim:])
		}
	}
	// ∇θ of mean C(experts) − mean C(drawn), by scores −C.
	cost := s.Energy.Given(s.given)
	if err := cost.Learn(ctx, s.x, s.contrast, 0, s.score); err != nil {
		return nil, err
	}
	norm := optim.Norm(cost.Params())
	if s.Config.Sabotage != Freeze {
		if norm, err = s.optim.Update(cost.Params()); err != nil {
			return nil, training.Blame("cost", "a smaller optim.lr, or optim.clip", err)
		}
		s.hold(cost.Params())
		cost.Refresh()
	}
	s.iter++
	m := training.Metrics{"r": info.Drift, "clipped": info.Clamped, "grad_norm": norm}
	for i, w := range s.Weights() {
		m["weight/"+s.Config.Net.Features[i]] = w
	}
	m.Compare(did, drawn, s.score)
	return m, nil
}

// solve draws controls, or finds the best, from where chains are.
func (s *System) solve(ctx context.Context, scenes []float32) (sampler.Info, error) {
	if k := s.Config.ILQR; k > 0 {
		return sampler.Info{}, s.regulate(ctx, s.chains.X, scenes, k)
	}
	l := s.Config.Langevin
	s.chains.T = uint64(s.iter * l.Steps)
	s.chains.Invalidate()
	return sampler.Run(ctx, s.noise.Fork(sampling), l.Kernel(), s.Energy.Given(scenes), s.chains, l.Steps, nil)
}

// hold keeps weights of features from falling below 0, where the cost would have no minimum, and
// at the length that they are to have.
func (s *System) hold(params []optim.Param) {
	p := linear(params)
	if p == nil {
		return
	}
	length := 0.0
	for i, w := range p.W {
		p.W[i] = max(0, w)
		length += sq(float64(p.W[i]))
	}
	if s.Config.Length > 0 && length > 0 {
		for i := range p.W {
			p.W[i] *= float32(s.Config.Length / math.Sqrt(length))
		}
	}
}

// How many scenes an evaluation looks at, and how many are kept for drawing.
const (
	most = 200
	kept = 64
)

// Evaluate implements [training.Evaluator]: features of what is drawn in held scenes against the
// experts', and where paths lie in the plane their errors, beside those of constant velocity and
// of constant control.
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	held, k := s.held.Head(most), s.Config.Draws
	x, err := s.Predict(ctx, held.Given.X(), k, s.noise.Seed)
	if err != nil {
		return nil, err
	}
	want, err := s.Features(ctx, held.X(), held.Given.X())
	if err != nil {
		return nil, err
	}
	got, err := s.Features(ctx, x, repeated(held.Given.X(), held.N, k))
	if err != nil {
		return nil, err
	}
	m, gap := training.Metrics{}, 0.0
	for i, name := range s.Config.Net.Features {
		m["held/feature/"+name], m["held/experts/"+name] = got[i], want[i]
		gap += math.Abs(got[i]-want[i]) / max(want[i], 1e-12) / float64(len(want))
	}
	m["held/feature_gap"], m[training.Objective] = gap, gap
	if !plane(s.Config.Net) {
		return m, nil
	}
	velocity, current := s.Constant(held)
	for _, c := range []struct {
		name string
		x    []float32
		k    int
	}{{"", x, k}, {"constant_velocity/", velocity, 1}, {"constant_control/", current, 1}, {"experts/", held.X(), 1}} {
		e, err := s.Measure(ctx, held, c.x, c.k)
		if err != nil {
			return nil, err
		}
		m["held/"+c.name+"ade"], m["held/"+c.name+"fde"], m["held/"+c.name+"clear"] = e.ADE, e.FDE, e.Clear
		m["held/"+c.name+"median_ade"] = e.Median
		for i, v := range e.RMSE {
			m[fmt.Sprintf("held/%srmse_%d_of_%d", c.name, i+1, Marks)] = v
		}
		if c.k > 1 {
			m["held/min_ade"], m["held/min_fde"] = e.MinADE, e.MinFDE
		}
	}
	m[training.Objective] = m["held/ade"]
	return m, nil
}

func (s *System) keep() training.Keep {
	return training.Keep{Origin: s.origin, Data: s.Data, Weights: s.weights(), Optimizers: map[string]*training.Optimizer{"optim": s.optim}}
}

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) {
	st, err := s.keep().Save(s.iter, s.Config)
	st.Tensors["scenes"] = checkpoint.Tensor{Shape: []int{len(s.scenes) / s.sceneSize(), s.sceneSize()}, Data: s.scenes}
	if s.bank != nil {
		st.Tensors["chains"] = checkpoint.Tensor{Shape: []int{s.experts.N, s.dim()}, Data: s.bank}
	}
	return st, err
}

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	if err := s.keep().Restore(st, &s.iter); err != nil {
		return err
	}
	if err := s.restoreScenes(st); err != nil {
		return err
	}
	if s.bank != nil {
		x, err := checkpoint.Values[float32](st, "chains", s.experts.N, s.dim())
		if err != nil {
			return err
		}
		copy(s.bank, x)
	}
	return nil
}
