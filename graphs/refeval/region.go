package refeval

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"ebmrun/graphs"
)

func regionKernels() map[string]kernel {
	return map[string]kernel{"RoiAlign": roiAlign, "MaxRoiPool": maxRoiPool, "DeformConv": deformConv, "NonMaxSuppression": nonMaxSuppression}
}

// regional is what both poolings of regions start from.
type regional struct {
	*graphs.Region
	x             *array
	v, rois       []float64
	of            []int // the image of each region
	dims          []int // of the result
	height, width int
}

func (c *call) regions(columns int) (*regional, error) {
	set, err := graphs.RegionOf(c.n)
	if err != nil {
		return nil, err
	}
	r := &regional{Region: set, x: c.in[0], height: c.in[0].dims[2], width: c.in[0].dims[3]}
	if r.dims, err = c.outDims(0); err != nil {
		return nil, err
	}
	if r.v, err = r.x.floats(); err != nil {
		return nil, err
	}
	if r.rois, err = c.in[1].floats(); err != nil {
		return nil, err
	}
	r.of = make([]int, r.dims[0])
	for i := range r.of {
		k := r.rois[i*columns]
		if c.n.Op == "RoiAlign" {
			list, err := c.in[2].ints()
			if err != nil {
				return nil, err
			}
			if len(list) != len(r.of) {
				return nil, fmt.Errorf("%d regions of %d images", len(r.of), len(list))
			}
			k = float64(list[i])
		}
		if !(k >= 0 && k < float64(r.x.dims[0])) {
			return nil, fmt.Errorf("region %d is of image %v of %d", i, k, r.x.dims[0])
		}
		r.of[i] = int(k)
	}
	for _, p := range r.rois {
		if math.IsNaN(p) || math.Abs(p) > 1<<30 {
			return nil, fmt.Errorf("a region with coordinate %v", p)
		}
	}
	return r, nil
}

// each computes the results of one region at a time, over its channels and cells.
func (c *call) each(r *regional, cost int, f func(region int, image, out []float64)) []*array {
	y := make([]float64, graphs.Size(r.dims))
	image, cells := r.height*r.width, r.Height*r.Width
	channels := r.dims[1]
	c.parallel(r.dims[0], cost*channels*cells, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			for k := range channels {
				f(i, r.v[(r.of[i]*channels+k)*image:][:image], y[(i*channels+k)*cells:][:cells])
			}
		}
	})
	return []*array{c.fromFloats(r.x.t, r.dims, y)}
}

// roiAlign: each cell is the mean of points inside it, interpolated between the
// elements around them; points more than one element outside are 0. The largest, in
// the other mode, is that of the single weighted elements: so ONNX defines it.
func roiAlign(c *call) ([]*array, error) {
	r, err := c.regions(4)
	if err != nil {
		return nil, err
	}
	return c.each(r, 64, func(region int, image, out []float64) {
		roi := r.rois[region*4:][:4]
		rows := r.points(roi[1], roi[3], r.Height, r.height)
		columns := r.points(roi[0], roi[2], r.Width, r.width)
		for i := range out {
			sum, most, count := 0.0, math.Inf(-1), 0
			for _, p := range rows[i/r.Width] {
				for _, q := range columns[i%r.Width] {
					for _, a := range p {
						for _, b := range q {
							if w := a.Weight * b.Weight; w == 0 {
								most = max(most, 0)
							} else {
								e := w * image[int(a.Index)*r.width+int(b.Index)]
								sum, most = sum+e, max(most, e)
							}
						}
					}
					count++
				}
			}
			switch {
			case count == 0:
			case r.Max:
				out[i] = most
			default:
				out[i] = sum / float64(count)
			}
		}
	}), nil
}

// points are the taps of the points in each cell along one axis of n elements.
func (r *regional) points(from, to float64, cells, n int) [][][2]graphs.Tap {
	shift := 0.0
	if r.Half {
		shift = 0.5
	}
	from, to = from*r.Scale-shift, to*r.Scale-shift
	extent := to - from
	if !r.Half {
		extent = max(extent, 1)
	}
	cell := extent / float64(cells)
	count := r.Samples
	if count == 0 {
		count = int(min(max(math.Ceil(cell), 0), 1<<16))
	}
	all := make([][][2]graphs.Tap, cells)
	for i := range all {
		for j := range count {
			x := from + (float64(i)+(float64(j)+0.5)/float64(count))*cell
			if x < -1 || x > float64(n) || n == 0 {
				all[i] = append(all[i], [2]graphs.Tap{})
				continue
			}
			x = min(max(x, 0), float64(n-1))
			low := math.Floor(x)
			all[i] = append(all[i], [2]graphs.Tap{{Index: int64(low), Weight: 1 - (x - low)}, {Index: min(int64(low)+1, int64(n-1)), Weight: x - low}})
		}
	}
	return all
}

// maxRoiPool: the largest element in each cell of a region, whose corners are
// rounded to elements.
func maxRoiPool(c *call) ([]*array, error) {
	r, err := c.regions(5)
	if err != nil {
		return nil, err
	}
	return c.each(r, 64, func(region int, image, out []float64) {
		roi := r.rois[region*5:][:5]
		for i := range out {
			top, bottom := r.cell(roi[2], roi[4], i/r.Width, r.Height, r.height)
			left, right := r.cell(roi[1], roi[3], i%r.Width, r.Width, r.width)
			if top >= bottom || left >= right {
				continue
			}
			most := math.Inf(-1)
			for p := top; p < bottom; p++ {
				for q := left; q < right; q++ {
					most = max(most, image[p*r.width+q])
				}
			}
			out[i] = most
		}
	}), nil
}

// cell is the range of elements of cell i of count along an axis of n.
func (r *regional) cell(from, to float64, i, count, n int) (lo, hi int) {
	from, to = math.Round(from*r.Scale), math.Round(to*r.Scale)
	size := max(to-from+1, 1) / float64(count)
	within := func(x float64) int { return int(min(max(x+from, 0), float64(n))) }
	return within(math.Floor(float64(i) * size)), within(math.Ceil(float64(i+1) * size))
}

// deformConv is a convolution whose taps are moved by offsets, y first, and weighted
// by a mask: what lies between elements is interpolated, what lies outside is 0.
func deformConv(c *call) ([]*array, error) {
	in, err := c.args(3)
	if err != nil {
		return nil, err
	}
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	w, err := graphs.WindowOf(c.n)
	if err != nil {
		return nil, err
	}
	var v [5][]float64 // image, kernel, offsets, bias, mask
	for i := range v {
		if a := c.opt(i); a != nil {
			if v[i], err = a.floats(); err != nil {
				return nil, err
			}
		}
	}
	x, groups := in[0].dims, int(c.n.Int("offset_group", 1))
	height, width := x[2], x[3]
	taps, points := int(w.Kernel[0]*w.Kernel[1]), dims[2]*dims[3]
	if want := x[0] * groups * taps * points; len(v[2]) != 2*want || v[4] != nil && len(v[4]) != want || v[3] != nil && len(v[3]) != dims[1] {
		return nil, fmt.Errorf("image %v with offsets %v, bias %v and mask %v", in[0], in[2], c.opt(3), c.opt(4))
	}
	at := func(image []float64, p, q float64) float64 {
		sum, low, left := 0.0, math.Floor(p), math.Floor(q)
		for i := range 4 {
			a, b := low+float64(i/2), left+float64(i%2)
			if a >= 0 && a < float64(height) && b >= 0 && b < float64(width) {
				sum += (1 - math.Abs(p-a)) * (1 - math.Abs(q-b)) * image[int(a)*width+int(b)]
			}
		}
		return sum
	}
	// what the taps read: [batch, channel, tap, point]
	read := []int{x[0], x[1], taps, points}
	if err := c.check(read); err != nil {
		return nil, err
	}
	col := make([]float64, graphs.Size(read))
	c.parallel(x[0]*x[1], 32*taps*points, func(lo, hi int) {
		for k := lo; k < hi; k++ {
			image, group := v[0][k*height*width:][:height*width], k/x[1]*groups+k%x[1]/(x[1]/groups)
			for t := range taps {
				row, at0 := col[(k*taps+t)*points:][:points], (group*taps+t)*points
				for p := range row {
					i, j := p/dims[3], p%dims[3]
					a := float64(i*int(w.Strides[0])+t/int(w.Kernel[1])*int(w.Dilations[0])-int(w.Begin[0])) + v[2][(2*(group*taps+t))*points+p]
					b := float64(j*int(w.Strides[1])+t%int(w.Kernel[1])*int(w.Dilations[1])-int(w.Begin[1])) + v[2][(2*(group*taps+t)+1)*points+p]
					row[p] = at(image, a, b)
					if v[4] != nil {
						row[p] *= v[4][at0+p]
					}
				}
			}
		}
	})
	y := make([]float64, graphs.Size(dims))
	inner, outer := x[1]/int(w.Group), dims[1]/int(w.Group)
	c.parallel(dims[0]*dims[1], 2*inner*taps*points, func(lo, hi int) {
		for k := lo; k < hi; k++ {
			image, o := k/dims[1], k%dims[1]
			row := y[k*points:][:points]
			if v[3] != nil {
				for p := range row {
					row[p] = v[3][o]
				}
			}
			for i := range inner * taps {
				f, from := v[1][o*inner*taps+i], col[((image*x[1]+o/outer*inner)*taps+i)*points:]
				for p := range row {
					row[p] += f * from[p]
				}
			}
		}
	})
	return []*array{c.fromFloats(in[0].t, dims, y)}, nil
}

// nonMaxSuppression keeps the boxes that overlap no box of a higher score too much,
// for each image and class.
func nonMaxSuppression(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	boxes, err1 := in[0].floats()
	scores, err2 := in[1].floats()
	b, s := in[0].dims, in[1].dims
	if err1 != nil || err2 != nil || len(b) != 3 || len(s) != 3 || b[2] != 4 || b[0] != s[0] || b[1] != s[2] {
		return nil, fmt.Errorf("boxes %v and scores %v", in[0], in[1])
	}
	limits := []float64{0, 0, math.Inf(-1)} // number of boxes, overlap, score
	for i := range limits {
		a := c.opt(2 + i)
		if a == nil {
			continue
		}
		v, err := a.floats()
		if err != nil || len(v) != 1 {
			return nil, fmt.Errorf("input %d is %v, wanted one number (%w)", 2+i, a, err)
		}
		limits[i] = v[0]
	}
	centred := c.n.Int("center_point_box", 0) != 0
	ends := func(box []float64, i int) (lo, hi float64) { // of an axis
		if centred {
			return box[i] - box[i+2]/2, box[i] + box[i+2]/2
		}
		return min(box[i], box[i+2]), max(box[i], box[i+2])
	}
	overlap := func(p, q []float64) float64 {
		shared, areas := 1.0, [2]float64{1, 1}
		for i := range 2 {
			a, z := ends(p, i)
			b, y := ends(q, i)
			shared *= max(min(z, y)-max(a, b), 0)
			areas[0], areas[1] = areas[0]*(z-a), areas[1]*(y-b)
		}
		if areas[0] <= 0 || areas[1] <= 0 || shared <= 0 {
			return 0
		}
		return shared / (areas[0] + areas[1] - shared)
	}
	var chosen []int64
	for row := range s[0] * s[1] {
		image := boxes[row/s[1]*b[1]*4:][:b[1]*4]
		score := scores[row*b[1]:][:b[1]]
		var order []int
		for i, v := range score {
			if v > limits[2] {
				order = append(order, i)
			}
		}
		slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(score[j], score[i]) })
		var kept []int
		for _, i := range order {
			if float64(len(kept)) >= limits[0] {
				break
			}
			if slices.ContainsFunc(kept, func(j int) bool { return overlap(image[i*4:][:4], image[j*4:][:4]) > limits[1] }) {
				continue
			}
			kept = append(kept, i)
			chosen = append(chosen, int64(row/s[1]), int64(row%s[1]), int64(i))
		}
	}
	return c.one(graphs.Int64, []int{len(chosen) / 3, 3}, chosen)
}
