package runtime

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"

	"ebmrun/graphs"
)

// A Split tells that the examples of a program's batch do not influence one
// another, so that an engine may compute parts of the batch side by side. All
// inputs and outputs that it concerns hold float32.
type Split struct {
	N int // examples in the batch

	// In and Out give the axis of the examples in each input and output. −1 is an
	// input that all examples share, and an output that is a sum over them.
	In, Out []int

	// Model returns the program's model for another number of examples.
	Model func(n int) (*graphs.Model, error)
}

// minPart is the smallest part worth a thread of its own: below it, a thread
// more within each operator does better.
const minPart = 4

// Lanes is how many parts of a batch are worth computing side by side with so many
// threads, 0 for one a core.
func (s *Split) Lanes(threads int) int {
	if s == nil {
		return 1
	}
	if threads == 0 {
		threads = goruntime.NumCPU()
	}
	return max(1, min(threads, s.N/minPart))
}

// Parts is how many parts lanes of equal length take for parts of at most so many
// examples, 0 for as many as there are.
func (s *Split) Parts(lanes, most int) int {
	if s == nil || most <= 0 {
		return lanes
	}
	each := (s.N + most*lanes - 1) / (most * lanes)
	return min(lanes*each, s.N)
}

// Parallel returns a program that computes the batch of s in parts. Lanes of them run side
// by side, one thread each: small convolutions do not keep several threads busy, examples
// do. In a lane they run one after another, which takes the memory of one. The
// programs of the parts come from compile. A sum is taken over parts and lanes in
// order, so that the same number of them gives the same bits. Calls take turns.
func Parallel(s *Split, lanes, parts int, compile func(*graphs.Model) (Program, error)) (Program, error) {
	whole, err := s.Model(s.N)
	if err != nil {
		return nil, err
	}
	p := &parallel{split: s, progs: map[int]Program{}}
	if p.sig, err = NewSignature(whole.Graph); err != nil {
		return nil, err
	}
	for i := range parts {
		q := &part{from: s.N * i / parts, to: s.N * (i + 1) / parts}
		if q.prog, err = p.program(q.to-q.from, compile); err != nil {
			return nil, errors.Join(err, p.Close())
		}
		q.in, q.out = make([]*graphs.Tensor, len(s.In)), make([]*graphs.Tensor, len(s.Out))
		if at := i * lanes / parts; at == len(p.lanes) {
			p.lanes = append(p.lanes, &lane{})
		}
		l := p.lanes[len(p.lanes)-1]
		l.parts = append(l.parts, q)
	}
	for _, l := range p.lanes[1:] {
		l.start, l.done = make(chan struct{}), make(chan struct{})
		go p.serve(l)
	}
	return p, nil
}

// program returns the program for n examples.
func (p *parallel) program(n int, compile func(*graphs.Model) (Program, error)) (Program, error) {
	if prog := p.progs[n]; prog != nil {
		return prog, nil
	}
	m, err := p.split.Model(n)
	if err != nil {
		return nil, err
	}
	sig, err := NewSignature(m.Graph)
	if err == nil {
		err = p.split.check(p.sig, sig, n)
	}
	if err != nil {
		return nil, err
	}
	prog, err := compile(m)
	if err == nil {
		p.progs[n] = prog
	}
	return prog, err
}

// check reports what makes cutting impossible: axes that are not those of the
// examples in a program whole of N examples and in one of n.
func (s *Split) check(whole, part *Signature, n int) error {
	if len(s.In) != len(whole.Inputs) || len(s.Out) != len(whole.Outputs) {
		return fmt.Errorf("split: wanted axes of %d inputs and %d outputs, got %d and %d", len(whole.Inputs), len(whole.Outputs), len(s.In), len(s.Out))
	}
	if !slices.ContainsFunc(s.In, func(axis int) bool { return axis >= 0 }) {
		return errors.New("split: no input has an axis of examples")
	}
	fits := func(v, cut *graphs.Value, axis int) error {
		want := slices.Clone(v.Shape)
		if axis >= 0 && axis < len(want) && want[axis].N == int64(s.N) {
			want[axis] = graphs.D(n)
		} else if axis >= 0 {
			return fmt.Errorf("split: %s: axis %d is not that of %d examples", v, axis, s.N)
		}
		if !want.Known() || !want.Same(cut.Shape) {
			return fmt.Errorf("split: %s: wanted %v for %d examples, got %v", v, want, n, cut.Shape)
		}
		return nil
	}
	for i, v := range whole.Inputs {
		if s.In[i] >= 0 && v.Type != graphs.Float32 {
			return fmt.Errorf("split: %s: wanted float32", v)
		}
		if err := fits(v, part.Inputs[i], s.In[i]); err != nil {
			return err
		}
	}
	for i, v := range whole.Outputs {
		if v.Type != graphs.Float32 || s.Out[i] > 0 {
			return fmt.Errorf("split: %s: wanted float32 with the examples first, or a sum", v)
		}
		if err := fits(v, part.Outputs[i], s.Out[i]); err != nil {
			return err
		}
	}
	return nil
}

// parallel is a program whose lanes run on goroutines of their own.
type parallel struct {
	split *Split
	sig   *Signature
	lanes []*lane
	progs map[int]Program // by number of examples

	mu      sync.Mutex
	closed  bool
	ctx     context.Context // of the call under way
	in, out []*graphs.Tensor
}

// A lane computes its parts one after another. Sums over them are in the first one's outputs.
type lane struct {
	parts       []*part
	err         error
	start, done chan struct{}
}

// A part computes the examples from … to−1.
type part struct {
	prog     Program
	from, to int
	in, out  []*graphs.Tensor // views of the call's tensors, or copies
}

func (p *parallel) Inputs() []*graphs.Value  { return p.sig.Inputs }
func (p *parallel) Outputs() []*graphs.Value { return p.sig.Outputs }

// Run implements Program.
func (p *parallel) Run(ctx context.Context, in, out []*graphs.Tensor) error {
	if err := p.sig.Check(in, out); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.ctx, p.in, p.out = ctx, in, append(p.out[:0], out...)
	for i, t := range out {
		if t == nil {
			dims, _ := p.sig.OutputDims(i, in)
			p.out[i] = graphs.NewTensor(graphs.Float32, dims...)
		}
	}
	for _, l := range p.lanes[1:] {
		l.start <- struct{}{}
	}
	p.run(p.lanes[0])
	for _, l := range p.lanes[1:] {
		<-l.done
	}
	p.ctx, p.in = nil, nil
	for _, l := range p.lanes {
		if l.err != nil {
			return l.err
		}
	}
	for _, l := range p.lanes[1:] {
		p.add(p.lanes[0].parts[0], l.parts[0])
	}
	copy(out, p.out)
	return nil
}

// add adds the sums of b to those of a.
func (p *parallel) add(a, b *part) {
	for i, axis := range p.split.Out {
		if axis >= 0 {
			continue
		}
		sum := a.out[i].F32()
		for j, v := range b.out[i].F32() {
			sum[j] += v
		}
	}
}

// serve runs one lane of each call.
func (p *parallel) serve(l *lane) {
	for range l.start {
		p.run(l)
		l.done <- struct{}{}
	}
}

func (p *parallel) run(l *lane) {
	for k, q := range l.parts {
		p.show(l, k)
		if l.err = q.prog.Run(p.ctx, q.in, q.out); l.err != nil {
			return
		}
		if k > 0 {
			p.add(l.parts[0], q)
		}
	}
}

// show gives part k of a lane its examples of the call's tensors, and room for its sums: the
// call's own for the first of all, one that all parts but a lane's first share for them.
func (p *parallel) show(l *lane, k int) {
	q := l.parts[k]
	for i, t := range p.in {
		switch axis := p.split.In[i]; axis {
		case -1:
			q.in[i] = t
		case 0:
			q.look(&q.in[i], t)
		default:
			q.take(&q.in[i], t, axis)
		}
	}
	for i, t := range p.out {
		switch {
		case p.split.Out[i] == 0:
			q.look(&q.out[i], t)
		case l == p.lanes[0] && k == 0:
			q.out[i] = t
		case k > 1:
			q.out[i] = l.parts[1].out[i]
		case q.out[i] == nil:
			q.out[i] = graphs.NewTensor(graphs.Float32, t.Dims...)
		}
	}
}

// dims are those of t with the part's examples along an axis.
func (q *part) dims(t *graphs.Tensor, axis int) []int {
	d := slices.Clone(t.Dims)
	d[axis] = q.to - q.from
	return d
}

// look makes *dst a view of the part's examples, which lie together.
func (q *part) look(dst **graphs.Tensor, t *graphs.Tensor) {
	each := t.Len() / t.Dims[0]
	rows := t.F32()[q.from*each : q.to*each]
	if old := *dst; old == nil || len(rows) > 0 && &old.F32()[0] != &rows[0] {
		*dst = graphs.Of(rows, q.dims(t, 0)...)
	}
}

// take copies the part's examples to *dst.
func (q *part) take(dst **graphs.Tensor, t *graphs.Tensor, axis int) {
	if *dst == nil {
		*dst = graphs.NewTensor(graphs.Float32, q.dims(t, axis)...)
	}
	each := graphs.Size(t.Dims[axis+1:])
	from, to, n := q.from*each, q.to*each, t.Dims[axis]*each
	src, d := t.F32(), (*dst).F32()
	for len(src) > 0 {
		d = d[copy(d, src[from:to]):]
		src = src[n:]
	}
}

// Close implements Program.
func (p *parallel) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	var errs []error
	for _, l := range p.lanes {
		if l.start != nil {
			close(l.start)
		}
	}
	for _, prog := range p.progs {
		errs = append(errs, prog.Close())
	}
	return errors.Join(errs...)
}
