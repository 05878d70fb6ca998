package refeval

import (
	"fmt"
	"math"
	"slices"

	"ebmrun/graphs"
)

func windowKernels() map[string]kernel {
	return map[string]kernel{
		"Conv": conv, "ConvTranspose": convTranspose, "MaxPool": maxPool, "AveragePool": averagePool, "LpPool": lpPool,
		"GlobalAveragePool": globalPool, "GlobalMaxPool": globalPool, "GlobalLpPool": globalPool,
	}
}

// A geometry is a window over the spatial axes of an image.
type geometry struct {
	in, out                           []int // spatial sizes
	kernel, strides, dilations, begin []int
}

func newGeometry(w *graphs.Window, in, out []int) *geometry {
	ints := func(v []int64) []int {
		r := make([]int, len(v))
		for i, x := range v {
			r[i] = int(x)
		}
		return r
	}
	return &geometry{in, out, ints(w.Kernel), ints(w.Strides), ints(w.Dilations), ints(w.Begin)}
}

// next moves a multi-index to the next one in row-major order; false after the
// last.
func next(idx, dims []int) bool {
	for i := len(dims) - 1; i >= 0; i-- {
		idx[i]++
		if idx[i] < dims[i] {
			return true
		}
		idx[i] = 0
	}
	return false
}

// taps calls f for each position of the kernel and each row of outputs along the
// last axis for which the other axes lie inside the image. The row is kernel
// position k, outputs [o, o+n) of which the one at o+j reads (or, transposed,
// writes) the image at at+j*step; n may be 0.
func (g *geometry) taps(f func(k, o, n, at, step int)) {
	r := len(g.in)
	if graphs.Size(g.in) == 0 || graphs.Size(g.out) == 0 {
		return
	}
	st := strides(g.in)
	kp, op := make([]int, r), make([]int, r)
	last := r - 1
	rows := g.out[:last]
	for k := 0; ; k++ {
		// Range of the outputs on the last axis that read inside the image.
		shift := kp[last]*g.dilations[last] - g.begin[last]
		s := g.strides[last]
		lo := 0
		if shift < 0 {
			lo = (-shift + s - 1) / s
		}
		hi := 0
		if g.in[last] > shift {
			hi = min(g.out[last], (g.in[last]-1-shift)/s+1)
		}
		if lo < hi {
			clear(op)
			for row := 0; ; row++ {
				at, inside := lo*s+shift, true
				for i := range last {
					p := op[i]*g.strides[i] + kp[i]*g.dilations[i] - g.begin[i]
					inside = inside && p >= 0 && p < g.in[i]
					at += p * st[i]
				}
				if inside {
					f(k, row*g.out[last]+lo, hi-lo, at, s)
				}
				if !next(op[:last], rows) {
					break
				}
			}
		}
		if !next(kp, g.kernel) {
			return
		}
	}
}

// trivial reports a 1×1 window that reads the image as it is.
func (g *geometry) trivial() bool {
	for i := range g.kernel {
		if g.kernel[i] != 1 || g.strides[i] != 1 || g.begin[i] != 0 || g.in[i] != g.out[i] {
			return false
		}
	}
	return true
}

func conv(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	switch in[0].data.(type) {
	case []float64:
		return convOf[float64](c)
	case []float32:
		return convOf[float32](c)
	}
	return nil, badData(in[0])
}

// convSetup checks what shape inference does not and returns the operands.
func convSetup[T float](c *call) (x, k, bias []T, w *graphs.Window, dims []int, err error) {
	var ok1, ok2 bool
	x, ok1 = c.in[0].data.([]T)
	k, ok2 = c.in[1].data.([]T)
	if !ok1 || !ok2 {
		return nil, nil, nil, nil, nil, fmt.Errorf("operands %v and %v are not supported", c.in[0], c.in[1])
	}
	if dims, err = c.outDims(0); err != nil {
		return
	}
	if w, err = graphs.WindowOf(c.n); err != nil {
		return
	}
	if len(c.in[1].dims) != len(dims) || !slices.EqualFunc(w.Kernel, c.in[1].dims[2:], func(a int64, b int) bool { return a == int64(b) }) {
		return nil, nil, nil, nil, nil, fmt.Errorf("kernel %v is not of size %v", c.in[1], w.Kernel)
	}
	if b := c.opt(2); b != nil {
		var ok bool
		if bias, ok = b.data.([]T); !ok || len(bias) != dims[1] {
			return nil, nil, nil, nil, nil, fmt.Errorf("bias %v wanted one number for each of %d channels", b, dims[1])
		}
	}
	return
}

func convOf[T float](c *call) ([]*array, error) {
	x, kern, bias, w, dims, err := convSetup[T](c)
	if err != nil {
		return nil, err
	}
	xd, kd := c.in[0].dims, c.in[1].dims
	group := int(w.Group)
	if kd[0]%group != 0 || xd[1] != kd[1]*group {
		return nil, fmt.Errorf("%d groups do not fit input %v and kernel %v", group, c.in[0], c.in[1])
	}
	g := newGeometry(w, xd[2:], dims[2:])
	cin, cout := kd[1], kd[0]/group
	taps := graphs.Size(kd[2:])
	sin, sout := graphs.Size(g.in), graphs.Size(g.out)
	y := make([]T, graphs.Size(dims))
	jobs := xd[0] * group
	inner := c.serial()
	if jobs < c.set.workers {
		inner = c
	}
	if err := c.check([]int{min(jobs, c.set.workers), cin, taps, sout}); err != nil {
		return nil, err
	}
	c.parallel(jobs, cout*cin*taps*sout, func(lo, hi int) {
		var cols []T
		for j := lo; j < hi; j++ {
			img := x[j*cin*sin : (j+1)*cin*sin]
			if g.trivial() {
				cols = img
			} else {
				if cols == nil {
					cols = make([]T, cin*taps*sout)
				}
				unfold(g, img, cols, cin, taps, sin, sout)
			}
			z := y[j*cout*sout : (j+1)*cout*sout]
			f := kern[j%group*cout*cin*taps:]
			gemm(inner, cout, sout, cin*taps, rowMajor(f, cin*taps), rowMajor(cols, sout), z)
			addBias(z, bias, j%group*cout, sout)
		}
	})
	return c.one(c.in[0].t, dims, y)
}

func addBias[T float](z, bias []T, from, size int) {
	if bias == nil || size == 0 {
		return
	}
	for i := range z {
		z[i] += bias[from+i/size]
	}
}

// unfold writes the image as a matrix: a row per channel and kernel position, a
// column per output.
func unfold[T float](g *geometry, img, cols []T, ch, taps, sin, sout int) {
	clear(cols)
	g.taps(func(k, o, n, at, step int) {
		for i := range ch {
			to := cols[(i*taps+k)*sout+o:][:n]
			from := img[i*sin+at:]
			if step == 1 {
				copy(to, from)
				continue
			}
			for j := range to {
				to[j] = from[j*step]
			}
		}
	})
}

func convTranspose(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	switch in[0].data.(type) {
	case []float64:
		return convTransposeOf[float64](c)
	case []float32:
		return convTransposeOf[float32](c)
	}
	return nil, badData(in[0])
}

// convTransposeOf is the transpose of convolution: the geometry runs from the
// output (its image) to the input (its outputs).
func convTransposeOf[T float](c *call) ([]*array, error) {
	x, kern, bias, w, dims, err := convSetup[T](c)
	if err != nil {
		return nil, err
	}
	xd, kd := c.in[0].dims, c.in[1].dims
	group := int(w.Group)
	if xd[1]%group != 0 || xd[1] != kd[0] {
		return nil, fmt.Errorf("%d groups do not fit input %v and kernel %v", group, c.in[0], c.in[1])
	}
	g := newGeometry(w, dims[2:], xd[2:])
	cin, cout := xd[1]/group, kd[1]
	taps := graphs.Size(kd[2:])
	sin, sout := graphs.Size(xd[2:]), graphs.Size(dims[2:])
	y := make([]T, graphs.Size(dims))
	jobs := xd[0] * group
	inner := c.serial()
	if jobs < c.set.workers {
		inner = c
	}
	if err := c.check([]int{min(jobs, c.set.workers), cout, taps, sin}); err != nil {
		return nil, err
	}
	c.parallel(jobs, cout*cin*taps*sin, func(lo, hi int) {
		cols := make([]T, cout*taps*sin)
		for j := lo; j < hi; j++ {
			f := kern[j%group*cin*cout*taps:]
			gemm(inner, cout*taps, sin, cin, rowMajor(f, cout*taps).t(), rowMajor(x[j*cin*sin:], sin), cols)
			z := y[j*cout*sout : (j+1)*cout*sout]
			g.taps(func(k, o, n, at, step int) {
				for i := range cout {
					to := z[i*sout+at:]
					for q, v := range cols[(i*taps+k)*sin+o:][:n] {
						to[q*step] += v
					}
				}
			})
			addBias(z, bias, j%group*cout, sout)
		}
	})
	return c.one(c.in[0].t, dims, y)
}

// A pooling is what the pooling kernels share.
type pooling struct {
	x    *array
	v, y []float64
	dims []int
	g    *geometry
	end  []int64 // pads
}

// pool calls f with every channel of the image, as input and output elements.
func (c *call) pool(f func(p *pooling, plane int, in, out []float64)) (*pooling, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	if x.t == graphs.Uint64 || x.t == graphs.Int64 {
		return nil, badData(x) // float64 does not hold all of them
	}
	p := &pooling{x: x}
	if p.v, err = x.floats(); err != nil {
		return nil, err
	}
	if p.dims, err = c.outDims(0); err != nil {
		return nil, err
	}
	w, err := graphs.WindowOf(c.n)
	if err != nil {
		return nil, err
	}
	p.g, p.end = newGeometry(w, x.dims[2:], p.dims[2:]), w.End
	p.y = make([]float64, graphs.Size(p.dims))
	in, out := graphs.Size(p.g.in), graphs.Size(p.g.out)
	c.parallel(p.dims[0]*p.dims[1], 4*out*graphs.Size(p.g.kernel), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			f(p, i, p.v[i*in:(i+1)*in], p.y[i*out:(i+1)*out])
		}
	})
	return p, nil
}

func maxPool(c *call) ([]*array, error) {
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	where := make([]int64, graphs.Size(dims))
	columns := c.n.Int("storage_order", 0) != 0
	p, err := c.pool(func(p *pooling, plane int, in, out []float64) {
		idx := where[plane*len(out) : (plane+1)*len(out)]
		for i := range out {
			out[i], idx[i] = math.Inf(-1), -1
		}
		p.g.taps(func(_, o, n, at, step int) {
			for j := range n {
				if e := in[at+j*step]; idx[o+j] < 0 || e > out[o+j] || e != e {
					out[o+j], idx[o+j] = e, int64(at+j*step)
				}
			}
		})
		for i, k := range idx {
			if columns && k >= 0 {
				k = int64(columnMajor(int(k), p.g.in))
			}
			if k >= 0 { // −1 where the window lies in the padding
				idx[i] = k + int64(plane*len(in))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	out := []*array{c.fromFloats(p.x.t, dims, p.y), c.fresh(graphs.Int64, dims, where)}
	return out[:len(c.n.Outputs)], nil
}

// columnMajor is the position of row-major offset off when the first axis runs
// fastest.
func columnMajor(off int, dims []int) int {
	r, step := 0, graphs.Size(dims)
	for i := len(dims) - 1; i >= 0; i-- {
		step /= dims[i]
		r += off % dims[i] * step
		off /= dims[i]
	}
	return r
}

func averagePool(c *call) ([]*array, error) {
	p, err := c.pool(func(p *pooling, _ int, in, out []float64) {
		p.g.taps(func(_, o, n, at, step int) {
			for j := range n {
				out[o+j] += in[at+j*step]
			}
		})
	})
	if err != nil {
		return nil, err
	}
	counts := p.counts(c.n.Int("count_include_pad", 0) != 0)
	for i := range p.y {
		p.y[i] /= float64(max(counts[i%len(counts)], 1))
	}
	return []*array{c.fromFloats(p.x.t, p.dims, p.y)}, nil
}

// counts are the numbers of cells averaged over, one an output of a plane. The
// pads may count; cells beyond them, which ceil_mode can reach, never do.
func (p *pooling) counts(padded bool) []int {
	g := *p.g
	if padded {
		g.in, g.begin = slices.Clone(g.in), make([]int, len(g.in))
		for i := range g.in {
			g.in[i] += p.g.begin[i] + int(p.end[i])
		}
	}
	n := make([]int, graphs.Size(g.out))
	g.taps(func(_, o, cnt, _, _ int) {
		for j := range cnt {
			n[o+j]++
		}
	})
	return n
}

func lpPool(c *call) ([]*array, error) {
	e := float64(c.n.Int("p", 2))
	p, err := c.pool(func(p *pooling, _ int, in, out []float64) {
		p.g.taps(func(_, o, n, at, step int) {
			for j := range n {
				out[o+j] += power(math.Abs(in[at+j*step]), e)
			}
		})
		for i, s := range out {
			out[i] = math.Pow(s, 1/e)
		}
	})
	if err != nil {
		return nil, err
	}
	return []*array{c.fromFloats(p.x.t, p.dims, p.y)}, nil
}

func globalPool(c *call) ([]*array, error) {
	x, v, batch, ch, size, err := c.images()
	if err != nil {
		return nil, err
	}
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	p := float64(c.n.Int("p", 2))
	y := make([]float64, batch*ch)
	c.blocks(v, size, func(i int, row []float64) {
		switch c.n.Op {
		case "GlobalMaxPool":
			y[i] = peak(row)
		case "GlobalAveragePool":
			y[i] = sumRow(row) / float64(size)
		default:
			s := 0.0
			for _, e := range row {
				s += math.Pow(math.Abs(e), p)
			}
			y[i] = math.Pow(s, 1/p)
		}
	})
	return []*array{c.fromFloats(x.t, dims, y)}, nil
}
