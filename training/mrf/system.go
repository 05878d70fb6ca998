// Package mrf learns Markov random fields over small cliques: the pairwise models of textures that came
// before filters (Besag, "Spatial interaction and the statistical analysis of lattice systems", 1974;
// Cross and Jain, "Markov random field texture models", 1983).
//
// Weights are fitted to the pseudo-likelihood, Σ_s log p(x_s | neighbours), by Newton steps: it is concave.
// Then samples correct them, θ += rate·(observed − sampled statistics), in units of the pseudo-likelihood's
// information. Textures of strong coupling are learned from samples alone: a fit to their pseudo-likelihood
// freezes. Samples come from Gibbs sweeps over classes of pixels that are not neighbours; pixels that
// are must never be drawn at once.
package mrf

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"gonum.org/v1/gonum/mat"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/grey"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
)

// Learned is a fitted field: it draws pictures and scores them.
type Learned struct {
	Config Config
	Levels grey.Levels
	Field  *Model  // of grey levels
	Normal *Normal // or Gaussian
}

// NewLearned is a field without weights for pictures of h×w whose edges meet.
func NewLearned(c Config, h, w int) *Learned {
	lattice := Lattice{H: h, W: w, Torus: true, Offsets: Offsets(c.Order)}
	if c.Family == AutoNormal {
		return &Learned{Config: c, Normal: NewNormal(lattice)}
	}
	return &Learned{Config: c, Levels: grey.Levels{N: c.Levels}, Field: NewModel(c.Family, c.Levels, c.Field, lattice)}
}

// A picture is one of a chain: grey levels, or numbers of a Gaussian field.
type picture struct {
	level []uint8
	x     []float32
}

// noise is n pictures without structure.
func (l *Learned) noise(n, places int, seed uint64) []picture {
	out := make([]picture, n)
	for k := range out {
		r := sampler.Stream(seed, uint64(k), math.MaxUint64)
		if l.Normal != nil {
			out[k].x = make([]float32, places)
			for i := range out[k].x {
				out[k].x[i] = float32(l.Normal.Mean + math.Sqrt(l.Normal.Variance)*r.NormFloat64())
			}
			continue
		}
		out[k].level = make([]uint8, places)
		for i := range out[k].level {
			out[k].level[i] = uint8(r.IntN(l.Config.Levels))
		}
	}
	return out
}

// sweep moves pictures by sweeps number t, t+1, …
func (l *Learned) sweep(ctx context.Context, pictures []picture, seed uint64, t, sweeps int) error {
	for k, p := range pictures {
		for i := range sweeps {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r := sampler.Stream(seed, uint64(k), uint64(t+i))
			switch {
			case l.Normal != nil:
				l.Normal.Sweep(r, p.x)
			case l.Config.Sampler == Metropolis:
				l.Field.Metropolis(r, p.level)
			case l.Config.Sampler == Exchange:
				l.Field.Exchange(r, p.level)
			default:
				l.Field.Sweep(r, p.level)
			}
		}
	}
	return nil
}

// values are pictures in the data's scale.
func (l *Learned) values(pictures []picture) (out []float32) {
	for _, p := range pictures {
		if out = append(out, p.x...); p.level != nil {
			out = append(out, values(l.Levels, p.level)...)
		}
	}
	return out
}

// lattice is where the field lives.
func (l *Learned) lattice() *Lattice {
	if l.Normal != nil {
		return &l.Normal.Lattice
	}
	return &l.Field.Lattice
}

// Draw implements [training.Drawer]: sweeps from noise.
func (l *Learned) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	at := l.lattice()
	pictures := l.noise(n, at.H*at.W, seed)
	err := l.sweep(ctx, pictures, seed, 0, l.Config.Burn)
	return l.values(pictures), err
}

// Score implements [training.Scorer].
func (l *Learned) Score(_ context.Context, x []float32, _ uint64) (string, []float64, error) {
	at := l.lattice()
	places := at.H * at.W
	var out []float64
	for i := 0; i+places <= len(x); i += places {
		if l.Normal != nil {
			out = append(out, l.Normal.LogLikelihood(x[i:i+places])/float64(places))
			continue
		}
		out = append(out, l.Field.PseudoLikelihood(l.Levels.Of(x[i:i+places]), nil, nil)/float64(places))
	}
	if l.Normal != nil {
		return "log p(x) per pixel, nats", out, nil
	}
	return "log pseudo-likelihood per pixel, nats", out, nil
}

// System is the learning system. Its parts are set by [New].
type System struct {
	*Learned

	// Judge, if not nil, measures one sampled picture against the data.
	Judge func(samples []float32) (training.Metrics, error)

	set    *data.Set
	loader *data.Loader
	origin training.Origin
	seed   uint64

	observed    []picture
	statistics  []float64 // observed means over pictures
	information []float64 // of the pseudo-likelihood without weights, a picture's
	chains      []picture
	slow        float64
	iter        int
}

// New assembles the system for grey pictures of one texture. All randomness follows from the seed.
func New(c Config, set *data.Set, seed uint64) (*System, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("mrf: %w", err)
	}
	if d := set.Dims(); len(d) != 3 || d[0] != 1 || d[1] < 5 || d[2] < 5 {
		return nil, fmt.Errorf("mrf: wanted grey pictures of at least 5×5, got examples of %v", d)
	}
	loader, err := data.NewLoader(set, 1, seed)
	if err != nil {
		return nil, fmt.Errorf("mrf: %w", err)
	}
	s := &System{Learned: NewLearned(c, set.H, set.W), set: set, loader: loader, origin: training.OriginOf("mrf", seed, set), seed: seed, slow: 1}
	if s.Field != nil {
		s.Levels = grey.Spread(set.X(), c.Levels)
		s.statistics, s.information = make([]float64, len(s.Field.Theta)), make([]float64, len(s.Field.Theta)*len(s.Field.Theta))
	}
	for i := range set.N {
		p := picture{x: set.At(i)}
		if s.Field != nil {
			p = picture{level: s.Levels.Of(set.At(i))}
			for j, v := range s.Field.Statistics(p.level) {
				s.statistics[j] += v / float64(set.N)
			}
		}
		s.observed = append(s.observed, p)
	}
	if s.Field != nil {
		s.pseudoLikelihood(make([]float64, len(s.Field.Theta)), s.information)
	}
	if s.chains = s.noise(c.Chains, set.H*set.W, seed); c.Sampler == Exchange {
		// the histogram that exchange keeps is the observed one
		for k := range s.chains {
			level := slices.Clone(s.observed[k%set.N].level)
			sampler.Stream(seed, uint64(k), math.MaxUint64).Shuffle(len(level), func(a, b int) { level[a], level[b] = level[b], level[a] })
			s.chains[k].level = level
		}
	}
	return s, nil
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) { s.slow *= factor }

// Step implements [training.System]: fit, or correct by samples; and sample.
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	m := training.Metrics{}
	clock := time.Now()
	var err error
	switch {
	case s.Config.Sabotage == Freeze:
	case s.Normal != nil && s.iter == 0:
		m["shrunk"], err = s.fitNormal()
	case s.Normal != nil:
	case s.iter < s.Config.Newton:
		err = s.newton(m)
	default:
		err = s.correct()
	}
	if err != nil {
		return nil, err
	}
	m["learning_seconds"] = time.Since(clock).Seconds()
	clock = time.Now()
	if err := s.sweep(ctx, s.chains, s.seed, s.iter*s.Config.Sweeps, s.Config.Sweeps); err != nil {
		return nil, err
	}
	m["sampling_seconds"] = time.Since(clock).Seconds()
	s.iter++
	s.measure(m)
	return m, nil
}

func (s *System) fitNormal() (shrunk float64, err error) {
	var x [][]float32
	for _, p := range s.observed {
		x = append(x, p.x)
	}
	return s.Normal.Fit(x)
}

// pseudoLikelihood is that of the observed pictures, a picture's share of it.
func (s *System) pseudoLikelihood(slope, information []float64) (sum float64) {
	for _, p := range s.observed {
		sum += s.Field.PseudoLikelihood(p.level, slope, information)
	}
	n := float64(len(s.observed))
	for i := range slope {
		slope[i] /= n
	}
	for i := range information {
		information[i] /= n
	}
	return sum / n
}

// newton climbs the pseudo-likelihood by one step, halved until it climbs.
func (s *System) newton(m training.Metrics) error {
	theta := s.Field.Theta
	slope, information := make([]float64, len(theta)), make([]float64, len(theta)*len(theta))
	before := s.pseudoLikelihood(slope, information)
	step, err := solve(information, slope)
	if err != nil {
		return err
	}
	norm := 0.0
	for _, v := range step {
		norm = max(norm, math.Abs(v))
	}
	scale := min(1, 4/max(norm, 1e-300)) * s.slow
	if s.Config.Sabotage == Flip {
		scale = -scale
	}
	from := slices.Clone(theta)
	for range 30 {
		for j := range theta {
			theta[j] = from[j] + scale*step[j]
		}
		after := s.pseudoLikelihood(nil, nil)
		if after >= before || s.Config.Sabotage == Flip {
			break
		}
		scale /= 2
	}
	m["step"] = math.Abs(scale) * norm
	return nil
}

// correct moves the weights by what samples have too little or too much of, in the Newton steps that the
// pseudo-likelihood would take from no weights: near a fit to a strongly coupled texture its information
// says little.
func (s *System) correct() error {
	miss := slices.Clone(s.statistics)
	for _, p := range s.chains {
		for j, v := range s.Field.Statistics(p.level) {
			miss[j] -= v / float64(len(s.chains))
		}
	}
	step, err := solve(s.information, miss)
	if err != nil {
		return err
	}
	rate := s.Config.Rate * s.slow / (1 + float64(s.iter-s.Config.Newton)/settle)
	if s.Config.Sabotage == Flip {
		rate = -rate
	}
	for j, v := range step {
		s.Field.Theta[j] += rate * max(-1, min(1, v))
	}
	return nil
}

// settle is the number of corrections after which their rate has halved.
const settle = 20

// solve is information⁻¹·slope. Directions that the picture says nothing about stay put.
func solve(information, slope []float64) ([]float64, error) {
	k := len(slope)
	a := mat.NewSymDense(k, slices.Clone(information))
	trace := 0.0
	for i := range k {
		trace += a.At(i, i) / float64(k)
	}
	for i := range k {
		a.SetSym(i, i, a.At(i, i)+1e-6*trace+1e-9)
	}
	var chol mat.Cholesky
	var out mat.VecDense
	if !chol.Factorize(a) {
		return nil, fmt.Errorf("mrf: %w: the information of the pseudo-likelihood has no inverse", training.ErrGuard)
	}
	if err := chol.SolveVecTo(&out, mat.NewVecDense(k, slices.Clone(slope))); err != nil {
		var condition mat.Condition
		if !errors.As(err, &condition) {
			return nil, fmt.Errorf("mrf: %w", err)
		}
	}
	return out.RawVector().Data, nil
}

func (s *System) measure(m training.Metrics) {
	places := float64(s.set.H * s.set.W)
	_, m[training.DataStd] = training.Moments(s.set.X())
	m["sample_mean"], m[training.SampleStd] = training.Moments(s.values(s.chains))
	if s.Normal != nil {
		for _, p := range s.observed {
			m["pseudo_likelihood"] += s.Normal.PseudoLikelihood(p.x) / places / float64(len(s.observed))
		}
		return
	}
	m["pseudo_likelihood"] = s.pseudoLikelihood(nil, nil) / places
	miss, size := 0.0, 0.0
	sampled := make([]float64, len(s.statistics))
	for _, p := range s.chains {
		for j, v := range s.Field.Statistics(p.level) {
			sampled[j] += v / float64(len(s.chains))
		}
	}
	for j, v := range s.statistics {
		m[training.Value] += s.Field.Theta[j] * (v - sampled[j])
		miss, size = miss+math.Abs(v-sampled[j]), size+math.Abs(v)
	}
	m["gap"] = miss / max(size, 1)
	if s.Config.Family == Ising {
		// above ½ the field has frozen: sweeps no longer visit both phases
		for _, p := range s.chains {
			up := 0.0
			for _, v := range p.level {
				up += float64(2*int(v) - 1)
			}
			m["magnetisation"] = max(m["magnetisation"], math.Abs(up)/places)
		}
	}
}

// Evaluate implements [training.Evaluator].
func (s *System) Evaluate(context.Context) (training.Metrics, error) {
	m := training.Metrics{"co_occurrence": s.CoOccurrence(8)}
	if s.Judge == nil {
		return m, nil
	}
	judged, err := s.Judge(s.values(s.chains[:1]))
	for k, v := range judged {
		m[k] = v
	}
	return m, err
}

// CoOccurrence is the L1 distance between the observed and the sampled joint histograms of two pixels on
// n grey levels, averaged over the model's offsets.
func (s *System) CoOccurrence(n int) float64 { return s.coOccurrence(n, s.values(s.chains)) }

func (s *System) coOccurrence(n int, x []float32) (sum float64) {
	at, levels := s.lattice(), grey.Spread(s.set.X(), n)
	want, got := histograms(at, levels, s.set.X()), histograms(at, levels, x)
	for i, v := range want {
		sum += math.Abs(v-got[i]) / float64(len(at.Offsets))
	}
	return sum
}

// histograms are the joint ones of two pixels at each offset, [offsets, levels, levels].
func histograms(at *Lattice, l grey.Levels, x []float32) []float64 {
	h, level, places := make([]float64, len(at.Offsets)*l.N*l.N), l.Of(x), at.H*at.W
	for i, v := range level {
		picture := i / places * places
		for r, o := range at.Offsets {
			u := level[picture+at.at(i-picture, o[0], o[1])]
			h[(r*l.N+int(v))*l.N+int(u)] += 1 / float64(len(level))
		}
	}
	return h
}

// Shuffled is the same distance of a picture with the observed grey levels in random order.
func (s *System) Shuffled(n int) float64 {
	x := slices.Clone(s.set.X())
	sampler.Stream(s.seed, 0, 1).Shuffle(len(x), func(a, b int) { x[a], x[b] = x[b], x[a] })
	return s.coOccurrence(n, x)
}

// Pictures implements [training.Painter]: observed pictures in grey levels above the sampled ones.
func (s *System) Pictures(context.Context) ([]training.Picture, error) {
	n := min(len(s.observed), len(s.chains))
	strip := func(p []picture) record.Images {
		return record.Images{Data: s.values(p), N: n, C: 1, H: s.set.H, W: s.set.W, Lo: s.set.Lo, Hi: s.set.Hi}
	}
	return []training.Picture{{Tag: record.SamplesTag, Rows: []record.Images{strip(s.observed[:n]), strip(s.chains[:n])}}}, nil
}

// Save implements [training.System].
func (s *System) Save() (*checkpoint.State, error) {
	st := &checkpoint.State{Step: s.iter, Tensors: map[string]checkpoint.Tensor{"slow": checkpoint.Scalar(s.slow)}}
	shape := []int{len(s.chains), s.set.H, s.set.W}
	if s.Normal != nil {
		st.Tensors["normal"] = checkpoint.Tensor{Shape: []int{2}, Data: []float64{s.Normal.Mean, s.Normal.Variance}}
		st.Tensors["theta"] = checkpoint.Tensor{Shape: []int{len(s.Normal.B)}, Data: s.Normal.B}
		var x []float32
		for _, p := range s.chains {
			x = append(x, p.x...)
		}
		st.Tensors["chains/x"] = checkpoint.Tensor{Shape: shape, Data: x}
	} else {
		k := len(s.Field.Theta)
		st.Tensors["levels"] = checkpoint.Tensor{Shape: []int{2}, Data: []float64{s.Levels.Lo, s.Levels.Hi}}
		st.Tensors["theta"] = checkpoint.Tensor{Shape: []int{k}, Data: s.Field.Theta}
		var x []uint8
		for _, p := range s.chains {
			x = append(x, p.level...)
		}
		st.Tensors["chains/x"] = checkpoint.Tensor{Shape: shape, Data: x}
	}
	return st, s.origin.Save(st, s.loader, s.Config)
}

// Restore takes the field of a checkpoint back; it needs no data.
func (l *Learned) Restore(st *checkpoint.State) error {
	into, name := []float64(nil), "levels"
	if l.Normal != nil {
		into, name = l.Normal.B, "normal"
	} else {
		into = l.Field.Theta
	}
	theta, err := checkpoint.Values[float64](st, "theta", len(into))
	if err != nil {
		return err
	}
	two, err := checkpoint.Values[float64](st, name, 2)
	if err != nil {
		return err
	}
	if copy(into, theta); l.Normal != nil {
		l.Normal.Mean, l.Normal.Variance = two[0], two[1]
	} else {
		l.Levels = grey.Levels{Lo: two[0], Hi: two[1], N: l.Config.Levels}
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
	if err := s.Learned.Restore(st); err != nil {
		return err
	}
	shape, places := []int{len(s.chains), s.set.H, s.set.W}, s.set.H*s.set.W
	if s.Normal != nil {
		x, err := checkpoint.Values[float32](st, "chains/x", shape...)
		if err != nil {
			return err
		}
		for k := range s.chains {
			copy(s.chains[k].x, x[k*places:])
		}
	} else {
		x, err := checkpoint.Values[uint8](st, "chains/x", shape...)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(x, func(g uint8) bool { return int(g) >= s.Config.Levels }) {
			return fmt.Errorf("mrf: checkpoint: wanted grey levels below %d", s.Config.Levels)
		}
		for k := range s.chains {
			copy(s.chains[k].level, x[k*places:])
		}
	}
	s.slow, s.iter = slow[0], st.Step
	return s.loader.Seek(position)
}
