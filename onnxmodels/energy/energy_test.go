package energy_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/graphtest"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
)

// nets says what each named network must come to. Counts of weights are worked
// out by hand: filters·(channels·kernel² + 1), summed over layers.
var nets = map[string]struct {
	dims    []int
	weights int
	top     []int // the map that is summed, [channels, height, width] or [features]
}{
	"digits28":          {[]int{1, 28, 28}, 272 + 8224 + 32832 + 577, []int{1, 1, 1}},
	"digits28-leaky":    {[]int{1, 28, 28}, 272 + 8224 + 32832 + 577, []int{1, 1, 1}},
	"short-run-28":      {[]int{1, 28, 28}, 320 + 32832 + 131200 + 524544 + 2305, []int{1, 1, 1}},
	"short-run-32":      {[]int{3, 32, 32}, 896 + 32832 + 131200 + 524544 + 4097, []int{1, 1, 1}},
	"short-run-64":      {[]int{3, 64, 64}, 896 + 32832 + 131200 + 524544 + 1048832 + 4097, []int{1, 1, 1}},
	"short-run-32-wide": {[]int{3, 32, 32}, 1792 + 131200 + 524544 + 2097664 + 8193, []int{1, 1, 1}},
	"swish-16":          {[]int{3, 16, 16}, 448 + 8224 + 32832 + 1025, []int{1, 1, 1}},
	"swish-32":          {[]int{3, 32, 32}, 448 + 8224 + 32832 + 131200 + 2049, []int{1, 1, 1}},
	"swish-64":          {[]int{3, 64, 64}, 448 + 8224 + 32832 + 131200 + 262272 + 2049, []int{1, 1, 1}},
	"swish-4":           {[]int{3, 4, 4}, 448 + 8224 + 129, []int{1, 1, 1}},
	"swish-7":           {[]int{1, 7, 7}, 160 + 8224 + 289, []int{1, 1, 1}},
	"grid-4":            {[]int{3, 4, 4}, 7200 + 192 + 110592 + 256 + 294912 + 512 + 1025, []int{1, 1, 1}},
	"grid-16":           {[]int{3, 16, 16}, 7200 + 192 + 110592 + 256 + 294912 + 512 + 1179648 + 1024 + 32769, []int{1, 1, 1}},
	"grid-64":           {[]int{3, 64, 64}, 4800 + 128 + 204800 + 256 + 819200 + 512 + 3276800 + 1024 + 8193, []int{1, 1, 1}},
	"expand-4":          {[]int{3, 16, 16}, 2*64 + 2*(2*2320+272) + 1 + 2320 + 4112 + 17, []int{1}},
	"expand-8":          {[]int{3, 8, 8}, 128 + 2*9248 + 1056 + 9248 + 16416 + 33, []int{1}},
	"expand-32":         {[]int{3, 8, 8}, 512 + 2*147584 + 16512 + 147584 + 262272 + 129, []int{1}},
	"residual-4":        {[]int{1, 32, 32}, 16 + 584 + 1168 + 144 + 2*(2*2320+272) + 2320 + 4112 + 17, []int{1}},
	"residual-16":       {[]int{3, 16, 16}, 256 + 2*(2*36928+4160) + 36928 + 65600 + 65, []int{1}},
	// in; 45n² + 5n a block of n filters; top
	"doubling-16":           {[]int{1, 16, 16}, 160 + 11520 + 80 + 46080 + 160 + 1025, []int{1, 1, 1}},
	"doubling-28":           {[]int{1, 28, 28}, 120 + 6480 + 60 + 25920 + 120 + 2353, []int{1, 1, 1}},
	"doubling-32":           {[]int{3, 32, 32}, 336 + 6480 + 60 + 25920 + 120 + 103680 + 240 + 1537, []int{1, 1, 1}},
	"coopflow-32-published": {[]int{3, 32, 32}, 17129444, []int{100, 1, 1}},
	"patch-small":           {[]int{3, 20, 27}, 672 + 3472 + 2*2320 + 145, []int{1, 20, 27}},
	"patch-64":              {[]int{3, 25, 25}, 1792 + 18464 + 2*9248 + 289, []int{1, 25, 25}},
	"patch-128":             {[]int{3, 15, 20}, 3584 + 73792 + 2*36928 + 577, []int{1, 15, 20}},
	"voxel-16":              {[]int{1, 16, 16, 16}, 32*217 + 32*(32*64+1) + 32*64 + 1, []int{1, 1, 1, 1}},
	"voxel-32":              {[]int{1, 32, 32, 32}, 32*513 + 32*(32*64+1) + 32*64 + 1, []int{1, 1, 1, 1}},
	"video-small":           {[]int{1, 24, 32, 32}, 16*126 + 16*(16*27+1) + 8*(16*18+1), []int{8, 6, 4, 4}},
	"points-small":          {[]int{128, 3}, 128 + 2112 + 8320 + 8256 + 2080 + 33, []int{1}},
	"points-waves":          {[]int{128, 3}, 704 + 2112 + 8320 + 16448 + 2080 + 33, []int{1}},
	"points-medium":         {[]int{128, 3}, 256 + 4160 + 8320 + 33024 + 263168 + 524800 + 131328 + 32896 + 8256 + 65, []int{1}},
	"texture":               {[]int{3, 224, 224}, 67600 + 160064 + 48030 + 271, []int{1, 1, 1}},
	"object":                {[]int{3, 110, 110}, 14800 + 160064 + 11540 + 2001, []int{1, 3, 3}},
	"texture-small":         {[]int{1, 64, 64}, 1968 + 9616 + 1160, []int{8, 32, 32}},
	"coop-16":               {[]int{1, 16, 16}, 544 + 32832 + 1025, []int{1, 1, 1}},
	"coop-28":               {[]int{1, 28, 28}, 544 + 32832 + 3137, []int{1, 1, 1}},
	"coop-32":               {[]int{3, 32, 32}, 1568 + 32832 + 131200 + 2049, []int{1, 1, 1}},
	"coop-64":               {[]int{3, 64, 64}, 1568 + 32832 + 131200 + 524544 + 4097, []int{1, 1, 1}},
	"mlp":                   {[]int{2}, 384 + 16512 + 129, []int{1}},
	"mlp-small":             {[]int{2}, 192 + 4160 + 65, []int{1}},
	"toy":                   {[]int{2}, 96 + 2112 + 4160 + 4160 + 65, []int{1}},
}

func build(t testing.TB, s energy.Spec, dims []int, sigma float64) *onnxmodels.Model {
	t.Helper()
	m, err := energy.Build(s, dims, sigma, 1)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestNets(t *testing.T) {
	for name := range energy.Nets {
		want, ok := nets[name]
		if !ok {
			t.Errorf("network %s is not in the table of this test", name)
			continue
		}
		s, err := energy.ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		m := build(t, s, want.dims, 0)
		n := 0
		for _, w := range passes.Weights(m.Graph) {
			n += w.Const.Len()
		}
		if n != want.weights {
			t.Errorf("%s: wanted %d weights, got %d", name, want.weights, n)
		}
		if !slices.Equal(m.Dims, want.dims) {
			t.Errorf("%s: wanted examples of %v, got %v", name, want.dims, m.Dims)
		}
		top := m.Graph.Output(onnxmodels.Score).From.Inputs[0].Shape[1:].Ints()
		if !slices.Equal(top, want.top) {
			t.Errorf("%s: wanted a top map of %v, got %v", name, want.top, top)
		}
	}
}

// shrink keeps a network's windows, strides and pads and cuts its filters.
func shrink(s energy.Spec, most int) energy.Spec {
	s.Layers = slices.Clone(s.Layers)
	for i := range s.Layers {
		s.Layers[i].Filters = min(s.Layers[i].Filters, most+i%2)
	}
	if s.Expand != nil {
		s.Expand = &energy.Expand{Base: 1, From: s.Expand.From}
	}
	if s.Doubling != nil {
		s.Doubling = &energy.Doubling{Filters: 1, Blocks: s.Doubling.Blocks, Outputs: min(s.Doubling.Outputs, 2)}
	}
	s.Init = "" // draws biases, so that no unit sits on its kink
	return s
}

// gradients checks the slopes of the energy with respect to x and all weights
// against differences in float64.
//
// A difference goes wrong where it steps over a kink: for networks with kinks
// the step is so small that it hardly ever does.
func gradients(t *testing.T, m *onnxmodels.Model, batch int, step float64) {
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
	in := []*graphs.Tensor{graphtest.NewRand(3).Normal(append([]int{batch}, m.Dims...)...)}
	wrt := []string{onnxmodels.X}
	for _, v := range forward.Graph.Inputs[1:] {
		in = append(in, weights[v.Name])
		wrt = append(wrt, v.Name)
	}
	graphtest.CheckGrad(t, forward.Graph, grad.Graph, in, graphtest.GradOptions{Of: onnxmodels.Energy, Wrt: wrt, Seeds: 2, Step: step})
}

func TestGradients(t *testing.T) {
	for name := range energy.Nets {
		t.Run(name, func(t *testing.T) {
			want, ok := nets[name]
			if !ok {
				t.Skip("see TestNets")
			}
			s, _ := energy.ByName(name)
			batch := 2
			if len(want.dims) == 3 && want.dims[1] > 64 {
				batch = 1
			}
			step := 1e-8
			if s.Activation == "swish" {
				step = 1e-6
			}
			gradients(t, build(t, shrink(s, 3), want.dims, 1.5), batch, step)
		})
	}
}

// conv is Σ over positions of one filter's response with TensorFlow's SAME
// padding, written out.
func conv(x, w []float32, bias float64, size, kernel, stride int) (sum float64) {
	out := (size + stride - 1) / stride
	pad := max((out-1)*stride+kernel-size, 0) / 2 // the odd pixel goes to the end
	for oy := range out {
		for ox := range out {
			sum += bias
			for ky := range kernel {
				for kx := range kernel {
					y, xx := oy*stride+ky-pad, ox*stride+kx-pad
					if y >= 0 && y < size && xx >= 0 && xx < size {
						sum += float64(x[y*size+xx]) * float64(w[ky*kernel+kx])
					}
				}
			}
		}
	}
	return sum
}

func TestSamePadding(t *testing.T) {
	for _, size := range []int{15, 16, 17} {
		for _, c := range []struct{ kernel, stride int }{{3, 1}, {4, 1}, {3, 2}, {4, 2}, {5, 3}, {6, 2}} {
			s := energy.Spec{Layers: []energy.Layer{{Filters: 1, Kernel: c.kernel, Stride: c.stride, Same: true}}, Activation: "relu"}
			m := build(t, s, []int{1, size, size}, 0)
			w := passes.Weights(m.Graph)
			x := floats(5, size*size)
			got := enginetest.Outputs(t, ref.New(), m.Model, graphs.Of(x, 1, 1, size, size))[1].F32()[0]
			want := conv(x, w[0].Const.F32(), float64(w[1].Const.F32()[0]), size, c.kernel, c.stride)
			if math.Abs(float64(got)-want) > 1e-4*(1+math.Abs(want)) {
				t.Errorf("size %d, %+v: wanted a score of %g, got %g", size, c, want, got)
			}

			s.Layers = []energy.Layer{{Filters: 3, Kernel: c.kernel, Stride: c.stride, Same: true}, {Filters: 1, Kernel: 2, Stride: 2, Same: true}}
			s.Activation = "swish"
			gradients(t, build(t, s, []int{2, size, size}, 1), 2, 1e-6)
		}
	}
}

func floats(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 7))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// TestEngines compares ONNX Runtime with the reference engine on the full
// networks: energies, scores and all slopes.
func TestEngines(t *testing.T) {
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	for name := range energy.Nets {
		t.Run(name, func(t *testing.T) {
			want, ok := nets[name]
			if !ok {
				t.Skip("see TestNets")
			}
			s, _ := energy.ByName(name)
			m := build(t, s, want.dims, 1)
			grad, err := autodiff.Grad(m.Model, autodiff.Options{Of: onnxmodels.Energy, Params: true})
			if err != nil {
				t.Fatal(err)
			}
			batch := 2
			if m.Size() > 10000 {
				batch = 1
			}
			x := graphs.Of(floats(11, batch*m.Size()), append([]int{batch}, m.Dims...)...)
			got, reference := enginetest.Outputs(t, e, grad, x), enginetest.Outputs(t, ref.New(), grad, x)
			for i, v := range grad.Graph.Outputs {
				var diff, size float64
				for j, a := range reference[i].F32() {
					b := got[i].F32()[j]
					diff += float64(a-b) * float64(a-b)
					size += float64(a) * float64(a)
				}
				if !(math.Sqrt(diff) <= 1e-4*math.Sqrt(size)) {
					t.Errorf("%s: ‖difference‖ %g of ‖value‖ %g", v.Name, math.Sqrt(diff), math.Sqrt(size))
				}
			}
		})
	}
}

// TestReference: energy = ‖x‖²/(2σ²) − score, and −score without σ.
func TestReference(t *testing.T) {
	s, _ := energy.ByName("toy")
	x := floats(1, 6)
	for _, sigma := range []float64{0, 0.5} {
		m := build(t, s, []int{2}, sigma)
		out := enginetest.Outputs(t, ref.New(), m.Model, graphs.Of(x, 3, 2))
		u, f := out[0].F32(), out[1].F32()
		for i := range 3 {
			want := -float64(f[i])
			if sigma > 0 {
				want += float64(x[2*i]*x[2*i]+x[2*i+1]*x[2*i+1]) / (2 * sigma * sigma)
			}
			if math.Abs(float64(u[i])-want) > 1e-5*(1+math.Abs(want)) {
				t.Errorf("sigma %g: wanted the energy %g, got %g", sigma, want, u[i])
			}
		}
		if f[0] == f[1] {
			t.Error("two points have the same score")
		}
	}
}

func TestSeed(t *testing.T) {
	s, _ := energy.ByName("toy")
	first := func(seed uint64) float32 {
		m, err := energy.Build(s, []int{2}, 0, seed)
		if err != nil {
			t.Fatal(err)
		}
		return passes.Weights(m.Graph)[0].Const.F32()[0]
	}
	if first(1) != first(1) || first(1) == first(2) {
		t.Errorf("weights do not follow from the seed: %g, %g; %g", first(1), first(1), first(2))
	}
}

func TestErrors(t *testing.T) {
	good, _ := energy.ByName("digits28")
	with := func(change func(*energy.Spec)) energy.Spec {
		s := good
		s.Layers = slices.Clone(good.Layers)
		change(&s)
		return s
	}
	for _, c := range []struct {
		name  string
		spec  energy.Spec
		dims  []int
		sigma float64
		want  string
	}{
		{"no layers", energy.Spec{Activation: "relu"}, []int{1, 28, 28}, 0, "no layers"},
		{"sigma", good, []int{1, 28, 28}, -1, "-1"},
		{"activation", with(func(s *energy.Spec) { s.Activation = "wish" }), []int{1, 28, 28}, 0, `"wish"`},
		{"init", with(func(s *energy.Spec) { s.Init = "normal:x" }), []int{1, 28, 28}, 0, `"normal:x"`},
		{"too small a picture", good, []int{1, 8, 8}, 0, "layer4"},
		{"pooling", with(func(s *energy.Spec) { s.Layers[2].Pool = 9 }), []int{1, 28, 28}, 0, "9×9"},
		{"pooling of points", energy.Spec{Layers: []energy.Layer{{Filters: 4, Pool: 2}}, Activation: "relu"}, []int{2}, 0, "2×2"},
		{"huge", with(func(s *energy.Spec) { s.Layers[1].Filters = 1 << 40 }), []int{1, 28, 28}, 0, "layer2"},
		{"pad", with(func(s *energy.Spec) { s.Layers[1].Pad = -1 }), []int{1, 28, 28}, 0, "layer2"},
		{"dimensions", good, []int{28, 28}, 0, "layer1"},
		{"no filters", with(func(s *energy.Spec) { s.Layers[1].Filters = 0 }), []int{1, 28, 28}, 0, "layer2"},
		{"negative filters", with(func(s *energy.Spec) { s.Layers[1].Filters = -3 }), []int{1, 28, 28}, 0, "layer2"},
		{"no kernel", with(func(s *energy.Spec) { s.Layers[1].Kernel = 0 }), []int{1, 28, 28}, 0, "layer2"},
		{"dense without units", energy.Spec{Layers: []energy.Layer{{}}, Activation: "relu"}, []int{2}, 0, "layer1"},
	} {
		if _, err := energy.Build(c.spec, c.dims, c.sigma, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: wanted an error that says %s, got %v", c.name, c.want, err)
		}
	}
	if _, err := energy.ByName("nosuch"); err == nil || !strings.Contains(err.Error(), "digits28") {
		t.Errorf("wanted an error that lists the networks, got %v", err)
	}
}

// TestFloat64 evaluates a network at higher precision than its declared type,
// as a check of the reference engine's own rounding.
func TestFloat64(t *testing.T) {
	s, _ := energy.ByName("digits28")
	m := build(t, s, []int{1, 28, 28}, 0)
	x := floats(2, m.Size())
	wide := make([]float64, len(x))
	for i, v := range x {
		wide[i] = float64(v)
	}
	want, err := graphtest.Run(t, m.Model, graphs.Of(wide, 1, 1, 28, 28))[1].AsFloats()
	if err != nil {
		t.Fatal(err)
	}
	got := enginetest.Outputs(t, ref.New(), m.Model, graphs.Of(x, 1, 1, 28, 28))[1]
	enginetest.Close(t, "score", got, 1e-5, want...)
}
