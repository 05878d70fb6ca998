package conditional

import (
	"fmt"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels/generator"
)

// AheadPrefix begins the names of what a condition comes to before a code is known.
const AheadPrefix = "ahead/"

// Ahead cuts a generator in two: given → ahead/…, which looks at the condition alone, and
// z, ahead/… → x with the condition where it is looked at directly. Many codes under the
// same condition need the first part once.
func (g *Generator) Ahead() (encoder *graphs.Model, decoder *generator.Model, err error) {
	p, err := autodiff.Prepare(g.Model.Model)
	if err != nil {
		return nil, nil, err
	}
	given := p.Graph.Input(Given)
	ofCode, ofGiven := behind(p.Graph, p.Graph.Input(generator.Z)), behind(p.Graph, given)
	rest := passes.Clone(p)
	var cut []string
	inputs := map[string]*graphs.Value{}
	for i, n := range p.Graph.Nodes {
		if !ofCode[n.Out(0)] {
			continue
		}
		for k, v := range n.Inputs {
			if v == nil || v == given || !ofGiven[v] || ofCode[v] {
				continue
			}
			in := inputs[v.Name]
			if in == nil {
				in = &graphs.Value{Name: fmt.Sprintf("%s%d", AheadPrefix, len(cut)), Type: v.Type, Shape: v.Shape}
				inputs[v.Name], cut = in, append(cut, v.Name)
				rest.Graph.Inputs = append(rest.Graph.Inputs, in)
			}
			rest.Graph.Nodes[i].Inputs[k] = in
		}
	}
	if len(cut) == 0 {
		return nil, nil, fmt.Errorf("conditional: nothing of this generator can be computed before its code is known")
	}
	if err := passes.CutAt(p.Graph, cut...); err != nil {
		return nil, nil, err
	}
	names := map[string]string{}
	for _, name := range cut {
		names[name] = inputs[name].Name
	}
	if err := passes.Rename(p.Graph, names); err != nil {
		return nil, nil, err
	}
	p.Graph.Inputs = []*graphs.Value{given}
	if err := passes.CutAt(rest.Graph, generator.X); err != nil {
		return nil, nil, err
	}
	if !uses(rest.Graph, Given) {
		kept := rest.Graph.Inputs[:0]
		for _, v := range rest.Graph.Inputs {
			if v.Name != Given {
				kept = append(kept, v)
			}
		}
		rest.Graph.Inputs = kept
	}
	return p, &generator.Model{Model: rest, Codes: g.Codes, Dims: g.Dims}, nil
}

// behind is the values that depend on one.
func behind(g *graphs.Graph, from *graphs.Value) map[*graphs.Value]bool {
	set := map[*graphs.Value]bool{from: true}
	for _, n := range g.Nodes {
		for _, v := range n.Inputs {
			if v != nil && set[v] {
				for _, o := range n.Outputs {
					if o != nil {
						set[o] = true
					}
				}
			}
		}
	}
	return set
}

// uses tells whether a node looks at a value.
func uses(g *graphs.Graph, name string) bool {
	for _, n := range g.Nodes {
		for _, v := range n.Inputs {
			if v != nil && v.Name == name {
				return true
			}
		}
	}
	return false
}
