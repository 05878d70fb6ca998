// Package bind connects models to an engine: it compiles the gradient graphs of
// an energy and gives it to the learning systems as a [training.Energy].
package bind

import (
	"context"
	"errors"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/chain"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// Energy is an energy model on an engine. Weights are graph inputs while it can
// learn, so an update touches a slice and no session; an energy made by
// [Freeze] has them as constants, which libraries run faster. Programs are
// compiled once per number of chains and kept. It is not safe for concurrent use.
type Energy struct {
	network
	model  *onnxmodels.Model
	frozen bool
	norms  []*spectral // per parameter, nil entries for those left alone

	field  *graphs.Model // x, weights → energy, score, grad/x
	learn  *graphs.Model // x, weight, l2, weights → score, grad/…
	curve  *graphs.Model // x, vector, weights → curvature; nil until it is wanted
	fields map[int]*call
	learns map[int]*call
	curves map[int]*call
	chains map[chainKey]*call

	ahead int       // evaluations that a chain has said will come
	long  constants // programs of field for chains that are long
}

var (
	_ training.Energy = (*Energy)(nil)
	_ training.Fuser  = (*Energy)(nil)
	_ optim.Stateful  = (*Energy)(nil)
)

// Options of an energy.
type Options struct {
	Runtime runtime.Options

	// Spectral divides every weight of rank 2 or more by its largest singular
	// value, estimated by one power iteration per update (Miyato et al., 2018).
	Spectral bool

	// Only, if not nil, picks the weights that Spectral takes.
	Only func(name string, dims []int) bool
}

// Names of inputs and outputs of the learning graph.
const (
	weightInput = "weight" // [batch]: w_i
	l2Input     = "l2"     // []: strength of the score penalty
)

// Names of inputs and outputs of the curvature graph.
const (
	vectorInput     = "vector"    // [batch, …]: v
	curvatureOutput = "curvature" // [batch, …]: ∂²U/∂x²·v
)

// New binds a model whose weights can be learned. ctx ends running calls.
func New(ctx context.Context, m *onnxmodels.Model, e runtime.Engine, o Options) (*Energy, error) {
	b, err := bindModel(ctx, m, e, o)
	if err != nil {
		return nil, err
	}
	if err := b.adopt(b.model.Graph); err != nil {
		return nil, err
	}
	b.norms = make([]*spectral, len(b.params))
	for i, t := range b.weights {
		if o.Spectral && len(t.Dims) >= 2 && (o.Only == nil || o.Only(b.params[i].Name, t.Dims)) {
			b.norms[i] = newSpectral(b.params[i].W, t.Dims[0])
			b.weights[i] = graphs.Of(b.norms[i].scaled, t.Dims...)
		}
	}
	if _, err := passes.WeightsToInputs(b.field.Graph); err != nil {
		return nil, err
	}
	if b.learn, err = learnGraph(m); err != nil {
		return nil, err
	}
	b.Refresh()
	return b, nil
}

// Freeze binds a model for sampling only.
func Freeze(ctx context.Context, m *onnxmodels.Model, e runtime.Engine, o Options) (*Energy, error) {
	b, err := bindModel(ctx, m, e, o)
	if b != nil {
		b.frozen = true
	}
	return b, err
}

func bindModel(ctx context.Context, m *onnxmodels.Model, e runtime.Engine, o Options) (*Energy, error) {
	grad, err := chain.Gradient(m)
	if err != nil {
		return nil, err
	}
	// A model from a file may have its outputs in another order, and more of them.
	if err := passes.CutAt(grad.Graph, onnxmodels.Energy, onnxmodels.Score, onnxmodels.GradX); err != nil {
		return nil, err
	}
	return &Energy{
		network: network{ctx: ctx, engine: e, options: o.Runtime}, model: m, field: grad,
		fields: map[int]*call{}, learns: map[int]*call{}, curves: map[int]*call{}, chains: map[chainKey]*call{},
	}, nil
}

// learnGraph makes x, weight, l2, weights → score, grad/weights of
// Σ w_i·f_i + (l2/2)·Σ f_i².
func learnGraph(m *onnxmodels.Model) (*graphs.Model, error) {
	p, err := autodiff.Prepare(m.Model)
	if err != nil {
		return nil, err
	}
	g := p.Graph
	weights := passes.Weights(g)
	if err := passes.CutAt(g, onnxmodels.Score); err != nil {
		return nil, err
	}
	b := graphs.NewBuilder(g)
	score := g.Output(onnxmodels.Score)
	w := b.Input(weightInput, graphs.Float32, graphs.Shape{onnxmodels.Batch})
	l2 := b.Input(l2Input, graphs.Float32, graphs.Shape{})
	b.Prefix("seed")
	seed := b.Add(w, b.Mul(l2, score))
	slopes, err := autodiff.Append(b, score, seed, weights...)
	if err != nil {
		return nil, err
	}
	for i, v := range weights {
		if slopes[i] == nil {
			slopes[i] = b.Zeros(v)
		}
		b.Output(autodiff.GradPrefix+v.Name, slopes[i])
	}
	if _, err := b.Graph(); err != nil {
		return nil, err
	}
	if _, err := passes.WeightsToInputs(g); err != nil {
		return nil, err
	}
	if err := autodiff.Tidy(g); err != nil {
		return nil, err
	}
	return p, nil
}

// Model returns the model with the present weights as initializers, spectral
// normalisation applied; average, if not nil, is used in place of the weights.
func (e *Energy) Model(average *optim.EMA) (*onnxmodels.Model, error) {
	m := passes.Clone(e.model.Model)
	byName := map[string]*graphs.Tensor{}
	for i, p := range e.params {
		w := append([]float32(nil), e.weights[i].F32()...)
		if average != nil {
			copy(w, average.Weights(p.Name))
			if n := e.norms[i]; n != nil && n.sigma[0] > 0 {
				for j := range w {
					w[j] /= n.sigma[0]
				}
			}
		}
		byName[p.Name] = graphs.Of(w, e.weights[i].Dims...)
	}
	for _, v := range m.Graph.Inits {
		if t := byName[v.Name]; t != nil {
			v.Const = t
		}
	}
	return onnxmodels.Of(m)
}

// Dims are the sizes of one example.
func (e *Energy) Dims() []int { return e.model.Dims }

// Params implements [training.Energy].
func (e *Energy) Params() []optim.Param { return e.params }

// Refresh implements [training.Energy].
func (e *Energy) Refresh() {
	for i, n := range e.norms {
		if n != nil {
			n.iterate(e.params[i].W)
			n.rescale(e.params[i].W)
		}
	}
	e.renew()
}

// renew tells programs that keep weights that they have changed.
func (e *Energy) renew() {
	for _, calls := range []map[int]*call{e.fields, e.learns} {
		for _, c := range calls {
			runtime.Renew(c.program)
		}
	}
	e.long.stale = true
}

// State implements [optim.Stateful]: what spectral normalisation remembers.
func (e *Energy) State() optim.State {
	s := optim.State{Tensors: map[string][]float32{}, Counts: map[string]uint64{}}
	for i, n := range e.norms {
		if n != nil {
			name := e.params[i].Name
			s.Tensors[name+"/u"], s.Tensors[name+"/v"], s.Tensors[name+"/sigma"] = n.u, n.v, n.sigma
		}
	}
	return s
}

// Restore implements [optim.Stateful]. The weights must be restored first.
func (e *Energy) Restore(s optim.State) error {
	live := e.State()
	for name, t := range live.Tensors {
		if len(s.Tensors[name]) != len(t) {
			return fmt.Errorf("bind: spectral norm %q: wanted %d values, got %d", name, len(t), len(s.Tensors[name]))
		}
		copy(t, s.Tensors[name])
	}
	for i, n := range e.norms {
		if n != nil {
			n.rescale(e.params[i].W)
		}
	}
	e.renew()
	return nil
}

// EnergyGrad implements [sampler.Field].
func (e *Energy) EnergyGrad(x, u, g []float32) error {
	n := len(u)
	if err := e.sizes(n, x, g); err != nil {
		return err
	}
	c, err := e.slope(n)
	if err != nil {
		return err
	}
	view(&c.in[0], x, n, e.model.Dims...)
	view(&c.out[0], u, n)
	view(&c.out[2], g, n, e.model.Dims...)
	return c.program.Run(e.ctx, c.in, c.out)
}

// Expect implements [sampler.Planner].
func (e *Energy) Expect(steps int) { e.ahead = steps }

// slope is the program of U and ∂U/∂x for n examples: the one that a long chain is worth,
// or else the one that is fed the weights.
func (e *Energy) slope(n int) (*call, error) {
	c, err := e.taking(n)
	if err != nil || e.frozen {
		return c, err
	}
	if pay, err := e.long.pay(&e.network, e.field, n, e.ahead, c); !pay {
		return c, err
	}
	score := c.out[1]
	if c, err = e.long.of(&e.network, e.field, n); err != nil {
		return nil, err
	}
	c.out[1] = score
	return c, nil
}

// taking is the program that takes the weights as inputs, which it keeps where it computes
// until Refresh.
func (e *Energy) taking(n int) (*call, error) {
	if c := e.fields[n]; c != nil {
		return c, nil
	}
	c, err := e.keeping(e.field, n)
	if err != nil {
		return nil, err
	}
	c.out[1] = graphs.NewTensor(graphs.Float32, n)
	e.fields[n] = c
	return c, nil
}

// Scores writes f(x_i) for n = len(f) examples.
func (e *Energy) Scores(x, u, f []float32) error {
	if len(f) != len(u) {
		return fmt.Errorf("bind: wanted as many scores as energies, got %d and %d", len(f), len(u))
	}
	g := make([]float32, len(x))
	if err := e.EnergyGrad(x, u, g); err != nil {
		return err
	}
	copy(f, e.fields[len(u)].out[1].F32())
	return nil
}

// Learn implements [training.Energy].
func (e *Energy) Learn(ctx context.Context, x, w []float32, l2 float32, score []float32) error {
	if e.frozen {
		return fmt.Errorf("bind: this energy is frozen and cannot learn")
	}
	n := len(w)
	if err := e.sizes(n, x); err != nil {
		return err
	}
	if len(score) != n {
		return fmt.Errorf("bind: wanted %d scores, got room for %d", n, len(score))
	}
	c := e.learns[n]
	if c == nil {
		var err error
		if c, err = e.keeping(e.learn, n); err != nil { // of examples and samples, weights are the same
			return err
		}
		c.in[2] = graphs.Of(make([]float32, 1))
		c.out = make([]*graphs.Tensor, 1+len(e.params))
		for i, p := range e.params {
			c.out[1+i] = graphs.Of(p.G, e.weights[i].Dims...)
		}
		e.learns[n] = c
	}
	view(&c.in[0], x, n, e.model.Dims...)
	view(&c.in[1], w, n)
	c.in[2].F32()[0] = l2
	view(&c.out[0], score, n)
	if err := c.program.Run(ctx, c.in, c.out); err != nil {
		return err
	}
	for i, s := range e.norms {
		if s != nil {
			s.pullBack(e.params[i].G)
		}
	}
	return nil
}

// HessianVector writes to hv the product of each example's Hessian of U with a
// vector, ∂²U(x_i)/∂x²·v_i. x, v and hv are [n, dims…]. Networks that are linear in
// pieces have no curvature but that of the reference density.
func (e *Energy) HessianVector(x, v, hv []float32) error { return e.hessianVector(x, v, hv, nil) }

// hessianVector is HessianVector with what else the program is fed.
func (e *Energy) hessianVector(x, v, hv []float32, feed func(c *call, n int)) error {
	n := len(x) / e.model.Size()
	if err := e.sizes(n, x, v, hv); err != nil {
		return err
	}
	c := e.curves[n]
	if c == nil {
		if e.curve == nil {
			var err error
			if e.curve, err = curvatureGraph(e.field); err != nil {
				return err
			}
		}
		var err error
		if c, err = e.compile(e.curve, n, nil); err != nil {
			return err
		}
		c.out = make([]*graphs.Tensor, 1)
		e.curves[n] = c
	}
	c.feed(onnxmodels.X, x, n, e.model.Dims...)
	c.feed(vectorInput, v, n, e.model.Dims...)
	if feed != nil {
		feed(c, n)
	}
	view(&c.out[0], hv, n, e.model.Dims...)
	return c.program.Run(e.ctx, c.in, c.out)
}

// curvatureGraph makes x, vector, weights → curvature from a gradient graph: a
// Hessian is symmetric, so going back through the slope multiplies by it.
func curvatureGraph(field *graphs.Model) (*graphs.Model, error) {
	p := passes.Clone(field)
	g := p.Graph
	x := g.Input(onnxmodels.X)
	b := graphs.NewBuilder(g)
	v := b.Input(vectorInput, graphs.Float32, x.Shape)
	b.Prefix(curvatureOutput)
	slopes, err := autodiff.Append(b, g.Output(onnxmodels.GradX), v, x)
	if err != nil {
		return nil, err
	}
	if slopes[0] == nil {
		slopes[0] = b.Zeros(x)
	}
	b.Output(curvatureOutput, slopes[0])
	if _, err := b.Graph(); err != nil {
		return nil, err
	}
	if err := passes.CutAt(g, curvatureOutput); err != nil {
		return nil, err
	}
	return p, autodiff.Tidy(g)
}

// sizes checks that slices hold n examples.
func (e *Energy) sizes(n int, of ...[]float32) error {
	for _, x := range of {
		if n < 1 || len(x) != n*e.model.Size() {
			return fmt.Errorf("bind: wanted %d examples of %v, got %d values", n, e.model.Dims, len(x))
		}
	}
	return nil
}

// Close frees the compiled programs.
func (e *Energy) Close() error {
	return errors.Join(closeAll(e.fields, e.learns, e.curves), closeAll(e.chains), e.long.close())
}

// Reports tells what the compiled programs run on, one line of facts per kind.
func (e *Energy) Reports() map[string]runtime.Report {
	out := map[string]runtime.Report{}
	for n, c := range e.fields {
		out[fmt.Sprintf("energy gradient, batch %d", n)] = runtime.Describe(c.program)
	}
	for n, c := range e.long.calls {
		out[fmt.Sprintf("energy gradient of long chains, batch %d", n)] = runtime.Describe(c.program)
	}
	for n, c := range e.learns {
		out[fmt.Sprintf("parameter gradient, batch %d", n)] = runtime.Describe(c.program)
	}
	for n, c := range e.curves {
		out[fmt.Sprintf("curvature, batch %d", n)] = runtime.Describe(c.program)
	}
	for k, c := range e.chains {
		out[fmt.Sprintf("%d fused steps, batch %d", k.k, k.n)] = runtime.Describe(c.program)
	}
	return out
}

type chainKey struct {
	k, n int
	step chain.Step
}

// Chain returns the energy's fused Langevin chain with the given settings: as
// many steps per call as the noise holds.
func (e *Energy) Chain(l sampler.Langevin) sampler.Chain { return &fused{e: e, step: StepOf(l)} }

// StepOf translates the sampler's settings into those of a chain graph.
func StepOf(l sampler.Langevin) chain.Step {
	return chain.Step{
		Size: float64(l.Size), Noise: float64(l.Noise), GradClip: float64(l.GradClip),
		ClampMin: float64(l.ClampMin), ClampMax: float64(l.ClampMax),
	}
}

type fused struct {
	e     *Energy
	step  chain.Step
	x     []float32 // the start, since a program must not read what it writes
	noise []float32 // of one call of several
}

var _ sampler.Relay = (*fused)(nil)

// RunChain implements [sampler.Chain].
func (f *fused) RunChain(ctx context.Context, x, u, noise []float32) (sampler.Info, error) {
	k := len(noise) / max(1, len(x))
	if k < 1 || len(noise) != k*len(x) {
		return sampler.Info{}, fmt.Errorf("bind: wanted noise for whole steps of %d values, got %d", len(x), len(noise))
	}
	c, err := f.call(k, x, u, noise)
	if err != nil {
		return sampler.Info{}, err
	}
	if err := c.program.Run(ctx, c.in, c.out); err != nil {
		return sampler.Info{}, err
	}
	return f.info(c), nil
}

// pieces are the steps a call takes where a device runs them: enough for a call to
// cost little beside them, few enough for their noise to be drawn meanwhile. Little
// noise is drawn soon, of small states whose steps are short.
const (
	pieces      = 5
	smallPieces = 10
	smallState  = 1 << 14 // numbers
)

// Piece implements [sampler.Relay].
func (f *fused) Piece(k, n int) int {
	switch {
	case !runtime.Remote(f.e.options.Provider):
		return k
	case n <= smallState && k >= 2*smallPieces:
		return smallPieces
	}
	return min(k, pieces)
}

// RunChains implements [sampler.Relay].
func (f *fused) RunChains(ctx context.Context, x, u []float32, k, calls int, draw func(int, []float32), done func(sampler.Info) error) error {
	if size := k * len(x); len(f.noise) < size {
		f.noise = make([]float32, size)
	}
	c, err := f.call(k, x, u, f.noise[:k*len(x)])
	if err != nil {
		return err
	}
	return runtime.Repeat(ctx, c.program, c.in, c.out, runtime.Repetition{
		Calls: calls, From: 0, To: 0, Fresh: 1,
		Next: func(call int, t *graphs.Tensor) error {
			draw(call, t.F32())
			return nil
		},
		Done: func(int) error { return done(f.info(c)) },
	})
}

// call is the program for k steps of n = len(u) chains that start at x and end there.
func (f *fused) call(k int, x, u, noise []float32) (*call, error) {
	n := len(u)
	if err := f.e.sizes(n, x); err != nil {
		return nil, err
	}
	key := chainKey{k, n, f.step}
	c := f.e.chains[key]
	if c == nil {
		var err error
		if c, err = f.compile(k, n); err != nil {
			return nil, err
		}
		f.e.chains[key] = c
	}
	if len(f.x) != len(x) {
		f.x = make([]float32, len(x))
	}
	copy(f.x, x)
	view(&c.in[0], f.x, n, f.e.model.Dims...)
	if !same(c.in[1], noise) {
		c.in[1] = graphs.Of(noise, append([]int{k, n}, f.e.model.Dims...)...)
	}
	view(&c.out[0], x, n, f.e.model.Dims...)
	view(&c.out[1], u, n)
	return c, nil
}

// info is what a call tells of its last step.
func (f *fused) info(c *call) sampler.Info {
	info := sampler.Info{Accepted: 1}
	n := len(c.out[2].F32())
	for _, s := range c.out[2].F32() {
		info.Drift += float64(s) * f.step.Size * f.step.Size / 2 / float64(n)
	}
	if len(c.out) > 3 {
		held := 0.0
		for _, v := range c.out[3].F32() {
			held += float64(v)
		}
		info.Clamped = held / float64(n*f.e.model.Size())
	}
	return info
}

// heldOutput [batch] counts the elements of an example that lie at a bound.
const heldOutput = "held"

// countHeld adds heldOutput to a chain with bounds.
func countHeld(g *graphs.Graph, s chain.Step) error {
	b := graphs.NewBuilder(g)
	x := g.Output(chain.X)
	b.Prefix(heldOutput)
	at := func(bound float64) *graphs.Value {
		return b.Cast(b.Op("Equal", []*graphs.Value{x, b.Scalar(x, bound)}), graphs.Float32)
	}
	axes := make([]int64, len(x.Shape)-1)
	for i := range axes {
		axes[i] = int64(i + 1)
	}
	b.Output(heldOutput, b.Sum(b.Add(at(s.ClampMin), at(s.ClampMax)), false, axes...))
	_, err := b.Graph()
	return err
}

func (f *fused) compile(k, n int) (*call, error) {
	build := func(k int) (*graphs.Model, error) {
		m, err := chain.Unroll(f.e.model, f.step, k)
		if err == nil && (f.step.ClampMin != 0 || f.step.ClampMax != 0) {
			err = countHeld(m.Graph, f.step)
		}
		if err != nil {
			return nil, err
		}
		if !f.e.frozen {
			if _, err := passes.WeightsToInputs(m.Graph); err != nil {
				return nil, err
			}
		}
		return m, nil
	}
	m, err := build(k)
	if err != nil {
		return nil, err
	}
	// Rounding grows along a chain, so providers are compared on two steps.
	short := min(k, 2)
	probe, err := build(short)
	if err != nil {
		return nil, err
	}
	split := splitOf(probe, n)
	if probe, err = sized(probe, n); err != nil {
		return nil, err
	}
	size := n * f.e.model.Size()
	opts := f.e.options
	opts.Repeats, opts.Split = true, splitOf(m, n)
	opts.Probe = &runtime.Probe{Model: probe, Inputs: func(in []*graphs.Tensor) []*graphs.Tensor {
		cut := append([]*graphs.Tensor(nil), in...)
		cut[1] = graphs.Of(in[1].F32()[:short*size], append([]int{short, n}, f.e.model.Dims...)...)
		return cut
	}, Split: split}
	c, err := f.e.whole(m, n, opts)
	if err != nil {
		return nil, err
	}
	c.out = []*graphs.Tensor{nil, nil}
	for range m.Graph.Outputs[2:] {
		c.out = append(c.out, graphs.NewTensor(graphs.Float32, n))
	}
	return c, nil
}
