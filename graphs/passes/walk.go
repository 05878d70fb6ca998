package passes

import (
	"fmt"
	"slices"

	"ebmrun/graphs"
)

// subgraphs lists the graphs held in a node's attributes.
func subgraphs(n *graphs.Node) []*graphs.Graph {
	var out []*graphs.Graph
	for _, a := range n.Attrs {
		if a.G != nil {
			out = append(out, a.G)
		}
		out = append(out, a.Graphs...)
	}
	return out
}

// each calls f for g and every graph nested in it, outermost first.
func each(g *graphs.Graph, f func(*graphs.Graph) error) error {
	if err := f(g); err != nil {
		return err
	}
	for _, n := range g.Nodes {
		for _, s := range subgraphs(n) {
			if err := each(s, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// definitions lists the values defined in g itself, each once: inputs,
// initializers, then node outputs.
func definitions(g *graphs.Graph) []*graphs.Value {
	var out []*graphs.Value
	inputs := map[*graphs.Value]bool{}
	for _, v := range g.Inputs {
		inputs[v] = true
		out = append(out, v)
	}
	for _, v := range g.Inits {
		if !inputs[v] {
			out = append(out, v)
		}
	}
	for _, n := range g.Nodes {
		for _, v := range n.Outputs {
			if v != nil {
				out = append(out, v)
			}
		}
	}
	return out
}

// reads calls f for every value that the node reads, those that its subgraphs
// take from outside included.
func reads(n *graphs.Node, f func(*graphs.Value)) {
	for _, v := range n.Inputs {
		if v != nil {
			f(v)
		}
	}
	for _, s := range subgraphs(n) {
		for _, m := range s.Nodes {
			reads(m, f)
		}
		for _, v := range s.Outputs {
			f(v)
		}
	}
}

// redirect replaces the values that a node reads, in its subgraphs too.
func redirect(n *graphs.Node, to func(*graphs.Value) *graphs.Value) {
	for i, v := range n.Inputs {
		if v != nil {
			n.Inputs[i] = to(v)
		}
	}
	for _, s := range subgraphs(n) {
		for _, m := range s.Nodes {
			redirect(m, to)
		}
		for i, v := range s.Outputs {
			s.Outputs[i] = to(v)
		}
	}
}

// forgetNames makes g collect its names anew when the next one is handed out.
func forgetNames(g *graphs.Graph) {
	*g = graphs.Graph{
		Name: g.Name, Doc: g.Doc, Nodes: g.Nodes, Inputs: g.Inputs, Outputs: g.Outputs,
		Inits: g.Inits, Metadata: g.Metadata, Wire: g.Wire,
	}
}

// Reinfer works out the types and shapes of all values again, at the opset this
// module works with; structural passes call it where shapes may have changed.
// Subgraphs keep the types they were read with: those of their inputs come from
// the op that holds them.
func Reinfer(g *graphs.Graph) error {
	if err := graphs.InferAll(g, graphs.OpsetVersion); err != nil {
		return fmt.Errorf("passes: %w", err)
	}
	return nil
}

// inferNode infers one node and keeps what was declared where inference says
// less. An op outside the table keeps its declared types.
func inferNode(n *graphs.Node, opset int64) error {
	return graphs.InferAll(&graphs.Graph{Nodes: []*graphs.Node{n}}, opset)
}

// inferInits notes the content of initializers for shape inference.
func inferInits(inits ...*graphs.Value) error {
	return graphs.InferAll(&graphs.Graph{Inits: inits}, graphs.OpsetVersion)
}

// deterministic reports whether a standard op gives equal results for equal
// inputs, holds no subgraph and does not train.
func deterministic(n *graphs.Node) bool {
	if n.Domain != "" && n.Domain != "ai.onnx" || len(subgraphs(n)) > 0 {
		return false
	}
	switch n.Op {
	case "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial":
		return false
	case "BatchNormalization":
		return n.Int("training_mode", 0) == 0
	case "Dropout":
		return !training(n)
	}
	return true
}

// training reports whether a Dropout node may drop anything.
func training(n *graphs.Node) bool {
	mode := n.In(2)
	if mode == nil {
		return false
	}
	if mode.Const != nil {
		if v, err := mode.Const.AsInts(); err == nil {
			return slices.ContainsFunc(v, func(x int64) bool { return x != 0 })
		}
	}
	return true
}
