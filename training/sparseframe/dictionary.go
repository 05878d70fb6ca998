package sparseframe

import (
	"fmt"
	"math"

	"ebmrun/training/filters"
)

// An Atom is a wavelet of a dictionary at a place.
type Atom struct{ Filter, Y, X int }

// A dictionary is Gabor wavelets at all places of pictures of h×w where they fit.
type dictionary struct {
	h, w, half   int // of pictures; wavelets are of 2·half+1
	oh, ow       int // places: (h−2·half)·(w−2·half)
	orientations int
	bank         []filters.Filter
	normal       [][2]float64 // across the wave's crests, of each filter
	gram         [][]float32  // ⟨B_a, B_b moved by d⟩, [a·filters + b][(4·half+1)²]

	shift, turn int // how far a wavelet may move along its normal, and turn
}

// newDictionary holds cosine and sine waves of every scale and orientation, each padded to the largest size.
func newDictionary(c *Config, h, w int) (*dictionary, error) {
	d := &dictionary{h: h, w: w, orientations: c.Orientations, shift: c.Shift, turn: c.Turn}
	for _, s := range c.Scales {
		d.half = max(d.half, filters.Reach(s))
	}
	size := 2*d.half + 1
	for _, s := range c.Scales {
		bank, err := filters.Long(s, c.Orientations)
		if err != nil {
			return nil, err
		}
		for i, f := range bank {
			taps, off := make([]float32, size*size), d.half-f.Half()
			for y := range f.Size {
				copy(taps[(y+off)*size+off:], f.Taps[y*f.Size:(y+1)*f.Size])
			}
			sin, cos := math.Sincos(math.Pi * float64(i/2) / float64(c.Orientations))
			d.bank = append(d.bank, filters.Filter{Name: f.Name, Size: size, Taps: taps})
			d.normal = append(d.normal, [2]float64{cos, -sin}) // (y, x)
		}
	}
	if d.oh, d.ow = h-2*d.half, w-2*d.half; d.oh < 1 || d.ow < 1 || len(d.bank) == 0 {
		return nil, fmt.Errorf("wavelets of %d×%d do not fit into pictures of %d×%d", size, size, h, w)
	}
	reach := 4*d.half + 1
	wide := size + 4*d.half
	for _, a := range d.bank {
		pad := make([]float32, wide*wide)
		for y := range size {
			copy(pad[(y+2*d.half)*wide+2*d.half:], a.Taps[y*size:(y+1)*size])
		}
		for _, b := range d.bank {
			g := make([]float32, reach*reach)
			b.Inside(g, pad, wide, wide)
			d.gram = append(d.gram, g)
		}
	}
	return d, nil
}

// inner is ⟨B_a, B_b⟩.
func (d *dictionary) inner(a, b Atom) float32 {
	dy, dx := b.Y-a.Y, b.X-a.X
	if max(dy, -dy) > 2*d.half || max(dx, -dx) > 2*d.half {
		return 0
	}
	return d.gram[a.Filter*len(d.bank)+b.Filter][(dy+2*d.half)*(4*d.half+1)+dx+2*d.half]
}

// index is an atom's place in a map of responses [filters, oh, ow]; atom is its inverse.
func (d *dictionary) index(a Atom) int { return (a.Filter*d.oh+a.Y-d.half)*d.ow + a.X - d.half }

func (d *dictionary) atom(i int) Atom {
	return Atom{i / (d.oh * d.ow), i/d.ow%d.oh + d.half, i%d.ow + d.half}
}

// fits reports whether an atom lies inside the pictures.
func (d *dictionary) fits(a Atom) bool {
	return a.Y >= d.half && a.Y < d.h-d.half && a.X >= d.half && a.X < d.w-d.half
}

// responses are ⟨x, B⟩ of all atoms [filters, oh, ow].
func (d *dictionary) responses(x []float32) []float32 {
	n := d.oh * d.ow
	r := make([]float32, len(d.bank)*n)
	for k, f := range d.bank {
		f.Inside(r[k*n:(k+1)*n], x, d.h, d.w)
	}
	return r
}

// add puts c·B into a picture.
func (d *dictionary) add(x []float32, a Atom, c float32) {
	size := 2*d.half + 1
	for y := range size {
		row := x[(a.Y-d.half+y)*d.w+a.X-d.half:][:size]
		for z, tap := range d.bank[a.Filter].Taps[y*size : (y+1)*size] {
			row[z] += c * tap
		}
	}
}

// taps is an atom as a picture.
func (d *dictionary) taps(atoms []Atom) []float32 {
	out := make([]float32, len(atoms)*d.h*d.w)
	for j, a := range atoms {
		d.add(out[j*d.h*d.w:(j+1)*d.h*d.w], a, 1)
	}
	return out
}

// moved calls f with every atom that a may have become in a picture: moved along its normal, turned.
func (d *dictionary) moved(a Atom, f func(Atom)) {
	scale, in := a.Filter/(2*d.orientations), a.Filter%(2*d.orientations)
	for turn := -d.turn; turn <= d.turn; turn++ {
		o := ((in/2+turn)%d.orientations + d.orientations) % d.orientations
		k := (scale*d.orientations+o)*2 + in%2
		for s := -d.shift; s <= d.shift; s++ {
			b := Atom{k, a.Y + int(math.Round(float64(s)*d.normal[a.Filter][0])), a.X + int(math.Round(float64(s)*d.normal[a.Filter][1]))}
			if d.fits(b) {
				f(b)
			}
		}
	}
}

// best is the atom that a became in a picture with the given responses, and the size of its response.
func (d *dictionary) best(r []float32, a Atom) (at Atom, most float32) {
	most = -1
	d.moved(a, func(b Atom) {
		v := r[d.index(b)]
		if v < 0 {
			v = -v
		}
		if v > most {
			at, most = b, v
		}
	})
	return at, most
}

// maxima are the sizes of the responses of all atoms, each moved to its best.
func (d *dictionary) maxima(r []float32) []float32 {
	out := make([]float32, len(r))
	for i := range out {
		_, out[i] = d.best(r, d.atom(i))
	}
	return out
}

// pursue selects m atoms shared by all pictures, by matching pursuit (responses r of each are used up): the
// atom that explains most of all pictures, each at its own moved place, whose explained part is then taken
// off every picture.
func (d *dictionary) pursue(r [][]float32, m int) (atoms []Atom) {
	gain, each := make([]float32, len(r[0])), make([][]float32, len(r))
	for n := range r {
		each[n] = d.maxima(r[n])
		for i, v := range each[n] {
			gain[i] += v * v
		}
	}
	n := len(d.bank)
	for range m {
		best := 0
		for i, v := range gain {
			if v > gain[best] {
				best = i
			}
		}
		if !(gain[best] > 1e-6) {
			break
		}
		a := d.atom(best)
		atoms = append(atoms, a)
		for p := range r {
			b, _ := d.best(r[p], a)
			c := r[p][d.index(b)]
			y0, y1 := max(d.half, b.Y-2*d.half), min(d.h-d.half-1, b.Y+2*d.half)
			x0, x1 := max(d.half, b.X-2*d.half), min(d.w-d.half-1, b.X+2*d.half)
			for k := range n {
				g := d.gram[b.Filter*n+k]
				for y := y0; y <= y1; y++ {
					row, out := g[(y-b.Y+2*d.half)*(4*d.half+1)+x0-b.X+2*d.half:], r[p][d.index(Atom{k, y, x0}):]
					for x := range x1 - x0 + 1 {
						out[x] -= c * row[x]
					}
				}
			}
			for k := range n {
				for y := max(d.half, y0-d.shift); y <= min(d.h-d.half-1, y1+d.shift); y++ {
					for x := max(d.half, x0-d.shift); x <= min(d.w-d.half-1, x1+d.shift); x++ {
						at := Atom{k, y, x}
						i := d.index(at)
						_, v := d.best(r[p], at)
						gain[i] += v*v - each[p][i]*each[p][i]
						each[p][i] = v
					}
				}
			}
		}
	}
	return atoms
}
