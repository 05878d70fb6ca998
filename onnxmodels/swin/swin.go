// Package swin builds Swin transformers (Liu, Lin, Cao, Hu, Wei, Zhang, Lin, Guo, "Swin
// Transformer", ICCV 2021) and, on top of one, a generator x = g(picture, z) of saliency
// maps (Zhang, Xie, Barnes, Li, "Learning Generative Vision Transformer with Energy-Based
// Latent Space for Saliency Prediction", NeurIPS 2021).
//
// Weights of the transformer have the names and the layout of the official release, after
// "encoder.": [Put] takes those of a trained one.
package swin

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
)

// A Spec describes the networks. Maps are half as high and wide, and have twice the
// channels, after every stage but the last.
type Spec struct {
	Patch  int   `yaml:"patch"`  // side of a patch in pixels
	Embed  int   `yaml:"embed"`  // channels of an embedded patch
	Depths []int `yaml:"depths"` // blocks of each stage
	Heads  []int `yaml:"heads"`  // of the attention in each stage
	Window int   `yaml:"window"` // side of a window in patches; a smaller map is one window

	Codes     int   `yaml:"codes"`     // numbers of z
	Features  int   `yaml:"features"`  // channels of each map of the decoder
	Reduction int   `yaml:"reduction"` // of channels where the decoder weighs them
	Dilations []int `yaml:"dilations"` // of the convolutions that are summed
	Tanh      bool  `yaml:"tanh"`      // values go through tanh

	Loss    string  `yaml:"loss,omitempty"`    // what maps are learned by: gaussian (the default), or structure
	Overlap float64 `yaml:"overlap,omitempty"` // weight of the overlap in the structure loss; 0 stands for 1, that of the paper
}

// Input is pictures of 3 channels, or of 4 with the depth as the last.
const (
	colours = 3
	ratio   = 4 // units of a block's perceptron for each channel
)

// Mean and deviation of colours from 0 to 1 that official weights expect.
var mean, deviation = [colours]float64{0.485, 0.456, 0.406}, [colours]float64{0.229, 0.224, 0.225}

// check reports what does not fit pictures of the given dimensions.
func (s Spec) check(given []int) error {
	if len(given) != 3 || given[0] != colours && given[0] != colours+1 {
		return fmt.Errorf("swin: wanted pictures of 3 channels, or of 4 with depth, got %v", given)
	}
	if s.Patch < 1 || s.Embed < 1 || s.Window < 1 || len(s.Depths) == 0 || len(s.Depths) != len(s.Heads) {
		return fmt.Errorf("swin: wanted a patch, channels, a window, and as many depths as heads, got %d, %d, %d, %v and %v", s.Patch, s.Embed, s.Window, s.Depths, s.Heads)
	}
	for _, side := range given[1:] {
		if side%s.Patch != 0 {
			return fmt.Errorf("swin: pictures of %v do not divide into patches of %d", given, s.Patch)
		}
		m := side / s.Patch
		for i := range s.Depths {
			if i > 0 {
				if m%2 != 0 {
					return fmt.Errorf("swin: %d patches cannot be halved in stage %d of %v", m, i, given)
				}
				m /= 2
			}
			if m > s.Window && m%s.Window != 0 {
				return fmt.Errorf("swin: %d patches do not divide into windows of %d in stage %d of %v", m, s.Window, i+1, given)
			}
		}
	}
	for i, h := range s.Heads {
		if c := s.Embed << i; s.Depths[i] < 1 || h < 1 || c%h != 0 {
			return fmt.Errorf("swin: stage %d: wanted blocks, and heads that divide %d channels, got %d and %d", i+1, c, s.Depths[i], h)
		}
	}
	return nil
}

// A builder appends layers. Tokens are [batch, height, width, channels].
type builder struct {
	*graphs.Builder
	rng *rand.Rand
	Spec
}

// weight is a learnable tensor whose numbers fill draws.
func (b builder) weight(name string, fill func() float64, dims ...int) *graphs.Value {
	w := make([]float32, graphs.Size(dims))
	for i := range w {
		w[i] = float32(fill())
	}
	return b.Weight(name, graphs.Of(w, dims...))
}

func constant(v float64) func() float64 { return func() float64 { return v } }

// truncated draws from N(0, 0.02²) within two deviations.
func (b builder) truncated() float64 {
	for {
		if v := b.rng.NormFloat64(); math.Abs(v) <= 2 {
			return 0.02 * v
		}
	}
}

// linear is x·Wᵀ + bias on the last axis.
func (b builder) linear(name string, x *graphs.Value, out int, bias bool) *graphs.Value {
	if b.Err() != nil {
		return x
	}
	defer b.Prefix(b.Prefix(name))
	in := int(x.Shape[len(x.Shape)-1].N)
	y := b.MatMul(x, b.Transpose(b.weight(name+".weight", b.truncated, out, in), 1, 0))
	if bias {
		y = b.Add(y, b.weight(name+".bias", constant(0), out))
	}
	return y
}

func (b builder) layerNorm(name string, x *graphs.Value) *graphs.Value {
	if b.Err() != nil {
		return x
	}
	defer b.Prefix(b.Prefix(name))
	c := int(x.Shape[len(x.Shape)-1].N)
	return b.Op("LayerNormalization", []*graphs.Value{x, b.weight(name+".weight", constant(1), c), b.weight(name+".bias", constant(0), c)},
		graphs.I("axis", -1), graphs.F("epsilon", 1e-5))
}

// sizes are height, width and channels of tokens.
func (b builder) sizes(x *graphs.Value) (h, w, c int) {
	if b.Err() != nil || len(x.Shape) != 4 || !x.Shape[1:].Known() {
		b.Fail("swin: wanted tokens [batch, height, width, channels], got %v", x)
		return 1, 1, 1
	}
	return int(x.Shape[1].N), int(x.Shape[2].N), int(x.Shape[3].N)
}

// roll moves tokens by n places up and left, around the edges.
func (b builder) roll(x *graphs.Value, n int) *graphs.Value {
	for _, axis := range []int64{1, 2} {
		if n == 0 || b.Err() != nil {
			return x
		}
		size := x.Shape[axis].N
		at := (int64(n) + size) % size
		x = b.Concat(axis, b.Slice(x, []int64{at}, []int64{size}, []int64{axis}, []int64{1}), b.Slice(x, []int64{0}, []int64{at}, []int64{axis}, []int64{1}))
	}
	return x
}

// partition is the windows of wh×ww tokens, [batch, windows, wh·ww, channels].
func (b builder) partition(x *graphs.Value, wh, ww int) *graphs.Value {
	h, w, c := b.sizes(x)
	x = b.ReshapeTo(x, 0, int64(h/wh), int64(wh), int64(w/ww), int64(ww), int64(c))
	return b.ReshapeTo(b.Transpose(x, 0, 1, 3, 2, 4, 5), 0, int64(h/wh*(w/ww)), int64(wh*ww), int64(c))
}

// reverse puts windows back in their places among h×w tokens.
func (b builder) reverse(x *graphs.Value, wh, ww, h, w, c int) *graphs.Value {
	x = b.ReshapeTo(x, 0, int64(h/wh), int64(w/ww), int64(wh), int64(ww), int64(c))
	return b.ReshapeTo(b.Transpose(x, 0, 1, 3, 2, 4, 5), 0, int64(h), int64(w), int64(c))
}

// relative is, for each pair of tokens of a window, the row of the table of biases that
// belongs to their distance.
func relative(wh, ww, window int) []int64 {
	var out []int64
	for i := range wh * ww {
		for j := range wh * ww {
			dy, dx := i/ww-j/ww+window-1, i%ww-j%ww+window-1
			out = append(out, int64(dy*(2*window-1)+dx))
		}
	}
	return out
}

// apart is −100 for each pair of tokens of a window, [windows, 1, T, T], that were no
// neighbours before the map was rolled by the shift.
func apart(h, w, wh, ww, shift int) *graphs.Tensor {
	region := func(at, size, window int) int {
		switch {
		case size <= window:
			return 0
		case at < size-window:
			return 0
		case at < size-shift:
			return 1
		}
		return 2
	}
	n, t := h/wh*(w/ww), wh*ww
	id := func(k, i int) int {
		y, x := k/(w/ww)*wh+i/ww, k%(w/ww)*ww+i%ww
		return 3*region(y, h, wh) + region(x, w, ww)
	}
	m := make([]float32, 0, n*t*t)
	for k := range n {
		for i := range t {
			for j := range t {
				v := float32(0)
				if id(k, i) != id(k, j) {
					v = -100
				}
				m = append(m, v)
			}
		}
	}
	return graphs.Of(m, n, 1, t, t)
}

// attention is that of tokens to those of their window, on a map rolled by shift.
func (b builder) attention(name string, x *graphs.Value, heads, shift int) *graphs.Value {
	h, w, c := b.sizes(x)
	wh, ww := min(h, b.Window), min(w, b.Window)
	n, t, d := h/wh*(w/ww), wh*ww, c/heads
	qkv := b.linear(name+".qkv", b.partition(b.roll(x, shift), wh, ww), 3*c, true)
	defer b.Prefix(b.Prefix(name))
	parts := b.Ops("Split", 3, []*graphs.Value{qkv}, graphs.I("axis", -1), graphs.I("num_outputs", 3))
	if b.Err() != nil {
		return x
	}
	split := func(v *graphs.Value, perm ...int64) *graphs.Value {
		return b.Transpose(b.ReshapeTo(v, 0, int64(n), int64(t), int64(heads), int64(d)), perm...)
	}
	s := b.MatMul(b.Scale(split(parts[0], 0, 1, 3, 2, 4), 1/math.Sqrt(float64(d))), split(parts[1], 0, 1, 3, 4, 2))
	side := 2*b.Window - 1
	table := b.weight(name+".relative_position_bias_table", b.truncated, side*side, heads)
	bias := b.Gather(table, b.Ints(relative(wh, ww, b.Window)...), 0)
	s = b.Add(s, b.Transpose(b.ReshapeTo(bias, int64(t), int64(t), int64(heads)), 2, 0, 1))
	if shift > 0 {
		s = b.Add(s, b.Const(apart(h, w, wh, ww, shift)))
	}
	y := b.MatMul(b.Op("Softmax", []*graphs.Value{s}, graphs.I("axis", -1)), split(parts[2], 0, 1, 3, 2, 4))
	y = b.ReshapeTo(b.Transpose(y, 0, 1, 3, 2, 4), 0, int64(n), int64(t), int64(c))
	y = b.linear(name+".proj", y, c, true)
	return b.roll(b.reverse(y, wh, ww, h, w, c), -shift)
}

// block is attention and a perceptron, each beside a way around.
func (b builder) block(name string, x *graphs.Value, heads, shift int) *graphs.Value {
	_, _, c := b.sizes(x)
	x = b.Add(x, b.attention(name+".attn", b.layerNorm(name+".norm1", x), heads, shift))
	y := b.linear(name+".mlp.fc1", b.layerNorm(name+".norm2", x), ratio*c, true)
	return b.Add(x, b.linear(name+".mlp.fc2", b.Op("Gelu", []*graphs.Value{y}), c, true))
}

// merge joins 2×2 tokens to one of twice the channels.
func (b builder) merge(name string, x *graphs.Value) *graphs.Value {
	h, w, c := b.sizes(x)
	x = b.ReshapeTo(x, 0, int64(h/2), 2, int64(w/2), 2, int64(c))
	x = b.ReshapeTo(b.Transpose(x, 0, 1, 3, 4, 2, 5), 0, int64(h/2), int64(w/2), int64(4*c))
	return b.linear(name+".reduction", b.layerNorm(name+".norm", x), 2*c, false)
}

// encode returns the maps [batch, channels, height, width] after the embedding and after
// every stage, of a picture from −1 to 1.
func (b builder) encode(x *graphs.Value) (maps []*graphs.Value) {
	const name = "encoder."
	x = b.picture(x)
	if b.Err() != nil {
		return nil
	}
	p := int64(b.Patch)
	x = b.Op("Conv", []*graphs.Value{x, b.weight(name+"patch_embed.proj.weight", b.truncated, b.Embed, colours, b.Patch, b.Patch), b.weight(name+"patch_embed.proj.bias", constant(0), b.Embed)},
		graphs.IntsAttr("kernel_shape", p, p), graphs.IntsAttr("strides", p, p))
	x = b.layerNorm(name+"patch_embed.norm", b.Transpose(x, 0, 2, 3, 1))
	keep := func() { maps = append(maps, b.Transpose(x, 0, 3, 1, 2)) }
	keep()
	for i, depth := range b.Depths {
		h, w, _ := b.sizes(x)
		stage := fmt.Sprintf("%slayers.%d", name, i)
		for j := range depth {
			shift := 0
			if j%2 == 1 && min(h, w) > b.Window {
				shift = b.Window / 2
			}
			x = b.block(fmt.Sprintf("%s.blocks.%d", stage, j), x, b.Heads[i], shift)
		}
		if i < len(b.Depths)-1 {
			x = b.merge(stage+".downsample", x)
		}
		keep()
	}
	return maps
}

// picture turns values from −1 to 1 into those that official weights expect. A depth is
// mixed into the colours, at first not at all.
func (b builder) picture(x *graphs.Value) *graphs.Value {
	defer b.Prefix(b.Prefix("picture"))
	c := int(x.Shape[1].N)
	gain, offset := make([]float32, c), make([]float32, c)
	for i := range c {
		m, d := 0.0, 1.0
		if i < colours {
			m, d = mean[i], deviation[i]
		}
		gain[i], offset[i] = float32(0.5/d), float32((0.5-m)/d)
	}
	x = b.Add(b.Mul(x, b.Const(graphs.Of(gain, c, 1, 1))), b.Const(graphs.Of(offset, c, 1, 1)))
	if c == colours {
		return x
	}
	w, at := make([]float32, colours*c), 0
	for i := range w {
		if w[i] = float32(b.truncated()); i == at { // 1 for each colour itself
			w[i], at = 1, at+c+1
		} else if i%c < colours {
			w[i] = 0
		}
	}
	return b.Op("Conv", []*graphs.Value{x, b.Weight("fusion.weight", graphs.Of(w, colours, c, 1, 1)), b.weight("fusion.bias", constant(0), colours)}, graphs.IntsAttr("kernel_shape", 1, 1))
}

// unused are what an official release holds beside the weights of these layers.
func unused(name string) bool {
	return strings.HasPrefix(name, "head.") || strings.HasPrefix(name, "norm") ||
		strings.HasSuffix(name, ".relative_position_index") || strings.HasSuffix(name, ".attn_mask")
}

// Put sets the transformer's weights, by their names in the official release. All must be
// there; its classifier is left out.
func Put(m *graphs.Model, official map[string]*graphs.Tensor) error {
	const prefix = "encoder."
	known := map[string]bool{}
	for _, v := range m.Graph.Inits {
		name, ok := strings.CutPrefix(v.Name, prefix)
		if !ok {
			continue
		}
		w := official[name]
		switch {
		case w == nil:
			return fmt.Errorf("swin: weights: %s is missing", name)
		case w.Type != graphs.Float32 || !slices.Equal(w.Dims, v.Const.Dims):
			return fmt.Errorf("swin: weights: %s: wanted float32 %v, got %v %v", name, v.Const.Dims, w.Type, w.Dims)
		}
		known[name] = true
		copy(v.Const.F32(), w.F32())
	}
	for name := range official {
		if !known[name] && !unused(name) {
			return fmt.Errorf("swin: weights: %s belongs to no layer of this network", name)
		}
	}
	return nil
}

// input is a batch of examples.
func input(b *graphs.Builder, name string, dims ...int) *graphs.Value {
	return b.Input(name, graphs.Float32, append(graphs.Shape{onnxmodels.Batch}, graphs.MakeShape(dims...)...))
}
