// Package hierarchicalsparseframe learns templates of objects that lie anywhere in pictures, turned and of
// several sizes, and whose parts may move (Xie, Xu, Nijkamp, Wu, Zhu, "Generative hierarchical learning of
// sparse FRAME models", CVPR 2017).
//
// A template is a sparse FRAME model of a square that is cut into parts. By EM each round learns a template
// of every cluster of pictures from what was taken for its objects, brought to one pose part by part, and
// then looks for all templates in all pictures by maps of sums and maxima: of wavelets that may move a
// little, of parts that may, and of objects. A picture goes to the template that scores it highest, log Z
// included.
package hierarchicalsparseframe

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/record"
	"ebmrun/training/sampler"
	"ebmrun/training/sparseframe"
)

// System is the learning system. Its parts are set by [New].
type System struct {
	*Model
	Config Config
	Held   *data.Set // pictures that are not learned from; may be nil

	bind   sparseframe.Binder
	set    *data.Set
	views  []*view // of the pictures, nil if they take too much memory
	loader *data.Loader
	origin training.Origin
	seed   uint64

	found []Detection // of every picture
	slow  float64
	iter  int
}

// memory is how many bytes the maps of all pictures may take.
const memory = 1 << 30

// New assembles the system for grey pictures, which are given to clusters at random, their objects in the
// middle. All randomness follows from the seed.
func New(ctx context.Context, c Config, bind sparseframe.Binder, set *data.Set, seed uint64) (*System, error) {
	if d := set.Dims(); len(d) != 3 || d[0] != 1 {
		return nil, fmt.Errorf("hierarchical-sparse-frame: wanted grey pictures, got examples of %v", d)
	}
	if c.Clusters > set.N {
		return nil, fmt.Errorf("hierarchical-sparse-frame: clusters: wanted at most one for each of %d pictures, got %d", set.N, c.Clusters)
	}
	m, err := NewModel(c, set.H, set.W)
	if err != nil {
		return nil, err
	}
	loader, err := data.NewLoader(set, 1, seed)
	if err != nil {
		return nil, fmt.Errorf("hierarchical-sparse-frame: %w", err)
	}
	s := &System{Model: m, Config: c, bind: bind, set: set, loader: loader, origin: training.OriginOf("hierarchical-sparse-frame", seed, set), seed: seed, slow: 1}
	if 4*set.N*c.Levels*(m.dict.Filters()+1)*set.H*set.W <= memory {
		s.views = make([]*view, set.N)
		if err := each(ctx, set.N, func(i int) { s.views[i] = m.view(set.At(i)) }); err != nil {
			return nil, err
		}
	}
	for i := range set.N {
		s.found = append(s.found, m.rigid(i%c.Clusters, m.rest()))
	}
	sampler.Stream(seed, 0, 0).Shuffle(set.N, func(i, j int) { s.found[i], s.found[j] = s.found[j], s.found[i] })
	return s, nil
}

// rest is an object in the middle of a picture.
func (m *Model) rest() Pose {
	mid := m.config.Levels / 2
	return Pose{m.config.size(mid, m.h) / 2, m.config.size(mid, m.w) / 2, 0, mid}
}

// rigid is an object whose parts are at rest in it.
func (m *Model) rigid(cluster int, p Pose) Detection {
	d := Detection{Cluster: cluster, Object: p}
	for j := range m.config.Parts * m.config.Parts {
		y, x, _ := m.at(j, p.Turn, p.Level, p.Level)
		d.Parts = append(d.Parts, Pose{p.Y + round(y), p.X + round(x), p.Turn, p.Level})
	}
	return d
}

// look is a picture as templates are compared with it.
func (s *System) look(i int) *view {
	if s.views != nil {
		return s.views[i]
	}
	return s.view(s.set.At(i))
}

// Iteration implements [training.System].
func (s *System) Iteration() int { return s.iter }

// Slow implements [training.System].
func (s *System) Slow(factor float64) { s.slow *= factor }

// Step implements [training.System]: one round of EM.
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	m, clock := training.Metrics{}, time.Now()
	if s.iter == 0 && s.Config.Starts > 0 && s.Config.Sabotage != Still {
		if err := s.begin(ctx); err != nil {
			return nil, err
		}
	}
	// M: a template of each cluster's objects.
	crops := make([][][]float32, s.Config.Clusters)
	for i, d := range s.found {
		crops[d.Cluster] = append(crops[d.Cluster], s.crop(s.look(i), d))
	}
	templates := make([]*sparseframe.Template, s.Config.Clusters)
	for q := range templates {
		t, more, err := s.learn(ctx, crops[q], s.seed+uint64(s.iter*s.Config.Clusters+q))
		if err != nil {
			return nil, err
		}
		templates[q] = t
		for k, v := range more {
			m[k] += v * float64(len(crops[q])) / float64(s.set.N)
		}
	}
	s.Templates = templates
	m["learning_seconds"] = time.Since(clock).Seconds()
	clock = time.Now()
	// E: every picture's template, and where it is.
	found, scores, next := make([][]Detection, len(templates)), make([][]float64, len(templates)), make([]int, s.set.N)
	for q, t := range templates {
		var err error
		if found[q], scores[q], err = s.compare(ctx, t); err != nil {
			return nil, err
		}
		for i, v := range scores[q] {
			if v > scores[next[i]][i] {
				next[i] = q
			}
		}
	}
	sparseframe.Reseed(next, scores)
	for i, q := range next {
		d := found[q][i]
		d.Cluster = q
		if d.Cluster != s.found[i].Cluster {
			m["regrouped"] += 1 / float64(s.set.N)
		}
		if d.Object != s.found[i].Object {
			m["moved"] += 1 / float64(s.set.N)
		}
		m["score"] += d.Score / float64(s.set.N)
		s.found[i] = d
	}
	m["finding_seconds"] = time.Since(clock).Seconds()
	s.iter++
	return m, nil
}

// compare finds a template in all pictures.
func (s *System) compare(ctx context.Context, t *sparseframe.Template) (found []Detection, scores []float64, err error) {
	found, scores = make([]Detection, s.set.N), make([]float64, s.set.N)
	return found, scores, each(ctx, s.set.N, func(i int) {
		found[i] = s.find(s.look(i), t, s.Config.Sabotage == Still)
		scores[i] = found[i].Score
	})
}

// begin finds clusters to begin with, as k-means++ does (Arthur and Vassilvitskii, SODA 2007): each has the
// template of one picture, drawn the likelier the less it is explained by those before. Of so many starts the
// one is taken that explains the other pictures best.
func (s *System) begin(ctx context.Context) error {
	most := math.Inf(-1)
	for start := range s.Config.Starts {
		r := sampler.Stream(s.seed, 1, uint64(start))
		best, left := slices.Clone(s.found), make([]float64, s.set.N)
		for i := range best {
			best[i].Score, left[i] = math.Inf(-1), 1
		}
		taken := map[int]bool{}
		for q := range s.Config.Clusters {
			of := draw(r.Float64(), left)
			taken[of] = true
			seed := s.seed + uint64(start*s.Config.Clusters+q)<<32
			t, _, err := s.learn(ctx, [][]float32{s.crop(s.look(of), s.rigid(q, s.rest()))}, seed)
			if err != nil {
				return err
			}
			found, _, err := s.compare(ctx, t)
			if err != nil {
				return err
			}
			top := math.Inf(-1)
			for i, d := range found {
				if d.Cluster = q; d.Score > best[i].Score || i == of {
					best[i] = d
				}
				if !taken[i] {
					top = max(top, best[i].Score)
				}
			}
			for i, d := range best {
				if left[i] = top - d.Score; taken[i] {
					left[i] = 0
				}
			}
		}
		total := 0.0
		for i, d := range best {
			if !taken[i] {
				total += d.Score
			}
		}
		if total > most {
			most, s.found = total, best
		}
	}
	for q := range s.Config.Clusters {
		s.centre(q)
	}
	return nil
}

// centre moves the objects of a cluster so that, on average, they lie in the middle of their pictures and are not
// turned: where in the one picture that they were found by its object lies is chance.
func (s *System) centre(cluster int) {
	var dy, dx, turn, n float64
	for _, d := range s.found {
		if d.Cluster == cluster {
			y, x, _ := s.Place(d.Object)
			y, x = s.turned(round(y)-s.h/2, round(x)-s.w/2, -d.Object.Turn)
			dy, dx, turn, n = dy+y, dx+x, turn+float64(d.Object.Turn), n+1
		}
	}
	for i, d := range s.found {
		if p := d.Object; d.Cluster == cluster {
			y, x := s.turned(round(dy/n), round(dx/n), p.Turn)
			scale := s.Config.scale(p.Level)
			s.found[i] = s.rigid(cluster, Pose{p.Y - round(scale*y), p.X - round(scale*x), p.Turn - round(turn/n), p.Level})
		}
	}
}

// draw is an index, with a probability that is proportional to its weight.
func draw(u float64, weights []float64) int {
	all := 0.0
	for _, w := range weights {
		all += w
	}
	last := 0
	for i, w := range weights {
		if w > 0 {
			if last = i; u*all < w {
				break
			}
		}
		u -= w / all
	}
	return last
}

// learn makes a template of objects brought to one pose, and measures its samples.
func (s *System) learn(ctx context.Context, crops [][]float32, seed uint64) (*sparseframe.Template, training.Metrics, error) {
	c := s.Config.Frame
	c.Optim.LR *= s.slow
	var net training.Energy
	t, err := sparseframe.Learn(ctx, c, func(ctx context.Context, taps []float32) (training.Energy, error) {
		var err error
		net, err = s.bind(ctx, taps)
		return net, err
	}, s.crops("objects", crops), seed)
	if n, ok := net.(io.Closer); ok && net != nil {
		defer n.Close()
	}
	if err != nil {
		return nil, nil, err
	}
	m, err := t.Evaluate(ctx)
	if err != nil {
		return nil, nil, err
	}
	m = training.Metrics{"response_gap": m["response_gap"]}
	_, m[training.SampleStd] = training.Moments(t.Samples(c.Chains))
	_, m[training.DataStd] = training.Moments(slices.Concat(crops...))
	return t.Template, m, nil
}

// most held-out pictures are looked at in an evaluation.
const most = 32

// Evaluate implements [training.Evaluator]: the mean log p(x)/q(x) of held-out pictures, and how pure the
// clusters are where classes are known.
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	m := training.Metrics{}
	if len(s.Templates) == 0 {
		return nil, nil
	}
	if s.Held != nil {
		_, scores, err := s.Score(ctx, s.Held.Head(min(most, s.Held.N)).X(), 0)
		if err != nil {
			return nil, err
		}
		for _, v := range scores {
			m["held/score"] += v / float64(len(scores))
		}
		m[training.Objective] = -m["held/score"]
	}
	if s.set.Labels != nil {
		assigned := make([]int, s.set.N)
		for i, d := range s.found {
			assigned[i] = d.Cluster
		}
		m["purity"] = diag.Purity(assigned, s.set.Labels)
	}
	return m, nil
}

// Pictures implements [training.Painter]: what was taken for objects, brought to one pose, and samples of
// their templates; pictures with their sketches; the templates and their parts.
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	if len(s.Templates) == 0 {
		return nil, nil
	}
	n, side := min(8, s.set.N), s.Config.Side
	var taken []record.Images
	for q, t := range s.Templates {
		row := record.Images{N: n, C: 1, H: side, W: side, Lo: lo, Hi: hi}
		for i, d := range s.found {
			if d.Cluster == q && len(row.Data) < n*side*side {
				row.Data = append(row.Data, s.crop(s.look(i), d)...)
			}
		}
		row.Data = append(row.Data, make([]float32, n*side*side-len(row.Data))...) // grey where there are fewer
		drawn := row
		drawn.Data = t.Draw(n, sweeps, s.seed)
		taken = append(taken, row, drawn)
	}
	row := record.Images{N: n, C: 1, H: s.h, W: s.w, Lo: s.set.Lo, Hi: s.set.Hi}
	row.Data = s.set.X()[:row.N*s.h*s.w]
	sketch := row
	sketch.Data = make([]float32, len(row.Data))
	for i := range row.N {
		s.sketch(sketch.Data[i*s.h*s.w:(i+1)*s.h*s.w], s.found[i])
	}
	for i, v := range sketch.Data {
		sketch.Data[i] = row.Lo + v*(row.Hi-row.Lo)
	}
	more, err := s.Illustrate(ctx, s.seed)
	return append([]training.Picture{{Tag: record.SamplesTag, Rows: taken}, {Tag: "sketches", Rows: []record.Images{row, sketch}}}, more...), err
}

// Save implements [training.System]. A template is learned anew in every round: what was found is all that
// the next one depends on.
func (s *System) Save() (*checkpoint.State, error) {
	st := &checkpoint.State{Step: s.iter, Tensors: map[string]checkpoint.Tensor{}}
	for q, t := range s.Templates {
		t.Save(st, prefix(q))
	}
	st.Tensors["slow"] = checkpoint.Scalar(s.slow)
	var poses []int64
	for _, d := range s.found {
		poses = append(poses, int64(d.Cluster))
		for _, p := range append([]Pose{d.Object}, d.Parts...) {
			poses = append(poses, int64(p.Y), int64(p.X), int64(p.Turn), int64(p.Level))
		}
	}
	st.Tensors["found"] = checkpoint.Tensor{Shape: []int{s.set.N, s.numbers()}, Data: poses}
	return st, s.origin.Save(st, s.loader, s.Config)
}

// numbers that a detection is kept as.
func (s *System) numbers() int { return 1 + 4*(1+s.Config.Parts*s.Config.Parts) }

// Restore implements [training.System].
func (s *System) Restore(st *checkpoint.State) error {
	position, err := s.origin.Check(st)
	if err != nil {
		return err
	}
	if err := s.Model.Restore(st); err != nil {
		return err
	}
	slow, err := checkpoint.Values[float64](st, "slow")
	if err != nil {
		return err
	}
	raw, err := checkpoint.Values[int64](st, "found", s.set.N, s.numbers())
	if err != nil {
		return err
	}
	for i := range s.found {
		d, v := Detection{}, raw[i*s.numbers():(i+1)*s.numbers()]
		d.Cluster = int(v[0])
		for v = v[1:]; len(v) > 0; v = v[4:] {
			d.Parts = append(d.Parts, Pose{int(v[0]), int(v[1]), int(v[2]), int(v[3])})
		}
		d.Object, d.Parts = d.Parts[0], d.Parts[1:]
		for _, p := range append([]Pose{d.Object}, d.Parts...) {
			if p.Level < 0 || p.Level >= s.Config.Levels || d.Cluster < 0 || d.Cluster >= s.Config.Clusters {
				return fmt.Errorf("hierarchical-sparse-frame: checkpoint: picture %d: cluster %d, pose %+v are not of these settings", i, d.Cluster, p)
			}
		}
		s.found[i] = d
	}
	s.slow, s.iter = slow[0], st.Step
	return s.loader.Seek(position)
}
