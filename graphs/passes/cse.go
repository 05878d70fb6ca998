package passes

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"reflect"
	"strings"

	"ebmrun/graphs"
)

// CSE merges nodes that compute the same thing (same op, attributes and inputs, or
// a vector of the same named sizes) and equal constants. Random and training-mode ops, ops of other domains and
// ops with subgraphs are never merged, and neither are weights (see [IsWeight]).
// A merged node that makes a graph output becomes an Identity, which keeps the
// output's name. Each subgraph is searched on its own. Run [Prune] afterwards to
// drop constants that are left without users.
func CSE(g *graphs.Graph) (changed bool, err error) {
	same := map[*graphs.Value]*graphs.Value{}
	to := func(v *graphs.Value) *graphs.Value {
		if w := same[v]; w != nil {
			return w
		}
		return v
	}
	inputs := map[*graphs.Value]bool{}
	for _, v := range g.Inputs {
		inputs[v] = true
	}
	outputs := map[*graphs.Value]bool{}
	for _, v := range g.Outputs {
		outputs[v] = true
	}
	consts := map[string]*graphs.Value{}
	inits := g.Inits[:0:0]
	for _, v := range g.Inits {
		if !inputs[v] && !outputs[v] && !IsWeight(v) && v.Const != nil {
			key := tensorKey(v.Const)
			if w := consts[key]; w != nil {
				same[v] = w
				continue
			}
			consts[key] = v
		}
		inits = append(inits, v)
	}
	changed = len(inits) < len(g.Inits)
	g.Inits = inits

	seen := map[string]*graphs.Node{}
	nodes := g.Nodes[:0:0]
	for _, n := range g.Nodes {
		redirect(n, to)
		for _, s := range subgraphs(n) {
			c, err := CSE(s)
			if err != nil {
				return changed, err
			}
			changed = changed || c
		}
		if !deterministic(n) {
			nodes = append(nodes, n)
			continue
		}
		key, ok := sizesKey(n)
		if !ok {
			key, ok = nodeKey(n)
		}
		first := seen[key]
		if !ok || first == nil {
			if ok {
				seen[key] = n
			}
			nodes = append(nodes, n)
			continue
		}
		needed := 0
		for _, v := range n.Outputs {
			if outputs[v] {
				needed++
			}
		}
		if needed > 0 && (len(n.Outputs) > 1 || n.Op == "Identity") {
			nodes = append(nodes, n)
			continue
		}
		changed = true
		for i, v := range n.Outputs {
			if v != nil {
				same[v] = first.Outputs[i]
			}
		}
		if needed > 0 {
			n.Op, n.Domain, n.Attrs, n.Inputs = "Identity", "", nil, []*graphs.Value{first.Outputs[0]}
			nodes = append(nodes, n)
		}
	}
	g.Nodes = nodes
	if changed {
		forgetNames(g)
	}
	return changed, nil
}

// nodeKey spells out what a node computes; ok is false for an attribute whose
// kind is not known.
func nodeKey(n *graphs.Node) (key string, ok bool) {
	var s strings.Builder
	fmt.Fprintf(&s, "%s %s", n.Op, n.Overload)
	for _, v := range n.Inputs {
		fmt.Fprintf(&s, " %p", v)
	}
	for _, v := range n.Outputs {
		fmt.Fprintf(&s, " %t", v != nil)
	}
	attrs := map[string]string{} // printed in the order of the keys
	for _, a := range n.Attrs {
		if a.Wire != nil && a.Kind < graphs.AttrFloat || a.Ref != "" {
			return "", false
		}
		v := fmt.Sprint(a.Kind, a.F, a.I, a.Floats, a.Ints)
		v += fmt.Sprintf("%q %q", a.S, a.Strings)
		for _, t := range append([]*graphs.Tensor{a.T}, a.Tensors...) {
			if t != nil {
				v += tensorKey(t)
			}
		}
		attrs[a.Name] = v
	}
	fmt.Fprint(&s, attrs)
	return s.String(), true
}

// sizesKey spells out the sizes that a node's only output holds; ok is false where
// one of them has no name.
func sizesKey(n *graphs.Node) (key string, ok bool) {
	if len(n.Outputs) != 1 || n.Outputs[0] == nil || len(n.Outputs[0].Content) == 0 {
		return "", false
	}
	v := n.Outputs[0]
	key = fmt.Sprintf("sizes %d %d", v.Type, v.Rank())
	for _, d := range v.Content {
		if !d.Known() && d.Name == "" {
			return "", false
		}
		key += fmt.Sprintf(" %d%q", d.N, d.Name)
	}
	return key, true
}

// tensorKey identifies a tensor by type, dimensions and a hash of its content,
// read in pieces: large constants are not copied.
func tensorKey(t *graphs.Tensor) string {
	h := sha256.New()
	if s, ok := t.Data.([][]byte); ok {
		for _, b := range s {
			fmt.Fprintf(h, "%d %s", len(b), b)
		}
	} else {
		writeData(h, t.Data)
	}
	return fmt.Sprintf("%d %v %x", t.Type, t.Dims, h.Sum(nil))
}

// writeData writes a slice of numbers or bools as bytes.
func writeData(w io.Writer, data any) {
	const piece = 1 << 14
	v := reflect.ValueOf(data)
	var buf []byte
	for i := 0; i < v.Len(); i += piece {
		// The element types of a tensor all have a fixed size, so Append succeeds.
		buf, _ = binary.Append(buf[:0], binary.LittleEndian, v.Slice(i, min(i+piece, v.Len())).Interface())
		w.Write(buf)
	}
}
