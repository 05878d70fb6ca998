package graphtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/refeval"
)

// GradPrefix and CotangentPrefix name, in a gradient graph, the slope with
// respect to an input and the weights of the elements of an output.
const (
	GradPrefix      = "grad/"
	CotangentPrefix = "cotangent/"
)

// GradOptions say how to check a gradient. The zero value is fine for smooth
// functions of inputs of size about 1.
type GradOptions struct {
	Of    string   // output that was differentiated; "" means the only float output
	Wrt   []string // inputs that must have a slope; nil takes those that have one
	Seeds int      // random directions per input, 0 for 3
	Step  float64  // size of the difference, 0 for 1e-5
	Tol   float64  // relative tolerance, 0 for 1e-5
	Opset int64    // of both graphs, 0 for graphs.OpsetVersion
	Kinks bool     // leave out directions in which a step to either side gives another slope
}

// CheckGrad fails the test if [GradError] finds a fault.
func CheckGrad(t testing.TB, forward, gradient *graphs.Graph, in []*graphs.Tensor, o GradOptions) {
	t.Helper()
	if err := GradError(forward, gradient, in, o); err != nil {
		t.Errorf("gradient of %s: %v", forward.Name, err)
	}
}

// GradError compares a gradient graph with its forward graph at the given
// inputs of the latter (positional, without those that have a default). The
// gradient graph takes the same inputs by name and may take cotangent/<of>; its
// outputs are those of the forward graph, which must agree, and grad/<input>.
//
// For each of these inputs and random directions v, ⟨grad, v⟩ must equal the
// central difference of ⟨cotangent, of⟩ along v. All floats are float64,
// whatever the graphs declare. A cotangent that the gradient graph does not take
// is all ones.
func GradError(forward, gradient *graphs.Graph, in []*graphs.Tensor, o GradOptions) error {
	c, err := newChecker(forward, gradient, in, &o)
	if err != nil {
		return err
	}
	var faults []error
	for i, v := range c.fwd.Inputs() {
		slope := c.slopes[v.Name]
		if slope == nil {
			continue
		}
		for seed := range o.Seeds {
			if err := c.along(i, slope, uint64(seed), o); err != nil {
				faults = append(faults, fmt.Errorf("with respect to %s: %w", v.Name, err))
				break
			}
		}
	}
	return errors.Join(faults...)
}

type checker struct {
	fwd       *refeval.Program
	in        []*graphs.Tensor // of fwd, floats as float64
	of        int              // output index
	cotangent []float64
	total     float64 // Σ cotangent·of
	size      float64 // Σ |cotangent·of|, what rounding errors are relative to
	slopes    map[string][]float64
}

func newChecker(forward, gradient *graphs.Graph, in []*graphs.Tensor, o *GradOptions) (*checker, error) {
	if o.Seeds == 0 {
		o.Seeds = 3
	}
	if o.Step == 0 {
		o.Step = 1e-5
	}
	if o.Tol == 0 {
		o.Tol = 1e-5
	}
	if o.Opset == 0 {
		o.Opset = graphs.OpsetVersion
	}
	fwd, err := refeval.New(forward, o.Opset, refeval.Options{})
	if err != nil {
		return nil, err
	}
	bwd, err := refeval.New(gradient, o.Opset, refeval.Options{})
	if err != nil {
		return nil, err
	}
	if len(in) != len(fwd.Inputs()) {
		return nil, fmt.Errorf("wanted %d inputs, got %d", len(fwd.Inputs()), len(in))
	}
	c := &checker{fwd: fwd, of: -1, slopes: map[string][]float64{}}
	byName := map[string]*graphs.Tensor{}
	for i, x := range in {
		if x.Type.IsFloat() {
			v, err := x.AsFloats()
			if err != nil {
				return nil, err
			}
			x = graphs.Of(v, x.Dims...)
		}
		c.in = append(c.in, x)
		byName[fwd.Inputs()[i].Name] = x
	}
	out, err := fwd.Run(context.Background(), c.in)
	if err != nil {
		return nil, err
	}
	for i, v := range fwd.Outputs() {
		if v.Name == o.Of || o.Of == "" && out[i].Type.IsFloat() {
			if c.of >= 0 {
				return nil, fmt.Errorf("several float outputs: Of must name one")
			}
			c.of = i
		}
	}
	if c.of < 0 || out[c.of].F64() == nil {
		return nil, fmt.Errorf("no float output %q", o.Of)
	}
	y, r := out[c.of], rand.New(rand.NewPCG(7, 7))
	c.cotangent = make([]float64, y.Len())
	name := CotangentPrefix + fwd.Outputs()[c.of].Name
	for i := range c.cotangent {
		c.cotangent[i] = 1
		if gradient.Input(name) != nil {
			c.cotangent[i] = r.NormFloat64()
		}
		c.total += c.cotangent[i] * y.F64()[i]
		c.size += math.Abs(c.cotangent[i] * y.F64()[i])
	}
	byName[name] = graphs.Of(c.cotangent, y.Dims...)
	return c, c.gradient(bwd, byName, out, o.Wrt)
}

// gradient runs the gradient graph and keeps its slopes.
func (c *checker) gradient(bwd *refeval.Program, byName map[string]*graphs.Tensor, out []*graphs.Tensor, wrt []string) error {
	var in []*graphs.Tensor
	for _, v := range bwd.Inputs() {
		x := byName[v.Name]
		if x == nil {
			return fmt.Errorf("the gradient graph has an input %s that the forward graph lacks", v)
		}
		in = append(in, x)
	}
	got, err := bwd.Run(context.Background(), in)
	if err != nil {
		return fmt.Errorf("the gradient graph: %w", err)
	}
	results := map[string]*graphs.Tensor{}
	for i, v := range bwd.Outputs() {
		results[v.Name] = got[i]
		name, slope := strings.CutPrefix(v.Name, GradPrefix)
		for slope && byName[name] == nil && strings.HasPrefix(name, GradPrefix) { // the forward graph is a gradient itself
			name = name[len(GradPrefix):]
		}
		x := byName[name]
		if !slope || x == nil || slices.ContainsFunc(c.fwd.Outputs(), func(o *graphs.Value) bool { return o.Name == v.Name }) {
			continue
		}
		if fmt.Sprint(x.Dims) != fmt.Sprint(got[i].Dims) || got[i].F64() == nil {
			return fmt.Errorf("output %q is %v%v, wanted floats of dimensions %v", v.Name, got[i].Type, got[i].Dims, x.Dims)
		}
		for j, e := range got[i].F64() {
			if math.IsNaN(e) || math.IsInf(e, 0) {
				return fmt.Errorf("element %d of %q is %v", j, v.Name, e)
			}
		}
		c.slopes[name] = got[i].F64()
	}
	for _, name := range wrt {
		if c.slopes[name] == nil {
			return fmt.Errorf("the gradient graph has no output %q", GradPrefix+name)
		}
	}
	if len(c.slopes) == 0 {
		return fmt.Errorf("the gradient graph has no output %s<input>", GradPrefix)
	}
	for i, v := range c.fwd.Outputs() {
		r := results[v.Name]
		if r == nil {
			continue
		}
		a, errA := out[i].AsFloats()
		b, errB := r.AsFloats()
		if errA != nil || errB != nil || len(a) != len(b) {
			return fmt.Errorf("output %q differs between the graphs: %v%v, %v%v", v.Name, out[i].Type, out[i].Dims, r.Type, r.Dims)
		}
		for j := range a {
			if !(math.Abs(a[j]-b[j]) <= 1e-9*(1+math.Abs(a[j]))) {
				return fmt.Errorf("output %q differs between the graphs at element %d: %v, %v", v.Name, j, a[j], b[j])
			}
		}
	}
	return nil
}

// along compares along a random direction of input i.
func (c *checker) along(i int, slope []float64, seed uint64, o GradOptions) error {
	x := c.in[i].F64()
	r := rand.New(rand.NewPCG(seed, uint64(len(x))))
	v := make([]float64, len(x))
	dot, scale := 0.0, 0.0
	for k := range v {
		v[k] = r.NormFloat64()
		dot += slope[k] * v[k]
		scale += slope[k] * v[k] * slope[k] * v[k]
	}
	var f [2]float64
	for side, h := range []float64{-o.Step, o.Step} {
		moved := make([]float64, len(x))
		for k := range moved {
			moved[k] = x[k] + h*v[k]
		}
		in := append([]*graphs.Tensor{}, c.in...)
		in[i] = graphs.Of(moved, c.in[i].Dims...)
		out, err := c.fwd.Run(context.Background(), in)
		if err != nil {
			return err
		}
		y := out[c.of].F64()
		if len(y) != len(c.cotangent) {
			return fmt.Errorf("the output changed size from %d to %d", len(c.cotangent), len(y))
		}
		for k, e := range y {
			f[side] += c.cotangent[k] * e
		}
	}
	diff := (f[1] - f[0]) / (2 * o.Step)
	// Rounding of the two sums, divided by the step, adds to the tolerance.
	bound := o.Tol*max(math.Abs(dot), math.Abs(diff), math.Sqrt(scale)) + 1e-14*(1+c.size)/o.Step
	if !(math.Abs(dot-diff) <= bound) {
		if o.Kinks && math.Abs(f[0]+f[1]-2*c.total) > o.Step*math.Abs(dot-diff)/2 {
			return nil
		}
		return fmt.Errorf("along direction %d: slope %.9g, central difference %.9g (they differ by %.3g, allowed %.3g)", seed, dot, diff, dot-diff, bound)
	}
	return nil
}
