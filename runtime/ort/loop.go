//go:build cgo && (linux || darwin)

package ort

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"strconv"
	"sync"
	"time"
	"unsafe"

	onnx "github.com/yalue/onnxruntime_go"

	"ebmrun/graphs"
	"ebmrun/runtime"
)

// A loop is what a program needs for calls of which each takes on the state that the one before has
// left. It is kept for the next such calls: memory that never moves, and two bindings that take turns,
// each of which reads the state that the other writes. While one runs, the other is fed and what
// it gave before is fetched. Without a state there is one.
//
// Memory that never moves is what the CUDA provider can capture a call on: the library starts the kernels
// of a graph as one from then on. It keeps what it has captured by thread, and computes nothing
// else meanwhile: so all calls of a loop are made on one thread of its own.
type loop struct {
	p        *program
	dims     [][]int // of inputs, then outputs
	to, from int
	new      int            // the input that is new in each call, -1 for none
	fresh    *graphs.Tensor // in memory that the device reads by itself where it has such
	buffers  []*buffer
	memories []unsafe.Pointer // allocators
	turns    []phase
	thread   chan func()
	captured bool
	call     func(ctx context.Context, turn int, o *onnx.RunOptions) error
}

// A phase is one of the two bindings.
type phase struct {
	b       *bound
	in, out []*buffer
	replay  *onnx.RunOptions // under which it is captured and replayed
}

// device lets one program capture while no other one uses the device, whose library forbids that.
var device sync.RWMutex

// guard holds what a call on a device needs: other captures wait, and in a session that captures, other calls.
func (p *program) guard() (release func()) {
	if p.memory == "" {
		return func() {}
	}
	if p.captures {
		p.alone.Lock()
	}
	device.RLock()
	return func() {
		device.RUnlock()
		if p.captures {
			p.alone.Unlock()
		}
	}
}

// Repeat implements runtime.Repeater. Where the provider computes in memory of its
// own, the state stays there.
func (p *program) Repeat(ctx context.Context, in, out []*graphs.Tensor, r runtime.Repetition) error {
	if err := p.sig.Check(in, out); err != nil {
		return err
	}
	if p.memory != "" && r.Calls > 1 {
		if done, err := p.repeat(ctx, in, out, r); done {
			return err
		}
	}
	return runtime.Repeat(ctx, struct{ runtime.Program }{p}, in, out, r)
}

// repeat is not done where the memory of the device cannot be reached.
func (p *program) repeat(ctx context.Context, in, out []*graphs.Tensor, r runtime.Repetition) (done bool, err error) {
	p.running.RLock()
	defer p.running.RUnlock()
	if p.closed {
		return true, runtime.ErrClosed
	}
	p.alone.Lock()
	defer p.alone.Unlock()
	if ok, err := p.reached(); !ok {
		return err != nil, err
	}
	l, err := p.looped(ctx, in, out, r)
	if err != nil {
		return true, err
	}
	return true, l.do(func() error {
		device.RLock()
		defer device.RUnlock()
		return l.run(ctx, in, out, r)
	})
}

// reached reports whether the memory of the device can be copied to and from.
func (p *program) reached() (bool, error) {
	if err := loadAPI(); err != nil {
		return false, err
	}
	if p.memory != processor {
		if err := loadCopy(); err != nil {
			p.capture.Store("not captured: " + err.Error())
			return false, nil
		}
	}
	return true, nil
}

// looped is the loop for tensors like these, captured if the session can.
func (p *program) looped(ctx context.Context, in, out []*graphs.Tensor, r runtime.Repetition) (*loop, error) {
	if l := p.loop; l != nil && l.to == r.To && l.from == r.From && l.new == r.Fresh && slices.EqualFunc(l.dims, slices.Concat(in, out), func(d []int, t *graphs.Tensor) bool { return slices.Equal(d, t.Dims) }) {
		return l, nil
	}
	p.endLoop()
	l, err := p.newLoop(in, out, r)
	if err != nil || !p.capturing {
		return l, err
	}
	var wrong error
	err = l.do(func() error {
		device.Lock()
		defer device.Unlock()
		wrong, err = l.prove(ctx, in, out, r)
		return err
	})
	switch {
	case err != nil:
		p.endLoop()
		return nil, err
	case errors.Is(wrong, errLong):
		p.capture.Store("not captured: " + wrong.Error())
		p.capturing, p.again = false, nil
		return l, nil
	case wrong == nil:
		l.captured = true
		p.capture.Store(Captured)
		p.again = nil // and with it the model
		return l, nil
	}
	p.endLoop()
	if p.again == nil { // although one was captured before
		return nil, fmt.Errorf("capturing: %w", wrong)
	}
	p.capture.Store("not captured: " + wrong.Error())
	p.capturing = false
	if err := p.again(); err != nil {
		return nil, fmt.Errorf("after a capture that failed (%w): %w", wrong, err)
	}
	p.again = nil
	return p.newLoop(in, out, r)
}

// Captured is what a program tells of calls that the device starts as one.
const Captured = "captured"

func (p *program) newLoop(in, out []*graphs.Tensor, r runtime.Repetition) (l *loop, err error) {
	device.RLock()
	defer device.RUnlock()
	l = &loop{p: p, to: r.To, from: r.From, new: r.Fresh, thread: make(chan func())}
	go func(jobs <-chan func()) {
		goruntime.LockOSThread()
		defer goruntime.UnlockOSThread()
		for f := range jobs {
			f()
		}
	}(l.thread)
	p.loop = l
	defer func() {
		if err != nil {
			p.endLoop()
			l = nil
		}
	}()
	for _, t := range slices.Concat(in, out) {
		l.dims = append(l.dims, slices.Clone(t.Dims))
	}
	own, err := l.memory(p.memory)
	if err != nil {
		return nil, err
	}
	var states [2]*buffer // the one that turn 0 reads, and 1 writes
	l.turns = make([]phase, 1, 2)
	if r.To >= 0 {
		l.turns = l.turns[:2]
		for i := range states {
			if states[i], err = l.buffer(own, in[r.To], p.memory); err != nil {
				return nil, err
			}
		}
	}
	for i := range l.turns {
		t := &l.turns[i]
		if t.b, err = p.open(); err != nil {
			return nil, err
		}
		p.loops++
		if t.replay, err = runOptions(strconv.Itoa(p.loops)); err != nil {
			return nil, err
		}
		for k, x := range in {
			b := states[i]
			switch {
			case k == r.To:
			case i == 1 && k != r.Fresh:
				b = l.turns[0].in[k]
			default:
				if b, err = l.buffer(own, x, p.memory); err != nil {
					return nil, err
				}
			}
			t.in = append(t.in, b)
			if err := t.b.bindInput(k, b); err != nil {
				return nil, err
			}
		}
		for k, y := range out {
			b := states[1-i]
			if k != r.From {
				if b, err = l.buffer(own, y, p.memory); err != nil {
					return nil, err
				}
			}
			t.out = append(t.out, b)
			if err := t.b.bindOutput(k, b); err != nil {
				return nil, err
			}
		}
	}
	l.call = func(ctx context.Context, turn int, o *onnx.RunOptions) error { return l.turns[turn].b.run(ctx, o) }
	if r.Fresh < 0 {
		return l, nil
	}
	l.fresh = graphs.NewTensor(in[r.Fresh].Type, in[r.Fresh].Dims...)
	if name := stagings[p.memory]; name != "" && l.fresh.Type == graphs.Float32 && l.fresh.Len() > 0 {
		pinned, err := l.memory(name)
		if err != nil {
			return nil, err
		}
		b, err := l.buffer(pinned, l.fresh, processor)
		if err != nil {
			return nil, err
		}
		l.fresh.Data = unsafe.Slice((*float32)(b.data), l.fresh.Len())
	}
	return l, nil
}

func (l *loop) memory(name string) (unsafe.Pointer, error) {
	a, err := l.p.allocator(name)
	l.memories = append(l.memories, a)
	return a, err
}

func (l *loop) buffer(a unsafe.Pointer, t *graphs.Tensor, memory string) (*buffer, error) {
	b, err := l.p.buffer(a, t, memory != processor)
	l.buffers = append(l.buffers, b)
	return b, err
}

// do does f on the loop's thread.
func (l *loop) do(f func() error) (err error) {
	done := make(chan struct{})
	l.thread <- func() {
		defer close(done)
		err = f()
	}
	<-done
	return err
}

// endLoop frees what is kept for repeated calls.
func (p *program) endLoop() {
	l := p.loop
	if l == nil {
		return
	}
	p.loop = nil
	close(l.thread)
	for _, t := range l.turns {
		if t.b != nil {
			t.b.close()
		}
		if t.replay != nil {
			t.replay.Destroy()
		}
	}
	l.free()
}

// feed draws what is new in a call and sends it to the memory of its turn.
func (l *loop) feed(call, turn int, r runtime.Repetition) error {
	if r.Fresh < 0 {
		return nil
	}
	if err := r.Next(call, l.fresh); err != nil {
		return err
	}
	return l.turns[turn].in[r.Fresh].load(l.fresh)
}

// start loads all that is not new in each call.
func (l *loop) start(in []*graphs.Tensor, r runtime.Repetition) error {
	for i, t := range in {
		if i != r.Fresh {
			if err := l.turns[0].in[i].load(t); err != nil {
				return err
			}
		}
	}
	return nil
}

// options are those of a call.
func (l *loop) options(turn int, stop *stopper) *onnx.RunOptions {
	if l.captured {
		return l.turns[turn].replay
	}
	return l.p.options(stop)
}

// run makes the calls of r.
func (l *loop) run(ctx context.Context, in, out []*graphs.Tensor, r runtime.Repetition) error {
	stop, err := (*stopper)(nil).watch(ctx, l.p.captures)
	if err != nil {
		return err
	}
	defer stop.destroy()
	if err := errors.Join(l.start(in, r), l.feed(0, 0, r)); err != nil {
		return err
	}
	fetch := func(call int) error {
		for i, t := range out {
			if i != r.From {
				if err := l.turns[call%2].out[i].store(t); err != nil {
					return err
				}
			}
		}
		return nil
	}
	done := func(call int) error {
		if call < 0 || r.Done == nil {
			return nil
		}
		return r.Done(call)
	}
	for call := range r.Calls {
		if err := ctx.Err(); err != nil {
			return err
		}
		beside := make(chan error, 1)
		go func() {
			var err error
			if call > 0 {
				err = fetch(call - 1)
			}
			if err == nil && call < r.Calls-1 {
				err = l.feed(call+1, (call+1)%2, r)
			}
			beside <- err
		}()
		err := l.call(ctx, call%2, l.options(call%2, stop))
		if err = errors.Join(err, <-beside); err == nil {
			err = done(call - 1)
		}
		if err != nil {
			return err
		}
	}
	last := r.Calls - 1
	if err := fetch(last); err != nil {
		return err
	}
	if err := done(last); err != nil {
		return err
	}
	return l.turns[last%2].out[r.From].store(out[r.From])
}

// long is what a call takes whose kernels are long enough that starting them is little beside.
const long = 50 * time.Millisecond

var errLong = errors.New("which starting it as one would not shorten")

// prove captures both turns and compares them with plain calls: on what they are captured with, and then
// on another state and other fresh input. Memory is wiped before each, so that a call that
// does nothing is not taken for a right one.
func (l *loop) prove(ctx context.Context, in, out []*graphs.Tensor, r runtime.Repetition) (wrong, err error) {
	if err := l.start(in, r); err != nil {
		return nil, err
	}
	for round := range 2 {
		if round == 1 && r.To < 0 { // the state is other than before, if there is one
			others := slices.Clone(in)
			for i, t := range in {
				if old := t.F32(); old != nil {
					others[i] = graphs.NewTensor(t.Type, t.Dims...)
					for j, v := range old {
						others[i].F32()[j] = v * (31.0 / 32)
					}
				}
			}
			if err := l.start(others, r); err != nil {
				return nil, err
			}
		}
		for i := range l.turns {
			if err := l.feed((round+i)%2, i, r); err != nil {
				return nil, err
			}
			// Memory is taken in the first calls, and none may be while one is captured.
			calls := []*onnx.RunOptions{l.p.plain, l.p.plain, l.turns[i].replay}
			var plain, replayed []*graphs.Tensor
			for _, o := range calls[min(round, 1):] {
				began := time.Now()
				end, err := l.wiped(ctx, i, o, out)
				if cerr := ctx.Err(); cerr != nil {
					return nil, cerr
				}
				if err != nil {
					return err, nil
				}
				if took := time.Since(began); round == 0 && plain == nil && replayed != nil && took > long {
					return fmt.Errorf("a call takes %v, %w", took.Round(time.Millisecond), errLong), nil
				}
				plain, replayed = replayed, end
			}
			for k := range out {
				if err := runtime.Agree(plain[k], replayed[k]); err != nil {
					return fmt.Errorf("output %q of a captured call: %w", l.p.sig.Outputs[k].Name, err), nil
				}
			}
		}
	}
	return nil, nil
}

// wiped makes a call into memory that was wiped, and returns what is there then.
func (l *loop) wiped(ctx context.Context, turn int, o *onnx.RunOptions, like []*graphs.Tensor) ([]*graphs.Tensor, error) {
	got := make([]*graphs.Tensor, len(like))
	for i, b := range l.turns[turn].out {
		ones := bytes.Repeat([]byte{0xff}, b.size) // NaN in every type of floats
		if err := b.load(graphs.Of(ones, len(ones))); err != nil {
			return nil, err
		}
		got[i] = graphs.NewTensor(like[i].Type, like[i].Dims...)
	}
	if err := l.call(ctx, turn, o); err != nil {
		return nil, err
	}
	for i, b := range l.turns[turn].out {
		if err := b.store(got[i]); err != nil {
			return nil, err
		}
	}
	return got, nil
}
