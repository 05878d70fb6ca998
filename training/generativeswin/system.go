// Package generativeswin learns to predict saliency maps of pictures, with or without
// depth, and how sure they are: a transformer turns a picture and a code into a map, and
// the codes have an energy-based prior (Zhang, Xie, Barnes, Li, "Learning Generative Vision
// Transformer with Energy-Based Latent Space for Saliency Prediction", NeurIPS 2021).
//
//	p(z) ∝ exp(f(z))·N(z; 0, σ0²I),  map = g(picture, z) + N(0, σ²I)
//
// Every iteration draws codes z⁻ by a short chain on the prior and codes z⁺ by one on the
// posterior given picture and map; the prior learns from how f differs between them, the
// transformer from the error of its maps at z⁺. It is learning as in package latentebm
// with a generator that sees the picture. Several codes of the prior give several maps:
// their mean is the prediction, how they differ what is uncertain in it.
package generativeswin

import (
	"context"
	"fmt"
	"math"

	"ebmrun/onnxmodels/swin"
	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/latentebm"
	"ebmrun/training/record"
)

// A Model is what is learned.
type Model struct {
	Config    Config
	Generator training.ConditionalGenerator
	Dim       int // values of a map
	Given     int // values of a picture

	codes *latentebm.Model
}

var _ training.Doubter = (*Model)(nil)

// NewModel joins the networks with their settings.
func NewModel(c Config, p training.Energy, g training.ConditionalGenerator, dim, given int) (*Model, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("generative-swin: %w", err)
	}
	return &Model{c, g, dim, given, &latentebm.Model{Config: c.latent(), Prior: p, Generator: g.Given(nil), Dim: dim}}, nil
}

// Maps draws a map for each picture: of a code of the learned prior, or with learned
// false of one of N(0, σ0²I).
func (m *Model) Maps(ctx context.Context, pictures []float32, seed uint64, learned bool) ([]float32, error) {
	x := make([]float32, len(pictures)/m.Given*m.Dim)
	return x, m.draws(ctx, pictures, []uint64{seed}, learned, func(first int, maps []float32) { copy(x[first*m.Dim:], maps) })
}

// draws makes a map of each picture for every seed, in blocks of pictures that begin at
// first: what the maps of a picture have in common is computed once.
func (m *Model) draws(ctx context.Context, pictures []float32, seeds []uint64, learned bool, use func(first int, maps []float32)) error {
	n := len(pictures) / m.Given
	if len(pictures) != n*m.Given {
		return fmt.Errorf("generative-swin: wanted pictures of %d values, got %d values", m.Given, len(pictures))
	}
	var codes [][]float32
	for _, seed := range seeds {
		z, err := m.codes.PriorCodes(ctx, n, seed, learned)
		if err != nil {
			return err
		}
		codes = append(codes, z)
	}
	d := m.codes.Generator.Codes()
	return training.Blocks(n, m.few(training.Block), func(first, end int) error {
		draw, err := training.Fixed(ctx, m.Generator, pictures[first*m.Given:end*m.Given])
		if err != nil {
			return err
		}
		maps := make([]float32, (end-first)*m.Dim)
		for _, z := range codes {
			if err := draw(ctx, z[first*d:end*d], maps); err != nil {
				return err
			}
			use(first, maps)
		}
		return nil
	})
}

// A Prediction is what several maps of a picture say, pixel by pixel. Mean is from −1 to
// 1; the others are of the probability (1 + map)/2 of being salient, entropies in nats.
type Prediction struct {
	Mean      []float32
	Deviation []float32
	Total     []float32 // entropy of the mean
	Aleatoric []float32 // mean entropy of the maps: what the picture leaves open
	Epistemic []float32 // the rest: what the codes leave open
}

// Predict draws Draws maps for each picture.
func (m *Model) Predict(ctx context.Context, pictures []float32, seed uint64) (*Prediction, error) {
	return m.predict(ctx, pictures, seed, true)
}

func (m *Model) predict(ctx context.Context, pictures []float32, seed uint64, learned bool) (*Prediction, error) {
	n := len(pictures) / m.Given * m.Dim
	p := Prediction{make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)}
	k, seeds := float32(m.Config.Draws), []uint64{}
	for draw := range m.Config.Draws {
		seeds = append(seeds, seed+uint64(draw))
	}
	if err := m.draws(ctx, pictures, seeds, learned, func(first int, maps []float32) {
		for j, v := range maps {
			i, v := first*m.Dim+j, probability(v)
			p.Mean[i] += v / k
			p.Deviation[i] += v * v / k
			p.Aleatoric[i] += entropy(v) / k
		}
	}); err != nil {
		return nil, err
	}
	for i, v := range p.Mean {
		p.Deviation[i] = float32(math.Sqrt(float64(max(0, p.Deviation[i]-v*v))))
		p.Total[i] = entropy(v)
		p.Epistemic[i] = max(0, p.Total[i]-p.Aleatoric[i])
		p.Mean[i] = 2*v - 1
	}
	return &p, nil
}

func probability(v float32) float32 { return min(max((v+1)/2, 0), 1) }

// entropy is that of a coin.
func entropy(p float32) float32 {
	h := 0.0
	for _, q := range []float64{float64(p), 1 - float64(p)} {
		if q > 0 {
			h -= q * math.Log(q)
		}
	}
	return float32(h)
}

// Translate implements [training.Translator]: mean maps of pictures.
func (m *Model) Translate(ctx context.Context, source []float32, seed uint64) ([]float32, error) {
	p, err := m.Predict(ctx, source, seed)
	if err != nil {
		return nil, err
	}
	return p.Mean, nil
}

// Doubt implements [training.Doubter]: deviations, and entropies in nats.
func (m *Model) Doubt(ctx context.Context, source []float32, seed uint64) ([]float32, map[string][]float32, error) {
	p, err := m.Predict(ctx, source, seed)
	if err != nil {
		return nil, nil, err
	}
	return p.Mean, map[string][]float32{"deviation": p.Deviation, "entropy": p.Total, "aleatoric": p.Aleatoric, "epistemic": p.Epistemic}, nil
}

// System is the learning system. Its parts are set by [New]; an iteration is that of
// [latentebm.System] under the pictures of its batch.
type System struct {
	*latentebm.System
	Config Config
	Held   *data.Set // not learned from; nil without

	model *Model
	set   *data.Set
	seed  uint64
}

var (
	_ training.Evaluator = (*System)(nil)
	_ training.Painter   = (*System)(nil)
)

// New assembles the system. The set's examples are maps, given pictures; the generator's
// Posterior must be under the prior.
func New(c Config, p training.Energy, g training.ConditionalGenerator, set *data.Set, seed uint64) (*System, error) {
	if set.Given == nil {
		return nil, fmt.Errorf("generative-swin: %s does not hold pairs of a map and a picture", set.Name)
	}
	m, err := NewModel(c, p, g, set.Dim(), set.Given.Dim())
	if err != nil {
		return nil, err
	}
	pictures := make([]float32, c.Batch*m.Given)
	student := newStudent(c, p, g, pictures)
	inner, err := latentebm.NewAs("generative-swin", c.latent(), p, student, set, seed)
	if err != nil {
		return nil, err
	}
	s := &System{System: inner, Config: c, model: m, set: set, seed: seed}
	inner.Data.Mirror = c.Mirror
	inner.Observe = func(b data.Batch) {
		copy(pictures, b.Given)
		student.at(s.Iteration())
	}
	return s, nil
}

// Step implements [training.System]. The error of maps bears the name of their loss.
func (s *System) Step(ctx context.Context) (training.Metrics, error) {
	m, err := s.System.Step(ctx)
	if err == nil && s.Config.Loss == swin.Structure {
		m[swin.Structure] = m["mse"] * float64(s.model.Dim)
		delete(m, "mse")
	}
	return m, err
}

// Learned is what is learned so far.
func (s *System) Learned() *Model { return s.model }

// most maps are predicted in an evaluation.
const most = 200

// few is n, or less where maps are large: as many as have the pixels of 200 of 64×64.
func (m *Model) few(n int) int { return max(1, min(n, 200*64*64/m.Dim)) }

// Evaluate implements [training.Evaluator]: saliency measures of held maps, beside the
// error with codes of N(0, σ0²I), and how much the maps of a picture deviate.
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	if s.Held == nil || s.Held.Given == nil {
		return nil, nil
	}
	h := s.Held.Head(min(s.model.few(most), s.Held.N))
	var found [2]diag.Saliency
	deviation := 0.0
	for i := range found {
		p, err := s.model.predict(ctx, h.Given.X(), s.seed, i == 0)
		if err != nil {
			return nil, err
		}
		if found[i], err = Measure(p.Mean, h); err != nil {
			return nil, err
		}
		if i == 0 {
			deviation = training.Mean(p.Deviation)
		}
	}
	m := found[0]
	return training.Metrics{training.Objective: m.MAE, "mae": m.MAE, "s_measure": m.S, "mean_f": m.MeanF, "max_f": m.MaxF, "mean_e": m.MeanE,
		"gaussian/mae": found[1].MAE, "deviation": deviation}, nil
}

// Measure scores maps from −1 to 1 against the true ones of a set.
func Measure(maps []float32, truth *data.Set) (diag.Saliency, error) {
	unit := func(x []float32) []float32 {
		out := make([]float32, len(x))
		for i, v := range x {
			out[i] = probability(v)
		}
		return out
	}
	return diag.SaliencyOf(unit(maps), unit(truth.X()), truth.H, truth.W)
}

// shown is how many pictures have their maps shown.
const shown = 16

// Pictures implements [training.Painter].
func (s *System) Pictures(ctx context.Context) ([]training.Picture, error) {
	h := s.Held
	if h == nil || h.Given == nil {
		h = s.set
	}
	h = h.Head(min(s.model.few(shown), h.N))
	p, err := s.model.Predict(ctx, h.Given.X(), s.seed)
	if err != nil {
		return nil, err
	}
	return []training.Picture{{Tag: record.SamplesTag, Rows: Rows(h, p)}}, nil
}

// Rows are pictures, the nearness of what they show if it is known, true maps, mean
// predictions, and twice the deviations as grey from 0 to 1.
func Rows(set *data.Set, p *Prediction) []record.Images {
	colour := func(x []float32) record.Images { // maps as pictures of three equal channels
		out, plane := make([]float32, 0, 3*len(x)), set.Dim()
		for i := range len(x) / plane {
			for range 3 {
				out = append(out, x[i*plane:(i+1)*plane]...)
			}
		}
		return record.Images{Data: out, N: len(x) / plane, C: 3, H: set.H, W: set.W, Lo: -1, Hi: 1}
	}
	var colours, depth []float32
	c, plane := set.Given.C, set.H*set.W
	for i := range set.N {
		x := set.Given.At(i)
		colours, depth = append(colours, x[:3*plane]...), append(depth, x[3*plane:c*plane]...)
	}
	rows := []record.Images{{Data: colours, N: set.N, C: 3, H: set.H, W: set.W, Lo: -1, Hi: 1}}
	if len(depth) > 0 {
		rows = append(rows, colour(depth))
	}
	spread := make([]float32, len(p.Deviation))
	for i, v := range p.Deviation {
		spread[i] = 2*min(1, 2*v) - 1
	}
	return append(rows, colour(set.X()), colour(p.Mean), colour(spread))
}
