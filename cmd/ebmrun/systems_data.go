package main

import (
	"fmt"
	"slices"
	"strings"

	"ebmrun/training/data"
)

// An intake is what data a system takes besides single pictures and vectors.
type intake struct {
	kinds []data.Kind // other kinds of examples, or Plain beside them; nil: Plain alone
	given need        // what examples are drawn from
	b     need        // a second domain

	// maps are what is learned, of large sets of pictures: those are stretched to the size of learning and
	// not cut to its shape, as what is translated is, and maps have measures of their own in a judge's place
	maps bool
}

// A need says whether a system has use for something.
type need int

const (
	refused need = iota // not looked at: refused, so that nothing is left out silently
	allowed
	wanted
)

// intakes is the systems that take more than pictures and vectors, by name.
var intakes = map[string]intake{
	"conditional-coopnets":    {given: allowed},
	"cycle-coopnets":          {b: wanted},
	"one-sided-translation":   {b: wanted},
	"salcoopnets":             {given: wanted, maps: true},
	"generative-swin":         {given: wanted, maps: true},
	"sequence-cycle-coopnets": {kinds: []data.Kind{data.Video}, b: wanted},
	"video":                   {kinds: []data.Kind{data.Video}},
	"voxelnet":                {kinds: []data.Kind{data.Voxels}},
	"pointnet":                {kinds: []data.Kind{data.Cloud}},
	"inverse-optimal-control": {kinds: []data.Kind{data.Path}, given: allowed},
}

// String is what is learned from, in words.
func (in intake) String() string {
	text := data.Plain.String()
	if in.kinds != nil {
		text = in.kinds[0].String()
	}
	for _, n := range []struct {
		need
		what string
	}{{in.given, "what they are drawn from (--given)"}, {in.b, "a second domain (--data-b)"}} {
		switch n.need {
		case wanted:
			text += "; wants " + n.what
		case allowed:
			text += "; takes " + n.what
		}
	}
	return text
}

// takes refuses data that the system would not look at, and tells what it misses. Data that come in
// pairs by themselves may be learned from without what is given.
func (s system) takes(from source, set, b *data.Set) error {
	in := intakes[s.Name]
	if in.kinds == nil {
		in.kinds = []data.Kind{data.Plain}
	}
	for _, d := range []*data.Set{set, b} {
		if d != nil && !slices.Contains(in.kinds, d.Kind) {
			var names []string
			for _, k := range in.kinds {
				names = append(names, k.String())
			}
			return badInput(fmt.Errorf("%s learns from %s; %s holds %s", s.Name, strings.Join(names, " or "), d.Name, d.Kind))
		}
	}
	for _, n := range []struct {
		need
		asked, there bool
		flag, what   string
	}{
		{in.given, from.Given != "", set.Given != nil, "--given", "pairs"},
		{in.b, from.B != "", b != nil, "--data-b", "two domains"},
	} {
		switch {
		case n.need == refused && n.asked:
			return badInput(fmt.Errorf("%s does not learn from %s: it has no use for %s", s.Name, n.what, n.flag))
		case n.need == wanted && !n.there:
			return badInput(fmt.Errorf("%s learns from %s: %s is missing, and %s does not hold them", s.Name, n.what, n.flag, set.Name))
		}
	}
	return nil
}
