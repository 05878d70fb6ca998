package passes

import (
	"fmt"
	"slices"

	"ebmrun/graphs"
)

// Rename renames values and reports a name that does not exist or would occur
// twice. Values in subgraphs can be renamed as well.
func Rename(g *graphs.Graph, names map[string]string) error {
	left := map[string]bool{}
	for old := range names {
		left[old] = true
	}
	each(g, func(s *graphs.Graph) error {
		for _, v := range definitions(s) {
			delete(left, v.Name)
		}
		return nil
	})
	for old := range left {
		return fmt.Errorf("passes: rename %q: no such value", old)
	}
	return RenameFunc(g, func(old string) string {
		if name, ok := names[old]; ok {
			return name
		}
		return old
	})
}

// RenameFunc gives every value, in subgraphs too, the name that f makes of its
// present one. On an error nothing is renamed.
func RenameFunc(g *graphs.Graph, f func(string) string) error {
	names := map[*graphs.Value]string{}
	err := renames(g, f, map[string]string{}, names)
	if err != nil {
		return fmt.Errorf("passes: rename: %w", err)
	}
	for v, name := range names {
		v.Name = name
	}
	return each(g, func(s *graphs.Graph) error { forgetNames(s); return nil })
}

// renames collects new names; taken holds those of the enclosing graphs.
func renames(g *graphs.Graph, f func(string) string, outer map[string]string, names map[*graphs.Value]string) error {
	taken := map[string]string{}
	for k, v := range outer {
		taken[k] = v
	}
	for _, v := range definitions(g) {
		name := f(v.Name)
		if name == "" {
			return fmt.Errorf("%q would have no name", v.Name)
		}
		if other, ok := taken[name]; ok {
			return fmt.Errorf("%q and %q would both be named %q", other, v.Name, name)
		}
		taken[name] = v.Name
		names[v] = name
	}
	for _, n := range g.Nodes {
		for _, s := range subgraphs(n) {
			if err := renames(s, f, taken, names); err != nil {
				return err
			}
		}
	}
	return nil
}

// Join makes one graph of two: link maps outputs of a to inputs of b, as in
// {"x": "image"} for a generator and the energy of what it makes. Its inputs are
// those of a, then those of b that are not linked; its outputs those of a that
// are not linked, then those of b. Names stay where they do not collide; in a
// collision what comes from b gets a prefix. Neither graph is changed.
func Join(a, b *graphs.Graph, link map[string]string) (*graphs.Graph, error) {
	fail := func(format string, args ...any) (*graphs.Graph, error) {
		return nil, fmt.Errorf("passes: join %q and %q: %w", a.Name, b.Name, fmt.Errorf(format, args...))
	}
	g := CloneGraph(a)
	g.Wire = nil
	prefix := b.Name
	if prefix == "" {
		prefix = "second"
	}
	name := func(s string) string {
		fresh := g.Fresh(s)
		if fresh != s {
			fresh = g.Fresh(prefix + "/" + s)
		}
		return fresh
	}
	inputs := map[string]*graphs.Value{}
	for out, in := range link {
		v := g.Output(out)
		switch {
		case v == nil:
			return fail("the first has no output %q", out)
		case b.Input(in) == nil:
			return fail("the second has no input %q", in)
		case inputs[in] != nil:
			return fail("input %q is linked twice", in)
		}
		inputs[in] = v
	}
	axes := bind(b, inputs)
	for _, v := range b.Inputs {
		if inputs[v.Name] != nil {
			continue
		}
		w := *v
		w.Shape = substitute(slices.Clone(v.Shape), known(axes), false)
		w.Name = name(v.Name)
		g.Inputs = append(g.Inputs, &w)
		if w.Const != nil {
			g.Inits = append(g.Inits, &w)
		}
		inputs[v.Name] = &w
	}
	outputs := g.Outputs
	g.Outputs = nil
	for _, v := range outputs {
		if _, linked := link[v.Name]; !linked {
			g.Outputs = append(g.Outputs, v)
		}
	}
	made, err := inline(graphs.NewBuilder(g), b, inputs, name)
	if err != nil {
		return fail("%w", err)
	}
	for _, v := range b.Outputs {
		g.Outputs = append(g.Outputs, made[v.Name])
	}
	if err := graphs.Check(g); err != nil {
		return fail("%w", err)
	}
	return g, nil
}

// known drops the axes about which nothing is known.
func known(axes map[string]graphs.Dim) map[string]graphs.Dim {
	out := map[string]graphs.Dim{}
	for name, d := range axes {
		if d != graphs.UnknownDim {
			out[name] = d
		}
	}
	return out
}

// CutAt makes the named values the graph's outputs, in the given order, and
// prunes what they do not need. Inputs stay.
func CutAt(g *graphs.Graph, names ...string) error {
	outputs := make([]*graphs.Value, len(names))
	for i, name := range names {
		if outputs[i] = g.Find(name); outputs[i] == nil {
			return fmt.Errorf("passes: cut: no value %q", name)
		}
	}
	g.Outputs = outputs
	_, err := Prune(g)
	return err
}

// SetBatch gives every axis of the given symbolic name the size n, in subgraphs
// too, and infers shapes again. It fails if the size contradicts the graph, such
// as a Reshape to another fixed size.
func SetBatch(g *graphs.Graph, axis string, n int) (changed bool, err error) {
	if n < 0 || axis == "" {
		return false, fmt.Errorf("passes: set axis %q: wanted a name and a size of at least 0, got %d", axis, n)
	}
	to := func(s graphs.Shape) {
		for i := range s {
			if !s[i].Known() && s[i].Name == axis {
				s[i] = graphs.D(n)
				changed = true
			}
		}
	}
	each(g, func(s *graphs.Graph) error {
		for _, v := range definitions(s) {
			v.Shape = slices.Clone(v.Shape) // it may be shared
			to(v.Shape)
			to(v.Content)
		}
		return nil
	})
	if !changed {
		return false, nil
	}
	return true, Reinfer(g)
}
