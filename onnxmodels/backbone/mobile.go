package backbone

import (
	"fmt"
	"math"
	"slices"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/torchfile"
)

// mobile is a network of inverted residuals (Sandler et al., 2018): a stem of 32
// filters, stages of blocks that widen, filter each channel and narrow again, and
// a head of 1,280. Batch normalisations, whose statistics are fixed, are part of
// the convolutions' weights.
type mobile struct {
	stages  []stage
	epsilon float64 // of the batch normalisations
	same    bool    // paddings of TensorFlow, which depend on the size: the odd pixel at the end
	name    func(block int, part string) (conv, norm string)
}

// A stage is blocks of one width; the first has the stride.
type stage struct{ kernel, stride, widen, channels, blocks int }

// Parts of a block; block 0 has a stem alone, the one behind the last a head.
const (
	stem, widen, filter, narrow, head = "stem", "expand", "depthwise", "project", "head"
)

// mobileNetV2 is in torchvision's names.
var mobileNetV2 = mobile{
	stages:  []stage{{3, 1, 1, 16, 1}, {3, 2, 6, 24, 2}, {3, 2, 6, 32, 3}, {3, 2, 6, 64, 4}, {3, 1, 6, 96, 3}, {3, 2, 6, 160, 3}, {3, 1, 6, 320, 1}},
	epsilon: 1e-5,
	name: func(block int, part string) (string, string) {
		at, first := map[string]int{widen: 0, filter: 1, narrow: 2}[part], 0
		switch {
		case part == stem || part == head:
			return fmt.Sprintf("features.%d.0", block), fmt.Sprintf("features.%d.1", block)
		case block == 1: // widens nothing
			first = 1
		}
		at -= first
		if part == narrow { // a plain convolution and normalisation, where others are pairs
			return fmt.Sprintf("features.%d.conv.%d", block, at), fmt.Sprintf("features.%d.conv.%d", block, at+1)
		}
		return fmt.Sprintf("features.%d.conv.%d.0", block, at), fmt.Sprintf("features.%d.conv.%d.1", block, at)
	},
}

// efficientNetLite0 is in the names of its PyTorch port.
var efficientNetLite0 = mobile{
	stages:  []stage{{3, 1, 1, 16, 1}, {3, 2, 6, 24, 2}, {5, 2, 6, 40, 2}, {3, 2, 6, 80, 3}, {5, 1, 6, 112, 3}, {5, 2, 6, 192, 4}, {3, 1, 6, 320, 1}},
	epsilon: 1e-3, same: true,
	name: func(block int, part string) (string, string) {
		switch part {
		case stem:
			return "_conv_stem", "_bn0"
		case head:
			return "_conv_head", "_bn1"
		}
		norm := map[string]int{widen: 0, filter: 1, narrow: 2}[part]
		return fmt.Sprintf("_blocks.%d._%s_conv", block-1, part), fmt.Sprintf("_blocks.%d._bn%d", block-1, norm)
	},
}

// build makes the network of a file of weights, with a classifier named as given.
func (n mobile) build(classifier string) func(string) (*graphs.Model, error) {
	return func(file string) (*graphs.Model, error) {
		weights, err := torchfile.Read(file)
		if err != nil {
			return nil, err
		}
		m, err := n.graph(weights, classifier)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		return m, nil
	}
}

// graph names the stem, blockN for what a block narrows to, blockN/expand and
// blockN/depthwise for the rectified maps within it, the head and the logits.
func (n mobile) graph(weights map[string]*graphs.Tensor, classifier string) (*graphs.Model, error) {
	const side = 224 // replaced by that of the data
	b := graphs.NewBuilder(&graphs.Graph{Name: "mobile"})
	take := func(name string, dims ...int) *graphs.Tensor {
		t := weights[name]
		switch {
		case t == nil:
			b.Fail("no weight %q; the nearest are %s", name, nearest(name, names(weights)))
		case t.Type != graphs.Float32 || !slices.Equal(t.Dims, dims):
			b.Fail("weight %q: wanted float32 %v, got %v %v", name, dims, t.Type, t.Dims)
		default:
			return t
		}
		return graphs.NewTensor(graphs.Float32, graphs.Size(dims))
	}
	// conv is a convolution and its normalisation, (x − mean)·scale/√(variance + ε) + shift.
	conv := func(x *graphs.Value, block int, part string, out, kernel, stride, groups int) *graphs.Value {
		if b.Err() != nil {
			return x
		}
		name, norm := n.name(block, part)
		in := int(x.Shape[1].N) / groups
		w := append([]float32{}, take(name+".weight", out, in, kernel, kernel).F32()...)
		scale, shift := take(norm+".weight", out).F32(), take(norm+".bias", out).F32()
		mean, variance := take(norm+".running_mean", out).F32(), take(norm+".running_var", out).F32()
		bias := make([]float32, out)
		for k := range out {
			gain := float64(scale[k]) / math.Sqrt(float64(variance[k])+n.epsilon)
			bias[k] = float32(float64(shift[k]) - float64(mean[k])*gain)
			for i := range in * kernel * kernel {
				at := k*in*kernel*kernel + i
				w[at] = float32(float64(w[at]) * gain)
			}
		}
		attrs := []*graphs.Attr{graphs.IntsAttr("kernel_shape", int64(kernel), int64(kernel)), graphs.IntsAttr("strides", int64(stride), int64(stride)), graphs.I("group", int64(groups))}
		if pad := int64(kernel / 2); n.same {
			attrs = append(attrs, graphs.S("auto_pad", "SAME_UPPER"))
		} else {
			attrs = append(attrs, graphs.IntsAttr("pads", pad, pad, pad, pad))
		}
		return b.Op("Conv", []*graphs.Value{x, b.Weight(name+".weight", graphs.Of(w, out, in, kernel, kernel)), b.Weight(name+".bias", graphs.Of(bias, out))}, attrs...)
	}
	rectified := func(name string, x *graphs.Value) *graphs.Value {
		return b.Output(name, b.Op("Clip", []*graphs.Value{x, b.Scalar(x, 0), b.Scalar(x, 6)}))
	}

	h := b.Input("image", graphs.Float32, graphs.Shape{onnxmodels.Batch, graphs.D(3), graphs.D(side), graphs.D(side)})
	width, block := 32, 0
	h = rectified("stem", conv(h, block, stem, width, 3, 2, 1))
	for _, s := range n.stages {
		for k := range s.blocks {
			block++
			stride, wide, name := 1, width*s.widen, fmt.Sprintf("block%d", block)
			if k == 0 {
				stride = s.stride
			}
			short := h
			if s.widen > 1 {
				h = rectified(name+"/"+widen, conv(h, block, widen, wide, 1, 1, 1))
			}
			h = rectified(name+"/"+filter, conv(h, block, filter, wide, s.kernel, stride, wide))
			h = conv(h, block, narrow, s.channels, 1, 1, 1)
			if stride == 1 && width == s.channels {
				h = b.Add(short, h)
			}
			h, width = b.Output(name, h), s.channels
		}
	}
	h = rectified(head, conv(h, block+1, head, 1280, 1, 1, 1))
	w, bias := b.Weight(classifier+".weight", take(classifier+".weight", 1000, 1280)), b.Weight(classifier+".bias", take(classifier+".bias", 1000))
	b.Output("logits", b.Op("Gemm", []*graphs.Value{b.Mean(h, false, 2, 3), w, bias}, graphs.I("transB", 1)))
	g, err := b.Graph()
	if err != nil {
		return nil, err
	}
	return graphs.NewModel(g), nil
}
