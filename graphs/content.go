package graphs

import "slices"

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

// inferContent follows small integer vectors through the ops that exporters
// compute shapes with.
func inferContent(c *inferer) {
	n := c.n
	out := n.Out(0)
	if out == nil || out.Const != nil {
		return
	}
	x := n.In(0)
	content := func(i int) []Dim {
		if v := n.In(i); v != nil {
			return v.Content
		}
		return nil
	}
	switch n.Op {
	case "Shape":
		if x.Shape != nil && len(x.Shape) <= maxContent {
			lo, hi := shapeRange(n, len(x.Shape))
			out.Content = append([]Dim{}, x.Shape[lo:max(lo, hi)]...)
		}
	case "Size":
		if x != nil && x.Shape != nil {
			d := D(1)
			for _, e := range x.Shape {
				d = mul(d, e)
			}
			out.Content = []Dim{d}
		}
	case "Identity", "Squeeze", "Unsqueeze", "Reshape":
		if out.Rank() >= 0 && out.Rank() <= 1 {
			out.Content = content(0)
		}
	case "Cast":
		if (out.Type == Int64 || out.Type == Int32) && (x.Type == Int64 || x.Type == Int32) {
			out.Content = content(0)
		}
	case "Gather":
		idx, ok := ConstInts(n.In(1))
		src := content(0)
		if !ok || src == nil || n.In(1).Rank() > 1 {
			return
		}
		got := make([]Dim, len(idx))
		for i, k := range idx {
			a, err := NormAxis(k, len(src))
			if err != nil {
				return
			}
			got[i] = src[a]
		}
		out.Content = got
	case "Concat":
		var all []Dim
		for _, v := range n.Inputs {
			if v.Content == nil {
				// one unknown entry does not hide the known ones
				if v.Type != Int64 || len(v.Shape) != 1 || !v.Shape[0].Known() || v.Shape[0].N > maxContent {
					return
				}
				all = append(all, unknownRank(int(v.Shape[0].N))...)
				continue
			}
			all = append(all, v.Content...)
		}
		if len(all) <= maxContent {
			out.Content = all
		}
	case "Slice":
		src := content(0)
		if src == nil || x.Rank() != 1 {
			return
		}
		p, err := Slices(n, 1)
		if err != nil || !p.Known || len(p.Starts) != 1 {
			return
		}
		first, count := SliceRange(p.Starts[0], p.Ends[0], p.Steps[0], int64(len(src)))
		got := []Dim{}
		for i := int64(0); i < count; i++ {
			got = append(got, src[first+i*p.Steps[0]])
		}
		out.Content = got
	case "Mul", "Add", "Sub", "Div":
		a, b := content(0), content(1)
		if a == nil || b == nil || out.Type != Int64 && out.Type != Int32 {
			return
		}
		m := max(len(a), len(b))
		if len(a) != m && len(a) != 1 || len(b) != m && len(b) != 1 {
			return
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
		out.Content = got
	case "Where": // s == −1 ? ones : s, as PyTorch writes expand: what is known of s is no −1
		if eq := x.From; eq != nil && eq.Op == "Equal" && eq.In(0) == n.In(2) && content(1) != nil {
			if minus, ok := ConstInts(eq.In(1)); ok && !slices.ContainsFunc(minus, func(v int64) bool { return v != -1 }) {
				out.Content = content(2)
			}
		}
	case "ConstantOfShape":
		s := out.Shape
		if len(s) == 1 && s[0].Known() && s[0].N <= maxContent && out.Type == Int64 {
			v := int64(0)
			if a := n.Attr("value"); a != nil && a.T != nil {
				if iv, err := a.T.AsInts(); err == nil && len(iv) == 1 {
					v = iv[0]
				}
			}
			if v < 0 {
				return
			}
			out.Content = make([]Dim, s[0].N)
			for i := range out.Content {
				out.Content[i] = Dim{N: v}
			}
		}
	}
}
