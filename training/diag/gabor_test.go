package diag

import (
	"math"
	"testing"
)

func TestGabors(t *testing.T) {
	b, err := Gabors([]float64{4, 6}, 4)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Filters) != 16 || b.Size != 17 {
		t.Fatalf("%d filters of %d, wanted 16 of 17", len(b.Filters), b.Size)
	}
	for k, f := range b.Filters {
		sum, norm := 0.0, 0.0
		for _, v := range f {
			sum += float64(v)
			norm += float64(v) * float64(v)
		}
		near(t, "sum", sum, 0, 1e-5)
		near(t, "norm", norm, 1, 1e-5)
		for j, g := range b.Filters[:k] {
			dot := 0.0
			for i, v := range f {
				dot += float64(v) * float64(g[i])
			}
			if math.Abs(dot) > 0.8 {
				t.Errorf("filters %d and %d are nearly the same: product %.3f", j, k, dot)
			}
		}
	}
}

// TestGaborMoments: stripes excite the filters of their own direction and
// wavelength most, brightness excites none, and contrast scales the answer.
func TestGaborMoments(t *testing.T) {
	b, _ := Gabors([]float64{4, 8}, 4)
	const h, w = 30, 40
	x := make([]float32, 3*h*w)
	for i := range h * w {
		stripe := math.Cos(2 * math.Pi * float64(i/w) / 8) // waves along y: orientation 2 of 4
		x[i], x[h*w+i], x[2*h*w+i] = float32(stripe), float32(3*stripe+2), 7
	}
	m := must(b.Moments(x, h, w))
	best, k := float32(0), 0
	for j, v := range m[:16] {
		near(t, "scaled", float64(m[16+j]), 3*float64(v), 1e-3)
		near(t, "constant", float64(m[32+j]), 0, 1e-3)
		if v > best {
			best, k = v, j/2
		}
	}
	if k != 4+2 {
		t.Errorf("the filter pair that answers most is %d, wanted 6", k)
	}
	if _, err := b.Moments(make([]float32, 100), 10, 10); err == nil {
		t.Error("pictures smaller than the filters are accepted")
	}
}
