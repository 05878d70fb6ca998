// Package deepframe learns a random field whose features are the units of a
// pre-learned network (Lu, Zhu, Wu, "Learning FRAME Models Using CNN Filters",
// AAAI 2016):
//
//	p(x) ∝ exp(f(x))·q(x),   f(x) = Σ_k Σ_p θ_k,p·h_k,p(x)
//
// h are the responses of a layer, q is N(0, σ²I), and θ alone is learned, one
// weight a feature where textures are stationary, one a feature and position for
// aligned objects. Since f is linear in θ, learning matches statistics:
//
//	∂L/∂θ = mean h(data) − mean h(samples)
//
// and those of the data are taken once.
package deepframe

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/maxent"
	"ebmrun/training/optim"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// System is the learning system. Its parts are set by [New].
type System struct {
	Config Config
	Energy training.Energy // whose parameters are the weights θ of a linear top layer
	Data   *data.Loader

	// Judge, if not nil, measures the chains against held-out data. Without it the
	// gap of the statistics decides which checkpoint is best.
	Judge func(samples []float32) (training.Metrics, error)

	set    *data.Set
	origin training.Origin
	noise  sampler.Noise
	opt    *training.Optimizer
	iter   int

	observed [][]float32   // mean h(data), as the gradient of f in each parameter
	unit     [][]float32   // of each weight
	theta    []optim.Param // the weights in these units, which is what the optimizer sees
	chains   *sampler.State
	w, score []float32 // 1/n for each chain, and its score
	least    float64   // gap so far
	stride   float64   // share of langevin.step that steps have now
}

// New assembles the system over an energy and a data set, and takes the
// statistics of the data. All randomness follows from the seed.
func New(ctx context.Context, c Config, e training.Energy, set *data.Set, seed uint64) (*System, error) {
	s, err := assemble(c, e, set, seed)
	if err == nil {
		err = s.observe(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("deep-frame: %w", err)
	}
	return s, nil
}

func assemble(c Config, e training.Energy, set *data.Set, seed uint64) (*System, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	opt, err := c.Optim.For(c.Steps).New()
	if err != nil {
		return nil, err
	}
	loader, err := data.NewLoader(set, min(c.Batch, set.N), seed)
	if err != nil {
		return nil, err
	}
	n, dim := c.Chains.Number, set.Dim()
	s := &System{
		Config: c, Energy: e, Data: loader, set: set, origin: training.OriginOf("deep-frame", seed, set), noise: sampler.Noise{Seed: seed}, opt: opt,
		w: make([]float32, n), score: make([]float32, n), least: math.Inf(1), stride: 1,
	}
	for i := range s.w {
		s.w[i] = 1 / float32(n)
	}
	s.chains, err = sampler.NewState(make([]float32, n*dim), dim, sampler.Chains(0, n))
	if err != nil {
		return nil, err
	}
	Begin(c, s.chains.X, seed)
	return s, nil
}

// Begin fills x with what chains begin with.
func Begin(c Config, x []float32, seed uint64) {
	r := rand.New(rand.NewPCG(seed, math.MaxInt32))
	sd := c.Reference.Sigma
	if sd == 0 {
		sd = 1
	}
	for i := range x {
		if x[i] = 0; c.Chains.Start != Zero {
			x[i] = float32(sd * r.NormFloat64())
		}
	}
}

// observe takes the mean statistics of all examples, a batch at a time.
func (s *System) observe(ctx context.Context) (err error) {
	if s.observed, err = maxent.Observe(ctx, s.Energy, s.set.X(), s.set.N, min(s.Config.Batch, s.set.N)); err == nil {
		s.prepare()
	}
	return err
}

// prepare makes the optimizer's view of the weights, θ in units that suit a step
// of Adam, which is as long for every weight. Responses differ by orders of
// magnitude, and their sum has to hold pictures of the data's size against the
// reference density: where f is homogeneous, as behind ReLU, Σ θ·h = ‖x‖²/σ² at
// the mode. In units of
//
//	‖x‖²/(σ²·K·h_k),   x the data, h_k at least a tenth of its map's mean
//
// all K weights are 1 there if they are equal.
func (s *System) prepare() {
	weights, norm := 0, 0.0
	for _, p := range s.Energy.Params() {
		weights += len(p.W)
	}
	for _, v := range s.set.X() {
		norm += float64(v) * float64(v) / float64(s.set.N)
	}
	if sigma := s.Config.Reference.Sigma; sigma > 0 {
		norm /= sigma * sigma
	}
	s.theta, s.unit = nil, nil
	for k, p := range s.Energy.Params() {
		mean := 0.0
		for _, h := range s.observed[k] {
			mean += math.Abs(float64(h)) / float64(len(p.W))
		}
		unit := make([]float32, len(p.W))
		for j, h := range s.observed[k] {
			if size := float64(weights) * max(math.Abs(float64(h)), mean/10); size > 0 {
				unit[j] = float32(norm / size)
			}
		}
		s.unit = append(s.unit, unit)
		s.theta = append(s.theta, optim.Param{Name: p.Name, W: make([]float32, len(p.W)), G: make([]float32, len(p.W))})
	}
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) { s.opt.Slow(factor) }

// Step implements [training.System]: sample, compare statistics, move θ.
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	m := training.Metrics{}
	clock := time.Now()
	l := shortened(s.Config.Langevin, s.stride)
	s.chains.T = uint64(s.iter * l.Steps)
	s.chains.Invalidate() // θ has changed
	info, err := sampler.Run(ctx, s.noise, l.Kernel(), s.Energy, s.chains, l.Steps, nil)
	if err != nil {
		return nil, err
	}
	m["sampling_seconds"] = time.Since(clock).Seconds()
	clock = time.Now()
	if err := s.Energy.Learn(ctx, s.chains.X, s.w, 0, s.score); err != nil {
		return nil, err
	}
	m[Gap], m[training.Value] = s.compare()
	m["stride"] = l.Step
	if m[Drift], err = s.strides(info.Drift, m[Gap]); err != nil {
		return nil, err
	}
	norm := optim.Norm(s.theta)
	if s.Config.Sabotage != Freeze {
		if norm, err = s.opt.Update(s.theta); err != nil {
			return nil, err
		}
		s.take()
	}
	m["learning_seconds"] = time.Since(clock).Seconds()
	s.iter++

	scores := training.Mean(s.score)
	m["score_data"], m["score_samples"] = m[training.Value]+scores, scores
	_, m[training.DataStd] = training.Moments(s.set.X())
	m["sample_mean"], m[training.SampleStd] = training.Moments(s.chains.X)
	m["grad_norm"], m["r"], m["clipped"] = norm, info.Drift, info.Clamped
	return m, nil
}

// Drift names the metric that tells whether steps are short enough: the length of a
// step's drift, as a share of its noise's. Chains sample while it is about 1 or less.
// Where it grows the weights have made slopes too steep for the step and chains jump to
// and fro; in the end statistics move away from the data's, and weights grow further.
const Drift = "drift_over_noise"

// A run does not come back once its [Drift] is farthest, or its steps are so small a share of
// what they were that chains do not follow the weights, and its [Gap] so many times the
// least that it had.
const farthest, shortest, lost = 4, 1. / 16, 1.1

// shortened are the settings of a sampler with a share of its step.
func shortened(l training.Langevin, stride float64) training.Langevin {
	l.Step *= stride
	return l
}

// strides is [Drift] for drifts of a mean length, and an error where it has carried
// chains away from the data. It sets the length of the next steps: half of the way, in
// logarithms, to where the same slopes would drift as far as they may.
func (s *System) strides(drift, gap float64) (float64, error) {
	s.least = min(s.least, gap)
	l := shortened(s.Config.Langevin, s.stride)
	noise := l.Noise * l.Step * math.Sqrt(float64(s.set.Dim()))
	if noise == 0 {
		return 0, nil
	}
	drift /= noise
	if gap > lost*s.least {
		risen := fmt.Sprintf("and %s has risen from %.3g to %.3g", Gap, s.least, gap)
		if drift > farthest {
			return 0, training.Blame("chains", "a shorter langevin.step", fmt.Errorf("%w: a step of %g drifts %.3g times as far as its noise moves chains, %s", training.ErrGuard, l.Step, drift, risen))
		}
		if s.stride < shortest {
			return 0, training.Blame("chains", "a smaller optim.lr", fmt.Errorf("%w: slopes allow steps of %.3g, %.2g of langevin.step, %s", training.ErrGuard, l.Step, s.stride, risen))
		}
	}
	if s.Config.Drift > 0 && drift > 0 {
		s.stride = min(1, s.stride*math.Sqrt(s.Config.Drift/drift))
	}
	return drift, nil
}

// Gap names the metric of learning: Σ|samples − data|/Σ|data| over the statistics
// of a map, averaged over maps.
const Gap = "moment_gap"

// Gap measures the chains as they are.
func (s *System) Gap(ctx context.Context) (training.Metrics, error) {
	if err := s.Energy.Learn(ctx, s.chains.X, s.w, 0, s.score); err != nil {
		return nil, fmt.Errorf("deep-frame: %w", err)
	}
	m := training.Metrics{}
	m[Gap], m[training.Value] = s.compare()
	_, m[training.DataStd] = training.Moments(s.set.X())
	_, m[training.SampleStd] = training.Moments(s.chains.X)
	return m, nil
}

// Floor is the gap between as many examples as there are chains and all of them, which
// chains cannot be expected to go below.
func (s *System) Floor(ctx context.Context) (float64, error) {
	n, dim := s.Config.Chains.Number, s.set.Dim()
	x := make([]float32, n*dim)
	for i := range n {
		copy(x[i*dim:], s.set.At(i*s.set.N/n))
	}
	if err := s.Energy.Learn(ctx, x, s.w, 0, s.score); err != nil {
		return 0, fmt.Errorf("deep-frame: %w", err)
	}
	gap, _ := s.compare()
	return gap, nil
}

// compare sets the gradient of mean f(samples) − mean f(data) in the optimizer's
// units, where the energy's own gradients are the samples' statistics. It
// returns the [Gap] and f's difference, data − samples.
func (s *System) compare() (gap, value float64) {
	sign := float32(1)
	if s.Config.Sabotage == Flip {
		sign = -1
	}
	for k, p := range s.Energy.Params() {
		var apart, size float64
		for j, h := range p.G {
			d := h - s.observed[k][j]
			s.theta[k].G[j] = sign * d * s.unit[k][j]
			apart += math.Abs(float64(d))
			size += math.Abs(float64(s.observed[k][j]))
			value -= float64(p.W[j]) * float64(d)
		}
		gap += apart / max(size, math.SmallestNonzeroFloat64) / float64(len(s.theta))
	}
	return gap, value
}

// take brings the optimizer's weights to the energy.
func (s *System) take() {
	for k, p := range s.Energy.Params() {
		for j := range p.W {
			p.W[j] = s.theta[k].W[j] * s.unit[k][j]
		}
	}
	s.Energy.Refresh()
}

// Samples returns the chains [chains.number, dim]; it keeps nothing of them.
func (s *System) Samples() []float32 { return append([]float32(nil), s.chains.X...) }

// Evaluate implements [training.Evaluator].
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	if s.Judge != nil {
		return s.Judge(s.Samples())
	}
	m, err := s.Gap(ctx)
	if err != nil {
		return nil, err
	}
	return training.Metrics{training.Objective: m[Gap]}, nil
}

// Pictures implements [training.Painter].
func (s *System) Pictures(context.Context) ([]training.Picture, error) {
	return []training.Picture{{Tag: record.SamplesTag, Images: record.Images{
		Data: s.Samples(), N: s.Config.Chains.Number, C: s.set.C, H: s.set.H, W: s.set.W, Lo: s.set.Lo, Hi: s.set.Hi,
	}}}, nil
}

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) {
	st := &checkpoint.State{Step: s.iter, Tensors: map[string]checkpoint.Tensor{}}
	training.SaveParams(st, "weights", s.Energy.Params())
	training.SaveParams(st, "theta", s.theta)
	s.opt.Save(st, "optim")
	for k, p := range s.theta {
		st.Tensors["observed/"+p.Name] = checkpoint.Tensor{Shape: []int{len(s.observed[k])}, Data: s.observed[k]}
	}
	st.Tensors[leastTensor] = checkpoint.Scalar(s.least)
	if s.Config.Drift > 0 {
		st.Tensors[strideTensor] = checkpoint.Scalar(s.stride)
	}
	st.Tensors[chainsTensor] = checkpoint.Tensor{Shape: []int{s.Config.Chains.Number, s.set.Dim()}, Data: s.chains.X}
	return st, s.origin.Save(st, s.Data, s.Config)
}

const chainsTensor, leastTensor, strideTensor = "chains/x", "gap/least", "langevin/stride"

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	position, err := s.origin.Check(st)
	if err != nil {
		return err
	}
	if err := s.opt.Restore(st, "optim"); err != nil {
		return err
	}
	if err := training.RestoreParams(st, "theta", s.theta); err != nil {
		return err
	}
	for k, p := range s.theta {
		v, err := checkpoint.Values[float32](st, "observed/"+p.Name, len(s.observed[k]))
		if err != nil {
			return err
		}
		copy(s.observed[k], v)
	}
	least, err := checkpoint.Values[float64](st, leastTensor)
	if err != nil {
		return err
	}
	m, err := Open(s.Config, s.Energy, nil, st, s.set.Dim())
	if err != nil {
		return err
	}
	s.least, s.stride = least[0], m.stride
	copy(s.chains.X, m.chains)
	s.chains.Invalidate()
	s.iter = st.Step
	return s.Data.Seek(position)
}

// stride is the share of langevin.step that steps had come to in a checkpoint.
func stride(c Config, st *checkpoint.State) (float64, error) {
	if c.Drift == 0 {
		return 1, nil
	}
	v, err := checkpoint.Values[float64](st, strideTensor)
	if err != nil {
		return 0, err
	}
	return v[0], nil
}
