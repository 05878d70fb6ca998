package diag

import "fmt"

// TemporalAutocorrelation is the correlation of the values of a clip [c, d, h, w] with those at the same
// pixels 1, 2, … lags frames later, about the mean of the clip.
func TemporalAutocorrelation(x []float32, c, d, h, w, lags int) ([]float64, error) {
	if _, err := rows("clip", x, max(1, c*d*h*w), 1); err != nil {
		return nil, err
	}
	if len(x) != c*d*h*w || lags < 1 || lags >= d {
		return nil, fmt.Errorf("diag: clip: %d values and %d lags of shape [%d %d %d %d]", len(x), lags, c, d, h, w)
	}
	mean, variance := 0.0, 0.0
	for _, v := range x {
		mean += float64(v) / float64(len(x))
	}
	for _, v := range x {
		variance += (float64(v) - mean) * (float64(v) - mean) / float64(len(x))
	}
	if variance == 0 {
		return nil, fmt.Errorf("diag: clip: all values are %g", mean)
	}
	out := make([]float64, lags)
	p := h * w
	for l := range out {
		gap := l + 1
		for k := range c {
			for t := range (d - gap) * p {
				out[l] += (float64(x[k*d*p+t]) - mean) * (float64(x[k*d*p+t+gap*p]) - mean)
			}
		}
		out[l] /= variance * float64(c*(d-gap)*p)
	}
	return out, nil
}

// ClipSWD compares two clips [c, d, h, w], whose frames may be of different number, by [PatchSWD] of their
// frames and of their slices across time, [d, w] at every row, and is the mean of the two: the first sees
// how frames look, the second how they move.
func ClipSWD(a []float32, da int, b []float32, db, c, h, w int, seed uint64) (float64, error) {
	if min(c, h, w, da, db) < 1 || len(a) != c*da*h*w || len(b) != c*db*h*w {
		return 0, fmt.Errorf("diag: clips: %d and %d values, want those of shapes [%d %d %d %d] and [%d %d %d %d]", len(a), len(b), c, da, h, w, c, db, h, w)
	}
	// frames is [d, c, h, w], slices [h, c, d, w].
	frames := func(x []float32, d int) (out []float32) {
		for t := range d {
			for k := range c {
				out = append(out, x[(k*d+t)*h*w:][:h*w]...)
			}
		}
		return out
	}
	slices := func(x []float32, d int) (out []float32) {
		for y := range h {
			for k := range c * d {
				out = append(out, x[(k*h+y)*w:][:w]...)
			}
		}
		return out
	}
	look, err := PatchSWD(frames(a, da), h, w, frames(b, db), h, w, c, seed)
	if err != nil {
		return 0, err
	}
	move, err := PatchSWD(slices(a, da), da, w, slices(b, db), db, w, c, seed)
	return (look + move) / 2, err
}
