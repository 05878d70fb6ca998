package bind_test

import (
	"math"
	"slices"
	"testing"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/conditional"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/optim"
)

// wave is some values between −1 and 1.
func wave(n int, phase float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(math.Sin(phase + 1.7*float64(i)))
	}
	return x
}

// alongWeights is a difference of what f gives when the weights move along a wave, and
// the product of their gradients with it.
func alongWeights(t *testing.T, params []optim.Param, refresh func(), f func() float64) (numeric, exact float64) {
	t.Helper()
	const h = 2e-4
	move := func(h float32) {
		for _, p := range params {
			for i, d := range wave(len(p.W), 0.3) {
				p.W[i] += h * d
			}
		}
		refresh()
	}
	for _, p := range params {
		for i, d := range wave(len(p.W), 0.3) {
			exact += float64(d) * float64(p.G[i])
		}
	}
	move(h)
	numeric = f()
	move(-2 * h)
	numeric -= f()
	move(h)
	return numeric / (2 * h), exact
}

// TestConditional: slopes of energies, of codes and of weights under conditions are
// those that differences show, conditions matter, and rows do not mix.
func TestConditional(t *testing.T) {
	const n, side = 2, 8
	o := runtime.Options{Threads: 1, NoSpin: true}
	for what, given := range map[string][]int{"picture": {2, side, side}, "class": {3}} {
		dims := []int{1, side, side}
		em, err := conditional.BuildEnergy(energy.Spec{Layers: []energy.Layer{{Filters: 3, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 4}}, Activation: "swish"}, dims, given, 0.7, 1)
		if err != nil {
			t.Fatal(what, err)
		}
		gm, err := conditional.Build(conditional.Spec{Codes: 2, Filters: []int{2, 3}, Blocks: 1, Skip: true, Activation: "swish", Norm: "instance"}, dims, given, 1)
		if err != nil {
			t.Fatal(what, err)
		}
		ce, err := bind.NewConditional(t.Context(), em, ref.New(), bind.Options{Runtime: o})
		if err != nil {
			t.Fatal(what, err)
		}
		cg, err := bind.NewConditionalGenerator(t.Context(), gm, ref.New(), o, 0.3)
		if err != nil {
			t.Fatal(what, err)
		}
		size := graphs.Size(dims)
		c, x, z := wave(n*graphs.Size(given), 2), wave(n*size, 0), wave(n*2, 1)
		e, g := ce.Given(c), cg.Given(c)
		near := func(name string, numeric, exact float64) {
			t.Helper()
			if math.Abs(numeric-exact) > 0.01*(math.Abs(exact)+0.05) {
				t.Errorf("%s: %s: differences show %g, got %g", what, name, numeric, exact)
			}
		}

		// ∂U/∂x along a wave, row by row
		u, slope := make([]float32, n), make([]float32, n*size)
		at := func(h float32) []float32 {
			y := slices.Clone(x)
			for i, d := range wave(len(y), 4) {
				y[i] += h * d
			}
			out := make([]float32, n)
			if err := e.EnergyGrad(y, out, make([]float32, len(y))); err != nil {
				t.Fatal(what, err)
			}
			return out
		}
		if err := e.EnergyGrad(x, u, slope); err != nil {
			t.Fatal(what, err)
		}
		hi, lo := at(1e-2), at(-1e-2)
		for i := range n {
			exact := 0.0
			for j, d := range wave(n*size, 4)[i*size : (i+1)*size] {
				exact += float64(d) * float64(slope[i*size+j])
			}
			near("∂U/∂x", float64(hi[i]-lo[i])/2e-2, exact)
		}

		// ∂²U/∂x²·v, under the conditions
		v, hv := wave(n*size, 4), make([]float32, n*size)
		if err := e.(training.Curver).HessianVector(x, v, hv); err != nil {
			t.Fatal(what, err)
		}
		up, down := make([]float32, n*size), make([]float32, n*size)
		for h, g := range map[float32][]float32{1e-2: up, -1e-2: down} {
			y := slices.Clone(x)
			for i, d := range v {
				y[i] += h * d
			}
			if err := e.EnergyGrad(y, u, g); err != nil {
				t.Fatal(what, err)
			}
		}
		for i := range n {
			numeric, exact := 0.0, 0.0
			for j, d := range wave(n*size, 5)[i*size : (i+1)*size] {
				numeric += float64(d) * float64(up[i*size+j]-down[i*size+j]) / 2e-2
				exact += float64(d) * float64(hv[i*size+j])
			}
			near("∂²U/∂x²·v", numeric, exact)
		}
		if err := e.EnergyGrad(x, u, slope); err != nil {
			t.Fatal(what, err)
		}

		// ∂Σ w·f/∂θ
		w, score := []float32{0.7, -1.1}, make([]float32, n)
		learn := func() float64 {
			if err := e.Learn(t.Context(), x, w, 0, score); err != nil {
				t.Fatal(what, err)
			}
			return float64(w[0]*score[0] + w[1]*score[1])
		}
		learn()
		if training.MSE(score, u) == 0 {
			t.Errorf("%s: scores are energies: the reference density is missing", what)
		}
		grads := slices.Clone(e.Params())
		for i := range grads {
			grads[i].G = slices.Clone(grads[i].G)
		}
		numeric, exact := alongWeights(t, grads, e.Refresh, learn)
		near("∂f/∂θ", numeric, exact)

		// ∂(−log p)/∂z and ∂Σ w·‖target − g‖²/∂α
		mask, target := training.Ones(n*size), wave(n*size, 5)
		field, dz := g.Posterior(target, mask), make([]float32, len(z))
		if err := field.EnergyGrad(z, u, dz); err != nil {
			t.Fatal(what, err)
		}
		moved := func(h float32) float64 {
			y, out := slices.Clone(z), make([]float32, n)
			for i, d := range wave(len(z), 6) {
				y[i] += h * d
			}
			if err := field.EnergyGrad(y, out, make([]float32, len(z))); err != nil {
				t.Fatal(what, err)
			}
			return float64(out[0] + out[1])
		}
		exact = 0
		for i, d := range wave(len(z), 6) {
			exact += float64(d) * float64(dz[i])
		}
		near("∂U/∂z", (moved(1e-2)-moved(-1e-2))/2e-2, exact)
		errs := make([]float32, n)
		fit := func() float64 {
			if err := g.Learn(t.Context(), z, target, mask, w, errs); err != nil {
				t.Fatal(what, err)
			}
			return float64(w[0]*errs[0] + w[1]*errs[1])
		}
		fit()
		y := make([]float32, n*size)
		if err := g.Forward(t.Context(), z, y); err != nil {
			t.Fatal(what, err)
		}
		near("error", training.MSE(y[:size], target[:size])*float64(size), float64(errs[0]))
		grads = slices.Clone(g.Params())
		for i := range grads {
			grads[i].G = slices.Clone(grads[i].G)
		}
		numeric, exact = alongWeights(t, grads, func() {}, fit)
		near("∂e/∂α", numeric, exact)

		// the second condition does not touch the first row
		if err := g.Forward(t.Context(), z, y); err != nil { // weights came back but for rounding
			t.Fatal(what, err)
		}
		was := slices.Clone(y[:size])
		for i := len(c) / 2; i < len(c); i++ {
			c[i] = -c[i]
		}
		if err := g.Forward(t.Context(), z, y); err != nil {
			t.Fatal(what, err)
		}
		if !slices.Equal(was, y[:size]) {
			t.Errorf("%s: another row's condition changed this one", what)
		}
		if err := ce.Given(c[1:]).EnergyGrad(x, u, slope); err == nil {
			t.Errorf("%s: conditions of a wrong size were taken", what)
		}
		if err := ce.Close(); err != nil {
			t.Error(err)
		}
		if err := cg.Close(); err != nil {
			t.Error(err)
		}
	}
}
