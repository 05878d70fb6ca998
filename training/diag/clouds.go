package diag

import (
	"fmt"
	"math"
)

// Chamfer is the Chamfer distance of two point sets in dim coordinates: the mean squared distance of a
// point of a to the nearest of b, plus the same the other way round.
func Chamfer(a, b []float32, dim int) (float64, error) {
	if _, _, err := pair("chamfer distance", a, b, dim, 1); err != nil {
		return 0, err
	}
	return chamfer(a, b, dim), nil
}

func chamfer(a, b []float32, dim int) float64 {
	na, nb := len(a)/dim, len(b)/dim
	near := make([]float32, nb) // of each point of b
	for j := range near {
		near[j] = float32(math.Inf(1))
	}
	there, back := 0.0, 0.0
	for i := range na {
		p := a[i*dim : (i+1)*dim]
		best := float32(math.Inf(1))
		for j := range nb {
			d := float32(0)
			for k, v := range b[j*dim : (j+1)*dim] {
				d += (v - p[k]) * (v - p[k])
			}
			best, near[j] = min(best, d), min(near[j], d)
		}
		there += float64(best)
	}
	for _, d := range near {
		back += float64(d)
	}
	return there/float64(na) + back/float64(nb)
}

// maxEMD bounds the points of an exact assignment, whose cost grows with the cube.
const maxEMD = 2048

// EMD is the earth mover's distance of two sets of as many points: the mean distance of pairs under the
// best of all one-to-one assignments, found exactly (shortest augmenting paths: Jonker and Volgenant 1987).
func EMD(a, b []float32, dim int) (float64, error) {
	n, nb, err := pair("earth mover's distance", a, b, dim, 1)
	if err != nil {
		return 0, err
	}
	if n != nb || n > maxEMD {
		return 0, fmt.Errorf("diag: earth mover's distance: %d and %d points, want as many, at most %d", n, nb, maxEMD)
	}
	cost := func(i, j int) float64 {
		d := 0.0
		for k := range dim {
			v := float64(a[i*dim+k]) - float64(b[j*dim+k])
			d += v * v
		}
		return math.Sqrt(d)
	}
	// u and v are the dual prices of rows and columns; row[j] is the row matched to column j, from 1, and
	// column 0 stands for the row that is to be matched.
	u, v := make([]float64, n+1), make([]float64, n+1)
	row, from := make([]int, n+1), make([]int, n+1)
	short, done := make([]float64, n+1), make([]bool, n+1)
	for i := 1; i <= n; i++ {
		for j := range short {
			short[j], done[j] = math.Inf(1), false
		}
		row[0] = i
		at := 0
		for row[at] != 0 {
			done[at] = true
			delta, next := math.Inf(1), 0
			for j := 1; j <= n; j++ {
				if done[j] {
					continue
				}
				if c := cost(row[at]-1, j-1) - u[row[at]] - v[j]; c < short[j] {
					short[j], from[j] = c, at
				}
				if short[j] < delta {
					delta, next = short[j], j
				}
			}
			for j := range done {
				if done[j] {
					u[row[j]] += delta
					v[j] -= delta
				} else {
					short[j] -= delta
				}
			}
			at = next
		}
		for at != 0 {
			row[at] = row[from[at]]
			at = from[at]
		}
	}
	sum := 0.0
	for j := 1; j <= n; j++ {
		sum += cost(row[j]-1, j-1)
	}
	return sum / float64(n), nil
}

// A CloudScore compares generated point sets with reference sets (Achlioptas et al. 2018, Yang et al. 2019).
type CloudScore struct {
	MMD      float64 // mean over the references of the distance to the nearest sample: low is good
	Coverage float64 // share of the references that are nearest to some sample: high is good
	Nearest  float64 // accuracy of telling the two apart by the nearest neighbour, left out itself: 0.5 is good
}

// Clouds scores samples [n, points, dim] against references [m, points, dim] under a distance of two
// sets, such as that of [Chamfer].
func Clouds(samples, refs []float32, points, dim int, distance func(a, b []float32, dim int) (float64, error)) (CloudScore, error) {
	n, m, err := pair("point sets", samples, refs, points*dim, 1)
	if err != nil {
		return CloudScore{}, err
	}
	all := func(i int) []float32 {
		if i < n {
			return samples[i*points*dim:][:points*dim]
		}
		return refs[(i-n)*points*dim:][:points*dim]
	}
	d := make([]float64, (n+m)*(n+m))
	for i := range n + m {
		for j := range i {
			v, err := distance(all(i), all(j), dim)
			if err != nil {
				return CloudScore{}, err
			}
			d[i*(n+m)+j], d[j*(n+m)+i] = v, v
		}
	}
	// nearest is the place of the smallest distance from i to lo … hi−1, i itself left out.
	nearest := func(i, lo, hi int) (at int, best float64) {
		at, best = -1, math.Inf(1)
		for j := lo; j < hi; j++ {
			if v := d[i*(n+m)+j]; j != i && v < best {
				at, best = j, v
			}
		}
		return at, best
	}
	var s CloudScore
	for j := n; j < n+m; j++ {
		_, v := nearest(j, 0, n)
		s.MMD += v / float64(m)
	}
	covered := map[int]bool{}
	for i := range n {
		at, _ := nearest(i, n, n+m)
		covered[at] = true
	}
	s.Coverage = float64(len(covered)) / float64(m)
	right := 0
	for i := range n + m {
		at, _ := nearest(i, 0, n+m)
		if (i < n) == (at < n) {
			right++
		}
	}
	s.Nearest = float64(right) / float64(n+m)
	return s, nil
}

// CloudJSD is the Jensen-Shannon divergence, in bits, of how often the cells of a grid³ over [−1, 1]³ are
// met by the points [n, 3] of two collections of point sets; 28 is the usual grid. Points outside count
// for the cells at the border.
func CloudJSD(a, b []float32, grid int) (float64, error) {
	na, nb, err := pair("divergence of points", a, b, 3, 1)
	if err != nil {
		return 0, err
	}
	if grid < 1 || grid > 256 {
		return 0, fmt.Errorf("diag: divergence of points: a grid of %d, want 1 to 256", grid)
	}
	count := func(x []float32, n int) []float64 {
		p := make([]float64, grid*grid*grid)
		for i := range n {
			at := 0
			for _, v := range x[3*i : 3*i+3] {
				at = at*grid + max(0, min(grid-1, int((float64(v)+1)/2*float64(grid))))
			}
			p[at] += 1 / float64(n)
		}
		return p
	}
	p, q := count(a, na), count(b, nb)
	sum := 0.0
	for i := range p {
		m := (p[i] + q[i]) / 2
		for _, v := range []float64{p[i], q[i]} {
			if v > 0 {
				sum += v * math.Log2(v/m) / 2
			}
		}
	}
	return max(0, sum), nil
}
