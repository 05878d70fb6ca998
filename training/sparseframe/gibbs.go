package sparseframe

import (
	"fmt"
	"math"
	"math/rand/v2"

	"ebmrun/training/sampler"
)

// A Template is a model of selected atoms, p(x) = exp(Σ_j θ_j·|⟨x, B_j⟩|)·N(0, I)/Z.
type Template struct {
	*Dictionary
	Atoms []Atom
	Theta []float64
	LogZ  float64

	near [][]near // atoms that overlap each
}

// NewTemplate is atoms of a dictionary with their weights and log Z.
func NewTemplate(d *Dictionary, atoms []Atom, theta []float64, logZ float64) (*Template, error) {
	t := &Template{Dictionary: d, LogZ: logZ}
	if len(atoms) != len(theta) {
		return nil, fmt.Errorf("sparse-frame: %d atoms and %d weights", len(atoms), len(theta))
	}
	for _, a := range atoms {
		if a.Filter < 0 || a.Filter >= len(d.bank) || !d.Fits(a) {
			return nil, fmt.Errorf("sparse-frame: atom %v is not of this dictionary", a)
		}
		t.add(a)
	}
	copy(t.Theta, theta)
	return t, nil
}

// Score is log p(x)/q(x) of a picture by its responses, atoms moved to their best place.
func (t *Template) Score(r []float32) float64 {
	f := -t.LogZ
	for j, a := range t.Atoms {
		_, v := t.best(r, a)
		f += t.Theta[j] * float64(v)
	}
	return f
}

// Draw is n pictures after so many sweeps from noise, [n, h·w].
func (t *Template) Draw(n, sweeps int, seed uint64) (x []float32) {
	for _, c := range t.draw(n, sweeps, seed) {
		x = append(x, c.x...)
	}
	return x
}

// Bars draws each atom as a bar, as bright as its weight; Sketch does so where the atoms have moved to in a
// picture of the given responses, as bright as what they explain of it.
func (t *Template) Bars() []float32 { return t.bars(t.Atoms, t.Theta) }

// Sketch is described with Bars.
func (t *Template) Sketch(r []float32) []float32 {
	at, bright := make([]Atom, len(t.Atoms)), make([]float64, len(t.Atoms))
	for j, a := range t.Atoms {
		b, v := t.best(r, a)
		at[j], bright[j] = b, t.Theta[j]*float64(v)
	}
	return t.bars(at, bright)
}

func (t *Template) bars(atoms []Atom, bright []float64) []float32 {
	out, most := make([]float32, t.h*t.w), 1e-9
	for _, v := range bright {
		most = max(most, v)
	}
	for j, a := range atoms {
		Bar(out, t.h, t.w, float64(a.Y), float64(a.X), t.Angle(a.Filter), 0.7*float64(t.half), max(0.15, bright[j]/most))
	}
	return out
}

// Angle is the direction of a wave's crests, from the x axis towards the y axis, which points down.
func (d *Dictionary) Angle(filter int) float64 {
	return math.Pi * float64(filter/2%d.orientations) / float64(d.orientations)
}

// Bar draws a line through a place of a picture of h×w, so long to both sides.
func Bar(out []float32, h, w int, y, x, angle, long, bright float64) {
	sin, cos := math.Sincos(angle)
	Line(out, h, w, y-long*sin, x-long*cos, y+long*sin, x+long*cos, bright)
}

// Line draws a line between two places.
func Line(out []float32, h, w int, y0, x0, y1, x1, bright float64) {
	steps := 1 + int(2*math.Hypot(y1-y0, x1-x0))
	for k := range steps + 1 {
		t := float64(k) / float64(steps)
		yy, xx := int(math.Round(y0+t*(y1-y0))), int(math.Round(x0+t*(x1-x0)))
		if yy >= 0 && yy < h && xx >= 0 && xx < w {
			out[yy*w+xx] = max(out[yy*w+xx], float32(bright))
		}
	}
}

type near struct {
	atom  int
	inner float32
}

// add takes one more atom, of weight 0.
func (t *Template) add(a Atom) {
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
func (t *Template) respond(c *chain) {
	c.r = make([]float32, len(t.Atoms))
	for j, a := range t.Atoms {
		c.r[j] = t.dot(c.x, a)
	}
}

func (t *Template) dot(x []float32, a Atom) (sum float32) {
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
func (t *Template) sweep(r *rand.Rand, c *chain) {
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
		t.Dictionary.add(c.x, a, step)
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
