package refeval

import (
	"fmt"
	"slices"
	"strings"

	"ebmrun/graphs"
)

func productKernels() map[string]kernel {
	return map[string]kernel{"MatMul": matMul, "Gemm": gemmKernel, "Einsum": einsum}
}

func matMul(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	x, y := in[0], in[1]
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	switch a := x.data.(type) {
	case []float64:
		if b, ok := y.data.([]float64); ok {
			return batched(c, x, a, y, b, dims)
		}
	case []float32:
		if b, ok := y.data.([]float32); ok {
			return batched(c, x, a, y, b, dims)
		}
	case []int64:
		if b, ok := y.data.([]int64); ok {
			return batched(c, x, a, y, b, dims)
		}
	}
	return nil, fmt.Errorf("operands %v and %v are not supported", x, y)
}

func batched[T number](c *call, x *array, a []T, y *array, b []T, dims []int) ([]*array, error) {
	da, db := x.dims, y.dims
	if len(da) == 1 {
		da = []int{1, da[0]}
	}
	if len(db) == 1 {
		db = []int{db[0], 1}
	}
	ba, bb := da[:len(da)-2], db[:len(db)-2]
	m, k, n := da[len(da)-2], da[len(da)-1], db[len(db)-1]
	out := make([]T, graphs.Size(dims))
	if len(bb) == 0 { // one matrix for the whole batch: fold the batch into rows
		rows := graphs.Size(ba) * m
		gemm(c, rows, n, k, rowMajor(a, k), rowMajor(b, n), out)
		return c.one(x.t, dims, out)
	}
	bd, err := broadcastDims(ba, bb)
	if err != nil {
		return nil, err
	}
	w, err := newBcast(bd, ba, bb)
	if err != nil {
		return nil, err
	}
	starts := make([][2]int, w.n)
	serial := c.serial()
	w.rows(serial, 1, func(o, cnt int, off, st [maxOperands]int) {
		for i := range cnt {
			starts[o+i] = [2]int{(off[0] + i*st[0]) * m * k, (off[1] + i*st[1]) * k * n}
		}
	})
	inner := serial
	if w.n < c.set.workers {
		inner = c
	}
	c.parallel(w.n, m*n*k, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			s := starts[i]
			gemm(inner, m, n, k, rowMajor(a[s[0]:], k), rowMajor(b[s[1]:], n), out[i*m*n:])
		}
	})
	return c.one(x.t, dims, out)
}

// serial is a call whose helpers use no goroutines.
func (c *call) serial() *call {
	s := *c.set
	s.workers = 1
	d := *c
	d.set = &s
	return &d
}

func gemmKernel(c *call) ([]*array, error) {
	in, err := c.args(2)
	if err != nil {
		return nil, err
	}
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	switch a := in[0].data.(type) {
	case []float64:
		if b, ok := in[1].data.([]float64); ok {
			return gemmOf(c, a, b, dims)
		}
	case []float32:
		if b, ok := in[1].data.([]float32); ok {
			return gemmOf(c, a, b, dims)
		}
	case []int64:
		if b, ok := in[1].data.([]int64); ok {
			return gemmOf(c, a, b, dims)
		}
	}
	return nil, fmt.Errorf("operands %v and %v are not supported", in[0], in[1])
}

func gemmOf[T number](c *call, a, b []T, dims []int) ([]*array, error) {
	ma, mb := rowMajor(a, c.in[0].dims[1]), rowMajor(b, c.in[1].dims[1])
	k := c.in[0].dims[1]
	if c.n.Int("transA", 0) != 0 {
		ma, k = ma.t(), c.in[0].dims[0]
	}
	if c.n.Int("transB", 0) != 0 {
		mb = mb.t()
	}
	out := make([]T, graphs.Size(dims))
	gemm(c, dims[0], dims[1], k, ma, mb, out)
	alpha, beta := T(c.n.Float("alpha", 1)), T(c.n.Float("beta", 1))
	if alpha != 1 {
		for i := range out {
			out[i] *= alpha
		}
	}
	if v := c.opt(2); v != nil && beta != 0 {
		d, ok := v.data.([]T)
		if !ok {
			return nil, fmt.Errorf("addend %v is not supported", v)
		}
		w, err := newBcast(dims, dims, v.dims)
		if err != nil {
			return nil, err
		}
		w.rows(c, 1, func(o, n int, off, st [maxOperands]int) {
			z := out[o : o+n]
			if st[1] == 1 && beta == 1 {
				for i, v := range d[off[1] : off[1]+n] {
					z[i] += v
				}
				return
			}
			for i := range z {
				z[i] += beta * d[off[1]+i*st[1]]
			}
		})
	}
	return c.one(c.in[0].t, dims, out)
}

func einsum(c *call) ([]*array, error) {
	in, err := c.args(len(c.in))
	if err != nil {
		return nil, err
	}
	spec, err := graphs.EinsumOf(c.n)
	if err != nil {
		return nil, err
	}
	dims, err := c.outDims(0)
	if err != nil {
		return nil, err
	}
	if len(in) == 0 {
		return nil, fmt.Errorf("no operands")
	}
	switch in[0].data.(type) {
	case []float64:
		return einsumOf[float64](c, spec, dims)
	case []float32:
		return einsumOf[float32](c, spec, dims)
	case []int64:
		return einsumOf[int64](c, spec, dims)
	}
	return nil, badData(in[0])
}

// An operand of Einsum: one label per axis.
type labelled[T number] struct {
	labels string
	dims   []int
	data   []T
}

// einsumOf contracts operands from the left, two at a time, as batches of matrix
// products.
func einsumOf[T number](c *call, spec graphs.EinsumSpec, dims []int) ([]*array, error) {
	ops := make([]labelled[T], len(c.in))
	for i, a := range c.in {
		d, ok := a.data.([]T)
		if !ok {
			return nil, fmt.Errorf("operands %v and %v are not supported", c.in[0], a)
		}
		if len(spec.In[i]) != len(a.dims) {
			return nil, fmt.Errorf("labels %q do not fit %v", spec.In[i], a)
		}
		ops[i] = labelled[T]{spec.In[i], a.dims, d}
	}
	for i := range ops {
		later := spec.Out
		for j, o := range ops {
			if j != i {
				later += o.labels
			}
		}
		ops[i] = ops[i].keep(later)
	}
	acc := ops[0]
	for i := 1; i < len(ops); i++ {
		later := spec.Out
		for _, o := range ops[i+1:] {
			later += o.labels
		}
		var err error
		if acc, err = contract(c, acc, ops[i], later); err != nil {
			return nil, err
		}
	}
	acc = acc.keep(spec.Out)
	return c.one(c.in[0].t, dims, transpose(acc.data, acc.dims, relabel(acc.labels, spec.Out)))
}

// relabel is the permutation that brings the labels from into the order to.
func relabel(from, to string) []int {
	p := make([]int, len(to))
	for i := range to {
		p[i] = strings.IndexByte(from, to[i])
	}
	return p
}

// keep takes diagonals of repeated labels and sums over labels that are not
// wanted any more.
func (o labelled[T]) keep(wanted string) labelled[T] {
	st := strides(o.dims)
	var kept, gone string
	var dk, dg, sk, sg []int
	for i := range o.labels {
		r := o.labels[i : i+1]
		if strings.Contains(o.labels[:i], r) {
			continue
		}
		s := 0
		for j := range o.labels {
			if o.labels[j] == r[0] {
				s += st[j]
			}
		}
		if strings.Contains(wanted, r) {
			kept, dk, sk = kept+r, append(dk, o.dims[i]), append(sk, s)
		} else {
			gone, dg, sg = gone+r, append(dg, o.dims[i]), append(sg, s)
		}
	}
	if kept == o.labels {
		return o
	}
	v := strided(o.data, 0, slices.Concat(dk, dg), slices.Concat(sk, sg))
	out := make([]T, graphs.Size(dk))
	n := graphs.Size(dg)
	for i := range out {
		for _, x := range v[i*n : (i+1)*n] {
			out[i] += x
		}
	}
	return labelled[T]{kept, dk, out}
}

// contract multiplies two operands and sums over the labels that are in both
// and not wanted later.
func contract[T number](c *call, x, y labelled[T], later string) (labelled[T], error) {
	var batch, sum, left, right string
	size := map[byte]int{}
	for i := range x.labels {
		r := x.labels[i]
		size[r] = x.dims[i]
		in := strings.IndexByte(y.labels, r) >= 0
		switch {
		case in && strings.IndexByte(later, r) >= 0:
			batch += string(r)
		case in:
			sum += string(r)
		default:
			left += string(r)
		}
	}
	for i := range y.labels {
		r := y.labels[i]
		if d, ok := size[r]; ok && d != y.dims[i] {
			return x, fmt.Errorf("label %q has sizes %d and %d", r, d, y.dims[i])
		}
		size[r] = y.dims[i]
		if strings.IndexByte(x.labels, r) < 0 {
			right += string(r)
		}
	}
	count := func(labels string) int {
		n := 1
		for i := range labels {
			n *= size[labels[i]]
		}
		return n
	}
	out := labelled[T]{labels: batch + left + right}
	for i := range out.labels {
		out.dims = append(out.dims, size[out.labels[i]])
	}
	if err := c.check(out.dims); err != nil {
		return out, err
	}
	nb, m, n, k := count(batch), count(left), count(right), count(sum)
	a := transpose(x.data, x.dims, relabel(x.labels, batch+left+sum))
	b := transpose(y.data, y.dims, relabel(y.labels, batch+sum+right))
	out.data = make([]T, nb*m*n)
	inner := c.serial()
	if nb < c.set.workers {
		inner = c
	}
	c.parallel(nb, m*n*k, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			gemm(inner, m, n, k, rowMajor(a[i*m*k:], k), rowMajor(b[i*k*n:], n), out.data[i*m*n:])
		}
	})
	return out, nil
}
