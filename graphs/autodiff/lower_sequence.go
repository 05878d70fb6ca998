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
		return partOf(b, n.In(0), n.In(1))
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
	sizes, count := n.In(1), 0
	if sizes != nil && sizes.Rank() == 1 {
		if count = int(sizes.Shape[0].N); count < 1 {
			return nil
		}
		sizes = b.Cast(sizes, graphs.Int64)
	} else {
		part, ok := partSize(n)
		all := x.Shape[axis].N
		if !ok || all < 1 || all > maxSteps*part {
			return nil
		}
		var parts []int64
		for ; all > 0; all -= part {
			parts = append(parts, min(part, all))
		}
		sizes, count = b.Ints(parts...), len(parts)
	}
	list := slices.Clone(b.Ops("Split", count, []val{x, sizes}, graphs.I("axis", int64(axis))))
	if n.In(1) == nil && n.Int("keepdims", 1) == 0 {
		for i, v := range list {
			list[i] = b.Squeeze(v, int64(axis))
		}
	}
	return s.note(n, list)
}

// partSize is the one size of the parts that a SplitToSequence cuts; ok is false where it is not known
// or there are several.
func partSize(n *graphs.Node) (part int64, ok bool) {
	if n.In(1) == nil {
		return 1, true
	}
	v, ok := graphs.ConstInts(n.In(1))
	if !ok || n.In(1).Rank() != 0 || v[0] < 1 {
		return 0, false
	}
	return v[0], true
}

// partOf is the part at a position counted from the front, of as many as run time makes.
func partOf(b *graphs.Builder, sequence, position val) []val {
	split := made(sequence, "SplitToSequence")
	if split == nil || position == nil || split.In(0).Rank() < 0 {
		return nil
	}
	part, ok := partSize(split)
	at, known := graphs.ConstInts(position)
	axis, err := graphs.NormAxis(split.Int("axis", 0), split.In(0).Rank())
	if !ok || !known || len(at) != 1 || at[0] < 0 || at[0] > maxConstant || err != nil {
		return nil
	}
	y := b.Slice(split.In(0), []int64{at[0] * part}, []int64{(at[0] + 1) * part}, []int64{int64(axis)}, nil)
	if split.In(1) == nil && split.Int("keepdims", 1) == 0 {
		y = b.Squeeze(y, int64(axis))
	}
	return []val{y}
}
