package backbone

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"strings"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/nn"
)

// A Named network is one that can be had, with what must be known of it.
type Named struct {
	Title  string
	Input  Input
	Layers map[string]string                           // names for values of its file
	Obtain bool                                        // its file, or its weights, have to be obtained: see training/data
	build  func(weights string) (*graphs.Model, error) // nil if the file is a model
}

// Nets is every network with a name.
var Nets = map[string]Named{
	"vgg16":              {"VGG16 of Simonyan and Zisserman, 2015, trained on ImageNet", Caffe, vgg16(), true, nil},
	"vit-s":              {"ViT-S/14 of DINOv2 (Oquab et al., 2023), learned on for saliency", ImageNet, vitS(), true, nil},
	"mobilenet-v2":       {"MobileNetV2 of Sandler et al., 2018, trained on ImageNet", ImageNet, nil, true, mobileNetV2.build("classifier.1")},
	"efficientnet-lite0": {"EfficientNet-Lite0, trained on ImageNet", Input{Range: 255, Mean: []float64{127}, Std: []float64{128}}, nil, true, efficientNetLite0.build("_fc")},
	"random":             {"three convolutions of random weights, always the same", centred, nil, false, random(1)},
	"random-2":           {"the same with other weights: a judge of what was learned on the first", centred, nil, false, random(2)},
}

// centred pixels lie in [−1, 1].
var centred = Input{Range: 2, Mean: []float64{1}}

// Load opens the network that a description names: a key of [Nets] or the path
// of an .onnx file. obtain gives the path of a network's file.
func Load(s Spec, obtain func(name string) (path string, err error)) (*Net, error) {
	named, ok := Nets[s.Net]
	if !ok && !strings.HasSuffix(s.Net, ".onnx") {
		return nil, fmt.Errorf("backbone: no network %q; there are %s, and any file .onnx", s.Net, strings.Join(names(Nets), ", "))
	}
	path := s.Net
	if named.Obtain {
		var err error
		if path, err = obtain(s.Net); err != nil {
			return nil, err
		}
	}
	build := named.build
	if build == nil {
		build = onnxio.Read
	}
	m, err := build(path)
	if err != nil {
		return nil, fmt.Errorf("backbone: %w", err)
	}
	return Open(m, s)
}

// vgg16 names the rectified responses of the 13 convolutions.
func vgg16() map[string]string {
	layers := map[string]string{}
	for block, convs := range []int{2, 2, 3, 3, 3} {
		for k := range convs {
			layers[fmt.Sprintf("conv%d_%d", block+1, k+1)] = fmt.Sprintf("functional_1/block%d_conv%d_1/Relu:0", block+1, k+1)
		}
	}
	return layers
}

// vitS names what the 12 blocks make of the tokens, of which the first stands for
// the whole picture.
func vitS() map[string]string {
	layers := map[string]string{}
	for k := range 12 {
		layers[fmt.Sprintf("block%d", k+1)] = fmt.Sprintf("/backbone/encoder/layer.%d/Add_1_output_0", k)
	}
	return layers
}

// random is three convolutions with ReLU and average pooling between them: 32
// filters of 5×5, 64 of 5×5, 128 of 3×3, with receptive fields of 5, 14 and 24 pixels.
// Filters have no mean, so that flat areas excite none.
func random(seed uint64) func(string) (*graphs.Model, error) {
	return func(string) (*graphs.Model, error) { return randomNet(seed) }
}

func randomNet(seed uint64) (*graphs.Model, error) {
	b := graphs.NewBuilder(&graphs.Graph{Name: "random"})
	net := &nn.Net{Builder: b, Rng: rand.New(rand.NewPCG(seed, 0x6261636b)), Weights: contrasts}
	h := b.Input("image", graphs.Float32, graphs.Shape{onnxmodels.Batch, graphs.D(3), graphs.Sym("height"), graphs.Sym("width")})
	for i, c := range []nn.Conv{{Filters: 32, Kernel: 5}, {Filters: 64, Kernel: 5}, {Filters: 128, Kernel: 3}} {
		if i > 0 {
			h = b.Op("AveragePool", []*graphs.Value{h}, graphs.IntsAttr("kernel_shape", 2, 2), graphs.IntsAttr("strides", 2, 2))
		}
		h = b.Output(fmt.Sprintf("relu%d", i+1), net.Activate("relu", net.Conv(fmt.Sprintf("conv%d", i+1), h, c)))
	}
	g, err := b.Graph()
	if err != nil {
		return nil, err
	}
	return graphs.NewModel(g), nil
}

// contrasts draws filters from N(0, 2/fanIn) and takes their mean away.
func contrasts(rng *rand.Rand, w []float32, fanIn, _ int) {
	for at := 0; at < len(w); at += fanIn {
		filter := w[at : at+fanIn]
		mean := 0.0
		for i := range filter {
			filter[i] = float32(rng.NormFloat64() * math.Sqrt(2/float64(fanIn)))
			mean += float64(filter[i]) / float64(fanIn)
		}
		for i := range filter {
			filter[i] -= float32(mean)
		}
	}
}

func (n Named) layers() []string { return names(n.Layers) }

func names[V any](table map[string]V) []string {
	var out []string
	for name := range table {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}
