package training_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"ebmrun/training"
	"ebmrun/training/optim"
	"ebmrun/training/sampler"
)

// double is the generator g(z) = (2a, 2b, a+b) of codes (a, b), and the flow x = 2z of two
// values. calls are the numbers of examples that it was given at a time.
type double struct {
	calls []int
	p     []optim.Param
}

func (d *double) Codes() int                                     { return 2 }
func (d *double) Params() []optim.Param                          { return d.p }
func (d *double) Posterior(target, mask []float32) sampler.Field { return nil }

func (d *double) Forward(_ context.Context, z, x []float32) error {
	d.calls = append(d.calls, len(z)/2)
	for i := range len(z) / 2 {
		a, b := z[2*i], z[2*i+1]
		copy(x[3*i:], []float32{2 * a, 2 * b, a + b})
	}
	return nil
}

func (d *double) Learn(context.Context, []float32, []float32, []float32, []float32, []float32) error {
	return errors.New("not here")
}

// doubleFlow is x = 2z as a flow whose bound is the sum of x and noise.
type doubleFlow struct{ *double }

func (f doubleFlow) Level() float64                                                { return 0 }
func (f doubleFlow) Start(context.Context, []float32, []float32) error             { return nil }
func (f doubleFlow) Encode(context.Context, []float32, []float32, []float32) error { return nil }

func (f doubleFlow) Decode(_ context.Context, z, x []float32) error {
	f.calls = append(f.calls, len(z)/2)
	for i, v := range z {
		x[i] = 2 * v
	}
	return nil
}

func (f doubleFlow) Bound(_ context.Context, x, noise, bound []float32) error {
	for i := range bound {
		bound[i] = x[2*i] + x[2*i+1] + noise[2*i] + noise[2*i+1]
	}
	return nil
}

func (f doubleFlow) Learn(ctx context.Context, x, noise, w, bound []float32) error {
	f.p[0].G[0] = 0
	for i, v := range w {
		f.p[0].G[0] += v * x[2*i] * noise[2*i+1]
	}
	return f.Bound(ctx, x, noise, bound)
}

// TestFromCodes: more codes than a generator takes at a time come out in order.
func TestFromCodes(t *testing.T) {
	g := &double{}
	f := training.FromCodes{Generator: g, Dim: 3}
	z := training.Codes(5, 150, 2)
	x, err := f.Decode(t.Context(), z)
	if err != nil || !slices.Equal(g.calls, []int{64, 64, 22}) {
		t.Fatalf("%v, in blocks of %v", err, g.calls)
	}
	for i := range 150 {
		if a, b := z[2*i], z[2*i+1]; !slices.Equal(x[3*i:3*i+3], []float32{2 * a, 2 * b, a + b}) {
			t.Fatalf("code %d (%g, %g) gives %v", i, a, b, x[3*i:3*i+3])
		}
	}
	if drawn, err := f.Draw(t.Context(), 150, 5); err != nil || !slices.Equal(drawn, x) {
		t.Errorf("draws are not those of the seed's codes (%v)", err)
	}
	if _, err := f.Decode(t.Context(), z[:3]); err == nil || !strings.Contains(err.Error(), "2 values each, got 3") {
		t.Errorf("one code and a half: %v", err)
	}
	way, err := f.Interpolate(t.Context(), 5, 6, 4)
	if want, _ := f.Decode(t.Context(), slices.Concat(training.Codes(5, 1, 2), training.Codes(6, 1, 2))); err != nil || len(way) != 12 ||
		!slices.Equal(way[:3], want[:3]) || !slices.Equal(way[9:], want[3:]) {
		t.Errorf("the way between %v is %v (%v)", want, way, err)
	}
}

// TestBetween: ways between codes at right angles keep their length, in equal angles.
func TestBetween(t *testing.T) {
	z, err := training.Between([]float32{3, 0}, []float32{0, 3}, 4)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		sin, cos := math.Sincos(float64(i) * math.Pi / 6)
		if math.Abs(float64(z[2*i])-3*cos) > 1e-6 || math.Abs(float64(z[2*i+1])-3*sin) > 1e-6 {
			t.Errorf("frame %d is %v", i, z[2*i:2*i+2])
		}
	}
	if z, err := training.Between([]float32{1}, []float32{2}, 2); err != nil || !slices.Equal(z, []float32{1, 2}) {
		t.Errorf("two frames are %v (%v)", z, err)
	}
	for _, bad := range []struct {
		a, b []float32
		n    int
	}{{[]float32{1}, []float32{2}, 1}, {[]float32{1}, []float32{2, 3}, 3}} {
		if _, err := training.Between(bad.a, bad.b, bad.n); err == nil {
			t.Errorf("%d frames between %v and %v", bad.n, bad.a, bad.b)
		}
	}
}

// TestFlows: many examples go through a flow in blocks, in order; pieces add up.
func TestFlows(t *testing.T) {
	f := doubleFlow{&double{p: []optim.Param{{Name: "w", W: make([]float32, 1), G: make([]float32, 1)}}}}
	z := training.Codes(5, 150, 2)
	x, err := training.DrawFlow(t.Context(), f, z, 2, 0, 0)
	if err != nil || !slices.Equal(f.calls, []int{64, 64, 22}) {
		t.Fatalf("%v, in blocks of %v", err, f.calls)
	}
	held, err := training.DrawFlow(t.Context(), f, z, 2, -1, 1.5)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range z {
		if x[i] != 2*v || held[i] != max(-1, min(1.5, 2*v)) {
			t.Fatalf("code %g gives %g, held %g", v, x[i], held[i])
		}
	}
	noise := training.Codes(7, 150, 2)
	bound, err := training.BoundOf(t.Context(), f, x, 2, 7)
	if err != nil || len(bound) != 150 {
		t.Fatal(len(bound), err)
	}
	for i, v := range bound {
		if want := x[2*i] + x[2*i+1] + noise[2*i] + noise[2*i+1]; v != want {
			t.Fatalf("bound of example %d: wanted %g, got %g", i, want, v)
		}
	}
	w := make([]float32, 150)
	for i := range w {
		w[i] = float32(i)
	}
	var slopes []float32
	for _, piece := range []int{0, 40, 150} {
		clear(bound)
		if err := training.LearnFlow(t.Context(), f, piece, x, noise, w, bound); err != nil {
			t.Fatal(err)
		}
		slopes = append(slopes, f.p[0].G[0])
		if want := x[298] + x[299] + noise[298] + noise[299]; bound[149] != want {
			t.Errorf("pieces of %d: last bound %g, wanted %g", piece, bound[149], want)
		}
	}
	if d := math.Abs(float64(slopes[1] - slopes[0])); slopes[0] == 0 || d > 1e-4*math.Abs(float64(slopes[0])) || slopes[2] != slopes[0] {
		t.Errorf("slopes of pieces: %v", slopes)
	}
	if got := training.LogMass(-3, 4, 0.5); math.Abs(got-(-3-4*math.Ln2)) > 1e-12 {
		t.Errorf("log mass %g", got)
	}
	if got := training.BitsPerDim(-6*math.Ln2, 3, 0.25); math.Abs(got-4) > 1e-12 {
		t.Errorf("%g bits, wanted 4", got)
	}
	if got := training.BitsPerDim(-6*math.Ln2, 3, 0); math.Abs(got-2) > 1e-12 {
		t.Errorf("%g bits of a density, wanted 2", got)
	}
}
