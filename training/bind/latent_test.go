package bind

import (
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/encoder"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
)

// TestUnder: the posterior under a learned prior is the prior's energy plus the
// likelihood, in value and slope, also after the weights of either have changed.
func TestUnder(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e runtime.Engine) {
		const n, d, dim = 3, 3, 72
		g, prior := boundGenerator(t, smooth(t), e, runtime.Options{}), bound(t, mlp(t, "swish", d), e, Options{})
		z, target, mask := normals(1, n*d), normals(2, n*dim), partial(n*dim)
		u, grad := make([]float32, n), make([]float32, n*d)
		alone, slope := make([]float32, n), make([]float32, n*d)
		if err := g.Posterior(target, mask).EnergyGrad(z, alone, slope); err != nil {
			t.Fatal(err)
		}
		if err := g.Under(prior); err != nil {
			t.Fatal(err)
		}
		pu, pg := make([]float32, n), make([]float32, n*d)
		for range 3 {
			if err := prior.EnergyGrad(z, pu, pg); err != nil {
				t.Fatal(err)
			}
			if err := g.Posterior(target, mask).EnergyGrad(z, u, grad); err != nil {
				t.Fatal(err)
			}
			plain := boundGenerator(t, g.Model(), e, runtime.Options{})
			if err := plain.Posterior(target, mask).EnergyGrad(z, alone, slope); err != nil {
				t.Fatal(err)
			}
			for i := range u {
				code := z[i*d : (i+1)*d]
				near(t, "energy", float64(u[i]), float64(alone[i])-dot(code, code)/2+float64(pu[i]), 1e-5)
			}
			for k := range z {
				near(t, "∂U/∂z", float64(grad[k]), float64(slope[k]-z[k]+pg[k]), 1e-4)
			}
			prior.Params()[0].W[1] += 0.5
			g.Params()[0].W[2] += 0.5
			prior.Refresh()
		}
	})
	g := boundGenerator(t, smooth(t), ref.New(), runtime.Options{})
	if err := g.Under(bound(t, mlp(t, "swish", 4), ref.New(), Options{})); err == nil || !strings.Contains(err.Error(), "[4]") || !strings.Contains(err.Error(), "3") {
		t.Errorf("wanted an error that names both sizes, got %v", err)
	}
	frozen, err := Freeze(t.Context(), mlp(t, "swish", 3), ref.New(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Under(frozen); err == nil || !strings.Contains(err.Error(), "frozen") {
		t.Errorf("a frozen prior: %v", err)
	}
}

// TestPriorGelu: energies with GELU have slopes in the joined graph.
func TestPriorGelu(t *testing.T) {
	m := model(t, energy.Spec{Layers: []energy.Layer{{Filters: 5}, {Filters: 1}}, Activation: "gelu"}, 3)
	if err := boundGenerator(t, smooth(t), ref.New(), runtime.Options{}).Under(bound(t, m, ref.New(), Options{})); err != nil {
		t.Fatal(err)
	}
}

func boundAutoencoder(t testing.TB, e runtime.Engine, o runtime.Options) *Autoencoder {
	t.Helper()
	m, err := encoder.Build(encoder.Spec{Layers: []encoder.Layer{{Filters: 4, Kernel: 3, Pad: 1}, {Filters: 3, Kernel: 4, Stride: 2, Pad: 1}}, Activation: "swish"}, []int{2, 6, 6}, 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAutoencoder(t.Context(), m, smooth(t), e, o, residual)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// TestAutoencoder: errors and divergences are those written out from what Encode
// and Forward give, and the slope of every weight of both networks is the
// difference of their sum.
func TestAutoencoder(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e runtime.Engine) {
		a := boundAutoencoder(t, e, runtime.Options{Threads: 2})
		const n, d, dim, h, beta = 3, 3, 72, 1e-2, 0.7
		x, noise, w := normals(2, n*dim), normals(3, n*d), normals(4, n)
		mean, logvar, z, y := make([]float32, n*d), make([]float32, n*d), make([]float32, n*d), make([]float32, n*dim)
		written := func() (errs, kls []float64) {
			if err := a.Encode(t.Context(), x, mean, logvar); err != nil {
				t.Fatal(err)
			}
			kls, errs = make([]float64, n), make([]float64, n)
			for k := range z {
				m, v := float64(mean[k]), float64(logvar[k])
				z[k] = float32(m + math.Exp(v/2)*float64(noise[k]))
				kls[k/d] += (m*m + math.Exp(v) - 1 - v) / 2
			}
			if err := a.Forward(t.Context(), z, y); err != nil {
				t.Fatal(err)
			}
			for k := range y {
				r := float64(x[k] - y[k])
				errs[k/dim] += r * r
			}
			return errs, kls
		}
		errs, kl := make([]float32, n), make([]float32, n)
		if err := a.LearnBound(t.Context(), x, noise, w, beta, errs, kl); err != nil {
			t.Fatal(err)
		}
		we, wk := written()
		for i := range n {
			near(t, "error", float64(errs[i]), we[i], 1e-5)
			near(t, "divergence", float64(kl[i]), wk[i], 1e-5)
		}
		if want := len(a.Generator.Params()) + 8; len(a.Params()) != want {
			t.Fatalf("wanted %d parameters, got %d", want, len(a.Params()))
		}
		for _, p := range a.Params() {
			v, old := normals(6, len(p.W)), slices.Clone(p.W)
			at := func(h float64) (sum float64) {
				for i := range p.W {
					p.W[i] = old[i] + float32(h)*v[i]
				}
				we, wk := written()
				for i := range n {
					sum += float64(w[i]) * (we[i]/(2*residual*residual) + beta*wk[i])
				}
				return sum
			}
			want, got := dot(p.G, v), (at(h)-at(-h))/(2*h)
			at(0)
			if math.Abs(got-want) > 5e-3*(1+math.Abs(want)) || want == 0 {
				t.Errorf("%s: slope %g, central difference %g", p.Name, want, got)
			}
		}
		copy(a.Params()[0].W, normals(9, 3))
		if again, _ := written(); slices.Equal(again, we) {
			t.Error("the encoder does not read its present weights")
		}
		m := a.Encoder()
		other, err := NewAutoencoder(t.Context(), m, a.Model(), e, runtime.Options{}, residual)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		mean2, logvar2 := make([]float32, n*d), make([]float32, n*d)
		if err := other.Encode(t.Context(), x, mean2, logvar2); err != nil || !slices.Equal(mean, mean2) || !slices.Equal(logvar, logvar2) {
			t.Errorf("the exported encoder gives other codes (%v)", err)
		}
		if len(a.Reports()) < 3 {
			t.Errorf("reports of %d programs", len(a.Reports()))
		}
	})
}

func TestAutoencoderSizes(t *testing.T) {
	a := boundAutoencoder(t, ref.New(), runtime.Options{})
	f := func(n int) []float32 { return make([]float32, n) }
	const z, x = 6, 144 // of 2 examples
	for what, err := range map[string]error{
		"encode x":      a.Encode(t.Context(), f(x+1), f(z), f(z)),
		"encode mean":   a.Encode(t.Context(), f(x), f(z+1), f(z)),
		"encode logvar": a.Encode(t.Context(), f(x), f(z), f(z-3)),
		"bound x":       a.LearnBound(t.Context(), f(x-1), f(z), f(2), 1, f(2), f(2)),
		"bound noise":   a.LearnBound(t.Context(), f(x), f(z-1), f(2), 1, f(2), f(2)),
		"bound error":   a.LearnBound(t.Context(), f(x), f(z), f(2), 1, f(3), f(2)),
		"bound nothing": a.LearnBound(t.Context(), nil, nil, nil, 1, nil, nil),
	} {
		if err == nil {
			t.Errorf("%s: a wrong size was accepted", what)
		}
	}
	g, err := generator.Build(generator.Spec{Codes: 2, Activation: "linear", Layers: []generator.Layer{{}}}, []int{2}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewAutoencoder(t.Context(), a.Encoder(), g, ref.New(), runtime.Options{}, residual); err == nil || !strings.Contains(err.Error(), "2 codes") {
		t.Errorf("networks that do not fit: %v", err)
	}
}
