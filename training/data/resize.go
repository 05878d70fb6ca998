package data

import "math"

// A resizer resamples float planes of one size to another, rows first, then columns. It works on the
// float values: nothing is rounded to 8 or 16 bits on the way.
type resizer struct {
	srcW, w    int
	cols, rows []taps
	tmp        []float32 // [source height, w]
}

// taps are the weights of one output position: source positions first, first+1, …
type taps struct {
	first  int
	weight []float32
}

func newResizer(srcH, srcW, h, w int) *resizer {
	return &resizer{srcW: srcW, w: w, cols: tent(srcW, w), rows: tent(srcH, h), tmp: make([]float32, srcH*w)}
}

// tent gives the weights of a triangle of half-width max(1, src/dst) around each output's centre,
// normalised over the source positions that exist.
func tent(src, dst int) []taps {
	scale := float64(src) / float64(dst)
	half := math.Max(1, scale)
	out := make([]taps, dst)
	for i := range out {
		centre := (float64(i)+0.5)*scale - 0.5
		lo := max(0, int(math.Ceil(centre-half)))
		hi := min(src-1, int(math.Floor(centre+half)))
		sum := 0.0
		ws := make([]float64, hi-lo+1)
		for j := range ws {
			ws[j] = math.Max(0, 1-math.Abs(float64(lo+j)-centre)/half)
			sum += ws[j]
		}
		out[i] = taps{first: lo, weight: make([]float32, len(ws))}
		for j, v := range ws {
			out[i].weight[j] = float32(v / sum)
		}
	}
	return out
}

// plane resamples one plane. Rounding of the weights is kept from leaving the range of src.
func (r *resizer) plane(dst, src []float32) {
	lo, hi := src[0], src[0]
	for _, v := range src {
		lo, hi = min(lo, v), max(hi, v)
	}
	for y := range len(r.tmp) / r.w {
		row := src[y*r.srcW : (y+1)*r.srcW]
		for x, t := range r.cols {
			var v float32
			for j, k := range t.weight {
				v += k * row[t.first+j]
			}
			r.tmp[y*r.w+x] = v
		}
	}
	for y, t := range r.rows {
		out := dst[y*r.w : (y+1)*r.w]
		clear(out)
		for j, k := range t.weight {
			for x, v := range r.tmp[(t.first+j)*r.w:][:r.w] {
				out[x] += k * v
			}
		}
		for x, v := range out {
			out[x] = min(max(v, lo), hi)
		}
	}
}
