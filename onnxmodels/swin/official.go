package swin

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/graphs/refeval"
)

// Official finds the weights of a transformer in an ONNX file, by their names in the
// official release. Exporters give most weights names of their own, turn matrices round
// and write what a table of biases comes to in place of the table, so the layers are
// known by their order, which a transformer of the spec has no choice about: it does not
// matter whose code was exported. What follows the last stage is left out.
func Official(m *graphs.Model, s Spec) (map[string]*graphs.Tensor, error) {
	m = passes.Clone(m)
	if err := passes.Raise(m); err != nil {
		return nil, fmt.Errorf("swin: %w", err)
	}
	r := &reader{known: map[*graphs.Value]*graphs.Tensor{}, found: map[string]*graphs.Tensor{}}
	for _, n := range m.Graph.Nodes {
		if l, ok := r.layer(m.Graph, n); ok {
			r.layers = append(r.layers, l)
		}
	}
	r.take("convolution", "patch_embed.proj", 0)
	r.take("normalisation", "patch_embed.norm", 0)
	for i, depth := range s.Depths {
		for j := range depth {
			name := fmt.Sprintf("layers.%d.blocks.%d.", i, j)
			r.take("normalisation", name+"norm1", 0)
			r.take("linear layer", name+"attn.qkv", 0)
			r.take("bias of positions", name+"attn.relative_position_bias_table", s.Heads[i])
			r.take("linear layer", name+"attn.proj", 0)
			r.take("normalisation", name+"norm2", 0)
			r.take("linear layer", name+"mlp.fc1", 0)
			r.take("linear layer", name+"mlp.fc2", 0)
		}
		if i < len(s.Depths)-1 {
			name := fmt.Sprintf("layers.%d.downsample.", i)
			r.take("normalisation", name+"norm", 0)
			r.take("linear layer", name+"reduction", 0)
		}
	}
	return r.found, r.err
}

// torchvision is how torchvision numbers what the official release has names for: stages
// are the odd features, what halves a map between two of them the even ones.
var torchvision = regexp.MustCompile(`^features\.(\d+)\.(.+)$`)

// Named gives weights by the names of timm or torchvision those of the official release,
// whose files keep them in a dictionary "model"; others keep theirs.
func Named(w map[string]*graphs.Tensor) map[string]*graphs.Tensor {
	const halved = "layers.0.downsample.reduction.weight" // timm halves a map before a stage, not after
	before := w[halved] == nil && w["model/"+halved] == nil
	out := make(map[string]*graphs.Tensor, len(w))
	for name, t := range w {
		name = strings.TrimPrefix(name, "model/")
		if m := torchvision.FindStringSubmatch(name); m != nil {
			name = strings.NewReplacer("mlp.0.", "mlp.fc1.", "mlp.3.", "mlp.fc2.").Replace(m[2])
			switch k, _ := strconv.Atoi(m[1]); {
			case k == 0:
				name = strings.NewReplacer("0.", "patch_embed.proj.", "2.", "patch_embed.norm.").Replace(name)
			case k%2 == 1:
				name = fmt.Sprintf("layers.%d.blocks.%s", k/2, name)
			default:
				name = fmt.Sprintf("layers.%d.downsample.%s", k/2-1, name)
			}
		} else if m := strings.SplitN(name, ".", 4); len(m) == 4 && m[0] == "layers" && m[2] == "downsample" && before {
			k, _ := strconv.Atoi(m[1])
			name = fmt.Sprintf("layers.%d.downsample.%s", k-1, m[3])
		}
		out[name] = t
	}
	return out
}

// A layer of a file, with its weight as PyTorch has it.
type layer struct {
	kind         string
	node         string
	weight, bias *graphs.Tensor
}

type reader struct {
	known  map[*graphs.Value]*graphs.Tensor // what constant values come to; nil for others
	layers []layer                          // not yet taken, in the order of the file
	found  map[string]*graphs.Tensor
	err    error
}

// constant is what a value comes to that depends on no input, or nil.
func (r *reader) constant(v *graphs.Value) *graphs.Tensor {
	if v == nil {
		return nil
	}
	if v.Const != nil {
		return v.Const
	}
	if t, ok := r.known[v]; ok || v.From == nil {
		return t
	}
	r.known[v] = nil
	in := make([]*graphs.Tensor, len(v.From.Inputs))
	for i, o := range v.From.Inputs {
		if in[i] = r.constant(o); in[i] == nil && o != nil {
			return nil
		}
	}
	if len(in) == 0 && v.From.Op != "Constant" { // what is random has no inputs
		return nil
	}
	out, err := refeval.Eval(v.From, graphs.OpsetVersion, in)
	if err != nil || len(out) <= v.Index() {
		return nil
	}
	r.known[v] = out[v.Index()]
	return r.known[v]
}

// layer is what a node computes with weights, if it does.
func (r *reader) layer(g *graphs.Graph, n *graphs.Node) (l layer, ok bool) {
	if r.constant(n.Out(0)) != nil {
		return l, false
	}
	weight := r.constant(n.In(1))
	l = layer{node: n.Label(), weight: weight, bias: r.constant(n.In(2))}
	switch n.Op {
	case "Conv":
		l.kind = "convolution"
	case "LayerNormalization":
		l.kind = "normalisation"
	case "Gemm":
		if l.kind = "linear layer"; weight != nil && n.Int("transB", 0) == 0 {
			l.weight = turned(weight)
		}
	case "MatMul":
		if l.kind = "linear layer"; weight == nil || len(weight.Dims) != 2 {
			return l, false
		}
		l.weight, l.bias = turned(weight), r.added(g, n.Out(0))
	case "Add":
		l.kind, l.bias = "bias of positions", nil
		if weight == nil {
			l.weight = r.constant(n.In(0))
		}
		if w := l.weight; w == nil || len(w.Dims) < 3 || w.Dims[len(w.Dims)-1] < 2 || w.Dims[len(w.Dims)-1] != w.Dims[len(w.Dims)-2] {
			return l, false
		}
	}
	return l, l.kind != "" && l.weight != nil && l.weight.Type == graphs.Float32
}

// added is the constant vector that is added to a value next, or nil.
func (r *reader) added(g *graphs.Graph, v *graphs.Value) *graphs.Tensor {
	for _, n := range g.Nodes {
		if i := slices.Index(n.Inputs, v); i >= 0 {
			if n.Op == "Reshape" {
				return r.added(g, n.Out(0))
			}
			if t := r.constant(n.In(1 - min(i, 1))); n.Op == "Add" && t != nil && len(t.Dims) == 1 {
				return t
			}
			return nil
		}
	}
	return nil
}

// turned is a matrix with rows and columns exchanged.
func turned(t *graphs.Tensor) *graphs.Tensor {
	if len(t.Dims) != 2 || t.Type != graphs.Float32 {
		return t
	}
	rows, columns := t.Dims[0], t.Dims[1]
	out, x := make([]float32, rows*columns), t.F32()
	for i, v := range x {
		out[i%columns*rows+i/columns] = v
	}
	return graphs.Of(out, columns, rows)
}

// take gives the next layer its name. It must be of the kind; biases of positions are
// the exception, of which the first counts: later ones are masks.
func (r *reader) take(kind, name string, heads int) {
	table := heads > 0
	for r.err == nil && !table && len(r.layers) > 0 && r.layers[0].kind == "bias of positions" {
		r.layers = r.layers[1:]
	}
	switch {
	case r.err != nil:
		return
	case len(r.layers) == 0:
		r.err = fmt.Errorf("swin: the file ends before %s: wanted a %s", name, kind)
		return
	case r.layers[0].kind != kind:
		r.err = fmt.Errorf("swin: %s: wanted a %s, got a %s (node %q of the file)", name, kind, r.layers[0].kind, r.layers[0].node)
		return
	}
	l := r.layers[0]
	r.layers = r.layers[1:]
	if table {
		if l.weight, r.err = tableOf(l.weight, heads); r.err != nil {
			r.err = fmt.Errorf("swin: %s (node %q of the file): %w", name, l.node, r.err)
		}
		r.found[name] = l.weight
		return
	}
	r.found[name+".weight"] = l.weight
	if l.bias != nil {
		r.found[name+".bias"] = l.bias
	}
}

// tableOf is the table of biases behind what is added to the products of the tokens of a
// window, […, heads, T, T]. Where it comes with the masks of all windows, the first
// window has none.
func tableOf(t *graphs.Tensor, heads int) (*graphs.Tensor, error) {
	n := t.Dims[len(t.Dims)-1]
	window := int(math.Round(math.Sqrt(float64(n))))
	if window*window != n || t.Len() < heads*n*n {
		return nil, fmt.Errorf("wanted biases of %d heads and the tokens of a square window, got %v", heads, t.Dims)
	}
	side := 2*window - 1
	out, x := make([]float32, side*side*heads), t.F32()
	seen := make([]bool, side*side)
	for i, row := range relative(window, window, window) {
		for h := range heads {
			v, at := x[h*n*n+i], int(row)*heads+h
			if seen[row] && math.Abs(float64(v-out[at])) > 1e-5 {
				return nil, fmt.Errorf("biases depend on more than the distance of two tokens: %g and %g", out[at], v)
			}
			out[at] = v
		}
		seen[row] = true
	}
	return graphs.Of(out, side*side, heads), nil
}
