package passes

import (
	"fmt"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/refeval"
)

// An Evaluator computes one node's outputs from its inputs; nil stands for an
// omitted one of either.
type Evaluator func(n *graphs.Node, in []*graphs.Tensor) ([]*graphs.Tensor, error)

// maxFolded bounds the bytes of a folded result that is larger than what it is
// computed from.
const maxFolded = 64 << 10

// Fold replaces by constants: Constant nodes, shape computations whose content
// is known from the shapes, and nodes that read constants only, evaluated by
// eval (nil for none of the last kind). The constants get names with a part
// "const", so they are not taken for weights.
//
// Weights (see [IsWeight]) and inputs with a default are not constants here.
// Kept as they are: nodes that make a graph output, ops that are random, train
// or have subgraphs, ops that eval refuses, and results of a size that is not
// known or larger than both 64 KiB and the operands together, and convolutions,
// poolings and Einsum, whose work those sizes do not bound. Values must have
// their types and shapes, as after [Reinfer]. Subgraphs are folded too.
func Fold(g *graphs.Graph, eval Evaluator) (changed bool, err error) {
	f := &folder{eval: eval, root: g}
	if err := f.graph(g); err != nil {
		return f.changed, fmt.Errorf("passes: fold: %w", err)
	}
	if f.changed {
		_, err = Prune(g)
	}
	return f.changed, err
}

// FoldConstants is [Fold] with the reference evaluator.
func FoldConstants(g *graphs.Graph) (changed bool, err error) {
	return Fold(g, reference)
}

// reference evaluates a node in plain Go.
func reference(n *graphs.Node, in []*graphs.Tensor) ([]*graphs.Tensor, error) {
	return refeval.Eval(n, graphs.OpsetVersion, in)
}

type folder struct {
	eval    Evaluator
	root    *graphs.Graph
	inputs  []*graphs.Value // of this graph and those around it: defaults do not count
	changed bool
}

func (f *folder) graph(g *graphs.Graph) error {
	outer := len(f.inputs)
	f.inputs = append(f.inputs, g.Inputs...)
	defer func() { f.inputs = f.inputs[:outer] }()
	nodes := g.Nodes[:0:0]
	for _, n := range g.Nodes {
		for _, s := range subgraphs(n) {
			if err := f.graph(s); err != nil {
				return err
			}
		}
		if slices.ContainsFunc(n.Outputs, func(v *graphs.Value) bool { return slices.Contains(g.Outputs, v) }) {
			nodes = append(nodes, n)
			continue
		}
		results, err := f.node(n)
		if err != nil {
			return &graphs.NodeError{Node: n, Err: err}
		}
		if results == nil {
			nodes = append(nodes, n)
			continue
		}
		f.changed = true
		for i, v := range n.Outputs {
			if v == nil {
				continue
			}
			if err := f.constant(g, v, results[i]); err != nil {
				return err
			}
		}
	}
	g.Nodes = nodes
	return nil
}

// constant makes a computed value an initializer of g.
func (f *folder) constant(g *graphs.Graph, v *graphs.Value, t *graphs.Tensor) error {
	v.From, v.Const, v.Type, v.Shape = nil, t, t.Type, graphs.MakeShape(t.Dims...)
	if !isConstName(v.Name) {
		v.Name = f.root.Fresh("const/" + v.Name)
	}
	if err := inferInits(v); err != nil {
		return err
	}
	g.Inits = append(g.Inits, v)
	return nil
}

// node returns the constants that n's outputs are, nil if they are not known.
func (f *folder) node(n *graphs.Node) ([]*graphs.Tensor, error) {
	if !deterministic(n) || len(n.Outputs) == 0 {
		return nil, nil
	}
	if n.Op == "Constant" {
		t, err := graphs.ConstantTensor(n)
		if err != nil {
			return nil, nil // sparse
		}
		return []*graphs.Tensor{t}, nil
	}
	if len(n.Outputs) == 1 {
		if t := knownContent(n.Outputs[0]); t != nil {
			return []*graphs.Tensor{t}, nil
		}
	}
	if f.eval == nil || !graphs.Known(n) || len(n.Inputs) == 0 {
		return nil, nil
	}
	switch n.Op {
	case "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "Einsum":
		return nil, nil
	}
	in := make([]*graphs.Tensor, len(n.Inputs))
	size := 0
	for i, v := range n.Inputs {
		if v == nil {
			continue
		}
		if v.Const == nil || IsWeight(v) || slices.Contains(f.inputs, v) {
			return nil, nil
		}
		in[i] = v.Const
		size += bytes(v.Const.Type, v.Const.Len())
	}
	for _, v := range n.Outputs {
		if v == nil {
			continue
		}
		if !v.Shape.Known() || graphs.CheckDims(dims(v.Shape)) != nil {
			return nil, nil
		}
		if b := bytes(v.Type, graphs.Size(v.Shape.Ints())); b > maxFolded && b > size {
			return nil, nil
		}
	}
	out, err := f.eval(n, in)
	if err != nil {
		return nil, nil // what the reference cannot compute stays for the engine
	}
	if len(out) < len(n.Outputs) {
		return nil, fmt.Errorf("evaluation: wanted %d outputs, got %d", len(n.Outputs), len(out))
	}
	for i, v := range n.Outputs {
		switch {
		case v == nil:
		case out[i] == nil:
			return nil, fmt.Errorf("evaluation: output %d is missing", i)
		case out[i].Type != v.Type || !graphs.MakeShape(out[i].Dims...).Same(v.Shape):
			return nil, fmt.Errorf("evaluation: wanted %s, got %v%v", v, out[i].Type, out[i].Dims)
		}
	}
	return out, nil
}

// knownContent is the constant that a shape computation amounts to, nil if some
// of it is known only at run time.
func knownContent(v *graphs.Value) *graphs.Tensor {
	if v == nil || v.Content == nil || !v.Shape.Known() || len(v.Shape) > 1 ||
		graphs.Size(v.Shape.Ints()) != len(v.Content) || v.Type != graphs.Int64 && v.Type != graphs.Int32 {
		return nil
	}
	content := make([]float64, len(v.Content)) // exact: sizes stay far below 2⁵³
	for i, d := range v.Content {
		if !d.Known() {
			return nil
		}
		content[i] = float64(d.N)
	}
	t, err := graphs.FromFloats(v.Type, content, v.Shape.Ints()...)
	if err != nil {
		return nil
	}
	return t
}

func dims(s graphs.Shape) []int64 {
	out := make([]int64, len(s))
	for i, d := range s {
		out[i] = d.N
	}
	return out
}

// bytes is the size of n elements; an element of unknown width counts as eight.
func bytes(t graphs.DType, n int) int {
	if t.Bits() == 0 {
		return 8 * n
	}
	return (n*t.Bits() + 7) / 8
}
