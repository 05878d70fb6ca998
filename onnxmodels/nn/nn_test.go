package nn_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/nn"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ref"
)

func TestInits(t *testing.T) {
	const in, out, n = 100, 50, 20000
	for _, c := range []struct {
		name      string
		sd, bound float64 // bound 0: none
	}{
		{"", 0.1 / math.Sqrt(3), 0.1},
		{"kaiming", 0.1 / math.Sqrt(3), 0.1},
		{"xavier", math.Sqrt(2.0 / (in + out)), math.Sqrt(6.0 / (in + out))},
		{"normal:0.02", 0.02, 0},
	} {
		init, err := nn.InitByName(c.name)
		if err != nil {
			t.Fatal(err)
		}
		w := make([]float32, n)
		init(rand.New(rand.NewPCG(1, 2)), w, in, out)
		var mean, square, most float64
		for _, v := range w {
			mean += float64(v) / n
			square += float64(v) * float64(v) / n
			most = max(most, math.Abs(float64(v)))
		}
		if sd := math.Sqrt(square); math.Abs(sd/c.sd-1) > 0.03 || math.Abs(mean) > 0.03*c.sd {
			t.Errorf("%q: wanted mean 0 and deviation %g, got %g and %g", c.name, c.sd, mean, sd)
		}
		if c.bound > 0 && (most > c.bound || most < 0.99*c.bound) {
			t.Errorf("%q: wanted numbers up to %g, got %g", c.name, c.bound, most)
		}
	}
	for _, bad := range []string{"he", "normal:", "normal:-1", "normal:0"} {
		if _, err := nn.InitByName(bad); err == nil {
			t.Errorf("initialisation %q was accepted", bad)
		}
	}
}

func TestActivations(t *testing.T) {
	leaky := func(a float64) func(x float64) float64 {
		return func(x float64) float64 { return max(x, 0) + a*min(x, 0) }
	}
	want := map[string]func(x float64) float64{
		"relu": leaky(0), "leaky": leaky(0.2), "leaky.01": leaky(0.01), "leaky.05": leaky(0.05), "linear": leaky(1),
		"swish":    func(x float64) float64 { return x / (1 + math.Exp(-x)) },
		"softplus": func(x float64) float64 { return math.Log1p(math.Exp(x)) },
		"gelu":     func(x float64) float64 { return x * (1 + math.Erf(x/math.Sqrt2)) / 2 },
		"elu": func(x float64) float64 {
			if x < 0 {
				return math.Expm1(x)
			}
			return x
		},
		"tanh": math.Tanh,
	}
	in := []float32{-3, -1, -0.1, 0, 0.1, 1, 3}
	for name := range nn.Activations {
		f := want[name]
		if f == nil {
			t.Errorf("activation %s is not in the table of this test", name)
			continue
		}
		out := enginetest.Outputs(t, ref.New(), enginetest.Build(t, func(b *graphs.Builder) {
			x := b.Input("x", graphs.Float32, graphs.MakeShape(len(in)))
			b.Output("y", b.Identity((&nn.Net{Builder: b}).Activate(name, x)))
		}), graphs.Of(in, len(in)))
		values := make([]float64, len(in))
		for i, x := range in {
			values[i] = f(float64(x))
		}
		enginetest.Close(t, name, out[0], 1e-6, values...)
	}
}

// TestDense: x·W + b with W [in, out], and Flatten in row-major order.
func TestDense(t *testing.T) {
	count := func(_ *rand.Rand, w []float32, _, _ int) {
		for i := range w {
			w[i] = float32(i)
		}
	}
	out := enginetest.Outputs(t, ref.New(), enginetest.Build(t, func(b *graphs.Builder) {
		n := &nn.Net{Builder: b, Weights: count, Biases: count}
		x := b.Input("x", graphs.Float32, graphs.MakeShape(1, 2, 1, 1))
		b.Output("y", n.Dense("d", n.Flatten(x), 3))
	}), graphs.Of([]float32{10, 1}, 1, 2, 1, 1))
	enginetest.Close(t, "y", out[0], 1e-6, 3, 15, 27)
}
