// Package filters makes the fixed banks of linear filters that random fields are built on: intensity,
// differences, differences of Gaussians, and Gabor waves.
//
// A response is a correlation, r(p) = Σ_o taps(o)·x(p+o) over offsets o from the filter's middle. A
// bank's responses are an energy's features ([Kernels], energy.Responses), so that slopes are ONNX graphs;
// [Filter.Circular] and [Filter.Inside] compute them in plain Go.
package filters

import (
	"fmt"
	"math"

	"ebmrun/training/diag"
)

// A Filter is a square patch of weights.
type Filter struct {
	Name string
	Size int       // odd
	Taps []float32 // [Size, Size]
}

// Half is the number of pixels on each side of the middle.
func (f Filter) Half() int { return f.Size / 2 }

// make3 is a small filter from its rows.
func make3(name string, taps ...float32) Filter {
	return Filter{name, int(math.Round(math.Sqrt(float64(len(taps))))), taps}
}

// Intensity is the pixel itself.
func Intensity() Filter { return make3("intensity", 1) }

// Differences are those of neighbouring pixels along a row and along a column.
func Differences() []Filter {
	const d = math.Sqrt2 / 2
	return []Filter{make3("dx", 0, 0, 0, 0, -d, d, 0, 0, 0), make3("dy", 0, 0, 0, 0, -d, 0, 0, d, 0)}
}

// Blob is a difference of Gaussians of deviations sd and 1.6·sd with zero mean and unit norm.
func Blob(sd float64) (Filter, error) {
	if !(sd > 0 && sd <= 32) {
		return Filter{}, fmt.Errorf("filters: blob: deviation %g, want above 0 and at most 32 pixels", sd)
	}
	half := int(math.Ceil(2 * 1.6 * sd))
	w := wave(half, func(x, y float64) (window, value float64) {
		inner, outer := math.Exp(-(x*x+y*y)/(2*sd*sd))/(sd*sd), math.Exp(-(x*x+y*y)/(2*2.56*sd*sd))/(2.56*sd*sd)
		return outer, inner - outer
	})
	return Filter{fmt.Sprintf("blob sd=%.3g", sd), 2*half + 1, w}, nil
}

// wave samples a function, takes its mean off under the window, and divides by its norm.
func wave(half int, f func(x, y float64) (window, value float64)) []float32 {
	size := 2*half + 1
	value, window := make([]float64, size*size), make([]float64, size*size)
	var sum, weight, norm float64
	for i := range value {
		window[i], value[i] = f(float64(i%size-half), float64(i/size-half))
		sum += value[i]
		weight += window[i]
	}
	for i := range value {
		value[i] -= window[i] * sum / weight
		norm += value[i] * value[i]
	}
	out := make([]float32, len(value))
	for i, v := range value {
		out[i] = float32(v / math.Sqrt(norm))
	}
	return out
}

// Round are the Gabor filters of [diag.Gabors] for each wavelength, even and odd, each cut to the size
// that its own wavelength needs.
func Round(wavelengths []float64, orientations int) ([]Filter, error) {
	var out []Filter
	for _, l := range wavelengths {
		b, err := diag.Gabors([]float64{l}, orientations)
		if err != nil {
			return nil, err
		}
		for i, taps := range b.Filters {
			phase := [2]string{"cos", "sin"}[i%2]
			out = append(out, Filter{fmt.Sprintf("gabor %s λ=%.3g %.4g°", phase, l, 180*float64(i/2)/float64(orientations)), b.Size, taps})
		}
	}
	return out, nil
}

// Reach is the half size of the long Gabor filters of a scale, ⌊12·scale + ½⌋ pixels.
func Reach(scale float64) int { return int(12*scale + 0.5) }

// Long are Gabor pairs, cosine then sine, of evenly spread orientations: a wave of length 2π·scale
// under a Gaussian that is twice as long along the wave's crests as across. Orientation k has crests
// at the angle π·k/orientations, counted from the x axis towards the y axis, which points down.
func Long(scale float64, orientations int) ([]Filter, error) {
	if !(scale >= 0.2 && scale <= 8) || orientations < 1 || orientations > 360 {
		return nil, fmt.Errorf("filters: gabor: scale %g and %d orientations, want 0.2 to 8, and 1 to 360", scale, orientations)
	}
	half := Reach(scale)
	var out []Filter
	for k := range orientations {
		sin, cos := math.Sincos(math.Pi * float64(k) / float64(orientations))
		for i, phase := range []float64{0, math.Pi / 2} {
			taps := wave(half, func(x, y float64) (window, value float64) {
				along, across := (x*cos+y*sin)/scale, (-x*sin+y*cos)/scale
				window = math.Exp(-(along*along + 4*across*across) / 100)
				return window, window * math.Cos(across-phase)
			})
			out = append(out, Filter{fmt.Sprintf("gabor %s scale=%.3g %.4g°", [2]string{"cos", "sin"}[i], scale, 180*float64(k)/float64(orientations)), 2*half + 1, taps})
		}
	}
	return out, nil
}

// Circular writes the responses at all places of a picture x [h, w] whose edges meet to dst [h, w].
func (f Filter) Circular(dst, x []float32, h, w int) {
	half := f.Half()
	pad := make([]float32, (h+f.Size-1)*(w+f.Size-1))
	for y := range h + f.Size - 1 {
		row := x[mod(y-half, h)*w:]
		for z := range w + f.Size - 1 {
			pad[y*(w+f.Size-1)+z] = row[mod(z-half, w)]
		}
	}
	f.Inside(dst, pad, h+f.Size-1, w+f.Size-1)
}

func mod(a, n int) int { return (a%n + n) % n }

// Inside writes the responses at the places where the filter fits, [h−Size+1, w−Size+1].
func (f Filter) Inside(dst, x []float32, h, w int) {
	oh, ow := h-f.Size+1, w-f.Size+1
	for y := range oh {
		out := dst[y*ow : (y+1)*ow]
		clear(out)
		for dy := range f.Size {
			row := x[(y+dy)*w:][:w]
			for dx, tap := range f.Taps[dy*f.Size:][:f.Size] {
				if tap == 0 {
					continue
				}
				for z, v := range row[dx:][:ow] {
					out[z] += tap * v
				}
			}
		}
	}
}

// Normalize takes the local mean off a picture and divides by the local deviation, both over windows of
// 2·half+1 pixels, and scales the result to variance 10. Deviations below a hundredth of the largest
// count as that.
func Normalize(x []float32, h, w, half int) []float32 {
	sum, square := make([]float64, (h+1)*(w+1)), make([]float64, (h+1)*(w+1))
	for y := range h {
		for z := range w {
			v, i := float64(x[y*w+z]), (y+1)*(w+1)+z+1
			sum[i] = v + sum[i-1] + sum[i-w-1] - sum[i-w-2]
			square[i] = v*v + square[i-1] + square[i-w-1] - square[i-w-2]
		}
	}
	mean, sd, most := make([]float64, h*w), make([]float64, h*w), 0.0
	for y := range h {
		for z := range w {
			y0, y1, z0, z1 := max(0, y-half), min(h, y+half+1), max(0, z-half), min(w, z+half+1)
			box := func(s []float64) float64 {
				return (s[y1*(w+1)+z1] - s[y0*(w+1)+z1] - s[y1*(w+1)+z0] + s[y0*(w+1)+z0]) / float64((y1-y0)*(z1-z0))
			}
			i := y*w + z
			mean[i] = box(sum)
			sd[i] = math.Sqrt(max(0, box(square)-mean[i]*mean[i]))
			most = max(most, sd[i])
		}
	}
	out, total := make([]float32, h*w), 0.0
	if !(most > 1e-6) {
		return out
	}
	for i, v := range x {
		r := (float64(v) - mean[i]) / max(sd[i], most/100)
		out[i] = float32(r)
		total += r * r
	}
	for i := range out {
		out[i] *= float32(math.Sqrt(10 * float64(len(out)) / total))
	}
	return out
}
