package generator_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/passes"
	"ebmrun/graphs/refeval"
	"ebmrun/onnxmodels/generator"
)

// nets says what each named network must come to. Counts of weights are worked
// out by hand: inputs·outputs·kernel² + outputs, summed over layers.
var nets = map[string]struct {
	dims    []int
	codes   int
	weights int
}{
	"deconv16": {[]int{1, 16, 16}, 8, 9216 + 32800 + 513},
	"deconv28": {[]int{1, 28, 28}, 20, 65856 + 32800 + 513},
	"deconv32": {[]int{3, 32, 32}, 32, 67584 + 131136 + 32800 + 1539},
	"deconv64": {[]int{3, 64, 64}, 100, 413696 + 524416 + 131136 + 32800 + 1539},
	"mlp":      {[]int{2}, 2, 192 + 4160 + 130},
	"linear":   {[]int{12}, 3, 48},
}

func build(t testing.TB, s generator.Spec, dims []int) *generator.Model {
	t.Helper()
	m, err := generator.Build(s, dims, 1)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// named builds a named network for the dimensions of nets, with at most a few
// filters a layer if small.
func named(t testing.TB, name string, small bool) *generator.Model {
	t.Helper()
	s, err := generator.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if small {
		s.Codes, s.Filters = min(s.Codes, 5), min(s.Filters, 4)
		if s.Activation == "leaky" {
			s.Activation = "swish"
		}
		s.Layers = slices.Clone(s.Layers)
		for i := range s.Layers {
			s.Layers[i].Filters = min(s.Layers[i].Filters, 3+i%2)
		}
	}
	return build(t, s, nets[name].dims)
}

// A program runs a model in float64, its weights fed beside its inputs.
type program struct {
	t       testing.TB
	run     *refeval.Program
	weights map[string][]float64
	dims    map[string][]int
}

func compile(t testing.TB, m *graphs.Model) *program {
	t.Helper()
	m = passes.Clone(m)
	weights, err := passes.WeightsToInputs(m.Graph)
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, weights: map[string][]float64{}, dims: map[string][]int{}}
	for name, w := range weights {
		if p.weights[name], err = w.AsFloats(); err != nil {
			t.Fatal(err)
		}
		p.dims[name] = w.Dims
	}
	if p.run, err = refeval.New(m.Graph, graphs.OpsetVersion, refeval.Options{}); err != nil {
		t.Fatal(err)
	}
	return p
}

// call feeds inputs [n, …] by name and returns the outputs by name.
func (p *program) call(n int, in map[string][]float64) map[string][]float64 {
	p.t.Helper()
	var feed []*graphs.Tensor
	for _, v := range p.run.Inputs() {
		if x, ok := in[v.Name]; ok {
			feed = append(feed, graphs.Of(x, append([]int{n}, v.Shape[1:].Ints()...)...))
			continue
		}
		feed = append(feed, graphs.Of(p.weights[v.Name], p.dims[v.Name]...))
	}
	got, err := p.run.Run(p.t.Context(), feed)
	if err != nil {
		p.t.Fatal(err)
	}
	out := map[string][]float64{}
	for i, v := range p.run.Outputs() {
		out[v.Name] = got[i].F64()
	}
	return out
}

func normals(seed uint64, n int) []float64 {
	r := rand.New(rand.NewPCG(seed, 3))
	x := make([]float64, n)
	for i := range x {
		x[i] = r.NormFloat64()
	}
	return x
}

// mask hides about half of the entries.
func mask(n int) []float64 {
	m := normals(9, n)
	for i, v := range m {
		m[i] = 0
		if v > 0 {
			m[i] = 1
		}
	}
	return m
}

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol*(1+math.Abs(want))) {
		t.Errorf("%s: wanted %g, got %g", what, want, got)
	}
}

func dot(a, b []float64) (s float64) {
	for i := range a {
		s += a[i] * b[i]
	}
	return s
}

func TestNets(t *testing.T) {
	for name, e := range generator.Nets {
		want, ok := nets[name]
		if !ok {
			t.Errorf("network %s is not in the table of this test", name)
			continue
		}
		m := named(t, name, false)
		n := 0
		for _, w := range passes.Weights(m.Graph) {
			n += w.Const.Len()
			if slices.Max(w.Const.F32()) == slices.Min(w.Const.F32()) && w.Const.Len() > 1 {
				t.Errorf("%s: all of %s is %g", name, w.Name, w.Const.F32()[0])
			}
		}
		if n != want.weights {
			t.Errorf("%s: wanted %d weights, got %d", name, want.weights, n)
		}
		if m.Codes != want.codes || !slices.Equal(m.Dims, want.dims) {
			t.Errorf("%s: wanted %d codes for %v, got %d for %v", name, want.codes, want.dims, m.Codes, m.Dims)
		}
		size := graphs.Size(want.dims)
		x := compile(t, m.Model).call(1, map[string][]float64{generator.Z: normals(2, m.Codes)})[generator.X]
		if len(x) != size {
			t.Errorf("%s: wanted %d values, got %d", name, size, len(x))
		}
		lo, hi := slices.Min(x), slices.Max(x)
		if lo == hi || e.Spec.Tanh && (lo < -1 || hi > 1) {
			t.Errorf("%s: values from %g to %g", name, lo, hi)
		}
	}
}

// TestSeed: the seed alone draws the weights.
func TestSeed(t *testing.T) {
	s, _ := generator.ByName("mlp")
	weights := func(seed uint64) []float32 {
		m, err := generator.Build(s, []int{2}, seed)
		if err != nil {
			t.Fatal(err)
		}
		return passes.Weights(m.Graph)[0].Const.F32()
	}
	if !slices.Equal(weights(1), weights(1)) || slices.Equal(weights(1), weights(2)) {
		t.Error("wanted the same weights of the same seed, and others of another")
	}
}

// TestGraphs checks the posterior and the regression of every named network,
// with few filters and no kinks: values against g(z) and sums written out, slopes against
// differences of these, all in float64.
func TestGraphs(t *testing.T) {
	const n, sigma, h = 2, 0.3, 1e-4
	for name := range generator.Nets {
		t.Run(name, func(t *testing.T) {
			m := named(t, name, true)
			size := graphs.Size(m.Dims)
			forward := compile(t, m.Model)
			z, target, known, weight := normals(1, n*m.Codes), normals(2, n*size), mask(n*size), normals(3, n)
			// errors is ‖mask·(target − g(z))‖² of each example, summed over its entries.
			errors := func(z []float64) []float64 {
				x, e := forward.call(n, map[string][]float64{generator.Z: z})[generator.X], make([]float64, n)
				for i, v := range x {
					d := known[i] * (target[i] - v)
					e[i/size] += d * d
				}
				return e
			}
			in := map[string][]float64{generator.Z: z, generator.Target: target, generator.Mask: known}

			model, err := m.Posterior(sigma)
			if err != nil {
				t.Fatal(err)
			}
			posterior := compile(t, model)
			energies := func(z []float64) []float64 {
				u := errors(z)
				for i, e := range u {
					code := z[i*m.Codes : (i+1)*m.Codes]
					u[i] = dot(code, code)/2 + e/(2*sigma*sigma)
				}
				return u
			}
			got := posterior.call(n, in)
			for i := range n {
				near(t, "error", got[generator.Error][i], errors(z)[i], 1e-6)
				near(t, "energy", got[generator.Energy][i], energies(z)[i], 1e-6)
				// each example's slope is that of its own energy
				v := normals(4, m.Codes)
				along := func(h float64) float64 {
					y := slices.Clone(z)
					for j := range v {
						y[i*m.Codes+j] += h * v[j]
					}
					return energies(y)[i]
				}
				near(t, "∂U/∂z", dot(got[generator.GradZ][i*m.Codes:(i+1)*m.Codes], v), (along(h)-along(-h))/(2*h), 1e-5)
			}

			if model, err = m.Regression(); err != nil {
				t.Fatal(err)
			}
			in[generator.Weight] = weight
			regression := compile(t, model)
			slopes := regression.call(n, in)
			for i, e := range errors(z) {
				near(t, "error of the regression", slopes[generator.Error][i], e, 1e-6)
			}
			for w, old := range forward.weights {
				v := normals(5, len(old))
				along := func(h float64) float64 {
					moved := slices.Clone(old)
					for j := range v {
						moved[j] += h * v[j]
					}
					forward.weights[w] = moved
					defer func() { forward.weights[w] = old }()
					return dot(weight, errors(z))
				}
				grad := slopes[autodiff.GradPrefix+w]
				if len(grad) != len(old) {
					t.Fatalf("%s: wanted a slope of %d entries, got %d", w, len(old), len(grad))
				}
				near(t, "slope of "+w, dot(grad, v), (along(h)-along(-h))/(2*h), 1e-5)
			}

			// What the mask hides changes nothing, and what it shows does.
			for _, hidden := range []bool{true, false} {
				other := slices.Clone(target)
				for i, k := range known {
					if (k == 0) == hidden {
						other[i] += 100
					}
				}
				in[generator.Target] = other
				again, after := posterior.call(n, in), regression.call(n, in)
				same := slices.Equal(got[generator.Energy], again[generator.Energy]) && slices.Equal(got[generator.GradZ], again[generator.GradZ])
				for w := range slopes {
					same = same && slices.Equal(slopes[w], after[w])
				}
				if same != hidden {
					t.Errorf("other values where hidden is %v: unchanged %v", hidden, same)
				}
			}
		})
	}
}

// TestBuildErrors: descriptions that make no network are errors.
func TestBuildErrors(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*generator.Spec)
		dims   []int
		want   string
	}{
		"codes":      {func(s *generator.Spec) { s.Codes = 0 }, []int{1, 16, 16}, "code"},
		"layers":     {func(s *generator.Spec) { s.Layers = nil }, []int{1, 16, 16}, "layer"},
		"dims":       {func(*generator.Spec) {}, []int{1, 28, 28}, "28"},
		"no dims":    {func(*generator.Spec) {}, nil, "[C, H, W]"},
		"flat dims":  {func(*generator.Spec) {}, []int{16, 16}, "[C, H, W]"},
		"start":      {func(s *generator.Spec) { s.Start = 0 }, []int{1, 16, 16}, "code"},
		"filters":    {func(s *generator.Spec) { s.Layers[0].Filters = -1 }, []int{1, 16, 16}, "layer1"},
		"kernel":     {func(s *generator.Spec) { s.Layers[1].Kernel = 0 }, []int{1, 16, 16}, "layer2"},
		"pad":        {func(s *generator.Spec) { s.Layers[1].Pad = -5 }, []int{1, 16, 16}, ""},
		"activation": {func(s *generator.Spec) { s.Activation = "bent" }, []int{1, 16, 16}, "bent"},
		"init":       {func(s *generator.Spec) { s.Init = "ones" }, []int{1, 16, 16}, "ones"},
		"huge":       {func(s *generator.Spec) { s.Filters = math.MaxInt / 4 }, []int{1, 16, 16}, ""},
	} {
		s, err := generator.ByName("deconv16")
		if err != nil {
			t.Fatal(err)
		}
		s.Layers = slices.Clone(s.Layers)
		c.change(&s)
		if _, err := generator.Build(s, c.dims, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: wanted an error about %q, got %v", what, c.want, err)
		}
	}
	if _, err := generator.ByName("deconv17"); err == nil || !strings.Contains(err.Error(), "deconv16") {
		t.Errorf("wanted an error that names what there is, got %v", err)
	}
	if _, err := named(t, "mlp", false).Posterior(0); err == nil {
		t.Error("a posterior without noise was built")
	}
}
