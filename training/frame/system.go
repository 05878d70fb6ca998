// Package frame learns a texture by FRAME: filters, random fields and maximum entropy (Zhu, Wu,
// Mumford, "Minimax entropy principle and its application to texture modeling", 1997, and "Filters,
// random fields and maximum entropy (FRAME)", 1998):
//
//	p(x) ∝ exp Σ_k Σ_p λ_k(⟨x, B_k,p⟩)
//
// over grey levels. Each λ_k is a potential of its own for every bin of the response, the same at every
// place p; the filters are chosen one by one, always the one whose histogram the samples miss most.
// Learning compares histograms, λ_k += rate·(observed − sampled), and samples come from Gibbs sweeps.
//
// The mode [Julesz] has no potentials: it anneals pictures until their histograms are the observed ones
// (Zhu, Liu, Wu, "Exploring texture ensembles by efficient Markov chain Monte Carlo", 2000).
package frame

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/grey"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// Model is what has been learned: it can draw pictures.
type Model struct {
	Config Config
	H, W   int // of a picture

	levels grey.Levels
	watch  []*probe    // the chosen filters, in the order of their choice
	lambda [][]float64 // potential of each bin of each
}

// System is the learning system. Its parts are set by [New].
type System struct {
	Model

	// Judge, if not nil, measures one sampled picture against the data.
	Judge func(samples []float32) (training.Metrics, error)

	set    *data.Set
	loader *data.Loader
	origin training.Origin
	seed   uint64

	bank     []*probe
	observed []*field
	chains   []*field
	slow     float64
	iter     int
}

// New assembles the system for grey pictures of one texture. All randomness follows from the seed.
func New(c Config, set *data.Set, seed uint64) (*System, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	if d := set.Dims(); len(d) != 3 || d[0] != 1 {
		return nil, fmt.Errorf("frame: wanted grey pictures, got examples of %v", d)
	}
	loader, err := data.NewLoader(set, 1, seed)
	if err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	s := &System{Model: Model{Config: c, H: set.H, W: set.W}, set: set, loader: loader, origin: training.OriginOf("frame", seed, set), seed: seed, slow: 1}
	s.levels = grey.Spread(set.X(), c.Levels)
	for i := range set.N {
		s.observed = append(s.observed, newField(set.H, set.W, s.levels.Of(set.At(i))))
	}
	if s.bank, err = c.probes(set.H, set.W); err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	for _, p := range s.bank {
		p.observe(c.Bins, s.observed)
	}
	s.chains = s.noise(c.Chains, seed)
	return s, nil
}

// probes are the filters to choose from, for pictures of h×w.
func (c *Config) probes(h, w int) (out []*probe, err error) {
	bank, err := c.bank()
	if err != nil {
		return nil, err
	}
	for _, f := range bank {
		if f.Size > min(h, w) {
			return nil, fmt.Errorf("filter %s of %d×%d does not fit into pictures of %d×%d", f.Name, f.Size, f.Size, h, w)
		}
		out = append(out, newProbe(f, c.Levels))
	}
	return out, nil
}

// values are pictures in the data's scale.
func (s *Model) values(fields []*field) (out []float32) {
	for _, f := range fields {
		for _, g := range f.x {
			out = append(out, s.levels.Value(g))
		}
	}
	return out
}

// noise is n pictures of independent uniform grey levels.
func (s *Model) noise(n int, seed uint64) []*field {
	out := make([]*field, n)
	for k := range out {
		r := sampler.Stream(seed, uint64(k), math.MaxUint64)
		x := make([]uint8, s.H*s.W)
		for i := range x {
			x[i] = uint8(r.IntN(s.Config.Levels))
		}
		out[k] = newField(s.H, s.W, x)
		for _, p := range s.watch {
			out[k].add(p)
		}
	}
	return out
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) { s.slow *= factor }

// Step implements [training.System]: choose a filter if one is due, move the potentials towards the
// observed histograms, sample.
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	m := training.Metrics{}
	if len(s.watch) < s.Config.Select.Most && s.iter%s.Config.Select.Every == 0 {
		s.choose(m)
	}
	clock := time.Now()
	s.update()
	m["learning_seconds"] = time.Since(clock).Seconds()
	clock = time.Now()
	if err := s.sample(ctx, s.chains, s.seed, s.iter*s.Config.Sweeps, s.Config.Sweeps, s.temperature(s.iter, s.Config.Steps)); err != nil {
		return nil, err
	}
	m["sampling_seconds"] = time.Since(clock).Seconds()
	s.iter++
	s.measure(m)
	return m, nil
}

// choose adds the filter whose histogram the samples miss most.
func (s *System) choose(m training.Metrics) {
	best, most := -1, s.Config.Select.Gap
	for j, v := range s.Gaps() {
		if !s.IsChosen(j) && v >= most {
			best, most = j, v
		}
	}
	if best < 0 {
		return
	}
	m["chosen_gap"] = most
	s.watch, s.lambda = append(s.watch, s.bank[best]), append(s.lambda, make([]float64, s.Config.Bins))
	for _, f := range s.chains {
		f.add(s.bank[best])
	}
}

// Gaps are the L1 distances between observed and sampled histograms of all filters.
func (s *System) Gaps() []float64 {
	out := make([]float64, len(s.bank))
	for j, p := range s.bank {
		out[j] = gap(p.observed, s.shares(func(f *field) []float64 { return f.shares(p) }))
	}
	return out
}

// shares is the mean histogram of the chains.
func (s *System) shares(of func(*field) []float64) []float64 {
	h := make([]float64, s.Config.Bins)
	for _, f := range s.chains {
		for b, v := range of(f) {
			h[b] += v / float64(len(s.chains))
		}
	}
	return h
}

// sampled is the mean histogram of chosen filter k, from the counts that are kept.
func (s *System) sampled(k int) []float64 {
	return s.shares(func(f *field) []float64 {
		h := make([]float64, s.Config.Bins)
		for b, n := range f.count[k] {
			h[b] = float64(n) / float64(len(f.x))
		}
		return h
	})
}

// update moves every potential towards its observed histogram.
func (s *System) update() {
	// While filters are chosen the rate is whole; then it falls, so that potentials settle.
	settling := max(0, s.iter-s.Config.Select.Most*s.Config.Select.Every)
	rate := s.Config.Rate * s.slow / (1 + float64(settling)/8)
	switch {
	case s.Config.Sabotage == Flip:
		rate = -rate
	case s.Config.Sabotage == Freeze || s.Config.Mode == Julesz:
		return
	}
	for k, p := range s.watch {
		for b, v := range s.sampled(k) {
			s.lambda[k][b] += rate * (p.observed[b] - v)
		}
	}
}

// temperature falls geometrically.
func (s *Model) temperature(i, of int) float64 {
	t := s.Config.Temperature
	v := t[0] * math.Pow(t[1]/t[0], float64(i)/float64(max(1, of-1)))
	if s.Config.Sabotage == Flip {
		return -v
	}
	return v
}

// sample takes Gibbs sweeps of chains side by side, from sweep number t.
func (s *Model) sample(ctx context.Context, chains []*field, seed uint64, t, sweeps int, temperature float64) error {
	if s.Config.Mode == Julesz && s.Config.Sabotage == Freeze {
		return nil
	}
	var all sync.WaitGroup
	for k, f := range chains {
		all.Go(func() {
			c := potentials(s.watch, s.lambda)
			if s.Config.Mode == Julesz {
				c = ensemble(s.watch, temperature)
			}
			for i := range sweeps {
				if ctx.Err() != nil {
					return
				}
				f.sweep(sampler.Stream(seed, uint64(k), uint64(t+i)), s.Config.Levels, c)
			}
		})
	}
	all.Wait()
	return ctx.Err()
}

func (s *System) measure(m training.Metrics) {
	m["filters"], m["gap_max"], m[training.Value] = float64(len(s.watch)), 0, 0
	for k, p := range s.watch {
		h := s.sampled(k)
		m["gap_max"] = max(m["gap_max"], gap(p.observed, h))
		for b, v := range h {
			m[training.Value] += s.lambda[k][b] * (p.observed[b] - v) * float64(s.H*s.W)
		}
	}
	x := s.values(s.chains)
	_, m[training.DataStd] = training.Moments(s.set.X())
	m["sample_mean"], m[training.SampleStd] = training.Moments(x)
}

// Evaluate implements [training.Evaluator]: the gaps of the filters that were chosen and of those that
// were not, which nothing drives.
func (s *System) Evaluate(context.Context) (training.Metrics, error) {
	m := training.Metrics{"gap_rest": s.Rest(s.Gaps())}
	if s.Judge == nil {
		return m, nil
	}
	judged, err := s.Judge(s.values(s.chains[:1]))
	for k, v := range judged {
		m[k] = v
	}
	return m, err
}

// IsChosen reports whether filter j of [System.Gaps] is chosen.
func (s *System) IsChosen(j int) bool { return slices.Contains(s.watch, s.bank[j]) }

// Rest is the mean of the gaps of filters that are not chosen.
func (s *System) Rest(gaps []float64) (mean float64) {
	for j, v := range gaps {
		if !s.IsChosen(j) {
			mean += v / float64(max(1, len(s.bank)-len(s.watch)))
		}
	}
	return mean
}

// CheckIncrements changes n random pixels of noise that all filters watch and reports the first
// response or bin that is kept otherwise than it is worked out anew.
func (s *System) CheckIncrements(n int) error {
	f := s.noise(1, s.seed)[0]
	f.watch, f.r, f.count = nil, nil, nil
	for _, p := range s.bank {
		f.add(p)
	}
	r := sampler.Stream(s.seed, 1, 0)
	for range n {
		f.set(r.IntN(len(f.x)), uint8(r.IntN(s.Config.Levels)))
	}
	return f.check()
}

// Chosen are the filters in the order of their choice.
func (s *Model) Chosen() (names []string) {
	for _, p := range s.watch {
		names = append(names, p.name)
	}
	return names
}

// Pictures implements [training.Painter]: the observed pictures in grey levels above the sampled ones.
func (s *System) Pictures(context.Context) ([]training.Picture, error) {
	n := min(len(s.observed), len(s.chains))
	strip := func(f []*field) record.Images {
		return record.Images{Data: s.values(f), N: n, C: 1, H: s.H, W: s.W, Lo: float32(s.levels.Lo), Hi: float32(s.levels.Hi)}
	}
	return []training.Picture{{Tag: record.SamplesTag, Rows: []record.Images{strip(s.observed[:n]), strip(s.chains[:n])}}}, nil
}

// Draw implements [training.Drawer]: sweeps from noise under what has been learned.
func (s *Model) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	chains := s.noise(n, seed)
	for i := range s.Config.Burn {
		if err := s.sample(ctx, chains, seed, i, 1, s.temperature(i, s.Config.Burn)); err != nil {
			return nil, err
		}
	}
	return s.values(chains), nil
}

// Statistics implements [training.Statistician]: the histogram of every chosen filter's responses, share by
// share.
func (s *Model) Statistics(ctx context.Context, x []float32, seed uint64) (names []string, observed, drawn []float64, err error) {
	dim := s.H * s.W
	n := len(x) / dim
	if n == 0 || len(x) != n*dim {
		return nil, nil, nil, fmt.Errorf("frame: wanted grey pictures of %d×%d, got %d values", s.H, s.W, len(x))
	}
	y, err := s.Draw(ctx, n, seed)
	if err != nil {
		return nil, nil, nil, err
	}
	shares := func(x []float32) (out []float64) {
		for _, p := range s.watch {
			sum := make([]float64, len(p.observed))
			for i := range n {
				for b, v := range newField(s.H, s.W, s.levels.Of(x[i*dim:(i+1)*dim])).shares(p) {
					sum[b] += v / float64(n)
				}
			}
			out = append(out, sum...)
		}
		return out
	}
	for _, p := range s.watch {
		for b := range p.observed {
			names = append(names, fmt.Sprintf("%s bin %d", p.name, b+1))
		}
	}
	return names, shares(x), shares(y), nil
}

// Resized is the same model of pictures of another size: it is stationary.
func (s *Model) Resized(h, w int) *Model {
	m := *s
	m.H, m.W = h, w
	return &m
}

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) {
	st := &checkpoint.State{Step: s.iter, Tensors: map[string]checkpoint.Tensor{"slow": checkpoint.Scalar(s.slow)}}
	var x []uint8
	for _, f := range s.chains {
		x = append(x, f.x...)
	}
	st.Tensors["chains/x"] = checkpoint.Tensor{Shape: []int{len(s.chains), s.H, s.W}, Data: x}
	s.Model.save(st, s.bank)
	return st, s.origin.Save(st, s.loader, s.Config)
}

// save puts the model into a checkpoint: the chosen filters by their number in the bank, the bins laid
// over their responses, and what these hold.
func (s *Model) save(st *checkpoint.State, bank []*probe) {
	var chosen, ranges []int64
	var lambda, observed []float64
	for k, p := range s.watch {
		chosen, ranges = append(chosen, int64(slices.Index(bank, p))), append(ranges, int64(p.lo), int64(p.hi))
		lambda, observed = append(lambda, s.lambda[k]...), append(observed, p.observed...)
	}
	n, bins := len(s.watch), s.Config.Bins
	st.Tensors["filters"] = checkpoint.Tensor{Shape: []int{n}, Data: chosen}
	st.Tensors["ranges"] = checkpoint.Tensor{Shape: []int{n, 2}, Data: ranges}
	st.Tensors["lambda"] = checkpoint.Tensor{Shape: []int{n, bins}, Data: lambda}
	st.Tensors["observed"] = checkpoint.Tensor{Shape: []int{n, bins}, Data: observed}
	st.Tensors["levels"] = checkpoint.Tensor{Shape: []int{2}, Data: []float64{s.levels.Lo, s.levels.Hi}}
}

// Restore takes the model of a checkpoint back; it needs no data.
func (s *Model) Restore(st *checkpoint.State) error {
	bank, err := s.Config.probes(s.H, s.W)
	if err != nil {
		return fmt.Errorf("frame: %w", err)
	}
	return s.restore(st, bank)
}

func (s *Model) restore(st *checkpoint.State, bank []*probe) error {
	chosen, ok := st.Tensors["filters"].Data.([]int64)
	if !ok || slices.ContainsFunc(chosen, func(j int64) bool { return j < 0 || j >= int64(len(bank)) }) {
		return fmt.Errorf("frame: checkpoint: wanted filters from 0 to %d, got %v", len(bank)-1, st.Tensors["filters"].Data)
	}
	n, bins := len(chosen), s.Config.Bins
	var failed error
	floats := func(name string, shape ...int) []float64 {
		v, err := checkpoint.Values[float64](st, name, shape...)
		failed = errors.Join(failed, err)
		return v
	}
	levels, lambda, observed := floats("levels", 2), floats("lambda", n, bins), floats("observed", n, bins)
	ranges, err := checkpoint.Values[int64](st, "ranges", n, 2)
	if failed = errors.Join(failed, err); failed != nil {
		return failed
	}
	s.levels, s.watch, s.lambda = grey.Levels{Lo: levels[0], Hi: levels[1], N: s.Config.Levels}, nil, nil
	for k, j := range chosen {
		p := bank[j]
		p.lay(bins, int32(ranges[2*k]), int32(ranges[2*k+1]))
		copy(p.observed, observed[k*bins:])
		s.watch, s.lambda = append(s.watch, p), append(s.lambda, slices.Clone(lambda[k*bins:(k+1)*bins]))
	}
	return nil
}

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	position, err := s.origin.Check(st)
	if err != nil {
		return err
	}
	slow, err := checkpoint.Values[float64](st, "slow")
	if err != nil {
		return err
	}
	x, err := checkpoint.Values[uint8](st, "chains/x", len(s.chains), s.H, s.W)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(x, func(g uint8) bool { return int(g) >= s.Config.Levels }) {
		return fmt.Errorf("frame: checkpoint: wanted grey levels below %d", s.Config.Levels)
	}
	if err := s.restore(st, s.bank); err != nil {
		return err
	}
	places := s.H * s.W
	for k := range s.chains {
		s.chains[k] = newField(s.H, s.W, slices.Clone(x[k*places:(k+1)*places]))
		for _, p := range s.watch {
			s.chains[k].add(p)
		}
	}
	s.slow, s.iter = slow[0], st.Step
	return s.loader.Seek(position)
}
