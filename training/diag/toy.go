package diag

import (
	"fmt"
	"math"
	"slices"
)

// A Blob describes what is bright in one grey picture.
type Blob struct {
	Components int     // 4-connected regions above the threshold
	Area       int     // pixels above the threshold
	X, Y       float64 // their mean place, the first pixel's centre being (0, 0)
}

// Blobs looks at grey pictures [N, H, W] for pixels above a threshold.
func Blobs(x []float32, h, w int, threshold float64) ([]Blob, error) {
	if h < 1 || w < 1 {
		return nil, fmt.Errorf("diag: blobs: pictures of %d×%d", h, w)
	}
	n, err := rows("blobs", x, h*w, 1)
	if err != nil {
		return nil, err
	}
	out := make([]Blob, n)
	todo := make([]int, 0, h*w)
	for p := range out {
		b := &out[p]
		bright := make([]bool, h*w)
		for i, v := range x[p*h*w : (p+1)*h*w] {
			if bright[i] = float64(v) > threshold; bright[i] {
				b.Area++
				b.X += float64(i % w)
				b.Y += float64(i / w)
			}
		}
		if b.Area > 0 {
			b.X /= float64(b.Area)
			b.Y /= float64(b.Area)
		}
		for start := range bright {
			if !bright[start] {
				continue
			}
			b.Components++
			bright[start] = false
			todo = append(todo[:0], start)
			visit := func(i int) {
				if bright[i] {
					bright[i] = false
					todo = append(todo, i)
				}
			}
			for len(todo) > 0 {
				i := todo[len(todo)-1]
				todo = todo[:len(todo)-1]
				if i%w > 0 {
					visit(i - 1)
				}
				if i%w < w-1 {
					visit(i + 1)
				}
				if i >= w {
					visit(i - w)
				}
				if i < (h-1)*w {
					visit(i + w)
				}
			}
		}
	}
	return out, nil
}

// Validity is the share of samples with one component and an area between the 1st and the 99th
// percentile of the real areas.
func Validity(real, samples []Blob) (float64, error) {
	if len(real) == 0 || len(samples) == 0 {
		return 0, fmt.Errorf("diag: validity: %d real pictures, %d samples", len(real), len(samples))
	}
	areas := make([]int, len(real))
	for i, b := range real {
		areas[i] = b.Area
	}
	slices.Sort(areas)
	lo, hi := areas[len(areas)/100], areas[len(areas)-1-len(areas)/100]
	valid := 0
	for _, b := range samples {
		if b.Components == 1 && b.Area >= lo && b.Area <= hi {
			valid++
		}
	}
	return float64(valid) / float64(len(samples)), nil
}

// Coverage divides pictures of h×w into bins×bins cells and returns the share of the cells with the
// centre of a real blob that hold the centre of a sample too. Only samples of one component count.
func Coverage(real, samples []Blob, h, w, bins int) (float64, error) {
	if h < 1 || w < 1 || bins < 1 {
		return 0, fmt.Errorf("diag: coverage: %d×%d cells of pictures of %d×%d", bins, bins, h, w)
	}
	cells := func(blobs []Blob) map[int]bool {
		seen := map[int]bool{}
		for _, b := range blobs {
			if b.Components == 1 {
				seen[int((b.Y+0.5)/float64(h)*float64(bins))*bins+int((b.X+0.5)/float64(w)*float64(bins))] = true
			}
		}
		return seen
	}
	want, got := cells(real), cells(samples)
	if len(want) == 0 {
		return 0, fmt.Errorf("diag: coverage: no real picture has exactly one component")
	}
	both := 0
	for c := range want {
		if got[c] {
			both++
		}
	}
	return float64(both) / float64(len(want)), nil
}

// Modes sorts 2-D samples [n, 2] to the nearest of some centres. It returns the share of all samples that
// each centre has got, and the share that lies within a distance of its centre.
func Modes(samples []float32, centres [][2]float64, distance float64) (shares []float64, within float64, err error) {
	n, err := rows("modes", samples, 2, 1)
	if err != nil {
		return nil, 0, err
	}
	if len(centres) == 0 {
		return nil, 0, fmt.Errorf("diag: modes: no centres")
	}
	shares = make([]float64, len(centres))
	for i := range n {
		best, nearest := math.Inf(1), 0
		for k, c := range centres {
			if d := math.Hypot(float64(samples[2*i])-c[0], float64(samples[2*i+1])-c[1]); d < best {
				best, nearest = d, k
			}
		}
		shares[nearest] += 1 / float64(n)
		if best <= distance {
			within += 1 / float64(n)
		}
	}
	return shares, within, nil
}

// Parzen is the mean log-likelihood of test rows under Gaussians of deviation sigma around the samples,
//
//	log mean exp(−|x−μ|²/2σ²) − D·log(σ√(2π)),
//
// with its standard error. Choose sigma by the value on other, validation, rows.
func Parzen(samples, test []float32, dim int, sigma float64) (mean, se float64, err error) {
	ns, nt, err := pair("parzen", samples, test, dim, 2)
	if err != nil {
		return 0, 0, err
	}
	if !(sigma > 0) || math.IsInf(sigma, 1) {
		return 0, 0, fmt.Errorf("diag: parzen: deviation %g, want a positive number", sigma)
	}
	// Log of a sum of exponentials, kept relative to the largest term so far.
	top, sum := make([]float64, nt), make([]float64, nt)
	for i := range top {
		top[i] = math.Inf(-1)
	}
	forBlocks(test, samples, dim, func(i, _ int, d2 float64) {
		e := -d2 / (2 * sigma * sigma)
		if e <= top[i] {
			sum[i] += math.Exp(e - top[i])
		} else {
			sum[i], top[i] = sum[i]*math.Exp(top[i]-e)+1, e
		}
	})
	norm := math.Log(float64(ns)) + float64(dim)*math.Log(sigma*math.Sqrt(2*math.Pi))
	square := 0.0
	for i := range top {
		top[i] += math.Log(sum[i]) - norm
		mean += top[i] / float64(nt)
	}
	for _, v := range top {
		square += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(square / float64(nt-1) / float64(nt)), nil
}
