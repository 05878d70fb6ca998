// Package nn appends neural-network layers to a graph under construction and
// draws their initial weights.
//
// A [Net] remembers the builder, the random source and the initialisation;
// each layer is one call that names its weights NAME.weight and NAME.bias.
package nn

import (
	"fmt"
	"math"
	"math/rand/v2"

	"ebmrun/graphs"
)

// An Init fills the weights of a layer with fanIn inputs and fanOut outputs per
// weight.
type Init func(rng *rand.Rand, w []float32, fanIn, fanOut int)

// Normal draws from N(0, sd²): the authors' usual choice (sd 0.002 to 0.02).
func Normal(sd float64) Init {
	return func(rng *rand.Rand, w []float32, _, _ int) {
		for i := range w {
			w[i] = float32(rng.NormFloat64() * sd)
		}
	}
}

// Kaiming draws from U(−1/√fanIn, 1/√fanIn), the default of PyTorch's Conv and
// Linear layers.
func Kaiming(rng *rand.Rand, w []float32, fanIn, _ int) {
	bound := 1 / math.Sqrt(float64(fanIn))
	for i := range w {
		w[i] = float32((2*rng.Float64() - 1) * bound)
	}
}

// Xavier draws from U(−a, a) with a = √(6/(fanIn+fanOut)) (Glorot and Bengio, 2010).
func Xavier(rng *rand.Rand, w []float32, fanIn, fanOut int) {
	a := math.Sqrt(6 / float64(fanIn+fanOut))
	for i := range w {
		w[i] = float32((2*rng.Float64() - 1) * a)
	}
}

// A Net appends layers.
type Net struct {
	*graphs.Builder
	Rng     *rand.Rand
	Weights Init
	Biases  Init // nil is zero
}

func (n *Net) weight(name string, init Init, fanIn, fanOut int, dims ...int) *graphs.Value {
	size := 1
	for _, d := range dims {
		if d < 1 || d > maxWeight/size {
			return n.Fail("nn: weight %s: wanted 1 to %d numbers, got sizes %v", name, maxWeight, dims)
		}
		size *= d
	}
	w := make([]float32, size)
	if init != nil {
		init(n.Rng, w, fanIn, fanOut)
	}
	return n.Weight(name, graphs.Of(w, dims...))
}

// maxWeight bounds the numbers of one weight (1 GiB): a slip in a settings file
// is an error and not an allocation that fails.
const maxWeight = 1 << 28

// A Conv describes a convolution over windows that are equally long along every
// axis, or as long as Kernels, Strides and Pads say, one number an axis.
type Conv struct {
	Filters, Kernel, Stride, Pad int
	Kernels, Strides, Pads       []int // over Kernel, Stride and Pad
	Same                         bool  // pad so that the output has ⌈size/stride⌉ positions, the odd one at the end
	NoBias                       bool  // such as before a normalisation
}

// along is a setting for each of n axes.
func along(n, one int, each []int, least int) ([]int64, error) {
	out := make([]int64, n)
	if each != nil && len(each) != n {
		return nil, fmt.Errorf("wanted %d numbers, one an axis, got %v", n, each)
	}
	for i := range out {
		if out[i] = int64(one); each != nil {
			out[i] = int64(each[i])
		}
		if out[i] < int64(least) {
			return nil, fmt.Errorf("wanted at least %d along every axis, got %d %v", least, one, each)
		}
	}
	return out, nil
}

// Conv appends a convolution of x [batch, C, …] along every axis after the channels.
func (n *Net) Conv(name string, x *graphs.Value, c Conv) *graphs.Value {
	if n.Err() != nil || len(x.Shape) < 4 || !x.Shape[1].Known() {
		return n.Fail("nn: layer %s: input %v is not [batch, channels, height, width] or of more axes", name, x)
	}
	defer n.Prefix(n.Prefix(name))
	in, axes := int(x.Shape[1].N), len(x.Shape)-2
	kernel, err := along(axes, c.Kernel, c.Kernels, 1)
	if err != nil {
		return n.Fail("nn: layer %s: kernel: %w", name, err)
	}
	if c.Stride < 0 {
		return n.Fail("nn: layer %s: wanted no negative stride, got %d", name, c.Stride)
	}
	stride, err := along(axes, max(c.Stride, 1), c.Strides, 1)
	if err != nil {
		return n.Fail("nn: layer %s: stride: %w", name, err)
	}
	pad, err := along(axes, c.Pad, c.Pads, 0)
	if err != nil {
		return n.Fail("nn: layer %s: pad: %w", name, err)
	}
	window, dims := 1, []int{c.Filters, in}
	for _, k := range kernel {
		window, dims = window*int(k), append(dims, int(k))
	}
	w := n.weight(name+".weight", n.Weights, in*window, c.Filters*window, dims...)
	operands := []*graphs.Value{x, w}
	if !c.NoBias {
		operands = append(operands, n.weight(name+".bias", n.Biases, in*window, c.Filters, c.Filters))
	}
	pads := append(append([]int64{}, pad...), pad...)
	if c.Same {
		for i := range axes {
			d := x.Shape[2+i]
			if !d.Known() {
				return n.Fail("nn: layer %s: same padding needs a known size of %v", name, x)
			}
			total := max(((d.N+stride[i]-1)/stride[i]-1)*stride[i]+kernel[i]-d.N, 0)
			pads[i], pads[axes+i] = total/2, total-total/2
		}
	}
	if !fits(x, kernel, pads) {
		return n.Fail("nn: layer %s: windows of %v with pads %v do not fit into %v", name, kernel, pads, x)
	}
	return n.Op("Conv", operands, graphs.IntsAttr("kernel_shape", kernel...), graphs.IntsAttr("pads", pads...), graphs.IntsAttr("strides", stride...))
}

// fits reports whether windows fit into the padded map x.
func fits(x *graphs.Value, kernel, pads []int64) bool {
	for i, k := range kernel {
		if d := x.Shape[2+i]; d.Known() && d.N+pads[i]+pads[len(kernel)+i] < k {
			return false
		}
	}
	return true
}

// Deconv appends a transposed convolution of x [batch, C, H, W]: output size
// (size−1)·Stride + Kernel − 2·Pad.
func (n *Net) Deconv(name string, x *graphs.Value, c Conv) *graphs.Value {
	if n.Err() != nil || len(x.Shape) != 4 || !x.Shape[1].Known() {
		return n.Fail("nn: layer %s: input %v is not [batch, channels, height, width]", name, x)
	}
	defer n.Prefix(n.Prefix(name))
	in, k, s, p := int(x.Shape[1].N), int64(c.Kernel), int64(max(c.Stride, 1)), int64(c.Pad)
	// PyTorch's default counts the outputs of a transposed convolution as its fan-in
	fan := c.Filters * c.Kernel * c.Kernel
	w := n.weight(name+".weight", n.Weights, fan, in*c.Kernel*c.Kernel, in, c.Filters, c.Kernel, c.Kernel)
	bias := n.weight(name+".bias", n.Biases, fan, c.Filters, c.Filters)
	return n.Op("ConvTranspose", []*graphs.Value{x, w, bias}, graphs.IntsAttr("kernel_shape", k, k), graphs.IntsAttr("pads", p, p, p, p), graphs.IntsAttr("strides", s, s))
}

// Dense appends x·W + b for x [batch, in].
func (n *Net) Dense(name string, x *graphs.Value, out int) *graphs.Value {
	if n.Err() != nil || len(x.Shape) != 2 || !x.Shape[1].Known() {
		return n.Fail("nn: layer %s: input %v is not [batch, features]", name, x)
	}
	defer n.Prefix(n.Prefix(name))
	in := int(x.Shape[1].N)
	w := n.weight(name+".weight", n.Weights, in, out, in, out)
	return n.Op("Gemm", []*graphs.Value{x, w, n.weight(name+".bias", n.Biases, in, out, out)})
}

// Linear appends a weighted sum of features h [batch, K, …] to one number each,
// [batch], without a bias: of one weight a feature, summed over positions first,
// where tied; of one weight for each feature and position otherwise. The weights
// are called name and start at 0.
func (n *Net) Linear(name string, h *graphs.Value, tied bool) *graphs.Value {
	if n.Err() != nil || len(h.Shape) < 2 || !h.Shape[1].Known() || !tied && !h.Shape[1:].Known() {
		return n.Fail("nn: layer %s: wanted features [batch, K, …] of known size, got %v", name, h)
	}
	defer n.Prefix(n.Prefix(name))
	dims := h.Shape[1:].Ints()
	if tied {
		axes := make([]int64, len(dims)-1)
		for i := range axes {
			axes[i] = int64(i + 2)
		}
		if len(axes) > 0 {
			h = n.Sum(h, false, axes...)
		}
		dims = dims[:1]
	}
	return n.SumAll(n.Mul(h, n.weight(name, nil, 0, 0, dims...)))
}

// MaxPool appends non-overlapping pooling over k×k windows.
func (n *Net) MaxPool(x *graphs.Value, k int) *graphs.Value {
	if n.Err() == nil && (len(x.Shape) != 4 || !fits(x, []int64{int64(k), int64(k)}, make([]int64, 4))) {
		return n.Fail("nn: pooling windows of %d×%d do not fit into %v", k, k, x)
	}
	return n.Op("MaxPool", []*graphs.Value{x}, graphs.IntsAttr("kernel_shape", int64(k), int64(k)), graphs.IntsAttr("strides", int64(k), int64(k)))
}

// Flatten appends a reshape to [batch, features].
func (n *Net) Flatten(x *graphs.Value) *graphs.Value {
	return n.Op("Flatten", []*graphs.Value{x}, graphs.I("axis", 1))
}

// SumAll appends the sum over everything but the batch: [batch].
func (n *Net) SumAll(x *graphs.Value) *graphs.Value {
	if n.Err() != nil || len(x.Shape) < 2 {
		return n.Fail("nn: %v has no batch axis", x)
	}
	axes := make([]int64, len(x.Shape)-1)
	for i := range axes {
		axes[i] = int64(i + 1)
	}
	return n.Sum(x, false, axes...)
}

// Activations by name.
var Activations = map[string]func(b *graphs.Builder, x *graphs.Value) *graphs.Value{
	"relu":     func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Op("Relu", []*graphs.Value{x}) },
	"leaky":    leaky(0.2),
	"leaky.01": leaky(0.01),
	"leaky.05": leaky(0.05),
	"swish":    func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Mul(x, b.Sigmoid(x)) },
	"softplus": func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Op("Softplus", []*graphs.Value{x}) },
	"gelu":     func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Op("Gelu", []*graphs.Value{x}) },
	"elu":      func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Op("Elu", []*graphs.Value{x}) },
	"tanh":     func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return b.Tanh(x) },
	"linear":   func(b *graphs.Builder, x *graphs.Value) *graphs.Value { return x },
}

func leaky(a float64) func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
	return func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
		return b.Op("LeakyRelu", []*graphs.Value{x}, graphs.F("alpha", a))
	}
}

// Activate appends the named activation.
func (n *Net) Activate(name string, x *graphs.Value) *graphs.Value {
	f := Activations[name]
	if f == nil {
		return n.Fail("nn: unknown activation %q", name)
	}
	return f(n.Builder, x)
}

// InitByName is "kaiming" (also ""), "xavier" or "normal:SD".
func InitByName(name string) (Init, error) {
	switch name {
	case "", "kaiming":
		return Kaiming, nil
	case "xavier":
		return Xavier, nil
	}
	var sd float64
	if _, err := fmt.Sscanf(name, "normal:%g", &sd); err != nil || sd <= 0 {
		return nil, fmt.Errorf("nn: unknown initialisation %q: want kaiming, xavier or normal:SD", name)
	}
	return Normal(sd), nil
}
