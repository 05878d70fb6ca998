// Package generativeconvnet learns an energy by maximum likelihood with
// Langevin sampling (Xie, Lu, Zhu, Wu, "A Theory of Generative ConvNet", ICML
// 2016):
//
//	∇L(θ) = mean ∇f(data) − mean ∇f(samples)
//
// Chains begin where they ended (persistent chains), at the data (contrastive
// divergence) or at fresh noise (short-run sampling; Nijkamp et al., NeurIPS
// 2019). The value V = mean f(data) − mean f(samples) is lowered by sampling
// and raised by learning: it measures neither progress nor quality.
package generativeconvnet

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/optim"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// ripe is the number of iterations after which a persistent chain may be shown.
const ripe = 10

// Labels of the random streams beside the chains' own.
const (
	dataNoise  = 1
	sampleOnly = 2
)

// System is the learning system. Its parts are set by [New].
type System struct {
	Config Config
	Energy training.Energy
	Data   *data.Loader

	// Judge, if not nil, measures JudgeN samples against held-out data.
	Judge  func(samples []float32) (training.Metrics, error)
	JudgeN int

	set    *data.Set
	origin training.Origin
	noise  sampler.Noise
	opt    *training.Optimizer
	ema    *optim.EMA
	iter   int

	bank []float32 // persistent chains [buffer, dim]
	age  []int64   // iterations that each has run since it began

	chains *sampler.State // the chains of one iteration
	fused  *sampler.Fused
	x      []float32 // data batch, then samples: [2·batch, dim]
	w      []float32 // −1/n for data, +1/n for samples
	score  []float32
	ids    []uint64
}

// New assembles the system over an energy and a data set. All randomness
// follows from the seed.
func New(c Config, e training.Energy, set *data.Set, seed uint64) (*System, error) {
	return assemble("generative-convnet", c, e, set, seed)
}

// Core is the system itself, also of a system that has it within.
func (s *System) Core() *System { return s }

// Within assembles it as the core of another system, whose name errors and
// checkpoints bear, whose settings are checked and which learns from data of one kind.
func Within(name string, check func() error, kind data.Kind, c Config, e training.Energy, set *data.Set, seed uint64) (*System, error) {
	if err := check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if set.Kind != kind {
		return nil, fmt.Errorf("%s: wanted data of the kind %v, %s holds %v", name, kind, set.Name, set.Kind)
	}
	return assemble(name, c, e, set, seed)
}

func assemble(name string, c Config, e training.Energy, set *data.Set, seed uint64) (*System, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	opt, err := c.Optim.For(c.Steps).New()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	loader, err := data.NewLoader(set, c.Batch, seed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if c.Chains.Spread > 0 && (set.Kind != data.Cloud || c.Chains.Start != Gaussian) {
		return nil, fmt.Errorf("%s: chains.spread: wanted 0, or sets of points that begin gaussian, got %g and %v", name, c.Chains.Spread, set.Kind)
	}
	n, dim := c.Batch, set.Dim()
	s := &System{
		Config: c, Energy: e, Data: loader, set: set, origin: training.OriginOf(name, seed, set), noise: sampler.Noise{Seed: seed}, opt: opt,
		x: make([]float32, 2*n*dim), w: make([]float32, 2*n), score: make([]float32, 2*n), ids: sampler.Chains(0, n),
	}
	for i := range n {
		s.w[i], s.w[n+i] = -1/float32(n), 1/float32(n)
		if c.Sabotage == Flip {
			s.w[i], s.w[n+i] = s.w[n+i], s.w[i]
		}
	}
	if c.EMA > 0 {
		s.ema = optim.NewEMA(c.EMA)
		if err := s.ema.Update(e.Params()); err != nil {
			return nil, err
		}
	}
	if c.Chains.Init == Persistent {
		size := c.Bank()
		s.bank, s.age = make([]float32, size*dim), make([]int64, size)
		s.begin(s.random(math.MaxInt32), s.bank)
	}
	if s.chains, err = sampler.NewState(s.x[n*dim:], dim, sampler.Chains(0, n)); err != nil {
		return nil, err
	}
	s.fuse()
	return s, nil
}

// langevin is the sampling of the present iteration: without noise once NoiseFor
// iterations are done.
func (s *System) langevin() training.Langevin {
	l := s.Config.Langevin
	if s.Config.NoiseFor > 0 && s.iter >= s.Config.NoiseFor {
		l.Noise = 0
	}
	return l
}

// fuse has the chains of an iteration run in one call where the energy can.
func (s *System) fuse() {
	l := s.langevin()
	if f, ok := s.Energy.(training.Fuser); ok && l.Fused {
		s.fused = &sampler.Fused{Chain: f.Chain(l.Kernel()), K: l.Steps}
	}
}

// random is the source of one iteration's choices: it needs no state of its own.
func (s *System) random(iteration int) *rand.Rand {
	return rand.New(rand.NewPCG(s.noise.Seed, uint64(iteration)))
}

// begin fills x with the noise that chains begin with.
func (s *System) begin(r *rand.Rand, x []float32) {
	if s.Config.Chains.Start == Gaussian {
		sd := s.Config.Reference.Sigma
		if sd == 0 {
			sd = 1
		}
		for i := range x {
			x[i] = float32(sd * r.NormFloat64())
		}
		if k := s.set.W; s.Config.Chains.Spread > 0 {
			maps := make([]float32, len(x)/s.set.Dim()*k*k)
			for i := range maps {
				maps[i] = float32(r.NormFloat64())
			}
			Deform(x, maps, k, s.Config.Chains.Spread)
		}
		return
	}
	lo, hi := -1.0, 1.0
	if c := s.Config.Langevin.Clamp; c != [2]float64{} && c[1] > lo && c[0] < hi {
		lo, hi = max(lo, c[0]), min(hi, c[1])
	}
	for i := range x {
		x[i] = float32(lo + (hi-lo)*r.Float64())
	}
}

// Deform maps the points [width] of each set in x by a matrix of its own, 1 + spread·m, in place; maps are the
// normal numbers m [sets, width, width]. Clouds of many points are all alike but for these.
func Deform(x, maps []float32, width int, spread float64) {
	square := width * width
	set := len(x) / (len(maps) / square)
	p := make([]float32, width)
	for at := 0; at < len(x); at += width {
		m := maps[at/set*square:]
		copy(p, x[at:])
		for i := range p {
			for j, v := range p {
				x[at+i] += float32(spread) * m[i*width+j] * v
			}
		}
	}
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) { s.opt.Slow(factor) }

// Step implements [training.System]: one step of analysis by synthesis.
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	if s.iter == s.Config.NoiseFor && s.iter > 0 {
		s.fuse()
	}
	m := training.Metrics{}
	n := s.Config.Batch * s.set.Dim()
	observed, samples := s.x[:n], s.x[n:]
	s.observe(observed)
	slots := s.start(observed, samples)
	began := append([]float32(nil), samples...)

	clock := time.Now()
	info, err := s.revise(ctx, s.chains, s.noise, uint64(s.iter*s.Config.Langevin.Steps))
	if err != nil {
		return nil, err
	}
	m["sampling_seconds"] = time.Since(clock).Seconds()
	clock = time.Now()
	// ∇θ of mean f(samples) − mean f(data) + score_l2·(mean f² of both)
	l2 := 2 * s.Config.ScoreL2 / float64(s.Config.Batch)
	if err := s.Energy.Learn(ctx, s.x, s.w, float32(l2), s.score); err != nil {
		return nil, err
	}
	norm := optim.Norm(s.Energy.Params())
	if s.Config.Sabotage != Freeze {
		if norm, err = s.opt.Update(s.Energy.Params()); err != nil {
			return nil, err
		}
		s.Energy.Refresh()
	}
	m["learning_seconds"] = time.Since(clock).Seconds()

	for k, slot := range slots {
		copy(s.bank[slot*s.set.Dim():], samples[k*s.set.Dim():(k+1)*s.set.Dim()])
		s.age[slot]++
	}
	if s.ema != nil {
		if err := s.ema.Update(s.Energy.Params()); err != nil {
			return nil, err
		}
	}
	s.iter++
	s.measure(m, observed, samples, began)
	m["grad_norm"], m["r"], m["clipped"] = norm, info.Drift, info.Clamped
	return m, nil
}

// observe draws the data batch and adds the data noise.
func (s *System) observe(dst []float32) {
	copy(dst, s.Data.Next().X)
	if sd := float32(s.Config.Data.Noise); sd > 0 {
		e := s.chains.E
		s.noise.Fork(dataNoise).Normals(e, s.ids, uint64(s.iter))
		for i := range dst {
			dst[i] += sd * e[i]
		}
	}
}

// start places the chains and returns the bank slots they came from, if any.
func (s *System) start(observed, samples []float32) (slots []int) {
	r, dim := s.random(s.iter), s.set.Dim()
	copy(s.chains.Chain, s.ids)
	switch s.Config.Chains.Init {
	case FromData:
		copy(samples, observed)
	case FromNoise:
		s.begin(r, samples)
	default:
		slots = r.Perm(len(s.age))[:s.Config.Batch]
		for k, slot := range slots {
			s.chains.Chain[k] = uint64(slot)
			row := s.bank[slot*dim : (slot+1)*dim]
			if r.Float64() < s.Config.Chains.Restart {
				s.begin(r, row)
				s.age[slot] = 0
			}
			copy(samples[k*dim:], row)
		}
	}
	return slots
}

// revise takes the configured Langevin steps from step number t.
func (s *System) revise(ctx context.Context, chains *sampler.State, noise sampler.Noise, t uint64) (sampler.Info, error) {
	l := s.langevin()
	chains.T = t
	chains.Invalidate()
	if s.fused != nil && chains == s.chains {
		return s.fused.Run(ctx, noise, chains, l.Steps, nil)
	}
	return sampler.Run(ctx, noise, l.Kernel(), s.Energy, chains, l.Steps, nil)
}

func (s *System) measure(m training.Metrics, observed, samples, began []float32) {
	m.Compare(observed, samples, s.score)
	m["displacement"] = math.Sqrt(training.MSE(samples, began) * float64(s.set.Dim()))
}

// Samples draws n examples [n, dim] without changing the system: the oldest
// chains of the bank, or chains of the trained length from data or from noise.
func (s *System) Samples(ctx context.Context, n int) ([]float32, error) {
	dim := s.set.Dim()
	out := make([]float32, 0, n*dim)
	if s.bank != nil {
		if n > len(s.age) {
			return nil, fmt.Errorf("generative-convnet: %d samples wanted of a bank of %d chains", n, len(s.age))
		}
		// Chains that have just begun are still noise. Among the others age must not
		// matter: the oldest are those of the energy's deepest wells.
		order := rand.New(rand.NewPCG(s.noise.Seed, 1<<41+uint64(s.iter))).Perm(len(s.age))
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(min(s.age[b], ripe), min(s.age[a], ripe)) })
		for _, slot := range order[:n] {
			out = append(out, s.bank[slot*dim:(slot+1)*dim]...)
		}
		return out, nil
	}
	r := rand.New(rand.NewPCG(s.noise.Seed, 1<<40))
	for len(out) < n*dim {
		st, err := sampler.NewState(make([]float32, s.Config.Batch*dim), dim, sampler.Chains(uint64(len(out)/dim), s.Config.Batch))
		if err != nil {
			return nil, err
		}
		s.begin(r, st.X)
		if s.Config.Chains.Init == FromData {
			for k := range s.Config.Batch {
				copy(st.X[k*dim:], s.set.At(r.IntN(s.set.N)))
			}
		}
		if _, err := s.revise(ctx, st, s.noise.Fork(sampleOnly), 0); err != nil {
			return nil, err
		}
		out = append(out, st.X...)
	}
	return out[:n*dim], nil
}

// Evaluate implements [training.Evaluator].
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	if s.Judge == nil {
		return nil, nil
	}
	x, err := s.Samples(ctx, s.JudgeN)
	if err != nil {
		return nil, err
	}
	return s.Judge(x)
}

// Pictures implements [training.Painter]: a grid of samples, or for points in
// the plane a map of the energy with the samples on it.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	if s.set.IsVectors() {
		return s.plane(ctx)
	}
	n := 100
	if s.set.Kind != data.Plain {
		n = 16
	}
	if s.bank != nil {
		n = min(n, len(s.age))
	}
	x, err := s.Samples(ctx, n)
	if err != nil {
		return nil, err
	}
	p, err := training.Show(record.SamplesTag, s.set, x)
	return []training.Picture{p}, err
}

// plane draws the energy over the square that holds the data.
func (s *System) plane(ctx context.Context) ([]training.Picture, error) {
	n := 1000
	if s.bank != nil {
		n = min(n, len(s.age))
	}
	x, err := s.Samples(ctx, n)
	if err != nil {
		return nil, err
	}
	span := 0.0
	for _, v := range s.set.X() {
		span = max(span, math.Abs(float64(v)))
	}
	span *= 1.15
	h := &record.Heat{Title: fmt.Sprintf("energy and %d samples, iteration %d", n, s.iter), XLabel: "x₁", YLabel: "x₂", Label: "energy U, low is likely",
		XMin: -span, XMax: span, YMin: -span, YMax: span, NX: 128, NY: 128}
	h.Z = make([]float64, h.NX*h.NY)
	row, u, g := make([]float32, 2*h.NX), make([]float32, h.NX), make([]float32, 2*h.NX)
	low := math.Inf(1)
	for j := range h.NY {
		for i := range h.NX {
			cx, cy := h.At(i, j)
			row[2*i], row[2*i+1] = float32(cx), float32(cy)
		}
		if err := s.Energy.EnergyGrad(row, u, g); err != nil {
			return nil, err
		}
		for i, v := range u {
			h.Z[j*h.NX+i] = float64(v)
			low = min(low, float64(v))
		}
	}
	// Far from the data the energy says little; colours show where density lies.
	h.Lo, h.Hi = low, low+12
	for k := range n {
		h.Points = append(h.Points, [2]float64{float64(x[2*k]), float64(x[2*k+1])})
	}
	return []training.Picture{{Tag: record.SamplesTag, Heat: h}}, nil
}

// Average is the averaged weights, nil if none are kept.
func (s *System) Average() *optim.EMA { return s.ema }

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) {
	st := &checkpoint.State{Step: s.iter, Tensors: map[string]checkpoint.Tensor{}}
	training.SaveParams(st, "weights", s.Energy.Params())
	s.opt.Save(st, "optim")
	if m, ok := s.Energy.(optim.Stateful); ok {
		training.SaveMemory(st, "energy", m)
	}
	if s.ema != nil {
		training.SaveMemory(st, "ema", s.ema)
	}
	if s.bank != nil {
		st.Tensors["chains/x"] = checkpoint.Tensor{Shape: []int{len(s.age), s.set.Dim()}, Data: s.bank}
		st.Tensors["chains/age"] = checkpoint.Tensor{Shape: []int{len(s.age)}, Data: s.age}
	}
	return st, s.origin.Save(st, s.Data, s.Config)
}

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	position, err := s.origin.Check(st)
	if err != nil {
		return err
	}
	if err := s.opt.Restore(st, "optim"); err != nil {
		return err
	}
	if s.ema, err = RestoreEnergy(s.Config, s.Energy, st); err != nil {
		return err
	}
	if s.bank != nil {
		x, err := checkpoint.Values[float32](st, "chains/x", len(s.age), s.set.Dim())
		if err != nil {
			return err
		}
		age, err := checkpoint.Values[int64](st, "chains/age", len(s.age))
		if err != nil {
			return err
		}
		copy(s.bank, x)
		copy(s.age, age)
	}
	s.iter = st.Step
	s.fuse()
	return s.Data.Seek(position)
}

// RestoreEnergy puts the weights of a checkpoint into an energy and returns
// their average, nil if none was kept.
func RestoreEnergy(c Config, e training.Energy, st *checkpoint.State) (*optim.EMA, error) {
	if err := training.RestoreParams(st, "weights", e.Params()); err != nil {
		return nil, err
	}
	if m, ok := e.(optim.Stateful); ok {
		if err := training.RestoreMemory(st, "energy", m); err != nil {
			return nil, err
		}
	} else {
		e.Refresh()
	}
	if c.EMA == 0 {
		return nil, nil
	}
	ema := optim.NewEMA(c.EMA)
	if err := ema.Update(e.Params()); err != nil {
		return nil, err
	}
	return ema, training.RestoreMemory(st, "ema", ema)
}
