package passes

import (
	"fmt"
	"regexp"
	"slices"

	"ebmrun/graphs"
)

// Sizes hands out names for sizes of which nothing is known.
type Sizes struct{ count int }

// sizeName is a name from [Sizes], alone or inside a computed one.
var sizeName = regexp.MustCompile(`\?[0-9]`)

// Name infers the nodes of a graph in order, as [Reinfer] does, and names every
// axis that a node makes of a size that cannot be told: what later nodes make of it
// is then known to be equally long. Subgraphs, which may run several times with
// different sizes, get no names.
func (s *Sizes) Name(g *graphs.Graph) error {
	for _, n := range g.Nodes {
		if err := inferNode(n, graphs.OpsetVersion); err != nil {
			return fmt.Errorf("passes: %w", err)
		}
		for _, v := range n.Outputs {
			if v == nil || !slices.Contains(v.Shape, graphs.UnknownDim) {
				continue
			}
			v.Shape = slices.Clone(v.Shape)
			for i, d := range v.Shape {
				if d == graphs.UnknownDim {
					s.count++
					v.Shape[i] = graphs.Sym(fmt.Sprintf("?%d", s.count))
				}
			}
		}
	}
	return nil
}

// Forget takes the names from [Sizes.Name] away again.
func (s *Sizes) Forget(g *graphs.Graph) {
	if s.count == 0 {
		return
	}
	forget := func(v *graphs.Value) {
		if v == nil || !slices.ContainsFunc(v.Shape, func(d graphs.Dim) bool { return sizeName.MatchString(d.Name) }) {
			return
		}
		v.Shape = slices.Clone(v.Shape)
		for i, d := range v.Shape {
			if sizeName.MatchString(d.Name) {
				v.Shape[i] = graphs.UnknownDim
			}
		}
	}
	for _, list := range [][]*graphs.Value{g.Inputs, g.Outputs} {
		for _, v := range list {
			forget(v)
		}
	}
	for _, n := range g.Nodes {
		for _, v := range n.Outputs {
			forget(v)
		}
		for _, sub := range subgraphs(n) {
			s.Forget(sub)
		}
	}
}
