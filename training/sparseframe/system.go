// Package sparseframe learns templates of a few selected wavelets (Xie, Hu, Zhu, Wu, "Learning sparse FRAME
// models for natural image patterns", IJCV 2015; Xie, Lu, Zhu, Wu, "Inducing wavelets into random fields via
// generative boosting", ACHA 2016):
//
//	p(x) = exp(Σ_j θ_j·|⟨x, B_j⟩|)·N(0, I)/Z
//
// Atoms B_j are Gabor waves, cosine or sine, shared by all pictures, in each of which they may move along
// their normal and turn a little. They are selected either all at first, by matching pursuit on all pictures
// at once, or one after the other while learning, where the samples miss most. Weights follow the gap
// between observed and sampled |⟨x, B_j⟩|; samples come from HMC, or from Gibbs sweeps over how much of each
// atom a picture has.
package sparseframe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/filters"
	"ebmrun/training/maxent"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// A Binder makes the energy of atoms given as pictures, [m, h·w], under the reference N(0, I).
type Binder func(ctx context.Context, taps []float32) (training.Energy, error)

// System is the learning system. Its parts are set by [New].
type System struct {
	Config Config
	*Template

	set      *data.Set
	pictures [][]float32 // as they are learned from
	loader   *data.Loader
	origin   training.Origin
	seed     uint64

	observed []float64       // mean |⟨x, B_j⟩| of the data, atoms moved
	maxima   []float32       // the same of all candidates
	learner  *maxent.Learner // with pursuit
	chains   []*chain        // with boosting
	slow     float64
	iter     int
}

// New assembles the system for aligned grey pictures and, with pursuit, selects the atoms. All randomness
// follows from the seed.
func New(ctx context.Context, c Config, bind Binder, set *data.Set, seed uint64) (*System, error) {
	s, err := assemble(c, set, seed, nil)
	if err == nil && c.Select == Pursuit {
		err = s.bind(ctx, bind)
	}
	if err != nil {
		return nil, fmt.Errorf("sparse-frame: %w", err)
	}
	return s, nil
}

// assemble prepares pictures by the settings, or else as it is told.
func assemble(c Config, set *data.Set, seed uint64, prepare func(x []float32) []float32) (*System, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if d := set.Dims(); len(d) != 3 || d[0] != 1 {
		return nil, fmt.Errorf("wanted grey pictures, got examples of %v", d)
	}
	d, err := NewDictionary(&c, set.H, set.W)
	if err != nil {
		return nil, err
	}
	loader, err := data.NewLoader(set, 1, seed)
	if err != nil {
		return nil, err
	}
	s := &System{Config: c, Template: &Template{Dictionary: d}, set: set, loader: loader, origin: training.OriginOf("sparse-frame", seed, set), seed: seed, slow: 1}
	s.maxima = make([]float32, len(d.bank)*d.oh*d.ow)
	if prepare == nil {
		prepare = func(x []float32) []float32 { return c.Prepare(x, set.H, set.W, d.half) }
	}
	var r [][]float32
	for i := range set.N {
		x := prepare(set.At(i))
		s.pictures, r = append(s.pictures, x), append(r, d.Responses(x))
		for j, v := range d.Maxima(r[i]) {
			s.maxima[j] += v / float32(set.N)
		}
	}
	if c.Select == Pursuit {
		for _, a := range d.pursue(r, c.Atoms) {
			s.take(a)
		}
		return s, nil
	}
	for k := range c.Chains {
		x := make([]float32, set.H*set.W)
		sampler.Noise{Seed: seed}.Normals(x, sampler.Chains(uint64(k), 1), 0)
		s.chains = append(s.chains, &chain{x: x})
	}
	return s, nil
}

// Prepare normalises a picture's contrast: locally, over windows of the wavelets' size, or to mean 0 and
// variance 10.
func (c *Config) Prepare(x []float32, h, w, half int) []float32 {
	if !c.Local {
		half = h + w
	}
	return filters.Normalize(x, h, w, 2*half)
}

// take adds an atom to the template.
func (s *System) take(a Atom) {
	s.Template.add(a)
	s.observed = append(s.observed, float64(s.maxima[s.Index(a)]))
	for _, c := range s.chains {
		c.r = append(c.r, s.dot(c.x, a))
	}
}

// bind makes the energy of the selected atoms and its learner.
func (s *System) bind(ctx context.Context, bind Binder) error {
	if len(s.Atoms) == 0 {
		return errors.New("the pictures have no structure that wavelets explain")
	}
	e, err := bind(ctx, s.taps(s.Atoms))
	if err != nil {
		return err
	}
	observed := make([]float32, len(s.observed))
	for j, v := range s.observed {
		observed[j] = float32(v)
	}
	s.learner, err = maxent.NewLearner(s.Config.Config, e, [][]float32{observed}, s.h*s.w, 1, s.seed)
	return err
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) {
	if s.slow *= factor; s.learner != nil {
		s.learner.Slow(factor)
	}
}

// Step implements [training.System].
func (s *System) Step(ctx context.Context) (m training.Metrics, err error) {
	if s.learner != nil {
		if m, err = s.learner.Step(ctx); err != nil {
			return nil, err
		}
		for j, w := range s.learner.Energy.Params()[0].W {
			s.Theta[j] = float64(w)
		}
		s.LogZ = s.learner.LogPartition()
	} else if m, err = s.boost(ctx); err != nil {
		return nil, err
	}
	s.iter++
	x := s.Samples(s.Config.Chains)
	m["atoms"] = float64(len(s.Atoms))
	_, m[training.DataStd] = training.Moments(slices.Concat(s.pictures...))
	m["sample_mean"], m[training.SampleStd] = training.Moments(x)
	return m, nil
}

// boost selects atoms, moves all weights along observed minus sampled responses, sweeps, and books what
// log Z gains by the mean of its forward and its reverse estimate.
func (s *System) boost(ctx context.Context) (training.Metrics, error) {
	m, clock := training.Metrics{}, time.Now()
	if len(s.Atoms) < s.Config.Atoms && s.iter%s.Config.Every == 0 {
		s.choose()
	}
	before := slices.Clone(s.Theta)
	rate := s.Config.Optim.LR * s.slow
	switch s.Config.Sabotage {
	case maxent.Flip:
		rate = -rate
	case maxent.Freeze:
		rate = 0
	}
	gap, size := 0.0, 0.0
	for j, want := range s.observed {
		miss := want
		for _, c := range s.chains {
			miss -= math.Abs(float64(c.r[j])) / float64(len(s.chains))
		}
		m[training.Value] += s.Theta[j] * miss
		gap, size = gap+math.Abs(miss), size+want
		s.Theta[j] += rate * miss
	}
	m["gap"] = gap / size
	forward := gained(before, s.Theta, s.chains)
	m["learning_seconds"] = time.Since(clock).Seconds()
	clock = time.Now()
	for k, c := range s.chains {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for i := range s.Config.Sweeps {
			s.sweep(sampler.Stream(s.seed, uint64(k), uint64(s.iter*s.Config.Sweeps+i)), c)
		}
		if s.iter%20 == 19 {
			s.respond(c) // rounding adds up
		}
	}
	m["sampling_seconds"] = time.Since(clock).Seconds()
	s.LogZ += (forward - gained(s.Theta, before, s.chains)) / 2
	m["logz"] = s.LogZ
	return m, nil
}

// choose adds, of the candidates that the samples miss most in each cell, those close to the best. The gap
// is signed: atoms that samples have too much of are left to the weights.
func (s *System) choose() {
	miss := slices.Clone(s.maxima)
	for _, c := range s.chains {
		for i, v := range s.Responses(c.x) {
			miss[i] -= float32(math.Abs(float64(v))) / float32(len(s.chains))
		}
	}
	for _, a := range s.Atoms {
		miss[s.Index(a)] = 0
	}
	cells := s.Config.Cells
	winner := make([]int, cells*cells)
	for i := range winner {
		winner[i] = -1
	}
	best := float32(0)
	for i, v := range miss {
		a := s.atom(i)
		w := &winner[(a.Y-s.half)*cells/s.oh*cells+(a.X-s.half)*cells/s.ow]
		if v > 0 && (*w < 0 || v > miss[*w]) {
			*w = i
		}
		best = max(best, v)
	}
	for _, i := range winner {
		if i >= 0 && miss[i] >= float32(s.Config.Keep)*best && len(s.Atoms) < s.Config.Atoms {
			s.take(s.atom(i))
		}
	}
}

// Samples are n chains' pictures, again and again where there are fewer.
func (s *System) Samples(n int) (x []float32) {
	d := s.h * s.w
	for k := range n {
		if s.learner != nil {
			i := k % s.learner.Chains.Len()
			x = append(x, s.learner.Chains.X[i*d:(i+1)*d]...)
			continue
		}
		x = append(x, s.chains[k%len(s.chains)].x...)
	}
	return x
}

// LogPartition is the estimate of log Z.
func (s *System) LogPartition() float64 { return s.LogZ }

// Learn makes a template of aligned pictures whose contrast is normalised already, in all iterations of the
// settings.
func Learn(ctx context.Context, c Config, bind Binder, set *data.Set, seed uint64) (*System, error) {
	s, err := assemble(c, set, seed, func(x []float32) []float32 { return x })
	if err == nil && c.Select == Pursuit {
		err = s.bind(ctx, bind)
	}
	for range c.Steps {
		if err == nil {
			_, err = s.Step(ctx)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("sparse-frame: %w", err)
	}
	return s, nil
}

// Scores are log p(x)/q(x) of pictures, atoms moved to their best place in each.
func (s *System) Scores(set *data.Set) (out []float64) {
	for i := range set.N {
		out = append(out, s.Score(s.Responses(s.Config.Prepare(set.At(i), s.h, s.w, s.half))))
	}
	return out
}

// Evaluate implements [training.Evaluator]: how far the samples' responses are from the observed ones.
func (s *System) Evaluate(context.Context) (training.Metrics, error) {
	x, n := s.Samples(s.Config.Chains), s.Config.Chains
	gap, size := 0.0, 0.0
	for j, a := range s.Atoms {
		mean := 0.0
		for k := range n {
			mean += math.Abs(float64(s.dot(x[k*s.h*s.w:(k+1)*s.h*s.w], a))) / float64(n)
		}
		gap, size = gap+math.Abs(mean-s.observed[j]), size+s.observed[j]
	}
	if size == 0 {
		return nil, nil
	}
	return training.Metrics{"response_gap": gap / size, training.Objective: gap / size}, nil
}

// Pictures implements [training.Painter]: pictures as they are learned from, samples, and the atoms as bars.
func (s *System) Pictures(context.Context) ([]training.Picture, error) {
	n := min(8, s.set.N, s.Config.Chains)
	strip := func(x []float32, n int, lo, hi float32) record.Images {
		return record.Images{Data: x, N: n, C: 1, H: s.h, W: s.w, Lo: lo, Hi: hi}
	}
	return []training.Picture{
		{Tag: record.SamplesTag, Rows: []record.Images{strip(slices.Concat(s.pictures[:n]...), n, lo, hi), strip(s.Samples(n), n, lo, hi)}},
		{Tag: "atoms", Images: strip(s.Bars(), 1, 0, 1)},
	}, nil
}

// lo and hi are the values shown black and white.
const lo, hi = -8, 8

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) {
	st := &checkpoint.State{Step: s.iter, Tensors: map[string]checkpoint.Tensor{}}
	s.Template.Save(st, "")
	st.Tensors["slow"] = checkpoint.Scalar(s.slow)
	if s.learner != nil {
		s.learner.Save(st)
	} else {
		var r []float32
		for _, c := range s.chains {
			r = append(r, c.r...)
		}
		st.Tensors["chains/x"] = checkpoint.Tensor{Shape: []int{len(s.chains), s.h * s.w}, Data: s.Samples(len(s.chains))}
		st.Tensors["chains/r"] = checkpoint.Tensor{Shape: []int{len(s.chains), len(s.Atoms)}, Data: r}
	}
	return st, s.origin.Save(st, s.loader, s.Config)
}

// Save puts a template into a checkpoint, under names that begin so.
func (t *Template) Save(st *checkpoint.State, prefix string) {
	atoms := make([]int64, 0, 3*len(t.Atoms))
	for _, a := range t.Atoms {
		atoms = append(atoms, int64(a.Filter), int64(a.Y), int64(a.X))
	}
	st.Tensors[prefix+"atoms"] = checkpoint.Tensor{Shape: []int{len(t.Atoms), 3}, Data: atoms}
	st.Tensors[prefix+"theta"] = checkpoint.Tensor{Shape: []int{len(t.Atoms)}, Data: t.Theta}
	st.Tensors[prefix+"log_partition"] = checkpoint.Scalar(t.LogZ)
}

// ReadTemplate takes it back; d is the dictionary of its atoms.
func ReadTemplate(st *checkpoint.State, prefix string, d *Dictionary) (*Template, error) {
	t, ok := st.Tensors[prefix+"atoms"]
	raw, is := t.Data.([]int64)
	if !ok || !is || len(raw)%3 != 0 {
		return nil, fmt.Errorf("sparse-frame: checkpoint: wanted %satoms [m, 3]", prefix)
	}
	var atoms []Atom
	for i := 0; i < len(raw); i += 3 {
		atoms = append(atoms, Atom{int(raw[i]), int(raw[i+1]), int(raw[i+2])})
	}
	theta, err := checkpoint.Values[float64](st, prefix+"theta", len(atoms))
	if err != nil {
		return nil, err
	}
	z, err := checkpoint.Values[float64](st, prefix+"log_partition")
	if err != nil {
		return nil, err
	}
	return NewTemplate(d, atoms, theta, z[0])
}

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	position, err := s.origin.Check(st)
	if err != nil {
		return err
	}
	t, err := ReadTemplate(st, "", s.Dictionary)
	if err != nil {
		return err
	}
	slow, err := checkpoint.Values[float64](st, "slow")
	if err != nil {
		return err
	}
	if s.learner != nil {
		if !slices.Equal(t.Atoms, s.Atoms) {
			return errors.New("sparse-frame: checkpoint: other atoms than these pictures give")
		}
		if err := s.learner.Restore(st); err != nil {
			return err
		}
	} else {
		x, err := checkpoint.Values[float32](st, "chains/x", len(s.chains), s.h*s.w)
		if err != nil {
			return err
		}
		r, err := checkpoint.Values[float32](st, "chains/r", len(s.chains), len(t.Atoms))
		if err != nil {
			return err
		}
		s.Template, s.observed = &Template{Dictionary: s.Dictionary}, nil
		for _, a := range t.Atoms {
			s.take(a)
		}
		for k, c := range s.chains {
			copy(c.x, x[k*s.h*s.w:])
			c.r = slices.Clone(r[k*len(t.Atoms) : (k+1)*len(t.Atoms)])
		}
	}
	copy(s.Theta, t.Theta)
	s.LogZ, s.slow, s.iter = t.LogZ, slow[0], st.Step
	return s.loader.Seek(position)
}

// Open reads the template of a checkpoint for pictures of h×w.
func Open(c Config, st *checkpoint.State, h, w int) (*Template, error) {
	d, err := NewDictionary(&c, h, w)
	if err != nil {
		return nil, fmt.Errorf("sparse-frame: %w", err)
	}
	return ReadTemplate(st, "", d)
}
