package autodiff

import (
	"errors"
	"fmt"
	"strings"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
)

// Options say what to differentiate with respect to what. The zero value
// differentiates the sum of the only float output with respect to every float
// input.
type Options struct {
	Of             string   // output; "" means the only float output
	Wrt            []string // inputs (or weights by name); nil means every float input
	Params         bool     // also every float initializer that Of depends on, but bounds of Clip and scales of Resize
	ParamsAsInputs bool     // weights become graph inputs of the same names: those that Wrt names, all if it names none or with Params
	VJP            bool     // an input cotangent/<Of> weighs the output's elements

	// Recompute computes parts of the forward pass again on the way back instead
	// of keeping all of its values: the same numbers with less memory and more time.
	Recompute bool

	// StraightThrough lets slopes pass a QuantizeLinear followed by its
	// DequantizeLinear, whose true slope is 0, as if nothing had been rounded;
	// where the value saturates the slope is 0. Without it such nodes are refused.
	StraightThrough bool
}

// GradPrefix and CotangentPrefix name the outputs and the input that [Grad] adds.
const (
	GradPrefix      = "grad/"
	CotangentPrefix = "cotangent/"
)

// Prepare returns a copy of a model in the form that [Append] works on: opset
// 21, functions expanded, control flow of known extent unrolled, sequences of
// known length taken apart, constants folded, types and shapes inferred.
func Prepare(m *graphs.Model) (*graphs.Model, error) {
	m, sizes, err := prepare(m)
	if err == nil {
		sizes.Forget(m.Graph)
	}
	return m, err
}

// prepare is [Prepare], with names for sizes of which nothing is known.
func prepare(m *graphs.Model) (*graphs.Model, *passes.Sizes, error) {
	m, sizes := passes.Clone(m), &passes.Sizes{}
	fail := func(err error) (*graphs.Model, *passes.Sizes, error) { return nil, nil, err }
	if err := lowerNew(m); err != nil {
		return fail(fmt.Errorf("autodiff: %w", err))
	}
	if err := passes.Raise(m); err != nil {
		return fail(err)
	}
	if _, err := passes.InlineFunctions(m); err != nil {
		return fail(err)
	}
	// What is folded makes more shapes known, and what is unrolled more constants.
	budget := maxUnrolled
	for range 8 {
		before := shapesKnown(m.Graph)
		if err := passes.Reinfer(m.Graph); err != nil {
			return fail(fmt.Errorf("autodiff: %w", err))
		}
		if err := sizes.Name(m.Graph); err != nil {
			return fail(fmt.Errorf("autodiff: %w", err))
		}
		if err := Tidy(m.Graph); err != nil {
			return fail(err)
		}
		unrolled, err := unroll(m.Graph, &budget)
		if err != nil {
			return fail(err)
		}
		listed, err := spellSequences(m.Graph)
		if err != nil {
			return fail(err)
		}
		if !unrolled && !listed && shapesKnown(m.Graph) == before {
			break
		}
	}
	return m, sizes, nil
}

// shapesKnown sums up how much is known about the values of a graph: the number
// of nodes, and of axes with a size.
func shapesKnown(g *graphs.Graph) [2]int {
	k := [2]int{len(g.Nodes)}
	for _, n := range g.Nodes {
		for _, o := range n.Outputs {
			if o == nil || o.Shape == nil {
				continue
			}
			k[1]++
			for _, d := range o.Shape {
				if d.Known() {
					k[1]++
				}
			}
		}
	}
	return k
}

// Tidy removes what is dead, double or constant. Names at the graph's edge stay.
func Tidy(g *graphs.Graph) error {
	for range 4 {
		changed := false
		for _, pass := range []func(*graphs.Graph) (bool, error){passes.FoldConstants, passes.Simplify, passes.Settle, absorbExpands, passes.OneRow, passes.CSE, passes.Moves, passes.Prune} {
			c, err := pass(g)
			if err != nil {
				return err
			}
			changed = changed || c
		}
		if !changed {
			break
		}
	}
	return nil
}

// Grad returns a model with the inputs and outputs of m, in order, under their
// own names, and after them one output grad/<name> for each requested input,
// then one for each weight. In the gradient of a gradient, where grad/<name> is
// an output of m, the new one is grad/grad/<name>. The model is a graph of standard opset-21 ops; m
// itself is not changed.
func Grad(m *graphs.Model, o Options) (*graphs.Model, error) {
	m, sizes, err := prepare(m)
	if err != nil {
		return nil, err
	}
	g := m.Graph
	if o.StraightThrough {
		if _, err := unquantize(g); err != nil {
			return nil, err
		}
	}
	of, err := target(g, o.Of)
	if err != nil {
		return nil, err
	}
	wrt, err := sources(g, o, of)
	if err != nil {
		return nil, err
	}
	name := of.Name
	inputs := g.Inputs
	if o.ParamsAsInputs {
		var named []string
		for _, v := range wrt {
			if v.Const != nil && !o.Params && g.Input(v.Name) == nil {
				named = append(named, v.Name)
			}
		}
		if _, err := passes.WeightsToInputs(g, named...); err != nil {
			return nil, err
		}
	}
	b := graphs.NewBuilder(g)
	var seed *graphs.Value
	if o.VJP {
		seed = b.Input(CotangentPrefix+name, of.Type, of.Shape)
		// the cotangent follows the model's own inputs, before the weights
		weights := append([]*graphs.Value{}, g.Inputs[len(inputs):len(g.Inputs)-1]...)
		g.Inputs = append(append(inputs[:len(inputs):len(inputs)], seed), weights...)
	}
	slopes, err := appendSlopes(b, of, seed, wrt, o.Recompute)
	if at := (*graphs.NodeError)(nil); o.StraightThrough && errors.Is(err, errQuantized) && errors.As(err, &at) {
		at.Err = fmt.Errorf("%w: what it quantizes is not dequantized before it is computed with; quantize the model in the QDQ format", ErrNoRule)
		return nil, fmt.Errorf("autodiff: d %s/d %s: %w", of.Name, wrt[0].Name, at)
	}
	if err != nil {
		return nil, err
	}
	for i, v := range wrt {
		d := slopes[i]
		if d == nil {
			if v.From == nil && !o.Params && len(wrt) == 1 {
				return nil, fmt.Errorf("autodiff: %s does not depend on %s", name, v.Name)
			}
			d = b.Zeros(v)
		}
		out := GradPrefix + v.Name
		for g.Output(out) != nil { // m is a gradient itself
			out = GradPrefix + out
		}
		d = b.Output(out, d)
		if b.Err() == nil {
			d.Shape = v.Shape
		}
	}
	if _, err := b.Graph(); err != nil {
		return nil, err
	}
	if err := Tidy(g); err != nil {
		return nil, err
	}
	sizes.Forget(g)
	if err := graphs.Check(g); err != nil {
		return nil, err
	}
	return m, nil
}

func target(g *graphs.Graph, name string) (*graphs.Value, error) {
	if name != "" {
		if v := g.Output(name); v != nil {
			if !v.Type.IsFloat() {
				return nil, fmt.Errorf("autodiff: output %s is not of a float type", v)
			}
			return v, nil
		}
		return nil, fmt.Errorf("autodiff: no output %q; the model has %s", name, names(g.Outputs))
	}
	var found *graphs.Value
	for _, v := range g.Outputs {
		if !v.Type.IsFloat() {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("autodiff: the model has several float outputs (%s): choose one, Of (--of NAME)", names(g.Outputs))
		}
		found = v
	}
	if found == nil {
		if len(g.Outputs) == 0 {
			return nil, errors.New("autodiff: the model has no output")
		}
		return nil, fmt.Errorf("autodiff: the model has no float output (%s)", names(g.Outputs))
	}
	return found, nil
}

func sources(g *graphs.Graph, o Options, of *graphs.Value) ([]*graphs.Value, error) {
	inits := map[string]*graphs.Value{}
	for _, v := range g.Inits {
		inits[v.Name] = v
	}
	var wrt []*graphs.Value
	for _, name := range o.Wrt {
		v := g.Input(name)
		if v == nil {
			v = inits[name]
		}
		switch {
		case v == nil:
			return nil, fmt.Errorf("autodiff: no input or weight %q; the inputs are %s", name, names(g.Inputs))
		case !v.Type.IsFloat():
			return nil, fmt.Errorf("autodiff: %s is not of a float type", v)
		}
		wrt = append(wrt, v)
	}
	if o.Wrt == nil {
		for _, v := range g.Inputs {
			if v.Type.IsFloat() && inits[v.Name] == nil {
				wrt = append(wrt, v)
			}
		}
	}
	if o.Params {
		needed, free := ancestors(g, of), parameters(g)
		for _, v := range passes.Weights(g) {
			if needed[v] && free[v] {
				wrt = append(wrt, v)
			}
		}
	}
	if len(wrt) == 0 {
		return nil, fmt.Errorf("autodiff: nothing to differentiate with respect to: the inputs are %s", names(g.Inputs))
	}
	return wrt, nil
}

func names(vs []*graphs.Value) string {
	s := make([]string, len(vs))
	for i, v := range vs {
		s[i] = v.String()
	}
	return strings.Join(s, ", ")
}

// parameters is the set of values that some node reads as more than a setting or
// a bound of Clip: the 6 of a ReLU6 is not to be learned.
func parameters(g *graphs.Graph) map[*graphs.Value]bool {
	set := map[*graphs.Value]bool{}
	for _, n := range g.Nodes {
		for i, v := range n.Inputs {
			if !setting(n, i) && !(n.Op == "Clip" && i > 0) {
				set[v] = true
			}
		}
		for _, v := range captured(n) {
			set[v] = true
		}
	}
	for _, v := range g.Outputs {
		set[v] = true
	}
	return set
}

// broadcasting lists the ops whose operands broadcast.
var broadcasting = map[string]bool{"Add": true, "Sub": true, "Mul": true, "Div": true, "Pow": true, "Where": true}

// absorbExpands lets ops that broadcast read what an Expand reads, where the
// result has the same shape without it.
func absorbExpands(g *graphs.Graph) (changed bool, err error) {
	for _, n := range g.Nodes {
		if !broadcasting[n.Op] || n.Domain != "" || n.Out(0) == nil {
			continue
		}
		for i, v := range n.Inputs {
			if v == nil || v.From == nil || v.From.Op != "Expand" || v.From.Domain != "" {
				continue
			}
			shapes := make([]graphs.Shape, len(n.Inputs))
			for j, w := range n.Inputs {
				shapes[j] = w.Shape
			}
			x := v.From.Inputs[0]
			shapes[i] = x.Shape
			s, err := graphs.Broadcast(shapes...)
			if err == nil && s.Same(n.Out(0).Shape) {
				n.Inputs[i], changed = x, true
			}
		}
	}
	return changed, nil
}
