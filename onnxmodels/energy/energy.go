// Package energy builds energy networks: x → U(x) per example.
//
// A [Spec] describes a network as data; [Build] makes the graph
//
//	score  = f(x)                       the network, summed over its output map
//	energy = ‖x‖²/(2σ²) − f(x)          with a Gaussian reference N(0, σ²I)
//	energy = −f(x)                      with a uniform reference
//
// so that p(x) ∝ exp(−energy) = exp(f(x))·q(x) (Xie et al., "A Theory of
// Generative ConvNet", ICML 2016).
package energy

import (
	"fmt"
	"math/rand/v2"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/nn"
)

// A Layer is one convolution (or, in a network without an image, one dense
// layer of Filters units) with the activation after it.
type Layer struct {
	Filters int  `yaml:"filters"`
	Kernel  int  `yaml:"kernel,omitempty"`
	Stride  int  `yaml:"stride,omitempty"` // 0 means 1
	Pad     int  `yaml:"pad,omitempty"`    // pixels on every side
	Same    bool `yaml:"same,omitempty"`   // pad to ⌈size/stride⌉ instead
	Pool    int  `yaml:"pool,omitempty"`   // max pooling after the activation, 0 for none

	// Kernels, Strides and Pads give one number an axis, such as [frames, height, width], in place of
	// Kernel, Stride and Pad.
	Kernels []int `yaml:"kernels,omitempty"`
	Strides []int `yaml:"strides,omitempty"`
	Pads    []int `yaml:"pads,omitempty"`

	Norm string `yaml:"norm,omitempty"` // before the activation: instance, or none
}

// A Spec describes an energy network. The last layer has no activation; its
// map is summed, unless SumActive keeps the activation on it.
type Spec struct {
	Layers     []Layer `yaml:"layers"`
	Activation string  `yaml:"activation"`           // a key of nn.Activations
	Init       string  `yaml:"init,omitempty"`       // see nn.InitByName
	SumActive  bool    `yaml:"sum_active,omitempty"` // sum the last layer's activations (texture nets)

	Expand   *Expand   `yaml:"expand,omitempty"`   // residual blocks in place of layers
	Doubling *Doubling `yaml:"doubling,omitempty"` // others
	Points   *Points   `yaml:"points,omitempty"`   // a function of a set of points
}

// Build makes the network for examples of the given dimensions ([C, H, W],
// [C, D, H, W] for clips and volumes, [N, 3] for sets of points, or [D] for
// vectors), with weights drawn from the seed. sigma is the standard
// deviation of the Gaussian reference, 0 for the uniform one.
func Build(s Spec, dims []int, sigma float64, seed uint64) (*onnxmodels.Model, error) {
	init, err := nn.InitByName(s.Init)
	if err != nil {
		return nil, err
	}
	if len(s.Layers) == 0 && s.Expand == nil && s.Doubling == nil && s.Points == nil {
		return nil, fmt.Errorf("energy: the network has no layers")
	}
	if sigma < 0 {
		return nil, fmt.Errorf("energy: reference sigma %g is negative", sigma)
	}
	b := graphs.NewBuilder(&graphs.Graph{Name: "energy"})
	net := &nn.Net{Builder: b, Rng: rand.New(rand.NewPCG(seed, 0x656e65726779)), Weights: init}
	if s.Init == "" || s.Init == "kaiming" {
		net.Biases = nn.Kaiming // PyTorch draws biases like weights
	}
	x := input(b, dims)
	m, err := finish(net, x, Score(net, s, x), sigma)
	if err != nil {
		return nil, fmt.Errorf("energy: network of %d layers on %v: %w", len(s.Layers), dims, err)
	}
	return m, nil
}

// input adds the input of an energy.
func input(b *graphs.Builder, dims []int) *graphs.Value {
	return b.Input(onnxmodels.X, graphs.Float32, append(graphs.Shape{onnxmodels.Batch}, graphs.MakeShape(dims...)...))
}

// finish makes the energy of a score f [batch]: the reference density joins it.
func finish(net *nn.Net, x, f *graphs.Value, sigma float64) (*onnxmodels.Model, error) {
	b := net.Builder
	b.Prefix("energy")
	u := b.Neg(f)
	if sigma > 0 {
		u = b.Sub(b.Scale(net.SumAll(b.Mul(x, x)), 1/(2*sigma*sigma)), f)
	}
	b.Output(onnxmodels.Energy, u)
	b.Output(onnxmodels.Score, f)
	g, err := b.Graph()
	if err != nil {
		return nil, err
	}
	return onnxmodels.Of(graphs.NewModel(g))
}

// Score appends the network itself: f(x) [batch].
func Score(net *nn.Net, s Spec, x *graphs.Value) *graphs.Value {
	if s.Expand != nil || s.Doubling != nil || s.Points != nil {
		if len(s.Layers) > 0 {
			return net.Fail("energy: a network of blocks has no layers besides, got %d", len(s.Layers))
		}
		if s.Points != nil {
			return s.Points.score(net, s.Activation, x)
		}
		if s.Doubling != nil {
			return s.Doubling.score(net, s.Activation, x)
		}
		return s.Expand.score(net, s.Activation, x)
	}
	h := x
	dense := len(x.Shape) == 2
	for i, l := range s.Layers {
		name := fmt.Sprintf("layer%d", i+1)
		if dense {
			h = net.Dense(name, h, l.Filters)
		} else {
			h = net.Conv(name, h, nn.Conv{Filters: l.Filters, Kernel: l.Kernel, Stride: l.Stride, Pad: l.Pad,
				Kernels: l.Kernels, Strides: l.Strides, Pads: l.Pads, Same: l.Same, NoBias: l.Norm != ""})
		}
		switch l.Norm {
		case "":
		case "instance":
			h = net.InstanceNorm(name+".norm", h)
		default:
			return net.Fail("energy: layer %d: wanted norm instance or none, got %q", i+1, l.Norm)
		}
		if i < len(s.Layers)-1 || s.SumActive {
			old := net.Prefix(name)
			h = net.Activate(s.Activation, h)
			net.Prefix(old)
		}
		if l.Pool > 1 {
			h = net.MaxPool(h, l.Pool)
		}
	}
	defer net.Prefix(net.Prefix("score"))
	return net.SumAll(h)
}

// Nets is the table of networks with a name. {n} filters are per the source.
var Nets = map[string]onnxmodels.Named[Spec]{
	"digits28":          {"small net for 28×28: 16-32-64 filters, swish", digits("swish")},
	"digits28-leaky":    {"small net for 28×28: 16-32-64 filters, leaky ReLU 0.05", digits("leaky.05")},
	"short-run-28":      {"short-run net for 28×28, n = 32", shortRun(32, 3, 3, "leaky.05")},
	"short-run-32":      {"short-run net for 32×32, n = 32 (Nijkamp et al., 2019)", shortRun(32, 3, 4, "leaky.05")},
	"short-run-64":      {"short-run net for 64×64, n = 32", shortRun(32, 4, 4, "leaky.05")},
	"short-run-32-wide": {"short-run net for 32×32, n = 64, leaky 0.2: the authors' CIFAR-10 net", shortRun(64, 3, 4, "leaky")},
	"swish-16":          {"short-run shape for 16×16, n = 16, swish", shortRun(16, 2, 4, "swish")},
	"swish-32":          {"short-run shape for 32×32, n = 16, swish", shortRun(16, 3, 4, "swish")},
	"swish-64":          {"short-run shape for 64×64, n = 16, swish", shortRun(16, 4, 4, "swish")},
	"swish-4":           {"short-run shape for 4×4, n = 16, swish", shortRun(16, 1, 2, "swish")},
	"swish-7":           {"short-run shape for 7×7, n = 16, swish", shortRun(16, 1, 3, "swish")},
	"grid-4": {"multi-grid net for 4×4 (Gao et al., 2018), normalised per example", grid(2,
		Layer{Filters: 96, Kernel: 5, Stride: 2}, Layer{Filters: 128, Kernel: 3}, Layer{Filters: 256, Kernel: 3})},
	"grid-16": {"multi-grid net for 16×16", grid(8,
		Layer{Filters: 96, Kernel: 5, Stride: 2}, Layer{Filters: 128, Kernel: 3}, Layer{Filters: 256, Kernel: 3}, Layer{Filters: 512, Kernel: 3})},
	"grid-64": {"multi-grid net for 64×64", grid(4,
		Layer{Filters: 64, Kernel: 5, Stride: 2}, Layer{Filters: 128, Kernel: 5, Stride: 2}, Layer{Filters: 256, Kernel: 5, Stride: 2}, Layer{Filters: 512, Kernel: 5, Stride: 2})},
	"expand-4":              {"grows from 8×8 to any power of two (Zhao et al., 2021), c = 4", expand(4, 8)},
	"expand-8":              {"the same with c = 8", expand(8, 8)},
	"expand-32":             {"the same with c = 32: the authors' net for CIFAR-10 and CelebA", expand(32, 8)},
	"residual-4":            {"the same blocks, not growing, c = 4", expand(4, 0)},
	"residual-16":           {"the same blocks, not growing, c = 16: the authors' net for translation", expand(16, 0)},
	"doubling-16":           {"blocks that double 16 filters and halve 16×16 twice", doubling(16, 2, 1)},
	"doubling-28":           {"the same for 28×28, 12 filters", doubling(12, 2, 1)},
	"doubling-32":           {"the same for 32×32, 12 filters, three times", doubling(12, 3, 1)},
	"coopflow-32-published": {"128 filters, three times, 100 outputs: the authors' net for 32×32", doubling(128, 3, 100)},
	"patch-small":           {"five 3×3 convolutions, 24-16-16-16 filters, for one picture at several scales", patch(24, 16, 16, 16)},
	"patch-64":              {"five 3×3 convolutions, 64-32-32-32 filters (Zheng et al., 2021, sides below 64)", patch(64, 32, 32, 32)},
	"patch-128":             {"five 3×3 convolutions, 128-64-64-64 filters (Zheng et al., 2021, sides below 256)", patch(128, 64, 64, 64)},
	"voxel-16": {"voxels 16³: 32 windows of 6³, 32 of 4³, and a full-size top", voxels(Layer{Filters: 32, Kernel: 6, Stride: 2, Same: true},
		Layer{Filters: 32, Kernel: 4, Stride: 2, Same: true}, Layer{Filters: 1, Kernel: 4})},
	"voxel-32": {"voxels 32³: 32 windows of 8³, 32 of 4³, and a full-size top", voxels(Layer{Filters: 32, Kernel: 8, Stride: 4, Same: true},
		Layer{Filters: 32, Kernel: 4, Stride: 2, Same: true}, Layer{Filters: 1, Kernel: 4})},
	"video-small": {"clips: 16 windows of 5³, 16 of 3³, 8 of 2×3×3, summed ReLU maps", clips(Layer{Filters: 16, Kernel: 5, Stride: 2, Same: true},
		Layer{Filters: 16, Kernel: 3, Stride: 2, Same: true}, Layer{Filters: 8, Kernels: []int{2, 3, 3}, Strides: []int{1, 2, 2}, Same: true})},
	"points-small": {"sets of points: 32-64-128 each, 64-32 of their mean", Spec{Points: &Points{Each: []int{32, 64, 128}, Whole: []int{64, 32}}, Activation: "swish"}},
	"points-waves": {"the same of coordinates and of their sines and cosines in three octaves, the largest of each value beside the mean", Spec{
		Points: &Points{Waves: 3, Max: true, Each: []int{32, 64, 128}, Whole: []int{64, 32}}, Activation: "swish"}},
	"points-medium": {"sets of points: 64-64-128-256-1024 each, 512-256-128-64 of their mean (Xie et al., 2021)", Spec{
		Points: &Points{Each: []int{64, 64, 128, 256, 1024}, Whole: []int{512, 256, 128, 64}}, Activation: "relu"}},
	"texture": {"generative ConvNet for textures of 224×224 (released code of Xie et al.)", Spec{
		Layers: []Layer{{Filters: 100, Kernel: 15, Stride: 3, Same: true, Pool: 3}, {Filters: 64, Kernel: 5, Stride: 2, Same: true, Pool: 2},
			{Filters: 30, Kernel: 5, Stride: 2, Same: true}, {Filters: 1, Kernel: 3}},
		Activation: "relu", Init: "normal:0.01",
	}},
	"object": {"generative ConvNet for objects of 110×110 (released code of Xie et al.)", Spec{
		Layers: []Layer{{Filters: 100, Kernel: 7, Stride: 2, Same: true}, {Filters: 64, Kernel: 5, Stride: 2},
			{Filters: 20, Kernel: 3, Stride: 2}, {Filters: 1, Kernel: 10}},
		Activation: "leaky.01", Init: "normal:0.01",
	}},
	"texture-small": {"texture net for 64×64 and up: 24-16-8 filters, summed ReLU maps", Spec{
		Layers:     []Layer{{Filters: 24, Kernel: 9, Stride: 2, Pad: 4}, {Filters: 16, Kernel: 5, Pad: 2}, {Filters: 8, Kernel: 3, Pad: 1}},
		Activation: "relu", SumActive: true, Init: "normal:0.01",
	}},
	"coop-16": {"for cooperative learning at 16×16: 32-64 filters and a full-size top", coop(4, 32, 64)},
	"coop-28": {"for cooperative learning at 28×28: 32-64 filters and a full-size top", coop(7, 32, 64)},
	"coop-32": {"for cooperative learning at 32×32: 32-64-128 filters and a full-size top", coop(4, 32, 64, 128)},
	"coop-64": {"for cooperative learning at 64×64: 32-64-128-256 filters and a full-size top", coop(4, 32, 64, 128, 256)},
	"mlp": {"multi-layer perceptron 128-128 for points", Spec{
		Layers: []Layer{{Filters: 128}, {Filters: 128}, {Filters: 1}}, Activation: "swish",
	}},
	"mlp-small": {"multi-layer perceptron 64-64 for points", Spec{
		Layers: []Layer{{Filters: 64}, {Filters: 64}, {Filters: 1}}, Activation: "swish",
	}},
	"toy": {"the 2-D net of Nijkamp et al., \"On the Anatomy of MCMC-based MLE\": 32-64-64-64", Spec{
		Layers: []Layer{{Filters: 32}, {Filters: 64}, {Filters: 64}, {Filters: 64}, {Filters: 1}}, Activation: "leaky.05",
	}},
}

// coop is a 4×4 convolution of stride 2 for each number of filters, leaky ReLU
// 0.2, and a window over the whole map that is left.
func coop(left int, filters ...int) Spec {
	var layers []Layer
	for _, n := range filters {
		layers = append(layers, Layer{Filters: n, Kernel: 4, Stride: 2, Pad: 1})
	}
	return Spec{Layers: append(layers, Layer{Filters: 1, Kernel: left}), Activation: "leaky"}
}

func digits(activation string) Spec {
	return Spec{
		Layers:     []Layer{{Filters: 16, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 32, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 64, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 3}},
		Activation: activation,
	}
}

// shortRun is a 3×3 convolution with n filters, `halvings` 4×4 convolutions of
// stride 2 with twice the filters each (at most 8n), and a k×k window to one number.
func shortRun(n, halvings, k int, activation string) Spec {
	layers := []Layer{{Filters: n, Kernel: 3, Pad: 1}}
	for i := range halvings {
		layers = append(layers, Layer{Filters: n << min(i+1, 3), Kernel: 4, Stride: 2, Pad: 1})
	}
	return Spec{Layers: append(layers, Layer{Filters: 1, Kernel: k}), Activation: activation}
}

// voxels is a network for volumes. Where most of a volume is empty or full, filters that are off for good would
// leave chains without a slope, so they are never quite off.
func voxels(layers ...Layer) Spec { return Spec{Layers: layers, Activation: "leaky"} }

// clips is a network for clips whose last ReLU map is summed.
func clips(layers ...Layer) Spec {
	return Spec{Layers: layers, Activation: "relu", Init: "normal:0.001", SumActive: true}
}

// ByName returns a named network.
func ByName(name string) (Spec, error) { return onnxmodels.ByName("energy", Nets, name) }
