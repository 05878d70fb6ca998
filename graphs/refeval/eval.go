package refeval

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"ebmrun/graphs"
)

// Options say how a graph is evaluated.
type Options struct {
	// Round gives every value its declared type: float32 arithmetic for float32
	// values, results of half types rounded after each node. Without it all
	// floating-point values are float64, whatever the graph declares: inputs may
	// be of any float type and float outputs are Float64 tensors. That is the mode
	// for checking gradients.
	Round bool

	// Workers bounds the goroutines of one call, 0 for one a core.
	Workers int

	// Memory bounds the bytes of all values alive at one time, 0 for 4 GiB.
	Memory int64
}

func (o Options) settings(opset int64) *settings {
	s := &settings{round: o.Round, workers: o.Workers, memory: o.Memory, opset: opset}
	if s.workers <= 0 {
		s.workers = runtime.GOMAXPROCS(0)
	}
	if s.memory <= 0 {
		s.memory = 4 << 30
	}
	return s
}

// A Program is a graph made ready for evaluation. It is safe for concurrent use.
type Program struct {
	set    *settings
	inputs []*graphs.Value
	in     []int
	body   *block
	consts []*array // by slot; nil where a value is computed
}

// A block is a graph or subgraph: its nodes in order, values as slots of a frame.
type block struct {
	in, out []int
	outputs []*graphs.Value
	steps   []*step
}

// A step is a node with its operands resolved to slots, −1 where absent.
type step struct {
	n       *graphs.Node
	run     kernel
	in, out []int
	free    []int // slots whose last use this is
	subs    map[string]*block
	plan    atomic.Pointer[plan]
}

// A plan is the outcome of shape inference for inputs of given dimensions (and
// content, for shape operands), kept for the next call with the same ones.
type plan struct {
	dims [][]int
	ints [][]int64
	node *graphs.Node
}

// A frame holds the values of one call.
type frame struct {
	vals []*array
	live int64
}

// New prepares a graph whose ops have the meaning of the given opset. The graph
// must not be modified afterwards. Ops that are not in the op table and nodes of
// other domains are errors.
func New(g *graphs.Graph, opset int64, o Options) (*Program, error) {
	p := &Program{set: o.settings(opset)}
	c := &compiler{p: p, slots: map[*graphs.Value]int{}}
	for _, v := range g.Inputs {
		if v.Const == nil {
			p.inputs = append(p.inputs, v)
		}
	}
	var err error
	if p.body, err = c.block(g); err != nil {
		return nil, fmt.Errorf("refeval: %w", err)
	}
	for _, v := range p.inputs {
		p.in = append(p.in, c.slots[v])
	}
	return p, nil
}

// Inputs lists the values to be fed, in order: the graph's inputs without those
// that have a default.
func (p *Program) Inputs() []*graphs.Value { return p.inputs }

// Outputs lists the graph's outputs.
func (p *Program) Outputs() []*graphs.Value { return p.body.outputs }

type compiler struct {
	p     *Program
	slots map[*graphs.Value]int
}

func (c *compiler) slot(v *graphs.Value) (int, error) {
	if k, ok := c.slots[v]; ok {
		return k, nil
	}
	if v.Const == nil {
		return 0, fmt.Errorf("value %q is used before it is defined", v.Name)
	}
	a, err := c.p.set.load(v.Const)
	if err != nil {
		return 0, fmt.Errorf("constant %q: %w", v.Name, err)
	}
	return c.define(v, a), nil
}

func (c *compiler) define(v *graphs.Value, a *array) int {
	k := len(c.p.consts)
	c.p.consts = append(c.p.consts, a)
	c.slots[v] = k
	return k
}

func (c *compiler) block(g *graphs.Graph) (*block, error) {
	b := &block{outputs: g.Outputs}
	for _, v := range g.Inputs {
		if v.Const == nil {
			b.in = append(b.in, c.define(v, nil))
		}
	}
	last := map[int]int{} // slot → index of the step that uses it last
	own := map[int]bool{}
	for i, n := range g.Nodes {
		s := &step{n: n}
		if n.Domain == "" || n.Domain == "ai.onnx" {
			s.run = kernels[n.Op]
		}
		if s.run == nil {
			return nil, &graphs.NodeError{Node: n, Opset: c.p.set.opset, Err: &graphs.UnknownOpError{Op: n.Op, Domain: n.Domain}}
		}
		fail := func(err error) (*block, error) {
			return nil, &graphs.NodeError{Node: n, Opset: c.p.set.opset, Err: err}
		}
		for _, a := range n.Attrs {
			if a.G == nil {
				continue
			}
			sub, err := c.block(a.G)
			if err != nil {
				return fail(err)
			}
			if s.subs == nil {
				s.subs = map[string]*block{}
			}
			s.subs[a.Name] = sub
			for k := range sub.reads() {
				last[k] = i
			}
		}
		for _, v := range n.Inputs {
			k := -1
			if v != nil {
				var err error
				if k, err = c.slot(v); err != nil {
					return fail(err)
				}
				last[k] = i
			}
			s.in = append(s.in, k)
		}
		constant := len(n.Outputs) > 0
		for _, v := range n.Outputs {
			k := -1
			if v != nil {
				if v.Const != nil {
					var err error
					if k, err = c.slot(v); err != nil {
						return fail(err)
					}
				} else {
					constant = false
					k = c.define(v, nil)
					own[k], last[k] = true, i
				}
			}
			s.out = append(s.out, k)
		}
		if constant { // its outputs are known already
			s.run = nil
		}
		b.steps = append(b.steps, s)
	}
	for _, v := range g.Outputs {
		k, err := c.slot(v)
		if err != nil {
			return nil, fmt.Errorf("output %q: %w", v.Name, err)
		}
		b.out = append(b.out, k)
		delete(last, k)
	}
	for k, i := range last {
		if own[k] {
			b.steps[i].free = append(b.steps[i].free, k)
		}
	}
	b.steps = slices.DeleteFunc(b.steps, func(s *step) bool { return s.run == nil && len(s.free) == 0 })
	return b, nil
}

// reads lists the slots that a block and its subgraphs use.
func (b *block) reads() map[int]bool {
	set := map[int]bool{}
	for _, k := range b.out {
		set[k] = true
	}
	for _, s := range b.steps {
		for _, k := range s.in {
			set[k] = true
		}
		for _, sub := range s.subs {
			for k := range sub.reads() {
				set[k] = true
			}
		}
	}
	return set
}

// Run evaluates the graph. Inputs are positional, as [Program.Inputs] lists
// them; they are not modified, and outputs may share their memory. ctx is looked
// at between nodes.
func (p *Program) Run(ctx context.Context, in []*graphs.Tensor) ([]*graphs.Tensor, error) {
	if len(in) != len(p.inputs) {
		return nil, fmt.Errorf("refeval: wanted %d inputs, got %d", len(p.inputs), len(in))
	}
	f := &frame{vals: append([]*array{}, p.consts...)}
	for i, t := range in {
		a, err := p.feed(p.inputs[i], t)
		if err != nil {
			return nil, fmt.Errorf("refeval: input %q: %w", p.inputs[i].Name, err)
		}
		f.vals[p.in[i]] = a
	}
	if err := p.exec(ctx, f, p.body); err != nil {
		return nil, fmt.Errorf("refeval: %w", err)
	}
	out := make([]*graphs.Tensor, len(p.body.out))
	for i, k := range p.body.out {
		t, err := p.set.store(f.vals[k], p.set.round)
		if err != nil {
			return nil, fmt.Errorf("refeval: output %q: %w", p.body.outputs[i].Name, err)
		}
		out[i] = t
	}
	return out, nil
}

func (p *Program) feed(v *graphs.Value, t *graphs.Tensor) (*array, error) {
	if t == nil {
		return nil, fmt.Errorf("wanted %v%v, got none", v.Type, v.Shape)
	}
	ok := v.Type == graphs.Undefined || t.Type == v.Type || !p.set.round && t.Type.IsFloat() && v.Type.IsFloat()
	ok = ok && (v.Shape == nil || len(v.Shape) == len(t.Dims))
	for i := 0; ok && i < len(v.Shape); i++ {
		ok = !v.Shape[i].Known() || v.Shape[i].N == int64(t.Dims[i])
	}
	if !ok {
		return nil, fmt.Errorf("wanted %v%v, got %v%v", v.Type, v.Shape, t.Type, t.Dims)
	}
	a, err := p.set.load(t)
	if err != nil {
		return nil, err
	}
	if v.Type != graphs.Undefined {
		a.t = v.Type
	}
	return a, nil
}

// exec runs a block's steps.
func (p *Program) exec(ctx context.Context, f *frame, b *block) error {
	for _, s := range b.steps {
		if s.run != nil {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := p.step(ctx, f, s); err != nil {
				var inner *graphs.NodeError
				if errors.As(err, &inner) && s.subs != nil {
					return err
				}
				return &graphs.NodeError{Node: s.n, Opset: p.set.opset, Err: err}
			}
		}
		for _, k := range s.free {
			if f.vals[k] != nil {
				f.live -= footprint(f.vals[k])
				f.vals[k] = nil
			}
		}
	}
	return nil
}

func footprint(a *array) int64 { return 8 * int64(a.len()) }

func (p *Program) step(ctx context.Context, f *frame, s *step) error {
	c := &call{set: p.set, in: make([]*array, len(s.in)), live: f.live}
	for i, k := range s.in {
		if k >= 0 {
			c.in[i] = f.vals[k]
		}
	}
	if s.subs != nil {
		c.n = s.n
		c.sub = &nested{ctx, p, f, s.subs}
	} else {
		pl := s.plan.Load()
		if !pl.fits(c.in) {
			var err error
			if pl, err = newPlan(s.n, c.in, p.set.opset); err != nil {
				return err
			}
			s.plan.Store(pl)
		}
		c.n = pl.node
	}
	out, err := c.eval(s.run)
	if err != nil {
		return err
	}
	for i, k := range s.out {
		if k < 0 || p.consts[k] != nil {
			continue
		}
		f.vals[k] = out[i]
		f.live += footprint(out[i])
	}
	return nil
}

// eval runs a kernel and rounds its results.
func (c *call) eval(run kernel) ([]*array, error) {
	for i, o := range c.n.Outputs {
		if o != nil && c.sub == nil && o.Shape.Known() {
			if _, err := c.outDims(i); err != nil {
				return nil, err
			}
		}
	}
	out, err := run(c)
	if err != nil {
		return nil, err
	}
	for i, o := range c.n.Outputs {
		if o != nil && (i >= len(out) || out[i] == nil) {
			return nil, fmt.Errorf("output %d is not computed", i)
		}
	}
	return out, nil
}

// maxOperand bounds the length of the integer inputs that shape inference is
// told the content of.
const maxOperand = 1024

func operand(a *array) []int64 {
	if a == nil || len(a.dims) > 1 || !isInt(a.t) {
		return nil
	}
	d, ok := a.data.([]int64)
	switch {
	case !ok || len(d) > maxOperand:
		return nil
	case d == nil:
		return []int64{}
	}
	return d
}

func (p *plan) fits(in []*array) bool {
	if p == nil || len(p.dims) != len(in) {
		return false
	}
	for i, a := range in {
		if a != nil && (!slices.Equal(p.dims[i], a.dims) || !slices.Equal(p.ints[i], operand(a))) {
			return false
		}
	}
	return true
}

// newPlan infers shapes on a copy of the node whose inputs have the dimensions
// at hand, and integer content where it is short.
func newPlan(n *graphs.Node, in []*array, opset int64) (*plan, error) {
	p := &plan{node: &graphs.Node{Name: n.Name, Op: n.Op, Domain: n.Domain, Attrs: n.Attrs}}
	for i, a := range in {
		var v *graphs.Value
		var dims []int
		var ints []int64
		if a != nil {
			dims, ints = a.dims, operand(a)
			v = &graphs.Value{Name: fmt.Sprintf("input %d", i), Type: a.t, Shape: graphs.MakeShape(dims...)}
			if n.Inputs[i] != nil && n.Inputs[i].Name != "" {
				v.Name = n.Inputs[i].Name
			}
			if ints != nil {
				v.Const = &graphs.Tensor{Type: graphs.Int64, Dims: dims, Data: ints}
			}
		}
		p.dims, p.ints = append(p.dims, dims), append(p.ints, ints)
		p.node.Inputs = append(p.node.Inputs, v)
	}
	for _, o := range n.Outputs {
		if o != nil {
			o = &graphs.Value{Name: o.Name, Type: o.Type, From: p.node}
		}
		p.node.Outputs = append(p.node.Outputs, o)
	}
	if err := graphs.Infer(p.node, opset); err != nil {
		return nil, err
	}
	return p, nil
}

// Eval evaluates one node, for constant folding: values are rounded to their
// types and outputs have the types that the graph gives them. Absent inputs are
// nil. Nodes with subgraphs are not supported.
func Eval(n *graphs.Node, opset int64, in []*graphs.Tensor) ([]*graphs.Tensor, error) {
	out, err := evalNode(n, opset, in, Options{Round: true, Workers: 1})
	if err != nil {
		return nil, fmt.Errorf("refeval: %w", &graphs.NodeError{Node: n, Opset: opset, Err: err})
	}
	return out, nil
}

func evalNode(n *graphs.Node, opset int64, in []*graphs.Tensor, o Options) ([]*graphs.Tensor, error) {
	if !graphs.Known(n) || kernels[n.Op] == nil {
		return nil, &graphs.UnknownOpError{Op: n.Op, Domain: n.Domain}
	}
	if len(in) != len(n.Inputs) {
		return nil, fmt.Errorf("wanted %d inputs, got %d", len(n.Inputs), len(in))
	}
	c := &call{set: o.settings(opset), in: make([]*array, len(in))}
	for i, t := range in {
		if t == nil {
			continue
		}
		var err error
		if c.in[i], err = c.set.load(t); err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
	}
	pl, err := newPlan(n, c.in, opset)
	if err != nil {
		return nil, err
	}
	c.n = pl.node
	res, err := c.eval(kernels[n.Op])
	if err != nil {
		return nil, err
	}
	out := make([]*graphs.Tensor, len(n.Outputs))
	for i, o := range n.Outputs {
		if o == nil {
			continue
		}
		if out[i], err = c.set.store(res[i], true); err != nil {
			return nil, err
		}
	}
	return out, nil
}
