package mrf

import (
	"fmt"
	"math"
	"math/rand/v2"

	"ebmrun/training/grey"
	"ebmrun/training/sampler"
)

// A Lattice is h×w pixels of which each interacts with those at the given offsets, and at minus those.
type Lattice struct {
	H, W    int
	Torus   bool // edges meet; otherwise pixels at the rim have fewer neighbours
	Offsets [][2]int
}

// Offsets of neighbours up to an order from 1 to 4, each to be used with its opposite.
func Offsets(order int) [][2]int {
	all := [][2]int{{0, 1}, {1, 0}, {1, 1}, {1, -1}, {0, 2}, {2, 0}, {1, 2}, {2, 1}, {1, -2}, {2, -1}}
	return all[:[]int{0, 2, 4, 6, 10}[order]]
}

// at is the pixel at an offset from i, −1 outside a lattice whose edges do not meet.
func (l *Lattice) at(i, dy, dx int) int {
	y, x := i/l.W+dy, i%l.W+dx
	if l.Torus {
		return (y+2*l.H)%l.H*l.W + (x+2*l.W)%l.W
	}
	if y < 0 || y >= l.H || x < 0 || x >= l.W {
		return -1
	}
	return y*l.W + x
}

// classes colours the pixels so that no two of one colour are neighbours, and lists them by colour.
// Those of one colour are independent given the rest.
func (l *Lattice) classes() (out [][]int) {
	colour := make([]int, l.H*l.W)
	for i := range colour {
		colour[i] = -1
		used := map[int]bool{}
		for _, o := range l.Offsets {
			for _, j := range []int{l.at(i, o[0], o[1]), l.at(i, -o[0], -o[1])} {
				if j >= 0 && j < i {
					used[colour[j]] = true
				}
			}
		}
		c := 0
		for used[c] {
			c++
		}
		if colour[i] = c; c == len(out) {
			out = append(out, nil)
		}
		out[c] = append(out[c], i)
	}
	return out
}

// A Model is a pairwise Gibbs field on grey levels 0 … G−1,
//
//	p(x) ∝ exp(Σ_s base(x_s) + Σ_s Σ_j θ_j·φ_j(x_s) + Σ_s Σ_r θ_r·ψ(x_s, x_s+r)),
//
// whose conditionals are log-linear in θ: first the weights of the fields φ, then one for each offset.
type Model struct {
	Family string
	Levels int
	Field  bool // with weights for single pixels
	Lattice
	Theta []float64

	places [][]int // by colour
	table  [][]int // neighbours of each pixel: of each offset the two sides
}

// NewModel is a model whose weights are 0.
func NewModel(family string, levels int, field bool, l Lattice) *Model {
	m := &Model{Family: family, Levels: levels, Field: field, Lattice: l, places: l.classes()}
	for i := range l.H * l.W {
		var row []int
		for _, o := range l.Offsets {
			row = append(row, l.at(i, o[0], o[1]), l.at(i, -o[0], -o[1]))
		}
		m.table = append(m.table, row)
	}
	m.Theta = make([]float64, m.fields()+len(l.Offsets))
	return m
}

// fields is the number of weights of single pixels.
func (m *Model) fields() int {
	switch {
	case !m.Field:
		return 0
	case m.Family == Potts:
		return m.Levels - 1
	}
	return 1
}

// base is the log weight that a level has by itself.
func (m *Model) base(v int) float64 {
	if m.Family != AutoBinomial {
		return 0
	}
	a, _ := math.Lgamma(float64(m.Levels))
	b, _ := math.Lgamma(float64(v + 1))
	c, _ := math.Lgamma(float64(m.Levels - v))
	return a - b - c
}

// single writes φ_j(v).
func (m *Model) single(v int, phi []float64) {
	clear(phi)
	switch {
	case len(phi) == 0:
	case m.Family == Ising:
		phi[0] = float64(2*v - 1)
	case m.Family == AutoBinomial:
		phi[0] = float64(v)
	case v > 0:
		phi[v-1] = 1
	}
}

// pair is ψ(v, u).
func (m *Model) pair(v, u int) float64 {
	switch m.Family {
	case Ising:
		return float64((2*v - 1) * (2*u - 1))
	case AutoBinomial:
		return float64(v * u)
	}
	if v == u {
		return 1
	}
	return 0
}

// features writes φ and the sums of ψ over both neighbours of each offset for level v at pixel i.
func (m *Model) features(x []uint8, i, v int, phi []float64) {
	n := m.fields()
	m.single(v, phi[:n])
	for r := range m.Offsets {
		sum := 0.0
		for _, j := range m.table[i][2*r : 2*r+2] {
			if j >= 0 {
				sum += m.pair(v, int(x[j]))
			}
		}
		phi[n+r] = sum
	}
}

// conditional writes the log weights of all levels of pixel i given the others, up to a constant.
func (m *Model) conditional(x []uint8, i int, w []float64) {
	n := m.fields()
	var phi [64]float64
	for v := range w {
		w[v] = m.base(v)
		m.single(v, phi[:n])
		for j, p := range phi[:n] {
			w[v] += m.Theta[j] * p
		}
	}
	for r, theta := range m.Theta[n:] {
		for _, j := range m.table[i][2*r : 2*r+2] {
			if j < 0 {
				continue
			}
			u := int(x[j])
			if m.Family == Potts {
				w[u] += theta
				continue
			}
			for v := range w {
				w[v] += theta * m.pair(v, u)
			}
		}
	}
}

// Statistics are the sums of φ and ψ over a picture, each pair once.
func (m *Model) Statistics(x []uint8) []float64 {
	n := m.fields()
	s, phi := make([]float64, len(m.Theta)), make([]float64, n)
	for i, v := range x {
		m.single(int(v), phi)
		for j, p := range phi {
			s[j] += p
		}
		for r := range m.Offsets {
			if j := m.table[i][2*r]; j >= 0 {
				s[n+r] += m.pair(int(v), int(x[j]))
			}
		}
	}
	return s
}

// Energy is −log p(x) up to log Z.
func (m *Model) Energy(x []uint8) float64 {
	u := 0.0
	for j, s := range m.Statistics(x) {
		u -= m.Theta[j] * s
	}
	for _, v := range x {
		u -= m.base(int(v))
	}
	return u
}

// Sweep draws every pixel anew, one colour after the other.
func (m *Model) Sweep(r *rand.Rand, x []uint8) {
	w := make([]float64, m.Levels)
	for _, class := range m.places {
		for _, i := range class {
			m.conditional(x, i, w)
			x[i] = uint8(sampler.Choose(r, w))
		}
	}
}

// Metropolis offers every pixel a level drawn at random.
func (m *Model) Metropolis(r *rand.Rand, x []uint8) {
	w := make([]float64, m.Levels)
	for _, class := range m.places {
		for _, i := range class {
			v := r.IntN(m.Levels)
			m.conditional(x, i, w)
			if math.Log(r.Float64()) < w[v]-w[x[i]] {
				x[i] = uint8(v)
			}
		}
	}
}

// Exchange offers as many random pairs of pixels as there are pixels to change places: the grey
// histogram stays as it is (Cross and Jain, 1983).
func (m *Model) Exchange(r *rand.Rand, x []uint8) {
	w := make([]float64, m.Levels)
	for range x {
		i, j := r.IntN(len(x)), r.IntN(len(x))
		a, b := x[i], x[j]
		if a == b {
			continue
		}
		m.conditional(x, i, w)
		gain := w[b] - w[a]
		x[i] = b // so that neighbours that change places see each other's new level
		m.conditional(x, j, w)
		if gain += w[a] - w[b]; math.Log(r.Float64()) < gain {
			x[j] = a
		} else {
			x[i] = a
		}
	}
}

// PseudoLikelihood is Σ_s log p(x_s | neighbours) of a picture with its slope and its information, minus
// the matrix of second derivatives [θ, θ]; both are nil where slope is.
func (m *Model) PseudoLikelihood(x []uint8, slope, information []float64) (sum float64) {
	k := len(m.Theta)
	w, phi, mean := make([]float64, m.Levels), make([]float64, m.Levels*k), make([]float64, k)
	for i, seen := range x {
		most := math.Inf(-1)
		if m.conditional(x, i, w); slope != nil {
			for v := range w {
				m.features(x, i, v, phi[v*k:(v+1)*k])
			}
		}
		for _, v := range w {
			most = max(most, v)
		}
		total := 0.0
		for _, v := range w {
			total += math.Exp(v - most)
		}
		logZ := most + math.Log(total)
		if sum += w[seen] - logZ; slope == nil {
			continue
		}
		clear(mean)
		for v := range w {
			p := math.Exp(w[v] - logZ)
			row := phi[v*k : (v+1)*k]
			for a, f := range row {
				mean[a] += p * f
				for b := range a + 1 {
					information[a*k+b] += p * f * row[b]
				}
			}
		}
		for a, f := range phi[int(seen)*k : int(seen+1)*k] {
			slope[a] += f - mean[a]
			for b := range a + 1 {
				information[a*k+b] -= mean[a] * mean[b]
			}
		}
	}
	for a := range k {
		for b := range a {
			if slope != nil {
				information[b*k+a] = information[a*k+b]
			}
		}
	}
	return sum
}

// Enumerate sums over all states of a lattice so small that they can be listed: log Z and the exact
// means of the statistics.
func (m *Model) Enumerate() (logZ float64, mean []float64, err error) {
	places, states := m.H*m.W, 1
	for range places {
		if states *= m.Levels; states > 1<<20 {
			return 0, nil, fmt.Errorf("mrf: %d pixels of %d levels have too many states to list", places, m.Levels)
		}
	}
	x, z := make([]uint8, places), 0.0
	mean = make([]float64, len(m.Theta))
	for s := range states {
		for i := range x {
			x[i] = uint8(s % m.Levels)
			s /= m.Levels
		}
		p := math.Exp(-m.Energy(x))
		z += p
		for j, v := range m.Statistics(x) {
			mean[j] += p * v
		}
	}
	for j := range mean {
		mean[j] /= z
	}
	return math.Log(z), mean, nil
}

// values are a picture in the data's scale.
func values(l grey.Levels, x []uint8) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = l.Value(v)
	}
	return out
}
