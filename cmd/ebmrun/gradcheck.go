package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/graphs/refeval"
	"ebmrun/runtime"
)

const (
	freeSize       = 2       // that a gradient check gives axes of unknown size
	maxCheckValues = 1 << 28 // of one random input
)

// The largest errors that a gradient check lets pass, relative to the size of
// the slope: of the float64 interpreter, and of the engine at hand in the
// model's own type.
const (
	exactTolerance  = 1e-4
	engineTolerance = 1e-2

	// The slope is taken to be no smaller than this share of the output's size:
	// a smaller one, as of the sum of a softmax, is rounding.
	leastSlope = 1e-3
)

// checkGradient runs a gradient model on random inputs and compares it along
// one random direction with the central difference of the output that it
// differentiates, taken in float64: for slopes g and a direction v,
// ⟨g, v⟩ = d/dh Σ c·y(x + h·v), c being the cotangent or ones.
func (c *common) checkGradient(ctx context.Context, m *graphs.Model, of string) error {
	m = passes.Clone(m) // without what the outputs at hand do not need
	m.Graph.Outputs = slices.DeleteFunc(m.Graph.Outputs, func(v *graphs.Value) bool {
		return v.Name != of && !strings.HasPrefix(v.Name, autodiff.GradPrefix)
	})
	if _, err := passes.Prune(m.Graph); err != nil {
		return fmt.Errorf("--check: %w", err)
	}
	exact, err := refeval.New(m.Graph, graphs.OpsetVersion, refeval.Options{})
	if err != nil {
		return fmt.Errorf("--check: %w", err)
	}
	l := line{of: of, program: exact, direction: map[string][]float64{}}
	if l.in, err = randomInputs(exact.Inputs(), rand.New(rand.NewPCG(c.seed, 0))); err != nil {
		return badInput(fmt.Errorf("--check: %w", err))
	}
	r := rand.New(rand.NewPCG(c.seed, 1))
	for i, v := range exact.Inputs() {
		if m.Graph.Output(autodiff.GradPrefix+v.Name) != nil {
			l.direction[v.Name] = normals(r, l.in[i].Len())
		}
	}
	if len(l.direction) == 0 {
		return badInput(errors.New("--check: the model has no slope of an input; --params-as-inputs makes inputs of the weights"))
	}
	out64, err := exact.Run(ctx, l.in)
	if err != nil {
		return fmt.Errorf("--check: the model does not run on random inputs (symbolic axes of %d, integers of 0): %w", freeSize, err)
	}
	slope, scale, err := l.slope(out64)
	if err != nil {
		return fmt.Errorf("--check: %w", err)
	}
	want, scale, err := l.agrees(ctx, slope, scale)
	if err != nil {
		return fmt.Errorf("--check: %w", err)
	}
	if err := c.warnRange(out64, m); err != nil {
		return err
	}
	e, err := c.engineOrRef(ctx)
	if err != nil {
		return err
	}
	out, report, err := evaluate(ctx, e, m, c.options(), l.in, 1)
	if missing := (*runtime.KernelError)(nil); errors.As(err, &missing) {
		c.log.Warnf("checked in plain Go: slope %.6g, finite difference %.6g; not run by the library: %s", slope, want, printable(missing.Error()))
		return nil
	}
	if err != nil {
		return fmt.Errorf("--check: %w", err)
	}
	ran, _, err := l.slope(out)
	if err != nil {
		return fmt.Errorf("--check: %w", err)
	}
	if !(math.Abs(ran-want) <= engineTolerance*scale) {
		return fmt.Errorf("--check: the slope along a random direction is %.6g by %s and %.6g by a finite difference", ran, report.Library, want)
	}
	c.say(fmt.Sprintf("checked along a random direction: slope %.6g, finite difference %.6g, %s %.6g", slope, want, report.Library, ran))
	return nil
}

// warnRange says which slopes leave the range of the model's own type: what is
// larger than its largest number, and how much is lost below its smallest.
func (c *common) warnRange(exact []*graphs.Tensor, m *graphs.Model) error {
	for i, v := range m.Graph.Outputs {
		if !v.Type.IsFloat() || v.Type == graphs.Float64 {
			continue
		}
		x, err := exact[i].AsFloats()
		if err != nil {
			return err
		}
		narrow, err := graphs.FromFloats(v.Type, x, exact[i].Dims...)
		if err != nil {
			return err
		}
		y, err := narrow.AsFloats()
		if err != nil {
			return err
		}
		large, small, values := 0, 0, 0
		for k := range x {
			switch {
			case x[k] == 0 || math.IsInf(x[k], 0) || math.IsNaN(x[k]):
				continue
			case math.IsInf(y[k], 0):
				large++
			case y[k] == 0:
				small++
			}
			values++
		}
		if large > 0 || small > values/100 {
			c.log.Warnf("%s: of %d values %d are too large for %v and %d too small", printable(v.Name), values, large, v.Type, small)
		}
	}
	return nil
}

// A line is a point and a direction in the inputs of a gradient model.
type line struct {
	of        string // the output that is differentiated
	program   *refeval.Program
	in        []*graphs.Tensor
	direction map[string][]float64 // of the inputs that have a slope
}

// agrees compares a slope with differences over shorter and shorter distances, of
// which the last cross the fewest kinks of a piecewise linear network. It returns
// the difference that agrees, and the size that errors are measured by.
func (l line) agrees(ctx context.Context, slope, scale float64) (want, size float64, err error) {
	for _, h := range []float64{1e-5, 1e-6, 1e-7} { // where rounding is about 1e-9 of the output's size
		var terms float64
		if want, terms, err = l.difference(ctx, h); err != nil {
			return 0, 0, err
		}
		size = max(scale, math.Abs(want), leastSlope*terms)
		if math.Abs(slope-want) <= exactTolerance*size {
			return want, size, nil
		}
	}
	return 0, 0, fmt.Errorf("the slope along a random direction is %.6g by the gradient and %.6g by a finite difference; "+
		"a kink at the random input can do this: try another --seed", slope, want)
}

// difference is the central difference along the line of Σ c·y, and the size of
// that sum's terms.
func (l line) difference(ctx context.Context, h float64) (slope, size float64, err error) {
	up, size, err := l.value(ctx, h)
	if err != nil {
		return 0, 0, err
	}
	down, _, err := l.value(ctx, -h)
	return (up - down) / (2 * h), size, err
}

// value is Σ c·y at the distance h from the point, and Σ |c·y|.
func (l line) value(ctx context.Context, h float64) (sum, size float64, err error) {
	moved := slices.Clone(l.in)
	var cotangent []float64
	for i, v := range l.program.Inputs() {
		x, err := l.in[i].AsFloats()
		if err != nil {
			return 0, 0, fmt.Errorf("input %s: %w", v.Name, err)
		}
		if v.Name == autodiff.CotangentPrefix+l.of {
			cotangent = x
		}
		if d := l.direction[v.Name]; d != nil {
			z := make([]float64, len(x))
			for k := range z {
				z[k] = x[k] + h*d[k]
			}
			moved[i] = graphs.Of(z, l.in[i].Dims...)
		}
	}
	out, err := l.program.Run(ctx, moved)
	if err != nil {
		return 0, 0, err
	}
	for i, v := range l.program.Outputs() {
		if v.Name != l.of {
			continue
		}
		y, err := out[i].AsFloats()
		if err != nil {
			return 0, 0, err
		}
		for k := range y {
			if cotangent != nil {
				y[k] *= cotangent[k]
			}
			sum += y[k]
			size += math.Abs(y[k])
		}
	}
	return sum, size, nil
}

// slope is the inner product of the slopes among a model's outputs with the
// direction, and the size that such a product typically has, to measure errors
// by.
func (l line) slope(out []*graphs.Tensor) (slope, scale float64, err error) {
	var norm, length, n float64
	for i, v := range l.program.Outputs() {
		name, ok := strings.CutPrefix(v.Name, autodiff.GradPrefix)
		d := l.direction[name]
		if !ok || d == nil {
			continue
		}
		s, err := out[i].AsFloats()
		if err != nil {
			return 0, 0, err
		}
		if len(s) != len(d) {
			return 0, 0, fmt.Errorf("output %s has %d values, its input %d", v.Name, len(s), len(d))
		}
		for k := range d {
			slope += s[k] * d[k]
			norm += s[k] * s[k]
			length += d[k] * d[k]
		}
		n += float64(len(d))
	}
	return slope, math.Sqrt(norm * length / max(n, 1)), nil
}

// randomInputs draws a tensor for each value: normals for float types, zeros for
// others, which are indices more often than not.
func randomInputs(values []*graphs.Value, r *rand.Rand) ([]*graphs.Tensor, error) {
	in := make([]*graphs.Tensor, len(values))
	for i, v := range values {
		if v.Shape == nil {
			return nil, fmt.Errorf("input %s is of unknown rank", v.Name)
		}
		sizes := make([]int64, len(v.Shape))
		for k, d := range v.Shape {
			if sizes[k] = freeSize; d.Known() {
				sizes[k] = d.N
			}
		}
		if err := graphs.CheckDims(sizes); err != nil {
			return nil, fmt.Errorf("input %s: %w", v.Name, err)
		}
		dims, n := make([]int, len(sizes)), 1
		for k, d := range sizes {
			dims[k] = int(d)
			n *= int(d)
		}
		if n > maxCheckValues {
			return nil, fmt.Errorf("input %s: %d values, wanted at most %d", v.Name, n, maxCheckValues)
		}
		in[i] = graphs.NewTensor(v.Type, dims...)
		if v.Type.IsFloat() {
			var err error
			if in[i], err = graphs.FromFloats(v.Type, normals(r, n), dims...); err != nil {
				return nil, fmt.Errorf("input %s: %w", v.Name, err)
			}
		}
	}
	return in, nil
}

func normals(r *rand.Rand, n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = r.NormFloat64()
	}
	return v
}
