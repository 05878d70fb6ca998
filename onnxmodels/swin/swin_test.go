package swin

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
	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ref"
)

// run evaluates layers on tokens [1, h, w, c] and returns the weights, too.
func run(t *testing.T, s Spec, x []float32, dims []int, layers func(b builder, x *graphs.Value) *graphs.Value) ([]float32, map[string][]float32) {
	t.Helper()
	b := builder{graphs.NewBuilder(&graphs.Graph{Name: "test"}), rand.New(rand.NewPCG(1, 2)), s}
	b.Output("y", b.Identity(layers(b, input(b.Builder, "x", dims...))))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	// official deviations would leave little to compare
	weights := map[string][]float32{}
	for _, v := range passes.Weights(g) {
		for i := range v.Const.F32() {
			v.Const.F32()[i] *= 20
		}
		weights[v.Name] = v.Const.F32()
	}
	if _, err := passes.SetBatch(g, "batch", 1); err != nil {
		t.Fatal(err)
	}
	return enginetest.Outputs(t, ref.New(), graphs.NewModel(g), graphs.Of(x, append([]int{1}, dims...)...))[0].F32(), weights
}

func normals(n int) []float32 {
	r := rand.New(rand.NewPCG(3, 4))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// TestPartition: windows put back are the map.
func TestPartition(t *testing.T) {
	x := normals(8 * 4 * 3)
	y, _ := run(t, Spec{}, x, []int{8, 4, 3}, func(b builder, x *graphs.Value) *graphs.Value {
		return b.roll(b.reverse(b.partition(b.roll(x, 1), 4, 2), 4, 2, 8, 4, 3), -1)
	})
	if !slices.Equal(x, y) {
		t.Error("windows do not come back to their places")
	}
}

// TestMerge: the four neighbours are joined column by column, as in the official release.
func TestMerge(t *testing.T) {
	x := []float32{0, 1, 2, 3} // 2×2, 1 channel
	y, w := run(t, Spec{}, x, []int{2, 2, 1}, func(b builder, x *graphs.Value) *graphs.Value { return b.merge("m", x) })
	norm := []float64{0 - 1.5, 2 - 1.5, 1 - 1.5, 3 - 1.5}
	for k := range 2 {
		want := 0.0
		for i, v := range norm {
			want += 20 * v / math.Sqrt(1.25+1e-5) * float64(w["m.reduction.weight"][4*k+i])
		}
		if math.Abs(want-float64(y[k])) > 1e-4 {
			t.Errorf("channel %d: wanted %g, got %g", k, want, y[k])
		}
	}
}

// attend is attention in plain loops over the unrolled map: a token sees those of its
// window, whose corners lie shift off the grid; windows end at the map's edges.
func attend(x []float32, w map[string][]float32, h, width, c, heads, window, shift int) []float64 {
	linear := func(v []float64, name string, out int) []float64 {
		y := make([]float64, out)
		for o := range y {
			y[o] = float64(w[name+".bias"][o])
			for i, a := range v {
				y[o] += a * float64(w[name+".weight"][o*len(v)+i])
			}
		}
		return y
	}
	n, d := h*width, c/heads
	qkv := make([][]float64, n)
	for i := range qkv {
		v := make([]float64, c)
		for k := range v {
			v[k] = float64(x[i*c+k])
		}
		qkv[i] = linear(v, "a.qkv", 3*c)
	}
	cell := func(i int) [2]int {
		return [2]int{(i/width - shift + window) / window, (i%width - shift + window) / window}
	}
	out := make([]float64, 0, n*c)
	for i := range n {
		y := make([]float64, c)
		for k := range heads {
			var seen []int
			var s []float64
			sum := 0.0
			for j := range n {
				if cell(i) != cell(j) {
					continue
				}
				dot := 0.0
				for m := range d {
					dot += qkv[i][k*d+m] * qkv[j][c+k*d+m]
				}
				row := (i/width-j/width+window-1)*(2*window-1) + i%width - j%width + window - 1
				e := math.Exp(dot/math.Sqrt(float64(d)) + float64(w["a.relative_position_bias_table"][row*heads+k]))
				seen, s, sum = append(seen, j), append(s, e), sum+e
			}
			for a, j := range seen {
				for m := range d {
					y[k*d+m] += s[a] / sum * qkv[j][2*c+k*d+m]
				}
			}
		}
		out = append(out, linear(y, "a.proj", c)...)
	}
	return out
}

// TestAttention: windows on a rolled map, with what were no neighbours masked, are what
// the loops find on the map as it is.
func TestAttention(t *testing.T) {
	const h, w, c, heads, window = 8, 12, 4, 2, 4
	x := normals(h * w * c)
	for _, shift := range []int{0, 2, 1} {
		got, weights := run(t, Spec{Window: window}, x, []int{h, w, c}, func(b builder, x *graphs.Value) *graphs.Value {
			return b.attention("a", x, heads, shift)
		})
		for i, want := range attend(x, weights, h, w, c, heads, window, shift) {
			if math.Abs(want-float64(got[i])) > 1e-5 {
				t.Fatalf("shift %d, value %d: wanted %g, got %g", shift, i, want, got[i])
			}
		}
	}
}

// TestMasked: across masked regions there is no attention.
func TestMasked(t *testing.T) {
	const h, w, c, shift = 8, 8, 4, 2
	at := func(x []float32) []float32 {
		y, _ := run(t, Spec{Window: 4}, x, []int{h, w, c}, func(b builder, x *graphs.Value) *graphs.Value { return b.attention("a", x, 2, shift) })
		return y
	}
	x := normals(h * w * c)
	y := at(x)
	for k := range c { // a change of the token at the corner, which meets the far edges in a window
		x[k]++
	}
	near := 0.0
	for i, v := range at(x) {
		diff := math.Abs(float64(v - y[i]))
		if row, column := i/c/w, i/c%w; row < shift && column < shift {
			near = max(near, diff)
		} else if diff > 1e-6 {
			t.Fatalf("token %d, %d sees the corner", row, column)
		}
	}
	if near < 0.01 {
		t.Error("the corner does not see itself")
	}
}

func small(given int) (*conditional.Generator, error) {
	s := Spec{Patch: 2, Embed: 4, Depths: []int{2, 1}, Heads: []int{1, 2}, Window: 2, Codes: 2, Features: 3, Reduction: 3, Dilations: []int{1, 2}}
	return Build(s, []int{1, 8, 8}, []int{given, 8, 8}, 3)
}

// TestGradient: slopes in every weight and of the posterior in the code are those of
// central differences, with depth and without; the code matters.
func TestGradient(t *testing.T) {
	for _, channels := range []int{3, 4} {
		m, err := small(channels)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range passes.Weights(m.Graph) { // away from the zeros and small numbers of a new network
			r := graphtest.NewRand(uint64(len(v.Name)))
			if strings.Contains(v.Name, "layers") || strings.Contains(v.Name, "fusion") {
				for i := range v.Const.F32() {
					v.Const.F32()[i] += float32(0.2 * r.NormFloat64())
				}
			}
		}
		forward, err := autodiff.Prepare(m.Model.Model)
		if err != nil {
			t.Fatal(err)
		}
		grad, err := autodiff.Grad(m.Model.Model, autodiff.Options{Of: generator.X, Wrt: []string{generator.Z, conditional.Given}, Params: true, ParamsAsInputs: true, VJP: true})
		if err != nil {
			t.Fatal(err)
		}
		ws, err := passes.WeightsToInputs(forward.Graph)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range []*graphs.Graph{forward.Graph, grad.Graph} {
			if _, err := passes.SetBatch(g, "batch", 2); err != nil {
				t.Fatal(err)
			}
		}
		in := []*graphs.Tensor{graphs.Of(normals(4), 2, 2), graphs.Of(normals(2*channels*64), 2, channels, 8, 8)}
		for _, v := range forward.Graph.Inputs[2:] {
			in = append(in, ws[v.Name])
		}
		graphtest.CheckGrad(t, forward.Graph, grad.Graph, in, graphtest.GradOptions{Of: generator.X, Seeds: 1, Step: 1e-6, Tol: 1e-4})
	}
}

// TestAhead: both parts of a cut network are the whole.
func TestAhead(t *testing.T) {
	m, err := small(3)
	if err != nil {
		t.Fatal(err)
	}
	encoder, decoder, err := m.Ahead()
	if err != nil {
		t.Fatal(err)
	}
	eval := func(m *graphs.Model, in ...*graphs.Tensor) []*graphs.Tensor {
		t.Helper()
		if _, err := passes.SetBatch(m.Graph, "batch", 2); err != nil {
			t.Fatal(err)
		}
		return enginetest.Outputs(t, ref.New(), m, in...)
	}
	z, c := graphs.Of(normals(4), 2, 2), graphs.Of(normals(2*3*64), 2, 3, 8, 8)
	whole := eval(passes.Clone(m.Model.Model), z, c)[0].F32()
	parts := eval(decoder.Model, append([]*graphs.Tensor{z}, eval(encoder, c)...)...)[0].F32()
	for i, v := range whole {
		if math.Abs(float64(v-parts[i])) > 1e-6 {
			t.Fatalf("value %d: wanted %g, got %g", i, v, parts[i])
		}
	}
	for _, n := range decoder.Graph.Nodes {
		if n.Op == "Softmax" {
			t.Error("the transformer is in the part that needs the code")
		}
	}
	if slices.Equal(whole[:64], eval(passes.Clone(m.Model.Model), graphs.Of(normals(6)[2:], 2, 2), c)[0].F32()[:64]) {
		t.Error("the code does not matter")
	}
}

// TestNets: counts of weights are those of the official releases, less the last
// normalisation and the classifier, 2·C + 1000·C + 1000.
func TestNets(t *testing.T) {
	for name, want := range map[string]int{"swin-tiny": 28288354 - 2*768 - 769000, "swin-small": 49606258 - 2*768 - 769000, "swin-16": 0, "swin-32": 0, "swin-64": 0, "swin-96": 0} {
		s, err := ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		side := map[string]int{"swin-16": 16, "swin-32": 32, "swin-64": 64, "swin-96": 96}[name]
		if side == 0 {
			side = 224
		}
		m, err := Build(s, []int{1, side, side}, []int{3, side, side}, 1)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := 0
		for _, v := range passes.Weights(m.Graph) {
			if strings.HasPrefix(v.Name, "encoder.") {
				got += v.Const.Len()
			}
		}
		if want != 0 && got != want {
			t.Errorf("%s: wanted %d weights of the transformer, got %d", name, want, got)
		}
	}
}

// TestPut: official weights find their places by name; what does not fit is refused.
func TestPut(t *testing.T) {
	m, err := small(3)
	if err != nil {
		t.Fatal(err)
	}
	official := map[string]*graphs.Tensor{"head.weight": graphs.Of([]float32{1}, 1), "norm.weight": graphs.Of([]float32{1}, 1),
		"layers.0.blocks.0.attn.relative_position_index": graphs.Ints(1)}
	for _, v := range passes.Weights(m.Graph) {
		if name, ok := strings.CutPrefix(v.Name, "encoder."); ok {
			official[name] = graphs.Of(normals(v.Const.Len()), v.Const.Dims...)
		}
	}
	if err := Put(m.Model.Model, official); err != nil {
		t.Fatal(err)
	}
	for _, v := range passes.Weights(m.Graph) {
		if w := official[strings.TrimPrefix(v.Name, "encoder.")]; w != nil && !slices.Equal(w.F32(), v.Const.F32()) {
			t.Errorf("%s has not been set", v.Name)
		}
	}
	const name = "layers.0.blocks.1.mlp.fc1.weight"
	w := official[name]
	for _, c := range []struct {
		put  *graphs.Tensor
		want string
	}{{nil, "missing"}, {graphs.Of([]float32{1}, 1), "wanted float32"}} {
		if official[name] = c.put; c.put == nil {
			delete(official, name)
		}
		if err := Put(m.Model.Model, official); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("wanted %s to be refused as %q, got %v", name, c.want, err)
		}
	}
	official[name], official["layers.9.x"] = w, w
	if err := Put(m.Model.Model, official); err == nil || !strings.Contains(err.Error(), "layers.9.x") {
		t.Errorf("a weight of no layer: %v", err)
	}
}

// TestRefused: what does not fit is refused in words.
func TestRefused(t *testing.T) {
	fits := mini(2)
	for want, change := range map[string]func(s *Spec, given *[]int){
		"patches of 3": func(s *Spec, _ *[]int) { s.Patch = 3 },
		"3 channels":   func(_ *Spec, g *[]int) { *g = []int{1, 32, 32} },
		"windows of 5": func(s *Spec, _ *[]int) { s.Window = 5 },
		"heads that":   func(s *Spec, _ *[]int) { s.Heads = []int{5, 2} },
		"depths":       func(s *Spec, _ *[]int) { s.Depths = []int{2} },
		"wanted codes": func(s *Spec, _ *[]int) { s.Codes = 0 },
		"as large":     func(_ *Spec, g *[]int) { *g = []int{3, 16, 16} },
	} {
		s, given := fits, []int{3, 32, 32}
		s.Heads = slices.Clone(s.Heads)
		change(&s, &given)
		if _, err := Build(s, []int{1, 32, 32}, given, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error with %q, got %v", want, err)
		}
	}
	if _, err := ByName("swin-31"); err == nil || !strings.Contains(err.Error(), "swin-32") {
		t.Errorf("an unknown network: %v", err)
	}
}
