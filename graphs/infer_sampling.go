package graphs

import (
	"fmt"
	"math"
	"slices"
)

// samplingShapes: ops that read between the elements of an image.
func samplingShapes() map[string]func(*inferer) error {
	return map[string]func(*inferer) error{
		"Resize": inferResize, "GridSample": inferGridSample, "AffineGrid": inferAffineGrid,
		"MaxUnpool": inferMaxUnpool, "Col2Im": inferCol2Im,
	}
}

// A ResizeAxis says how a Resize node maps one axis.
type ResizeAxis struct {
	Axis     int
	In, Out  int64
	Scale    float64 // Out/In, or as the node gives it
	From, To float64 // region of interest, tf_crop_and_resize only
	n        *Node   // for its attributes
}

// resizeTargets reads the scales or sizes of a Resize node by axis: NaN and −1
// where they are not known.
func resizeTargets(n *Node, rank int) (axes []int, scales []float64, sizes []int64, err error) {
	if a := n.Ints("axes"); a != nil {
		for _, v := range a {
			k, err := NormAxis(v, rank)
			if err != nil {
				return nil, nil, nil, err
			}
			axes = append(axes, k)
		}
	} else {
		for i := range rank {
			axes = append(axes, i)
		}
	}
	scales, sizes = make([]float64, len(axes)), make([]int64, len(axes))
	for i := range axes {
		scales[i], sizes[i] = math.NaN(), -1
	}
	empty := func(v *Value) bool {
		return v == nil || len(v.Shape) == 1 && v.Shape[0].N == 0
	}
	switch s, z := n.In(2), n.In(3); {
	case !empty(z):
		if got := shapeFrom(z); len(got) == len(axes) {
			for i, d := range got {
				sizes[i] = d.N
			}
		} else if got != nil {
			return nil, nil, nil, fmt.Errorf("%d sizes for %d axes", len(got), len(axes))
		}
	case !empty(s):
		if s.Const == nil {
			break
		}
		f, err := s.Const.AsFloats()
		if err != nil {
			return nil, nil, nil, err
		}
		if len(f) != len(axes) {
			return nil, nil, nil, fmt.Errorf("%d scales for %d axes", len(f), len(axes))
		}
		for i, v := range f {
			if !(v > 0) || v > 1<<20 {
				return nil, nil, nil, fmt.Errorf("scale %v", v)
			}
			scales[i] = v
		}
	default:
		return nil, nil, nil, fmt.Errorf("neither scales nor sizes are given")
	}
	return axes, scales, sizes, nil
}

// ResizeAxes lists the axes that a Resize node changes, with their geometry. ok
// is false if sizes are known only at run time.
func ResizeAxes(n *Node) (list []ResizeAxis, ok bool, err error) {
	x := n.In(0)
	if x == nil || x.Shape == nil {
		return nil, false, nil
	}
	rank := len(x.Shape)
	axes, scales, sizes, err := resizeTargets(n, rank)
	if err != nil {
		return nil, false, err
	}
	crop := n.Str("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
	var roi []float64
	if crop {
		if v := n.In(1); v == nil || v.Const == nil {
			return nil, false, nil
		}
		if roi, err = n.In(1).Const.AsFloats(); err != nil {
			return nil, false, err
		}
		if len(roi) != 2*len(axes) {
			return nil, false, fmt.Errorf("region of interest of length %d for %d axes", len(roi), len(axes))
		}
	}
	policy := n.Str("keep_aspect_ratio_policy", "stretch")
	bySize := slices.ContainsFunc(sizes, func(v int64) bool { return v >= 0 })
	if bySize && policy != "stretch" {
		common := 0.0
		for i, a := range axes {
			if sizes[i] < 0 || !x.Shape[a].Known() {
				return nil, false, nil
			}
			s := float64(sizes[i]) / float64(x.Shape[a].N)
			if i == 0 || policy == "not_larger" && s < common || policy == "not_smaller" && s > common {
				common = s
			}
		}
		for i, a := range axes {
			scales[i] = common
			sizes[i] = int64(math.Floor(common*float64(x.Shape[a].N) + 0.5))
		}
	}
	for i, a := range axes {
		d := x.Shape[a]
		r := ResizeAxis{Axis: a, In: d.N, Scale: scales[i], n: n, To: 1}
		if crop {
			r.From, r.To = roi[i], roi[i+len(axes)]
		}
		switch {
		case scales[i] == 1 && !crop && !bySize: // whatever the size
			continue
		case !d.Known() && sizes[i] < 0 && math.IsNaN(scales[i]):
			if bySize && sameContent(n.In(3), i, d) {
				continue
			}
			return nil, false, nil
		case !d.Known():
			return nil, false, nil
		case sizes[i] >= 0:
			r.Out = sizes[i]
			if math.IsNaN(r.Scale) {
				if d.N == 0 {
					return nil, false, fmt.Errorf("axis %d of %s is empty", a, x)
				}
				r.Scale = float64(r.Out) / float64(d.N)
			}
		case math.IsNaN(scales[i]):
			return nil, false, nil
		default:
			r.Out = scaled(d.N, scales[i])
			if crop {
				r.Out = int64(math.Floor(float64(d.N) * scales[i] * (r.To - r.From)))
			}
		}
		if r.Out == r.In && r.Scale == 1 && !crop {
			continue
		}
		if r.Out < 1 || r.In < 1 {
			return nil, false, fmt.Errorf("axis %d of %s resized to %d", a, x, r.Out)
		}
		list = append(list, r)
	}
	return list, true, nil
}

// scaled is the size that an axis is resized to: in the arithmetic of the scales, in which 5·1.8 is 9.
func scaled(size int64, scale float64) int64 {
	return int64(math.Floor(float64(float32(size) * float32(scale))))
}

// sameContent reports whether entry i of a shape vector is provably axis d.
func sameContent(v *Value, i int, d Dim) bool {
	return v != nil && i < len(v.Content) && v.Content[i].Same(d)
}

// A Tap is one element that an interpolated one is made of.
type Tap struct {
	Index  int64
	Weight float64
}

// Taps lists, for each position of the output axis, the elements of the input
// axis that it is a weighted sum of; constant is what is added (the
// extrapolation value, where a position lies outside).
func (r *ResizeAxis) Taps() (taps [][]Tap, constant []float64, err error) {
	taps, constant = make([][]Tap, r.Out), make([]float64, r.Out)
	mode := r.n.Str("mode", "nearest")
	outside := r.n.Float("extrapolation_value", 0)
	for i := range taps {
		x, inside, err := r.source(float64(i))
		if err != nil {
			return nil, nil, err
		}
		if !inside {
			constant[i] = outside
			continue
		}
		switch mode {
		case "nearest":
			k, err := r.nearest(i)
			if err != nil {
				return nil, nil, err
			}
			taps[i] = []Tap{{min(max(k, 0), r.In-1), 1}}
		case "linear":
			taps[i] = r.spread(x, 1, func(t float64) float64 { return max(0, 1-math.Abs(t)) })
		case "cubic":
			a := r.n.Float("cubic_coeff_a", -0.75)
			taps[i] = r.spread(x, 2, func(t float64) float64 { return CubicKernel(math.Abs(t), a) })
		default:
			return nil, nil, fmt.Errorf("mode %q", mode)
		}
	}
	return taps, constant, nil
}

// CubicKernel is the weight of an element at distance t ≥ 0 in cubic
// interpolation with coefficient a (Keys).
func CubicKernel(t, a float64) float64 {
	switch {
	case t <= 1:
		return ((a+2)*t-(a+3))*t*t + 1
	case t < 2:
		return ((a*t-5*a)*t+8*a)*t - 4*a
	}
	return 0
}

// spread weighs the elements around x by a kernel of the given radius, which an
// antialiased reduction widens. Elements past the edges are those at the edges,
// or left out.
func (r *ResizeAxis) spread(x float64, radius float64, kernel func(float64) float64) []Tap {
	stretch := 1.0
	antialias := r.n.Int("antialias", 0) != 0 && r.Scale < 1
	if antialias {
		stretch = r.Scale
	}
	exclude := r.n.Int("exclude_outside", 0) != 0
	weights := map[int64]float64{}
	var order []int64
	sum := 0.0
	for k := int64(math.Floor(x-radius/stretch)) + 1; float64(k) < x+radius/stretch || float64(k) == x; k++ {
		w := kernel((float64(k) - x) * stretch)
		if w == 0 || exclude && (k < 0 || k >= r.In) {
			continue
		}
		at := min(max(k, 0), r.In-1)
		if _, ok := weights[at]; !ok {
			order = append(order, at)
		}
		weights[at] += w
		sum += w
	}
	taps := make([]Tap, 0, len(order))
	for _, k := range order {
		w := weights[k]
		if exclude || antialias {
			w /= sum
		}
		taps = append(taps, Tap{k, w})
	}
	return taps
}

// source is the coordinate on the input axis that position i of the output axis
// stands for.
func (r *ResizeAxis) source(i float64) (x float64, inside bool, err error) {
	in, out := float64(r.In), float64(r.Out)
	switch mode := r.n.Str("coordinate_transformation_mode", "half_pixel"); mode {
	case "half_pixel":
		return (i+0.5)/r.Scale - 0.5, true, nil
	case "pytorch_half_pixel":
		if r.Out == 1 {
			return 0, true, nil
		}
		return (i+0.5)/r.Scale - 0.5, true, nil
	case "half_pixel_symmetric":
		offset := in / 2 * (1 - out/(in*r.Scale))
		return offset + (i+0.5)/r.Scale - 0.5, true, nil
	case "align_corners":
		if math.Abs(in*r.Scale-out) > 1e-3 {
			return 0, false, fmt.Errorf("align_corners with a scale of %v on an axis of %d: runtimes differ on it, give sizes", r.Scale, r.In)
		}
		if r.Out == 1 {
			return 0, true, nil
		}
		return i * (in - 1) / (out - 1), true, nil
	case "asymmetric":
		return i / r.Scale, true, nil
	case "tf_crop_and_resize":
		if r.Out == 1 {
			x = (r.From + r.To) / 2 * (in - 1)
		} else {
			x = r.From*(in-1) + i*(r.To-r.From)*(in-1)/(out-1)
		}
		return x, x >= 0 && x <= in-1, nil
	default:
		return 0, false, fmt.Errorf("coordinate_transformation_mode %q", mode)
	}
}

// nearest rounds a source coordinate. Runtimes work it out in float32, and
// where it falls on an edge between two elements that decides; so it is rounded
// to float32 first.
func (r *ResizeAxis) nearest(i int) (int64, error) {
	x64, _, err := r.source(float64(i))
	if err != nil {
		return 0, err
	}
	x := float64(float32(x64))
	switch mode := r.n.Str("nearest_mode", "round_prefer_floor"); mode {
	case "round_prefer_floor":
		return int64(math.Ceil(x - 0.5)), nil
	case "round_prefer_ceil":
		return int64(math.Floor(x + 0.5)), nil
	case "floor":
		return int64(math.Floor(x)), nil
	case "ceil":
		return int64(math.Ceil(x)), nil
	default:
		return 0, fmt.Errorf("nearest_mode %q", mode)
	}
}

func inferResize(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	if x.Shape == nil {
		c.set(0, x.Type, nil)
		return nil
	}
	list, ok, err := ResizeAxes(c.n)
	if err != nil {
		return err
	}
	s := append(Shape{}, x.Shape...)
	if ok {
		for _, r := range list {
			s[r.Axis] = Dim{N: r.Out}
		}
		c.set(0, x.Type, s)
		return nil
	}
	axes, scales, sizes, err := resizeTargets(c.n, len(s))
	if err != nil {
		return err
	}
	stretch := c.n.Str("keep_aspect_ratio_policy", "stretch") == "stretch"
	crop := c.n.Str("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
	for i, a := range axes {
		switch f := scales[i]; {
		case sizes[i] >= 0 && stretch:
			s[a] = Dim{N: sizes[i]}
		case crop || math.IsNaN(f) || !stretch:
			// sizes that are known by name
			if z := c.n.In(3); z != nil && i < len(z.Content) && stretch && !z.Content[i].Known() {
				s[a] = z.Content[i]
			} else {
				s[a] = UnknownDim
			}
		case f == math.Trunc(f):
			s[a] = affine(s[a], int64(f), 0, 1, false)
		case s[a].Known():
			s[a] = Dim{N: scaled(s[a].N, f)}
		default:
			s[a] = UnknownDim
		}
	}
	c.set(0, x.Type, s)
	return nil
}

func inferGridSample(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	grid, err := c.in(1)
	if err != nil {
		return err
	}
	if x.Shape == nil || grid.Shape == nil {
		c.set(0, x.Type, nil)
		return nil
	}
	r := len(x.Shape)
	if r < 3 || len(grid.Shape) != r {
		return fmt.Errorf("image %s and grid %s: wanted equal ranks of 3 or more", x, grid)
	}
	if d := grid.Shape[r-1]; d.Known() && d.N != int64(r-2) {
		return fmt.Errorf("grid %s: wanted %d coordinates", grid, r-2)
	}
	s := Shape{x.Shape[0], x.Shape[1]}
	c.set(0, x.Type, append(s, grid.Shape[1:r-1]...))
	return nil
}

func inferAffineGrid(c *inferer) error {
	theta, err := c.in(0)
	if err != nil {
		return err
	}
	size, err := c.in(1)
	if err != nil {
		return err
	}
	s := shapeFrom(size)
	if s == nil {
		c.set(0, theta.Type, nil)
		return nil
	}
	if len(s) != 4 && len(s) != 5 {
		return fmt.Errorf("size of %d axes, wanted 4 or 5", len(s))
	}
	if theta.Shape != nil && len(theta.Shape) != 3 {
		return fmt.Errorf("transformation %s: wanted [batch, %d, %d]", theta, len(s)-2, len(s)-1)
	}
	out := append(Shape{s[0]}, s[2:]...)
	c.set(0, theta.Type, append(out, D(len(s)-2)))
	return nil
}

func inferMaxUnpool(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	if _, err := c.in(1); err != nil {
		return err
	}
	if v := c.n.In(2); v != nil {
		c.set(0, x.Type, shapeFrom(v))
		return nil
	}
	s, err := UnpooledShape(c.n)
	c.set(0, x.Type, s)
	return err
}

// UnpooledShape is the shape that a MaxUnpool node's window gives its output,
// whatever its input output_shape says; nil if the rank is unknown.
func UnpooledShape(n *Node) (Shape, error) {
	x := n.In(0)
	if x.Shape == nil {
		return nil, nil
	}
	if n.Ints("kernel_shape") == nil {
		return nil, fmt.Errorf("kernel_shape is missing")
	}
	w, err := WindowOf(n)
	if err != nil {
		return nil, err
	}
	s := Shape{x.Shape[0], x.Shape[1]}
	for i := range w.Kernel {
		d := affine(x.Shape[2+i], w.Strides[i], w.Kernel[i]-w.Strides[i]-w.Begin[i]-w.End[i], 1, false)
		if d.Known() && d.N < 1 {
			return nil, fmt.Errorf("output axis %d of size %d", 2+i, d.N)
		}
		s = append(s, d)
	}
	return s, nil
}

// Col2ImTargets says where each element of the second and third axis of a Col2Im
// node's input, taken as one axis, is added: the flat position in an image of
// the given size, −1 in the padding. ok is false if the sizes are not constant.
func Col2ImTargets(n *Node) (to []int64, image, block []int64, ok bool, err error) {
	image, ok1 := constIntsOf(n.In(1))
	block, ok2 := constIntsOf(n.In(2))
	if !ok1 || !ok2 {
		return nil, nil, nil, false, nil
	}
	rank := len(image)
	if rank == 0 || len(block) != rank {
		return nil, nil, nil, false, fmt.Errorf("image %v and block %v: wanted equal lengths", image, block)
	}
	or := func(name string, def int64, k int) []int64 {
		v := n.Ints(name)
		if v == nil {
			v = make([]int64, k)
			for i := range v {
				v[i] = def
			}
		}
		return v
	}
	strides, dilations, pads := or("strides", 1, rank), or("dilations", 1, rank), or("pads", 0, 2*rank)
	if len(strides) != rank || len(dilations) != rank || len(pads) != 2*rank {
		return nil, nil, nil, false, fmt.Errorf("strides %v, dilations %v and pads %v do not fit %d axes", strides, dilations, pads, rank)
	}
	count := make([]int64, rank)
	total := int64(1)
	for i := range image {
		if image[i] < 1 || block[i] < 1 || strides[i] < 1 || dilations[i] < 1 || image[i] > 1<<30 || block[i] > 1<<30 || dilations[i] > 1<<30 || pads[i] < 0 || pads[i+rank] < 0 || pads[i] > 1<<30 || pads[i+rank] > 1<<30 {
			return nil, nil, nil, false, fmt.Errorf("image %v, block %v, strides %v, dilations %v, pads %v", image, block, strides, dilations, pads)
		}
		count[i] = floorDiv(image[i]+pads[i]+pads[i+rank]-dilations[i]*(block[i]-1)-1, strides[i]) + 1
		if count[i] < 1 {
			return nil, nil, nil, false, fmt.Errorf("block %v does not fit image %v", block, image)
		}
		if total *= block[i] * count[i]; total > 1<<31 {
			return nil, nil, nil, false, fmt.Errorf("image %v in blocks %v is too large", image, block)
		}
	}
	to = make([]int64, 0, total)
	at := make([]int64, 2*rank) // place in the block, then which block
	for {
		flat := int64(0)
		for i := range rank {
			p := at[rank+i]*strides[i] + at[i]*dilations[i] - pads[i]
			if p < 0 || p >= image[i] {
				flat = -1
				break
			}
			flat = flat*image[i] + p
		}
		to = append(to, flat)
		k := 2*rank - 1
		for ; k >= 0; k-- {
			limit := block
			if k >= rank {
				limit = count
			}
			if at[k]++; at[k] < limit[k%rank] {
				break
			}
			at[k] = 0
		}
		if k < 0 {
			return to, image, block, true, nil
		}
	}
}

func constIntsOf(v *Value) ([]int64, bool) {
	if v == nil {
		return nil, false
	}
	return ConstInts(v)
}

func inferCol2Im(c *inferer) error {
	x, err := c.in(0)
	if err != nil {
		return err
	}
	_, image, block, ok, err := Col2ImTargets(c.n)
	if err != nil {
		return err
	}
	if x.Shape == nil || !ok {
		c.set(0, x.Type, nil)
		return nil
	}
	if len(x.Shape) != 3 {
		return fmt.Errorf("input %s: wanted rank 3", x)
	}
	total := int64(1)
	for _, b := range block {
		total *= b
	}
	if d := x.Shape[1]; d.Known() && d.N%total != 0 {
		return fmt.Errorf("axis 1 of %s is not a multiple of the block's %d elements", x, total)
	}
	s := Shape{x.Shape[0], affine(x.Shape[1], 1, 0, total, false)}
	for _, d := range image {
		s = append(s, Dim{N: d})
	}
	c.set(0, x.Type, s)
	return nil
}
