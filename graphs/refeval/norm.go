package refeval

import (
	"fmt"
	"math"

	"ebmrun/graphs"
)

func normKernels() map[string]kernel {
	return map[string]kernel{
		"Softmax": softmax(expRow), "LogSoftmax": softmax(logRow), "Hardmax": softmax(hardRow),
		"LpNormalization": lpNorm, "MeanVarianceNormalization": meanVariance, "CumSum": cumSum, "Trilu": trilu,
		"InstanceNormalization": instanceNorm, "GroupNormalization": groupNorm, "LayerNormalization": layerNorm,
		"RMSNormalization": rmsNorm, "BatchNormalization": batchNorm, "LRN": lrn,
	}
}

// wide returns the elements of x as fresh float64 numbers. The kernels of this
// file compute in float64 and round at the end.
func wide(x *array) ([]float64, error) {
	if !x.t.IsFloat() {
		return nil, badData(x)
	}
	v, err := x.floats()
	if err != nil {
		return nil, err
	}
	if _, shared := x.data.([]float64); shared {
		v = append([]float64{}, v...)
	}
	return v, nil
}

// lanes calls f for every line along an axis: its start, its length and the
// distance between its elements.
func (c *call) lanes(dims []int, axis int, f func(at, n, step int)) {
	n, step := dims[axis], graphs.Size(dims[axis+1:])
	if n == 0 {
		return
	}
	outer := graphs.Size(dims[:axis])
	c.parallel(outer*step, 4*n, func(lo, hi int) {
		for l := lo; l < hi; l++ {
			f(l/step*step*n+l%step, n, step)
		}
	})
}

// blocks calls f for every block of n consecutive elements.
func (c *call) blocks(v []float64, n int, f func(i int, row []float64)) {
	if n == 0 {
		return
	}
	c.parallel(len(v)/n, 4*n, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			f(i, v[i*n:(i+1)*n])
		}
	})
}

func softmax(row func([]float64)) kernel {
	return func(c *call) ([]*array, error) {
		x, err := c.arg(0)
		if err != nil {
			return nil, err
		}
		v, err := wide(x)
		if err != nil {
			return nil, err
		}
		dims, def := x.dims, int64(-1)
		if c.set.opset < 13 {
			def = 1
		}
		axis, err := c.axis("axis", def, len(dims))
		if err != nil {
			return nil, err
		}
		if c.set.opset < 13 { // all axes from axis on together
			dims = []int{graphs.Size(dims[:axis]), graphs.Size(dims[axis:])}
			axis = 1
		}
		c.lanes(dims, axis, func(at, n, step int) {
			if step == 1 {
				row(v[at : at+n])
				return
			}
			buf := make([]float64, n)
			for i := range buf {
				buf[i] = v[at+i*step]
			}
			row(buf)
			for i := range buf {
				v[at+i*step] = buf[i]
			}
		})
		return []*array{c.fromFloats(x.t, x.dims, v)}, nil
	}
}

func peak(v []float64) float64 {
	m := math.Inf(-1)
	for _, x := range v {
		m = max(m, x)
	}
	return m
}

func expRow(v []float64) {
	m, s := peak(v), 0.0
	for i, x := range v {
		v[i] = math.Exp(x - m)
		s += v[i]
	}
	for i := range v {
		v[i] /= s
	}
}

func logRow(v []float64) {
	m, s := peak(v), 0.0
	for _, x := range v {
		s += math.Exp(x - m)
	}
	l := math.Log(s)
	for i := range v {
		v[i] = v[i] - m - l
	}
}

func hardRow(v []float64) {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	for i := range v {
		v[i] = 0
	}
	if len(v) > 0 {
		v[best] = 1
	}
}

func lpNorm(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	v, err := wide(x)
	if err != nil {
		return nil, err
	}
	axis, err := c.axis("axis", -1, len(x.dims))
	if err != nil {
		return nil, err
	}
	p := c.n.Int("p", 2)
	if p != 1 && p != 2 {
		return nil, fmt.Errorf("p is %d, wanted 1 or 2", p)
	}
	c.lanes(x.dims, axis, func(at, n, step int) {
		s := 0.0
		for i := range n {
			if e := v[at+i*step]; p == 1 {
				s += math.Abs(e)
			} else {
				s += e * e
			}
		}
		if p == 2 {
			s = math.Sqrt(s)
		}
		if s == 0 {
			return
		}
		for i := range n {
			v[at+i*step] /= s
		}
	})
	return []*array{c.fromFloats(x.t, x.dims, v)}, nil
}

// moments are the mean and the (biased) variance of a row.
func moments(row []float64) (mean, variance float64) {
	n := float64(len(row))
	for _, v := range row {
		mean += v
	}
	mean /= n
	for _, v := range row {
		variance += (v - mean) * (v - mean)
	}
	return mean, variance / n
}

// meanVariance is (x − mean) / (deviation + 1e-9) over the given axes.
func meanVariance(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	v, err := wide(x)
	if err != nil {
		return nil, err
	}
	axes := c.n.Ints("axes")
	if axes == nil {
		axes = []int64{0, 2, 3}
	}
	perm, kept, err := lastAxes(axes, len(x.dims))
	if err != nil {
		return nil, err
	}
	dims := permuted(x.dims, perm)
	v = transpose(v, x.dims, perm)
	c.blocks(v, graphs.Size(dims[kept:]), func(_ int, row []float64) {
		m, s := moments(row)
		s = math.Sqrt(s) + 1e-9
		for i := range row {
			row[i] = (row[i] - m) / s
		}
	})
	v = transpose(v, dims, inverse(perm))
	return []*array{c.fromFloats(x.t, x.dims, v)}, nil
}

func cumSum(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	x := in[0]
	a, err := in[1].scalar()
	if err != nil {
		return nil, err
	}
	axis, err := graphs.NormAxis(a, len(x.dims))
	if err != nil {
		return nil, err
	}
	exclusive, reverse := c.n.Int("exclusive", 0) != 0, c.n.Int("reverse", 0) != 0
	if d, ok := x.data.([]int64); ok {
		return c.one(x.t, x.dims, sums(c, append([]int64{}, d...), x.dims, axis, exclusive, reverse))
	}
	v, err := wide(x)
	if err != nil {
		return nil, err
	}
	return []*array{c.fromFloats(x.t, x.dims, sums(c, v, x.dims, axis, exclusive, reverse))}, nil
}

func sums[T number](c *call, v []T, dims []int, axis int, exclusive, reverse bool) []T {
	c.lanes(dims, axis, func(at, n, step int) {
		if reverse {
			at, step = at+(n-1)*step, -step
		}
		var s T
		for i := range n {
			k := at + i*step
			e := v[k]
			if exclusive {
				v[k] = s
			} else {
				v[k] = s + e
			}
			s += e
		}
	})
	return v
}

func trilu(c *call) ([]*array, error) {
	x, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	if len(x.dims) < 2 {
		return nil, fmt.Errorf("%v is not a matrix", x)
	}
	k := int64(0)
	if b := c.opt(1); b != nil {
		if k, err = b.scalar(); err != nil {
			return nil, err
		}
	}
	upper := c.n.Int("upper", 1) != 0
	rows, cols := x.dims[len(x.dims)-2], x.dims[len(x.dims)-1]
	keep := func(i int) bool {
		// d ≥ k is at or above diagonal k
		d := int64(i%cols) - int64(i/cols%rows)
		return upper && d >= k || !upper && d <= k
	}
	switch d := x.data.(type) {
	case []float64:
		return c.one(x.t, x.dims, masked(d, keep))
	case []float32:
		return c.one(x.t, x.dims, masked(d, keep))
	case []int64:
		return c.one(x.t, x.dims, masked(d, keep))
	}
	return nil, badData(x)
}

func masked[T any](x []T, keep func(int) bool) []T {
	y := make([]T, len(x))
	for i, v := range x {
		if keep(i) {
			y[i] = v
		}
	}
	return y
}

// perChannel returns the elements of input i, which has one per channel.
func (c *call) perChannel(i, channels int) ([]float64, error) {
	a, err := c.arg(i)
	if err != nil {
		return nil, err
	}
	v, err := a.floats()
	if err != nil {
		return nil, err
	}
	if len(v) != channels {
		return nil, fmt.Errorf("input %d (%v) wanted one number for each of %d channels", i, a, channels)
	}
	return v, nil
}

// images returns input 0 as float64 with its batch, channel and spatial sizes.
func (c *call) images() (x *array, v []float64, batch, channels, size int, err error) {
	if x, err = c.arg(0); err != nil {
		return
	}
	if len(x.dims) < 2 {
		err = fmt.Errorf("%v has no channel axis", x)
		return
	}
	v, err = wide(x)
	return x, v, x.dims[0], x.dims[1], graphs.Size(x.dims[2:]), err
}

func instanceNorm(c *call) ([]*array, error) {
	x, v, _, ch, size, err := c.images()
	if err != nil {
		return nil, err
	}
	scale, err := c.perChannel(1, ch)
	if err != nil {
		return nil, err
	}
	bias, err := c.perChannel(2, ch)
	if err != nil {
		return nil, err
	}
	eps := c.n.Float("epsilon", float64(float32(1e-5)))
	c.blocks(v, size, func(i int, row []float64) {
		m, s := moments(row)
		k := scale[i%ch] / math.Sqrt(s+eps)
		for j := range row {
			row[j] = (row[j]-m)*k + bias[i%ch]
		}
	})
	return []*array{c.fromFloats(x.t, x.dims, v)}, nil
}

// groupNorm: scale and bias are per channel, or per group as before opset 21.
func groupNorm(c *call) ([]*array, error) {
	x, v, _, ch, size, err := c.images()
	if err != nil {
		return nil, err
	}
	groups := int(c.n.Int("num_groups", 0))
	if groups < 1 || ch%groups != 0 {
		return nil, fmt.Errorf("%d groups do not divide %d channels", groups, ch)
	}
	per := ch
	if s := c.opt(1); s != nil && c.set.opset < 21 && s.len() == groups {
		per = groups
	}
	scale, err := c.perChannel(1, per)
	if err != nil {
		return nil, err
	}
	bias, err := c.perChannel(2, per)
	if err != nil {
		return nil, err
	}
	eps := c.n.Float("epsilon", float64(float32(1e-5)))
	in := ch / groups
	c.blocks(v, in*size, func(i int, row []float64) {
		m, s := moments(row)
		r := 1 / math.Sqrt(s+eps)
		for j := range row {
			k := i%groups*in + j/size
			if per == groups {
				k = i % groups
			}
			row[j] = (row[j]-m)*r*scale[k] + bias[k]
		}
	})
	return []*array{c.fromFloats(x.t, x.dims, v)}, nil
}

// layerNorm gives the mean and the inverse deviation too, in float32 as
// stash_type says unless all floats are wide.
func layerNorm(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	x := in[0]
	v, err := wide(x)
	if err != nil {
		return nil, err
	}
	axis, err := c.axis("axis", -1, len(x.dims))
	if err != nil {
		return nil, err
	}
	eps := c.n.Float("epsilon", float64(float32(1e-5)))
	outer := graphs.Size(x.dims[:axis])
	means, invs := make([]float64, outer), make([]float64, outer)
	c.blocks(v, graphs.Size(x.dims[axis:]), func(i int, row []float64) {
		m, s := moments(row)
		means[i], invs[i] = m, 1/math.Sqrt(s+eps)
		for j := range row {
			row[j] = (row[j] - m) * invs[i]
		}
	})
	y, err := c.affine(x, v, in[1], c.opt(2))
	if err != nil {
		return nil, err
	}
	stat := append([]int{}, x.dims...)
	for i := axis; i < len(stat); i++ {
		stat[i] = 1
	}
	out := []*array{y, c.fromFloats(graphs.Float32, stat, means), c.fromFloats(graphs.Float32, stat, invs)}
	return out[:len(c.n.Outputs)], nil
}

// affine is v·scale + bias, broadcast to the dimensions of x.
func (c *call) affine(x *array, v []float64, scale, bias *array) (*array, error) {
	for _, o := range []struct {
		a  *array
		op byte
	}{{scale, '*'}, {bias, '+'}} {
		if o.a == nil {
			continue
		}
		f, err := o.a.floats()
		if err != nil {
			return nil, err
		}
		b, err := newBcast(x.dims, x.dims, o.a.dims)
		if err != nil {
			return nil, err
		}
		v = floats2(c, ops2{row: o.op}, b, v, f)
	}
	return c.fromFloats(x.t, x.dims, v), nil
}

func rmsNorm(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	x := in[0]
	v, err := wide(x)
	if err != nil {
		return nil, err
	}
	axis, err := c.axis("axis", -1, len(x.dims))
	if err != nil {
		return nil, err
	}
	eps := c.n.Float("epsilon", float64(float32(1e-5)))
	c.blocks(v, graphs.Size(x.dims[axis:]), func(_ int, row []float64) {
		s := 0.0
		for _, e := range row {
			s += e * e
		}
		r := 1 / math.Sqrt(s/float64(len(row))+eps)
		for j := range row {
			row[j] *= r
		}
	})
	y, err := c.affine(x, v, in[1], nil)
	return []*array{y}, err
}

// batchNorm uses the given statistics, or in training mode those of the batch,
// and then also gives the running ones.
func batchNorm(c *call) ([]*array, error) {
	x, v, batch, ch, size, err := c.images()
	if err != nil {
		return nil, err
	}
	var p [4][]float64 // scale, bias, mean, variance
	for i := range p {
		if p[i], err = c.perChannel(1+i, ch); err != nil {
			return nil, err
		}
	}
	eps := c.n.Float("epsilon", float64(float32(1e-5)))
	mean, variance := p[2], p[3]
	out := []*array{nil}
	if c.n.Int("training_mode", 0) != 0 {
		mean, variance = make([]float64, ch), make([]float64, ch)
		run := [2][]float64{make([]float64, ch), make([]float64, ch)}
		k := c.n.Float("momentum", float64(float32(0.9)))
		row := make([]float64, 0, batch*size)
		for j := range ch {
			row = row[:0]
			for b := range batch {
				at := (b*ch + j) * size
				row = append(row, v[at:at+size]...)
			}
			mean[j], variance[j] = moments(row)
			run[0][j] = p[2][j]*k + mean[j]*(1-k)
			run[1][j] = p[3][j]*k + variance[j]*(1-k)
		}
		for i, r := range run {
			out = append(out, c.fromFloats(c.in[3+i].t, []int{ch}, r))
		}
	} else if len(c.n.Outputs) > 1 {
		return nil, fmt.Errorf("%d outputs outside training mode", len(c.n.Outputs))
	}
	c.blocks(v, size, func(i int, row []float64) {
		j := i % ch
		k := p[0][j] / math.Sqrt(variance[j]+eps)
		for l := range row {
			row[l] = (row[l]-mean[j])*k + p[1][j]
		}
	})
	out[0] = c.fromFloats(x.t, x.dims, v)
	return out[:len(c.n.Outputs)], nil
}

// lrn is x / (bias + alpha/size · Σ x²)^beta over a window of channels.
func lrn(c *call) ([]*array, error) {
	x, v, _, ch, size, err := c.images()
	if err != nil {
		return nil, err
	}
	w := int(c.n.Int("size", 0))
	if w < 1 {
		return nil, fmt.Errorf("size %d", w)
	}
	alpha, beta, bias := c.n.Float("alpha", float64(float32(1e-4))), c.n.Float("beta", 0.75), c.n.Float("bias", 1)
	y := make([]float64, len(v))
	before, after := (w-1)/2, w-1-(w-1)/2
	c.parallel(len(v), 2*w, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			j := i / size % ch
			s := 0.0
			for k := max(0, j-before); k <= min(ch-1, j+after); k++ {
				e := v[i+(k-j)*size]
				s += e * e
			}
			y[i] = v[i] / math.Pow(bias+alpha/float64(w)*s, beta)
		}
	})
	return []*array{c.fromFloats(x.t, x.dims, y)}, nil
}
