package bind

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
	"ebmrun/training/optim"
)

const residual = 0.4

// smooth is a small deconvolution network without kinks: 3 codes to [2, 6, 6].
func smooth(t testing.TB) *generator.Model {
	t.Helper()
	m, err := generator.Build(generator.Spec{Codes: 3, Start: 3, Filters: 4, Activation: "swish", Tanh: true,
		Layers: []generator.Layer{{Filters: 5, Kernel: 3, Stride: 1, Pad: 1}, {Kernel: 4, Stride: 2, Pad: 1}}}, []int{2, 6, 6}, 4)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func boundGenerator(t testing.TB, m *generator.Model, e runtime.Engine, o runtime.Options) *Generator {
	t.Helper()
	g, err := NewGenerator(context.Background(), m, e, o, residual)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// partial hides every third entry.
func partial(n int) []float32 {
	m := make([]float32, n)
	for i := range m {
		if i%3 != 0 {
			m[i] = 1
		}
	}
	return m
}

func onBothEngines(t *testing.T, f func(t *testing.T, e runtime.Engine)) {
	t.Run("ref", func(t *testing.T) { f(t, ref.New()) })
	t.Run("ort", func(t *testing.T) { f(t, onnxRuntime(t)) })
}

// squares is ‖mask·(target − g(z))‖² of every example, out of Forward.
func squares(t *testing.T, g *Generator, z, target, mask []float32) []float64 {
	t.Helper()
	x := make([]float32, len(target))
	if err := g.Forward(t.Context(), z, x); err != nil {
		t.Fatal(err)
	}
	n := len(z) / g.Codes()
	e := make([]float64, n)
	for i, v := range x {
		d := float64(mask[i] * (target[i] - v))
		e[i*n/len(x)] += d * d
	}
	return e
}

// TestLinearGenerator: g(z) = zW + b, and every slope, written out, for three
// batch sizes and before and after the weights change in place.
func TestLinearGenerator(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e runtime.Engine) {
		s, err := generator.ByName("linear")
		if err != nil {
			t.Fatal(err)
		}
		const d, dim = 3, 4
		m, err := generator.Build(s, []int{dim}, 1)
		if err != nil {
			t.Fatal(err)
		}
		g := boundGenerator(t, m, e, runtime.Options{})
		p := g.Params()
		if len(p) != 2 || g.Codes() != d {
			t.Fatalf("wanted a weight and a bias for %d codes, got %d parameters for %d", d, len(p), g.Codes())
		}
		w, b := p[0], p[1]
		for round, n := range []int{4, 1, 4, 5} {
			z, target, mask := normals(uint64(round), n*d), normals(uint64(10+round), n*dim), partial(n*dim)
			weight := normals(20, n)
			x, errs := make([]float32, n*dim), make([]float32, n)
			u, grad := make([]float32, n), make([]float32, n*d)
			if err := g.Forward(t.Context(), z, x); err != nil {
				t.Fatal(err)
			}
			if err := g.Posterior(target, mask).EnergyGrad(z, u, grad); err != nil {
				t.Fatal(err)
			}
			if err := g.Learn(t.Context(), z, target, mask, weight, errs); err != nil {
				t.Fatal(err)
			}
			slopeW, slopeB := make([]float64, d*dim), make([]float64, dim)
			for i := range n {
				code := z[i*d : (i+1)*d]
				pull := make([]float64, d) // of the likelihood
				square := 0.0
				for j := range dim {
					y := float64(b.W[j])
					for k := range d {
						y += float64(code[k]) * float64(w.W[k*dim+j])
					}
					near(t, "g(z)", float64(x[i*dim+j]), y, 1e-5)
					r := float64(mask[i*dim+j]) * (float64(target[i*dim+j]) - y)
					square += r * r
					slopeB[j] -= 2 * float64(weight[i]) * r
					for k := range d {
						pull[k] -= r * float64(w.W[k*dim+j]) / (residual * residual)
						slopeW[k*dim+j] -= 2 * float64(weight[i]) * r * float64(code[k])
					}
				}
				near(t, "error", float64(errs[i]), square, 1e-5)
				near(t, "energy", float64(u[i]), dot(code, code)/2+square/(2*residual*residual), 1e-5)
				for k := range d {
					near(t, "∂U/∂z", float64(grad[i*d+k]), float64(code[k])+pull[k], 1e-5)
				}
			}
			for i, v := range slopeW {
				near(t, "∂/∂W", float64(w.G[i]), v, 1e-5)
			}
			for i, v := range slopeB {
				near(t, "∂/∂b", float64(b.G[i]), v, 1e-5)
			}
			for i := range w.W {
				w.W[i] *= 1.3
			}
		}
	})
}

// TestGeneratorSlopes compares the slopes of a convolutional generator with
// differences of Σ w_i·e_i and of the energy of codes.
func TestGeneratorSlopes(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e runtime.Engine) {
		g := boundGenerator(t, smooth(t), e, runtime.Options{Threads: 2})
		const n, d, dim, h = 3, 3, 72, 1e-2
		z, target, mask, w := normals(1, n*d), normals(2, n*dim), partial(n*dim), normals(3, n)
		errs := make([]float32, n)
		if err := g.Learn(t.Context(), z, target, mask, w, errs); err != nil {
			t.Fatal(err)
		}
		for i, v := range squares(t, g, z, target, mask) {
			near(t, "error", float64(errs[i]), v, 1e-5)
		}
		for _, p := range g.Params() {
			v, old := normals(4, len(p.W)), slices.Clone(p.W)
			at := func(h float64) (sum float64) {
				for i := range p.W {
					p.W[i] = old[i] + float32(h)*v[i]
				}
				for i, e := range squares(t, g, z, target, mask) {
					sum += float64(w[i]) * e
				}
				return sum
			}
			want := dot(p.G, v)
			got := (at(h) - at(-h)) / (2 * h)
			at(0)
			if math.Abs(got-want) > 3e-3*(1+math.Abs(want)) {
				t.Errorf("%s: slope %g, central difference %g", p.Name, want, got)
			}
		}

		u, grad := make([]float32, n), make([]float32, n*d)
		field := g.Posterior(target, mask)
		if err := field.EnergyGrad(z, u, grad); err != nil {
			t.Fatal(err)
		}
		for i, v := range squares(t, g, z, target, mask) {
			code := z[i*d : (i+1)*d]
			near(t, "energy", float64(u[i]), dot(code, code)/2+v/(2*residual*residual), 1e-5)
		}
		for k := range z {
			at := func(h float32) float64 {
				y, u := slices.Clone(z), make([]float32, n)
				y[k] += h
				if err := field.EnergyGrad(y, u, make([]float32, n*d)); err != nil {
					t.Fatal(err)
				}
				return float64(u[k/d])
			}
			near(t, "∂U/∂z", float64(grad[k]), (at(h)-at(-h))/(2*h), 5e-3)
		}

		// The field reads its target when it is asked, not when it was made.
		copy(target, normals(5, n*dim))
		if err := field.EnergyGrad(z, u, grad); err != nil {
			t.Fatal(err)
		}
		for i, v := range squares(t, g, z, target, mask) {
			code := z[i*d : (i+1)*d]
			near(t, "energy of another target", float64(u[i]), dot(code, code)/2+v/(2*residual*residual), 1e-5)
		}
	})
}

// TestGeneratorModel: the exported generator has the weights in use and makes
// what the bound one makes; later updates do not reach it.
func TestGeneratorModel(t *testing.T) {
	g := boundGenerator(t, smooth(t), ref.New(), runtime.Options{})
	for _, p := range g.Params() {
		for i := range p.W {
			p.W[i] *= 1.5
		}
	}
	z := normals(1, 6)
	want, got := make([]float32, 144), make([]float32, 144)
	if err := g.Forward(t.Context(), z, want); err != nil {
		t.Fatal(err)
	}
	m := g.Model()
	g.Params()[0].W[0] += 1
	if err := boundGenerator(t, m, ref.New(), runtime.Options{}).Forward(t.Context(), z, got); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Error("the export makes other examples")
	}
}

func TestGeneratorSizes(t *testing.T) {
	g := boundGenerator(t, smooth(t), ref.New(), runtime.Options{})
	f := func(n int) []float32 { return make([]float32, n) }
	const z, x = 6, 144 // of 2 examples
	for what, err := range map[string]error{
		"code":             g.Forward(t.Context(), f(z+1), f(x)),
		"no code":          g.Forward(t.Context(), f(0), f(0)),
		"room":             g.Forward(t.Context(), f(z), f(x-1)),
		"posterior code":   g.Posterior(f(x), f(x)).EnergyGrad(f(z-1), f(2), f(z)),
		"posterior slope":  g.Posterior(f(x), f(x)).EnergyGrad(f(z), f(2), f(z+1)),
		"posterior target": g.Posterior(f(x-1), f(x)).EnergyGrad(f(z), f(2), f(z)),
		"posterior mask":   g.Posterior(f(x), nil).EnergyGrad(f(z), f(2), f(z)),
		"no rows":          g.Posterior(nil, nil).EnergyGrad(nil, nil, nil),
		"learn code":       g.Learn(t.Context(), f(z-1), f(x), f(x), f(2), f(2)),
		"learn target":     g.Learn(t.Context(), f(z), f(x+1), f(x), f(2), f(2)),
		"learn mask":       g.Learn(t.Context(), f(z), f(x), f(1), f(2), f(2)),
		"learn error":      g.Learn(t.Context(), f(z), f(x), f(x), f(2), f(3)),
		"learn nothing":    g.Learn(t.Context(), nil, nil, nil, nil, nil),
	} {
		if err == nil {
			t.Errorf("%s: a wrong size was accepted", what)
		}
	}
	for _, sigma := range []float64{0, -1, math.NaN()} {
		if _, err := NewGenerator(t.Context(), smooth(t), ref.New(), runtime.Options{}, sigma); err == nil || !strings.Contains(err.Error(), "sigma") {
			t.Errorf("deviation %g: wanted an error about sigma, got %v", sigma, err)
		}
	}
}

func TestGeneratorAllocs(t *testing.T) {
	g := boundGenerator(t, smooth(t), onnxRuntime(t), runtime.Options{Threads: 1, NoSpin: true})
	const n = 4
	z, target, mask := normals(1, n*3), normals(2, n*72), partial(n*72)
	x, u, d := make([]float32, n*72), make([]float32, n), make([]float32, n*3)
	w, e := normals(3, n), make([]float32, n)
	field := g.Posterior(target, mask)
	for what, f := range map[string]func() error{
		"Forward":   func() error { return g.Forward(context.Background(), z, x) },
		"Posterior": func() error { return field.EnergyGrad(z, u, d) },
		"Learn":     func() error { return g.Learn(context.Background(), z, target, mask, w, e) },
	} {
		if allocs := testing.AllocsPerRun(20, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}); allocs > 8 {
			t.Errorf("%s: %g allocations per call", what, allocs)
		}
	}
	if _, ok := g.Reports()["posterior of codes, batch 4"]; !ok || len(g.Reports()) != 3 {
		t.Errorf("wanted a report of each of three programs, got %v", g.Reports())
	}
}

// TestGeneratorLearns: descent on the errors with fixed codes finds the weights
// that made the examples.
func TestGeneratorLearns(t *testing.T) {
	s, err := generator.ByName("linear")
	if err != nil {
		t.Fatal(err)
	}
	m, err := generator.Build(s, []int{4}, 1)
	if err != nil {
		t.Fatal(err)
	}
	const n = 50
	g := boundGenerator(t, m, ref.New(), runtime.Options{})
	z, x, mask, w, e := normals(1, n*3), make([]float32, n*4), make([]float32, n*4), make([]float32, n), make([]float32, n)
	for i := range mask {
		mask[i] = 1
	}
	for i := range w {
		w[i] = 1.0 / n
	}
	if err := g.Forward(t.Context(), z, x); err != nil {
		t.Fatal(err)
	}
	truth := map[string][]float32{}
	for _, p := range g.Params() {
		truth[p.Name] = slices.Clone(p.W)
		copy(p.W, normals(7, len(p.W)))
	}
	for range 200 {
		if err := g.Learn(t.Context(), z, x, mask, w, e); err != nil {
			t.Fatal(err)
		}
		if err := optim.Step(optim.Scale(-0.2), g.Params()); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range g.Params() {
		for i, v := range p.W {
			near(t, p.Name, float64(v), float64(truth[p.Name][i]), 1e-4)
		}
	}
}

// TestFrozenGenerator: constants in the place of inputs change no field, and what
// cannot learn says so.
func TestFrozenGenerator(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e runtime.Engine) {
		m := smooth(t)
		g := boundGenerator(t, m, e, runtime.Options{})
		f, err := FreezeGenerator(t.Context(), m, e, runtime.Options{}, residual)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		const n = 5
		z, target := normals(1, n*3), normals(2, n*72)
		of := func(g *Generator) []float32 {
			out := make([]float32, n+len(z))
			if err := g.Posterior(target, partial(len(target))).EnergyGrad(z, out[:n], out[n:]); err != nil {
				t.Fatal(err)
			}
			return out
		}
		want := of(g)
		for i, v := range of(f) {
			if math.Abs(float64(v-want[i])) > 1e-3*(1+math.Abs(float64(want[i]))) {
				t.Fatalf("value %d: %g frozen, %g as it learns", i, v, want[i])
			}
		}
		w := make([]float32, n)
		if err := f.Learn(t.Context(), z, target, target, w, w); err == nil || !strings.Contains(err.Error(), "frozen") {
			t.Errorf("learning: %v", err)
		}
	})
}
