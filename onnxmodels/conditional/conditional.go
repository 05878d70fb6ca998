// Package conditional builds networks that take a condition beside what they are
// networks of: energies U(x | c), and generators x = g(c, z) that propose what an
// energy then revises (Xie, Zheng, Fang, Zhu, Wu, "Cooperative Training of Fast
// Thinking Initializer and Slow Thinking Solver for Conditional Learning", TPAMI 2021).
//
// A condition is a picture of the size of the examples, [C, H, W], or a vector, [D],
// such as one number a class.
package conditional

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/onnxmodels/nn"
)

// Given is the input of conditions [batch, …].
const Given = "given"

// An Energy is an energy x, given → energy [batch], score [batch].
type Energy struct {
	*onnxmodels.Model
	Given []int // of one condition
}

// A Generator is a network z [batch, Codes], given → x; without codes, given → x.
type Generator struct {
	*generator.Model
	Given []int // of one condition
}

// newNet begins a graph whose weights are drawn from the seed.
func newNet(name, init string, seed, stream uint64) (*nn.Net, error) {
	weights, err := nn.InitByName(init)
	if err != nil {
		return nil, err
	}
	net := &nn.Net{Builder: graphs.NewBuilder(&graphs.Graph{Name: name}), Rng: rand.New(rand.NewPCG(seed, stream)), Weights: weights}
	if init == "" || init == "kaiming" {
		net.Biases = nn.Kaiming
	}
	return net, nil
}

func input(net *nn.Net, name string, dims []int) *graphs.Value {
	return net.Input(name, graphs.Float32, append(graphs.Shape{onnxmodels.Batch}, graphs.MakeShape(dims...)...))
}

// fits wants pictures, and a condition of their size or a vector.
func fits(dims, given []int) error {
	if len(dims) != 3 || len(given) != 1 && (len(given) != 3 || !slices.Equal(given[1:], dims[1:])) {
		return fmt.Errorf("conditional: wanted pictures [C, H, W], and a picture of that size or a vector as condition, got %v given %v", dims, given)
	}
	return nil
}

// tiled repeats a vector [batch, D] at every place of a map of h×w.
func tiled(net *nn.Net, v *graphs.Value, d, h, w int) *graphs.Value {
	v = net.Expand(net.ReshapeTo(v, -1, int64(d), 1, 1), net.Ints(1, int64(d), int64(h), int64(w)))
	if net.Err() == nil {
		v.Shape = graphs.Shape{onnxmodels.Batch, graphs.D(d), graphs.D(h), graphs.D(w)}
	}
	return v
}

// BuildEnergy makes the energy of examples and conditions of the given dimensions: the
// network sees the channels of both, the Gaussian reference (none for sigma 0) is of
// the example alone.
func BuildEnergy(s energy.Spec, dims, given []int, sigma float64, seed uint64) (*Energy, error) {
	if err := fits(dims, given); err != nil {
		return nil, err
	}
	if len(s.Layers) == 0 || !(sigma >= 0) {
		return nil, fmt.Errorf("conditional: wanted an energy of layers and a reference deviation of 0 or more, got %d layers and %g", len(s.Layers), sigma)
	}
	net, err := newNet("energy", s.Init, seed, 0x656e65726779)
	if err != nil {
		return nil, err
	}
	x, c := input(net, onnxmodels.X, dims), input(net, Given, given)
	if len(given) == 1 {
		c = tiled(net, c, given[0], dims[1], dims[2])
	}
	f := energy.Score(net, s, net.Concat(1, x, c))
	net.Prefix("energy")
	u := net.Neg(f)
	if sigma > 0 {
		u = net.Sub(net.Scale(net.SumAll(net.Mul(x, x)), 1/(2*sigma*sigma)), f)
	}
	net.Output(onnxmodels.Energy, u)
	net.Output(onnxmodels.Score, f)
	g, err := net.Graph()
	if err != nil {
		return nil, fmt.Errorf("conditional: energy of %d layers on %v given %v: %w", len(s.Layers), dims, given, err)
	}
	m, err := onnxmodels.Of(graphs.NewModel(g))
	if err != nil {
		return nil, err
	}
	return &Energy{m, given}, nil
}

// A Spec describes a generator that goes down from the condition and up to the
// example. The first of Filters is at full size, each further one at half the size of
// the one before. The code joins at the bottom, the same at every place of it; after
// it come Blocks residual blocks. On the way up the maps of the way down are joined,
// where Skip. A vector as condition has no way down: it joins the code. The values go
// through tanh where Tanh; where much of an example lies at the ends of its range, a tanh
// that saturates there learns no more.
type Spec struct {
	Codes      int    `yaml:"codes"`
	Filters    []int  `yaml:"filters"`
	Blocks     int    `yaml:"blocks,omitempty"`
	Skip       bool   `yaml:"skip"`
	Tanh       bool   `yaml:"tanh"`
	Norm       string `yaml:"norm,omitempty"` // after convolutions: instance, or none
	Activation string `yaml:"activation"`
	Init       string `yaml:"init,omitempty"`
}

// Build makes the network for examples and conditions of the given dimensions.
func Build(s Spec, dims, given []int, seed uint64) (*Generator, error) {
	if err := fits(dims, given); err != nil {
		return nil, err
	}
	factor := 1 << max(0, len(s.Filters)-1)
	switch {
	case len(s.Filters) == 0 || s.Codes < 0 || s.Blocks < 0:
		return nil, fmt.Errorf("conditional: wanted filters, and 0 or more codes and blocks, got %v, %d and %d", s.Filters, s.Codes, s.Blocks)
	case dims[1]%factor != 0 || dims[2]%factor != 0:
		return nil, fmt.Errorf("conditional: %d×%d cannot be halved %d times", dims[1], dims[2], len(s.Filters)-1)
	case s.Norm != "" && s.Norm != "instance":
		return nil, fmt.Errorf("conditional: wanted norm instance or none, got %q", s.Norm)
	}
	net, err := newNet("generator", s.Init, seed, 0x636f6e64)
	if err != nil {
		return nil, err
	}
	var z *graphs.Value
	if s.Codes > 0 {
		z = input(net, generator.Z, []int{s.Codes})
	}
	b := builder{net, s}
	h := b.up(b.down(z, input(net, Given, given), dims, given), len(given) == 3)
	h = net.Conv("out", h, nn.Conv{Filters: dims[0], Kernel: 3, Stride: 1, Pad: 1})
	if s.Tanh {
		h = net.Tanh(h)
	}
	net.Output(generator.X, h)
	g, err := net.Graph()
	if err != nil {
		return nil, fmt.Errorf("conditional: generator of %v for %v given %v: %w", s.Filters, dims, given, err)
	}
	return &Generator{&generator.Model{Model: graphs.NewModel(g), Codes: s.Codes, Dims: dims}, given}, nil
}

type builder struct {
	*nn.Net
	Spec
}

// unit finishes a layer: normalisation and activation.
func (b builder) unit(name string, h *graphs.Value) *graphs.Value {
	if b.Norm != "" {
		h = b.InstanceNorm(name+".norm", h)
	}
	defer b.Prefix(b.Prefix(name))
	return b.Activate(b.Activation, h)
}

func (b builder) conv(name string, h *graphs.Value, filters int) *graphs.Value {
	return b.unit(name, b.Conv(name, h, nn.Conv{Filters: filters, Kernel: 3, Stride: 1, Pad: 1, NoBias: b.Norm != ""}))
}

// down returns the maps on the way down, the bottom last, with the code in it.
func (b builder) down(z, c *graphs.Value, dims, given []int) []*graphs.Value {
	last := len(b.Filters) - 1
	h, w := dims[1]>>last, dims[2]>>last
	if len(given) == 1 {
		if z != nil {
			c = b.Concat(1, c, z)
		}
		start := b.ReshapeTo(b.Dense("code", c, b.Filters[last]*h*w), -1, int64(b.Filters[last]), int64(h), int64(w))
		if b.Err() == nil {
			start.Shape = append(graphs.Shape{onnxmodels.Batch}, start.Shape[1:]...)
		}
		return []*graphs.Value{b.unit("code", start)}
	}
	maps := []*graphs.Value{b.conv("down1", c, b.Filters[0])}
	for i := 1; i <= last; i++ {
		name := fmt.Sprintf("down%d", i+1)
		maps = append(maps, b.unit(name, b.Conv(name, maps[i-1], nn.Conv{Filters: b.Filters[i], Kernel: 4, Stride: 2, Pad: 1, NoBias: b.Norm != ""})))
	}
	if z != nil {
		maps[last] = b.conv("bottom", b.Concat(1, maps[last], tiled(b.Net, z, b.Codes, h, w)), b.Filters[last])
	}
	return maps
}

// up goes from the bottom to a map of full size.
func (b builder) up(maps []*graphs.Value, pictures bool) *graphs.Value {
	h := maps[len(maps)-1]
	for i := range b.Blocks {
		name := fmt.Sprintf("block%d", i+1)
		r := b.conv(name+".a", h, b.Filters[len(b.Filters)-1])
		r = b.Conv(name+".b", r, nn.Conv{Filters: b.Filters[len(b.Filters)-1], Kernel: 3, Stride: 1, Pad: 1})
		h = b.Add(h, r)
	}
	for i := len(b.Filters) - 2; i >= 0; i-- {
		name := fmt.Sprintf("up%d", i+1)
		h = b.unit(name, b.Deconv(name, h, nn.Conv{Filters: b.Filters[i], Kernel: 4, Stride: 2, Pad: 1}))
		if b.Skip && pictures {
			h = b.conv(fmt.Sprintf("join%d", i+1), b.Concat(1, h, maps[i]), b.Filters[i])
		}
	}
	return h
}

// Nets is the table of generators with a name.
var Nets = map[string]onnxmodels.Named[Spec]{
	"unet-16":   {"16×16 or 28×28, 8 codes: 16-32-64, joined", unet(8, 16, 32, 64)},
	"unet-32":   {"32×32, 8 codes: 16-32-64, joined", unet(8, 16, 32, 64)},
	"unet-64":   {"64×64, 8 codes: 16-32-64-64, joined", unet(8, 16, 32, 64, 64)},
	"resnet-16": {"16×16 to 32×32, without codes: 16-32, 2 residual blocks", resnet(2, 16, 32)},
	"resnet-64": {"64×64, without codes: 16-32-64, 3 residual blocks", resnet(3, 16, 32, 64)},
	"resnet-9": {"the published translator's size: 64-128-256, 9 residual blocks, tanh",
		Spec{Filters: []int{64, 128, 256}, Blocks: 9, Norm: "instance", Activation: "relu", Tanh: true}},
	"next-16": {"the next frame of small clips, without codes: 16-32, joined", unet(0, 16, 32)},
}

func unet(codes int, filters ...int) Spec {
	return Spec{Codes: codes, Filters: filters, Skip: true, Activation: "leaky"}
}

func resnet(blocks int, filters ...int) Spec {
	return Spec{Filters: filters, Blocks: blocks, Norm: "instance", Activation: "relu"}
}

// ByName returns a named generator.
func ByName(name string) (Spec, error) { return onnxmodels.ByName("conditional", Nets, name) }
