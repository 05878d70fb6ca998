// Package ref runs models in plain Go, with no shared library: the reference
// engine, for small networks and for checking other engines against.
package ref

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/graphs/refeval"
	"ebmrun/runtime"
)

// New returns the engine. It computes each value in its declared type and gives
// the same bits for the same inputs whatever the number of threads. It has the
// CPU provider only; options that speak of a library's optimizer, memory or
// files have no effect.
func New() runtime.Engine { return runtime.Check(backend{}) }

type backend struct{}

// Library implements runtime.Backend.
func (backend) Library() string { return "ebmrun reference" }

// Providers implements runtime.Backend.
func (backend) Providers() []string { return nil }

// Placement implements runtime.Backend: every node runs on the CPU.
func (backend) Placement(_ context.Context, m *graphs.Model, _ runtime.Options, _ []*graphs.Tensor) ([]runtime.Placed, error) {
	count := map[string]int{}
	var out []runtime.Placed
	for _, n := range m.Graph.Nodes {
		count[n.Op]++
	}
	for _, n := range m.Graph.Nodes {
		if c := count[n.Op]; c > 0 {
			out = append(out, runtime.Placed{Provider: runtime.CPU, Op: n.Op, Count: c})
			delete(count, n.Op)
		}
	}
	return out, nil
}

// Compile implements runtime.Engine.
func (backend) Compile(ctx context.Context, m *graphs.Model, o runtime.Options) (runtime.Program, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Provider != "" && o.Provider != runtime.CPU {
		return nil, fmt.Errorf("the reference engine has no provider %q, only %q", o.Provider, runtime.CPU)
	}
	sig, err := runtime.NewSignature(m.Graph)
	if err != nil {
		return nil, err
	}
	g, opset := m.Graph, m.Opset("")
	if opset != graphs.OpsetVersion || len(m.Opsets) > 1 || len(m.Functions) > 0 {
		m = passes.Clone(m)
		if err := passes.Raise(m); err != nil {
			return nil, err
		}
		if _, err := passes.InlineFunctions(m); err != nil {
			return nil, err
		}
		g, opset = m.Graph, graphs.OpsetVersion
	}
	eval, err := refeval.New(g, opset, refeval.Options{Round: true, Workers: o.Threads})
	if err != nil {
		return nil, fmt.Errorf("graph %q: %w", g.Name, err)
	}
	return &program{sig: sig, eval: eval}, nil
}

type program struct {
	sig  *runtime.Signature
	eval *refeval.Program

	running sync.RWMutex // held for reading during a call, for writing to close
	closed  bool

	keeping sync.Mutex
	kept    kept
}

func (p *program) Inputs() []*graphs.Value  { return p.sig.Inputs }
func (p *program) Outputs() []*graphs.Value { return p.sig.Outputs }

// Run implements runtime.Program. The end of ctx is noticed between nodes.
func (p *program) Run(ctx context.Context, in, out []*graphs.Tensor) error {
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
	if err := p.promised(in); err != nil {
		return err
	}
	got, err := p.eval.Run(ctx, in)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("stopped: %w", ctx.Err())
		}
		return err
	}
	for i, t := range got {
		want := p.sig.Outputs[i]
		to := out[i]
		if t.Type != want.Type {
			return fmt.Errorf("output %q: declared %v, computed %v", want.Name, want.Type, t.Type)
		}
		if to != nil && !reflect.DeepEqual(to.Dims, t.Dims) {
			return fmt.Errorf("output %q: the tensor given has dimensions %v, computed %v", want.Name, to.Dims, t.Dims)
		}
	}
	for i, t := range got {
		// What was computed may share memory with an input or a weight.
		if out[i] == nil {
			out[i] = graphs.NewTensor(t.Type, t.Dims...)
		}
		reflect.Copy(reflect.ValueOf(out[i].Data), reflect.ValueOf(t.Data))
	}
	return nil
}

// Close implements runtime.Program.
func (p *program) Close() error {
	p.running.Lock()
	defer p.running.Unlock()
	p.closed, p.eval = true, nil
	return nil
}
