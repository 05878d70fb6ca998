package refeval

import (
	"fmt"
	"math"

	"ebmrun/graphs"
)

func layoutKernels() map[string]kernel {
	return map[string]kernel{
		"Constant": constant, "ConstantOfShape": constantOfShape, "Shape": shapeOf, "Size": sizeOf,
		"Reshape": reshape, "Flatten": reshape, "Squeeze": reshape, "Unsqueeze": reshape,
		"Transpose": transposeKernel, "Expand": expand, "Concat": concat, "Split": split, "Slice": slice, "Pad": pad,
		"Tile": tile, "Range": rangeKernel, "EyeLike": eyeLike, "DepthToSpace": depthToSpace, "SpaceToDepth": spaceToDepth,
	}
}

// strided copies a strided view into a dense slice.
func strided[T any](x []T, at int, dims, st []int) []T {
	out := make([]T, graphs.Size(dims))
	if len(out) == 0 {
		return out
	}
	last := len(dims) - 1
	if last < 0 {
		out[0] = x[at]
		return out
	}
	n, s := dims[last], st[last]
	idx := make([]int, last)
	for o := 0; o < len(out); o += n {
		from := at
		for i, k := range idx {
			from += k * st[i]
		}
		if s == 1 {
			copy(out[o:o+n], x[from:])
		} else {
			for j := range n {
				out[o+j] = x[from+j*s]
			}
		}
		next(idx, dims[:last])
	}
	return out
}

// view is strided for an array of any type.
func (c *call) view(x *array, at int, dims, st, as []int) ([]*array, error) {
	if err := c.check(dims); err != nil {
		return nil, err
	}
	a := &array{t: x.t, dims: as}
	switch d := x.data.(type) {
	case []float64:
		a.data = strided(d, at, dims, st)
	case []float32:
		a.data = strided(d, at, dims, st)
	case []int64:
		a.data = strided(d, at, dims, st)
	case [][]byte:
		a.data = strided(d, at, dims, st)
	default:
		return nil, badData(x)
	}
	return []*array{a}, nil
}

func permuted(dims, perm []int) []int {
	out := make([]int, len(perm))
	for i, p := range perm {
		out[i] = dims[p]
	}
	return out
}

func inverse(perm []int) []int {
	out := make([]int, len(perm))
	for i, p := range perm {
		out[p] = i
	}
	return out
}

// transpose permutes axes; the result may be x itself.
func transpose[T any](x []T, dims, perm []int) []T {
	same := true
	for i, p := range perm {
		same = same && i == p
	}
	if same {
		return x
	}
	return strided(x, 0, permuted(dims, perm), permuted(strides(dims), perm))
}

func constant(c *call) ([]*array, error) {
	t, err := graphs.ConstantTensor(c.n)
	if err != nil {
		return nil, err
	}
	a, err := c.set.load(t)
	return []*array{a}, err
}

func constantOfShape(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	dims, err := c.dimsFrom(x)
	if err != nil {
		return nil, err
	}
	v := &array{t: graphs.Float32, dims: []int{1}, data: []float64{0}}
	if !c.set.wide(graphs.Float32) {
		v.data = []float32{0}
	}
	if a := c.n.Attr("value"); a != nil && a.T != nil {
		if v, err = c.set.load(a.T); err != nil {
			return nil, err
		}
		if v.len() != 1 {
			return nil, fmt.Errorf("value %v is not one number", v)
		}
	}
	return c.view(v, 0, dims, make([]int, len(dims)), dims)
}

// dimsFrom reads dimensions from a shape vector.
func (c *call) dimsFrom(x *array) ([]int, error) {
	v, err := x.ints()
	if err != nil {
		return nil, err
	}
	dims := make([]int, len(v))
	for i, d := range v {
		dims[i] = int(d)
	}
	return dims, c.check(dims)
}

func shapeOf(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	clip := func(name string, def int) int {
		k := c.n.Int(name, int64(def))
		if k < 0 {
			k += int64(len(x.dims))
		}
		return int(min(max(k, 0), int64(len(x.dims))))
	}
	lo, hi := clip("start", 0), clip("end", len(x.dims))
	v := []int64{}
	for i := lo; i < hi; i++ {
		v = append(v, int64(x.dims[i]))
	}
	return c.one(graphs.Int64, []int{len(v)}, v)
}

func sizeOf(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	return c.one(graphs.Int64, []int{}, []int64{int64(x.len())})
}

// reshape gives the elements the inferred dimensions.
func reshape(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	if graphs.Size(dims) != x.len() {
		return nil, fmt.Errorf("%v cannot have dimensions %v", x, dims)
	}
	return []*array{x.with(dims)}, nil
}

func transposeKernel(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	perm := make([]int, len(x.dims))
	for i, p := range graphs.Perm(c.n, len(x.dims)) { // checked by shape inference
		perm[i] = int(p)
	}
	dims := permuted(x.dims, perm)
	return c.view(x, 0, dims, permuted(strides(x.dims), perm), dims)
}

func expand(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	want, err := c.dimsFrom(in[1])
	if err != nil {
		return nil, err
	}
	dims, err := broadcastDims(in[0].dims, want)
	if err != nil {
		return nil, err
	}
	b, err := newBcast(dims, in[0].dims)
	if err != nil {
		return nil, err
	}
	if len(b.dims) == 0 {
		return []*array{in[0].with(dims)}, nil
	}
	if err := c.check(dims); err != nil {
		return nil, err
	}
	return c.view(in[0], 0, b.dims, b.st[0], dims)
}

func concat(c *call) ([]*array, error) {
	in, err := c.args(max(1, len(c.in)))
	if err != nil {
		return nil, err
	}
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	axis, err := c.axis("axis", 1, len(dims))
	if err != nil {
		return nil, err
	}
	switch in[0].data.(type) {
	case []float64:
		return concatOf[float64](c, in, dims, axis)
	case []float32:
		return concatOf[float32](c, in, dims, axis)
	case []int64:
		return concatOf[int64](c, in, dims, axis)
	case [][]byte:
		return concatOf[[]byte](c, in, dims, axis)
	}
	return nil, badData(in[0])
}

func concatOf[T any](c *call, in []*array, dims []int, axis int) ([]*array, error) {
	out := make([]T, 0, graphs.Size(dims))
	outer := graphs.Size(dims[:axis])
	for i := range outer {
		for _, a := range in {
			d, ok := a.data.([]T)
			if !ok {
				return nil, fmt.Errorf("inputs %v and %v have different types", in[0], a)
			}
			n := len(d) / outer
			out = append(out, d[i*n:(i+1)*n]...)
		}
	}
	return []*array{{in[0].t, dims, out}}, nil
}

func split(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	axis, err := c.axis("axis", 0, len(x.dims))
	if err != nil {
		return nil, err
	}
	sizes := graphs.SplitSizes(c.n, graphs.D(x.dims[axis]))
	st := strides(x.dims)
	at := 0
	var out []*array
	for _, n := range sizes {
		if n < 0 || int64(at)+n > int64(x.dims[axis]) {
			return nil, fmt.Errorf("sizes %v do not fit axis %d of %v", sizes, axis, x)
		}
		dims := append([]int{}, x.dims...)
		dims[axis] = int(n)
		a, err := c.view(x, at*st[axis], dims, st, dims)
		if err != nil {
			return nil, err
		}
		out = append(out, a...)
		at += int(n)
	}
	return out, nil
}

func slice(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	p, err := graphs.Slices(c.n, len(x.dims))
	if err != nil {
		return nil, err
	}
	if !p.Known {
		return nil, fmt.Errorf("starts, ends, axes and steps must be short integer vectors")
	}
	dims, st := append([]int{}, x.dims...), strides(x.dims)
	at, sizes := 0, x.dims
	done := make([]bool, len(dims))
	for i, a := range p.Axes {
		if p.Steps[i] == 0 || done[a] {
			return nil, fmt.Errorf("steps %v on axes %v: a step of 0 or an axis twice", p.Steps, p.Axes)
		}
		done[a] = true
		first, n := graphs.SliceRange(p.Starts[i], p.Ends[i], p.Steps[i], int64(sizes[a]))
		dims[a] = int(n)
		if n > 0 {
			at += int(first) * st[a]
		}
		if n > 1 {
			st[a] *= int(p.Steps[i])
		}
	}
	return c.view(x, at, dims, st, dims)
}

// pad crops where pads are negative, then extends each axis.
func pad(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	lo, hi, ok, err := graphs.Pads(c.n, len(x.dims))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("pads and axes must be short integer vectors")
	}
	mode := c.n.Str("mode", "constant")
	from := make([][]int, len(dims)) // source index per axis, −1 for the constant
	for i, d := range x.dims {
		first, n := int(max(0, -lo[i])), d+int(min(0, lo[i])+min(0, hi[i]))
		for o := range dims[i] {
			k := o - int(max(0, lo[i]))
			if k < 0 || k >= n {
				if k, err = outside(mode, k, n); err != nil {
					return nil, err
				}
			}
			if k >= 0 {
				k += first
			}
			from[i] = append(from[i], k)
		}
	}
	value := c.opt(2)
	switch d := x.data.(type) {
	case []float64:
		return padOf(x, d, value, dims, from)
	case []float32:
		return padOf(x, d, value, dims, from)
	case []int64:
		return padOf(x, d, value, dims, from)
	}
	return nil, badData(x)
}

// outside maps an index before or beyond an axis of n elements into it.
func outside(mode string, k, n int) (int, error) {
	if mode != "constant" && n <= 0 {
		return 0, fmt.Errorf("an empty axis cannot be padded by mode %q", mode)
	}
	switch mode {
	case "constant":
		return -1, nil
	case "edge":
		return min(max(k, 0), n-1), nil
	case "wrap":
		return (k%n + n) % n, nil
	case "reflect":
		if n == 1 {
			return 0, nil
		}
		p := 2 * (n - 1)
		k = (k%p + p) % p
		return min(k, p-k), nil
	}
	return 0, fmt.Errorf("mode %q", mode)
}

func padOf[T any](x *array, d []T, value *array, dims []int, from [][]int) ([]*array, error) {
	var fill T
	if value != nil {
		v, ok := value.data.([]T)
		if !ok || len(v) != 1 {
			return nil, fmt.Errorf("value %v is not one element of the type of %v", value, x)
		}
		fill = v[0]
	}
	out := make([]T, graphs.Size(dims))
	st := strides(x.dims)
	idx := make([]int, len(dims))
	for o := range out {
		at, inside := 0, true
		for i, k := range idx {
			f := from[i][k]
			inside = inside && f >= 0
			at += f * st[i]
		}
		out[o] = fill
		if inside {
			out[o] = d[at]
		}
		next(idx, dims)
	}
	return []*array{{x.t, dims, out}}, nil
}

func tile(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	x := in[0]
	times, err := c.dimsFrom(in[1])
	if err != nil {
		return nil, err
	}
	if len(times) != len(x.dims) {
		return nil, fmt.Errorf("%d repeats for %v", len(times), x)
	}
	st := strides(x.dims)
	var dims, steps, as []int
	for i, n := range times {
		dims, steps = append(dims, n, x.dims[i]), append(steps, 0, st[i])
		as = append(as, n*x.dims[i])
	}
	return c.view(x, 0, dims, steps, as)
}

func rangeKernel(c *call) ([]*array, error) {
	in, err := c.args(3)
	if err != nil {
		return nil, err
	}
	t := in[0].t
	if isInt(t) {
		var v [3]int64
		for i, a := range in {
			if v[i], err = a.scalar(); err != nil {
				return nil, err
			}
		}
		if v[2] == 0 {
			return nil, fmt.Errorf("delta is 0")
		}
		span := float64(v[1]) - float64(v[0])
		n, err := c.count(math.Ceil(span / float64(v[2])))
		if err != nil {
			return nil, err
		}
		out := make([]int64, n)
		for i := range out {
			out[i] = v[0] + int64(i)*v[2]
		}
		return c.one(t, []int{n}, out)
	}
	var v [3]float64
	for i, a := range in {
		f, err := a.floats()
		if err != nil {
			return nil, err
		}
		if len(f) != 1 {
			return nil, fmt.Errorf("%v is not one number", a)
		}
		v[i] = f[0]
	}
	n, err := c.count(math.Ceil((v[1] - v[0]) / v[2]))
	if err != nil {
		return nil, err
	}
	out := make([]float64, n)
	for i := range out {
		out[i] = v[0] + float64(i)*v[2]
	}
	return []*array{c.fromFloats(t, []int{n}, out)}, nil
}

// count checks a computed length.
func (c *call) count(n float64) (int, error) {
	if math.IsNaN(n) || n > graphs.MaxElements {
		return 0, fmt.Errorf("a range of %v elements", n)
	}
	k := int(max(n, 0))
	return k, c.check([]int{k})
}

func eyeLike(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	if len(x.dims) != 2 {
		return nil, fmt.Errorf("%v is not a matrix", x)
	}
	t := c.outType(0)
	if !t.IsFloat() && !isInt(t) {
		return nil, fmt.Errorf("type %v is not supported", t)
	}
	k := c.n.Int("k", 0)
	v := make([]float64, x.len())
	for i := range v {
		if int64(i%x.dims[1])-int64(i/x.dims[1]) == k {
			v[i] = 1
		}
	}
	return []*array{c.fromFloats(t, x.dims, v)}, nil
}

// blockwise permutes the axes of x seen as an array of six.
func (c *call) blockwise(six []int, perm ...int) ([]*array, error) {
	x := c.in[0]
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	if graphs.Size(six) != x.len() || graphs.Size(dims) != x.len() {
		return nil, fmt.Errorf("blocks do not divide %v", x)
	}
	return c.view(x, 0, permuted(six, perm), permuted(strides(six), perm), dims)
}

func depthToSpace(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	if len(x.dims) != 4 {
		return nil, fmt.Errorf("%v is not an image", x)
	}
	b, d := int(c.n.Int("blocksize", 1)), x.dims
	ch := d[1] / (b * b)
	switch mode := c.n.Str("mode", "DCR"); mode {
	case "DCR":
		return c.blockwise([]int{d[0], b, b, ch, d[2], d[3]}, 0, 3, 4, 1, 5, 2)
	case "CRD":
		return c.blockwise([]int{d[0], ch, b, b, d[2], d[3]}, 0, 1, 4, 2, 5, 3)
	default:
		return nil, fmt.Errorf("mode %q", mode)
	}
}

func spaceToDepth(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	if len(x.dims) != 4 {
		return nil, fmt.Errorf("%v is not an image", x)
	}
	b, d := int(c.n.Int("blocksize", 1)), x.dims
	return c.blockwise([]int{d[0], d[1], d[2] / b, b, d[3] / b, b}, 0, 3, 5, 1, 2, 4)
}
