//go:build cgo

package ort

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	onnx "github.com/yalue/onnxruntime_go"

	"ebmrun/graphs"
	"ebmrun/runtime"
)

// maxCalls is how many idle calls a program keeps; more run at once, and are
// then given up.
const maxCalls = 16

// A program is one session.
type program struct {
	sig             *runtime.Signature
	types           map[string]graphs.DType // of nodes, for the words of errors
	session         *onnx.DynamicAdvancedSession
	memory          string           // that the provider computes in, "" if it is the processor's
	plain           *onnx.RunOptions // of calls that nothing stops, nil for the library's own
	inputs, outputs []slot

	calls chan *call // idle ones

	captures  bool // whether a session that captures calls was asked for
	alone     sync.Mutex
	loop      *loop        // of repeated calls
	loops     int          // phases of loops so far
	capturing bool         // whether the session captures calls
	again     func() error // makes the session anew, one that captures nothing; nil after the first capture
	capture   atomic.Value // a string: what became of capturing

	keeping sync.Mutex
	kept    *kept // inputs that stay where they are computed with; nil if there are none

	running sync.RWMutex // held for reading during a call, for writing to close
	closed  bool
}

// Describe implements runtime.Describer: what a session does about repeated calls.
func (p *program) Describe() runtime.Report {
	capture, _ := p.capture.Load().(string)
	return runtime.Report{Capture: capture}
}

func (p *program) Inputs() []*graphs.Value  { return p.sig.Inputs }
func (p *program) Outputs() []*graphs.Value { return p.sig.Outputs }

// A call is what one Run needs, kept for the next.
type call struct {
	in, out []onnx.Value
	views   []*view          // those to be given back
	tensors []*graphs.Tensor // behind out, nil where the library makes one
	stop    *stopper
}

func (p *program) takeCall() *call {
	select {
	case c := <-p.calls:
		return c
	default:
		return &call{
			in:      make([]onnx.Value, len(p.inputs)),
			out:     make([]onnx.Value, len(p.outputs)),
			tensors: make([]*graphs.Tensor, len(p.outputs)),
		}
	}
}

func (p *program) giveCall(c *call) {
	for _, v := range c.views {
		v.release()
	}
	c.views = c.views[:0]
	clear(c.in)
	clear(c.out)
	clear(c.tensors)
	select {
	case p.calls <- c:
	default:
		c.stop.destroy()
	}
}

// Run implements runtime.Program. A provider that runs the whole graph as one
// node notices the end of ctx only when that node is done.
func (p *program) Run(ctx context.Context, in, out []*graphs.Tensor) (err error) {
	if err := p.sig.Check(in, out); err != nil {
		return err
	}
	p.running.RLock()
	defer p.running.RUnlock()
	if p.closed {
		return runtime.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if done, err := p.runKept(ctx, in, out); done {
		return err
	}
	defer p.guard()()
	c := p.takeCall()
	defer p.giveCall(c)
	if c.stop, err = c.stop.watch(ctx, p.captures); err != nil {
		return err
	}
	for i, t := range in {
		v, err := p.inputs[i].take(t)
		if err != nil {
			return err
		}
		c.views = append(c.views, v)
		c.in[i] = v
	}
	for i, t := range out {
		if t == nil {
			dims, ok := p.sig.OutputDims(i, in)
			if !ok {
				if !fetchable(p.sig.Outputs[i]) {
					return fmt.Errorf("output %q: its dimensions are not known before running, pass a tensor for it", p.sig.Outputs[i].Name)
				}
				continue
			}
			t = graphs.NewTensor(p.sig.Outputs[i].Type, dims...)
		}
		v, err := p.outputs[i].take(t)
		if err != nil {
			return err
		}
		c.views = append(c.views, v)
		c.out[i], c.tensors[i] = v, t
	}
	err = p.session.RunWithOptions(c.in, c.out, p.options(c.stop))
	return p.finish(ctx, c, out, err)
}

// finish turns what the session gave into out.
func (p *program) finish(ctx context.Context, c *call, out []*graphs.Tensor, err error) error {
	if err != nil {
		if cerr := ctx.Err(); cerr != nil {
			err = fmt.Errorf("stopped: %w", cerr)
		} else {
			err = kernelError(p.types, plain(err))
		}
	}
	for i, v := range c.out {
		switch v := v.(type) {
		case nil: // not reached when the call failed
		case *view:
			if err == nil {
				if v.fetch != nil {
					v.fetch()
				}
				out[i] = c.tensors[i]
			}
		default: // made by the library
			if err == nil {
				out[i], err = adopt(p.sig.Outputs[i], v)
			}
			v.Destroy()
		}
	}
	return err
}

// Close implements runtime.Program.
func (p *program) Close() error {
	p.running.Lock()
	defer p.running.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	defer p.guard()()
	p.drop()
	p.endLoop()
	if p.plain != nil {
		p.plain.Destroy()
	}
	for {
		select {
		case c := <-p.calls:
			c.stop.destroy()
			continue
		default:
		}
		break
	}
	for _, s := range slices.Concat(p.inputs, p.outputs) {
		s.close()
	}
	return p.session.Destroy()
}

// A stopper ends calls when a context ends. It is registered with the context
// once and serves all calls under it.
type stopper struct {
	done <-chan struct{}
	opts *onnx.RunOptions
	off  func() bool

	mu   sync.Mutex
	dead bool
}

// watch returns a stopper for ctx: s, if it is for the same context; nil if ctx
// never ends. What a session that captures runs with it is plain.
func (s *stopper) watch(ctx context.Context, captures bool) (*stopper, error) {
	done := ctx.Done()
	if s != nil && s.done == done {
		return s, nil
	}
	s.destroy()
	if done == nil {
		return nil, nil
	}
	opts, err := runOptions(map[bool]string{true: notCaptured}[captures])
	if err != nil {
		return nil, err
	}
	n := &stopper{done: done, opts: opts}
	n.off = context.AfterFunc(ctx, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if !n.dead {
			n.opts.Terminate()
		}
	})
	return n, nil
}

// notCaptured is the graph of runs that are neither captured nor replayed.
const notCaptured = "-1"

func (p *program) options(s *stopper) *onnx.RunOptions {
	if s == nil {
		return p.plain
	}
	return s.opts
}

func (s *stopper) destroy() {
	if s == nil {
		return
	}
	s.off()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	s.opts.Destroy()
}
