package encoder_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/graphtest"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels/encoder"
	"ebmrun/onnxmodels/generator"
)

// nets says what each named network must come to. Counts of weights are worked
// out by hand: inputs·outputs·kernel² + outputs, summed over layers and both heads.
var nets = map[string]struct {
	dims    []int
	codes   int
	weights int
}{
	"conv16":   {[]int{1, 28, 28}, 20, 544 + 32832 + 2*(3136*20+20)},
	"conv32":   {[]int{3, 32, 32}, 32, 1568 + 32832 + 131200 + 2*(2048*32+32)},
	"conv64":   {[]int{3, 64, 64}, 100, 1568 + 32832 + 131200 + 524544 + 2*(4096*100+100)},
	"vaebm-32": {[]int{3, 32, 32}, 100, 4393800},
	"vaebm-28": {[]int{1, 28, 28}, 100, 1088 + 65600 + 65600 + 2*(576*100+100)},
	"mlp":      {[]int{2}, 2, 192 + 4160 + 2*130},
	"linear":   {[]int{12}, 3, 2 * 39},
}

func build(t testing.TB, name string, dims []int, codes int, seed uint64) *encoder.Model {
	t.Helper()
	s, err := encoder.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := encoder.Build(s, dims, codes, seed)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestNets(t *testing.T) {
	for name := range encoder.Nets {
		want, ok := nets[name]
		if !ok {
			t.Errorf("network %s is not in the table of this test", name)
			continue
		}
		m := build(t, name, want.dims, want.codes, 1)
		n := 0
		for _, w := range passes.Weights(m.Graph) {
			n += w.Const.Len()
		}
		if n != want.weights {
			t.Errorf("%s: wanted %d weights, got %d", name, want.weights, n)
		}
		x := make([]float64, graphs.Size(want.dims))
		for i := range x {
			x[i] = math.Sin(float64(i))
		}
		for i, v := range graphtest.Run(t, m.Model, graphs.Of(x, append([]int{1}, want.dims...)...)) {
			if v.Len() != want.codes || slices.Max(v.F64()) == slices.Min(v.F64()) {
				t.Errorf("%s: output %d is %v", name, i, v.F64())
			}
		}
	}
	weights := func(seed uint64) []float32 {
		return passes.Weights(build(t, "mlp", []int{2}, 2, seed).Graph)[0].Const.F32()
	}
	if !slices.Equal(weights(1), weights(1)) || slices.Equal(weights(1), weights(2)) {
		t.Error("wanted the same weights of the same seed, and others of another")
	}
}

// TestLogVar: the log variance is held within its bounds.
func TestLogVar(t *testing.T) {
	m := build(t, "linear", []int{1}, 1, 1)
	for _, w := range m.Graph.Inits {
		if w.Name == "logvar.weight" {
			w.Const.F32()[0] = 1
		}
		if w.Name == "logvar.bias" {
			w.Const.F32()[0] = 0
		}
	}
	got := graphtest.Run(t, m.Model, graphs.Of([]float64{-50, -9, 0.5, 5, 50}, 5, 1))[1].F64()
	if want := []float64{-10, -9, 0.5, 5, 6}; !slices.Equal(got, want) {
		t.Errorf("wanted %v, got %v", want, got)
	}
}

func TestErrors(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*encoder.Spec)
		dims   []int
		codes  int
		want   string
	}{
		"codes":      {func(*encoder.Spec) {}, []int{1, 16, 16}, 0, "code"},
		"dims":       {func(*encoder.Spec) {}, []int{16, 16}, 2, "[C, H, W]"},
		"filters":    {func(s *encoder.Spec) { s.Layers[0].Filters = -1 }, []int{1, 16, 16}, 2, "encode1"},
		"kernel":     {func(s *encoder.Spec) { s.Layers[1].Kernel = 30 }, []int{1, 16, 16}, 2, "encode2"},
		"activation": {func(s *encoder.Spec) { s.Activation = "bent" }, []int{1, 16, 16}, 2, "bent"},
		"init":       {func(s *encoder.Spec) { s.Init = "ones" }, []int{1, 16, 16}, 2, "ones"},
	} {
		s, _ := encoder.ByName("conv16")
		s.Layers = slices.Clone(s.Layers)
		c.change(&s)
		if _, err := encoder.Build(s, c.dims, c.codes, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: wanted an error about %q, got %v", what, c.want, err)
		}
	}
	if _, err := encoder.ByName("conv17"); err == nil || !strings.Contains(err.Error(), "conv16") {
		t.Errorf("wanted an error that names what there is, got %v", err)
	}
	g, err := generator.Build(generator.Nets["linear"].Spec, []int{12}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for what, m := range map[string]*encoder.Model{
		"4 codes": build(t, "linear", []int{12}, 4, 1),
		"[11]":    build(t, "linear", []int{11}, 3, 1),
	} {
		if _, err := m.Bound(g, 1); err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "3 codes") {
			t.Errorf("wanted an error that names both sides, got %v", err)
		}
	}
	if _, err := build(t, "linear", []int{12}, 3, 1).Bound(g, 0); err == nil || !strings.Contains(err.Error(), "sigma") {
		t.Errorf("a bound without noise: %v", err)
	}
}
