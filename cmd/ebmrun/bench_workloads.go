package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/chain"
	"ebmrun/onnxmodels/energy"
	nets "ebmrun/onnxmodels/flow"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/coopnets"
	"ebmrun/training/data"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/latentebm"
	"ebmrun/training/sampler"
)

// A workload is something whose speed is measured.
type workload struct {
	Name  string `json:"name"`
	Title string `json:"title"`

	sized bool // can be run at other sizes
	alone bool // has no fused form

	// start makes it ready to run.
	start func(ctx context.Context, e runtime.Engine, o runtime.Options, s setting) (*rig, error)
}

// A setting is how a workload is run.
type setting struct {
	fused bool
	still bool // nothing is drawn: chains descend

	// Of workloads that can be sized, 0 for their own.
	batch, side, steps int
}

// A rig is a workload ready to run.
type rig struct {
	steps   int // per chain
	chain   func() error
	first   func() error // the shortest run that takes a step, chain if nil
	reports func() map[string]runtime.Report
	close   func() error
	work    float64                    // 10⁹ operations of a step, 0 if not counted
	refer   func() (*reference, error) // what another program needs to do the same
}

// fusedSteps is how many steps the fused form takes in a call.
const fusedSteps = 20

var workloads = []workload{
	{"sr16", "Langevin step, short-run net of 16 filters, batch 64 of 3×32×32", true, false, langevin(shortRun32(16), 20, 64, 3, 32, 32)},
	{"sr32", "Langevin step, short-run net of 32 filters, batch 16 of 3×32×32", true, false, langevin(shortRun32(32), 20, 16, 3, 32, 32)},
	{"sr64", "Langevin step, short-run net of 64 filters, batch 32 of 3×32×32", true, false, langevin(shortRun32(64), 20, 32, 3, 32, 32)},
	{"mlp2d", "Langevin step, dense net 2-128-128-1, batch 1000", true, false, langevin(dense(128), 200, 1000, 2)},
	{"latent", "Langevin step, dense net 100-200-200-1, batch 100", true, false, langevin(dense(200), 200, 100, 100)},
	{"vgg16", "Langevin step, VGG16 up to the third convolution of block 4, batch 1 of 3×224×224", true, true, langevin(vgg16, 2, 1, 3, 224, 224)},
	{"posterior", "Langevin step on the codes of a DCGAN generator, 100-512-256-128-3, batch 32 of 3×32×32", true, true, posterior},
	{"flow", "gradient of a RealNVP's log-likelihood in its weights, batch 32 of 3×32×32", false, true, likelihoodOfFlow},
	{"convnet-iteration", "learning iteration of preset digits: 60 Langevin steps of 64 chains at 28×28, one update", false, false, iterationOf(digitsIteration)},
	{"coopnets-iteration", "learning iteration of preset pictures-32: 64 drafts, 15 Langevin steps, an update of both nets", false, false, iterationOf(coopNetsIteration)},
	{"latent-ebm-iteration", "learning iteration of preset pictures-32: 30 prior and 15 posterior steps of 64 codes, an update of both nets", false, false, iterationOf(latentIteration)},
	{"matmul", "float32 matrix product of 2048×2048, the measure of a machine's arithmetic", false, true, product},
}

// shortRun32 is the network of Nijkamp et al. (2019) for 32×32 with n filters; the
// last filter covers what is left of larger and smaller pictures.
func shortRun32(n int) energy.Spec {
	return energy.Spec{Activation: "leaky.05", Layers: []energy.Layer{
		{Filters: n, Kernel: 3, Pad: 1},
		{Filters: 2 * n, Kernel: 4, Stride: 2, Pad: 1},
		{Filters: 4 * n, Kernel: 4, Stride: 2, Pad: 1},
		{Filters: 8 * n, Kernel: 4, Stride: 2, Pad: 1},
		{Filters: 1, Kernel: 4},
	}}
}

// dense is a network of two hidden layers of n units.
func dense(n int) energy.Spec {
	return energy.Spec{Activation: "leaky.05", Layers: []energy.Layer{{Filters: n}, {Filters: n}, {Filters: 1}}}
}

// vgg16 is the sum of the rectified responses of conv4_3.
var vgg16 = energy.Spec{Activation: "relu", SumActive: true, Layers: []energy.Layer{
	{Filters: 64, Kernel: 3, Pad: 1}, {Filters: 64, Kernel: 3, Pad: 1, Pool: 2},
	{Filters: 128, Kernel: 3, Pad: 1}, {Filters: 128, Kernel: 3, Pad: 1, Pool: 2},
	{Filters: 256, Kernel: 3, Pad: 1}, {Filters: 256, Kernel: 3, Pad: 1}, {Filters: 256, Kernel: 3, Pad: 1, Pool: 2},
	{Filters: 512, Kernel: 3, Pad: 1}, {Filters: 512, Kernel: 3, Pad: 1}, {Filters: 512, Kernel: 3, Pad: 1},
}}

// sizedAs replaces a workload's own sizes. The side is that of pictures: the last
// layer of the short-run nets covers an eighth of it.
func (s setting) sizedAs(spec energy.Spec, steps, batch int, dims []int) (energy.Spec, int, int, []int, error) {
	if s.steps > 0 {
		steps = s.steps
	}
	if s.batch > 0 {
		batch = s.batch
	}
	if s.side > 0 {
		last := len(spec.Layers) - 1
		if len(dims) != 3 || s.side%8 != 0 {
			return spec, 0, 0, nil, badInput(fmt.Errorf("--side: wanted a multiple of 8, for pictures, got %d", s.side))
		}
		dims = []int{dims[0], s.side, s.side}
		if spec.Layers[last].Kernel == 4 {
			spec.Layers = slices.Clone(spec.Layers)
			spec.Layers[last].Kernel = s.side / 8
		}
	}
	return spec, steps, batch, dims, nil
}

// chains is a rig that moves chains over a field from the same start.
func chains(ctx context.Context, f sampler.Field, fused sampler.Chain, s setting, kernel sampler.Langevin, steps, batch, dim int) (*rig, *sampler.State, error) {
	noise := sampler.Noise{Seed: 1}
	start := make([]float32, batch*dim)
	noise.Fork(1).Normals(start, sampler.Chains(0, batch), 0)
	st, err := sampler.NewState(slices.Clone(start), dim, sampler.Chains(0, batch))
	if err != nil {
		return nil, nil, err
	}
	many := &sampler.Fused{Chain: fused, K: min(fusedSteps, steps)}
	run := func(steps int) error {
		copy(st.X, start)
		if s.fused {
			_, err := many.Run(ctx, noise, st, steps, nil)
			return err
		}
		_, err := sampler.Run(ctx, noise, kernel, f, st, steps, nil)
		return err
	}
	r := &rig{steps: steps, chain: func() error { return run(steps) }}
	if !s.fused {
		r.first = func() error { return run(1) }
	}
	return r, st, nil
}

// stepOf is the Langevin step that workloads take.
func stepOf(s setting) sampler.Langevin {
	if s.still {
		return sampler.Langevin{Size: 0.5} // far enough to be compared
	}
	return sampler.Langevin{Size: 0.01, Noise: 1}
}

// langevin is sampling from fixed weights, chains of the given length. A step
// includes its noise.
func langevin(spec energy.Spec, steps, batch int, dims ...int) func(context.Context, runtime.Engine, runtime.Options, setting) (*rig, error) {
	return func(ctx context.Context, e runtime.Engine, o runtime.Options, s setting) (*rig, error) {
		spec, steps, batch, dims, err := s.sizedAs(spec, steps, batch, dims)
		if err != nil {
			return nil, err
		}
		m, err := energy.Build(spec, dims, 0, 1)
		if err != nil {
			return nil, badInput(err)
		}
		net, err := bind.Freeze(ctx, m, e, bind.Options{Runtime: o})
		if err != nil {
			return nil, err
		}
		r, st, err := chains(ctx, net, net.Chain(stepOf(s)), s, stepOf(s), steps, batch, m.Size())
		if err != nil {
			return nil, errors.Join(err, net.Close())
		}
		r.reports, r.close = net.Reports, net.Close
		grad, err := chain.Gradient(m)
		if err != nil {
			return nil, errors.Join(err, net.Close())
		}
		if r.work, err = operations(grad, batch); err != nil {
			return nil, errors.Join(err, net.Close())
		}
		r.refer = func() (*reference, error) {
			return recorded(r, st, map[string]any{"kind": "langevin", "spec": spec, "size": stepOf(s).Size, "shape": append([]int{batch}, dims...)}, m.Model)
		}
		return r, nil
	}
}

// operations counts what a graph costs for a batch of n, in 10⁹.
func operations(m *graphs.Model, n int) (float64, error) {
	m = passes.Clone(m)
	if _, err := passes.SetBatch(m.Graph, onnxmodels.Batch.Name, n); err != nil {
		return 0, err
	}
	if err := autodiff.Tidy(m.Graph); err != nil {
		return 0, err
	}
	work, counted := passes.Work(m.Graph)
	if !counted {
		return 0, nil
	}
	return float64(work) / 1e9, nil
}

// posterior is the inference of codes behind pictures, by fixed weights.
func posterior(ctx context.Context, e runtime.Engine, o runtime.Options, s setting) (*rig, error) {
	spec := generator.Spec{Codes: 100, Start: 4, Filters: 512, Activation: "leaky", Tanh: true, Layers: []generator.Layer{
		{Filters: 256, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 128, Kernel: 4, Stride: 2, Pad: 1}, {Kernel: 4, Stride: 2, Pad: 1}}}
	if s.side > 0 {
		return nil, badInput(errors.New("--side: this workload has a fixed one"))
	}
	_, steps, batch, dims, err := s.sizedAs(energy.Spec{}, 10, 32, []int{3, 32, 32})
	if err != nil {
		return nil, err
	}
	m, err := generator.Build(spec, dims, 1)
	if err != nil {
		return nil, err
	}
	const sigma = 0.3
	g, err := bind.FreezeGenerator(ctx, m, e, o, sigma)
	if err != nil {
		return nil, err
	}
	target := pictures(batch, dims).X()
	kernel := stepOf(s)
	if s.still {
		kernel.Size = 0.05 // longer steps magnify rounding
	}
	r, st, err := chains(ctx, g.Posterior(target, training.Ones(len(target))), nil, s, kernel, steps, batch, m.Codes)
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	r.reports, r.close = g.Reports, g.Close
	forward, err := operations(m.Model, batch)
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	r.work = 2 * forward // the way back to the codes costs what the way there does
	r.refer = func() (*reference, error) {
		rec, err := recorded(r, st, map[string]any{"kind": "posterior", "spec": spec, "sigma": sigma, "size": kernel.Size, "shape": []int{batch, m.Codes}}, m.Model)
		if err == nil {
			rec.tensors["target"] = graphs.Of(target, append([]int{batch}, dims...)...)
		}
		return rec, err
	}
	return r, nil
}

// pictures are n pictures of uniform noise.
func pictures(n int, dims []int) *data.Set {
	set := &data.Set{Name: "noise", N: n, C: dims[0], H: dims[1], W: dims[2], Floats: make([]float32, n*graphs.Size(dims)), Lo: -1, Hi: 1, Gain: 1}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range set.Floats {
		set.Floats[i] = 2*r.Float32() - 1
	}
	return set
}

// likelihoodOfFlow is the gradient that a flow learns by.
func likelihoodOfFlow(ctx context.Context, e runtime.Engine, o runtime.Options, _ setting) (*rig, error) {
	spec := nets.Spec{Levels: 256, Dequantize: nets.Uniform, Bound: 0.9, Plain: true,
		Layers: []nets.Layer{{Kind: nets.Steps, N: 3, By: nets.Checkerboard}, {Kind: nets.Squeeze}, {Kind: nets.Steps, N: 3}, {Kind: nets.Leave},
			{Kind: nets.Steps, N: 4, By: nets.Checkerboard}},
		Coupling: nets.Coupling{Kind: nets.Tanh, Hidden: 64, Activation: "swish"}}
	batch, dims := 32, []int{3, 32, 32}
	m, err := nets.Build(spec, dims, 1)
	if err != nil {
		return nil, err
	}
	f, err := bind.NewFlow(ctx, m, e, o)
	if err != nil {
		return nil, err
	}
	x := pictures(batch, dims).X()
	noise, w, bound := make([]float32, len(x)), make([]float32, batch), make([]float32, batch)
	sampler.Noise{Seed: 1}.Normals(noise, sampler.Chains(0, batch), 0)
	for i := range w {
		w[i] = 1 / float32(batch)
	}
	if err := f.Start(ctx, x, noise); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r := &rig{steps: 1, reports: f.Reports, close: f.Close, chain: func() error { return f.Learn(ctx, x, noise, w, bound) }}
	r.refer = func() (*reference, error) {
		if err := r.chain(); err != nil {
			return nil, err
		}
		shape := append([]int{batch}, dims...)
		rec := &reference{about: map[string]any{"kind": "flow", "spec": spec, "shape": shape}, tensors: map[string]*graphs.Tensor{
			"x": graphs.Of(x, shape...), "noise": graphs.Of(noise, shape...), "end/bound": graphs.Of(bound, batch)}}
		for _, p := range f.Params() {
			rec.tensors["start/flow/"+p.Name], rec.tensors["gradient/flow/"+p.Name] = graphs.Of(p.W, len(p.W)), graphs.Of(p.G, len(p.G))
		}
		return rec, nil
	}
	return r, nil
}

// product is a matrix product.
func product(ctx context.Context, e runtime.Engine, o runtime.Options, _ setting) (*rig, error) {
	const n = 2048
	b := graphs.NewBuilder(&graphs.Graph{Name: "matmul"})
	x := b.Input("x", graphs.Float32, graphs.MakeShape(n, n))
	b.Output("y", b.MatMul(x, b.Input("w", graphs.Float32, graphs.MakeShape(n, n))))
	g, err := b.Graph()
	if err != nil {
		return nil, err
	}
	in := []*graphs.Tensor{graphs.NewTensor(graphs.Float32, n, n), graphs.NewTensor(graphs.Float32, n, n)}
	for i, t := range in {
		sampler.Noise{Seed: uint64(i)}.Normals(t.F32(), sampler.Chains(0, n), 0)
	}
	return calls(ctx, e, o, graphs.NewModel(g), in)
}

// calls is a rig of calls of one graph.
func calls(ctx context.Context, e runtime.Engine, o runtime.Options, m *graphs.Model, in []*graphs.Tensor) (*rig, error) {
	p, err := e.Compile(ctx, m, o)
	if err != nil {
		return nil, err
	}
	out, name := make([]*graphs.Tensor, len(p.Outputs())), m.Graph.Name
	r := &rig{steps: 1, close: p.Close, chain: func() error { return p.Run(ctx, in, out) },
		reports: func() map[string]runtime.Report { return map[string]runtime.Report{name: runtime.Describe(p)} }}
	if work, counted := passes.Work(m.Graph); counted {
		r.work = float64(work) / 1e9
	}
	r.refer = func() (*reference, error) {
		if err := r.chain(); err != nil {
			return nil, err
		}
		rec := &reference{about: map[string]any{"kind": "calls"}, tensors: map[string]*graphs.Tensor{}}
		for i, v := range p.Inputs() {
			rec.tensors["in/"+v.Name] = in[i]
		}
		for i, v := range p.Outputs() {
			rec.tensors["out/"+v.Name] = out[i]
		}
		return rec, nil
	}
	return r, nil
}

// gradientOf is a workload of a file: the gradient of its output in its inputs, at
// random numbers, axes of unknown size being 1.
func gradientOf(path string) func(context.Context, runtime.Engine, runtime.Options, setting) (*rig, error) {
	return func(ctx context.Context, e runtime.Engine, o runtime.Options, _ setting) (*rig, error) {
		m, err := onnxio.Read(path)
		if err != nil {
			return nil, badInput(err)
		}
		grad, err := autodiff.Grad(m, autodiff.Options{})
		if err != nil {
			return nil, badInput(err)
		}
		var in []*graphs.Tensor
		for i, v := range grad.Graph.Inputs {
			if v.Const != nil {
				continue
			}
			if v.Type != graphs.Float32 || v.Shape == nil {
				return nil, badInput(fmt.Errorf("%s: input %s: wanted float32 of a known rank", path, v))
			}
			dims := make([]int, v.Rank())
			for k, d := range v.Shape {
				if dims[k] = 1; d.Known() {
					dims[k] = int(d.N)
				}
			}
			t := graphs.NewTensor(graphs.Float32, dims...)
			sampler.Noise{Seed: uint64(1 + i)}.Normals(t.F32(), sampler.Chains(0, 1), 0)
			in = append(in, t)
		}
		r, err := calls(ctx, e, o, grad, in)
		m, grad = nil, nil
		debug.FreeOSMemory() // of the model: the sessions have its weights
		return r, err
	}
}

// A learner is a learning system with its networks.
type learner struct {
	name   string // of the system
	system training.System
	config any
	nets   networks
	set    *data.Set // as many examples as a batch
	slots  int       // persistent chains, 0 for none
}

// iterationOf is one learning iteration.
func iterationOf(make func(ctx context.Context, e environment, s setting) (*learner, error)) func(context.Context, runtime.Engine, runtime.Options, setting) (*rig, error) {
	return func(ctx context.Context, e runtime.Engine, o runtime.Options, s setting) (*rig, error) {
		env := environment{engine: e, bind: bind.Options{Runtime: o}, seed: 1}
		l, err := make(ctx, env, s)
		if err != nil {
			return nil, err
		}
		step := func() error {
			m, err := l.system.Step(ctx)
			if err == nil && m[training.Value] != m[training.Value] {
				err = errors.New("learning gave numbers that are not finite")
			}
			return err
		}
		return &rig{steps: 1, chain: step, reports: l.nets.Reports, close: l.nets.Close,
			refer: func() (*reference, error) { return l.reference(step) }}, nil
	}
}

// noiseOf is a chain's noise in a setting.
func (s setting) noiseOf(l *training.Langevin) {
	if l.Fused = s.fused; s.still {
		l.Noise = 0
	}
}

func digitsIteration(ctx context.Context, e environment, s setting) (*learner, error) {
	c, err := generativeconvnet.For("digits", []int{1, 28, 28}, 64)
	if err != nil {
		return nil, err
	}
	c.Langevin.Steps = 60
	if s.noiseOf(&c.Langevin); s.still {
		c.Data.Noise, c.Chains.Restart = 0, 0
	}
	set := pictures(c.Batch, []int{1, 28, 28})
	e.dims = dimsOf(set)
	net, err := energyOf(ctx, e, &c)
	if err != nil {
		return nil, err
	}
	sys, err := generativeconvnet.New(c, net, set, e.seed)
	if err != nil {
		return nil, errors.Join(err, net.Close())
	}
	if c.Spec == nil {
		spec, _ := c.Network()
		c.Spec = &spec
	}
	return &learner{"generative-convnet", sys, c, networks{net}, set, c.Bank()}, nil
}

func coopNetsIteration(ctx context.Context, e environment, s setting) (*learner, error) {
	c, err := coopnets.For("pictures-32", []int{3, 32, 32}, 64)
	if err != nil {
		return nil, err
	}
	s.noiseOf(&c.Langevin)
	set := pictures(c.Batch, []int{3, 32, 32})
	e.dims = dimsOf(set)
	net, g, err := pairOf(ctx, e, &c)
	if err != nil {
		return nil, err
	}
	sys, err := coopnets.New(c, net, g, set, e.seed)
	if err != nil {
		return nil, errors.Join(err, net.Close(), g.Close())
	}
	spec, err := c.EnergyNet()
	gen, err2 := c.GeneratorNet()
	c.Spec, c.GenSpec = &spec, &gen
	return &learner{"coopnets", sys, c, networks{net, g}, set, 0}, errors.Join(err, err2)
}

func latentIteration(ctx context.Context, e environment, s setting) (*learner, error) {
	c, err := latentebm.For("pictures-32", []int{3, 32, 32}, 64)
	if err != nil {
		return nil, err
	}
	s.noiseOf(&c.Prior)
	s.noiseOf(&c.Posterior)
	c.Posterior.Fused = false // codes have no such form
	set := pictures(c.Batch, []int{3, 32, 32})
	e.dims = dimsOf(set)
	p, g, err := latentPairOf(ctx, e, &c)
	if err != nil {
		return nil, err
	}
	sys, err := latentebm.New(c, p, g, set, e.seed)
	if err != nil {
		return nil, errors.Join(err, p.Close(), g.Close())
	}
	gen, err := c.GeneratorNet()
	c.GenSpec = &gen
	return &learner{"latent-ebm", sys, c, networks{titled{p, "prior: "}, g}, set, 0}, err
}
