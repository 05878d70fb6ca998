package refeval

import (
	"cmp"
	"fmt"
	"slices"

	"ebmrun/graphs"
)

func indexKernels() map[string]kernel {
	return map[string]kernel{
		"Gather": gather, "GatherElements": gatherElements, "GatherND": gatherND,
		"ScatterElements": scatterElements, "ScatterND": scatterND, "NonZero": nonZero, "Unique": unique, "ReverseSequence": reverseSequence, "OneHot": oneHot,
	}
}

// indices reads integers that point into an axis of n elements; negative ones
// count from its end.
func indices(a *array, n int) ([]int, error) {
	v, err := a.ints()
	if err != nil {
		return nil, err
	}
	out := make([]int, len(v))
	for i, k := range v {
		if out[i], err = index(k, n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func index(k int64, n int) (int, error) {
	j := k
	if j < 0 {
		j += int64(n)
	}
	if j < 0 || j >= int64(n) {
		return 0, fmt.Errorf("index %d is outside an axis of %d", k, n)
	}
	return int(j), nil
}

// pick copies blocks of n elements that start at the given positions.
func (c *call) pick(x *array, starts []int, n int, dims []int) ([]*array, error) {
	if err := c.check(dims); err != nil {
		return nil, err
	}
	a := &array{t: x.t, dims: dims}
	switch d := x.data.(type) {
	case []float64:
		a.data = picked(d, starts, n)
	case []float32:
		a.data = picked(d, starts, n)
	case []int64:
		a.data = picked(d, starts, n)
	case [][]byte:
		a.data = picked(d, starts, n)
	default:
		return nil, badData(x)
	}
	return []*array{a}, nil
}

func picked[T any](x []T, starts []int, n int) []T {
	out := make([]T, 0, len(starts)*n)
	for _, s := range starts {
		out = append(out, x[s:s+n]...)
	}
	return out
}

func gather(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	x := in[0]
	axis, err := c.axis("axis", 0, len(x.dims))
	if err != nil {
		return nil, err
	}
	idx, err := indices(in[1], x.dims[axis])
	if err != nil {
		return nil, err
	}
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	return c.along(x, axis, idx, dims)
}

// along picks slices of x along an axis.
func (c *call) along(x *array, axis int, idx, dims []int) ([]*array, error) {
	inner := graphs.Size(x.dims[axis+1:])
	outer := graphs.Size(x.dims[:axis])
	starts := make([]int, 0, outer*len(idx))
	for o := range outer {
		for _, k := range idx {
			starts = append(starts, (o*x.dims[axis]+k)*inner)
		}
	}
	return c.pick(x, starts, inner, dims)
}

// elementwisePositions are the positions in an array of dims that the indices of
// GatherElements and ScatterElements point at.
func (c *call) elementwisePositions(dims []int, idx *array) ([]int, error) {
	axis, err := c.axis("axis", 0, len(dims))
	if err != nil {
		return nil, err
	}
	if len(idx.dims) != len(dims) {
		return nil, fmt.Errorf("indices %v and data of dimensions %v have different ranks", idx, dims)
	}
	for i, d := range idx.dims {
		if i != axis && d > dims[i] {
			return nil, fmt.Errorf("indices %v exceed data of dimensions %v", idx, dims)
		}
	}
	pos, err := indices(idx, dims[axis])
	if err != nil {
		return nil, err
	}
	st := strides(dims)
	at := make([]int, len(dims))
	for i, k := range pos {
		p := k * st[axis]
		for j, q := range at {
			if j != axis {
				p += q * st[j]
			}
		}
		pos[i] = p
		next(at, idx.dims)
	}
	return pos, nil
}

func gatherElements(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	pos, err := c.elementwisePositions(in[0].dims, in[1])
	if err != nil {
		return nil, err
	}
	return c.pick(in[0], pos, 1, in[1].dims)
}

// tuples are the positions that the rows of idx point at in the axes of dims
// that follow batch leading ones, and the size of what each position starts.
func tuples(idx *array, dims []int, batch int) (pos []int, inner int, err error) {
	v, err := idx.ints()
	if err != nil {
		return nil, 0, err
	}
	last := len(idx.dims) - 1
	if last < 0 || batch < 0 || batch > last || batch > len(dims) {
		return nil, 0, fmt.Errorf("indices %v with %d batch axes", idx, batch)
	}
	k := idx.dims[last]
	if batch+k > len(dims) {
		return nil, 0, fmt.Errorf("indices %v do not fit data of dimensions %v", idx, dims)
	}
	for i := range batch {
		if idx.dims[i] != dims[i] {
			return nil, 0, fmt.Errorf("indices %v and data of dimensions %v differ on batch axis %d", idx, dims, i)
		}
	}
	st := strides(dims)
	inner = graphs.Size(dims[batch+k:])
	per := graphs.Size(idx.dims[batch:last]) // tuples in a batch entry
	block := graphs.Size(dims[batch:])
	for r := range graphs.Size(idx.dims[:last]) {
		p := r / per * block
		for i := range k {
			j, err := index(v[r*k+i], dims[batch+i])
			if err != nil {
				return nil, 0, err
			}
			p += j * st[batch+i]
		}
		pos = append(pos, p)
	}
	return pos, inner, nil
}

func gatherND(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	pos, inner, err := tuples(in[1], in[0].dims, int(c.n.Int("batch_dims", 0)))
	if err != nil {
		return nil, err
	}
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	return c.pick(in[0], pos, inner, dims)
}

func scatterElements(c *call) ([]*array, error) {
	in, err := c.args(3)
	if err != nil {
		return nil, err
	}
	pos, err := c.elementwisePositions(in[0].dims, in[1])
	if err != nil {
		return nil, err
	}
	return c.scatter(in[0], in[2], pos, 1)
}

func scatterND(c *call) ([]*array, error) {
	in, err := c.args(3)
	if err != nil {
		return nil, err
	}
	pos, inner, err := tuples(in[1], in[0].dims, 0)
	if err != nil {
		return nil, err
	}
	return c.scatter(in[0], in[2], pos, inner)
}

// scatter writes or accumulates blocks of n elements at the given positions.
func (c *call) scatter(x, updates *array, pos []int, n int) ([]*array, error) {
	if updates.len() != len(pos)*n {
		return nil, fmt.Errorf("updates %v wanted %d elements", updates, len(pos)*n)
	}
	op := c.n.Str("reduction", "none")
	switch d := x.data.(type) {
	case []float64:
		if u, ok := updates.data.([]float64); ok {
			return scattered(c, x, d, u, pos, n, op)
		}
	case []float32:
		if u, ok := updates.data.([]float32); ok {
			return scattered(c, x, d, u, pos, n, op)
		}
	case []int64:
		if u, ok := updates.data.([]int64); ok {
			return scattered(c, x, d, u, pos, n, op)
		}
	}
	return nil, fmt.Errorf("data %v and updates %v are not supported", x, updates)
}

func scattered[T number](c *call, x *array, d, u []T, pos []int, n int, op string) ([]*array, error) {
	var f func(a, b T) T
	switch op {
	case "none", "":
		f = func(a, b T) T { return b }
	case "add":
		f = func(a, b T) T { return a + b }
	case "mul":
		f = func(a, b T) T { return a * b }
	case "max":
		f = func(a, b T) T { return max(a, b) }
	case "min":
		f = func(a, b T) T { return min(a, b) }
	default:
		return nil, fmt.Errorf("reduction %q", op)
	}
	out := append([]T{}, d...)
	for i, p := range pos {
		for j := range n {
			out[p+j] = f(out[p+j], u[i*n+j])
		}
	}
	return c.one(x.t, x.dims, out)
}

func nonZero(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	v, err := x.floats()
	if err != nil {
		return nil, err
	}
	var at []int
	for i, e := range v {
		if e != 0 {
			at = append(at, i)
		}
	}
	dims := []int{len(x.dims), len(at)}
	if err := c.check(dims); err != nil {
		return nil, err
	}
	out := make([]int64, len(x.dims)*len(at))
	for j, s := range strides(x.dims) {
		for i, p := range at {
			out[j*len(at)+i] = int64(p / s % x.dims[j])
		}
	}
	return c.one(graphs.Int64, dims, out)
}

// unique lists the different elements, or the different slices along an axis, sorted or in the
// order in which they come.
func unique(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	axis := 0
	if c.n.Attr("axis") == nil {
		x = x.with([]int{x.len()})
	} else if axis, err = c.axis("axis", 0, len(x.dims)); err != nil {
		return nil, err
	}
	inner := strides(x.dims)[axis]
	var at []int // where the slices begin
	for k := range x.dims[axis] {
		at = append(at, k*inner)
	}
	sorted := c.n.Int("sorted", 1) != 0
	var first, which, count []int64
	if x.t.IsFloat() {
		v, err := x.floats()
		if err != nil {
			return nil, err
		}
		first, which, count = different(v, at, x.dims[axis]*inner, inner, sorted)
	} else {
		v, err := x.ints()
		if err != nil {
			return nil, err
		}
		first, which, count = different(v, at, x.dims[axis]*inner, inner, sorted)
	}
	dims := slices.Clone(x.dims)
	dims[axis] = len(first)
	for i, k := range first {
		at[i] = int(k)
	}
	out, err := c.along(x, axis, at[:len(first)], dims)
	if err != nil {
		return nil, err
	}
	for _, v := range [][]int64{first, which, count} {
		out = append(out, c.fresh(graphs.Int64, []int{len(v)}, v))
	}
	return out[:len(c.n.Outputs)], nil
}

// different finds where each of the different slices comes first, the number of each slice among
// them, and how often they come. A slice is made of runs of elements, one in each block of v.
func different[T cmp.Ordered](v []T, at []int, block, run int, sorted bool) (first, which, count []int64) {
	compare := func(i, j int) int {
		for from := 0; from < len(v); from += block {
			if d := slices.Compare(v[from+at[i]:from+at[i]+run], v[from+at[j]:from+at[j]+run]); d != 0 {
				return d
			}
		}
		return 0
	}
	order := make([]int, len(at))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, compare)
	var groups [][]int
	for k, i := range order {
		if k == 0 || compare(order[k-1], i) != 0 {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], i)
	}
	if !sorted {
		slices.SortFunc(groups, func(a, b []int) int { return cmp.Compare(a[0], b[0]) })
	}
	which = make([]int64, len(at))
	for k, g := range groups {
		first, count = append(first, int64(g[0])), append(count, int64(len(g)))
		for _, i := range g {
			which[i] = int64(k)
		}
	}
	return first, which, count
}

// reverseSequence reverses the first elements of each example along the time axis.
func reverseSequence(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	x := in[0]
	batch, err := c.axis("batch_axis", 1, len(x.dims))
	if err != nil {
		return nil, err
	}
	time, err := c.axis("time_axis", 0, len(x.dims))
	if err != nil {
		return nil, err
	}
	lengths, err := in[1].ints()
	if err != nil {
		return nil, err
	}
	v, err := x.floats()
	if err != nil {
		return nil, err
	}
	if len(lengths) != x.dims[batch] || batch == time {
		return nil, fmt.Errorf("%d lengths for axis %d of %v, time axis %d", len(lengths), batch, x, time)
	}
	y, st := make([]float64, len(v)), strides(x.dims)
	for i := range v {
		t, n := i/st[time]%x.dims[time], lengths[i/st[batch]%x.dims[batch]]
		if n < 0 || n > int64(x.dims[time]) {
			return nil, fmt.Errorf("length %d of a sequence of %d", n, x.dims[time])
		}
		to := i
		if t < int(n) {
			to += (int(n) - 1 - 2*t) * st[time]
		}
		y[to] = v[i]
	}
	return []*array{c.fromFloats(x.t, x.dims, y)}, nil
}

// oneHot: indices outside [−depth, depth) give rows that are off throughout.
func oneHot(c *call) ([]*array, error) {
	in, err := c.args(3)
	if err != nil {
		return nil, err
	}
	idx, err := in[0].floats()
	if err != nil {
		return nil, err
	}
	df, err := in[1].floats()
	if err != nil {
		return nil, err
	}
	if len(df) != 1 || !(df[0] >= 0 && df[0] <= graphs.MaxElements) || in[2].len() != 2 {
		return nil, fmt.Errorf("depth %v and values %v wanted one number and two", in[1], in[2])
	}
	depth := int(df[0])
	axis, err := c.axis("axis", -1, len(in[0].dims)+1)
	if err != nil {
		return nil, err
	}
	dims := append([]int{}, in[0].dims[:axis]...)
	dims = append(append(dims, depth), in[0].dims[axis:]...)
	if err := c.check(dims); err != nil {
		return nil, err
	}
	inner := graphs.Size(in[0].dims[axis:])
	starts := make([]int, graphs.Size(dims)) // 0: off, 1: on
	for i, f := range idx {
		k := int(f)
		if k < 0 {
			k += depth
		}
		if f == f && k >= 0 && k < depth {
			starts[(i/inner*depth+k)*inner+i%inner] = 1
		}
	}
	return c.pick(in[2], starts, 1, dims)
}
