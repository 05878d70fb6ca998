package pyramid_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ebmrun/training/pyramid"
)

func noise(n int) []float32 {
	r := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// TestShrinkGrow: planes stay apart, block means are those written out, and what
// was grown shrinks back.
func TestShrinkGrow(t *testing.T) {
	x := []float32{1, 2, 3, 4, 5, 6, 7, 8 /* second plane */, 10, 20, 30, 40, 50, 60, 70, 80}
	if got := pyramid.Shrink(x, 2, 4, 2); !slices.Equal(got, []float32{3.5, 5.5, 35, 55}) {
		t.Errorf("got %v", got)
	}
	if got := pyramid.Grow([]float32{1, 2, 3, 4}, 2, 1, 2); !slices.Equal(got, []float32{1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4}) {
		t.Errorf("got %v", got)
	}
	y := noise(2 * 3 * 5 * 4)
	if got := pyramid.Shrink(pyramid.Grow(y, 5, 4, 3), 15, 12, 3); !slices.Equal(got, y) {
		t.Error("growing and shrinking is not the identity")
	}
}

// TestResize: a constant stays, a ramp stays a ramp inside, the range is kept, and
// shrinking averages.
func TestResize(t *testing.T) {
	flat := slices.Repeat([]float32{0.3}, 2*5*7)
	for _, v := range pyramid.Resize(flat, 5, 7, 11, 3) {
		if math.Abs(float64(v)-0.3) > 1e-6 {
			t.Fatalf("a constant becomes %g", v)
		}
	}
	ramp := make([]float32, 16*16)
	for i := range ramp {
		ramp[i] = float32(i % 16)
	}
	up := pyramid.Resize(ramp, 16, 16, 16, 32)
	for x := 6; x < 26; x++ {
		if want := (float64(x)+0.5)/2 - 0.5; math.Abs(float64(up[5*32+x])-want) > 1e-5 {
			t.Errorf("column %d: wanted %g, got %g", x, want, up[5*32+x])
		}
	}
	x := noise(2 * 20 * 20)
	for _, size := range [][2]int{{31, 47}, {7, 9}} {
		y := pyramid.Resize(x, 20, 20, size[0], size[1])
		for p := range 2 {
			a, b := x[p*400:(p+1)*400], y[p*size[0]*size[1]:(p+1)*size[0]*size[1]]
			if slices.Min(b) < slices.Min(a) || slices.Max(b) > slices.Max(a) {
				t.Error("the range of a plane is left")
			}
		}
	}
	if got := pyramid.Resize(x, 20, 20, 20, 20); !slices.Equal(got, x) {
		t.Error("the same size is not the identity")
	}
}

// TestKnown: a block is known if all of it is, and the projection writes exactly
// what is known.
func TestKnown(t *testing.T) {
	x := []float32{1, 2, 3, 4, 5, 6, 7, 8}
	mask := []float32{1, 1, 1, 0, 1, 1, 1, 1}
	known, seen := pyramid.ShrinkKnown(x, mask, 2, 4, 2)
	if !slices.Equal(seen, []float32{1, 0}) || known[0] != 3.5 {
		t.Errorf("got %v, %v", known, seen)
	}
	y := make([]float32, 8)
	pyramid.Impose(x, mask)(y)
	if !slices.Equal(y, []float32{1, 2, 3, 0, 5, 6, 7, 8}) {
		t.Errorf("got %v", y)
	}
	if got := pyramid.VisibleMean(x, []float32{1, 0, 0, 1, 0, 0, 0, 0}, 4); !slices.Equal(got, []float32{2.5, 0}) {
		t.Errorf("got %v", got)
	}
}

func TestContrast(t *testing.T) {
	if w := pyramid.Contrast(2, false); !slices.Equal(w, []float32{-0.5, -0.5, 0.5, 0.5}) {
		t.Errorf("got %v", w)
	}
	if w := pyramid.Contrast(1, true); !slices.Equal(w, []float32{1, -1}) {
		t.Errorf("got %v", w)
	}
}
