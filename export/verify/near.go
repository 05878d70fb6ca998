package verify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/runtime"
)

// A reader is a compiled model that takes and gives values by their names.
type reader struct {
	runtime.Program
	name string

	x    *graphs.Tensor            // what [reader.on] was last asked for,
	made map[string]*graphs.Tensor // and what it answered
}

func compile(ctx context.Context, m *graphs.Model, e runtime.Engine, o runtime.Options) (*reader, error) {
	p, err := e.Compile(ctx, m, o)
	if err != nil {
		return nil, err
	}
	name := runtime.Describe(p).Library
	if name == "" {
		name = "engine"
	}
	return &reader{Program: p, name: name}, nil
}

func (r *reader) run(ctx context.Context, in map[string]*graphs.Tensor) (map[string]*graphs.Tensor, error) {
	x, y := make([]*graphs.Tensor, len(r.Inputs())), make([]*graphs.Tensor, len(r.Outputs()))
	for i, v := range r.Inputs() {
		if x[i] = in[v.Name]; x[i] == nil {
			return nil, fmt.Errorf("%w: it has an input %q", ErrDiffers, v.Name)
		}
	}
	if err := r.Program.Run(ctx, x, y); err != nil {
		return nil, err
	}
	out := map[string]*graphs.Tensor{}
	for i, v := range r.Outputs() {
		out[v.Name] = y[i]
	}
	return out, nil
}

// on runs the reader of an energy on x, once if it is asked again.
func (r *reader) on(ctx context.Context, x *graphs.Tensor) (out map[string]*graphs.Tensor, err error) {
	if r.x != x {
		if out, err = r.run(ctx, map[string]*graphs.Tensor{onnxmodels.X: x}); err != nil {
			return nil, err
		}
		r.x, r.made = x, out
	}
	return r.made, nil
}

// copies are readers of a model that round otherwise: what is computed in float32 is
// what constants moved by so much would give, so theirs are. Units that stand at a
// jump within rounding take one side in some of them and the other in others.
type copies struct {
	of      *graphs.Model
	engine  runtime.Engine
	options runtime.Options
	made    []*reader
}

// trials is how many copies are asked; constants move by up to 2⁻²² of themselves in
// the first, by twice and four times that in the next, and so on in turn.
const trials = 9

func (c *copies) get(ctx context.Context, trial int) (*reader, error) {
	if trial < len(c.made) {
		return c.made[trial], nil
	}
	m, random := passes.Clone(c.of), rand.New(rand.NewPCG(uint64(trial), 3))
	far := float32(math.Exp2(float64(trial%3 - 22)))
	for _, v := range m.Graph.Inits {
		if old := v.Const.F32(); old != nil {
			v.Const = graphs.NewTensor(graphs.Float32, v.Const.Dims...)
			for i, w := range old {
				v.Const.F32()[i] = w * (1 + far*float32(2*random.IntN(2)-1))
			}
		}
	}
	r, err := compile(ctx, m, c.engine, c.options)
	if err == nil {
		c.made = append(c.made, r)
	}
	return r, err
}

// Close closes all that were made.
func (c *copies) Close() error {
	var errs []error
	for _, r := range c.made {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// near holds what a reader found to what is wanted: each value to [Tolerance] of the
// largest, where differences up to blur are none. An example of which that is not true
// may depend on units at their jump; again is what a copy makes of it, nil if slopes do
// not jump. Then some copy must agree to [Tolerance], or, where there are so many such
// units that none takes all the same sides, the file must be no further off than
// [JumpTolerance] in L2, and than slack times what the copies are.
func (r *Report) near(ctx context.Context, c Check, got, want *graphs.Tensor, blur float64, others *copies, again func(*reader) (*graphs.Tensor, error)) error {
	c.Off = distance(got, want, blur)
	if c.Off <= Tolerance || others == nil || math.IsNaN(c.Off) || math.IsInf(c.Off, 0) {
		return r.add(c, Tolerance)
	}
	off, largest := apart(got, want, blur)
	limit, rounding := make([]float64, len(off)), make([]float64, len(off))
	for trial := 0; ; trial++ {
		// An example that agrees with some copy is settled, however far that is from ours.
		unsettled := -1
		for i := range off {
			if limit[i] = max(limit[i], min(JumpTolerance, slack*rounding[i])); largest[i] <= Tolerance {
				limit[i] = math.Inf(1)
			}
			if off[i] > limit[i] {
				unsettled = i
			}
		}
		if unsettled >= 0 && trial < trials {
			copy, err := others.get(ctx, trial)
			if err != nil {
				return fmt.Errorf("verify: %s: %w", r.File, err)
			}
			y, err := again(copy)
			if err != nil {
				return fmt.Errorf("verify: %s: %w", r.File, err)
			}
			moved, _ := apart(y, want, blur)
			for i, d := range moved {
				rounding[i] = max(rounding[i], d)
			}
			_, largest = apart(got, y, blur)
			continue
		}
		if unsettled < 0 {
			unsettled = slices.Index(off, slices.Max(off))
		}
		c.Off, c.Rounding = off[unsettled], rounding[unsettled]
		return r.add(c, limit[unsettled])
	}
}

// apart is, for each example, the relative L2 distance and the largest difference as a
// share of the largest wanted value, without differences up to blur.
func apart(got, want *graphs.Tensor, blur float64) (l2, largest []float64) {
	n := want.Dims[0]
	l2, largest = make([]float64, n), make([]float64, n)
	dim := want.Len() / max(1, n)
	for k := range n {
		var off, size, diff, square float64
		for i := k * dim; i < (k+1)*dim; i++ {
			v := float64(want.F32()[i])
			d := beyond(float64(got.F32()[i])-v, blur)
			off, size = max(off, d), max(size, math.Abs(v))
			diff, square = diff+d*d, square+v*v
		}
		if off != 0 {
			l2[k], largest[k] = math.Sqrt(diff/square), off/size
		}
	}
	return l2, largest
}

// beyond is how much larger than blur a difference is; NaN stays.
func beyond(d, blur float64) float64 { return max(math.Abs(d)-blur, 0) }

// minus is a − b.
func minus(a, b *graphs.Tensor) *graphs.Tensor {
	d := graphs.NewTensor(graphs.Float32, a.Dims...)
	for i, v := range a.F32() {
		d.F32()[i] = v - b.F32()[i]
	}
	return d
}

func most(x *graphs.Tensor) (size float64) {
	for _, v := range x.F32() {
		size = max(size, math.Abs(float64(v)))
	}
	return size
}

func sameDims(a, b *graphs.Tensor) bool {
	return a != nil && b != nil && a.Type == b.Type && slices.Equal(a.Dims, b.Dims)
}
