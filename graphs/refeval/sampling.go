package refeval

import (
	"fmt"
	"math"
	"slices"

	"ebmrun/graphs"
)

func samplingKernels() map[string]kernel {
	return map[string]kernel{
		"Resize": resize, "GridSample": gridSample, "AffineGrid": affineGrid, "MaxUnpool": maxUnpool, "Col2Im": col2Im,
	}
}

// constants is a copy of the node whose inputs from number first on are
// constants with the content at hand.
func (c *call) constants(first int) (*graphs.Node, error) {
	n := *c.n
	n.Inputs = append([]*graphs.Value{}, n.Inputs...)
	for i := first; i < len(n.Inputs); i++ {
		if n.Inputs[i] == nil || c.opt(i) == nil {
			continue
		}
		t, err := c.set.store(c.in[i], true)
		if err != nil {
			return nil, err
		}
		v := *n.Inputs[i]
		v.Const, v.Content = t, nil
		n.Inputs[i] = &v
	}
	return &n, nil
}

// resize interpolates one axis after the other.
func resize(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	n, err := c.constants(1)
	if err != nil {
		return nil, err
	}
	list, ok, err := graphs.ResizeAxes(n)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("the output's dimensions cannot be worked out")
	}
	v, err := x.floats()
	if err != nil {
		return nil, err
	}
	dims := append([]int{}, x.dims...)
	for _, r := range list {
		next := append([]int{}, dims...)
		next[r.Axis] = int(r.Out)
		if err := c.check(next); err != nil {
			return nil, err
		}
		if r.Out > 1<<24 {
			return nil, fmt.Errorf("axis of %d", r.Out)
		}
		taps, constant, err := r.Taps()
		if err != nil {
			return nil, err
		}
		inner, size := graphs.Size(dims[r.Axis+1:]), dims[r.Axis]
		y := make([]float64, graphs.Size(next))
		c.parallel(graphs.Size(dims[:r.Axis])*len(taps), inner, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				o, k := i/len(taps), i%len(taps)
				row := y[i*inner : (i+1)*inner]
				for j := range row {
					row[j] = constant[k]
				}
				for _, t := range taps[k] {
					for j, s := range v[(o*size+int(t.Index))*inner:][:inner] {
						row[j] += t.Weight * s
					}
				}
			}
		})
		v, dims = y, next
	}
	return []*array{c.fromFloats(x.t, dims, v)}, nil
}

// gridSample reads an image at normalised coordinates, x first.
func gridSample(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	x, grid := in[0], in[1]
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	if !x.t.IsFloat() || !grid.t.IsFloat() {
		return nil, badData(x)
	}
	v, err := x.floats()
	if err != nil {
		return nil, err
	}
	at, err := grid.floats()
	if err != nil {
		return nil, err
	}
	mode, padding := c.n.Str("mode", "linear"), c.n.Str("padding_mode", "zeros")
	corners := c.n.Int("align_corners", 0) != 0
	if !slices.Contains([]string{"linear", "nearest", "cubic"}, mode) || !slices.Contains([]string{"zeros", "border", "reflection"}, padding) {
		return nil, fmt.Errorf("mode %q with padding_mode %q", mode, padding)
	}
	spatial := x.dims[2:]
	rank, ch, image := len(spatial), x.dims[1], graphs.Size(spatial)
	if image == 0 || x.dims[0] != grid.dims[0] {
		return nil, fmt.Errorf("image %v and grid %v do not fit", x, grid)
	}
	points := graphs.Size(dims[2:])
	y := make([]float64, graphs.Size(dims))
	c.parallel(dims[0]*points, 8*ch<<rank, func(lo, hi int) {
		taps := make([][]graphs.Tap, rank)
		idx := make([]int, rank)
		for p := lo; p < hi; p++ {
			count := make([]int, rank)
			for i := range taps {
				taps[i] = gridTaps(at[p*rank+rank-1-i], spatial[i], mode, padding, corners)
				count[i] = len(taps[i])
			}
			b, q := p/points, p%points
			clear(idx)
			for {
				w, off := 1.0, 0
				for i, k := range idx {
					if count[i] == 0 {
						w = 0
						break
					}
					w *= taps[i][k].Weight
					off = off*spatial[i] + int(taps[i][k].Index)
				}
				if w != 0 {
					for k := range ch {
						y[(b*ch+k)*points+q] += w * v[(b*ch+k)*image+off]
					}
				}
				if !next(idx, count) {
					break
				}
			}
		}
	})
	return []*array{c.fromFloats(x.t, dims, y)}, nil
}

// gridTaps lists the elements of an axis of n that coordinate g in [−1, 1] reads.
func gridTaps(g float64, n int, mode, padding string, corners bool) []graphs.Tap {
	size := float64(n)
	lo, hi := -0.5, size-0.5
	x := ((g+1)*size - 1) / 2
	if corners {
		lo, hi = 0, size-1
		x = (g + 1) / 2 * (size - 1)
	}
	if math.IsNaN(x) || math.Abs(x) > 1<<40 {
		return nil
	}
	fold := func(x float64) float64 {
		switch padding {
		case "border":
			return min(max(x, 0), size-1)
		case "reflection":
			span := hi - lo
			if span <= 0 {
				return 0
			}
			t := math.Mod(math.Abs(x-lo), 2*span)
			return min(max(span-math.Abs(t-span)+lo, 0), size-1)
		}
		return x
	}
	var taps []graphs.Tap
	tap := func(k, w float64) {
		if k = fold(k); k >= 0 && k <= size-1 {
			taps = append(taps, graphs.Tap{Index: int64(k), Weight: w})
		}
	}
	switch mode {
	case "nearest":
		tap(math.RoundToEven(fold(x)), 1)
	case "linear":
		x = fold(x)
		f := math.Floor(x)
		tap(f, 1-(x-f))
		tap(f+1, x-f)
	default:
		f := math.Floor(x)
		for k := f - 1; k <= f+2; k++ {
			tap(k, graphs.CubicKernel(math.Abs(x-k), -0.75))
		}
	}
	return taps
}

// affineGrid is θ·(position, 1) for every position of an image, x first.
func affineGrid(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	theta, err := in[0].floats()
	if err != nil {
		return nil, err
	}
	rank := len(dims) - 2
	if !in[0].t.IsFloat() || len(in[0].dims) != 3 || in[0].dims[0] != dims[0] || in[0].dims[1] != rank || in[0].dims[2] != rank+1 {
		return nil, fmt.Errorf("transformation %v: wanted [%d, %d, %d]", in[0], dims[0], rank, rank+1)
	}
	corners := c.n.Int("align_corners", 0) != 0
	spatial := dims[1 : rank+1]
	points := graphs.Size(spatial)
	y := make([]float64, graphs.Size(dims))
	for i := range dims[0] * points {
		p, q := make([]float64, rank+1), i%points
		for a := rank - 1; a >= 0; a-- {
			k := float64(q % spatial[a])
			q /= spatial[a]
			size := float64(spatial[a])
			switch {
			case !corners:
				p[rank-1-a] = (2*k+1)/size - 1
			case size > 1:
				p[rank-1-a] = 2*k/(size-1) - 1
			}
		}
		p[rank] = 1
		for r := range rank {
			for k, t := range theta[(i/points*rank+r)*(rank+1):][:rank+1] {
				y[i*rank+r] += t * p[k]
			}
		}
	}
	return []*array{c.fromFloats(in[0].t, dims, y)}, nil
}

// maxUnpool puts elements where a MaxPool found them.
func maxUnpool(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	if s, err := graphs.UnpooledShape(c.n); err != nil || !s.Same(graphs.MakeShape(dims...)) {
		return nil, fmt.Errorf("output_shape %v differs from %v (%v): runtimes differ on what the indices then mean", dims, s, err)
	}
	v, err := in[0].floats()
	if err != nil {
		return nil, err
	}
	y := make([]float64, graphs.Size(dims))
	at, err := indices(in[1], len(y))
	if err != nil {
		return nil, err
	}
	if len(at) != len(v) {
		return nil, fmt.Errorf("%d indices for %d elements", len(at), len(v))
	}
	for i, k := range at {
		y[k] = v[i]
	}
	return []*array{c.fromFloats(in[0].t, dims, y)}, nil
}

// col2Im adds up overlapping blocks.
func col2Im(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	to, _, block, ok, err := graphs.Col2ImTargets(c.n)
	if err != nil {
		return nil, err
	}
	dims, err := c.outDims(0)
	if err != nil || !ok {
		return nil, fmt.Errorf("the sizes of image and block must be integers (%w)", err)
	}
	v, err := x.floats()
	if err != nil {
		return nil, err
	}
	taps := 1
	for _, b := range block {
		taps *= int(b)
	}
	if len(x.dims) != 3 || x.dims[2]*taps != len(to) {
		return nil, fmt.Errorf("input %v does not hold %d blocks of %d", x, len(to)/taps, taps)
	}
	size := graphs.Size(dims[2:])
	y := make([]float64, graphs.Size(dims))
	for p := range dims[0] * dims[1] {
		for i, k := range to {
			if k >= 0 {
				y[p*size+int(k)] += v[p*len(to)+i]
			}
		}
	}
	return []*array{c.fromFloats(x.t, dims, y)}, nil
}
