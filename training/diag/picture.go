package diag

import (
	"fmt"
	"math"
)

// PSNR is 10·log₁₀(span²/MSE) in decibels, the peak signal-to-noise ratio of values whose range is span
// wide (2 for [-1, 1]). Equal inputs give +Inf.
func PSNR(a, b []float32, span float64) (float64, error) {
	if len(a) != len(b) {
		return 0, fmt.Errorf("diag: psnr: %d and %d values", len(a), len(b))
	}
	if _, _, err := pair("psnr", a, b, 1, 1); err != nil {
		return 0, err
	}
	if !(span > 0) {
		return 0, fmt.Errorf("diag: psnr: range of width %g, want a positive number", span)
	}
	mse := 0.0
	for i, v := range a {
		d := float64(v) - float64(b[i])
		mse += d * d
	}
	return 10 * math.Log10(span*span*float64(len(a))/mse), nil
}

// Steepness is the mean square of differences between neighbours along rows and columns
// of pictures whose rows are w long and whose planes are of h rows: how much energy is in
// high frequencies. Blurred pictures have less of it.
func Steepness(x []float32, h, w int) float64 {
	sum, n := 0.0, 0.0
	for i, v := range x {
		if i%w > 0 {
			sum, n = sum+float64(v-x[i-1])*float64(v-x[i-1]), n+1
		}
		if i/w%h > 0 {
			sum, n = sum+float64(v-x[i-w])*float64(v-x[i-w]), n+1
		}
	}
	return sum / n
}

const (
	ssimSide  = 11
	ssimSigma = 1.5
)

// ssimWindow is a normalised Gaussian of deviation 1.5 over 11 pixels.
var ssimWindow = func() (w [ssimSide]float64) {
	sum := 0.0
	for i := range w {
		d := float64(i - ssimSide/2)
		w[i] = math.Exp(-d * d / (2 * ssimSigma * ssimSigma))
		sum += w[i]
	}
	for i := range w {
		w[i] /= sum
	}
	return w
}()

// SSIM is the structural similarity (Wang et al. 2004) of pictures [N, C, H, W] whose values' range is
// span wide: 11×11 Gaussian window of deviation 1.5, K₁ = 0.01, K₂ = 0.03, averaged over all windows that
// lie inside, channels and pictures. Pictures must be 11×11 at least.
func SSIM(a, b []float32, h, w int, span float64) (float64, error) {
	if h < ssimSide || w < ssimSide {
		return 0, fmt.Errorf("diag: ssim: pictures of %d×%d, want at least %d×%d", h, w, ssimSide, ssimSide)
	}
	n, nb, err := pair("ssim", a, b, h*w, 1)
	if err != nil {
		return 0, err
	}
	if n != nb || !(span > 0) {
		return 0, fmt.Errorf("diag: ssim: %d and %d planes, range of width %g", n, nb, span)
	}
	c1, c2 := 0.01*0.01*span*span, 0.03*0.03*span*span
	oh, ow := h-ssimSide+1, w-ssimSide+1
	var blurred [5][]float64
	for k := range blurred {
		blurred[k] = make([]float64, oh*ow)
	}
	tmp := make([]float64, h*ow)
	sum := 0.0
	for p := range n {
		x, y := a[p*h*w:(p+1)*h*w], b[p*h*w:(p+1)*h*w]
		for k, f := range []func(u, v float64) float64{
			func(u, _ float64) float64 { return u },
			func(_, v float64) float64 { return v },
			func(u, _ float64) float64 { return u * u },
			func(_, v float64) float64 { return v * v },
			func(u, v float64) float64 { return u * v },
		} {
			blur(blurred[k], tmp, x, y, h, w, f)
		}
		for i := range oh * ow {
			mx, my := blurred[0][i], blurred[1][i]
			vx, vy, cov := blurred[2][i]-mx*mx, blurred[3][i]-my*my, blurred[4][i]-mx*my
			sum += (2*mx*my + c1) * (2*cov + c2) / ((mx*mx + my*my + c1) * (vx + vy + c2))
		}
	}
	return sum / float64(n*oh*ow), nil
}

// blur writes the windowed means of f(x, y) to dst, through rows in tmp.
func blur(dst, tmp []float64, x, y []float32, h, w int, f func(u, v float64) float64) {
	oh, ow := h-ssimSide+1, w-ssimSide+1
	clear(tmp)
	clear(dst)
	for r := range h {
		for c := range w {
			v := f(float64(x[r*w+c]), float64(y[r*w+c]))
			for k, g := range ssimWindow {
				if o := c - k; o >= 0 && o < ow {
					tmp[r*ow+o] += g * v
				}
			}
		}
	}
	for r := range oh {
		for k, g := range ssimWindow {
			for c := range ow {
				dst[r*ow+c] += g * tmp[(r+k)*ow+c]
			}
		}
	}
}

// TotalVariation is the sum of the absolute differences between horizontal and vertical neighbours
// of a picture of planes of h×w values.
func TotalVariation(x []float32, h, w int) (sum float64) {
	for i, v := range x {
		if i%w > 0 {
			sum += math.Abs(float64(v - x[i-1]))
		}
		if i%(h*w) >= w {
			sum += math.Abs(float64(v - x[i-w]))
		}
	}
	return sum
}
