// Package encoder builds encoder networks x → mean, log variance of a code, and
// the graph that learns one together with a generator.
//
// The encoder is the Gaussian q(z | x) = N(mean(x), diag e^logvar(x)) of a
// variational auto-encoder (Kingma and Welling, "Auto-Encoding Variational
// Bayes", ICLR 2014).
package encoder

import (
	"fmt"
	"math/rand/v2"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/nn"
)

// Names of the values at the edge of the graphs of this package.
const (
	X      = onnxmodels.X // input: examples [batch, …]
	Mean   = "mean"       // output of the encoder [batch, d]
	LogVar = "logvar"     // output of the encoder [batch, d], held within MinLogVar and MaxLogVar
	Noise  = "noise"      // input: standard normals [batch, d]
	Weight = "weight"     // input [batch]: weight of each example's bound
	Beta   = "beta"       // input []: weight of the divergence
	Error  = "error"      // output [batch]: ‖x − g(z)‖²
	KL     = "kl"         // output [batch]: KL(q(z | x) ‖ N(0, I)), nats
)

// Bounds of the log variance: deviations from e⁻⁵ to e³.
const (
	MinLogVar = -10
	MaxLogVar = 6
)

// A Model is an encoder x [batch, Dims…] float32 → mean, logvar [batch, Codes].
type Model struct {
	*graphs.Model
	Codes int
	Dims  []int
}

// A Layer is one convolution (a dense layer for points) with the activation
// after it.
type Layer struct {
	Filters int `yaml:"filters"`
	Kernel  int `yaml:"kernel,omitempty"`
	Stride  int `yaml:"stride,omitempty"`
	Pad     int `yaml:"pad,omitempty"`
}

// A Spec describes an encoder: Layers, which may be none, and two dense heads.
type Spec struct {
	Layers     []Layer `yaml:"layers"`
	Activation string  `yaml:"activation"`
	Init       string  `yaml:"init,omitempty"`
}

// Build makes the network for examples of the given dimensions ([C, H, W], or
// [D] for points) and a number of codes, with weights drawn from the seed.
func Build(s Spec, dims []int, codes int, seed uint64) (*Model, error) {
	init, err := nn.InitByName(s.Init)
	if err != nil {
		return nil, err
	}
	if codes < 1 {
		return nil, fmt.Errorf("encoder: wanted at least one code, got %d", codes)
	}
	if len(dims) != 1 && len(dims) != 3 {
		return nil, fmt.Errorf("encoder: wanted examples of [C, H, W] or [D], got %v", dims)
	}
	g := &graphs.Graph{Name: "encoder"}
	b := graphs.NewBuilder(g)
	net := &nn.Net{Builder: b, Rng: rand.New(rand.NewPCG(seed, 0x656e63)), Weights: init}
	if s.Init == "" || s.Init == "kaiming" {
		net.Biases = nn.Kaiming
	}
	h := b.Input(X, graphs.Float32, append(graphs.Shape{onnxmodels.Batch}, graphs.MakeShape(dims...)...))
	for i, l := range s.Layers {
		name := fmt.Sprintf("encode%d", i+1)
		if len(dims) == 1 {
			h = net.Dense(name, h, l.Filters)
		} else {
			h = net.Conv(name, h, nn.Conv{Filters: l.Filters, Kernel: l.Kernel, Stride: l.Stride, Pad: l.Pad})
		}
		old := net.Prefix(name)
		h = net.Activate(s.Activation, h)
		net.Prefix(old)
	}
	if len(dims) == 3 {
		h = net.Flatten(h)
	}
	b.Output(Mean, net.Dense("mean", h, codes))
	v := net.Dense("logvar", h, codes)
	b.Output(LogVar, b.Op("Clip", []*graphs.Value{v, b.Scalar(v, MinLogVar), b.Scalar(v, MaxLogVar)}))
	if _, err := b.Graph(); err != nil {
		return nil, fmt.Errorf("encoder: network of %d layers for %v: %w", len(s.Layers), dims, err)
	}
	return &Model{graphs.NewModel(g), codes, dims}, nil
}

// Nets is the table of encoders with a name.
var Nets = map[string]onnxmodels.Named[Spec]{
	"conv16": {"16×16 or 28×28: 4×4 convolutions of stride 2, 32-64 filters", halving(32, 64)},
	"conv32": {"32×32: 32-64-128 filters", halving(32, 64, 128)},
	"conv64": {"64×64: 32-64-128-256 filters", halving(32, 64, 128, 256)},
	"vaebm-32": {"32×32, released code of cooperative learning via variational MCMC teaching: 64-128-256-512 filters", Spec{
		Layers:     append([]Layer{{Filters: 64, Kernel: 3, Pad: 1}}, halving(128, 256, 512).Layers...),
		Activation: "leaky", Init: "normal:0.005",
	}},
	"vaebm-28": {"28×28, the same: three 4×4 convolutions of 64 filters", Spec{
		Layers: halving(64, 64, 64).Layers, Activation: "leaky", Init: "normal:0.005",
	}},
	"mlp":    {"points: 64-64", Spec{Layers: []Layer{{Filters: 64}, {Filters: 64}}, Activation: "leaky"}},
	"linear": {"two linear heads", Spec{Activation: "linear"}},
}

// halving is a 4×4 convolution of stride 2 for each number of filters, leaky ReLU 0.2.
func halving(filters ...int) Spec {
	s := Spec{Activation: "leaky"}
	for _, n := range filters {
		s.Layers = append(s.Layers, Layer{Filters: n, Kernel: 4, Stride: 2, Pad: 1})
	}
	return s
}

// ByName returns a named network.
func ByName(name string) (Spec, error) { return onnxmodels.ByName("encoder", Nets, name) }
