// Package generator builds generator networks z → g(z) and the graphs that
// learning them needs.
//
// The model is z ~ N(0, I_d), x = g(z) + ε with ε ~ N(0, σ²I) (Han, Lu, Zhu, Wu,
// "Alternating Back-Propagation for Generator Network", AAAI 2017).
package generator

import (
	"fmt"
	"math/rand/v2"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/nn"
)

// Names of the values at the edge of the graphs of this package.
const (
	Z      = "z"      // input: codes [batch, d]
	X      = "x"      // output of the generator: g(z) [batch, …]
	Target = "target" // input: examples to explain [batch, …]
	Mask   = "mask"   // input: 1 where the target is known, 0 elsewhere; other values weigh [batch, …]
	Energy = "energy" // output [batch]: −log p(z, x) up to a constant
	Error  = "error"  // output [batch]: ‖mask·(target − g(z))‖²
	GradZ  = "grad/z" // output [batch, d]
	Weight = "weight" // input [batch]: weight of each example's error
)

// A Model is a generator z [batch, Codes] float32 → x [batch, Dims…].
type Model struct {
	*graphs.Model
	Codes int
	Dims  []int

	// Loss is what [Model.Regression] measures, the squared error where it is nil.
	Loss Loss
}

// A Loss appends how far generated examples x are from their targets, one number an
// example. Entries where mask is 0 do not count.
type Loss func(b *graphs.Builder, x, target, mask *graphs.Value) *graphs.Value

// A Layer is one transposed convolution (a dense layer for points) with the
// activation after it, except on the last.
type Layer struct {
	Filters int `yaml:"filters"`
	Kernel  int `yaml:"kernel,omitempty"`
	Stride  int `yaml:"stride,omitempty"`
	Pad     int `yaml:"pad,omitempty"`
}

// A Spec describes a generator: a dense layer from the code to a Start×Start map
// of Filters channels (none for points), then Layers. The last layer has as many
// filters as the data has channels, whatever it says, and tanh after it if Tanh.
type Spec struct {
	Codes      int     `yaml:"codes"`
	Start      int     `yaml:"start,omitempty"`
	Filters    int     `yaml:"filters,omitempty"`
	Layers     []Layer `yaml:"layers"`
	Activation string  `yaml:"activation"`
	Tanh       bool    `yaml:"tanh"`
	Init       string  `yaml:"init,omitempty"`
}

// Build makes the network for examples of the given dimensions ([C, H, W], or
// [D] for points), with weights drawn from the seed.
func Build(s Spec, dims []int, seed uint64) (*Model, error) {
	init, err := nn.InitByName(s.Init)
	if err != nil {
		return nil, err
	}
	if s.Codes < 1 || len(s.Layers) == 0 {
		return nil, fmt.Errorf("generator: wanted at least one code and one layer, got %d and %d", s.Codes, len(s.Layers))
	}
	if len(dims) != 1 && len(dims) != 3 {
		return nil, fmt.Errorf("generator: wanted examples of [C, H, W] or [D], got %v", dims)
	}
	g := &graphs.Graph{Name: "generator"}
	b := graphs.NewBuilder(g)
	net := &nn.Net{Builder: b, Rng: rand.New(rand.NewPCG(seed, 0x67656e)), Weights: init}
	if s.Init == "" || s.Init == "kaiming" {
		net.Biases = nn.Kaiming
	}
	z := b.Input(Z, graphs.Float32, graphs.Shape{onnxmodels.Batch, graphs.D(s.Codes)})
	x := body(net, s, z, dims)
	if s.Tanh {
		x = b.Tanh(x)
	}
	b.Output(X, x)
	if _, err := b.Graph(); err != nil {
		return nil, fmt.Errorf("generator: network of %d layers for %v: %w", len(s.Layers), dims, err)
	}
	if want := append(graphs.Shape{onnxmodels.Batch}, graphs.MakeShape(dims...)...); !x.Shape.Same(want) {
		return nil, fmt.Errorf("generator: the network makes %v, wanted %v", x.Shape, want)
	}
	return &Model{Model: graphs.NewModel(g), Codes: s.Codes, Dims: dims}, nil
}

func body(net *nn.Net, s Spec, z *graphs.Value, dims []int) *graphs.Value {
	h := z
	points := len(dims) == 1
	if !points {
		h = net.Dense("code", z, s.Filters*s.Start*s.Start)
		old := net.Prefix("code")
		h = net.ReshapeTo(net.Activate(s.Activation, h), -1, int64(s.Filters), int64(s.Start), int64(s.Start))
		if net.Err() == nil {
			h.Shape = append(graphs.Shape{onnxmodels.Batch}, h.Shape[1:]...)
		}
		net.Prefix(old)
	}
	for i, l := range s.Layers {
		name, last := fmt.Sprintf("layer%d", i+1), i == len(s.Layers)-1
		if last {
			l.Filters = dims[0]
		}
		if points {
			h = net.Dense(name, h, l.Filters)
		} else {
			h = net.Deconv(name, h, nn.Conv{Filters: l.Filters, Kernel: l.Kernel, Stride: l.Stride, Pad: l.Pad})
		}
		if !last {
			old := net.Prefix(name)
			h = net.Activate(s.Activation, h)
			net.Prefix(old)
		}
	}
	return h
}

// Nets is the table of generators with a name.
var Nets = map[string]onnxmodels.Named[Spec]{
	"deconv16": {"16×16 from 8 codes: 64-32", Spec{Codes: 8, Start: 4, Filters: 64, Activation: "leaky", Tanh: true,
		Layers: []Layer{{Filters: 32, Kernel: 4, Stride: 2, Pad: 1}, {Kernel: 4, Stride: 2, Pad: 1}}}},
	"deconv28": {"28×28 from 20 codes: 64-32", Spec{Codes: 20, Start: 7, Filters: 64, Activation: "leaky", Tanh: true,
		Layers: []Layer{{Filters: 32, Kernel: 4, Stride: 2, Pad: 1}, {Kernel: 4, Stride: 2, Pad: 1}}}},
	"deconv32": {"32×32 from 32 codes: 128-64-32", Spec{Codes: 32, Start: 4, Filters: 128, Activation: "leaky", Tanh: true,
		Layers: []Layer{{Filters: 64, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 32, Kernel: 4, Stride: 2, Pad: 1}, {Kernel: 4, Stride: 2, Pad: 1}}}},
	"deconv64": {"64×64 from 100 codes: 256-128-64-32", Spec{Codes: 100, Start: 4, Filters: 256, Activation: "leaky", Tanh: true,
		Layers: []Layer{{Filters: 128, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 64, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 32, Kernel: 4, Stride: 2, Pad: 1}, {Kernel: 4, Stride: 2, Pad: 1}}}},
	"mlp":    {"points from 2 codes: 64-64", Spec{Codes: 2, Activation: "leaky", Layers: []Layer{{Filters: 64}, {Filters: 64}, {}}}},
	"linear": {"one linear layer from 3 codes", Spec{Codes: 3, Activation: "linear", Layers: []Layer{{}}}},
}

// ByName returns a named network.
func ByName(name string) (Spec, error) { return onnxmodels.ByName("generator", Nets, name) }
