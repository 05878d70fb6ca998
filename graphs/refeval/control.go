package refeval

import (
	"context"
	"fmt"

	"ebmrun/graphs"
)

func controlKernels() map[string]kernel {
	return map[string]kernel{"If": ifKernel, "Loop": loop, "Scan": scan}
}

// nested is what a control-flow node needs beyond its inputs: its subgraphs and
// the frame that holds the values they may use.
type nested struct {
	ctx  context.Context
	p    *Program
	f    *frame
	subs map[string]*block
}

// body runs the subgraph in attribute name. Values of an earlier pass through it
// are overwritten.
func (c *call) body(name string, in []*array) ([]*array, error) {
	if c.sub == nil || c.sub.subs[name] == nil {
		return nil, fmt.Errorf("subgraph %s is missing", name)
	}
	b := c.sub.subs[name]
	if len(in) != len(b.in) {
		return nil, fmt.Errorf("subgraph %s wanted %d inputs, got %d", name, len(b.in), len(in))
	}
	for i, k := range b.in {
		c.sub.f.vals[k] = in[i]
	}
	live := c.sub.f.live
	err := c.sub.p.exec(c.sub.ctx, c.sub.f, b)
	c.sub.f.live = live
	if err != nil {
		return nil, err
	}
	out := make([]*array, len(b.out))
	for i, k := range b.out {
		out[i] = c.sub.f.vals[k]
	}
	return out, nil
}

func ifKernel(c *call) ([]*array, error) {
	cond, err := c.arg(0)
	if err != nil {
		return nil, err
	}
	v, err := cond.scalar()
	if err != nil {
		return nil, err
	}
	if v != 0 {
		return c.body("then_branch", nil)
	}
	return c.body("else_branch", nil)
}

// loop carries values from pass to pass and stacks the scanned outputs.
func loop(c *call) ([]*array, error) {
	if c.sub == nil || c.sub.subs["body"] == nil {
		return nil, fmt.Errorf("subgraph body is missing")
	}
	trips, going := int64(-1), true
	if m := c.opt(0); m != nil {
		v, err := m.scalar()
		if err != nil {
			return nil, err
		}
		trips = max(v, 0)
	}
	if a := c.opt(1); a != nil {
		v, err := a.scalar()
		if err != nil {
			return nil, err
		}
		going = v != 0
	}
	carried := append([]*array{}, c.in[min(2, len(c.in)):]...)
	n := len(carried)
	b := c.sub.subs["body"]
	if len(b.out) < 1+n {
		return nil, fmt.Errorf("the body gives %d values, wanted a condition and %d carried ones", len(b.out), n)
	}
	scans := make([]*stack, len(b.out)-1-n)
	for i := range scans {
		scans[i] = &stack{of: b.outputs[1+n+i]}
	}
	for i := int64(0); going && (trips < 0 || i < trips); i++ {
		in := append([]*array{
			{graphs.Int64, []int{}, []int64{i}}, {graphs.Bool, []int{}, []int64{1}},
		}, carried...)
		out, err := c.body("body", in)
		if err != nil {
			return nil, err
		}
		v, err := out[0].scalar()
		if err != nil {
			return nil, fmt.Errorf("the body's condition: %w", err)
		}
		going = v != 0
		copy(carried, out[1:])
		for j, s := range scans {
			if err := s.push(c, out[1+n+j]); err != nil {
				return nil, err
			}
		}
	}
	for _, s := range scans {
		a, err := s.array(c, 0, false)
		if err != nil {
			return nil, err
		}
		carried = append(carried, a)
	}
	return carried, nil
}

// A stack collects values of equal dimensions, one a pass.
type stack struct {
	of    *graphs.Value
	items []*array
	bytes int64
}

func (s *stack) push(c *call, a *array) error {
	if len(s.items) > 0 && fmt.Sprint(s.items[0].dims) != fmt.Sprint(a.dims) {
		return fmt.Errorf("scanned output %q changed dimensions from %v to %v", s.of.Name, s.items[0].dims, a.dims)
	}
	s.items = append(s.items, a)
	if s.bytes += footprint(a); s.bytes > c.set.memory {
		return fmt.Errorf("scanned output %q does not fit in the %d bytes allowed", s.of.Name, c.set.memory)
	}
	return nil
}

// array joins the items along a new axis.
func (s *stack) array(c *call, axis int, reverse bool) (*array, error) {
	if len(s.items) == 0 {
		dims := make([]int, 1+max(0, s.of.Rank()))
		for i, d := range s.of.Shape {
			dims[i+1] = int(max(d.N, 0))
		}
		switch {
		case s.of.Type.IsFloat():
			return c.fromFloats(s.of.Type, dims, nil), nil
		case isInt(s.of.Type):
			return &array{s.of.Type, dims, []int64{}}, nil
		}
		return nil, fmt.Errorf("empty output %q of type %v is not supported", s.of.Name, s.of.Type)
	}
	if reverse {
		for i, j := 0, len(s.items)-1; i < j; i, j = i+1, j-1 {
			s.items[i], s.items[j] = s.items[j], s.items[i]
		}
	}
	first := s.items[0]
	if axis < 0 {
		axis += len(first.dims) + 1
	}
	if axis < 0 || axis > len(first.dims) {
		return nil, fmt.Errorf("scan axis %d is outside %v", axis, first)
	}
	dims := append([]int{}, first.dims[:axis]...)
	dims = append(append(dims, len(s.items)), first.dims[axis:]...)
	if err := c.check(dims); err != nil {
		return nil, err
	}
	var out []*array
	var err error
	switch first.data.(type) {
	case []float64:
		out, err = concatOf[float64](c, s.items, dims, axis)
	case []float32:
		out, err = concatOf[float32](c, s.items, dims, axis)
	case []int64:
		out, err = concatOf[int64](c, s.items, dims, axis)
	default:
		err = badData(first)
	}
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// scan has the form of opset 9 and later: state values, then scanned inputs.
func scan(c *call) ([]*array, error) {
	m := int(c.n.Int("num_scan_inputs", 0))
	if c.sub == nil || c.sub.subs["body"] == nil || m < 1 || m > len(c.in) {
		return nil, fmt.Errorf("%d scanned inputs of %d, or no body", m, len(c.in))
	}
	in, err := c.args(len(c.in))
	if err != nil {
		return nil, err
	}
	n := len(in) - m
	state, seqs := append([]*array{}, in[:n]...), in[n:]
	b := c.sub.subs["body"]
	if len(b.out) < n {
		return nil, fmt.Errorf("the body gives %d values, wanted %d state values", len(b.out), n)
	}
	entry := func(list []int64, i int) int {
		if i < len(list) {
			return int(list[i])
		}
		return 0
	}
	axes := make([]int, m)
	length := -1
	for i, s := range seqs {
		if axes[i], err = graphs.NormAxis(int64(entry(c.n.Ints("scan_input_axes"), i)), len(s.dims)); err != nil {
			return nil, err
		}
		if d := s.dims[axes[i]]; length >= 0 && d != length {
			return nil, fmt.Errorf("scanned inputs have lengths %d and %d", length, d)
		} else {
			length = d
		}
	}
	scans := make([]*stack, len(b.out)-n)
	for i := range scans {
		scans[i] = &stack{of: b.outputs[n+i]}
	}
	for t := range length {
		args := append([]*array{}, state...)
		for i, s := range seqs {
			k := t
			if entry(c.n.Ints("scan_input_directions"), i) != 0 {
				k = length - 1 - t
			}
			st := strides(s.dims)
			dims := append(append([]int{}, s.dims[:axes[i]]...), s.dims[axes[i]+1:]...)
			steps := append(append([]int{}, st[:axes[i]]...), st[axes[i]+1:]...)
			a, err := c.view(s, k*st[axes[i]], dims, steps, dims)
			if err != nil {
				return nil, err
			}
			args = append(args, a...)
		}
		out, err := c.body("body", args)
		if err != nil {
			return nil, err
		}
		copy(state, out[:n])
		for j, s := range scans {
			if err := s.push(c, out[n+j]); err != nil {
				return nil, err
			}
		}
	}
	for j, s := range scans {
		a, err := s.array(c, entry(c.n.Ints("scan_output_axes"), j), entry(c.n.Ints("scan_output_directions"), j) != 0)
		if err != nil {
			return nil, err
		}
		state = append(state, a)
	}
	return state, nil
}
