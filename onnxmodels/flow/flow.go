// Package flow builds normalizing flows: bijections between examples x and codes
// z ~ N(0, I) of as many values, whose layers return their log-determinants beside
// their values, in both directions. So
//
//	log p(x) = log N(z(x)) + log|det ∂z/∂x|
//
// is exact (Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP", ICLR
// 2017; Kingma and Dhariwal, "Glow", NeurIPS 2018; Ho, Chen, Srinivas, Duan, Abbeel,
// "Flow++", ICML 2019).
//
// Pictures have whole levels, and a density has none: dequantization fills the gap
// between levels with noise, uniform or learned. The density of the filled values, in
// expectation over the noise, bounds the probability of the levels from below.
package flow

import (
	"fmt"
	"math"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/nn"
)

// Names of the values at the edge of the graphs of this package.
const (
	X      = "x"      // examples [batch, …]
	Z      = "z"      // codes [batch, D]
	LogP   = "log_p"  // [batch]: log p(x), nats, of x as continuous values
	Noise  = "noise"  // input: standard normals in the shape of x, for dequantization
	Bound  = "bound"  // [batch]: log p(x + noise) − log q(noise | x), nats
	Weight = "weight" // input [batch]: weight of each example's bound
)

// The ways to fill the gap between levels.
const (
	Uniform     = "uniform"
	Variational = "variational"
)

// The kinds of layers of a description.
const (
	Squeeze = "squeeze" // windows of 2×2 pixels become channels
	Steps   = "steps"   // N times: normalisation, 1×1 convolution, coupling
	Leave   = "leave"   // half of the channels are codes
)

// A Layer is a layer of a description, or several equal ones.
type Layer struct {
	Kind string `yaml:"kind"`
	N    int    `yaml:"n,omitempty"`  // of steps
	By   string `yaml:"by,omitempty"` // what couplings split by: channels (default) or checkerboard
}

// A Spec describes a flow, from data to codes.
type Spec struct {
	// Levels of a value: pictures of bytes in [−1, 1] have 256. 0 is for values that
	// are continuous, which are neither dequantized nor bounded.
	Levels     int     `yaml:"levels"`
	Dequantize string  `yaml:"dequantize,omitempty"` // uniform or variational
	Bound      float64 `yaml:"bound,omitempty"`      // of the logit transform, below 1; 0 is none

	Layers   []Layer  `yaml:"layers"`
	Coupling Coupling `yaml:"coupling"`
	Plain    bool     `yaml:"plain,omitempty"` // no 1×1 convolutions: RealNVP

	// Variational is the flow that makes the noise: so many checkerboard steps, which
	// see as many features of the picture as they have filters.
	Variational struct {
		Steps  int `yaml:"steps"`
		Hidden int `yaml:"hidden"`
		Blocks int `yaml:"blocks"`
	} `yaml:"variational,omitempty"`
}

// Level is the distance between two levels of data in [−1, 1], 0 without levels.
func (s Spec) Level() float64 {
	if s.Levels == 0 {
		return 0
	}
	return 2 / float64(s.Levels-1)
}

func (s Spec) check() error {
	switch {
	case len(s.Layers) == 0:
		return fmt.Errorf("flow: wanted at least one layer")
	case s.Levels < 0 || s.Levels == 1:
		return fmt.Errorf("flow: levels: wanted at least 2, or 0 for continuous values, got %d", s.Levels)
	case (s.Levels > 0) != (s.Dequantize != "") || s.Dequantize != "" && s.Dequantize != Uniform && s.Dequantize != Variational:
		return fmt.Errorf("flow: dequantize: wanted uniform or variational with levels and nothing without, got %q with %d levels", s.Dequantize, s.Levels)
	case !(s.Bound >= 0 && s.Bound < 1) || s.Bound > 0 && s.Levels == 0:
		return fmt.Errorf("flow: bound: wanted a number from 0 to below 1, and 0 without levels, got %g with %d levels", s.Bound, s.Levels)
	case s.Dequantize == Variational && (s.Variational.Steps < 1 || s.Variational.Hidden < 1):
		return fmt.Errorf("flow: variational: wanted steps and hidden filters, got %d and %d", s.Variational.Steps, s.Variational.Hidden)
	}
	for i, l := range s.Layers {
		if l.Kind != Squeeze && l.Kind != Steps && l.Kind != Leave || (l.Kind == Steps) != (l.N > 0) || l.By != "" && l.By != Channels && l.By != Checkerboard {
			return fmt.Errorf("flow: layer %d: wanted squeeze, leave, or steps with n and by channels or checkerboard, got %+v", i+1, l)
		}
	}
	return s.Coupling.check()
}

// layers are the bijections of the description.
func (s Spec) layers() (all chained) {
	if s.Bound > 0 {
		all = append(all, logit{s.Bound, s.half()})
	}
	count := 0
	for i, l := range s.Layers {
		switch name := fmt.Sprintf("layer%d", i+1); l.Kind {
		case Squeeze:
			all = append(all, squeeze{})
		case Leave:
			all = append(all, leave{})
		case Steps:
			by := l.By
			if by == "" {
				by = Channels
			}
			for k := range l.N {
				all = append(all, s.step(fmt.Sprintf("%s.step%d", name, k+1), by, count%2 == 1, s.Coupling, s.Plain))
				count++
			}
		}
	}
	return all
}

func (s Spec) step(name, by string, flip bool, c Coupling, plain bool) layer {
	step := chained{actNorm{name + ".norm"}}
	if !plain {
		step = append(step, mixing{name + ".mix"})
	}
	return append(step, coupling{name + ".coupling", by, flip, c})
}

// half is the end of the range that filled values lie in: half a level beyond ±1.
func (s Spec) half() float64 { return 1 + s.Level()/2 }

// A Model is a flow for examples of given dimensions.
type Model struct {
	Spec   Spec
	Dims   []int
	Encode *graphs.Model // x → z, log_p
	Decode *graphs.Model // z → x, log_p
	seed   uint64
}

// Build makes a flow for examples of [C, H, W], or [D] for points, with weights drawn
// from the seed.
func Build(s Spec, dims []int, seed uint64) (*Model, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if len(dims) != 1 && len(dims) != 3 {
		return nil, fmt.Errorf("flow: wanted examples of [C, H, W] or [D], got %v", dims)
	}
	m := &Model{Spec: s, Dims: dims, seed: seed}
	var err error
	if m.Encode, err = m.encode(); err == nil {
		m.Decode, err = m.decode()
	}
	if err != nil {
		return nil, fmt.Errorf("flow: %d layers on %v: %w", len(s.Layers), dims, err)
	}
	return m, nil
}

// begin starts a graph.
func (m *Model) begin(name string) *net {
	b := graphs.NewBuilder(&graphs.Graph{Name: name})
	return &net{Net: &nn.Net{Builder: b, Weights: nn.Kaiming}, seed: m.seed}
}

func (m *Model) input(n *net, name string) *graphs.Value {
	return n.Input(name, graphs.Float32, append(graphs.Shape{onnxmodels.Batch}, graphs.MakeShape(m.Dims...)...))
}

// density is z and log p of values h.
func (m *Model) density(n *net, h *graphs.Value) (z, logP *graphs.Value) {
	y, logDet := m.Spec.layers().forward(n, h)
	var parts []*graphs.Value
	for _, v := range append(n.codes, y) {
		parts = append(parts, n.Flatten(v))
	}
	n.codes = nil
	defer n.at("density")()
	z = n.Concat(1, parts...)
	if n.Err() != nil {
		return z, z
	}
	return z, n.total(gaussian(n, z), logDet)
}

func (m *Model) encode() (*graphs.Model, error) {
	n := m.begin("flow_encode")
	z, logP := m.density(n, m.input(n, X))
	n.Output(Z, z)
	n.Output(LogP, logP)
	return finish(n)
}

// parts are the shapes of what leaves on the way to the codes, the end last.
func (m *Model) parts() (shapes [][]int) {
	at := append([]int(nil), m.Dims...)
	for _, l := range m.Spec.Layers {
		switch l.Kind {
		case Squeeze:
			at = []int{4 * at[0], at[1] / 2, at[2] / 2}
		case Leave:
			gone := append([]int{at[0] / 2}, at[1:]...)
			shapes, at[0] = append(shapes, gone), (at[0]+1)/2
		}
	}
	return append(shapes, at)
}

func (m *Model) decode() (*graphs.Model, error) {
	n := m.begin("flow_decode")
	z := n.Input(Z, graphs.Float32, graphs.Shape{onnxmodels.Batch, graphs.D(graphs.Size(m.Dims))})
	var y *graphs.Value
	at := int64(0)
	for _, dims := range m.parts() {
		next := at + int64(graphs.Size(dims))
		var to []int64
		for _, d := range dims {
			to = append(to, int64(d))
		}
		n.codes = append(n.codes, n.shaped(n.slice(z, 1, at, next), to...))
		at = next
	}
	y, n.codes = n.codes[len(n.codes)-1], n.codes[:len(n.codes)-1]
	x, logDet := m.Spec.layers().inverse(n, y)
	n.at("density")
	n.Output(X, x)
	if n.Err() == nil {
		// log p(x) = log N(z) − log|det ∂x/∂z|
		n.Output(LogP, n.Sub(gaussian(n, z), logDet))
	}
	return finish(n)
}

// bound appends the bound of examples filled with noise.
func (m *Model) bound(n *net) *graphs.Value {
	x := m.input(n, X)
	if m.Spec.Levels == 0 {
		_, logP := m.density(n, x)
		return logP
	}
	fill, logQ := m.Spec.fill(n, x, m.input(n, Noise))
	_, logP := m.density(n, n.Add(x, n.Scale(n.Sub(fill, n.Scalar(fill, 0.5)), m.Spec.Level())))
	if logQ == nil || n.Err() != nil {
		return logP
	}
	return n.Sub(logP, logQ)
}

// fill turns normals into the place between two levels, from 0 to 1, with its log
// density given the picture; nil is 0.
func (s Spec) fill(n *net, x, noise *graphs.Value) (place, logQ *graphs.Value) {
	end := n.at("dequantize")
	if s.Dequantize == Uniform {
		defer end()
		// the distribution function of the normal
		return n.Scale(n.Add(n.Op("Erf", []*graphs.Value{n.Scale(noise, math.Sqrt2/2)}), n.Scalar(noise, 1)), 0.5), nil
	}
	v := s.Variational
	n.context = n.Activate("elu", n.layer("dequantize.in", x, v.Hidden, 3))
	n.context = n.Activate("elu", n.layer("dequantize.mid", n.context, v.Hidden, 3))
	end()
	c := Coupling{Kind: Tanh, Hidden: v.Hidden, Blocks: v.Blocks, Activation: "elu"}
	var steps chained
	for k := range v.Steps {
		steps = append(steps, s.step(fmt.Sprintf("dequantize.step%d", k+1), Checkerboard, k%2 == 1, c, true))
	}
	h, logDet := steps.forward(n, noise)
	n.context = nil
	defer n.at("dequantize")()
	if n.Err() != nil {
		return h, h
	}
	// log q = log N(noise) − log|det|, of the sigmoid too: log σ′ = −softplus(h) − softplus(−h)
	slope := n.SumAll(n.Add(softplus(n, h), softplus(n, n.Neg(h))))
	return n.Sigmoid(h), n.Add(n.Sub(gaussian(n, noise), logDet), slope)
}

// Objective is the model x, noise, weight → bound, grad/weights of Σ weight_i·bound_i.
// Without levels there is no noise.
func (m *Model) Objective() (*graphs.Model, error) {
	n := m.begin("flow_objective")
	n.Output(Bound, m.bound(n))
	p, err := finish(n)
	if err != nil {
		return nil, err
	}
	if p, err = autodiff.Prepare(p); err != nil {
		return nil, err
	}
	g := p.Graph
	weights := passes.Weights(g)
	b := graphs.NewBuilder(g)
	bound := g.Output(Bound)
	slopes, err := autodiff.Append(b, bound, b.Input(Weight, graphs.Float32, bound.Shape), weights...)
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
	return p, autodiff.Tidy(g)
}

// Judge is the model x, noise → bound.
func (m *Model) Judge() (*graphs.Model, error) {
	n := m.begin("flow_bound")
	n.Output(Bound, m.bound(n))
	return finish(n)
}

// Start is the model x, noise → start/NAME for the weights of all normalisations:
// what gives each the mean 0 and the deviation 1 on this batch, those before it so
// set. Examples of a batch influence one another here.
func (m *Model) Start() (*graphs.Model, error) {
	n := m.begin("flow_start")
	n.measure = true
	m.bound(n)
	return finish(n)
}

// StartOf is the weight that an output of Start is for.
func StartOf(output string) string { return output[len(startPrefix):] }

func finish(n *net) (*graphs.Model, error) {
	g, err := n.Graph()
	if err != nil {
		return nil, err
	}
	return graphs.NewModel(g), autodiff.Tidy(g)
}

// With returns the model with other weights, by name; weights that the graph does not
// know are left out.
func With(m *graphs.Model, weights map[string]*graphs.Tensor) *graphs.Model {
	m = passes.Clone(m)
	for _, v := range m.Graph.Inits {
		if t := weights[v.Name]; t != nil && passes.IsWeight(v) {
			v.Const = t
		}
	}
	return m
}
