package ref

import (
	"fmt"
	"reflect"
	"slices"

	"ebmrun/graphs"
)

// kept is what a caller has promised not to change.
type kept struct {
	inputs []int
	then   []*graphs.Tensor // as they were first seen, nil until then
}

// Keep implements runtime.Keeper. Nothing is gained by it here: the engine holds callers to their word,
// so that what is wrong on a graphics processor fails here too.
func (p *program) Keep(inputs ...int) {
	p.keeping.Lock()
	defer p.keeping.Unlock()
	p.kept = kept{inputs: inputs}
}

// Renew implements runtime.Keeper.
func (p *program) Renew() {
	p.keeping.Lock()
	defer p.keeping.Unlock()
	p.kept.then = nil
}

// promised is an error if what is kept has changed.
func (p *program) promised(in []*graphs.Tensor) error {
	p.keeping.Lock()
	defer p.keeping.Unlock()
	if p.kept.then == nil {
		for _, i := range p.kept.inputs {
			t := graphs.NewTensor(in[i].Type, in[i].Dims...)
			reflect.Copy(reflect.ValueOf(t.Data), reflect.ValueOf(in[i].Data))
			p.kept.then = append(p.kept.then, t)
		}
		return nil
	}
	for k, i := range p.kept.inputs {
		if !alike(p.kept.then[k], in[i]) {
			return fmt.Errorf("input %q was to stay as it is and has changed: it must be renewed", p.sig.Inputs[i].Name)
		}
	}
	return nil
}

func alike(a, b *graphs.Tensor) bool {
	x, ok := a.Data.([]float32)
	if !ok {
		return reflect.DeepEqual(a, b)
	}
	return slices.EqualFunc(x, b.F32(), func(a, b float32) bool { return a == b || a != a && b != b })
}
