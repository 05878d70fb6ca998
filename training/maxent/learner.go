// Package maxent learns energies that are linear in their weights, by maximum likelihood, which here is
// maximum entropy under observed statistics:
//
//	p(x) = exp(Σ_j θ_j·h_j(x))·q(x)/Z(θ),   θ += rate·(observed h − mean h of samples),
//
// with persistent chains moved by HMC or Langevin dynamics. log Z is tracked along the way. FRAME models
// with a parametric potential are of this kind, inhomogeneous and sparse ones too: they differ in h.
//
// A [Learner] does one iteration; a [System] is a learning system around it.
package maxent

import (
	"context"
	"fmt"
	"math"
	"time"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// Labels of the random streams beside the chains' own.
const (
	startNoise = 1
	drawNoise  = 2
)

// A Learner moves the weights of an energy towards given statistics.
type Learner struct {
	Config   Config
	Energy   training.Energy
	Observed [][]float32    // wanted mean of each statistic, shaped as the energy's parameters
	Chains   *sampler.State // persistent chains [n, dim]

	// LogZ is log Z(θ) − log Z(0), without the last update of θ. Since the samples that
	// an update is made of also measure what it gains, the estimate is low by about
	// ½·Σ rate·var(h)/chains, summed over weights and iterations.
	LogZ    float64
	forward float64     // log Z gained by the last update, from the samples before it
	before  [][]float32 // weights before the last update; nil at first

	noise    sampler.Noise
	opt      *training.Optimizer
	w, score []float32
	old      []float32
}

// Observe returns the mean statistics h of n examples x [n, dim], at most batch of them at a time: the
// slopes of the mean score.
func Observe(ctx context.Context, e training.Energy, x []float32, n, batch int) ([][]float32, error) {
	params := e.Params()
	mean := make([][]float32, len(params))
	for i, p := range params {
		mean[i] = make([]float32, len(p.W))
	}
	dim := len(x) / n
	w, score := make([]float32, batch), make([]float32, batch)
	for first := 0; first < n; first += batch {
		// the last rows fill up with examples of weight 0, so that one program does
		rows := make([]float32, batch*dim)
		for k := range batch {
			w[k] = 0
			if first+k < n {
				w[k] = 1 / float32(n)
				copy(rows[k*dim:], x[(first+k)*dim:(first+k+1)*dim])
			}
		}
		if err := e.Learn(ctx, rows, w, 0, score); err != nil {
			return nil, err
		}
		for i, p := range params {
			for j, g := range p.G {
				mean[i][j] += g
			}
		}
	}
	return mean, nil
}

// NewLearner starts chains at N(0, sigma²). All randomness follows from the seed.
func NewLearner(c Config, e training.Energy, observed [][]float32, dim int, sigma float64, seed uint64) (*Learner, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	for i, p := range e.Params() {
		if len(observed) != len(e.Params()) || len(observed[i]) != len(p.W) {
			return nil, fmt.Errorf("maxent: wanted %d statistics for %s", len(p.W), p.Name)
		}
	}
	opt, err := c.Optim.For(c.Steps).New()
	if err != nil {
		return nil, err
	}
	l := &Learner{Config: c, Energy: e, Observed: observed, noise: sampler.Noise{Seed: seed}, opt: opt,
		w: make([]float32, c.Chains), score: make([]float32, c.Chains), old: make([]float32, c.Chains)}
	l.Chains, err = start(l.noise, c.Chains, dim, sigma)
	return l, err
}

// start is n chains at N(0, sigma²).
func start(noise sampler.Noise, n, dim int, sigma float64) (*sampler.State, error) {
	s, err := sampler.NewState(make([]float32, n*dim), dim, sampler.Chains(0, n))
	if err != nil {
		return nil, err
	}
	noise.Fork(startNoise).Normals(s.X, s.Chain, 0)
	for i := range s.X {
		s.X[i] *= float32(sigma)
	}
	return s, nil
}

// Step samples, closes the account of log Z, and updates the weights.
func (l *Learner) Step(ctx context.Context) (training.Metrics, error) {
	m := training.Metrics{}
	clock := time.Now()
	kernel, steps := l.Config.Kernel()
	info, err := sampler.Run(ctx, l.noise, kernel, l.Energy, l.Chains, steps, nil)
	if err != nil {
		return nil, err
	}
	m["sampling_seconds"] = time.Since(clock).Seconds()
	clock = time.Now()
	if err := l.reverse(ctx); err != nil {
		return nil, err
	}
	params := l.Energy.Params()
	n := len(l.w)
	for i := range l.w {
		l.w[i] = 1 / float32(n)
	}
	if err := l.Energy.Learn(ctx, l.Chains.X, l.w, 0, l.score); err != nil {
		return nil, err
	}
	// p.G is the samples' mean statistic: θ descends along it minus the observed one.
	var gap, size float64
	for i, p := range params {
		for j, want := range l.Observed[i] {
			p.G[j] -= want
			gap += math.Abs(float64(p.G[j]))
			size += math.Abs(float64(want))
			m[training.Value] -= float64(p.G[j]) * float64(p.W[j])
			if l.Config.Sabotage == Flip {
				p.G[j] = -p.G[j]
			}
		}
	}
	m["gap"] = gap / size
	if l.Config.Sabotage == Freeze {
		m["grad_norm"] = optim.Norm(params)
	} else if m["grad_norm"], err = l.update(ctx, params); err != nil {
		return nil, err
	}
	m["learning_seconds"] = time.Since(clock).Seconds()
	m["logz"] = l.LogZ + l.forward
	m["accepted"], m["r"] = info.Accepted, info.Drift
	return m, nil
}

// update moves the weights and takes the forward estimate of what log Z gains: the log of the samples'
// mean exp(f_new − f_old).
func (l *Learner) update(ctx context.Context, params []optim.Param) (norm float64, err error) {
	l.keep(params)
	if norm, err = l.opt.Update(params); err != nil {
		return norm, err
	}
	l.Energy.Refresh()
	copy(l.old, l.score)
	if err := l.scores(ctx); err != nil {
		return norm, err
	}
	l.forward = logMeanExp(l.score, l.old)
	return norm, nil
}

// keep remembers the weights.
func (l *Learner) keep(params []optim.Param) {
	if l.before == nil {
		for _, p := range params {
			l.before = append(l.before, make([]float32, len(p.W)))
		}
	}
	for i, p := range params {
		copy(l.before[i], p.W)
	}
}

// reverse takes the estimate of the same gain from samples after the update, minus the log of their mean
// exp(f_old − f_new), and books the mean of both.
func (l *Learner) reverse(ctx context.Context) error {
	if l.before == nil {
		return nil
	}
	if err := l.scores(ctx); err != nil {
		return err
	}
	copy(l.old, l.score)
	l.swap()
	err := l.scores(ctx)
	l.swap()
	l.LogZ += (l.forward - logMeanExp(l.score, l.old)) / 2
	l.forward = 0
	return err
}

// swap exchanges the weights with those before the last update.
func (l *Learner) swap() {
	for i, p := range l.Energy.Params() {
		for j := range p.W {
			p.W[j], l.before[i][j] = l.before[i][j], p.W[j]
		}
	}
	l.Energy.Refresh()
}

// scores writes f of the chains to l.score.
func (l *Learner) scores(ctx context.Context) error {
	clear(l.w)
	return l.Energy.Learn(ctx, l.Chains.X, l.w, 0, l.score)
}

// logMeanExp is log mean exp(a−b).
func logMeanExp(a, b []float32) float64 {
	most := math.Inf(-1)
	for i, v := range a {
		most = max(most, float64(v)-float64(b[i]))
	}
	sum := 0.0
	for i, v := range a {
		sum += math.Exp(float64(v) - float64(b[i]) - most)
	}
	return most + math.Log(sum/float64(len(a)))
}

// LogPartition is the estimate of log Z(θ) − log Z(0) at the present weights.
func (l *Learner) LogPartition() float64 { return l.LogZ + l.forward }

// Slow multiplies the learning rate.
func (l *Learner) Slow(factor float64) { l.opt.Slow(factor) }

// Save puts weights, chains and the account of log Z into a checkpoint.
func (l *Learner) Save(st *checkpoint.State) {
	params := l.Energy.Params()
	training.SaveParams(st, "weights", params)
	l.opt.Save(st, "optim")
	st.Tensors["chains/x"] = checkpoint.Tensor{Shape: []int{l.Chains.Len(), l.Chains.Dim}, Data: l.Chains.X}
	st.Tensors["chains/t"] = checkpoint.Scalar(l.Chains.T)
	st.Tensors["logz"] = checkpoint.Tensor{Shape: []int{2}, Data: []float64{l.LogZ, l.forward}}
	for i, p := range params {
		if l.before != nil {
			st.Tensors["before/"+p.Name] = checkpoint.Tensor{Shape: []int{len(p.W)}, Data: l.before[i]}
		}
	}
}

// Restore takes them back.
func (l *Learner) Restore(st *checkpoint.State) error {
	params := l.Energy.Params()
	if err := training.RestoreParams(st, "weights", params); err != nil {
		return err
	}
	l.Energy.Refresh()
	if err := l.opt.Restore(st, "optim"); err != nil {
		return err
	}
	x, err := checkpoint.Values[float32](st, "chains/x", l.Chains.Len(), l.Chains.Dim)
	if err != nil {
		return err
	}
	t, err := checkpoint.Values[uint64](st, "chains/t")
	if err != nil {
		return err
	}
	logz, err := checkpoint.Values[float64](st, "logz", 2)
	if err != nil {
		return err
	}
	l.before = nil
	for _, p := range params {
		if _, ok := st.Tensors["before/"+p.Name]; !ok {
			break
		}
		w, err := checkpoint.Values[float32](st, "before/"+p.Name, len(p.W))
		if err != nil {
			return err
		}
		l.before = append(l.before, append([]float32(nil), w...))
	}
	copy(l.Chains.X, x)
	l.Chains.T, l.LogZ, l.forward = t[0], logz[0], logz[1]
	return nil
}
