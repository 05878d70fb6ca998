// Package pyramid holds what systems with several resolutions share: planes made
// smaller and larger, and a [Level], an energy at one resolution with what it
// takes to sample from it and to learn it.
//
// Pictures are flat float32 values [n, C, H, W] and stay so: nothing is rounded
// to bytes on the way from one level to the next.
package pyramid

import "math"

// Shrink averages the k×k blocks of planes of h×w, whose sides k must divide.
func Shrink(x []float32, h, w, k int) []float32 {
	out := make([]float32, len(x)/(k*k))
	sum := make([]float64, w/k)
	for row := range len(out) / len(sum) { // of all planes: h/k rows each
		clear(sum)
		for i, v := range x[row*k*w : (row+1)*k*w] {
			sum[i%w/k] += float64(v)
		}
		for i, v := range sum {
			out[row*len(sum)+i] = float32(v / float64(k*k))
		}
	}
	return out
}

// Grow repeats every pixel of planes of h×w in a k×k block.
func Grow(x []float32, h, w, k int) []float32 {
	out := make([]float32, len(x)*k*k)
	for i := range out {
		out[i] = x[i/(k*k*w)*w+i%(k*w)/k]
	}
	return out
}

// Resize resamples planes of h×w to toH×toW with a cubic filter (Keys, a = −1/2)
// that widens when it shrinks, held within the range of each plane.
func Resize(x []float32, h, w, toH, toW int) []float32 {
	if h == toH && w == toW {
		return append([]float32(nil), x...)
	}
	rows, cols := cubic(h, toH), cubic(w, toW)
	out := make([]float32, len(x)/(h*w)*toH*toW)
	mid := make([]float64, h*toW)
	for p := range len(x) / (h * w) {
		plane := x[p*h*w : (p+1)*h*w]
		lo, hi := plane[0], plane[0]
		for _, v := range plane {
			lo, hi = min(lo, v), max(hi, v)
		}
		for i := range mid {
			mid[i] = 0
			for _, t := range cols[i%toW] {
				mid[i] += t.weight * float64(plane[i/toW*w+t.at])
			}
		}
		for i := range toH * toW {
			v := 0.0
			for _, t := range rows[i/toW] {
				v += t.weight * mid[t.at*toW+i%toW]
			}
			out[p*toH*toW+i] = min(max(float32(v), lo), hi)
		}
	}
	return out
}

type tap struct {
	at     int
	weight float64
}

// cubic is the source positions and weights of each of dst positions; those
// beyond the edge are taken from it.
func cubic(src, dst int) [][]tap {
	scale := float64(src) / float64(dst)
	wide := max(1, scale)
	all := make([][]tap, dst)
	for i := range all {
		centre := (float64(i)+0.5)*scale - 0.5
		sum := 0.0
		for j := int(math.Ceil(centre - 2*wide)); float64(j) <= centre+2*wide; j++ {
			if k := keys((float64(j) - centre) / wide); k != 0 {
				all[i] = append(all[i], tap{min(max(j, 0), src-1), k})
				sum += k
			}
		}
		for j := range all[i] {
			all[i][j].weight /= sum
		}
	}
	return all
}

func keys(x float64) float64 {
	const a = -0.5
	switch x = math.Abs(x); {
	case x < 1:
		return (a+2)*x*x*x - (a+3)*x*x + 1
	case x < 2:
		return a*x*x*x - 5*a*x*x + 8*a*x - 4*a
	}
	return 0
}
