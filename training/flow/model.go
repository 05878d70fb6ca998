package flow

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/shortrun"
)

// A Model is a learned flow.
type Model struct {
	Flow   training.Flow
	Dim    int     // values of one example
	Lo, Hi float32 // the range of values, both 0 if nothing bounds them
}

var (
	_ training.Drawer        = Model{}
	_ training.Reconstructor = Model{}
	_ training.Interpolator  = Model{}
	_ training.Scorer        = Model{}
	_ training.Encoder       = Model{}
	_ training.Decoder       = Model{}
)

// Of is the model of a flow over a set.
func Of(f training.Flow, set *data.Set) (Model, error) {
	m := Model{f, set.Dim(), set.Lo, set.Hi}
	if f.Level() > 0 && (set.Lo != -1 || set.Hi != 1) {
		return m, fmt.Errorf("flow: a flow of levels wants values in [-1, 1], got [%g, %g]", set.Lo, set.Hi)
	}
	return m, nil
}

// Codes implements [training.Decoder].
func (m Model) Codes() int { return m.Dim }

// Decode implements [training.Decoder]. Pictures are held in their range.
func (m Model) Decode(ctx context.Context, z []float32) ([]float32, error) {
	if len(z)%m.Dim != 0 {
		return nil, fmt.Errorf("flow: wanted codes of %d values each, got %d values", m.Dim, len(z))
	}
	return training.DrawFlow(ctx, m.Flow, z, m.Dim, m.Lo, m.Hi)
}

// Draw implements [training.Drawer].
func (m Model) Draw(ctx context.Context, n int, seed uint64) ([]float32, error) {
	return m.Decode(ctx, training.Codes(seed, n, m.Dim))
}

// Interpolate implements [training.Interpolator]: equal angles between two codes.
func (m Model) Interpolate(ctx context.Context, from, to uint64, frames int) ([]float32, error) {
	z, err := shortrun.Blend(training.Codes(from, 1, m.Dim), training.Codes(to, 1, m.Dim), frames, [2]float32{})
	if err != nil {
		return nil, err
	}
	return m.Decode(ctx, z)
}

// Encode implements [training.Encoder].
func (m Model) Encode(ctx context.Context, x, mask []float32, _ uint64) ([]float32, error) {
	for _, v := range mask {
		if v != 1 {
			return nil, errors.New("flow: a flow has codes of whole examples only, and some entries are unknown; coopflow fills them in")
		}
	}
	if len(x)%m.Dim != 0 {
		return nil, fmt.Errorf("flow: wanted examples of %d values each, got %d values", m.Dim, len(x))
	}
	z, logP := make([]float32, len(x)), make([]float32, len(x)/m.Dim)
	return z, training.Blocks(len(logP), block, func(first, end int) error {
		return m.Flow.Encode(ctx, x[first*m.Dim:end*m.Dim], z[first*m.Dim:end*m.Dim], logP[first:end])
	})
}

// Reconstruct implements [training.Reconstructor]: there and back.
func (m Model) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	z, err := m.Encode(ctx, x, mask, seed)
	if err != nil {
		return nil, err
	}
	return m.Decode(ctx, z)
}

// Score implements [training.Scorer]: log p(x) of continuous values; of levels the
// lower bound of their log probability, under the noise of the seed.
func (m Model) Score(ctx context.Context, x []float32, seed uint64) (name string, values []float64, err error) {
	x = append([]float32(nil), x...)
	level := m.Flow.Level()
	training.Snap(x, float64(m.Lo), level)
	bound, err := training.BoundOf(ctx, m.Flow, x, m.Dim, seed)
	values = make([]float64, len(bound))
	for i, b := range bound {
		values[i] = float64(b)
	}
	if name = "log p(x), nats"; level > 0 {
		name = "log P(x), lower bound, nats"
		for i, v := range values {
			values[i] = training.LogMass(v, m.Dim, level)
		}
	}
	return name, values, err
}

// Begin sets the normalisations of a new flow by the first n examples of a stream.
func Begin(ctx context.Context, f training.Flow, set *data.Set, n int, seed uint64) error {
	l, err := data.NewLoader(set, n, seed)
	if err != nil {
		return err
	}
	x := l.Next().X
	training.Snap(x, float64(set.Lo), f.Level())
	return f.Start(ctx, x, training.Codes(seed, n, set.Dim()))
}

// block is how many examples a flow is given at a time outside learning.
const block = 64
