package diag

import "math"

// weightedF is the weighted F-measure of a map p against the true map g (Margolin, Zelnik-Manor, Tal, "How to
// evaluate foreground maps?", CVPR 2014): errors beside the object count as those of the nearest place on it,
// are smoothed, and weigh more the farther from the object they are. Without an object it is 0.
func weightedF(p []float64, g []bool, h, w int) float64 {
	near, far, found := nearest(g, h, w)
	if !found {
		return 0
	}
	e, spread := make([]float64, len(p)), make([]float64, len(p))
	for i, v := range p {
		e[i] = math.Abs(v - unit(g[i]))
	}
	for i := range p {
		spread[i] = e[near[i]]
	}
	spread = smoothed(spread, h, w)
	size, hit, miss := 0.0, 0.0, 0.0 // of the object, and weighted errors on it and off it
	for i := range p {
		if g[i] {
			size++
			hit += min(e[i], spread[i])
		} else {
			miss += e[i] * (2 - math.Exp(math.Log(0.5)/5*far[i]))
		}
	}
	recall, precision := 1-hit/size, (size-hit)/(size-hit+miss+tiny)
	return 2 * recall * precision / (recall + precision + tiny)
}

// nearest is the nearest place of an object for every pixel, and how far it is.
func nearest(g []bool, h, w int) (near []int, far []float64, found bool) {
	row := make([]int, h*w) // of the nearest in the same column, −1 without one
	for x := range w {
		last := -1
		for y := range h {
			if g[y*w+x] {
				last = y
			}
			row[y*w+x] = last
		}
		last = -1
		for y := h - 1; y >= 0; y-- {
			if g[y*w+x] {
				last = y
			}
			if r := row[y*w+x]; last >= 0 && (r < 0 || last-y < y-r) {
				row[y*w+x] = last
			}
		}
	}
	near, far = make([]int, h*w), make([]float64, h*w)
	for i := range near {
		y, x, best, at := i/w, i%w, math.MaxInt, 0 // best is a square
		for k := 0; k < w && k*k <= best; k++ {
			for _, c := range [2]int{x - k, x + k} {
				if c < 0 || c >= w || row[y*w+c] < 0 {
					continue
				}
				r := row[y*w+c]
				if d := k*k + (r-y)*(r-y); d < best || d == best && c < at { // of equals the leftmost
					best, at, near[i], found = d, c, r*w+c, true
				}
			}
		}
		far[i] = math.Sqrt(float64(best))
	}
	return near, far, found
}

// smoothed is a map under a Gaussian of deviation 5 over 7×7 pixels; beyond its edges it is 0.
func smoothed(x []float64, h, w int) []float64 {
	const half, deviation = 3, 5.0
	var k [2*half + 1]float64
	sum := 0.0
	for i := range k {
		k[i] = math.Exp(-float64((i-half)*(i-half)) / (2 * deviation * deviation))
		sum += k[i]
	}
	along := func(x []float64, n, stride, first, lines int) []float64 {
		out := make([]float64, len(x))
		for l := range lines {
			for i := range n {
				for d, v := range k {
					if j := i + d - half; j >= 0 && j < n {
						out[l*first+i*stride] += v / sum * x[l*first+j*stride]
					}
				}
			}
		}
		return out
	}
	return along(along(x, w, 1, w, h), h, w, 1, w)
}
