package diag

import (
	"fmt"
	"math"
)

// Correlogram is how alike places of pictures [n, c, h, w] are that lie (dy, dx) apart, in units of the variance, the mean
// over pictures and channels: for dy from 0 to lags and dx from −lags to lags, row by row, [(lags+1)·(2·lags+1)].
// It sees what small patches do not: how bricks follow one another, or that ripples do.
func Correlogram(x []float32, c, h, w, lags int) ([]float64, error) {
	if lags < 1 || lags >= min(h, w) || c < 1 {
		return nil, fmt.Errorf("diag: correlogram: %d lags in pictures of %d×%d×%d, want fewer than pixels", lags, c, h, w)
	}
	planes, err := rows("correlogram", x, h*w, 1)
	if err != nil {
		return nil, err
	}
	out := make([]float64, 0, (lags+1)*(2*lags+1))
	centred, variance := make([]float64, len(x)), 0.0
	for p := range planes {
		sum := 0.0
		for _, v := range x[p*h*w : (p+1)*h*w] {
			sum += float64(v)
		}
		for i, v := range x[p*h*w : (p+1)*h*w] {
			centred[p*h*w+i] = float64(v) - sum/float64(h*w)
		}
	}
	for _, v := range centred {
		variance += v * v / float64(len(x))
	}
	if variance == 0 {
		return nil, fmt.Errorf("diag: correlogram: pictures of one value")
	}
	for dy := range lags + 1 {
		for dx := -lags; dx <= lags; dx++ {
			sum, from, n := 0.0, max(0, -dx), w-max(dx, -dx)
			for p := range planes {
				for y := range h - dy {
					a, b := centred[(p*h+y)*w+from:][:n], centred[(p*h+y+dy)*w+from+dx:][:n]
					for i, v := range a {
						sum += v * b[i]
					}
				}
			}
			out = append(out, sum/(variance*float64(planes*(h-dy)*n)))
		}
	}
	return out, nil
}

// CorrelogramGap is the root mean square of the differences of two correlograms, as a share of that of the first
// without the place itself: 0 for pictures alike, 1 for white noise.
func CorrelogramGap(real, samples []float64) float64 {
	off, size := 0.0, -1.0 // the place itself is 1
	for i, r := range real {
		off, size = off+(samples[i]-r)*(samples[i]-r), size+r*r
	}
	return math.Sqrt(off / size)
}
