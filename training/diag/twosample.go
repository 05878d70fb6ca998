package diag

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// kernelMean is the mean of k(|x−y|²) over all pairs of a row of a and a row of b; with same, over
// the pairs of different rows of a.
func kernelMean(a, b []float32, dim int, same bool, k func(d2 float64) float64) float64 {
	sum := 0.0
	forBlocks(a, b, dim, func(i, j int, d2 float64) {
		if !same || i != j {
			sum += k(d2)
		}
	})
	na, nb := float64(len(a)/dim), float64(len(b)/dim)
	if same {
		return sum / (na * (na - 1))
	}
	return sum / (na * nb)
}

// forBlocks calls f with the squared distance of every row i of a and row j of b. Vectors of many
// values go through matrix products; few values are subtracted directly, which is also more exact.
func forBlocks(a, b []float32, dim int, f func(i, j int, d2 float64)) {
	if dim < 16 {
		for i := 0; i < len(a); i += dim {
			for j := 0; j < len(b); j += dim {
				d2 := 0.0
				for k := range dim {
					d := float64(a[i+k]) - float64(b[j+k])
					d2 += d * d
				}
				f(i/dim, j/dim, d2)
			}
		}
		return
	}
	const block = 256
	na, nb := len(a)/dim, len(b)/dim
	load := func(x []float32, at, n int) (*mat.Dense, []float64) {
		m, norm := mat.NewDense(n, dim, nil), make([]float64, n)
		for i := range n {
			row := m.RawRowView(i)
			for k := range row {
				row[k] = float64(x[(at+i)*dim+k])
				norm[i] += row[k] * row[k]
			}
		}
		return m, norm
	}
	for i := 0; i < na; i += block {
		ma, norma := load(a, i, min(block, na-i))
		for j := 0; j < nb; j += block {
			mb, normb := load(b, j, min(block, nb-j))
			var dot mat.Dense
			dot.Mul(ma, mb.T())
			for r := range norma {
				for c, v := range dot.RawRowView(r) {
					f(i+r, j+c, math.Max(0, norma[r]+normb[c]-2*v))
				}
			}
		}
	}
}

// EnergyDistance is the unbiased estimate of 2·E|X−Y| − E|X−X′| − E|Y−Y′| (Székely and Rizzo 2013),
// zero in the mean for equal distributions and then as often negative as positive. The cost grows with
// the product of the numbers of rows.
func EnergyDistance(a, b []float32, dim int) (float64, error) {
	if _, _, err := pair("energy distance", a, b, dim, 2); err != nil {
		return 0, err
	}
	return 2*kernelMean(a, b, dim, false, math.Sqrt) -
		kernelMean(a, a, dim, true, math.Sqrt) - kernelMean(b, b, dim, true, math.Sqrt), nil
}

// MMD2 is the unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012) with the
// Gaussian kernel exp(−|x−y|²/(2h²)). Bandwidth 0 means the median distance of pairs of real rows.
func MMD2(real, samples []float32, dim int, bandwidth float64) (float64, error) {
	if _, _, err := pair("mmd", real, samples, dim, 2); err != nil {
		return 0, err
	}
	if bandwidth == 0 {
		bandwidth = medianDistance(real, dim)
	}
	if !(bandwidth > 0) || math.IsInf(bandwidth, 1) {
		return 0, fmt.Errorf("diag: mmd: bandwidth %g, want a positive number", bandwidth)
	}
	g := func(d2 float64) float64 { return math.Exp(-d2 / (2 * bandwidth * bandwidth)) }
	return kernelMean(real, real, dim, true, g) + kernelMean(samples, samples, dim, true, g) -
		2*kernelMean(real, samples, dim, false, g), nil
}

// medianDistance is the median over the pairs of at most 1000 rows, evenly spaced.
func medianDistance(x []float32, dim int) float64 {
	x = spaced(x, dim, 1000)
	var d []float64
	forBlocks(x, x, dim, func(i, j int, d2 float64) {
		if i < j {
			d = append(d, math.Sqrt(d2))
		}
	})
	slices.Sort(d)
	return (d[(len(d)-1)/2] + d[len(d)/2]) / 2
}

// spaced is at most most rows of x, evenly spaced.
func spaced(x []float32, dim, most int) []float32 {
	n := len(x) / dim
	if n <= most {
		return x
	}
	out := make([]float32, 0, most*dim)
	for i := range most {
		out = append(out, x[i*n/most*dim:][:dim]...)
	}
	return out
}

// MomentGap is |mean h(real) − mean h(samples)|₁ / |mean h(real)|₁ for rows of dim statistics h.
func MomentGap(real, samples []float32, dim int) (float64, error) {
	if _, _, err := pair("moment gap", real, samples, dim, 1); err != nil {
		return 0, err
	}
	mr, ms := columnMeans(real, dim), columnMeans(samples, dim)
	gap, size := 0.0, 0.0
	for i := range mr {
		gap += math.Abs(mr[i] - ms[i])
		size += math.Abs(mr[i])
	}
	if size == 0 {
		return 0, fmt.Errorf("diag: moment gap: the real means are all zero")
	}
	return gap / size, nil
}

func columnMeans(x []float32, dim int) []float64 {
	m := make([]float64, dim)
	for i, v := range x {
		m[i%dim] += float64(v)
	}
	for i := range m {
		m[i] /= float64(len(x) / dim)
	}
	return m
}

// SlicedWasserstein is the mean over the directions (unit vectors, the rows of directions) of the
// 1-Wasserstein distance of the projections of a and b, whose numbers of rows may differ.
func SlicedWasserstein(a, b, directions []float32, dim int) (float64, error) {
	na, nb, err := pair("sliced wasserstein", a, b, dim, 1)
	if err != nil {
		return 0, err
	}
	nd, err := rows("sliced wasserstein: directions", directions, dim, 1)
	if err != nil {
		return 0, err
	}
	pa, pb := make([]float64, na), make([]float64, nb)
	sum := 0.0
	for k := range nd {
		project(pa, a, directions[k*dim:(k+1)*dim])
		project(pb, b, directions[k*dim:(k+1)*dim])
		slices.Sort(pa)
		slices.Sort(pb)
		sum += wasserstein1(pa, pb)
	}
	return sum / float64(nd), nil
}

func project(dst []float64, x, u []float32) {
	for i := range dst {
		s := 0.0
		for j, v := range x[i*len(u) : (i+1)*len(u)] {
			s += float64(v) * float64(u[j])
		}
		dst[i] = s
	}
}

// wasserstein1 is the area between the quantile functions of two sorted samples.
func wasserstein1(a, b []float64) float64 {
	na, nb := len(a), len(b)
	// Quantiles change at multiples of 1/na and 1/nb: walk over both in units of 1/(na·nb).
	sum, at := 0.0, 0
	for i, j := 0, 0; i < na && j < nb; {
		next := min((i+1)*nb, (j+1)*na)
		sum += math.Abs(a[i]-b[j]) * float64(next-at)
		at = next
		if at == (i+1)*nb {
			i++
		}
		if at == (j+1)*na {
			j++
		}
	}
	return sum / float64(na) / float64(nb)
}

// Directions draws n unit vectors of dim values, uniformly on the sphere.
func Directions(n, dim int, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 0xd1f))
	out := make([]float32, n*dim)
	v := make([]float64, dim)
	for k := range n {
		norm := 0.0
		for norm == 0 {
			for i := range v {
				v[i] = r.NormFloat64()
				norm += v[i] * v[i]
			}
		}
		for i := range v {
			out[k*dim+i] = float32(v[i] / math.Sqrt(norm))
		}
	}
	return out
}

// Patch size, number of projections and bound on the patches of one side of [PatchSWD].
const (
	patchSide   = 7
	projections = 256
	maxPatches  = 1 << 14
)

// PatchSWD is the sliced Wasserstein distance of the 7×7 patches of two sets of pictures of c channels,
// with 256 projections fixed by the seed; a square patch of all channels is one vector. A set of more
// than 16384 patches is represented by so many drawn at random. The sizes of the two sides' pictures
// may differ.
func PatchSWD(a []float32, ha, wa int, b []float32, hb, wb int, c int, seed uint64) (float64, error) {
	pa, err := patches(a, c, ha, wa, seed)
	if err != nil {
		return 0, err
	}
	pb, err := patches(b, c, hb, wb, seed)
	if err != nil {
		return 0, err
	}
	dim := c * patchSide * patchSide
	return SlicedWasserstein(pa, pb, Directions(projections, dim, seed), dim)
}

// patches cuts out the patches of all pictures, or maxPatches of them.
func patches(x []float32, c, h, w int, seed uint64) ([]float32, error) {
	if c < 1 || h < patchSide || w < patchSide {
		return nil, fmt.Errorf("diag: patch swd: pictures of %d×%d×%d hold no patch of %d×%d", c, h, w, patchSide, patchSide)
	}
	n, err := rows("patch swd", x, c*h*w, 1)
	if err != nil {
		return nil, err
	}
	rowsIn, colsIn := h-patchSide+1, w-patchSide+1
	all := n * rowsIn * colsIn
	count := min(all, maxPatches)
	r := rand.New(rand.NewPCG(seed, 0x9a7c))
	out := make([]float32, 0, count*c*patchSide*patchSide)
	for k := range count {
		if all > count {
			k = r.IntN(all)
		}
		i, y, z := k/(rowsIn*colsIn), k/colsIn%rowsIn, k%colsIn
		for ch := range c {
			for dy := range patchSide {
				out = append(out, x[((i*c+ch)*h+y+dy)*w+z:][:patchSide]...)
			}
		}
	}
	return out, nil
}

// NearestNeighbours is, for each sample, the Euclidean distance to the nearest training row and the
// number of that row: small distances next to those of held-out data tell of copying.
func NearestNeighbours(samples, train []float32, dim int) (distance []float64, row []int, err error) {
	n, _, err := pair("nearest neighbours", samples, train, dim, 1)
	if err != nil {
		return nil, nil, err
	}
	distance, row = make([]float64, n), make([]int, n)
	for i := range distance {
		distance[i] = math.Inf(1)
	}
	forBlocks(samples, train, dim, func(i, j int, d2 float64) {
		if d2 < distance[i] {
			distance[i], row[i] = d2, j
		}
	})
	for i, d2 := range distance {
		distance[i] = math.Sqrt(d2)
	}
	return distance, row, nil
}

// Diversity is the mean Euclidean distance of pairs of different samples divided by √dim, so that it is
// in the units of one value. It looks at no more than 2000 rows, evenly spaced.
func Diversity(samples []float32, dim int) (float64, error) {
	if _, err := rows("diversity", samples, dim, 2); err != nil {
		return 0, err
	}
	x := spaced(samples, dim, 2000)
	return kernelMean(x, x, dim, true, math.Sqrt) / math.Sqrt(float64(dim)), nil
}

// Saturation is the share of values beyond ±at: pixels that chains have driven to the end of the range.
// 0.99 is usual for pictures in [-1, 1].
func Saturation(x []float32, at float64) float64 {
	if len(x) == 0 {
		return 0
	}
	n := 0
	for _, v := range x {
		if !(math.Abs(float64(v)) <= at) {
			n++
		}
	}
	return float64(n) / float64(len(x))
}
