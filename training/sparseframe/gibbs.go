package sparseframe

import (
	"math"
	"math/rand/v2"

	"ebmrun/training/sampler"
)

// A template is a model of selected atoms, p(x) = exp(Σ_j θ_j·|⟨x, B_j⟩|)·N(0, I)/Z.
type template struct {
	*dictionary
	Atoms []Atom
	Theta []float64

	near [][]near // atoms that overlap each
}

type near struct {
	atom  int
	inner float32
}

// add takes one more atom, of weight 0.
func (t *template) add(a Atom) {
	j := len(t.Atoms)
	t.Atoms, t.Theta, t.near = append(t.Atoms, a), append(t.Theta, 0), append(t.near, nil)
	for i, b := range t.Atoms {
		if g := t.inner(a, b); g > 1e-5 || g < -1e-5 {
			t.near[j] = append(t.near[j], near{i, g})
			if i != j {
				t.near[i] = append(t.near[i], near{j, g})
			}
		}
	}
}

// A chain is a picture with its responses to the template's atoms.
type chain struct{ x, r []float32 }

// respond works out a chain's responses.
func (t *template) respond(c *chain) {
	c.r = make([]float32, len(t.Atoms))
	for j, a := range t.Atoms {
		c.r[j] = t.dot(c.x, a)
	}
}

func (t *template) dot(x []float32, a Atom) (sum float32) {
	size := 2*t.half + 1
	for y := range size {
		row := x[(a.Y-t.half+y)*t.w+a.X-t.half:][:size]
		for z, tap := range t.bank[a.Filter].Taps[y*size : (y+1)*size] {
			sum += tap * row[z]
		}
	}
	return sum
}

// reach and grains lay out the coefficients that a sweep chooses among: 0 and as many on both sides, up to
// reach.
const (
	reach  = 20.0
	grains = 50
)

// sweep draws, atom by atom, by how much of it the picture changes, x += c·B_j, from
//
//	log weight of c = Σ_i θ_i·|r_i + c·⟨B_i, B_j⟩| − (2·c·r_j + c²)/2
//
// over a grid with 0 on it whose spacing differs from sweep to sweep, so that every picture can be reached.
func (t *template) sweep(r *rand.Rand, c *chain) {
	spacing := reach / grains * (0.5 + r.Float64())
	w := make([]float64, 2*grains+1)
	for j, a := range t.Atoms {
		rj := float64(c.r[j])
		for g := range w {
			step := spacing * float64(g-grains)
			w[g] = -(2*step*rj + step*step) / 2
		}
		for _, n := range t.near[j] {
			theta, ri, inner := t.Theta[n.atom], float64(c.r[n.atom]), float64(n.inner)*spacing
			if theta == 0 {
				continue
			}
			for g := range w {
				w[g] += theta * math.Abs(ri+inner*float64(g-grains))
			}
		}
		step := float32(spacing * float64(sampler.Choose(r, w)-grains))
		if step == 0 {
			continue
		}
		t.dictionary.add(c.x, a, step)
		for _, n := range t.near[j] {
			c.r[n.atom] += step * n.inner
		}
	}
}

// score is f = Σ_j θ_j·|r_j|.
func score(theta []float64, r []float32) (f float64) {
	for j, v := range theta {
		f += v * math.Abs(float64(r[j]))
	}
	return f
}

// gained is log mean exp(f_to − f_from) over chains.
func gained(from, to []float64, chains []*chain) float64 {
	most, d := math.Inf(-1), make([]float64, len(chains))
	for k, c := range chains {
		d[k] = score(to, c.r) - score(from, c.r)
		most = max(most, d[k])
	}
	sum := 0.0
	for _, v := range d {
		sum += math.Exp(v - most)
	}
	return most + math.Log(sum/float64(len(chains)))
}
