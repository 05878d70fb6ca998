//go:build cgo && (linux || darwin)

package ort

import (
	"context"

	"ebmrun/graphs"
)

// kept is a binding on which some inputs stay tied over calls.
type kept struct {
	inputs []int
	tied   bool // to what they hold now
	b      *bound
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
		p.kept.tied = false
	}
}

// drop lets go of what is kept.
func (p *program) drop() {
	p.keeping.Lock()
	defer p.keeping.Unlock()
	if k := p.kept; k != nil && k.b != nil {
		k.stop.destroy()
		k.b.close()
	}
	p.kept = nil
}

// runKept runs a call on the binding of kept inputs, one at a time, if there is one and the
// dimensions of all outputs are known.
func (p *program) runKept(ctx context.Context, in, out []*graphs.Tensor) (done bool, err error) {
	p.keeping.Lock()
	defer p.keeping.Unlock()
	k := p.kept
	if k == nil {
		return false, nil
	}
	results := append([]*graphs.Tensor(nil), out...)
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
	if k.b == nil {
		if err := loadAPI(); err != nil {
			return true, err
		}
		if k.b, err = p.open(); err != nil {
			return true, err
		}
	}
	if k.stop, err = k.stop.watch(ctx, p.captures); err != nil {
		return true, err
	}
	return true, k.run(ctx, in, out, results)
}

func (k *kept) run(ctx context.Context, in, out, results []*graphs.Tensor) error {
	stays := map[int]bool{}
	if !k.tied {
		for _, v := range k.b.inputs {
			v.release()
		}
		k.b.inputs = k.b.inputs[:0]
	}
	for _, i := range k.inputs {
		if stays[i] = true; !k.tied {
			if err := k.b.input(i, in[i]); err != nil {
				return err
			}
		}
	}
	k.tied = true
	before := len(k.b.inputs)
	defer func() { // what is not kept is let go
		for _, v := range k.b.inputs[before:] {
			v.release()
		}
		for _, v := range k.b.views {
			v.release()
		}
		k.b.inputs, k.b.views = k.b.inputs[:before], k.b.views[:0]
	}()
	for i, t := range in {
		if !stays[i] {
			if err := k.b.input(i, t); err != nil {
				return err
			}
		}
	}
	for i, t := range results {
		if err := k.b.output(i, t); err != nil {
			return err
		}
	}
	if err := k.b.run(ctx, k.b.p.options(k.stop)); err != nil {
		return err
	}
	copy(out, results)
	return nil
}
