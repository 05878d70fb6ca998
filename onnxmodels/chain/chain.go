// Package chain turns an energy graph into Langevin chains as graphs.
//
// [Unroll] repeats one step k times in one graph; [Sampler] puts the same step
// into a Loop over the first axis of the noise, so that k is free. Both take
// their noise as an input of standard normals [k, batch, …] and so follow the
// step-by-step sampler number by number, up to rounding. What an energy is given besides x, such
// as a condition, is an input of the chain too, of the same name, the same in all steps.
package chain

import (
	"fmt"
	"maps"
	"strconv"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
)

// Names of the values at the edge of a chain graph.
const (
	X0    = "x0"    // input: start [batch, …]
	Noise = "noise" // input: standard normals [k, batch, …]
	// X is the output: the chains after k steps [batch, …].
	X = onnxmodels.X
	// Energy [batch] is U where the last step started.
	Energy = onnxmodels.Energy
	// Slope [batch] is ‖∂U/∂x‖ (clipped) where the last step started.
	Slope = "slope"
)

// A Step is one Langevin step,
//
//	x ← clamp(x − (Size²/2)·clip(∂U/∂x, ±GradClip) + Noise·Size·ε).
type Step struct {
	Size, Noise        float64
	GradClip           float64 // 0 is off
	ClampMin, ClampMax float64 // both 0 is off
}

// Gradient is the model x → energy, score, grad/x.
func Gradient(m *onnxmodels.Model) (*graphs.Model, error) {
	return autodiff.Grad(m.Model, autodiff.Options{Of: onnxmodels.Energy, Wrt: []string{onnxmodels.X}})
}

// field is the graph x → energy, grad/x that a step evaluates.
func field(m *onnxmodels.Model) (*graphs.Graph, error) {
	grad, err := Gradient(m)
	if err != nil {
		return nil, err
	}
	if err := passes.CutAt(grad.Graph, onnxmodels.Energy, onnxmodels.GradX); err != nil {
		return nil, err
	}
	return grad.Graph, nil
}

// append adds one step to b and returns the moved x, the energy where it
// started and the slope it followed.
func (s Step) append(b *graphs.Builder, field *graphs.Graph, given map[string]*graphs.Value, x, noise *graphs.Value, prefix string) (moved, energy, slope *graphs.Value, err error) {
	out, err := passes.Inline(b, field, At(given, x), prefix)
	if err != nil {
		return nil, nil, nil, err
	}
	defer b.Prefix(b.Prefix(prefix + "/langevin"))
	g := out[onnxmodels.GradX]
	if s.GradClip > 0 {
		g = b.Op("Clip", []*graphs.Value{g, b.Scalar(g, -s.GradClip), b.Scalar(g, s.GradClip)})
	}
	moved = b.Sub(x, b.Scale(g, s.Size*s.Size/2))
	if kick := s.Noise * s.Size; kick != 0 {
		moved = b.Add(moved, b.Scale(noise, kick))
	}
	if s.ClampMin != 0 || s.ClampMax != 0 {
		moved = b.Op("Clip", []*graphs.Value{moved, b.Scalar(x, s.ClampMin), b.Scalar(x, s.ClampMax)})
	}
	return moved, out[onnxmodels.Energy], g, b.Err()
}

// start adds the inputs of a chain graph for m, and what m is given besides x.
func start(m *onnxmodels.Model, k graphs.Dim) (b *graphs.Builder, x, noise *graphs.Value, given map[string]*graphs.Value) {
	b = graphs.NewBuilder(&graphs.Graph{Name: "sampler"})
	shape := append(graphs.Shape{onnxmodels.Batch}, graphs.MakeShape(m.Dims...)...)
	x = b.Input(X0, graphs.Float32, shape)
	noise = b.Input(Noise, graphs.Float32, append(graphs.Shape{k}, shape...))
	given = map[string]*graphs.Value{}
	for _, v := range m.Graph.Inputs {
		if v.Name != onnxmodels.X {
			given[v.Name] = b.Input(v.Name, v.Type, v.Shape)
		}
	}
	return b, x, noise, given
}

// At is what an energy's graph reads at x.
func At(given map[string]*graphs.Value, x *graphs.Value) map[string]*graphs.Value {
	all := maps.Clone(given)
	all[onnxmodels.X] = x
	return all
}

// Unroll returns the model x0, noise [k, batch, …] → x, energy, slope of k
// steps, k ≥ 1, with the weights of m as initializers.
func Unroll(m *onnxmodels.Model, s Step, k int) (*graphs.Model, error) {
	if k < 1 {
		return nil, fmt.Errorf("chain: %d steps", k)
	}
	f, err := field(m)
	if err != nil {
		return nil, err
	}
	b, x, noise, given := start(m, graphs.D(k))
	var u, g *graphs.Value
	for t := range k {
		eps := noise
		if s.Noise != 0 {
			eps = b.Gather(noise, b.Const(graphs.Of([]int64{int64(t)})), 0)
		}
		if x, u, g, err = s.append(b, f, given, x, eps, "step"+strconv.Itoa(t)); err != nil {
			return nil, fmt.Errorf("chain: %w", err)
		}
		if t < k-1 {
			x.Name = b.Target().Fresh(After(t))
		}
	}
	b.Output(X, x)
	b.Output(Energy, u)
	axes := make([]int64, len(m.Dims))
	for i := range axes {
		axes[i] = int64(i + 1)
	}
	b.Output(Slope, b.Sqrt(b.Sum(b.Mul(g, g), false, axes...)))
	return finish(b, s)
}

// After is the name of x after step t = 0, 1, … of an unrolled chain, but for the last.
func After(t int) string { return fmt.Sprintf("step%d/x", t) }

// Sampler returns the model x0, noise [k, batch, …] → x, energy for any k ≥ 0:
// the step in a Loop. Energy is that of the returned x.
func Sampler(m *onnxmodels.Model, s Step) (*graphs.Model, error) {
	f, err := field(m)
	if err != nil {
		return nil, err
	}
	b, x0, noise, given := start(m, graphs.Sym("k"))
	g := b.Target()

	body := &graphs.Graph{Name: "langevin_step"}
	bb := graphs.NewBuilder(body)
	iter := bb.Input("iter", graphs.Int64, graphs.Shape{})
	cond := bb.Input("cond_in", graphs.Bool, graphs.Shape{})
	x := bb.Input("x_in", graphs.Float32, x0.Shape)
	x, _, _, err = s.append(bb, f, given, x, bb.Gather(noise, iter, 0), "step")
	if err != nil {
		return nil, fmt.Errorf("chain: %w", err)
	}
	bb.Output("cond_out", bb.Identity(cond))
	bb.Output("x_out", x)
	if err := bb.Err(); err != nil {
		return nil, fmt.Errorf("chain: %w", err)
	}
	// The body's weights move to the outer graph, where the last energy shares them.
	for _, v := range body.Inits {
		v.Name = g.Fresh(v.Name)
		g.Inits = append(g.Inits, v)
	}
	body.Inits = nil

	trips := b.Op("Squeeze", []*graphs.Value{b.Op("Shape", []*graphs.Value{noise}, graphs.I("start", 0), graphs.I("end", 1)), b.Ints(0)})
	n := &graphs.Node{Name: g.Fresh("langevin"), Op: "Loop", Inputs: []*graphs.Value{trips, nil, x0}, Attrs: []*graphs.Attr{graphs.G("body", body)}}
	moved := &graphs.Value{Name: g.Fresh("langevin/x"), Type: graphs.Float32, Shape: x0.Shape, From: n}
	n.Outputs = []*graphs.Value{moved}
	b.Append(n, graphs.OpsetVersion)

	last, err := passes.Inline(b, f, At(given, moved), "last")
	if err != nil {
		return nil, fmt.Errorf("chain: %w", err)
	}
	b.Output(X, moved)
	b.Output(Energy, last[onnxmodels.Energy])
	return finish(b, s)
}

func finish(b *graphs.Builder, s Step) (*graphs.Model, error) {
	g := b.Target()
	if b.Err() != nil {
		return nil, fmt.Errorf("chain: %w", b.Err())
	}
	for _, pass := range []func(*graphs.Graph) (bool, error){passes.CSE, passes.Prune} {
		if _, err := pass(g); err != nil {
			return nil, err
		}
	}
	if _, err := b.Graph(); err != nil {
		return nil, err
	}
	m := graphs.NewModel(g)
	s.Describe(m)
	return m, nil
}

// Describe writes the settings of the step into a model's metadata.
func (s Step) Describe(m *graphs.Model) {
	f := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	m.SetMeta("ebmrun.step", f(s.Size))
	m.SetMeta("ebmrun.noise", f(s.Noise))
	m.SetMeta("ebmrun.grad_clip", f(s.GradClip))
	m.SetMeta("ebmrun.clamp", f(s.ClampMin)+","+f(s.ClampMax))
}
