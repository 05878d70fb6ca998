package refeval

import (
	"fmt"
	"math"
	"slices"
	"sort"

	"ebmrun/graphs"
)

func reductionKernels() map[string]kernel {
	return map[string]kernel{
		"ReduceSum": reduce(sumRow, sumInts), "ReduceProd": reduce(prodRow, prodInts),
		"ReduceMax": reduce(peak, maxInts), "ReduceMin": reduce(lowest, minInts),
		"ReduceMean": reduce(func(v []float64) float64 { return sumRow(v) / float64(len(v)) }, func(v []int64) int64 {
			if len(v) == 0 {
				return 0
			}
			return sumInts(v) / int64(len(v))
		}),
		"ReduceL1": reduce(func(v []float64) (s float64) {
			for _, x := range v {
				s += math.Abs(x)
			}
			return s
		}, func(v []int64) (s int64) {
			for _, x := range v {
				s += max(x, -x)
			}
			return s
		}),
		"ReduceL2":        reduce(func(v []float64) float64 { return math.Sqrt(squares(v)) }, throughFloat(func(v []float64) float64 { return math.Sqrt(squares(v)) })),
		"ReduceSumSquare": reduce(squares, throughFloat(squares)),
		"ReduceLogSum":    reduce(func(v []float64) float64 { return math.Log(sumRow(v)) }, throughFloat(func(v []float64) float64 { return math.Log(sumRow(v)) })),
		"ReduceLogSumExp": reduce(logSumExp, throughFloat(logSumExp)),
		"ArgMax":          argKernel(1), "ArgMin": argKernel(-1), "TopK": topK,
	}
}

func sumRow(v []float64) (s float64) {
	for _, x := range v {
		s += x
	}
	return s
}

func squares(v []float64) (s float64) {
	for _, x := range v {
		s += x * x
	}
	return s
}

func prodRow(v []float64) float64 {
	p := 1.0
	for _, x := range v {
		p *= x
	}
	return p
}

func lowest(v []float64) float64 {
	m := math.Inf(1)
	for _, x := range v {
		m = min(m, x)
	}
	return m
}

func logSumExp(v []float64) float64 {
	m := peak(v)
	if math.IsInf(m, 0) {
		return m
	}
	s := 0.0
	for _, x := range v {
		s += math.Exp(x - m)
	}
	return m + math.Log(s)
}

func sumInts(v []int64) (s int64) {
	for _, x := range v {
		s += x
	}
	return s
}

func prodInts(v []int64) int64 {
	p := int64(1)
	for _, x := range v {
		p *= x
	}
	return p
}

func maxInts(v []int64) int64 {
	if len(v) == 0 {
		return math.MinInt64
	}
	return slices.Max(v)
}

func minInts(v []int64) int64 {
	if len(v) == 0 {
		return math.MaxInt64
	}
	return slices.Min(v)
}

func throughFloat(f func([]float64) float64) func([]int64) int64 {
	return func(v []int64) int64 { return int64(f(convert[float64](v))) }
}

// lastAxes is the permutation that moves the given axes to the end; kept is the
// number of the others.
func lastAxes(axes []int64, rank int) (perm []int, kept int, err error) {
	set := make([]bool, rank)
	for _, a := range axes {
		k, err := graphs.NormAxis(a, rank)
		if err != nil {
			return nil, 0, err
		}
		set[k] = true
	}
	for i, s := range set {
		if !s {
			perm = append(perm, i)
		}
	}
	kept = len(perm)
	for i, s := range set {
		if s {
			perm = append(perm, i)
		}
	}
	return perm, kept, nil
}

// reduce folds rows; sums along leading axes, as gradients of biases need them,
// have a loop of their own.
func reduce(f func([]float64) float64, g func([]int64) int64) kernel {
	return func(c *call) ([]*array, error) {
		x, err := c.arg(0)
		if err != nil {
			return nil, err
		}
		axes, _, err := c.ints(1, "axes")
		if err != nil {
			return nil, err
		}
		if len(axes) == 0 && c.n.Int("noop_with_empty_axes", 0) == 0 {
			for i := range x.dims {
				axes = append(axes, int64(i))
			}
		}
		perm, kept, err := lastAxes(axes, len(x.dims))
		if err != nil {
			return nil, err
		}
		dims, err := c.outDims(0)
		if err != nil {
			return nil, err
		}
		outer, inner := 1, 1
		for i, a := range perm {
			if i < kept {
				outer *= x.dims[a]
			} else {
				inner *= x.dims[a]
			}
		}
		if graphs.Size(dims) != outer {
			return nil, fmt.Errorf("dimensions %v do not hold %d elements", dims, outer)
		}
		switch d := x.data.(type) {
		case []float64:
			return []*array{c.fromFloats(x.t, dims, foldFloats(c, d, x.dims, perm, kept, outer, inner, f))}, nil
		case []float32:
			return []*array{c.fromFloats(x.t, dims, foldFloats(c, d, x.dims, perm, kept, outer, inner, f))}, nil
		case []int64:
			if x.t == graphs.Uint64 {
				return nil, badData(x)
			}
			d = transpose(d, x.dims, perm)
			out := make([]int64, outer)
			for i := range out {
				out[i] = g(d[i*inner : (i+1)*inner])
			}
			if x.t == graphs.Bool { // max is or, min is and
				for i := range out {
					out[i] = min(max(out[i], 0), 1)
				}
			}
			return c.one(x.t, dims, out)
		}
		return nil, badData(x)
	}
}

func foldFloats[T float](c *call, x []T, dims, perm []int, kept, outer, inner int, f func([]float64) float64) []float64 {
	out := make([]float64, outer)
	if kept > 0 && kept < len(perm) && perm[0] == len(perm)-kept && c.n.Op == "ReduceSum" {
		// Leading axes: add whole rows.
		for i := range inner {
			for j, v := range x[i*outer : (i+1)*outer] {
				out[j] += float64(v)
			}
		}
		return out
	}
	x = transpose(x, dims, perm)
	c.parallel(outer, 2*inner, func(lo, hi int) {
		var row []float64
		for i := lo; i < hi; i++ {
			if w, ok := any(x).([]float64); ok {
				row = w[i*inner : (i+1)*inner]
			} else {
				row = row[:0]
				for _, v := range x[i*inner : (i+1)*inner] {
					row = append(row, float64(v))
				}
			}
			out[i] = f(row)
		}
	})
	return out
}

func argKernel(sign float64) kernel {
	return func(c *call) ([]*array, error) {
		x, err := c.arg(0)
		if err != nil {
			return nil, err
		}
		v, err := x.floats()
		if err != nil {
			return nil, err
		}
		axis, err := c.axis("axis", 0, len(x.dims))
		if err != nil {
			return nil, err
		}
		if x.dims[axis] == 0 {
			return nil, fmt.Errorf("axis %d of %v is empty", axis, x)
		}
		last := c.n.Int("select_last_index", 0) != 0
		dims, err := c.outDims(0)
		if err != nil {
			return nil, err
		}
		out := make([]int64, graphs.Size(dims))
		c.lanes(x.dims, axis, func(at, n, step int) {
			best := 0
			for i := 1; i < n; i++ {
				d := sign * (v[at+i*step] - v[at+best*step])
				if d > 0 || last && d == 0 {
					best = i
				}
			}
			out[at/(n*step)*step+at%step] = int64(best)
		})
		return c.one(graphs.Int64, dims, out)
	}
}

func topK(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	x := in[0]
	k64, err := in[1].scalar()
	if err != nil {
		return nil, err
	}
	axis, err := c.axis("axis", -1, len(x.dims))
	if err != nil {
		return nil, err
	}
	if k64 < 0 || k64 > int64(x.dims[axis]) {
		return nil, fmt.Errorf("k is %d, axis %d of %v is shorter", k64, axis, x)
	}
	k := int(k64)
	dims := append([]int{}, x.dims...)
	dims[axis] = k
	idx := make([]int64, graphs.Size(dims))
	largest := c.n.Int("largest", 1) != 0
	switch d := x.data.(type) {
	case []float64:
		vals := topLanes(c, d, x.dims, axis, k, largest, idx)
		return []*array{c.fresh(x.t, dims, vals), c.fresh(graphs.Int64, dims, idx)}[:len(c.n.Outputs)], nil
	case []float32:
		vals := topLanes(c, d, x.dims, axis, k, largest, idx)
		return []*array{c.fresh(x.t, dims, vals), c.fresh(graphs.Int64, dims, idx)}[:len(c.n.Outputs)], nil
	case []int64:
		// Flipping the top bit makes the order of int64 that of uint64.
		flip := func(v int64) int64 { return v ^ math.MinInt64 }
		if x.t == graphs.Uint64 {
			d = mapInts(d, flip)
		}
		vals := topLanes(c, d, x.dims, axis, k, largest, idx)
		if x.t == graphs.Uint64 {
			vals = mapInts(vals, flip)
		}
		return []*array{c.fresh(x.t, dims, vals), c.fresh(graphs.Int64, dims, idx)}[:len(c.n.Outputs)], nil
	}
	return nil, badData(x)
}

// topLanes sorts each line along the axis; equal elements keep their order.
func topLanes[T number](c *call, x []T, dims []int, axis, k int, largest bool, idx []int64) []T {
	vals := make([]T, len(idx))
	c.lanes(dims, axis, func(at, n, step int) {
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		sort.SliceStable(order, func(i, j int) bool {
			a, b := x[at+order[i]*step], x[at+order[j]*step]
			if largest {
				return a > b
			}
			return a < b
		})
		to := at/(n*step)*k*step + at%step
		for i, o := range order[:k] {
			vals[to+i*step], idx[to+i*step] = x[at+o*step], int64(o)
		}
	})
	return vals
}
