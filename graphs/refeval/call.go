package refeval

import (
	"fmt"
	"sync"

	"ebmrun/graphs"
)

// A kernel computes the outputs of a node. Fresh elements go through
// [call.fresh], which rounds them.
type kernel func(c *call) ([]*array, error)

// kernels is the table of reference values; its keys are those of the op table
// and the control-flow ops.
var kernels map[string]kernel

func init() {
	kernels = map[string]kernel{}
	for _, t := range []map[string]kernel{
		elementwiseKernels(), normKernels(), reductionKernels(), productKernels(), windowKernels(),
		layoutKernels(), indexKernels(), controlKernels(),
		samplingKernels(), regionKernels(), recurrentKernels(), compositeKernels(),
	} {
		for op, k := range t {
			kernels[op] = k
		}
	}
}

// A call is one evaluation of one node. n has inputs of the dimensions at hand
// and outputs as inferred from them.
type call struct {
	set  *settings
	n    *graphs.Node
	in   []*array
	live int64
	sub  *nested
}

// arg returns input i, which must be present.
func (c *call) arg(i int) (*array, error) {
	if a := c.opt(i); a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("input %d is missing", i)
}

// args returns the first k inputs, all of which must be present.
func (c *call) args(k int) ([]*array, error) {
	for i := range k {
		if _, err := c.arg(i); err != nil {
			return nil, err
		}
	}
	return c.in[:k], nil
}

// opt returns input i, nil if it is absent.
func (c *call) opt(i int) *array {
	if i < len(c.in) {
		return c.in[i]
	}
	return nil
}

// check reports dimensions that are too large for one tensor or for the memory
// that is left.
func (c *call) check(dims []int) error { return c.set.check(dims, c.live) }

// check counts an axis of size 0 as 1: loops run over the other axes too.
func (s *settings) check(dims []int, live int64) error {
	n := int64(1)
	for _, d := range dims {
		if d < 0 {
			return fmt.Errorf("negative dimension in %v", dims)
		}
		if d > 0 && n > graphs.MaxElements/int64(d) {
			return fmt.Errorf("dimensions %v overflow", dims)
		}
		n *= int64(max(d, 1))
	}
	if live+8*n > s.memory {
		return fmt.Errorf("a value of dimensions %v does not fit in the %d bytes allowed, %d of them in use", dims, s.memory, live)
	}
	return nil
}

// outDims are the inferred dimensions of output i, checked to fit.
func (c *call) outDims(i int) ([]int, error) {
	o := c.n.Out(i)
	if o == nil || !o.Shape.Known() {
		return nil, fmt.Errorf("the dimensions of output %d cannot be worked out", i)
	}
	d := o.Shape.Ints()
	return d, c.check(d)
}

// outType is the inferred type of output i.
func (c *call) outType(i int) graphs.DType {
	if o := c.n.Out(i); o != nil {
		return o.Type
	}
	return graphs.Undefined
}

// fresh wraps newly computed elements as an array of type t, rounding them.
func (c *call) fresh(t graphs.DType, dims []int, data any) *array {
	a := &array{t, dims, data}
	c.set.settle(a)
	return a
}

// one is fresh as a kernel's only result.
func (c *call) one(t graphs.DType, dims []int, data any) ([]*array, error) {
	return []*array{c.fresh(t, dims, data)}, nil
}

// fromFloats is an array of type t (float, integer or bool) with the given
// elements, converted as the Cast op does. It may share v.
func (c *call) fromFloats(t graphs.DType, dims []int, v []float64) *array {
	switch {
	case t.IsFloat() && c.set.wide(t):
		return &array{t, dims, v}
	case t.IsFloat():
		return c.fresh(t, dims, convert[float32](v))
	}
	out := make([]int64, len(v))
	for i, x := range v {
		switch {
		case t == graphs.Bool:
			if x != 0 {
				out[i] = 1
			}
		case t == graphs.Uint64 && x >= 1<<63:
			out[i] = int64(uint64(x))
		default:
			out[i] = int64(x)
		}
	}
	return c.fresh(t, dims, out)
}

// grain is the number of elementary operations below which a goroutine does not
// pay.
const grain = 1 << 14

// parallel splits [0,n) among goroutines; cost is the number of elementary
// operations an item takes.
func (c *call) parallel(n, cost int, f func(lo, hi int)) {
	parts := min(c.set.workers, n, 1+n*max(cost, 1)/grain)
	if parts <= 1 {
		if n > 0 {
			f(0, n)
		}
		return
	}
	var wg sync.WaitGroup
	for i := 1; i < parts; i++ {
		lo, hi := n*i/parts, n*(i+1)/parts
		wg.Go(func() { f(lo, hi) })
	}
	f(0, n/parts)
	wg.Wait()
}

// axis reads an axis attribute and maps a negative one.
func (c *call) axis(name string, def int64, rank int) (int, error) {
	return graphs.NormAxis(c.n.Int(name, def), rank)
}

// ints returns integers from input i or, in older opsets, from an attribute.
func (c *call) ints(i int, attr string) ([]int64, bool, error) {
	if a := c.n.Attr(attr); a != nil {
		if a.Kind == graphs.AttrInt {
			return []int64{a.I}, true, nil
		}
		return a.Ints, true, nil
	}
	x := c.opt(i)
	if x == nil {
		return nil, false, nil
	}
	v, err := x.ints()
	return v, true, err
}

func strides(dims []int) []int {
	s := make([]int, len(dims))
	n := 1
	for i := len(dims) - 1; i >= 0; i-- {
		s[i] = n
		n *= dims[i]
	}
	return s
}

func badData(a *array) error { return fmt.Errorf("type %v is not supported", a.t) }
