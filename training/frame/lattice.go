package frame

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"ebmrun/training/filters"
	"ebmrun/training/sampler"
)

// A probe is a filter in whole numbers: grey levels are whole too, so responses are, and changing a
// pixel changes them without rounding. Nothing drifts.
type probe struct {
	name  string
	half  int
	taps  []int32 // [2·half+1, 2·half+1]
	low   int32   // the lowest response there can be
	span  int32   // how far the highest is above it
	shift uint    // a response r lies in cell (r−low)>>shift

	lo, hi   int32     // observed responses lie between these
	bin      []uint8   // of each cell
	observed []float64 // share of the observed responses in each bin
}

const (
	largest = 64   // what the largest tap becomes
	cells   = 4096 // at most so many cells
)

// newProbe rounds a filter, for pictures of so many grey levels.
func newProbe(f filters.Filter, levels int) *probe {
	p := &probe{name: f.Name, half: f.Half(), taps: make([]int32, len(f.Taps))}
	most := 0.0
	for _, v := range f.Taps {
		most = max(most, math.Abs(float64(v)))
	}
	var up, down int32
	for i, v := range f.Taps {
		p.taps[i] = int32(math.Round(float64(v) * largest / most))
		up, down = up+max(p.taps[i], 0), down+min(p.taps[i], 0)
	}
	p.low = down * int32(levels-1)
	p.span = (up - down) * int32(levels-1)
	for p.span>>p.shift >= cells {
		p.shift++
	}
	return p
}

// observe lays bins of equal width over the responses of the observed pictures, the outer two open, and
// counts what they hold.
func (p *probe) observe(bins int, pictures []*field) {
	var all []int32
	for _, o := range pictures {
		all = append(all, o.responses(p)...)
	}
	p.lay(bins, slices.Min(all), slices.Max(all))
	for _, r := range all {
		p.observed[p.of(r)] += 1 / float64(len(all))
	}
}

// lay lays bins over the responses from lo to hi.
func (p *probe) lay(bins int, lo, hi int32) {
	p.lo, p.hi = lo, hi
	p.observed, p.bin = make([]float64, bins), make([]uint8, p.span>>p.shift+1)
	for c := range p.bin {
		middle := float64(p.low) + (float64(c)+0.5)*float64(int32(1)<<p.shift) - 0.5
		at := math.Floor((middle - float64(lo)) / float64(hi-lo+1) * float64(bins))
		p.bin[c] = uint8(max(0, min(float64(bins-1), at)))
	}
}

// of is the bin of a response.
func (p *probe) of(r int32) uint8 { return p.bin[(r-p.low)>>p.shift] }

// A field is one picture in grey levels whose edges meet, with the responses and histograms of the
// probes that it is watched by.
type field struct {
	h, w  int
	x     []uint8
	watch []*probe
	r     [][]int32 // responses of each probe [h·w]
	count [][]int32 // responses in each bin, of each probe

	base, tap []int32 // of the places that one pixel changes
	at        []int32
}

func newField(h, w int, x []uint8) *field { return &field{h: h, w: w, x: x} }

// add watches one more probe.
func (f *field) add(p *probe) {
	r, count := f.responses(p), make([]int32, len(p.observed))
	for _, v := range r {
		count[p.of(v)]++
	}
	f.watch, f.r, f.count = append(f.watch, p), append(f.r, r), append(f.count, count)
	if n := len(p.taps); n > len(f.base) {
		f.base, f.tap, f.at = make([]int32, n), make([]int32, n), make([]int32, n)
	}
}

// responses works out a probe's responses at all places.
func (f *field) responses(p *probe) []int32 {
	r, size := make([]int32, len(f.x)), 2*p.half+1
	for o, tap := range p.taps {
		if tap == 0 {
			continue
		}
		dy, dx := o/size-p.half, wrap(o%size-p.half, f.w)
		for y := range f.h {
			row, out := f.x[wrap(y+dy, f.h)*f.w:][:f.w], r[y*f.w:(y+1)*f.w]
			for z, v := range row[dx:] {
				out[z] += tap * int32(v)
			}
			for z, v := range row[:dx] {
				out[f.w-dx+z] += tap * int32(v)
			}
		}
	}
	return r
}

func wrap(a, n int) int { return (a%n + n) % n }

// shares is the histogram of a probe's responses, summing to 1.
func (f *field) shares(p *probe) []float64 {
	h := make([]float64, len(p.observed))
	r := f.responses(p)
	for _, v := range r {
		h[p.of(v)] += 1 / float64(len(r))
	}
	return h
}

// touched collects the responses of probe k that pixel i takes part in: where they are, what they are
// above the lowest, and by which tap.
func (f *field) touched(k, i int) (at, base, tap []int32) {
	p, r := f.watch[k], f.r[k]
	size, n := 2*p.half+1, 0
	y, z := i/f.w, i%f.w
	for oy := range size {
		row := wrap(y-oy+p.half, f.h) * f.w
		place := wrap(z+p.half, f.w)
		for _, t := range p.taps[oy*size : (oy+1)*size] {
			if t != 0 {
				q := row + place
				f.at[n], f.base[n], f.tap[n] = int32(q), r[q]-p.low, t
				n++
			}
			if place--; place < 0 {
				place = f.w - 1
			}
		}
	}
	return f.at[:n], f.base[:n], f.tap[:n]
}

// set changes pixel i and with it responses and histograms.
func (f *field) set(i int, level uint8) {
	d := int32(level) - int32(f.x[i])
	if d == 0 {
		return
	}
	f.x[i] = level
	for k, p := range f.watch {
		at, base, tap := f.touched(k, i)
		for j, b := range base {
			f.r[k][at[j]] += d * tap[j]
			f.count[k][p.bin[b>>p.shift]]--
			f.count[k][p.bin[(b+d*tap[j])>>p.shift]]++
		}
	}
}

// A conditional writes the log weights of every grey level of pixel i, given all others, to w.
type conditional func(f *field, i int, w []float64)

// sweep visits every pixel once in random order and draws it anew.
func (f *field) sweep(r *rand.Rand, levels int, c conditional) {
	w := make([]float64, levels)
	for _, i := range r.Perm(len(f.x)) {
		c(f, i, w)
		f.set(i, uint8(sampler.Choose(r, w)))
	}
}

// potentials is the conditional of p(x) ∝ exp Σ_k Σ_p λ_k[bin of r_k(p)].
func potentials(watch []*probe, lambda [][]float64) conditional {
	table := make([][]float32, len(watch)) // λ of each cell
	for k, p := range watch {
		table[k] = make([]float32, len(p.bin))
		for c, b := range p.bin {
			table[k][c] = float32(lambda[k][b])
		}
	}
	return func(f *field, i int, w []float64) {
		clear(w)
		for k, p := range watch {
			_, base, tap := f.touched(k, i)
			tap = tap[:len(base)]
			for g := range w {
				d, sum := int32(g)-int32(f.x[i]), float32(0)
				for j, b := range base {
					sum += table[k][(b+d*tap[j])>>p.shift]
				}
				w[g] += float64(sum)
			}
		}
	}
}

// ensemble is the conditional of the Julesz ensemble at a temperature: the log weight is −1/temperature
// times the number of responses that lie in the wrong bin, summed over probes.
func ensemble(watch []*probe, temperature float64) conditional {
	delta := make([]int32, 256)
	return func(f *field, i int, w []float64) {
		clear(w)
		for k, p := range watch {
			_, base, tap := f.touched(k, i)
			places := float64(len(f.x))
			for g := range w {
				d := int32(g) - int32(f.x[i])
				if d == 0 {
					continue
				}
				clear(delta[:len(p.observed)])
				for j, b := range base {
					delta[p.bin[b>>p.shift]]--
					delta[p.bin[(b+d*tap[j])>>p.shift]]++
				}
				for b, change := range delta[:len(p.observed)] {
					off := float64(f.count[k][b]) - p.observed[b]*places
					w[g] -= (math.Abs(off+float64(change)) - math.Abs(off)) / temperature
				}
			}
		}
	}
}

// gap is the L1 distance between two histograms, at most 2.
func gap(a, b []float64) (sum float64) {
	for i, v := range a {
		sum += math.Abs(v - b[i])
	}
	return sum
}

// check recomputes all that is kept up to date and reports the first difference.
func (f *field) check() error {
	for k, p := range f.watch {
		count := make([]int32, len(p.observed))
		for i, v := range f.responses(p) {
			if v != f.r[k][i] {
				return fmt.Errorf("frame: %s: response %d is kept as %d and is %d", p.name, i, f.r[k][i], v)
			}
			count[p.of(v)]++
		}
		for b, n := range count {
			if n != f.count[k][b] {
				return fmt.Errorf("frame: %s: bin %d is kept as %d and holds %d", p.name, b, f.count[k][b], n)
			}
		}
	}
	return nil
}
