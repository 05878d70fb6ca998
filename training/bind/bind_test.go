package bind

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"ebmrun/graphs"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

const sigma = 0.8

// linear is f(x) = w·x + b with a Gaussian reference.
func linear(t testing.TB, dim int) *onnxmodels.Model {
	t.Helper()
	return model(t, energy.Spec{Layers: []energy.Layer{{Filters: 1}}, Activation: "linear"}, dim)
}

func mlp(t testing.TB, activation string, dim int) *onnxmodels.Model {
	t.Helper()
	return model(t, energy.Spec{Layers: []energy.Layer{{Filters: 7}, {Filters: 5}, {Filters: 1}}, Activation: activation}, dim)
}

func model(t testing.TB, s energy.Spec, dims ...int) *onnxmodels.Model {
	t.Helper()
	m, err := energy.Build(s, dims, sigma, 2)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func bound(t testing.TB, m *onnxmodels.Model, e runtime.Engine, o Options) *Energy {
	t.Helper()
	b, err := New(context.Background(), m, e, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func onnxRuntime(t testing.TB) runtime.Engine {
	t.Helper()
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	return e
}

func normals(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol*(1+math.Abs(want))) {
		t.Errorf("%s: wanted %g, got %g", what, want, got)
	}
}

func dot(a, b []float32) (s float64) {
	for i := range a {
		s += float64(a[i]) * float64(b[i])
	}
	return s
}

// TestLinear: f = w·x + b, U = ‖x‖²/(2σ²) − f, and every slope, for three batch
// sizes, before and after the weights change.
func TestLinear(t *testing.T) {
	const dim = 3
	e := bound(t, linear(t, dim), ref.New(), Options{})
	p := e.Params()
	if len(p) != 2 || !slices.Equal(e.Dims(), []int{dim}) {
		t.Fatalf("wanted a weight and a bias for [%d], got %d parameters for %v", dim, len(p), e.Dims())
	}
	w, b := p[0], p[1]
	for round, n := range []int{4, 1, 4, 5} {
		x := normals(uint64(round), n*dim)
		u, g, f := make([]float32, n), make([]float32, n*dim), make([]float32, n)
		if err := e.EnergyGrad(x, u, g); err != nil {
			t.Fatal(err)
		}
		if err := e.Scores(x, make([]float32, n), f); err != nil {
			t.Fatal(err)
		}
		weight, score := normals(9, n), make([]float32, n)
		const l2 = 0.3
		if err := e.Learn(t.Context(), x, weight, l2, score); err != nil {
			t.Fatal(err)
		}
		slope, slopeB := make([]float64, dim), 0.0
		for i := range n {
			row := x[i*dim : (i+1)*dim]
			want := dot(row, w.W) + float64(b.W[0])
			near(t, "score", float64(f[i]), want, 1e-5)
			near(t, "score of Learn", float64(score[i]), want, 1e-5)
			near(t, "energy", float64(u[i]), dot(row, row)/(2*sigma*sigma)-want, 1e-5)
			pull := float64(weight[i]) + l2*want
			slopeB += pull
			for j := range dim {
				near(t, "∂U/∂x", float64(g[i*dim+j]), float64(row[j])/(sigma*sigma)-float64(w.W[j]), 1e-5)
				slope[j] += pull * float64(row[j])
			}
		}
		for j := range dim {
			near(t, "∂/∂w", float64(w.G[j]), slope[j], 1e-5)
		}
		near(t, "∂/∂b", float64(b.G[0]), slopeB, 1e-5)
		for j := range w.W {
			w.W[j] += 0.5 * float32(round+1)
		}
		e.Refresh()
	}
}

// objective is Σ w_i·f_i + (l2/2)·Σ f_i².
func objective(t *testing.T, e *Energy, x, w []float32, l2 float64) (sum float64) {
	t.Helper()
	f := make([]float32, len(w))
	if err := e.Scores(x, make([]float32, len(w)), f); err != nil {
		t.Fatal(err)
	}
	for i, v := range f {
		sum += float64(w[i])*float64(v) + l2/2*float64(v)*float64(v)
	}
	return sum
}

// TestLearn compares the parameter slopes with differences of the objective,
// with and without spectral normalisation, whose u and v stay as they are.
func TestLearn(t *testing.T) {
	for _, spectral := range []bool{false, true} {
		e := bound(t, mlp(t, "swish", 4), ref.New(), Options{Spectral: spectral})
		const n, l2, h = 6, 0.7, 1e-2
		x, w, score := normals(1, n*4), normals(2, n), make([]float32, n)
		if err := e.Learn(t.Context(), x, w, l2, score); err != nil {
			t.Fatal(err)
		}
		for _, p := range e.Params() {
			v := normals(3, len(p.W))
			want := dot(p.G, v)
			old := slices.Clone(p.W)
			at := func(h float64) float64 {
				for i := range p.W {
					p.W[i] = old[i] + float32(h)*v[i]
				}
				for i, s := range e.norms {
					if s != nil && e.params[i].Name == p.Name {
						// σ = uᵀWv moves with W
						s.sigma[0] = 0
						for r := range s.rows {
							for c := range s.cols {
								s.sigma[0] += s.u[r] * p.W[r*s.cols+c] * s.v[c]
							}
						}
						s.rescale(p.W)
					}
				}
				e.renew()
				return objective(t, e, x, w, l2)
			}
			got := (at(h) - at(-h)) / (2 * h)
			at(0)
			if math.Abs(got-want) > 2e-3*(1+math.Abs(want)) {
				t.Errorf("spectral %v, %s: slope %g, central difference %g", spectral, p.Name, want, got)
			}
		}
	}
}

// TestSpectral: what the programs see has the largest singular value 1, after
// the start and after updates, and a restored energy sees the same bits.
func TestSpectral(t *testing.T) {
	m := model(t, energy.Spec{Layers: []energy.Layer{{Filters: 6, Kernel: 3, Pad: 1}, {Filters: 9, Kernel: 3, Stride: 2}, {Filters: 1, Kernel: 2}}, Activation: "leaky"}, 2, 5, 5)
	e := bound(t, m, ref.New(), Options{Spectral: true})
	check := func(when string) {
		t.Helper()
		n := 0
		for i, p := range e.Params() {
			if e.norms[i] == nil {
				if len(e.weights[i].Dims) >= 2 {
					t.Errorf("%s: %s is not normalised", when, p.Name)
				}
				continue
			}
			n++
			rows := e.weights[i].Dims[0]
			a := mat.NewDense(rows, len(p.W)/rows, nil)
			for j, v := range e.weights[i].F32() {
				a.Set(j/(len(p.W)/rows), j%(len(p.W)/rows), float64(v))
			}
			var svd mat.SVD
			if !svd.Factorize(a, mat.SVDNone) {
				t.Fatal("no singular values")
			}
			if s := svd.Values(nil)[0]; math.Abs(s-1) > 0.01 {
				t.Errorf("%s: %s: largest singular value %g", when, p.Name, s)
			}
		}
		if n != 3 {
			t.Errorf("%s: %d weights are normalised, wanted 3", when, n)
		}
	}
	check("at the start")
	r := rand.New(rand.NewPCG(4, 4))
	for range 100 {
		for _, p := range e.Params() {
			for i := range p.W {
				p.W[i] += float32(r.NormFloat64() * 1e-3)
			}
		}
		e.Refresh()
	}
	check("after 100 updates")

	other := bound(t, m, ref.New(), Options{Spectral: true})
	for i, p := range other.Params() {
		copy(p.W, e.Params()[i].W)
	}
	if err := other.Restore(e.State()); err != nil {
		t.Fatal(err)
	}
	for i := range e.weights {
		if !slices.Equal(e.weights[i].F32(), other.weights[i].F32()) {
			t.Errorf("%s: restored to other weights", e.params[i].Name)
		}
	}
	if err := other.Restore(optim.State{}); err == nil {
		t.Error("an empty state was restored")
	}
}

// TestModel: the exported model holds the weights in use, or their average, and
// computes the same energies.
func TestModel(t *testing.T) {
	e := bound(t, mlp(t, "swish", 4), ref.New(), Options{Spectral: true})
	for _, p := range e.Params() {
		for i := range p.W {
			p.W[i] *= 1.5
		}
	}
	e.Refresh()
	m, err := e.Model(nil)
	if err != nil {
		t.Fatal(err)
	}
	frozen, err := Freeze(t.Context(), m, ref.New(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer frozen.Close()
	x := normals(1, 12)
	u, g, v, h := make([]float32, 3), make([]float32, 12), make([]float32, 3), make([]float32, 12)
	if err := e.EnergyGrad(x, u, g); err != nil {
		t.Fatal(err)
	}
	if err := frozen.EnergyGrad(x, v, h); err != nil {
		t.Fatal(err)
	}
	for i := range g {
		near(t, "slope of the export", float64(h[i]), float64(g[i]), 1e-5)
	}
	for i := range u {
		near(t, "energy of the export", float64(v[i]), float64(u[i]), 1e-5)
	}
	if err := frozen.Learn(t.Context(), x, make([]float32, 3), 0, make([]float32, 3)); err == nil {
		t.Error("a frozen energy learns")
	}

	plain := bound(t, mlp(t, "swish", 4), ref.New(), Options{})
	average := optim.NewEMA(0.5)
	for range 2 {
		if err := average.Update(plain.Params()); err != nil {
			t.Fatal(err)
		}
		plain.Params()[0].W[0] += 1
	}
	m, err = plain.Model(average)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "averaged weight", float64(passes.Weights(m.Graph)[0].Const.F32()[0]), float64(plain.Params()[0].W[0])-1.5, 1e-6)
}

// TestChain: a fused chain ends where the sampler ends, with clip and clamp,
// also after the weights have changed, and tells how it went.
func TestChain(t *testing.T) {
	for name, engine := range map[string]func(testing.TB) runtime.Engine{
		"ref": func(testing.TB) runtime.Engine { return ref.New() },
		"ort": onnxRuntime,
	} {
		t.Run(name, func(t *testing.T) {
			e := bound(t, mlp(t, "swish", 4), engine(t), Options{Spectral: true})
			frozen, err := Freeze(t.Context(), mlp(t, "swish", 4), engine(t), Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer frozen.Close()
			for _, e := range []*Energy{e, frozen} {
				for _, l := range []sampler.Langevin{
					{Size: 0.3, Noise: 1},
					{Size: 0.3, Noise: 1, GradClip: 0.5, ClampMin: -0.6, ClampMax: 0.6},
				} {
					fused := &sampler.Fused{Chain: e.Chain(l), K: 4}
					for range 2 {
						chainAgrees(t, e, l, fused)
						for _, p := range e.Params() {
							for i := range p.W {
								p.W[i] *= 1.2
							}
						}
						e.Refresh()
					}
				}
			}
		})
	}
}

func chainAgrees(t *testing.T, e *Energy, l sampler.Langevin, fused *sampler.Fused) {
	t.Helper()
	const n, dim, steps = 5, 4, 10 // 10 is no multiple of 4
	a, err := sampler.NewState(normals(1, n*dim), dim, sampler.Chains(3, n))
	if err != nil {
		t.Fatal(err)
	}
	b, c := a.Clone(), a.Clone()
	noise := sampler.Noise{Seed: 1}
	want, err := sampler.Run(t.Context(), noise, l, e, a, steps, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := fused.Run(t.Context(), noise, b, steps, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.X {
		near(t, "x", float64(b.X[i]), float64(a.X[i]), 1e-4)
	}
	for i := range a.U {
		near(t, "u", float64(b.U[i]), float64(a.U[i]), 1e-4)
	}
	// Call by call, for somebody who looks at each.
	byCall, err := fused.Run(t.Context(), noise, c, steps, func(int, sampler.Info) {})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(b.X, c.X) || !slices.Equal(b.U, c.U) || b.T != c.T || got != byCall {
		t.Errorf("several calls at once give %v, %+v and one after another %v, %+v", b.X, got, c.X, byCall)
	}
	// The chain knows the drift and the clamp share of a call's last step only.
	if !(got.Drift > want.Drift/2 && got.Drift < want.Drift*2) || (got.Clamped > 0) != (want.Clamped > 0) {
		t.Errorf("wanted about %+v, got %+v", want, got)
	}
}

// TestHessianVector compares with differences of the slope and with the closed
// form I/σ² of a linear network.
func TestHessianVector(t *testing.T) {
	for name, engine := range map[string]func(testing.TB) runtime.Engine{
		"ref": func(testing.TB) runtime.Engine { return ref.New() },
		"ort": onnxRuntime,
	} {
		t.Run(name, func(t *testing.T) {
			const n, dim, h = 3, 4, 1e-2
			x, v := normals(1, n*dim), normals(2, n*dim)
			hv := make([]float32, n*dim)
			for _, frozen := range []bool{false, true} {
				e := bound(t, mlp(t, "swish", dim), engine(t), Options{})
				if frozen {
					var err error
					if e, err = Freeze(t.Context(), mlp(t, "swish", dim), engine(t), Options{}); err != nil {
						t.Fatal(err)
					}
					defer e.Close()
				}
				for range 2 {
					if err := e.HessianVector(x, v, hv); err != nil {
						t.Fatal(err)
					}
					slope := func(h float32) []float32 {
						y, g := slices.Clone(x), make([]float32, n*dim)
						for i := range y {
							y[i] += h * v[i]
						}
						if err := e.EnergyGrad(y, make([]float32, n), g); err != nil {
							t.Fatal(err)
						}
						return g
					}
					up, down := slope(h), slope(-h)
					for i := range hv {
						near(t, "∂²U·v", float64(hv[i]), float64(up[i]-down[i])/(2*h), 1e-3)
					}
					for _, p := range e.Params() {
						for i := range p.W {
							p.W[i] *= 1.5
						}
					}
					e.Refresh()
				}
			}
			flat := bound(t, linear(t, dim), engine(t), Options{})
			if err := flat.HessianVector(x, v, hv); err != nil {
				t.Fatal(err)
			}
			for i := range hv {
				near(t, "curvature of the reference", float64(hv[i]), float64(v[i])/(sigma*sigma), 1e-5)
			}
		})
	}
}

// TestWithoutCurvature: with no reference a linear network has no curvature.
func TestWithoutCurvature(t *testing.T) {
	m, err := energy.Build(energy.Spec{Layers: []energy.Layer{{Filters: 1}}, Activation: "linear"}, []int{3}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	e := bound(t, m, ref.New(), Options{})
	hv := []float32{1, 1, 1}
	if err := e.HessianVector(normals(1, 3), normals(2, 3), hv); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(hv, make([]float32, 3)) {
		t.Errorf("wanted zeros, got %v", hv)
	}
}

// TestImported: a model from elsewhere may order its outputs otherwise, have
// more of them, and hold weights that the score does not depend on.
func TestImported(t *testing.T) {
	m, err := onnxmodels.Of(enginetest.Build(t, func(b *graphs.Builder) {
		x := b.Input("x", graphs.Float32, graphs.Shape{onnxmodels.Batch, graphs.D(2)})
		precision := b.Weight("precision", graphs.Of([]float32{3, 5}, 2))
		w := b.Weight("w", graphs.Of([]float32{1, 2}, 2))
		f := b.Sum(b.Mul(x, w), false, 1)
		u := b.Sub(b.Scale(b.Sum(b.Mul(b.Mul(x, x), precision), false, 1), 0.5), f)
		b.Output("twice", b.Scale(f, 2))
		b.Output("score", f)
		b.Output("energy", u)
	}))
	if err != nil {
		t.Fatal(err)
	}
	e := bound(t, m, ref.New(), Options{})
	x, u, g := []float32{1, 2}, make([]float32, 1), make([]float32, 2)
	if err := e.EnergyGrad(x, u, g); err != nil {
		t.Fatal(err)
	}
	near(t, "energy", float64(u[0]), 3.0/2+5*4.0/2-5, 1e-6)
	near(t, "slope", float64(g[0]), 2, 1e-6)
	near(t, "slope", float64(g[1]), 8, 1e-6)
	score := make([]float32, 1)
	if err := e.Learn(t.Context(), x, []float32{1}, 0, score); err != nil {
		t.Fatal(err)
	}
	near(t, "score", float64(score[0]), 5, 1e-6)
	for _, p := range e.Params() {
		want := map[string][]float32{"w": {1, 2}, "precision": {0, 0}}[p.Name]
		if !slices.Equal(p.G, want) {
			t.Errorf("slope of %s: wanted %v, got %v", p.Name, want, p.G)
		}
	}
}

func TestSizes(t *testing.T) {
	e := bound(t, linear(t, 3), ref.New(), Options{})
	f := func(n int) []float32 { return make([]float32, n) }
	for what, err := range map[string]error{
		"x":        e.EnergyGrad(f(5), f(2), f(6)),
		"slope":    e.EnergyGrad(f(6), f(2), f(5)),
		"no rows":  e.EnergyGrad(f(0), f(0), f(0)),
		"scores":   e.Scores(f(6), f(2), f(3)),
		"learn x":  e.Learn(t.Context(), f(5), f(2), 0, f(2)),
		"learn f":  e.Learn(t.Context(), f(6), f(2), 0, f(1)),
		"vector":   e.HessianVector(f(6), f(3), f(6)),
		"product":  e.HessianVector(f(6), f(6), f(3)),
		"products": e.HessianVector(f(5), f(5), f(5)),
	} {
		if err == nil {
			t.Errorf("%s: a wrong size was accepted", what)
		}
	}
	c := e.Chain(sampler.Langevin{Size: 0.1, Noise: 1})
	for what, noise := range map[string]int{"no noise": 0, "part of a step": 7} {
		if _, err := c.RunChain(t.Context(), f(6), f(2), f(noise)); err == nil {
			t.Errorf("chain with %s: accepted", what)
		}
	}
	if _, err := c.RunChain(t.Context(), f(5), f(2), f(5)); err == nil {
		t.Error("chain from a wrong start: accepted")
	}
}

func TestAllocs(t *testing.T) {
	e := bound(t, mlp(t, "swish", 4), onnxRuntime(t), Options{Spectral: true})
	const n = 8
	x, u, g := normals(1, n*4), make([]float32, n), make([]float32, n*4)
	w, score := normals(2, n), make([]float32, n)
	chain, noise := e.Chain(sampler.Langevin{Size: 0.1, Noise: 1}), normals(3, 2*n*4)
	for what, f := range map[string]func() error{
		"EnergyGrad": func() error { return e.EnergyGrad(x, u, g) },
		"Learn":      func() error { return e.Learn(context.Background(), x, w, 0, score) },
		"Chain":      func() error { _, err := chain.RunChain(context.Background(), x, u, noise); return err },
		"Refresh":    func() error { e.Refresh(); return nil },
	} {
		if allocs := testing.AllocsPerRun(20, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}); allocs > 8 {
			t.Errorf("%s: %g allocations per call", what, allocs)
		}
	}
}

func TestReports(t *testing.T) {
	e := bound(t, linear(t, 3), ref.New(), Options{})
	if err := e.EnergyGrad(normals(1, 6), make([]float32, 2), make([]float32, 6)); err != nil {
		t.Fatal(err)
	}
	r, ok := e.Reports()["energy gradient, batch 2"]
	if !ok || r.Provider != runtime.CPU || r.Calls != 1 {
		t.Errorf("wanted one call on the CPU, got %+v", e.Reports())
	}
}
