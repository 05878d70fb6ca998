package shortrun_test

import (
	"context"
	"math"
	"slices"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime/ref"
	"ebmrun/training/bind"
	"ebmrun/training/bind/bindtest"
	"ebmrun/training/sampler"
	"ebmrun/training/shortrun"
)

// quadratic is U = Σ_j p_j·x_j²/2 − a_j·x_j: with step s every step is
// x ← (1 − s²p/2)·x + (s²/2)·a.
type quadratic struct{ p, a []float32 }

func (q quadratic) EnergyGrad(x, u, g []float32) error {
	clear(u)
	d := len(q.p)
	for i, v := range x {
		j := i % d
		u[i/d] += q.p[j]*v*v/2 - q.a[j]*v
		g[i] = q.p[j]*v - q.a[j]
	}
	return nil
}

func normals(seed uint64, n int) []float32 {
	x := make([]float32, n)
	sampler.Noise{Seed: seed}.Normals(x, []uint64{0}, 0)
	return x
}

const dim = 6

// net is a small network; the larger gain, the more it bends.
func net(t testing.TB, activation string, sigma, gain float64) *bind.Energy {
	t.Helper()
	spec := energy.Spec{Layers: []energy.Layer{{Filters: 20}, {Filters: 20}, {Filters: 1}}, Activation: activation}
	e := bindtest.On(t, ref.New(), bind.Options{})(energy.Build(spec, []int{dim}, sigma, 4))
	for _, p := range e.Params() {
		for i := range p.W {
			p.W[i] *= float32(gain)
		}
	}
	e.Refresh()
	return e
}

func apply(t testing.TB, g *shortrun.Generator, z []float32) []float32 {
	t.Helper()
	x, err := g.Map(t.Context(), z)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestMap: K steps in closed form; z stays; noise is off unless asked for, and
// then the same for every row.
func TestMap(t *testing.T) {
	g := &shortrun.Generator{Field: quadratic{[]float32{1, 2}, []float32{3, -1}}, Kernel: sampler.Langevin{Size: 0.5, Noise: 1}, K: 4, Dim: 2}
	z := []float32{1, -2, 0.5, 0}
	x := apply(t, g, z)
	if !slices.Equal(z, []float32{1, -2, 0.5, 0}) {
		t.Error("the starts have changed")
	}
	for i := range z {
		want := float64(z[i])
		for range g.K {
			want = (1-0.125*[]float64{1, 2}[i%2])*want + 0.125*[]float64{3, -1}[i%2]
		}
		if math.Abs(float64(x[i])-want) > 1e-6 {
			t.Errorf("value %d: wanted %g, got %g", i, want, x[i])
		}
	}
	g.Noise = &sampler.Noise{Seed: 1}
	a := apply(t, g, []float32{1, 1, 1, 1})
	if a[0] != a[2] || a[1] != a[3] {
		t.Errorf("two rows see different noise: %v", a)
	}
	if b := apply(t, g, []float32{1, 1}); b[0] != a[0] || b[1] != a[1] {
		t.Errorf("the noise depends on the number of rows: %v, %v", a, b)
	}
	g.Noise = &sampler.Noise{Seed: 2}
	if b := apply(t, g, []float32{1, 1}); b[0] == a[0] {
		t.Error("another seed gives the same noise")
	}
}

// TestInterpolate: the ends are M(z1) and M(z2) exactly, the angles are equal,
// and the starts keep the variance of Gaussian noise.
func TestInterpolate(t *testing.T) {
	g := &shortrun.Generator{Field: net(t, "swish", 1, 1), Kernel: sampler.Langevin{Size: 0.3}, K: 5, Dim: dim}
	z1, z2 := normals(1, dim), normals(2, dim)
	x, err := g.Interpolate(t.Context(), z1, z2, 11, [2]float32{})
	if err != nil {
		t.Fatal(err)
	}
	if len(x) != 11*dim {
		t.Fatalf("wanted 11 frames, got %d values", len(x))
	}
	if !slices.Equal(x[:dim], apply(t, g, z1)) || !slices.Equal(x[10*dim:], apply(t, g, z2)) {
		t.Error("the ends are not M(z1) and M(z2)")
	}
	const many = 20000
	u, v := normals(3, many), normals(4, many)
	z, err := shortrun.Blend(u, v, 5, [2]float32{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		frame := z[i*many : (i+1)*many]
		var square, along float64
		for j, a := range frame {
			square += float64(a) * float64(a) / many
			along += float64(a) * float64(u[j]) / many
		}
		if math.Abs(square-1) > 0.04 {
			t.Errorf("start %d: variance %g", i, square)
		}
		if want := math.Cos(math.Pi / 8 * float64(i)); math.Abs(along-want) > 0.04 {
			t.Errorf("start %d: cosine with the first %g, wanted %g", i, along, want)
		}
	}
	if z, err = shortrun.Blend([]float32{1, -1}, []float32{1, -1}, 3, [2]float32{-1, 1}); err != nil || !slices.Equal(z, []float32{1, -1, 1, -1, 1, -1}) {
		t.Errorf("held starts: %v, %v", z, err)
	}
}

// numeric is the slope of ‖x − M(z)‖² by differences.
func numeric(t testing.TB, g *shortrun.Generator, z, x []float32) []float32 {
	t.Helper()
	const h = 1e-2
	loss := func(z []float32) (sum float64) {
		for i, y := range apply(t, g, z) {
			sum += (float64(y) - float64(x[i])) * (float64(y) - float64(x[i]))
		}
		return sum
	}
	out := make([]float32, len(z))
	for i := range z {
		w := slices.Clone(z)
		w[i] = z[i] + h
		up := loss(w)
		w[i] = z[i] - h
		out[i] = float32((up - loss(w)) / (2 * h))
	}
	return out
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

// TestSlope compares the pull-back with differences: with the curvature of a
// swish network, with clip and clamp, with fixed noise, and without curvature
// for a network that is linear in pieces.
func TestSlope(t *testing.T) {
	z, x := normals(5, 3*dim), normals(6, 3*dim)
	swish, leaky := net(t, "swish", 1, 2), net(t, "leaky", 1, 2)
	kernel := sampler.Langevin{Size: 0.7, Noise: 0.3}
	for name, c := range map[string]struct {
		g            shortrun.Generator
		least, ratio float64 // cosine, and how far the ratio of lengths may be from 1
	}{
		"curvature":       {shortrun.Generator{Field: swish, Kernel: kernel, K: 3}, 0.99999, 1e-3},
		"curvature, long": {shortrun.Generator{Field: swish, Kernel: kernel, K: 10}, 0.99999, 1e-3},
		"noise":           {shortrun.Generator{Field: swish, Kernel: kernel, K: 3, Noise: &sampler.Noise{Seed: 8}}, 0.99999, 1e-3},
		"clip and clamp": {shortrun.Generator{Field: swish, K: 3,
			Kernel: sampler.Langevin{Size: 0.7, GradClip: 0.9, ClampMin: -1.3, ClampMax: 1.3}}, 0.999, 0.01},
		"leaky": {shortrun.Generator{Field: leaky, Kernel: sampler.Langevin{Size: 0.05}, K: 3, Sigma: 1, Flat: true}, 0.95, 0.05},
	} {
		t.Run(name, func(t *testing.T) {
			g := c.g
			g.Dim = dim
			loss, slope, err := g.Slope(t.Context(), z, x)
			if err != nil {
				t.Fatal(err)
			}
			for row := range 3 {
				rows := func(v []float32) []float32 { return v[row*dim : (row+1)*dim] }
				want := numeric(t, &g, rows(z), rows(x))
				if got := cosine(rows(slope), want); !(got >= c.least) {
					t.Errorf("row %d: cosine %.4f, wanted %g; slope %.3f, differences %.3f", row, got, c.least, rows(slope), want)
				}
				if ratio := norm(rows(slope)) / norm(want); math.Abs(ratio-1) > c.ratio {
					t.Errorf("row %d: the slope is %.4f times as long as it should be", row, ratio)
				}
				sum := 0.0
				for j, y := range apply(t, &g, rows(z)) {
					sum += math.Pow(float64(y-rows(x)[j]), 2)
				}
				if math.Abs(loss[row]-sum) > 1e-4*sum {
					t.Errorf("row %d: loss %g, wanted %g", row, loss[row], sum)
				}
			}
		})
	}
	// That the curvature matters here: without it the slope is another.
	flat := shortrun.Generator{Field: swish, Kernel: kernel, K: 10, Dim: dim, Flat: true, Sigma: 1}
	_, slope, err := flat.Slope(t.Context(), z[:dim], x[:dim])
	if err != nil {
		t.Fatal(err)
	}
	want := numeric(t, &flat, z[:dim], x[:dim])
	if ratio := norm(slope) / norm(want); cosine(slope, want) > 0.99 && math.Abs(ratio-1) < 0.05 {
		t.Errorf("without curvature the cosine is %g and the ratio of lengths %g", cosine(slope, want), ratio)
	}
}

func norm(v []float32) float64 {
	sum := 0.0
	for _, a := range v {
		sum += float64(a) * float64(a)
	}
	return math.Sqrt(sum)
}

// TestReference: with a linear network the reference is all the curvature there
// is, M is affine, and the start can be written down.
func TestReference(t *testing.T) {
	const sigma, size, k = 0.8, 0.5, 6
	p := float32(1 / (sigma * sigma))
	g := &shortrun.Generator{Field: quadratic{[]float32{p, p}, []float32{1, -2}}, Kernel: sampler.Langevin{Size: size}, K: k, Dim: 2, Sigma: sigma}
	x := []float32{0.3, 0.7, -1, 2}
	r, err := g.Reconstruct(t.Context(), x, make([]float32, 4), 60, 3)
	if err != nil {
		t.Fatal(err)
	}
	shrink := 1 - size*size/2*float64(p)
	for i := range x {
		end := float64([]float32{1, -2}[i%2]) / float64(p) // where all starts end up
		want := end + (float64(x[i])-end)/math.Pow(shrink, k)
		if math.Abs(float64(r.Z[i])-want) > 1e-3*(1+math.Abs(want)) {
			t.Errorf("start %d: wanted %g, got %g", i, want, r.Z[i])
		}
		if math.Abs(float64(r.X[i]-x[i])) > 1e-4 {
			t.Errorf("value %d: wanted %g, got %g", i, x[i], r.X[i])
		}
	}
}

// TestReconstruct: points that the generator can make are found again, to less
// than 15 % of the first error, and the best start on the way is kept.
func TestReconstruct(t *testing.T) {
	g := &shortrun.Generator{Field: net(t, "swish", 1, 2), Kernel: sampler.Langevin{Size: 0.3}, K: 8, Dim: dim}
	x := apply(t, g, normals(11, 5*dim))
	z := normals(12, 5*dim)
	before := slices.Clone(z)
	r, err := g.Reconstruct(t.Context(), x, z, 60, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(z, before) {
		t.Error("the starts have changed")
	}
	if len(r.Curve) != 61 || !(r.Curve[60] <= 0.15*r.Curve[0]) {
		t.Errorf("%d errors, %g to %g", len(r.Curve), r.Curve[0], r.Curve[len(r.Curve)-1])
	}
	wild, err := g.Reconstruct(t.Context(), x, z, 5, 40) // leaps too far
	if err != nil {
		t.Fatal(err)
	}
	mean := 0.0
	for row := range 5 {
		sum := 0.0
		for j := range dim {
			sum += math.Pow(float64(wild.X[row*dim+j]-x[row*dim+j]), 2) / dim
		}
		if math.Abs(sum-wild.Error[row]) > 1e-5*(1+sum) {
			t.Errorf("row %d: error %g, wanted %g", row, wild.Error[row], sum)
		}
		mean += sum / 5
	}
	if last := wild.Curve[5]; !(mean <= slices.Min(wild.Curve)*1.0001) || !(last > mean) {
		t.Errorf("best mean error %g of %v", mean, wild.Curve)
	}
}

func TestErrors(t *testing.T) {
	good := shortrun.Generator{Field: quadratic{[]float32{1, 1}, []float32{0, 0}}, Kernel: sampler.Langevin{Size: 0.1}, K: 2, Dim: 2}
	z := []float32{1, 2}
	for what, change := range map[string]func(g *shortrun.Generator){
		"no steps":   func(g *shortrun.Generator) { g.K = 0 },
		"size":       func(g *shortrun.Generator) { g.Dim = 3 },
		"no size":    func(g *shortrun.Generator) { g.Dim = 0 },
		"projection": func(g *shortrun.Generator) { g.Kernel.Project = func([]float32) {} },
		"step size":  func(g *shortrun.Generator) { g.Kernel.Size = 0 },
	} {
		g := good
		change(&g)
		if _, err := g.Map(t.Context(), z); err == nil {
			t.Errorf("%s: mapped", what)
		}
		if _, err := g.Reconstruct(t.Context(), z, z, 1, 0.1); err == nil {
			t.Errorf("%s: reconstructed", what)
		}
	}
	if _, err := good.Map(t.Context(), nil); err == nil {
		t.Error("no starts: mapped")
	}
	if _, _, err := good.Slope(t.Context(), z, z[:1]); err == nil {
		t.Error("half an example: a slope")
	}
	if _, err := good.Interpolate(t.Context(), z, z, 1, [2]float32{}); err == nil {
		t.Error("one frame: interpolated")
	}
	if _, err := good.Interpolate(t.Context(), z, z[:1], 3, [2]float32{}); err == nil {
		t.Error("between two sizes: interpolated")
	}
	for _, step := range []float64{0, math.NaN()} {
		if _, err := good.Reconstruct(t.Context(), z, z, 1, step); err == nil {
			t.Errorf("step size %g: reconstructed", step)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := good.Slope(ctx, z, z); err == nil {
		t.Error("an ended context gives a slope")
	}
}
