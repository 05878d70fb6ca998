package bind

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/runtime"
	"ebmrun/training/optim"
)

// A network is what every bound model has: an engine, weights that it feeds to
// its programs, and the programs, each compiled once per batch size.
type network struct {
	ctx     context.Context
	engine  runtime.Engine
	options runtime.Options

	params  []optim.Param
	weights []*graphs.Tensor // what the programs are fed: the params, or what is made of them
}

// adopt takes the weights of a graph as learnable parameters.
func (b *network) adopt(g *graphs.Graph) error {
	for _, v := range passes.Weights(g) {
		if v.Type != graphs.Float32 {
			return fmt.Errorf("bind: weight %s: learning needs float32", v)
		}
		w := append([]float32(nil), v.Const.F32()...)
		b.params = append(b.params, optim.Param{Name: v.Name, W: w, G: make([]float32, len(w))})
		b.weights = append(b.weights, graphs.Of(w, v.Const.Dims...))
	}
	return nil
}

// A call is a compiled program with its tensors.
type call struct {
	program runtime.Program
	in, out []*graphs.Tensor
}

// keeping compiles a model whose weights stay the same from call to call, until they are renewed.
func (b *network) keeping(m *graphs.Model, n int) (*call, error) {
	opts := b.options
	opts.Split, opts.Repeats = splitOf(m, n), len(b.params) > 0
	c, err := b.whole(m, n, opts)
	if err != nil {
		return nil, err
	}
	c.out = make([]*graphs.Tensor, len(c.program.Outputs()))
	var weights []int
	for i, t := range c.in {
		if t != nil { // the rest is set with every call
			weights = append(weights, i)
		}
	}
	runtime.Keep(c.program, weights...)
	return c, nil
}

// compile compiles a model for n examples and fills in the weights, whose
// inputs are found by name. Examples must not influence one another, and outputs
// without a batch axis must be sums over them.
func (b *network) compile(m *graphs.Model, n int, probe *runtime.Probe) (*call, error) {
	opts := b.options
	opts.Probe, opts.Split = probe, splitOf(m, n)
	return b.whole(m, n, opts)
}

// whole compiles a model whose examples may influence one another, unless the
// options tell how to split them.
func (b *network) whole(m *graphs.Model, n int, opts runtime.Options) (*call, error) {
	m, err := sized(m, n)
	if err != nil {
		return nil, err
	}
	p, err := b.engine.Compile(b.ctx, m, opts)
	if err != nil {
		return nil, err
	}
	c := &call{program: p}
	for _, in := range p.Inputs() {
		var t *graphs.Tensor
		for i, q := range b.params {
			if q.Name == in.Name {
				t = b.weights[i]
			}
		}
		c.in = append(c.in, t)
	}
	return c, nil
}

// sized is a copy of a model for n examples.
func sized(m *graphs.Model, n int) (*graphs.Model, error) {
	m = passes.Clone(m)
	if _, err := passes.SetBatch(m.Graph, onnxmodels.Batch.Name, n); err != nil {
		return nil, err
	}
	// With the batch a number, shapes that were computed become constants.
	return m, autodiff.Tidy(m.Graph)
}

// splitOf tells where the examples lie in what a model takes and gives.
func splitOf(m *graphs.Model, n int) *runtime.Split {
	axes := func(vs []*graphs.Value) (at []int) {
		for _, v := range vs {
			if v.Const == nil { // else it has a default and is not fed
				at = append(at, slices.IndexFunc(v.Shape, onnxmodels.Batch.Same))
			}
		}
		return at
	}
	return &runtime.Split{
		N: n, In: axes(m.Graph.Inputs), Out: axes(m.Graph.Outputs),
		Model: func(n int) (*graphs.Model, error) { return sized(m, n) },
	}
}

// view points a tensor [n, dims…] at a slice without copying it.
func view(t **graphs.Tensor, s []float32, n int, dims ...int) {
	if !same(*t, s) {
		*t = graphs.Of(s, append([]int{n}, dims...)...)
	}
}

func same(t *graphs.Tensor, s []float32) bool {
	if t == nil {
		return false
	}
	v := t.F32()
	return len(v) == len(s) && (len(s) == 0 || &v[0] == &s[0])
}

// closeAll frees compiled programs.
func closeAll[K comparable](sets ...map[K]*call) error {
	var errs []error
	for _, set := range sets {
		for _, c := range set {
			errs = append(errs, c.program.Close())
		}
	}
	return errors.Join(errs...)
}
