package swin

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/generator"
)

// Build makes the generator z, given → x of maps [C, H, W]. The code joins the
// transformer's deepest map, the same at every place; from there every level sees what
// all levels before it made.
func Build(s Spec, dims, given []int, seed uint64) (*conditional.Generator, error) {
	if err := s.check(given); err != nil {
		return nil, err
	}
	if len(dims) != 3 || !slices.Equal(dims[1:], given[1:]) {
		return nil, fmt.Errorf("swin: wanted maps as large as pictures, got %v given %v", dims, given)
	}
	if s.Codes < 1 || s.Features < 1 || s.Reduction < 1 || len(s.Dilations) == 0 || slices.Min(s.Dilations) < 1 {
		return nil, fmt.Errorf("swin: wanted codes, features, a reduction and dilations of at least 1, got %d, %d, %d and %v", s.Codes, s.Features, s.Reduction, s.Dilations)
	}
	loss, err := lossOf(s, dims)
	if err != nil {
		return nil, err
	}
	b := newBuilder(s, seed)
	z, c := input(b.Builder, generator.Z, s.Codes), input(b.Builder, conditional.Given, given...)
	b.Output(generator.X, b.decode(b.encode(c), z, dims))
	g, err := b.Graph()
	if err != nil {
		return nil, fmt.Errorf("swin: %d stages on %v: %w", len(s.Depths), given, err)
	}
	return &conditional.Generator{Model: &generator.Model{Model: graphs.NewModel(g), Codes: s.Codes, Dims: dims, Loss: loss}, Given: given}, nil
}

func newBuilder(s Spec, seed uint64) builder {
	return builder{graphs.NewBuilder(&graphs.Graph{Name: "generator"}), rand.New(rand.NewPCG(seed, 0x7377696e)), s}
}

// conv is a convolution that keeps the size.
func (b builder) conv(name string, x *graphs.Value, filters, kernel, dilation int) *graphs.Value {
	if b.Err() != nil {
		return x
	}
	defer b.Prefix(b.Prefix(name))
	in, k, p := int(x.Shape[1].N), int64(kernel), int64(dilation*(kernel-1)/2)
	bound := 1 / math.Sqrt(float64(in*kernel*kernel))
	uniform := func() float64 { return (2*b.rng.Float64() - 1) * bound }
	return b.Op("Conv", []*graphs.Value{x, b.weight(name+".weight", uniform, filters, in, kernel, kernel), b.weight(name+".bias", uniform, filters)},
		graphs.IntsAttr("kernel_shape", k, k), graphs.IntsAttr("pads", p, p, p, p), graphs.IntsAttr("dilations", int64(dilation), int64(dilation)))
}

func (b builder) relu(x *graphs.Value) *graphs.Value { return b.Op("Relu", []*graphs.Value{x}) }

// weighed is a residual block that weighs its channels by what their means say.
func (b builder) weighed(name string, x *graphs.Value) *graphs.Value {
	if b.Err() != nil {
		return x
	}
	c := int(x.Shape[1].N)
	y := b.conv(name+".b", b.relu(b.conv(name+".a", x, c, 3, 1)), c, 3, 1)
	a := b.relu(b.conv(name+".squeeze", b.Mean(y, true, 2, 3), max(1, c/b.Reduction), 1, 1))
	return b.Add(x, b.Mul(y, b.Sigmoid(b.conv(name+".excite", a, c, 1, 1))))
}

// wide is a sum of convolutions of several dilations.
func (b builder) wide(name string, x *graphs.Value, filters int) *graphs.Value {
	var sum *graphs.Value
	for i, d := range b.Dilations {
		y := b.conv(fmt.Sprintf("%s.%d", name, i), x, filters, 3, d)
		if sum == nil {
			sum = y
			continue
		}
		sum = b.Add(sum, y)
	}
	return sum
}

// resize interpolates between places of a map, whose corners stay.
func (b builder) resize(x *graphs.Value, h, w int) *graphs.Value {
	if b.Err() != nil || x.Shape[2].N == int64(h) && x.Shape[3].N == int64(w) {
		return x
	}
	scales := b.Const(graphs.Of([]float32{1, 1, float32(h) / float32(x.Shape[2].N), float32(w) / float32(x.Shape[3].N)}, 4))
	return b.Op("Resize", []*graphs.Value{x, nil, scales}, graphs.S("mode", "linear"), graphs.S("coordinate_transformation_mode", "align_corners"))
}

func (b builder) decode(levels []*graphs.Value, z *graphs.Value, dims []int) *graphs.Value {
	if b.Err() != nil {
		return z
	}
	last := len(levels) - 1
	var made []*graphs.Value
	for i := last; i >= 0; i-- {
		h, w := int(levels[i].Shape[2].N), int(levels[i].Shape[3].N)
		neck := b.conv(fmt.Sprintf("decoder.neck%d", i), levels[i], b.Features, 3, 1)
		if i == last {
			ones := make([]float32, h*w)
			for j := range ones {
				ones[j] = 1
			}
			code := b.Mul(b.ReshapeTo(z, 0, int64(b.Codes), 1, 1), b.Const(graphs.Of(ones, 1, 1, h, w)))
			made = append(made, b.conv("decoder.code", b.Concat(1, neck, code), b.Features, 1, 1))
			continue
		}
		for j := range made {
			made[j] = b.resize(made[j], h, w)
		}
		name, filters := fmt.Sprintf("decoder.level%d", i), b.Features
		if i == 0 {
			filters = dims[0]
		}
		made = append(made, b.wide(name+".wide", b.weighed(name, b.Concat(1, append(slices.Clone(made), neck)...)), filters))
	}
	x := b.resize(made[len(made)-1], dims[1], dims[2])
	if b.Spec.Tanh {
		return b.Builder.Tanh(x)
	}
	return b.Identity(x)
}

// Nets is the table of networks with a name. "tiny" and "base" have the official
// layouts, for pictures of 224 and of 384 pixels a side, and the published decoder.
var Nets = map[string]onnxmodels.Named[Spec]{
	"swin-16":    {"16×16, 8 codes", mini(2)},
	"swin-32":    {"32×32, 8 codes", mini(2)},
	"swin-64":    {"64×64, 8 codes", mini(4)},
	"swin-96":    {"96×96, four stages, 8 codes", four()},
	"swin-tiny":  {"Swin-T, 224×224, 32 codes", published(96, 7, []int{2, 2, 6, 2}, []int{3, 6, 12, 24})},
	"swin-small": {"Swin-S, 224×224, 32 codes", published(96, 7, []int{2, 2, 18, 2}, []int{3, 6, 12, 24})},
	"swin-base":  {"Swin-B, 384×384, 32 codes", published(128, 12, []int{2, 2, 18, 2}, []int{4, 8, 16, 32})},
}

// mini has windows that are all of its last stage, as those of official networks are.
func mini(patch int) Spec {
	return Spec{Patch: patch, Embed: 24, Depths: []int{2, 2}, Heads: []int{2, 4}, Window: 8,
		Codes: 8, Features: 16, Reduction: 8, Dilations: []int{1, 2, 4}}
}

// four has the stages of the official networks, on windows that fit a quarter of 96 pixels.
func four() Spec {
	s := mini(4)
	s.Depths, s.Heads, s.Window = []int{2, 2, 2, 2}, []int{2, 4, 8, 16}, 6
	return s
}

func published(embed, window int, depths, heads []int) Spec {
	return Spec{Patch: 4, Embed: embed, Depths: depths, Heads: heads, Window: window,
		Codes: 32, Features: 32, Reduction: 16, Dilations: []int{6, 12, 18, 24}, Tanh: true}
}

// ByName returns a named network.
func ByName(name string) (Spec, error) { return onnxmodels.ByName("swin", Nets, name) }
