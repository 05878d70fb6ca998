package graphs

import (
	"slices"
	"strings"
)

// maxContent bounds the length of the shape vectors whose content is tracked.
const maxContent = 64

// setContent notes the content of a constant integer value of rank 0 or 1.
func setContent(v *Value) {
	if v.Const == nil || v.Type != Int64 && v.Type != Int32 || len(v.Const.Dims) > 1 || v.Const.Len() > maxContent {
		return
	}
	ints, err := v.Const.AsInts()
	if err != nil {
		return
	}
	// A negative constant (−1 in a Reshape) becomes an unknown axis: both mean
	// "to be worked out from the rest".
	v.Content = make([]Dim, len(ints))
	for i, n := range ints {
		v.Content[i] = Dim{N: max(n, -1)}
	}
}

// contentRules tell what the first output of an op holds, nil if that is not known: the
// ops that exporters compute shapes with.
var contentRules = map[string]func(n *Node) []Dim{
	"Shape": shapeContent, "Size": sizeContent,
	"Identity": keptContent, "Squeeze": keptContent, "Unsqueeze": keptContent, "Reshape": keptContent, "Cast": keptContent,
	"Gather": gatherContent, "Concat": concatContent, "Slice": sliceContent,
	"Mul": arithmeticContent, "Add": arithmeticContent, "Sub": arithmeticContent, "Div": arithmeticContent,
	"Where": whereContent, "ConstantOfShape": filledContent,
}

// inferContent follows small integer vectors through a node.
func inferContent(n *Node) {
	out := n.Out(0)
	if rule := contentRules[n.Op]; rule != nil && out != nil && out.Const == nil && (out.Type == Int64 || out.Type == Int32) {
		out.Content = rule(n)
	}
}

// contentOf is what is known of an input.
func contentOf(n *Node, i int) []Dim {
	if v := n.In(i); v != nil {
		return v.Content
	}
	return nil
}

func shapeContent(n *Node) []Dim {
	x := n.In(0)
	if x.Shape == nil || len(x.Shape) > maxContent {
		return nil
	}
	lo, hi := shapeRange(n, len(x.Shape))
	return append([]Dim{}, x.Shape[lo:max(lo, hi)]...)
}

func sizeContent(n *Node) []Dim {
	x := n.In(0)
	if x == nil || x.Shape == nil {
		return nil
	}
	d := D(1)
	for _, e := range x.Shape {
		d = mul(d, e)
	}
	return []Dim{d}
}

func keptContent(n *Node) []Dim {
	if r := n.Out(0).Rank(); r != 0 && r != 1 {
		return nil
	}
	return contentOf(n, 0)
}

func gatherContent(n *Node) []Dim {
	idx, ok := ConstInts(n.In(1))
	src := contentOf(n, 0)
	if !ok || src == nil || n.In(1).Rank() > 1 {
		return nil
	}
	got := make([]Dim, len(idx))
	for i, k := range idx {
		a, err := NormAxis(k, len(src))
		if err != nil {
			return nil
		}
		got[i] = src[a]
	}
	return got
}

// concatContent: one unknown entry does not hide the known ones.
func concatContent(n *Node) []Dim {
	var all []Dim
	for _, v := range n.Inputs {
		part := v.Content
		if part == nil {
			if v.Type != Int64 || len(v.Shape) != 1 || !v.Shape[0].Known() || v.Shape[0].N > maxContent {
				return nil
			}
			part = unknownRank(int(v.Shape[0].N))
		}
		if all = append(all, part...); len(all) > maxContent {
			return nil
		}
	}
	return all
}

func sliceContent(n *Node) []Dim {
	src := contentOf(n, 0)
	if src == nil || n.In(0).Rank() != 1 {
		return nil
	}
	p, err := Slices(n, 1)
	if err != nil || !p.Known || len(p.Starts) != 1 {
		return nil
	}
	first, count := SliceRange(p.Starts[0], p.Ends[0], p.Steps[0], int64(len(src)))
	got := []Dim{}
	for i := range count {
		got = append(got, src[first+i*p.Steps[0]])
	}
	return got
}

func arithmeticContent(n *Node) []Dim {
	a, b := contentOf(n, 0), contentOf(n, 1)
	m := max(len(a), len(b))
	if a == nil || b == nil || len(a) != m && len(a) != 1 || len(b) != m && len(b) != 1 {
		return nil
	}
	got := make([]Dim, m)
	for i := range got {
		d, e := a[min(i, len(a)-1)], b[min(i, len(b)-1)]
		got[i] = UnknownDim
		switch {
		case n.Op == "Mul":
			got[i] = mul(d, e)
		case n.Op == "Add" && e.Known():
			got[i] = affine(d, 1, e.N, 1, false)
		case n.Op == "Add" && d.Known():
			got[i] = affine(e, 1, d.N, 1, false)
		case n.Op == "Sub" && e.Known() && (!d.Known() || d.N >= e.N):
			got[i] = affine(d, 1, -e.N, 1, false)
		case n.Op == "Div" && e.Known() && e.N > 0:
			got[i] = affine(d, 1, 0, e.N, false)
		}
	}
	return got
}

func filledContent(n *Node) []Dim {
	s := n.Out(0).Shape
	if len(s) != 1 || !s[0].Known() || s[0].N > maxContent {
		return nil
	}
	fill := D(0)
	if a := n.Attr("value"); a != nil && a.T != nil {
		if v, err := a.T.AsInts(); err == nil && len(v) == 1 {
			fill.N = v[0]
		}
	}
	if fill.N < 0 {
		return nil
	}
	return slices.Repeat([]Dim{fill}, int(s[0].N))
}

// whereContent is that of Where(Equal(a, b), x, y), with which exporters replace
// the sizes of −1 of an expansion.
func whereContent(n *Node) []Dim {
	if n.Out(0).Rank() != 1 || n.In(0) == nil || n.In(0).From == nil || n.In(0).From.Op != "Equal" {
		return nil
	}
	var in [4][]entry
	size := 1
	for i, v := range []*Value{n.In(0).From.In(0), n.In(0).From.In(1), n.In(1), n.In(2)} {
		if in[i] = entries(v, 0); len(in[i]) == 0 {
			return nil
		}
		size = max(size, len(in[i]))
	}
	for _, v := range in {
		if len(v) != 1 && len(v) != size {
			return nil
		}
	}
	out := make([]Dim, size)
	for i := range out {
		at := func(k int) entry { return in[k][min(i, len(in[k])-1)] }
		a, b, x, y := at(0), at(1), at(2).dim(), at(3).dim()
		switch equal, known := a.equals(b); {
		case known && equal:
			out[i] = x
		case known || x.Same(y):
			out[i] = y
		default:
			out[i] = UnknownDim
		}
	}
	return out
}

// An entry of an integer vector is a number, which may be negative, or a size.
type entry struct {
	number bool
	n      int64
	size   Dim
}

func (e entry) dim() Dim {
	switch {
	case !e.number:
		return e.size
	case e.n >= 0:
		return D(int(e.n))
	}
	return UnknownDim
}

// equals tells whether two entries are equal, if that is known. What has a name
// without a minus is the size of an axis, and not negative.
func (e entry) equals(f entry) (equal, known bool) {
	if !e.number {
		e, f = f, e
	}
	switch {
	case e.number && f.number:
		return e.n == f.n, true
	case e.number:
		return false, e.n < 0 && f.size.Name != "" && !strings.Contains(f.size.Name, "-")
	}
	return true, e.size.Same(f.size)
}

// entries is what is known of a small integer vector, nil if that is not even its length.
func entries(v *Value, depth int) []entry {
	switch {
	case v == nil || v.Type != Int64 || depth > 8:
		return nil
	case v.Const != nil:
		ints, err := v.Const.AsInts()
		if err != nil || len(ints) > maxContent {
			return nil
		}
		out := make([]entry, len(ints))
		for i, n := range ints {
			out[i] = entry{number: true, n: n}
		}
		return out
	case v.From != nil && v.From.Op == "Concat" && v.From.Domain == "":
		var out []entry
		for _, x := range v.From.Inputs {
			part := entries(x, depth+1)
			if part == nil {
				return nil
			}
			out = append(out, part...)
		}
		return out
	}
	var out []entry
	for _, d := range v.Content {
		out = append(out, entry{number: d.Known(), n: d.N, size: d})
	}
	return out
}
