//go:build cgo && (linux || darwin)

package ort

import (
	"context"
	"slices"

	"ebmrun/graphs"
	"ebmrun/runtime"
)

// kept says which inputs stay where they are computed with from call to call.
type kept struct {
	inputs []int
	in     *loop // that holds them as they are now, nil for none
	stop   *stopper
}

// Keep implements runtime.Keeper, for providers that compute in memory of their own.
func (p *program) Keep(inputs ...int) {
	p.drop()
	p.keeping.Lock()
	defer p.keeping.Unlock()
	if p.memory != "" && len(inputs) > 0 {
		p.kept = &kept{inputs: inputs}
	}
}

// Renew implements runtime.Keeper.
func (p *program) Renew() {
	p.keeping.Lock()
	defer p.keeping.Unlock()
	if p.kept != nil {
		p.kept.in = nil
	}
}

// drop lets go of what is kept.
func (p *program) drop() {
	p.keeping.Lock()
	defer p.keeping.Unlock()
	if p.kept != nil {
		p.kept.stop.destroy()
	}
	p.kept = nil
}

// runKept makes a call where inputs are kept, one at a time, if there are any and the
// dimensions of all outputs are known.
func (p *program) runKept(ctx context.Context, in, out []*graphs.Tensor) (done bool, err error) {
	p.keeping.Lock()
	defer p.keeping.Unlock()
	k := p.kept
	if k == nil {
		return false, nil
	}
	results := slices.Clone(out)
	for i, t := range results {
		if t != nil {
			continue
		}
		dims, ok := p.sig.OutputDims(i, in)
		if !ok {
			return false, nil
		}
		results[i] = graphs.NewTensor(p.sig.Outputs[i].Type, dims...)
	}
	p.alone.Lock()
	defer p.alone.Unlock()
	if ok, err := p.reached(); !ok {
		return err != nil, err
	}
	l, err := p.looped(ctx, in, results, runtime.Repetition{To: -1, From: -1, Fresh: -1})
	if err != nil {
		return true, err
	}
	if k.stop, err = k.stop.watch(ctx, p.captures); err != nil {
		return true, err
	}
	err = l.do(func() error {
		device.RLock()
		defer device.RUnlock()
		for i, t := range in {
			if k.in != l || !slices.Contains(k.inputs, i) {
				if err := l.turns[0].in[i].load(t); err != nil {
					return err
				}
			}
		}
		k.in = l
		if err := l.call(ctx, 0, l.options(0, k.stop)); err != nil {
			return err
		}
		for i, t := range results {
			if err := l.turns[0].out[i].store(t); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		copy(out, results)
	}
	return true, err
}
