// Package salcoopnets learns to find what is salient in pictures: a generator drafts
// saliency maps, an energy of map and picture revises them, and several drafts show
// what is uncertain (Zhang, Xie, Zheng, Barnes, "Energy-Based Generative Cooperative
// Saliency Prediction", AAAI 2022).
//
// It is conditional cooperative learning with the true map blended into what the
// generator is taught. Under weak supervision a map is known on a few strokes, which come beside
// the maps of a set or in their place, where they are grey elsewhere: in every
// iteration it is recovered first, by inferring the code that explains the strokes and
// revising what the generator makes of it, and then learned from as if it were whole.
package salcoopnets

import (
	"context"
	"fmt"
	"math"

	"ebmrun/training"
	"ebmrun/training/conditionalcoopnets"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/sampler"
)

// Labels of the random streams, beside those of conditional learning.
const (
	prior    = 11 // codes that recovery begins at
	inferred = 12 // noise of their inference
	revised  = 13 // noise of the revision of recovered maps
)

// A Model is what is learned.
type Model struct {
	*conditionalcoopnets.Model
	config Config
}

var _ training.Doubter = (*Model)(nil)

// NewModel joins the networks with their settings.
func NewModel(c Config, e training.ConditionalEnergy, g training.ConditionalGenerator, dim, given int) (*Model, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("salcoopnets: %w", err)
	}
	m, err := conditionalcoopnets.NewModel(c.conditional(), e, g, dim, given)
	return &Model{Model: m, config: c}, err
}

// Translate implements [training.Translator]: mean maps of pictures.
func (m *Model) Translate(ctx context.Context, source []float32, seed uint64) ([]float32, error) {
	mean, _, err := m.Predict(ctx, source, seed)
	return mean, err
}

// Doubt implements [training.Doubter].
func (m *Model) Doubt(ctx context.Context, source []float32, seed uint64) ([]float32, map[string][]float32, error) {
	mean, deviation, err := m.Predict(ctx, source, seed)
	for i, v := range deviation {
		deviation[i] = float32(math.Sqrt(float64(v))) / 2
	}
	return mean, map[string][]float32{"deviation": deviation}, err
}

// Predict draws Draws maps for each picture, and revises them; it returns their mean and,
// pixel by pixel, their variance.
func (m *Model) Predict(ctx context.Context, pictures []float32, seed uint64) (mean, variance []float32, err error) {
	k := float32(m.config.Draws)
	for d := range m.config.Draws {
		_, x, err := m.Solve(ctx, pictures, seed+uint64(d))
		if err != nil {
			return nil, nil, err
		}
		if mean == nil {
			mean, variance = make([]float32, len(x)), make([]float32, len(x))
		}
		for i, v := range x {
			mean[i] += v / k
			variance[i] += v * v / k
		}
	}
	for i, v := range mean {
		variance[i] = max(0, variance[i]-v*v)
	}
	return mean, variance, nil
}

// Recover completes maps of which strokes are known, 0 being unknown: the code that
// explains them is inferred, what the generator makes of it is revised, from iteration
// t = Revise on, and what is known stays in every step.
func (m *Model) Recover(ctx context.Context, pictures, strokes []float32, seed, t uint64) ([]float32, error) {
	out := make([]float32, 0, len(strokes))
	noise := sampler.Noise{Seed: seed}
	return out, training.Blocks(len(strokes)/m.Dim, training.Block, func(first, end int) error {
		known, given := strokes[first*m.Dim:end*m.Dim], pictures[first*m.Given:end*m.Given]
		ids, mask, x := sampler.Chains(uint64(first), end-first), maskOf(known), make([]float32, len(known))
		g := m.Generator.Given(given)
		codes, err := sampler.NewState(make([]float32, len(ids)*g.Codes()), g.Codes(), ids)
		if err != nil {
			return err
		}
		noise.Fork(prior).Normals(codes.X, ids, t)
		k := m.config.Recover
		codes.T = t * uint64(k.Steps)
		if _, err := sampler.Run(ctx, noise.Fork(inferred), k.Kernel(), g.Posterior(known, mask), codes, k.Steps, nil); err != nil {
			return training.Blame("codes of recovered maps", "a smaller recover.step, or recover.grad_clip", err)
		}
		if err := g.Forward(ctx, codes.X, x); err != nil {
			return err
		}
		paste := func(x []float32) {
			for i, v := range known {
				if mask[i] != 0 {
					x[i] = v
				}
			}
		}
		paste(x)
		st, err := sampler.NewState(x, m.Dim, ids)
		if err != nil {
			return err
		}
		if t >= uint64(m.config.Revise) {
			st.T = t * uint64(m.config.Langevin.Steps)
			if _, err := m.Revise(ctx, given, st, noise.Fork(revised), paste); err != nil {
				return training.Blame("recovered maps", "a smaller langevin.step or optim.lr, or langevin.grad_clip", err)
			}
		}
		if m.config.Decide {
			for i, v := range x {
				x[i] = float32(math.Copysign(1, float64(v)))
			}
		}
		out = append(out, x...)
		return nil
	})
}

// maskOf is 1 where a stroke says something.
func maskOf(strokes []float32) []float32 {
	mask := make([]float32, len(strokes))
	for i, v := range strokes {
		if v != 0 {
			mask[i] = 1
		}
	}
	return mask
}

// System is the learning system. Its parts are set by [New].
type System struct {
	*conditionalcoopnets.System
	Config Config

	model   *Model
	strokes *data.Set
	seed    uint64
}

// New assembles the system. The set's examples are maps, given pictures.
func New(c Config, e training.ConditionalEnergy, g training.ConditionalGenerator, set *data.Set, seed uint64) (*System, error) {
	if set.Given == nil {
		return nil, fmt.Errorf("salcoopnets: %s does not hold pairs of a map and a picture", set.Name)
	}
	m, err := NewModel(c, e, g, set.Dim(), set.Given.Dim())
	if err != nil {
		return nil, err
	}
	inner, err := conditionalcoopnets.NewAs("salcoopnets", c.conditional(), e, g, set, seed)
	if err != nil {
		return nil, err
	}
	inner.Data.Mirror = c.Mirror
	s := &System{System: inner, Config: c, model: m, seed: seed}
	if c.Supervision == Scribbles {
		if s.strokes = set.Beside["scribbles"]; s.strokes == nil {
			if s.strokes = set; !mostlyGrey(set) {
				return nil, fmt.Errorf("salcoopnets: %s has no scribbles: wanted maps that are white and black on strokes and grey elsewhere", set.Name)
			}
		}
		inner.Observe, inner.Warm = s.observe, c.Warm
	}
	return s, nil
}

// Learned is what is learned so far.
func (s *System) Learned() *Model { return s.model }

// stroke is what a value of a map tells: salient, not, or nothing where it is about grey.
func stroke(v float32) float32 {
	if v > -0.1 && v < 0.1 {
		return 0
	}
	return float32(math.Copysign(1, float64(v)))
}

// mostlyGrey is whether more of a set's maps is unknown than known.
func mostlyGrey(set *data.Set) bool {
	x, unknown := set.Head(min(100, set.N)).X(), 0
	for _, v := range x {
		if stroke(v) == 0 {
			unknown++
		}
	}
	return 2*unknown > len(x)
}

// observe puts recovered maps in the place of true ones, which a weak supervisor does
// not know; while the generator warms up, the strokes alone.
func (s *System) observe(ctx context.Context, b data.Batch, iteration int, observed, mask []float32) error {
	for k, i := range b.Index {
		x := observed[k*s.Dim : (k+1)*s.Dim]
		if copy(x, s.strokes.At(i)); b.Turned != nil && b.Turned[k] {
			data.Turn(x, s.strokes.W)
		}
		for j, v := range x {
			x[j] = stroke(v)
		}
	}
	if s.Config.Sabotage == Background {
		for i, v := range observed {
			if v == 0 {
				observed[i] = -1
			}
		}
		return nil
	}
	// the mask is squared with the error that it multiplies
	known, unknown := float32(math.Sqrt(s.Config.Known)), float32(1)
	if iteration < s.Config.Warm {
		known, unknown = 1, 0
	}
	for i, v := range observed {
		if mask[i] = unknown; v != 0 {
			mask[i] = known
		}
	}
	if iteration < s.Config.Warm {
		return nil
	}
	x, err := s.model.Recover(ctx, b.Given, observed, s.seed, uint64(iteration))
	copy(observed, x)
	return err
}

// most maps are predicted in an evaluation.
const most = 200

// Evaluate implements [training.Evaluator]: saliency measures of held maps, or the error on
// their strokes where they are no more than that.
func (s *System) Evaluate(ctx context.Context) (training.Metrics, error) {
	if s.Held == nil || s.Held.Given == nil {
		return nil, nil
	}
	h := s.Held.Head(most)
	mean, _, err := s.model.Predict(ctx, h.Given.X(), s.seed)
	if err != nil {
		return nil, err
	}
	if s.strokes != nil && h.Beside["scribbles"] == nil {
		var off []float32
		for i, v := range h.X() {
			if known := stroke(v); known != 0 {
				off = append(off, float32(math.Abs(float64(mean[i]-known)))/2)
			}
		}
		if len(off) == 0 {
			return nil, nil
		}
		e := training.Mean(off)
		return training.Metrics{training.Objective: e, "stroke_error": e}, nil
	}
	m, err := Measure(mean, h)
	if err != nil {
		return nil, err
	}
	return training.Metrics{training.Objective: m.MAE, "mae": m.MAE, "s_measure": m.S, "mean_f": m.MeanF, "max_f": m.MaxF, "mean_e": m.MeanE, "weighted_f": m.WeightedF}, nil
}

// Measure scores maps in the scale of learning against the true ones of a set.
func Measure(maps []float32, truth *data.Set) (diag.Saliency, error) {
	unit := func(x []float32) []float32 {
		out := make([]float32, len(x))
		for i, v := range x {
			out[i] = min(max((v+1)/2, 0), 1)
		}
		return out
	}
	return diag.SaliencyOf(unit(maps), unit(truth.X()), truth.H, truth.W)
}
