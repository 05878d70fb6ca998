package energy

import (
	"fmt"
	"math"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/nn"
)

// Fade is the weight α in [0, 1] of a network that grows: how far its newest block
// has been faded in. It is set, not learned.
const Fade = "fade"

// An Expand describes a network of residual blocks, one for each halving of the
// picture down to 4×4, that can be grown to finer resolutions (Zhao, Xie, Li,
// "Learning Energy-Based Generative Models via Coarse-to-Fine Expanding and
// Sampling", ICLR 2021). Weights are named after the side that their block takes, so
// that the network for one side holds those of the network for half of it:
//
//	α·block(x) + (1 − α)·adapter(average of 2×2 pixels)
//
// enters the coarser network, and with α = 0 both give the same score.
type Expand struct {
	Base int `yaml:"base"`           // c: blocks have c/8 to 4c filters
	From int `yaml:"from,omitempty"` // side of the coarsest network, 8 or more; 0 is a network that does not grow
}

// width is the number of filters that the block for a side takes.
func (e Expand) width(side int) int {
	w := 4 * e.Base
	for s := 16; s < side; s *= 2 {
		w /= 2
	}
	return max(w, 1)
}

// score appends f(x) [batch] for pictures whose side is 8, 16, 32, …
func (e Expand) score(net *nn.Net, activation string, x *graphs.Value) *graphs.Value {
	side := 0
	if len(x.Shape) == 4 && x.Shape[2].Known() && x.Shape[2] == x.Shape[3] {
		side = int(x.Shape[2].N)
	}
	if side < 8 || side&(side-1) != 0 || e.Base < 1 || e.From < 0 || e.From > 0 && (e.From < 8 || side < e.From) {
		return net.Fail("energy: a network with base %d that grows from %d takes pictures whose side is a power of two from %d on, got %v", e.Base, e.From, max(e.From, 8), x)
	}
	adapt := func(side int, x *graphs.Value) *graphs.Value {
		return net.Conv(fmt.Sprintf("rgb%d", side), x, nn.Conv{Filters: e.width(side), Kernel: 1})
	}
	h := e.block(net, activation, side, adapt(side, x))
	if e.From > 0 && side > e.From {
		old := adapt(side/2, net.AveragePool(x, 2))
		alpha := net.Weight(Fade, graphs.Of([]float32{1}, 1))
		h = net.Add(old, net.Mul(alpha, net.Sub(h, old)))
	}
	for s := side / 2; s >= 8; s /= 2 {
		h = e.block(net, activation, s, h)
	}
	h = net.Activate(activation, net.Conv("head.conv1", h, nn.Conv{Filters: 4 * e.Base, Kernel: 3, Pad: 1}))
	h = net.Activate(activation, net.Conv("head.conv2", h, nn.Conv{Filters: 4 * e.Base, Kernel: 4}))
	return net.SumAll(net.Dense("head.top", net.Flatten(h), 1))
}

// block halves the side: (conv 3 → act → conv 3 → average → act, plus conv 1 →
// average)/√2.
func (e Expand) block(net *nn.Net, activation string, side int, x *graphs.Value) *graphs.Value {
	name, in, out := fmt.Sprintf("block%d", side), e.width(side), e.width(side/2)
	h := net.Activate(activation, net.Conv(name+".conv1", x, nn.Conv{Filters: in, Kernel: 3, Pad: 1}))
	h = net.Conv(name+".conv2", h, nn.Conv{Filters: out, Kernel: 3, Pad: 1})
	h = net.Activate(activation, net.AveragePool(h, 2))
	skip := net.AveragePool(net.Conv(name+".skip", x, nn.Conv{Filters: out, Kernel: 1}), 2)
	return net.Scale(net.Add(skip, h), 1/math.Sqrt2)
}

// expand is a network that grows from 8×8.
func expand(base, from int) Spec {
	return Spec{Expand: &Expand{Base: base, From: from}, Activation: "swish"}
}

// grid is a net of one grid of the multi-grid model: convolutions with "same"
// padding, normalised, leaky ReLU 0.2, and a window over the map that is left.
func grid(left int, layers ...Layer) Spec {
	for i := range layers {
		layers[i].Same, layers[i].Norm = true, "instance"
	}
	return Spec{Layers: append(layers, Layer{Filters: 1, Kernel: left}), Activation: "leaky", Init: "xavier"}
}

// patch is five 3×3 convolutions over a picture with 5 zero pixels around it, which
// keeps the size: every number of the map sees 11×11 pixels.
func patch(filters ...int) Spec {
	var layers []Layer
	for _, n := range append(filters, 1) {
		layers = append(layers, Layer{Filters: n, Kernel: 3})
	}
	layers[0].Pad = 5
	return Spec{Layers: layers, Activation: "elu"}
}
