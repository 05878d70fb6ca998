package graphs

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// layoutShapes: ops that move, pick or make elements without arithmetic.
func layoutShapes() map[string]func(*inferer) error {
	return map[string]func(*inferer) error{
		"Constant": inferConstant, "ConstantOfShape": inferConstantOfShape, "Shape": inferShape, "Size": inferSize,
		"Reshape": inferReshape, "Flatten": inferFlatten, "Transpose": inferTranspose,
		"Squeeze": inferSqueeze, "Unsqueeze": inferUnsqueeze, "Expand": inferExpand, "Concat": inferConcat,
		"Split": inferSplit, "Slice": inferSlice, "Gather": inferGather, "GatherElements": inferGatherElements,
		"GatherND": inferGatherND, "ScatterElements": inferScatter, "ScatterND": inferScatter, "Pad": inferPad,
		"Tile": inferTile, "Range": inferRange, "NonZero": inferNonZero, "Unique": inferUnique, "ReverseSequence": sameAsFirst, "OneHot": inferOneHot, "EyeLike": inferEyeLike,
		"DepthToSpace": inferDepthToSpace, "SpaceToDepth": inferSpaceToDepth,
	}
}

func inferConstant(c *inferer) error {
	t, err := ConstantTensor(c.n)
	if err != nil {
		return err
	}
	c.set(0, t.Type, MakeShape(t.Dims...))
	o := c.n.Outputs[0]
	o.Const = t
	setContent(o)
	return nil
}

// ConstantTensor is the value of a Constant node.
func ConstantTensor(n *Node) (*Tensor, error) {
	for _, a := range n.Attrs {
		switch {
		case a.Name == "value" && a.T != nil:
			return a.T, nil
		case a.Name == "value_float":
			return Of([]float32{a.F}), nil
		case a.Name == "value_floats":
			return Of(a.Floats, len(a.Floats)), nil
		case a.Name == "value_int":
			return Of([]int64{a.I}), nil
		case a.Name == "value_ints":
			return Of(a.Ints, len(a.Ints)), nil
		case a.Name == "value_string":
			return &Tensor{Type: String, Dims: []int{}, Data: [][]byte{a.S}}, nil
		case a.Name == "value_strings":
			return &Tensor{Type: String, Dims: []int{len(a.Strings)}, Data: a.Strings}, nil
		}
	}
	return nil, fmt.Errorf("no dense value attribute")
}

func inferConstantOfShape(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	t := Float32
	if a := c.n.Attr("value"); a != nil && a.T != nil {
		t = a.T.Type
	}
	c.set(0, t, shapeFrom(x))
	return nil
}

// shapeFrom is the shape described by a shape vector.
func shapeFrom(x *Value) Shape {
	if v, ok := ConstInts(x); ok {
		s := make(Shape, len(v))
		for i, n := range v {
			s[i] = UnknownDim
			if n >= 0 {
				s[i] = Dim{N: n}
			}
		}
		return s
	}
	if x.Content != nil {
		return append(Shape{}, x.Content...)
	}
	if len(x.Shape) == 1 && x.Shape[0].Known() && x.Shape[0].N < 64 {
		return unknownRank(int(x.Shape[0].N))
	}
	return nil
}

func inferShape(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	d := UnknownDim
	if x.Shape != nil {
		lo, hi := shapeRange(c.n, len(x.Shape))
		d = D(max(hi-lo, 0))
	}
	c.set(0, Int64, Shape{d})
	return nil
}

// shapeRange is the range of axes that a Shape node returns.
func shapeRange(n *Node, rank int) (lo, hi int) {
	clip := func(a int64) int {
		if a < 0 {
			a += int64(rank)
		}
		return int(min(max(a, 0), int64(rank)))
	}
	return clip(n.Int("start", 0)), clip(n.Int("end", int64(rank)))
}

func inferSize(c *inferer) error { c.set(0, Int64, Shape{}); return nil }

func inferReshape(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	s, err := c.in(1)
	if err != nil {
		return err
	}
	want := s.Content
	if v, ok := ConstInts(s); ok {
		want = make([]Dim, len(v))
		for i, n := range v {
			want[i] = Dim{N: n}
		}
		if len(v) == 0 {
			want = []Dim{}
		}
	}
	if want == nil {
		c.set(0, x.Type, shapeFrom(s))
		return nil
	}
	out := make(Shape, len(want))
	total, rest, infer := Shape(nil), Shape{}, -1
	for i, d := range want {
		// −1 and an axis that is not known are worked out alike, from the total.
		switch {
		case d.N == 0 && c.n.Int("allowzero", 0) == 0:
			if x.Shape == nil {
				out[i] = UnknownDim
				break
			}
			if i >= len(x.Shape) {
				return fmt.Errorf("shape %v keeps axis %d of %s", want, i, x)
			}
			out[i] = x.Shape[i]
		case d.N < 0 && d.Name == "":
			if infer >= 0 {
				infer = -2
			}
			if infer == -1 {
				infer = i
			}
			out[i] = UnknownDim
			continue
		default:
			out[i] = d
		}
		rest = append(rest, out[i])
	}
	if x.Shape != nil {
		total = x.Shape
		if infer >= 0 {
			if d, ok := quotient(total, rest); ok {
				out[infer] = d
			} else if total.Known() && Shape(rest).Known() {
				return fmt.Errorf("%s cannot be reshaped to %v", x, Shape(want))
			}
		} else if infer == -1 && total.Known() && out.Known() && Size(total.Ints()) != Size(out.Ints()) {
			return fmt.Errorf("%s cannot be reshaped to %v", x, out)
		}
	}
	c.set(0, x.Type, out)
	return nil
}

// quotient is the product of the axes of a divided by that of b, where it can
// be told: equal axes cancel, numbers divide.
func quotient(a, b Shape) (Dim, bool) {
	n, left := factors(a)
	num, gone := factors(b)
	if num == 0 {
		return Dim{}, false
	}
	for _, name := range gone {
		i := slices.Index(left, name)
		if i < 0 || name == "" {
			return Dim{}, false
		}
		left = slices.Delete(left, i, i+1)
	}
	over := int64(1)
	if n%num != 0 { // the symbols hold the factors that are missing
		if len(left) == 0 {
			return Dim{}, false
		}
		over = num / gcd(n, num)
		num = gcd(n, num)
	}
	out := Dim{N: n / num}
	for _, name := range left {
		out = mul(out, Dim{N: -1, Name: name})
	}
	return affine(out, 1, 0, over, false), true
}

// factors multiplies the numbers of a product of axes and lists its symbols, ""
// for an axis of which nothing is known.
func factors(s Shape) (n int64, symbols []string) {
	n = 1
	for _, d := range s {
		if d.Known() {
			n *= d.N
			continue
		}
		for _, name := range splitProduct(d.Name) {
			if k, err := strconv.ParseInt(name, 10, 32); err == nil && k > 0 {
				n *= k
			} else {
				symbols = append(symbols, name)
			}
		}
	}
	return n, symbols
}

// splitProduct takes a name apart that is a product as mul writes it.
func splitProduct(name string) []string {
	var parts []string
	depth, from := 0, 0
	for i, r := range name {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		case '+', '-', '/':
			if depth == 0 {
				return []string{name}
			}
		case '*':
			if depth == 0 {
				parts, from = append(parts, name[from:i]), i+1
			}
		}
	}
	parts = append(parts, name[from:])
	if len(parts) == 1 {
		if p := name; len(p) > 2 && p[0] == '(' && p[len(p)-1] == ')' && paren(p) == p {
			return splitProduct(p[1 : len(p)-1])
		}
		return parts
	}
	var all []string
	for _, p := range parts {
		all = append(all, splitProduct(p)...)
	}
	return all
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func inferFlatten(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	if x.Shape == nil {
		c.set(0, x.Type, unknownRank(2))
		return nil
	}
	axis := c.n.Int("axis", 1)
	if axis < 0 {
		axis += int64(len(x.Shape))
	}
	if axis < 0 || axis > int64(len(x.Shape)) {
		return fmt.Errorf("axis %d is outside %s", axis, x)
	}
	a, b := D(1), D(1)
	for i, d := range x.Shape {
		if int64(i) < axis {
			a = mul(a, d)
		} else {
			b = mul(b, d)
		}
	}
	c.set(0, x.Type, Shape{a, b})
	return nil
}

// Perm is the permutation of a Transpose node on an input of the given rank.
func Perm(n *Node, rank int) []int64 {
	if p := n.Ints("perm"); p != nil {
		return p
	}
	p := make([]int64, rank)
	for i := range p {
		p[i] = int64(rank - 1 - i)
	}
	return p
}

func inferTranspose(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	if x.Shape == nil {
		c.set(0, x.Type, nil)
		return nil
	}
	p := Perm(c.n, len(x.Shape))
	if len(p) != len(x.Shape) {
		return fmt.Errorf("perm %v does not fit %s", p, x)
	}
	seen := make([]bool, len(p))
	s := make(Shape, len(p))
	for i, a := range p {
		if a < 0 || a >= int64(len(p)) || seen[a] {
			return fmt.Errorf("perm %v is not a permutation", p)
		}
		seen[a] = true
		s[i] = x.Shape[a]
	}
	c.set(0, x.Type, s)
	return nil
}

func inferSqueeze(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	axes, known, present := c.ints(1, "axes")
	if x.Shape == nil || present && !known {
		c.set(0, x.Type, nil)
		return nil
	}
	set := make([]bool, len(x.Shape))
	if present {
		if set, err = normAxes(axes, len(x.Shape)); err != nil {
			return err
		}
	} else {
		for i, d := range x.Shape {
			if !d.Known() {
				c.set(0, x.Type, nil)
				return nil
			}
			set[i] = d.N == 1
		}
	}
	s := Shape{}
	for i, d := range x.Shape {
		if !set[i] {
			s = append(s, d)
		} else if d.Known() && d.N != 1 {
			return fmt.Errorf("axis %d of %s is not 1", i, x)
		}
	}
	c.set(0, x.Type, s)
	return nil
}

func inferUnsqueeze(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	axes, known, present := c.ints(1, "axes")
	if x.Shape == nil || !present || !known {
		c.set(0, x.Type, nil)
		return nil
	}
	rank := len(x.Shape) + len(axes)
	set, err := normAxes(axes, rank)
	if err != nil {
		return err
	}
	s, j := make(Shape, rank), 0
	for i := range s {
		if set[i] {
			s[i] = D(1)
			continue
		}
		if j >= len(x.Shape) {
			return fmt.Errorf("axes %v repeat", axes)
		}
		s[i] = x.Shape[j]
		j++
	}
	c.set(0, x.Type, s)
	return nil
}

func inferExpand(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	t, err := c.in(1)
	if err != nil {
		return err
	}
	s, err := Broadcast(x.Shape, shapeFrom(t))
	c.set(0, x.Type, s)
	return err
}

func inferConcat(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	var s Shape
	axis := -1
	for i, v := range c.n.Inputs {
		if v == nil {
			return fmt.Errorf("input %d is missing", i)
		}
		if v.Type != x.Type {
			return fmt.Errorf("inputs %s and %s have different types", x, v)
		}
		if v.Shape == nil {
			c.set(0, x.Type, nil)
			return nil
		}
		if s == nil {
			s = append(Shape{}, v.Shape...)
			if axis, err = NormAxis(c.n.Int("axis", 1), len(s)); err != nil {
				return err
			}
			continue
		}
		if len(s) != len(v.Shape) {
			return fmt.Errorf("inputs %s and %s have different ranks", x, v)
		}
		for k, d := range v.Shape {
			if k == axis {
				switch {
				case s[k].Known() && d.Known():
					s[k] = Dim{N: s[k].N + d.N}
				case d.Known():
					s[k] = affine(s[k], 1, d.N, 1, false)
				case s[k].Known():
					s[k] = affine(d, 1, s[k].N, 1, false)
				default:
					s[k] = UnknownDim
				}
			} else if s[k].Known() && d.Known() && s[k].N != d.N {
				return fmt.Errorf("inputs %s and %s differ on axis %d", x, v, k)
			} else if d.Known() {
				s[k] = d
			}
		}
	}
	c.set(0, x.Type, s)
	return nil
}

// SplitSizes are the sizes of a Split node's outputs, nil if they are computed
// at run time.
func SplitSizes(n *Node, axis Dim) []int64 {
	c := &inferer{n: n}
	if v, known, present := c.ints(1, "split"); present {
		if !known {
			return nil
		}
		return v
	}
	if !axis.Known() {
		return nil
	}
	k := int64(len(n.Outputs))
	chunk := (axis.N + k - 1) / k
	out := make([]int64, k)
	left := axis.N
	for i := range out {
		out[i] = min(chunk, left)
		left -= out[i]
	}
	return out
}

func inferSplit(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	if x.Shape == nil {
		for i := range c.n.Outputs {
			c.set(i, x.Type, nil)
		}
		return nil
	}
	axis, err := NormAxis(c.n.Int("axis", 0), len(x.Shape))
	if err != nil {
		return err
	}
	sizes := SplitSizes(c.n, x.Shape[axis])
	if sizes != nil && len(sizes) != len(c.n.Outputs) {
		return fmt.Errorf("%d sizes for %d outputs", len(sizes), len(c.n.Outputs))
	}
	sum := int64(0)
	for i := range c.n.Outputs {
		s := append(Shape{}, x.Shape...)
		s[axis] = UnknownDim
		if sizes != nil {
			s[axis] = Dim{N: sizes[i]}
			sum += sizes[i]
		}
		c.set(i, x.Type, s)
	}
	if sizes != nil && x.Shape[axis].Known() && sum != x.Shape[axis].N {
		return fmt.Errorf("sizes %v do not add up to axis %d of %s", sizes, axis, x)
	}
	return nil
}

// SliceSpec is the constant part of a Slice node: per sliced axis the start,
// end and step as written. Known is false if any of them is computed.
type SliceSpec struct {
	Starts, Ends, Axes, Steps []int64
	Known                     bool
}

// Slices reads the operands of a Slice node on an input of the given rank; axes
// are normalised to be non-negative.
func Slices(n *Node, rank int) (SliceSpec, error) {
	c := &inferer{n: n}
	var p SliceSpec
	var k1, k2, k3, k4, present bool
	p.Starts, k1, _ = c.ints(1, "starts")
	p.Ends, k2, _ = c.ints(2, "ends")
	p.Axes, k3, present = c.ints(3, "axes")
	if !present {
		// without axes the slice is of the first ones, as many as there are starts
		k3 = k1
		for i := range p.Starts {
			p.Axes = append(p.Axes, int64(i))
		}
	}
	if k3 {
		p.Axes = append([]int64{}, p.Axes...)
	}
	p.Steps, k4, present = c.ints(4, "")
	if !present {
		k4 = true
		p.Steps = fillOnes(max(len(p.Starts), len(p.Axes)))
	}
	p.Known = k1 && k2 && k3 && k4
	if k3 {
		for i, a := range p.Axes {
			k, err := NormAxis(a, rank)
			if err != nil {
				return p, err
			}
			p.Axes[i] = int64(k)
		}
	}
	if p.Known && (len(p.Starts) != len(p.Ends) || len(p.Starts) != len(p.Axes) || len(p.Starts) != len(p.Steps)) {
		return p, fmt.Errorf("starts, ends, axes and steps have different lengths")
	}
	return p, nil
}

func fillOnes(n int) []int64 {
	v := make([]int64, n)
	for i := range v {
		v[i] = 1
	}
	return v
}

// SliceRange clips a start and an end to an axis of size n as the Slice op does
// and returns the number of elements taken.
func SliceRange(start, end, step, n int64) (first, count int64) {
	clip := func(v, lo, hi int64) int64 { return min(max(v, lo), hi) }
	if start < 0 {
		start += n
	}
	if end < 0 && end > math.MinInt64+n {
		end += n
	}
	if step > 0 {
		start, end = clip(start, 0, n), clip(end, 0, n)
		return start, max(0, (end-start+step-1)/step)
	}
	start, end = clip(start, -1, n-1), clip(end, -1, n-1)
	if step == math.MinInt64 {
		step++
	}
	return start, max(0, (start-end-step-1)/-step)
}

func inferSlice(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	for i, attr := range []string{"starts", "ends"} {
		if c.n.In(i+1) == nil && c.n.Attr(attr) == nil {
			return fmt.Errorf("%s are missing", attr)
		}
	}
	if x.Shape == nil {
		c.set(0, x.Type, nil)
		return nil
	}
	p, err := Slices(c.n, len(x.Shape))
	if err != nil {
		return err
	}
	s := append(Shape{}, x.Shape...)
	if !p.Known {
		c.set(0, x.Type, s)
		if p.Axes == nil {
			c.set(0, x.Type, unknownRank(len(s)))
			return nil
		}
		for _, a := range p.Axes {
			s[a] = UnknownDim
		}
		return nil
	}
	for i, a := range p.Axes {
		if p.Steps[i] == 0 {
			return fmt.Errorf("step 0")
		}
		d := x.Shape[a]
		switch {
		case d.Known():
			_, n := SliceRange(p.Starts[i], p.Ends[i], p.Steps[i], d.N)
			s[a] = Dim{N: n}
		case p.Starts[i] == 0 && p.Ends[i] >= math.MaxInt32 && p.Steps[i] == 1:
		case p.Starts[i] == -1 && p.Ends[i] <= math.MinInt32 && p.Steps[i] == -1: // the whole axis reversed
		case p.Starts[i] >= 0 && p.Starts[i] < p.Steps[i] && p.Ends[i] >= math.MaxInt32:
			s[a] = affine(d, 1, -p.Starts[i], p.Steps[i], true)
		default:
			s[a] = UnknownDim
		}
	}
	c.set(0, x.Type, s)
	return nil
}

func inferGather(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	idx, err := c.in(1)
	if err != nil {
		return err
	}
	if x.Shape == nil || idx.Shape == nil {
		c.set(0, x.Type, nil)
		return nil
	}
	axis, err := NormAxis(c.n.Int("axis", 0), len(x.Shape))
	if err != nil {
		return err
	}
	s := append(Shape{}, x.Shape[:axis]...)
	s = append(s, idx.Shape...)
	s = append(s, x.Shape[axis+1:]...)
	c.set(0, x.Type, s)
	return nil
}

func inferGatherElements(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	idx, err := c.in(1)
	if err != nil {
		return err
	}
	c.set(0, x.Type, idx.Shape)
	return nil
}

func inferScatter(c *inferer) error {
	for i := 1; i < 3; i++ {
		if _, err := c.in(i); err != nil {
			return err
		}
	}
	return sameAsFirst(c)
}

func inferGatherND(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	idx, err := c.in(1)
	if err != nil {
		return err
	}
	b := int(c.n.Int("batch_dims", 0))
	if x.Shape == nil || idx.Shape == nil || len(idx.Shape) == 0 || !idx.Shape[len(idx.Shape)-1].Known() {
		c.set(0, x.Type, nil)
		return nil
	}
	k := int(idx.Shape[len(idx.Shape)-1].N)
	if b < 0 || b+k > len(x.Shape) || b >= len(idx.Shape) {
		return fmt.Errorf("indices %s do not fit %s with %d batch axes", idx, x, b)
	}
	s := append(Shape{}, idx.Shape[:len(idx.Shape)-1]...)
	s = append(s, x.Shape[b+k:]...)
	c.set(0, x.Type, s)
	return nil
}

// Pads returns the constant pads of a Pad node on an input of the given rank as
// begin and end per axis; ok is false if they are computed at run time.
func Pads(n *Node, rank int) (begin, end []int64, ok bool, err error) {
	if rank < 0 {
		return nil, nil, false, nil
	}
	c := &inferer{n: n}
	v, known, present := c.ints(1, "pads")
	if !present {
		v, known, present = c.ints(1, "paddings")
	}
	if !present || !known {
		return nil, nil, false, nil
	}
	axes := make([]int, rank)
	for i := range axes {
		axes[i] = i
	}
	if a := n.In(3); a != nil {
		av, known := ConstInts(a)
		if !known {
			return nil, nil, false, nil
		}
		axes = axes[:0]
		for _, x := range av {
			k, err := NormAxis(x, rank)
			if err != nil {
				return nil, nil, false, err
			}
			axes = append(axes, k)
		}
	}
	if len(v) != 2*len(axes) {
		return nil, nil, false, fmt.Errorf("%d pads for %d axes", len(v), len(axes))
	}
	begin, end = make([]int64, rank), make([]int64, rank)
	for i, a := range axes {
		begin[a], end[a] = v[i], v[i+len(axes)]
	}
	return begin, end, true, nil
}

func inferPad(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	if x.Shape == nil {
		c.set(0, x.Type, nil)
		return nil
	}
	lo, hi, ok, err := Pads(c.n, len(x.Shape))
	if err != nil {
		return err
	}
	s := unknownRank(len(x.Shape))
	if ok {
		for i, d := range x.Shape {
			s[i] = affine(d, 1, lo[i]+hi[i], 1, false)
			if s[i].Known() && s[i].N < 0 {
				return fmt.Errorf("pads %v %v crop all of %s", lo, hi, x)
			}
		}
	}
	c.set(0, x.Type, s)
	return nil
}

func inferTile(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	r, err := c.in(1)
	if err != nil {
		return err
	}
	if x.Shape == nil {
		c.set(0, x.Type, nil)
		return nil
	}
	s := unknownRank(len(x.Shape))
	if times := shapeFrom(r); times != nil && len(times) != len(s) {
		return fmt.Errorf("%d repeats for %s", len(times), x)
	} else if times != nil {
		for i := range s {
			s[i] = mul(times[i], x.Shape[i])
		}
	}
	c.set(0, x.Type, s)
	return nil
}

func inferRange(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	d := UnknownDim
	a, ok1 := ConstInts(x)
	if hi := c.n.In(1); hi != nil && ok1 && len(a) == 1 {
		st := c.n.In(2)
		if st != nil {
			if s, ok := ConstInts(st); ok && len(s) == 1 && s[0] != 0 {
				if b, ok := ConstInts(hi); ok && len(b) == 1 {
					d = Dim{N: max(0, floorDiv(b[0]-a[0]+s[0]-sign(s[0]), s[0]))}
				} else if len(hi.Content) == 1 && s[0] == 1 {
					d = affine(hi.Content[0], 1, -a[0], 1, false)
				}
			}
		}
	}
	c.set(0, x.Type, Shape{d})
	return nil
}

func sign(a int64) int64 {
	if a < 0 {
		return -1
	}
	return 1
}

func inferNonZero(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	d := UnknownDim
	if x.Shape != nil {
		d = D(len(x.Shape))
	}
	count := UnknownDim
	if v, ok := constNumbers(x); ok {
		count = D(len(slices.DeleteFunc(v, func(f float64) bool { return f == 0 })))
	}
	c.set(0, Int64, Shape{d, count})
	return nil
}

// constNumbers are the elements of a constant.
func constNumbers(x *Value) ([]float64, bool) {
	if x.Const == nil {
		return nil, false
	}
	v, err := x.Const.AsFloats()
	return v, err == nil
}

// inferUnique: the different elements, where each comes first, which each element is, and how often each comes.
func inferUnique(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	if c.n.Attr("axis") != nil && x.Rank() != 1 {
		c.set(0, x.Type, unknownRank(x.Rank()))
		for i := range 3 {
			c.set(1+i, Int64, Shape{UnknownDim})
		}
		return nil
	}
	all, count := UnknownDim, UnknownDim
	if x.Shape.Known() {
		all = D(Size(x.Shape.Ints()))
	}
	if v, ok := constNumbers(x); ok {
		slices.Sort(v)
		count = D(len(slices.Compact(v)))
	}
	c.set(0, x.Type, Shape{count})
	for i, d := range []Dim{count, all, count} {
		c.set(1+i, Int64, Shape{d})
	}
	return nil
}

func inferOneHot(c *inferer) error {
	idx, err := c.in(0)
	if err != nil {
		return err
	}
	depth, err := c.in(1)
	if err != nil {
		return err
	}
	vals, err := c.in(2)
	if err != nil {
		return err
	}
	if idx.Shape == nil {
		c.set(0, vals.Type, nil)
		return nil
	}
	axis, err := NormAxis(c.n.Int("axis", -1), len(idx.Shape)+1)
	if err != nil {
		return err
	}
	d := UnknownDim
	if v, ok := ConstInts(depth); ok && len(v) == 1 {
		d = Dim{N: v[0]}
	}
	s := append(Shape{}, idx.Shape[:axis]...)
	s = append(append(s, d), idx.Shape[axis:]...)
	c.set(0, vals.Type, s)
	return nil
}

func inferEyeLike(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	c.set(0, DType(c.n.Int("dtype", int64(x.Type))), x.Shape)
	return nil
}

func inferDepthToSpace(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	b := c.n.Int("blocksize", 1)
	if b < 1 {
		return fmt.Errorf("blocksize %d", b)
	}
	if x.Shape == nil {
		c.set(0, x.Type, unknownRank(4))
		return nil
	}
	if len(x.Shape) != 4 {
		return fmt.Errorf("input %s: wanted rank 4", x)
	}
	s := x.Shape
	c.set(0, x.Type, Shape{s[0], affine(s[1], 1, 0, b*b, false), affine(s[2], b, 0, 1, false), affine(s[3], b, 0, 1, false)})
	return nil
}

func inferSpaceToDepth(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	b := c.n.Int("blocksize", 1)
	if b < 1 {
		return fmt.Errorf("blocksize %d", b)
	}
	if x.Shape == nil {
		c.set(0, x.Type, unknownRank(4))
		return nil
	}
	if len(x.Shape) != 4 {
		return fmt.Errorf("input %s: wanted rank 4", x)
	}
	s := x.Shape
	c.set(0, x.Type, Shape{s[0], affine(s[1], b*b, 0, 1, false), affine(s[2], 1, 0, b, false), affine(s[3], 1, 0, b, false)})
	return nil
}
