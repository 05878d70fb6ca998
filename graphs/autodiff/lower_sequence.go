package autodiff

import (
	"slices"

	"ebmrun/graphs"
)

// spellSequences lets nodes read the elements of a sequence themselves where its length is
// known beforehand: exporters make sequences of the parts of a value and of Python's lists.
func spellSequences(g *graphs.Graph) (changed bool, err error) {
	s := sequences{}
	_, changed, err = rewrite(graphs.NewBuilder(g), func(n *graphs.Node) Lowering {
		if n.Domain != "" || sequenceOps[n.Op] == nil {
			return nil
		}
		return func(b *graphs.Builder, n *graphs.Node) []val { return sequenceOps[n.Op](s, b, n) }
	})
	return changed, err
}

// sequences are the elements of those that are known.
type sequences map[val][]val

// sequenceOps note the elements of a node's sequence, or give what a node reads off one; nil where
// that is not known.
var sequenceOps = map[string]func(s sequences, b *graphs.Builder, n *graphs.Node) []val{
	"SequenceEmpty":     func(s sequences, b *graphs.Builder, n *graphs.Node) []val { return s.note(n, []val{}) },
	"SequenceConstruct": func(s sequences, b *graphs.Builder, n *graphs.Node) []val { return s.note(n, n.Inputs) },
	"SequenceInsert": func(s sequences, b *graphs.Builder, n *graphs.Node) []val {
		if list, known := s[n.In(0)]; known {
			if at, ok := place(n.In(2), len(list)+1, int64(len(list))); ok {
				s.note(n, slices.Insert(slices.Clone(list), at, n.In(1)))
			}
		}
		return nil
	},
	"SequenceErase": func(s sequences, b *graphs.Builder, n *graphs.Node) []val {
		if list := s[n.In(0)]; len(list) > 0 {
			if at, ok := place(n.In(1), len(list), -1); ok {
				s.note(n, slices.Delete(slices.Clone(list), at, at+1))
			}
		}
		return nil
	},
	"SplitToSequence": splitToSequence,
	"SequenceAt": func(s sequences, b *graphs.Builder, n *graphs.Node) []val {
		if list := s[n.In(0)]; len(list) > 0 && n.In(1) != nil {
			if at, ok := place(n.In(1), len(list), 0); ok {
				return []val{list[at]}
			}
		}
		return nil
	},
	"SequenceLength": func(s sequences, b *graphs.Builder, n *graphs.Node) []val {
		if list, known := s[n.In(0)]; known {
			return []val{b.Const(graphs.Of([]int64{int64(len(list))}))}
		}
		return nil
	},
	"ConcatFromSequence": func(s sequences, b *graphs.Builder, n *graphs.Node) []val {
		list := slices.Clone(s[n.In(0)])
		if len(list) == 0 {
			return nil
		}
		axis := n.Int("axis", 0)
		if n.Int("new_axis", 0) != 0 {
			for i, v := range list {
				list[i] = b.Unsqueeze(v, axis)
			}
		}
		return []val{b.Concat(axis, list...)}
	},
}

func (s sequences) note(n *graphs.Node, list []val) []val {
	s[n.Out(0)] = list
	return nil
}

// place is a position in a list of n, def where none is given.
func place(v val, n int, def int64) (int, bool) {
	at := []int64{def}
	if v != nil {
		var ok bool
		if at, ok = graphs.ConstInts(v); !ok || len(at) != 1 {
			return 0, false
		}
	}
	if at[0] < 0 {
		at[0] += int64(n)
	}
	return int(at[0]), at[0] >= 0 && at[0] < int64(n)
}

// splitToSequence cuts an axis into parts of given sizes, of one size (the last may be smaller), or
// of size 1, which then may lose the axis.
func splitToSequence(s sequences, b *graphs.Builder, n *graphs.Node) []val {
	x := n.In(0)
	if x == nil || x.Shape == nil {
		return nil
	}
	axis, err := graphs.NormAxis(n.Int("axis", 0), len(x.Shape))
	if err != nil {
		b.Fail("%w", err)
		return nil
	}
	sizes, scalar := []int64{1}, true
	if v := n.In(1); v != nil {
		var ok bool
		if sizes, ok = graphs.ConstInts(v); !ok || v.Rank() < 0 {
			return nil
		}
		scalar = v.Rank() == 0
	}
	if scalar {
		all, part := x.Shape[axis].N, sizes[0]
		if all < 1 || part < 1 || all > maxSteps*part {
			return nil
		}
		for sizes = nil; all > 0; all -= part {
			sizes = append(sizes, min(part, all))
		}
	}
	list := slices.Clone(b.Ops("Split", len(sizes), []val{x, b.Ints(sizes...)}, graphs.I("axis", int64(axis))))
	if n.In(1) == nil && n.Int("keepdims", 1) == 0 {
		for i, v := range list {
			list[i] = b.Squeeze(v, int64(axis))
		}
	}
	return s.note(n, list)
}
