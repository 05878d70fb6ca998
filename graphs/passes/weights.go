package passes

import (
	"fmt"
	"slices"
	"strings"

	"ebmrun/graphs"
)

// IsWeight reports whether v is a parameter that learning may change: a float
// initializer that was not made as a constant of a formula. Those have a part
// "const" in their name, as [graphs.Builder.Const] and [Fold] give it: "const",
// "const_3", "step2/const/[0.5]". Passes that merge, fold or simplify constants
// leave weights alone, whatever their present content: two biases that start at
// zero are still two biases.
//
// A single number under a name that the exporter made up is a constant too: the
// 0.5 and the √2 of a Gelu or the scale of an attention, which PyTorch's exporter
// lifts out of the code as "val_12". Parameters keep the names of their modules,
// and matrices that it transposes are called so as well: those are weights.
func IsWeight(v *graphs.Value) bool {
	return v != nil && v.Const != nil && v.From == nil && v.Type.IsFloat() && !isConstName(v.Name) && !isLifted(v)
}

// isLifted reports whether an initializer is a number that PyTorch's exporter
// found in the code of a model.
func isLifted(v *graphs.Value) bool {
	n, ok := strings.CutPrefix(v.Name, "val_")
	return ok && v.Const.Len() == 1 && n != "" && strings.Trim(n, "0123456789") == ""
}

func isConstName(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if n, ok := strings.CutPrefix(part, "const_"); part == "const" || ok && n != "" && strings.Trim(n, "0123456789") == "" {
			return true
		}
	}
	return false
}

// Weights lists the weights of a graph in order of appearance. Those of
// subgraphs are not among them: they cannot become graph inputs.
func Weights(g *graphs.Graph) []*graphs.Value {
	var out []*graphs.Value
	for _, v := range g.Inits {
		if IsWeight(v) {
			out = append(out, v)
		}
	}
	return out
}

// WeightsToInputs makes float initializers graph inputs of the same names, after
// the existing inputs and in order of appearance, and returns their content by
// name. With no names given it takes all [Weights].
func WeightsToInputs(g *graphs.Graph, names ...string) (map[string]*graphs.Tensor, error) {
	take := map[*graphs.Value]bool{}
	if len(names) == 0 {
		for _, v := range Weights(g) {
			take[v] = true
		}
	}
	for _, name := range names {
		i := slices.IndexFunc(g.Inits, func(v *graphs.Value) bool { return v.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("passes: weight %q: no such initializer", name)
		}
		if !g.Inits[i].Type.IsFloat() {
			return nil, fmt.Errorf("passes: weight %q: wanted a float type, got %v", name, g.Inits[i].Type)
		}
		take[g.Inits[i]] = true
	}
	weights := map[string]*graphs.Tensor{}
	for _, v := range g.Inits {
		if !take[v] {
			continue
		}
		weights[v.Name] = v.Const
		v.Const, v.Content = nil, nil
		if !slices.Contains(g.Inputs, v) {
			g.Inputs = append(g.Inputs, v)
		}
	}
	g.Inits = slices.DeleteFunc(g.Inits, func(v *graphs.Value) bool { return take[v] })
	return weights, nil
}

// InputsToWeights makes the named graph inputs initializers that hold the given
// tensors, in the order of the inputs. Types must agree, and so must the sizes
// that are known.
func InputsToWeights(g *graphs.Graph, weights map[string]*graphs.Tensor) error {
	for name := range weights {
		if g.Input(name) == nil {
			return fmt.Errorf("passes: weight %q: no such input", name)
		}
	}
	narrowed := false
	for _, v := range g.Inputs {
		t := weights[v.Name]
		if t == nil {
			continue
		}
		shape := graphs.MakeShape(t.Dims...)
		if t.Type != v.Type && v.Type != graphs.Undefined || !accepts(v.Shape, shape) {
			return fmt.Errorf("passes: weight %q: wanted %v%v, got %v%v", v.Name, v.Type, v.Shape, t.Type, shape)
		}
		narrowed = narrowed || !v.Shape.Same(shape)
		v.Type, v.Shape, v.Const = t.Type, shape, t
		if !slices.Contains(g.Inits, v) {
			g.Inits = append(g.Inits, v)
		}
	}
	g.Inputs = slices.DeleteFunc(g.Inputs, func(v *graphs.Value) bool { return weights[v.Name] != nil })
	if narrowed {
		return Reinfer(g)
	}
	return nil
}

// accepts reports whether a value of shape got may be fed where want is declared.
func accepts(want, got graphs.Shape) bool {
	if want == nil || got == nil {
		return true
	}
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i].Known() && got[i].Known() && want[i].N != got[i].N {
			return false
		}
	}
	return true
}
