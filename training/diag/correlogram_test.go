package diag

import (
	"math"
	"math/rand/v2"
	"testing"
)

// stripes is a picture of 64×64 of stripes of a wavelength across, moved by a phase.
func stripes(wavelength, phase float64) []float32 {
	x := make([]float32, 64*64)
	for i := range x {
		x[i] = float32(math.Sin(2*math.Pi*float64(i%64)/wavelength + phase))
	}
	return x
}

// TestCorrelogram: that of stripes is cos(2π·dx/wavelength), whatever their phase; it tells stripes from others and from noise.
func TestCorrelogram(t *testing.T) {
	const lags = 12
	of := func(x []float32) []float64 {
		c, err := Correlogram(x, 1, 64, 64, lags)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := of(stripes(8, 0.3))
	for dy := range lags + 1 {
		for dx := -lags; dx <= lags; dx++ {
			if got, want := c[dy*(2*lags+1)+dx+lags], math.Cos(2*math.Pi*float64(dx)/8); math.Abs(got-want) > 0.03 {
				t.Errorf("(%d, %d) apart: wanted %.3f, got %.3f", dy, dx, want, got)
			}
		}
	}
	r, white := rand.New(rand.NewPCG(1, 2)), make([]float32, 64*64)
	for i := range white {
		white[i] = float32(r.NormFloat64())
	}
	for _, k := range []struct {
		name   string
		x      []float32
		lo, hi float64
	}{{"moved", stripes(8, 1.5), 0, 0.05}, {"others", stripes(11, 0), 0.6, 2}, {"noise", white, 0.9, 1.1}} {
		if g := CorrelogramGap(c, of(k.x)); g < k.lo || g > k.hi {
			t.Errorf("%s: gap %.3f, wanted %g … %g", k.name, g, k.lo, k.hi)
		}
	}
	for _, bad := range []struct {
		x    []float32
		lags int
	}{{white, 64}, {white, 0}, {white[1:], 3}, {make([]float32, 64*64), 3}} {
		if _, err := Correlogram(bad.x, 1, 64, 64, bad.lags); err == nil {
			t.Errorf("%d values, %d lags: wanted an error", len(bad.x), bad.lags)
		}
	}
}
