package sparseframe

import (
	"math"

	"ebmrun/training/data"
	"ebmrun/training/sampler"
)

// outline is a template of atoms along the outline of a square, as many on each side, all of one weight.
func outline(c Config, size, side, each int, theta float64) (*Template, error) {
	d, err := NewDictionary(&c, size, size)
	if err != nil {
		return nil, err
	}
	t := &Template{Dictionary: d}
	lo, hi := (size-side)/2, (size+side)/2
	for k := range each {
		p := lo + side*(2*k+1)/(2*each)
		flat, upright := 0, 2*(d.orientations/2)
		for _, a := range []Atom{{flat, lo, p}, {flat, hi, p}, {upright, p, lo}, {upright, p, hi}} {
			t.add(a)
		}
	}
	for j := range t.Theta {
		t.Theta[j] = theta
	}
	return t, nil
}

// draw is n pictures of the template after so many sweeps from noise.
func (t *Template) draw(n, sweeps int, seed uint64) (chains []*chain) {
	for k := range n {
		c := &chain{x: make([]float32, t.h*t.w)}
		sampler.Noise{Seed: seed}.Normals(c.x, sampler.Chains(uint64(k), 1), 0)
		t.respond(c)
		for i := range sweeps {
			t.sweep(sampler.Stream(seed, uint64(k), uint64(i)), c)
		}
		chains = append(chains, c)
	}
	return chains
}

// Square samples n pictures of size×size of a known template, the outline of a square with 4·each atoms of
// weight theta: what selection must find again.
func Square(c Config, size, side, each, n int, theta float64, seed uint64) (*data.Set, []Atom, error) {
	t, err := outline(c, size, side, each, theta)
	if err != nil {
		return nil, nil, err
	}
	set := &data.Set{Name: "square", N: n, C: 1, H: size, W: size, Gain: 1}
	for _, x := range t.draw(n, 20, seed) {
		set.Floats = append(set.Floats, x.x...)
	}
	return set, t.Atoms, nil
}

// Drift is the largest difference between responses kept up to date over sweeps of such a template and
// those worked out anew.
func Drift(c Config, size, side, each, sweeps int, seed uint64) (off float64, err error) {
	t, err := outline(c, size, side, each, 1)
	if err != nil {
		return 0, err
	}
	x := t.draw(1, sweeps, seed)[0]
	kept := x.r
	t.respond(x)
	for j, v := range x.r {
		off = max(off, math.Abs(float64(kept[j]-v)))
	}
	return off, nil
}

// Likeness is the correlation of the sum of the selected atoms with that of others.
func (s *System) Likeness(others []Atom) float64 { return s.likeness(s.Atoms, others) }

// Chance is the same of as many atoms at random places.
func (s *System) Chance(others []Atom, seed uint64) float64 {
	r, random := sampler.Stream(seed, 0, 0), make([]Atom, len(others))
	for i := range random {
		random[i] = s.atom(r.IntN(len(s.bank) * s.oh * s.ow))
	}
	return s.likeness(random, others)
}

func (d *Dictionary) likeness(a, b []Atom) float64 {
	x, y := make([]float32, d.h*d.w), make([]float32, d.h*d.w)
	for _, q := range a {
		d.add(x, q, 1)
	}
	for _, q := range b {
		d.add(y, q, 1)
	}
	var xy, xx, yy float64
	for i, v := range x {
		xy, xx, yy = xy+float64(v*y[i]), xx+float64(v*v), yy+float64(y[i]*y[i])
	}
	return xy / math.Sqrt(xx*yy)
}

// Taps are the selected atoms as pictures, [m, h·w].
func (t *Template) Taps() []float32 { return t.taps(t.Atoms) }
