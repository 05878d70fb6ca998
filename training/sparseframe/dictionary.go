package sparseframe

import (
	"fmt"
	"math"

	"ebmrun/training/filters"
)

// An Atom is a wavelet of a dictionary at a place.
type Atom struct{ Filter, Y, X int }

// A Dictionary is Gabor wavelets at all places of pictures of h×w where they fit.
type Dictionary struct {
	h, w, half   int // of pictures; wavelets are of 2·half+1
	oh, ow       int // places: (h−2·half)·(w−2·half)
	orientations int
	bank         []filters.Filter
	normal       [][2]float64 // across the wave's crests, of each filter
	gram         [][]float32  // ⟨B_a, B_b moved by d⟩, [a·filters + b][(4·half+1)²]

	moves [][]move // what a wavelet of each filter may become in a picture
}

// A move turns a wavelet into one of another filter at a place so far away.
type move struct{ filter, dy, dx int }

// NewDictionary holds cosine and sine waves of every scale and orientation, each padded to the largest size.
func NewDictionary(c *Config, h, w int) (*Dictionary, error) {
	d := &Dictionary{h: h, w: w, orientations: c.Orientations}
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
	// along the normal, and turned
	for k := range d.bank {
		var all []move
		for turn := -c.Turn; turn <= c.Turn; turn++ {
			for s := -c.Shift; s <= c.Shift; s++ {
				all = append(all, move{d.Turned(k, turn), int(math.Round(float64(s) * d.normal[k][0])), int(math.Round(float64(s) * d.normal[k][1]))})
			}
		}
		d.moves = append(d.moves, all)
	}
	return d, nil
}

// grams works out the table of inner products, once: it is not needed to respond.
func (d *Dictionary) grams() [][]float32 {
	if d.gram != nil {
		return d.gram
	}
	size, reach := 2*d.half+1, 4*d.half+1
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
	return d.gram
}

// Filters is the number of wavelets at a place.
func (d *Dictionary) Filters() int { return len(d.bank) }

// Half is the number of pixels of a wavelet on each side of its middle.
func (d *Dictionary) Half() int { return d.half }

// Turned is a filter turned by so many orientations, from the x axis towards the y axis, which points down.
func (d *Dictionary) Turned(filter, turn int) int {
	scale, in := filter/(2*d.orientations), filter%(2*d.orientations)
	o := ((in/2+turn)%d.orientations + d.orientations) % d.orientations
	return (scale*d.orientations+o)*2 + in%2
}

// inner is ⟨B_a, B_b⟩.
func (d *Dictionary) inner(a, b Atom) float32 {
	dy, dx := b.Y-a.Y, b.X-a.X
	if max(dy, -dy) > 2*d.half || max(dx, -dx) > 2*d.half {
		return 0
	}
	return d.grams()[a.Filter*len(d.bank)+b.Filter][(dy+2*d.half)*(4*d.half+1)+dx+2*d.half]
}

// Index is an atom's place in a map of responses [filters, oh, ow]; atom is its inverse.
func (d *Dictionary) Index(a Atom) int { return (a.Filter*d.oh+a.Y-d.half)*d.ow + a.X - d.half }

func (d *Dictionary) atom(i int) Atom {
	return Atom{i / (d.oh * d.ow), i/d.ow%d.oh + d.half, i%d.ow + d.half}
}

// Fits reports whether an atom lies inside the pictures.
func (d *Dictionary) Fits(a Atom) bool {
	return a.Y >= d.half && a.Y < d.h-d.half && a.X >= d.half && a.X < d.w-d.half
}

// Responses are ⟨x, B⟩ of all atoms [filters, oh, ow].
func (d *Dictionary) Responses(x []float32) []float32 {
	n := d.oh * d.ow
	r := make([]float32, len(d.bank)*n)
	for k, f := range d.bank {
		f.Inside(r[k*n:(k+1)*n], x, d.h, d.w)
	}
	return r
}

// add puts c·B into a picture.
func (d *Dictionary) add(x []float32, a Atom, c float32) {
	size := 2*d.half + 1
	for y := range size {
		row := x[(a.Y-d.half+y)*d.w+a.X-d.half:][:size]
		for z, tap := range d.bank[a.Filter].Taps[y*size : (y+1)*size] {
			row[z] += c * tap
		}
	}
}

// taps is an atom as a picture.
func (d *Dictionary) taps(atoms []Atom) []float32 {
	out := make([]float32, len(atoms)*d.h*d.w)
	for j, a := range atoms {
		d.add(out[j*d.h*d.w:(j+1)*d.h*d.w], a, 1)
	}
	return out
}

// moved calls f with every atom that a may have become in a picture: moved along its normal, turned.
func (d *Dictionary) moved(a Atom, f func(Atom)) {
	for _, m := range d.moves[a.Filter] {
		if b := (Atom{m.filter, a.Y + m.dy, a.X + m.dx}); d.Fits(b) {
			f(b)
		}
	}
}

// best is the atom that a became in a picture with the given responses, and the size of its response.
func (d *Dictionary) best(r []float32, a Atom) (at Atom, most float32) {
	most = -1
	for _, m := range d.moves[a.Filter] {
		b := Atom{m.filter, a.Y + m.dy, a.X + m.dx}
		if !d.Fits(b) {
			continue
		}
		v := r[d.Index(b)]
		if v < 0 {
			v = -v
		}
		if v > most {
			at, most = b, v
		}
	}
	return at, most
}

// Maxima are the sizes of the responses of all atoms, each moved to its best.
func (d *Dictionary) Maxima(r []float32) []float32 {
	out := make([]float32, len(r))
	for k := range d.bank {
		d.maxima(out, r, k, 0, d.oh, 0, d.ow)
	}
	return out
}

// maxima writes those of a filter at places from (y0, x0) up to (y1, x1), counted from the first place.
func (d *Dictionary) maxima(out, r []float32, filter, y0, y1, x0, x1 int) {
	n := d.oh * d.ow
	to := out[filter*n : (filter+1)*n]
	for y := y0; y < y1; y++ {
		clear(to[y*d.ow+x0 : y*d.ow+x1])
	}
	for _, m := range d.moves[filter] {
		from := r[m.filter*n : (m.filter+1)*n]
		left, right := max(x0, -m.dx), min(x1, d.ow-m.dx)
		for y := max(y0, -m.dy); y < min(y1, d.oh-m.dy) && left < right; y++ {
			row, at := to[y*d.ow+left:y*d.ow+right], from[(y+m.dy)*d.ow+left+m.dx:][:right-left]
			for x, v := range at {
				if v < 0 {
					v = -v
				}
				if v > row[x] {
					row[x] = v
				}
			}
		}
	}
}

// pursue selects m atoms shared by all pictures, by matching pursuit (responses r of each are used up): the
// atom that explains most of all pictures, each at its own moved place, whose explained part is then taken
// off every picture.
func (d *Dictionary) pursue(r [][]float32, m int) (atoms []Atom) {
	gain, each := make([]float32, len(r[0])), make([][]float32, len(r))
	for n := range r {
		each[n] = d.Maxima(r[n])
		for i, v := range each[n] {
			gain[i] += v * v
		}
	}
	n, shift := len(d.bank), 0
	for _, to := range d.moves[0] {
		shift = max(shift, to.dy, to.dx)
	}
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
			c := r[p][d.Index(b)]
			y0, y1 := max(d.half, b.Y-2*d.half), min(d.h-d.half-1, b.Y+2*d.half)
			x0, x1 := max(d.half, b.X-2*d.half), min(d.w-d.half-1, b.X+2*d.half)
			for k := range n {
				g := d.grams()[b.Filter*n+k]
				for y := y0; y <= y1; y++ {
					row, out := g[(y-b.Y+2*d.half)*(4*d.half+1)+x0-b.X+2*d.half:], r[p][d.Index(Atom{k, y, x0}):]
					for x := range x1 - x0 + 1 {
						out[x] -= c * row[x]
					}
				}
			}
			// places whose moves reach what has changed
			p0, p1 := max(0, y0-shift-d.half), min(d.oh, y1+shift-d.half+1)
			q0, q1 := max(0, x0-shift-d.half), min(d.ow, x1+shift-d.half+1)
			for k := range n {
				now := each[p][k*d.oh*d.ow:]
				sum := gain[k*d.oh*d.ow:]
				for y := p0; y < p1; y++ {
					for i := y*d.ow + q0; i < y*d.ow+q1; i++ {
						sum[i] -= now[i] * now[i]
					}
				}
				d.maxima(each[p], r[p], k, p0, p1, q0, q1)
				for y := p0; y < p1; y++ {
					for i := y*d.ow + q0; i < y*d.ow+q1; i++ {
						sum[i] += now[i] * now[i]
					}
				}
			}
		}
	}
	return atoms
}
