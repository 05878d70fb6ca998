package diag

import (
	"fmt"
	"math"
)

// A GaborBank is a set of linear filters of several orientations and wavelengths, each as an even and
// an odd wave under a Gaussian window, with zero mean and unit norm. Being fixed it judges textures
// independently of the network that learned them.
type GaborBank struct {
	Size    int         // filters are Size×Size, odd
	Filters [][]float32 // [2·wavelengths·orientations][Size·Size]
}

// Gabors makes the bank of the given wavelengths in pixels and number of orientations, evenly spread
// over half a turn. The window's deviation is half a wavelength, cut at 2.5 deviations of the longest.
func Gabors(wavelengths []float64, orientations int) (GaborBank, error) {
	longest := 0.0
	for _, l := range wavelengths {
		if !(l >= 2 && l <= 256) {
			return GaborBank{}, fmt.Errorf("diag: gabor: wavelength %g, want 2 to 256 pixels", l)
		}
		longest = max(longest, l)
	}
	if len(wavelengths) == 0 || orientations < 1 {
		return GaborBank{}, fmt.Errorf("diag: gabor: %d wavelengths, %d orientations, want some of both", len(wavelengths), orientations)
	}
	half := int(math.Ceil(2.5 * longest / 2))
	b := GaborBank{Size: 2*half + 1}
	for _, l := range wavelengths {
		for k := range orientations {
			sin, cos := math.Sincos(math.Pi * float64(k) / float64(orientations))
			for _, phase := range []float64{0, math.Pi / 2} {
				b.Filters = append(b.Filters, gabor(half, l, l/2, cos, sin, phase))
			}
		}
	}
	return b, nil
}

func gabor(half int, wavelength, sd, cos, sin, phase float64) []float32 {
	size := 2*half + 1
	wave, window := make([]float64, size*size), make([]float64, size*size)
	sum, weight := 0.0, 0.0
	for i := range wave {
		x, y := float64(i%size-half), float64(i/size-half)
		window[i] = math.Exp(-(x*x + y*y) / (2 * sd * sd))
		wave[i] = window[i] * math.Cos(2*math.Pi*(x*cos+y*sin)/wavelength-phase)
		sum += wave[i]
		weight += window[i]
	}
	norm := 0.0
	for i := range wave {
		wave[i] -= window[i] * sum / weight
		norm += wave[i] * wave[i]
	}
	out := make([]float32, len(wave))
	for i, v := range wave {
		out[i] = float32(v / math.Sqrt(norm))
	}
	return out
}

// Moments are the mean absolute responses of every filter over all its places inside each picture,
// [n, filters] for grey pictures x [n, h, w].
func (b GaborBank) Moments(x []float32, h, w int) ([]float32, error) {
	if h < b.Size || w < b.Size {
		return nil, fmt.Errorf("diag: gabor: filters of %d×%d do not fit in pictures of %d×%d", b.Size, b.Size, h, w)
	}
	n, err := rows("gabor", x, h*w, 1)
	if err != nil {
		return nil, err
	}
	out := make([]float32, 0, n*len(b.Filters))
	places := float64((h - b.Size + 1) * (w - b.Size + 1))
	for i := range n {
		picture := x[i*h*w : (i+1)*h*w]
		for _, f := range b.Filters {
			sum := 0.0
			for y := range h - b.Size + 1 {
				for z := range w - b.Size + 1 {
					var response float32
					for dy := range b.Size {
						row := picture[(y+dy)*w+z:][:b.Size]
						for dx, v := range f[dy*b.Size:][:b.Size] {
							response += v * row[dx]
						}
					}
					sum += math.Abs(float64(response))
				}
			}
			out = append(out, float32(sum/places))
		}
	}
	return out, nil
}
