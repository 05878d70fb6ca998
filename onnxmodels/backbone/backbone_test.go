package backbone_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/graphtest"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/backbone"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/onnxmodels/nn"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ref"
)

// small is a network as exporters write it: two convolutions with ReLU, and a
// max pool, on inputs of the given shape. With last, its input and what its
// elementwise operations see have channels last.
func small(t testing.TB, last bool, shape ...graphs.Dim) *graphs.Model {
	t.Helper()
	b := graphs.NewBuilder(&graphs.Graph{Name: "small"})
	net := &nn.Net{Builder: b, Rng: rand.New(rand.NewPCG(5, 5)), Weights: nn.Normal(0.3)}
	h := b.Input("image", graphs.Float32, shape)
	first := func() {
		if last {
			h = b.Transpose(h, 0, 3, 1, 2)
		}
	}
	then := func() {
		if last {
			h = b.Transpose(h, 0, 2, 3, 1)
		}
	}
	first()
	h = net.Conv("conv1", h, nn.Conv{Filters: 4, Kernel: 3, Pad: 1})
	then()
	bias := b.Const(graphs.Of([]float32{0.3, -0.2, 0.1, 0.4}, 1, 1, 1, 4))
	if !last {
		bias = b.Const(graphs.Of([]float32{0.3, -0.2, 0.1, 0.4}, 1, 4, 1, 1))
	}
	h = net.Activate("relu", b.Add(h, bias))
	h.Name = "relu1"
	first()
	h = net.MaxPool(h, 2)
	h = net.Conv("conv2", h, nn.Conv{Filters: 5, Kernel: 3})
	then()
	h = net.Activate("relu", h)
	h.Name = "relu2"
	b.Output("logits", b.Mean(h, false, 1, 2, 3))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	return graphs.NewModel(g)
}

var (
	colours     = []graphs.Dim{graphs.Sym("n"), graphs.D(3), graphs.D(12), graphs.D(12)}
	coloursLast = []graphs.Dim{graphs.Sym("n"), graphs.D(12), graphs.D(12), graphs.D(3)}
)

func open(t testing.TB, m *graphs.Model, s backbone.Spec) *backbone.Net {
	t.Helper()
	n, err := backbone.Open(m, s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// pixels of x in the tests.
var unit = backbone.Pixels{Lo: -1, Hi: 1}

// linear is the energy of a cut network, with weights that are not all 0.
func linear(t testing.TB, n *backbone.Net, stationary bool, dims ...int) *onnxmodels.Model {
	t.Helper()
	m, err := energy.Linear(dims, 1.5, stationary, n.Features(unit))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range passes.Weights(m.Graph) {
		if strings.HasPrefix(w.Name, "theta") {
			for i := range w.Const.F32() {
				w.Const.F32()[i] = float32(1+i%3) / 10
			}
		}
	}
	return m
}

// pictures are random, between −1 and 1.
func pictures(seed uint64, dims ...int) *graphs.Tensor {
	x := graphtest.NewRand(seed).Uniform(-1, 1, dims...)
	y := make([]float32, x.Len())
	for i, v := range x.F64() {
		y[i] = float32(v)
	}
	return graphs.Of(y, dims...)
}

// checkGrad compares the slopes of an energy, in x and in what it learns, with
// differences in float64.
func checkGrad(t testing.TB, m *onnxmodels.Model, batch int, o graphtest.GradOptions) {
	t.Helper()
	grad, err := autodiff.Grad(m.Model, autodiff.Options{Of: onnxmodels.Energy, Params: true, ParamsAsInputs: true})
	if err != nil {
		t.Fatal(err)
	}
	forward := passes.Clone(m.Model)
	weights, err := passes.WeightsToInputs(forward.Graph)
	if err != nil {
		t.Fatal(err)
	}
	in := []*graphs.Tensor{graphtest.NewRand(3).Uniform(-1, 1, append([]int{batch}, m.Dims...)...)}
	o.Of, o.Wrt = onnxmodels.Energy, []string{onnxmodels.X}
	for _, v := range forward.Graph.Inputs[1:] {
		in, o.Wrt = append(in, weights[v.Name]), append(o.Wrt, v.Name)
	}
	graphtest.CheckGrad(t, forward.Graph, grad.Graph, in, o)
}

// TestLayouts: a network with channels last gives the responses of its twin with
// channels first, at another size than its file declares, and the graph that is
// left permutes nothing.
func TestLayouts(t *testing.T) {
	x := pictures(1, 2, 3, 8, 10)
	var want []float32
	for _, last := range []bool{false, true} {
		shape := colours
		if last {
			shape = coloursLast
		}
		n := open(t, small(t, last, shape...), backbone.Spec{Cut: []string{"relu1", "relu2"}, Input: backbone.Caffe})
		m := linear(t, n, false, 3, 8, 10)
		for _, node := range m.Graph.Nodes {
			if node.Op == "Transpose" {
				t.Errorf("channels last %v: %s is left", last, node.Label())
			}
		}
		score := enginetest.Outputs(t, ref.New(), m.Model, x)[1].F32()
		if want == nil {
			want = score
			checkGrad(t, m, 2, graphtest.GradOptions{Step: 1e-7})
		}
		for i, v := range score {
			if math.Abs(float64(v-want[i])) > 1e-4*math.Abs(float64(want[i])) {
				t.Errorf("channels last %v: score %d: wanted %g, got %g", last, i, want[i], v)
			}
		}
	}
}

// TestInput works the preparation out by hand.
func TestInput(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{Name: "copy"})
	b.Output("out", b.Neg(b.Input("image", graphs.Float32, colours)))
	file := graphs.NewModel(b.Target())
	for name, c := range map[string]struct {
		in     backbone.Input
		pixels backbone.Pixels
		x      [3]float32 // one pixel
		want   [3]float64
	}{
		"bytes":    {backbone.Input{}, backbone.Pixels{Lo: 0, Hi: 255}, [3]float32{10, 20, 30}, [3]float64{10, 20, 30}},
		"unit":     {backbone.Input{}, unit, [3]float32{-1, 0, 1}, [3]float64{0, 127.5, 255}},
		"caffe":    {backbone.Caffe, backbone.Pixels{Lo: -100, Hi: 155}, [3]float32{0, 50, 100}, [3]float64{200 - 103.939, 150 - 116.779, 100 - 123.68}},
		"imagenet": {backbone.ImageNet, unit, [3]float32{-1, 0, 1}, [3]float64{-0.485 / 0.229, (0.5 - 0.456) / 0.224, (1 - 0.406) / 0.225}},
		"one mean": {backbone.Input{Range: 2, Mean: []float64{1}}, backbone.Pixels{Lo: 0, Hi: 1}, [3]float32{0, 0.5, 1}, [3]float64{-1, 0, 1}},
	} {
		n := open(t, file, backbone.Spec{Cut: []string{"out"}, Input: c.in})
		b := graphs.NewBuilder(&graphs.Graph{Name: "try"})
		x := b.Input("x", graphs.Float32, graphs.Shape{onnxmodels.Batch, graphs.D(3), graphs.D(1), graphs.D(1)})
		maps, err := n.Append(b, x, c.pixels)
		if err != nil {
			t.Fatal(err)
		}
		b.Output("y", maps[0])
		got := enginetest.Outputs(t, ref.New(), graphs.NewModel(b.Target()), graphs.Of(c.x[:], 1, 3, 1, 1))[0].F32()
		for i, want := range c.want {
			if math.Abs(float64(-got[i])-want) > 1e-4 {
				t.Errorf("%s: channel %d: wanted %g, got %g", name, i, want, -got[i])
			}
		}
	}
}

// TestGrey: a grey picture is one of three equal channels.
func TestGrey(t *testing.T) {
	n := open(t, small(t, false, colours...), backbone.Spec{Cut: []string{"relu2"}, Input: backbone.Caffe})
	grey := pictures(2, 1, 1, 8, 8)
	rgb := append(append(append([]float32(nil), grey.F32()...), grey.F32()...), grey.F32()...)
	one := enginetest.Outputs(t, ref.New(), linear(t, n, true, 1, 8, 8).Model, grey)[1].F32()[0]
	three := enginetest.Outputs(t, ref.New(), linear(t, n, true, 3, 8, 8).Model, graphs.Of(rgb, 1, 3, 8, 8))[1].F32()[0]
	if math.Abs(float64(one-three)) > 1e-4*math.Abs(float64(three)) {
		t.Errorf("score of a grey picture: wanted %g as in colours, got %g", three, one)
	}
}

// TestTrain: what is frozen is no weight, and what is not is learned.
func TestTrain(t *testing.T) {
	for _, c := range []struct {
		train []string
		want  int
	}{{nil, 1}, {[]string{"conv2.*"}, 3}, {[]string{"*"}, 5}} {
		n := open(t, small(t, false, colours...), backbone.Spec{Cut: []string{"relu2"}, Train: c.train})
		m := linear(t, n, true, 3, 8, 8)
		if w := passes.Weights(m.Graph); len(w) != c.want {
			t.Errorf("train %v: wanted %d weights, got %v", c.train, c.want, w)
		}
		checkGrad(t, m, 1, graphtest.GradOptions{Step: 1e-8})
	}
}

// TestOptions: average pooling and another rectifier change the graph as they say.
func TestOptions(t *testing.T) {
	ops := func(s backbone.Spec) map[string]int {
		count := map[string]int{}
		for _, n := range linear(t, open(t, small(t, false, colours...), s), true, 3, 8, 8).Graph.Nodes {
			count[n.Op]++
		}
		return count
	}
	cut := []string{"relu2"}
	if c := ops(backbone.Spec{Cut: cut, Pool: "average"}); c["MaxPool"] != 0 || c["AveragePool"] != 1 {
		t.Errorf("pool average: got %v", c)
	}
	if c := ops(backbone.Spec{Cut: cut, Rectify: "softplus"}); c["Softplus"] != 1 {
		t.Errorf("rectify softplus: got %v", c)
	}
}

// TestRecord: a model says what it was built on, also after it was written.
func TestRecord(t *testing.T) {
	n := open(t, small(t, false, colours...), backbone.Spec{Net: "mine.onnx", Cut: []string{"relu2"}, Input: backbone.ImageNet})
	m := linear(t, n, true, 3, 8, 8)
	if _, ok := backbone.Recorded(m.Model); ok {
		t.Error("a model that was told nothing says something")
	}
	if err := n.Record(m); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "energy.onnx")
	if err := onnxio.Write(path, m.Model); err != nil {
		t.Fatal(err)
	}
	back, err := onnxio.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	s, ok := backbone.Recorded(back)
	if !ok || s.Net != "mine.onnx" || s.Input.Std[1] != 0.224 || s.Cut[0] != "relu2" {
		t.Errorf("got %+v, %v", s, ok)
	}
}

// TestGenerator: an imported network judges what a generator makes: one graph
// z → energy with slopes in z and in the generator's weights.
func TestGenerator(t *testing.T) {
	g, err := generator.Build(generator.Spec{Codes: 4, Start: 2, Filters: 6, Activation: "tanh", Tanh: true,
		Layers: []generator.Layer{{Filters: 5, Kernel: 4, Stride: 2, Pad: 1}, {Kernel: 4, Stride: 2, Pad: 1}}}, []int{3, 8, 8}, 1)
	if err != nil {
		t.Fatal(err)
	}
	n := open(t, small(t, true, coloursLast...), backbone.Spec{Cut: []string{"relu2"}, Input: backbone.ImageNet})
	joint, err := passes.Join(g.Graph, linear(t, n, true, 3, 8, 8).Graph, map[string]string{generator.X: onnxmodels.X})
	if err != nil {
		t.Fatal(err)
	}
	m := graphs.NewModel(joint)
	grad, err := autodiff.Grad(m, autodiff.Options{Of: onnxmodels.Energy, Params: true})
	if err != nil {
		t.Fatal(err)
	}
	learned := 0
	for _, v := range grad.Graph.Outputs {
		if strings.HasPrefix(v.Name, autodiff.GradPrefix) {
			learned++
		}
	}
	if want := 2 + len(passes.Weights(g.Graph)); learned != want { // z, theta and the generator's
		t.Errorf("wanted %d slopes, got %d", want, learned)
	}
	graphtest.CheckGrad(t, joint, grad.Graph, []*graphs.Tensor{graphtest.NewRand(4).Normal(2, 4)}, graphtest.GradOptions{Of: onnxmodels.Energy, Wrt: []string{generator.Z}, Step: 1e-7})
}

// TestExports cuts networks that PyTorch exported for one batch size: features as
// maps, as tokens and with channels last, with a linear energy on them.
func TestExports(t *testing.T) {
	for name, c := range map[string]struct {
		spec backbone.Spec
		dims []int
	}{
		"torchvision_swin-16": {backbone.Spec{Cut: []string{"/features/features.1/features.1.1/Add_1_output_0"}, Channels: "last", Input: backbone.ImageNet}, []int{3, 48, 48}},
		"torchvision_vit":     {backbone.Spec{Cut: []string{"layer_norm_4"}, Input: backbone.ImageNet}, []int{3, 32, 32}},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := onnxio.Read(filepath.Join("..", "..", "testdata", "conformance", name, "model.onnx"))
			if err != nil {
				t.Fatal(err)
			}
			c.spec.Net = name
			m := linear(t, open(t, file, c.spec), false, c.dims...)
			x := pictures(1, append([]int{2}, c.dims...)...)
			both := enginetest.Outputs(t, ref.New(), m.Model, x)[1].F32()
			for i := range 2 { // rows do not see one another
				row := x.F32()[i*m.Size() : (i+1)*m.Size()]
				if one := enginetest.Outputs(t, ref.New(), m.Model, graphs.Of(row, append([]int{1}, c.dims...)...))[1].F32()[0]; math.Abs(float64(one-both[i])) > 1e-4*math.Abs(float64(one)) {
					t.Errorf("example %d: wanted %g as alone, got %g", i, one, both[i])
				}
			}
			checkGrad(t, m, 1, graphtest.GradOptions{Seeds: 1})
		})
	}
}

// TestSwin cuts transformers in the official layout and in torchvision's, as PyTorch
// exported them for two pictures: the features are those that PyTorch computed
// (onnxmodels/swin/testdata/export.py), and an energy on them has the slopes of differences.
func TestSwin(t *testing.T) {
	for name, cut := range map[string]string{"timm": "layer_norm_8", "torchvision-17": "/norm/LayerNormalization_output_0"} {
		file, numbers := graphtest.Exported(t, filepath.Join("..", "swin", "testdata", name))
		x, want := numbers[:2*3*16*16], numbers[2*3*16*16+8+8:] // weight and bias of the last normalisation between them
		n := open(t, file, backbone.Spec{Net: name, Cut: []string{cut}, Channels: "last", Input: backbone.Input{Range: 2, Mean: []float64{1}}})
		b := graphs.NewBuilder(&graphs.Graph{Name: "try"})
		maps, err := n.Append(b, b.Input("x", graphs.Float32, graphs.Shape{onnxmodels.Batch, graphs.D(3), graphs.D(16), graphs.D(16)}), unit)
		if err != nil {
			t.Fatal(err)
		}
		b.Output("h", maps[0])
		got := enginetest.Outputs(t, ref.New(), graphs.NewModel(b.Target()), graphs.Of(x, 2, 3, 16, 16))[0].F32() // [2, 8, 4, 4]
		for i, v := range want {
			if at := ((i/128)*8+i%8)*16 + i/8%16; math.Abs(float64(got[at]-v)) > 1e-4 {
				t.Fatalf("%s: feature %d: wanted %g, got %g", name, i, v, got[at])
			}
		}
		checkGrad(t, linear(t, n, false, 3, 16, 16), 1, graphtest.GradOptions{Seeds: 1})
	}
}

func TestRandom(t *testing.T) {
	n, err := backbone.Load(backbone.Spec{Net: "random", Cut: []string{"relu1", "relu2", "relu3"}}, func(name string) (string, error) {
		return "", errors.New("asked for " + name)
	})
	if err != nil {
		t.Fatal(err)
	}
	checkGrad(t, linear(t, n, true, 1, 24, 24), 1, graphtest.GradOptions{Step: 1e-7})
}

func TestErrors(t *testing.T) {
	fixed := append([]graphs.Dim{graphs.D(2)}, colours[1:]...)
	flat := func() *graphs.Model { // its head takes maps of one size alone
		b := graphs.NewBuilder(&graphs.Graph{Name: "flat"})
		x := b.Input("image", graphs.Float32, colours)
		b.Output("out", b.MatMul(b.ReshapeTo(x, -1, 3*12*12), b.Weight("w", graphs.NewTensor(graphs.Float32, 3*12*12, 4))))
		return graphs.NewModel(b.Target())
	}
	cases := map[string]func() error{
		`no value "relu3"; the nearest are relu`: func() error { return opens(small(t, false, colours...), backbone.Spec{Cut: []string{"relu3"}}) },
		"at least one value":                     func() error { return opens(small(t, false, colours...), backbone.Spec{}) },
		`no weight "conv9.weight"; the nearest are conv1.weight`: func() error {
			return opens(small(t, false, colours...), backbone.Spec{Cut: []string{"relu1"}, Train: []string{"conv9.weight"}})
		},
		"rgb or bgr": func() error {
			return opens(small(t, false, colours...), backbone.Spec{Cut: []string{"relu1"}, Input: backbone.Input{Order: "grb"}})
		},
		"one number or 3": func() error {
			return opens(small(t, false, colours...), backbone.Spec{Cut: []string{"relu1"}, Input: backbone.Input{Mean: []float64{1, 2}}})
		},
		"positive numbers": func() error {
			return opens(small(t, false, colours...), backbone.Spec{Cut: []string{"relu1"}, Input: backbone.Input{Std: []float64{0}}})
		},
		"channels: wanted first": func() error {
			return opens(small(t, false, colours...), backbone.Spec{Cut: []string{"relu1"}, Channels: "3"})
		},
		"unknown activation": func() error {
			return opens(small(t, false, colours...), backbone.Spec{Cut: []string{"relu1"}, Rectify: "relux"})
		},
		"wanted pictures of 3 channels": func() error {
			_, err := energy.Linear([]int{2, 8, 8}, 1, true, open(t, small(t, false, fixed...), backbone.Spec{Cut: []string{"relu1"}}).Features(unit))
			return err
		},
		"fixes its batch or size": func() error {
			_, err := energy.Linear([]int{3, 8, 8}, 1, true, open(t, flat(), backbone.Spec{Cut: []string{"out"}}).Features(unit))
			return err
		},
		"range of pixel values": func() error {
			_, err := energy.Linear([]int{3, 8, 8}, 1, true, open(t, small(t, false, colours...), backbone.Spec{Cut: []string{"relu1"}}).Features(backbone.Pixels{}))
			return err
		},
		`no network "vgg61"; there are`: func() error {
			_, err := backbone.Load(backbone.Spec{Net: "vgg61", Cut: []string{"a"}}, nil)
			return err
		},
		"not there": func() error {
			_, err := backbone.Load(backbone.Spec{Net: "vgg16", Cut: []string{"conv3_3"}}, func(string) (string, error) { return "", errors.New("not there") })
			return err
		},
	}
	for want, f := range cases {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("wanted one line with %q, got %v", want, err)
		}
	}
}

func opens(m *graphs.Model, s backbone.Spec) error {
	_, err := backbone.Open(m, s)
	return err
}
