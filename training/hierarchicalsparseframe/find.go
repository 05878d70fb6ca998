package hierarchicalsparseframe

import (
	"math"

	"ebmrun/training/pyramid"
	"ebmrun/training/sparseframe"
)

// A Pose places a template or a part of one: its middle, in pixels of one resolution of a picture, and how
// many orientations it is turned, from the x axis towards the y axis, which points down.
type Pose struct{ Y, X, Turn, Level int }

// A Detection is where a template fits a picture best.
type Detection struct {
	Cluster int
	Score   float64 // log p(x)/q(x) of the picture, nats
	Object  Pose
	Parts   []Pose // row by row
}

// A view is a picture as templates are compared with it: at every resolution, its contrast normalised, and
// the largest responses near each wavelet, which are the maps SUM1 and MAX1 of the paper.
type view struct{ pictures, maxima [][]float32 }

func (m *Model) view(x []float32) *view {
	v := &view{}
	for l, d := range m.levels {
		p := m.config.Frame.Prepare(pyramid.Resize(x, m.h, m.w, m.config.size(l, m.h), m.config.size(l, m.w)), m.config.size(l, m.h), m.config.size(l, m.w), d.Half())
		v.pictures, v.maxima = append(v.pictures, p), append(v.maxima, d.Maxima(d.Responses(p)))
	}
	return v
}

// turned is an offset turned by so many orientations.
func (m *Model) turned(dy, dx, turn int) (y, x float64) {
	if turn == 0 {
		return float64(dy), float64(dx)
	}
	sin, cos := math.Sincos(math.Pi * float64(turn) / float64(m.config.Frame.Orientations))
	return float64(dx)*sin + float64(dy)*cos, float64(dx)*cos - float64(dy)*sin
}

func round(v float64) int { return int(math.Round(v)) }

// middle is that of part k of n along a side; of the template as a whole, that of part 0 of 1.
func (m *Model) middle(k, n int) int { return m.config.Side*k/n + m.config.Side/n/2 }

// part is the middle of a part in its template.
func (m *Model) part(j int) (y, x int) {
	n := m.config.Parts
	return m.middle(j/n, n), m.middle(j%n, n)
}

// of is the part that a place of a template belongs to.
func (m *Model) of(y, x int) int {
	n := m.config.Parts
	return y*n/m.config.Side*n + x*n/m.config.Side
}

// sums is SUM2: the score Σ θ·MAX1 of a template's part j, turned, with its middle at every place of a
// resolution [h, w]. Wavelets that would lie outside the picture add nothing.
func (m *Model) sums(v *view, t *sparseframe.Template, j, turn, level int) []float32 {
	d, max1 := m.levels[level], v.maxima[level]
	h, w := m.config.size(level, m.h), m.config.size(level, m.w)
	half := d.Half()
	oh, ow := h-2*half, w-2*half
	out := make([]float32, h*w)
	cy, cx := m.part(j)
	for i, a := range t.Atoms {
		if m.of(a.Y, a.X) != j || t.Theta[i] == 0 {
			continue
		}
		y, x := m.turned(a.Y-cy, a.X-cx, turn)
		dy, dx, theta := round(y)-half, round(x)-half, float32(t.Theta[i])
		from := max1[d.Turned(a.Filter, turn)*oh*ow:][:oh*ow]
		for y := max(0, -dy); y < min(h, oh-dy); y++ {
			x0, x1 := max(0, -dx), min(w, ow-dx)
			if x0 >= x1 {
				break
			}
			row, at := out[y*w+x0:y*w+x1], from[(y+dy)*ow+x0+dx:][:x1-x0]
			for k, r := range at {
				row[k] += theta * r
			}
		}
	}
	return out
}

// largest is the largest value of a map [h, w] within so many pixels of each place.
func largest(x []float32, h, w, shift int) []float32 {
	if shift == 0 {
		return x
	}
	along := func(x []float32, stride, n, lines, next int) []float32 {
		out := make([]float32, len(x))
		for l := range lines {
			for i := range n {
				best := x[l*next+i*stride]
				for k := max(0, i-shift); k <= min(n-1, i+shift); k++ {
					best = max(best, x[l*next+k*stride])
				}
				out[l*next+i*stride] = best
			}
		}
		return out
	}
	return along(along(x, 1, w, h, w), w, h, w, 1)
}

// key names a map of sums: a part turned, at a level.
type key struct{ part, turn, level int }

// A search is a template's maps in a picture: of its parts alone, SUM2, and of the best near each place, MAX2.
type search struct {
	*Model
	object, part Freedom
	sums, max2   map[key][]float32
}

// search compares a template with a picture. At rest nothing moves.
func (m *Model) search(v *view, t *sparseframe.Template, rest bool) *search {
	s := &search{Model: m, sums: map[key][]float32{}, max2: map[key][]float32{}}
	if !rest {
		s.object, s.part = m.config.Object, m.config.Part
	}
	mid, turns, levels := m.config.Levels/2, s.object.Turn+s.part.Turn, s.object.Level+s.part.Level
	for j := range m.config.Parts * m.config.Parts {
		for turn := -turns; turn <= turns; turn++ {
			for l := max(0, mid-levels); l <= min(m.config.Levels-1, mid+levels); l++ {
				k := key{j, turn, l}
				s.sums[k] = m.sums(v, t, j, turn, l)
				s.max2[k] = largest(s.sums[k], m.config.size(l, m.h), m.config.size(l, m.w), s.part.Shift)
			}
		}
	}
	return s
}

// objects calls f with SUM3 [h, w] for every turn and level that an object may have: the sum of its parts,
// each at its best near where it is at rest.
func (s *search) objects(f func(turn, level int, sum3 []float32)) {
	mid := s.config.Levels / 2
	for l := mid - s.object.Level; l <= mid+s.object.Level; l++ {
		for turn := -s.object.Turn; turn <= s.object.Turn; turn++ {
			sum3 := make([]float32, s.config.size(l, s.h)*s.config.size(l, s.w))
			for j := range s.config.Parts * s.config.Parts {
				s.gather(sum3, j, turn, l)
			}
			f(turn, l, sum3)
		}
	}
}

// find is the best place of a template in a picture, MAX3, and where its parts are. At rest the object lies
// in the picture's middle and nothing moves.
func (m *Model) find(v *view, t *sparseframe.Template, rest bool) Detection {
	s, best := m.search(v, t, rest), Detection{Score: math.Inf(-1)}
	s.objects(func(turn, level int, sum3 []float32) {
		h, w := m.config.size(level, m.h), m.config.size(level, m.w)
		for i, f := range sum3 {
			if y, x := i/w, i%w; (!rest || y == h/2 && x == w/2) && float64(f)-t.LogZ > best.Score {
				best.Score, best.Object = float64(f)-t.LogZ, Pose{y, x, turn, level}
			}
		}
	})
	for j := range m.config.Parts * m.config.Parts {
		best.Parts = append(best.Parts, s.settle(j, best.Object))
	}
	return best
}

// ranges calls f with every turn and level that a part may have in an object's pose, those at rest first.
func (s *search) ranges(turn, level int, f func(turn, level int)) {
	f(turn, level)
	for l := max(0, level-s.part.Level); l <= min(s.config.Levels-1, level+s.part.Level); l++ {
		for t := turn - s.part.Turn; t <= turn+s.part.Turn; t++ {
			if t != turn || l != level {
				f(t, l)
			}
		}
	}
}

// at is where part j rests at a level to in an object whose middle is at (0, 0) of level from, and the
// scale between the two.
func (m *Model) at(j, turn, from, to int) (y, x, scale float64) {
	cy, cx := m.part(j)
	c := m.middle(0, 1)
	y, x = m.turned(cy-c, cx-c, turn)
	return y, x, m.config.scale(to) / m.config.scale(from)
}

// gather adds MAX2 of part j to SUM3 [h, w] of an object's turn and level: the best of the part's turns and
// levels where the part is at rest.
func (s *search) gather(sum3 []float32, j, turn, level int) {
	h, w := s.config.size(level, s.h), s.config.size(level, s.w)
	best := make([]float32, h*w)
	for i := range best {
		best[i] = float32(math.Inf(-1))
	}
	s.ranges(turn, level, func(a, l int) {
		from := s.max2[key{j, a, l}]
		lh, lw := s.config.size(l, s.h), s.config.size(l, s.w)
		dy, dx, scale := s.at(j, turn, level, l)
		cols := make([]int, w)
		for x := range cols {
			cols[x] = round((float64(x) + dx) * scale)
		}
		for y := range h {
			yy := round((float64(y) + dy) * scale)
			if yy < 0 || yy >= lh {
				continue
			}
			for x, xx := range cols {
				if xx >= 0 && xx < lw {
					best[y*w+x] = max(best[y*w+x], from[yy*lw+xx])
				}
			}
		}
	})
	for i, b := range best {
		if !math.IsInf(float64(b), -1) { // a part outside the picture adds nothing
			sum3[i] += b
		}
	}
}

// settle finds the pose of part j that its MAX2 came from.
func (s *search) settle(j int, object Pose) (p Pose) {
	most := float32(math.Inf(-1))
	dy, dx, _ := s.at(j, object.Turn, object.Level, object.Level)
	p = Pose{round(float64(object.Y) + dy), round(float64(object.X) + dx), object.Turn, object.Level}
	s.ranges(object.Turn, object.Level, func(a, l int) {
		h, w := s.config.size(l, s.h), s.config.size(l, s.w)
		_, _, scale := s.at(j, object.Turn, object.Level, l)
		y0, x0 := round((float64(object.Y)+dy)*scale), round((float64(object.X)+dx)*scale)
		if y0 < 0 || y0 >= h || x0 < 0 || x0 >= w {
			return
		}
		try := func(y, x int) {
			if y >= 0 && y < h && x >= 0 && x < w && s.sums[key{j, a, l}][y*w+x] > most {
				most, p = s.sums[key{j, a, l}][y*w+x], Pose{y, x, a, l}
			}
		}
		try(y0, x0)
		for y := y0 - s.part.Shift; y <= y0+s.part.Shift; y++ {
			for x := x0 - s.part.Shift; x <= x0+s.part.Shift; x++ {
				try(y, x)
			}
		}
	})
	return p
}

// crop is what a detection takes for the object, brought to the template's pose part by part [side, side].
func (m *Model) crop(v *view, d Detection) []float32 {
	side := m.config.Side
	out := make([]float32, side*side)
	for i := range out {
		y, x := i/side, i%side
		j := m.of(y, x)
		p := d.Parts[j]
		cy, cx := m.part(j)
		dy, dx := m.turned(y-cy, x-cx, p.Turn)
		out[i] = sample(v.pictures[p.Level], m.config.size(p.Level, m.h), m.config.size(p.Level, m.w), float64(p.Y)+dy, float64(p.X)+dx)
	}
	return out
}

// sample is a picture between its pixels, bilinear; outside it goes on as it is at its border, since an edge there would
// be taken for one of the object's.
func sample(x []float32, h, w int, y, z float64) float32 {
	y0, z0 := math.Floor(y), math.Floor(z)
	fy, fz := float32(y-y0), float32(z-z0)
	at := func(y, z int) float32 {
		return x[min(max(y, 0), h-1)*w+min(max(z, 0), w-1)]
	}
	i, j := int(y0), int(z0)
	return (1-fy)*((1-fz)*at(i, j)+fz*at(i, j+1)) + fy*((1-fz)*at(i+1, j)+fz*at(i+1, j+1))
}

// Place is a pose's middle in pixels of the picture itself, and its size there, as a share of the
// template's.
func (m *Model) Place(p Pose) (y, x, scale float64) {
	s := m.config.scale(p.Level)
	return float64(p.Y) / s, float64(p.X) / s, 1 / s
}
