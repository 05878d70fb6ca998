package data

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
)

// A synthetic is a data set drawn in process. Example i depends on seed, name, part and i alone, so a
// smaller set is the beginning of a larger one. Exactly one of point, picture and scene is set.
type synthetic struct {
	n       int // examples by default
	size    int // height and width of pictures by default
	fixed   bool
	colours int
	classes []string
	factors []string

	// point draws a point of the plane, its class and factors.
	point func(r *rand.Rand) (x, y float64, class int)
	// logDensity is the natural logarithm of the density of point; nil where it has no closed form.
	logDensity func(x, y float64) float64
	// centres and deviation of the modes of a mixture of Gaussians.
	centres   [][2]float64
	deviation float64
	// picture paints on a canvas and returns class and factors.
	picture func(r *rand.Rand, c *canvas) (class int, factors []float32)
	// scene fills an example of any kind, with what is given and what lies beside it.
	scene func(r *rand.Rand, e *example) (class int, factors []float32)
	// form is a set without examples of the kind and shape of those of scene; side, frames and points are
	// sizes that were asked for or, where they were not, those of the set.
	form                func(side, frames, points int) *Set
	frames, points, min int
}

// An example is where a scene is put.
type example struct {
	*Set // its sizes, and those of the aligned sets
	x    []float32
	next map[string][]float32 // the aligned sets' values, by name: "given" and those of Beside
}

// canvas is one picture of the example or, by name, of what is aligned with it.
func (e *example) canvas(name string, frame int) *canvas {
	s, x := e.Set, e.x
	if name != "" {
		s, x = e.Beside[name], e.next[name]
		if name == "given" {
			s = e.Given
		}
	}
	p := s.C * s.H * s.W // frames of one channel follow each other
	return newCanvas(x[frame*p:(frame+1)*p], s.C, s.H, s.W)
}

// LogDensity is the natural logarithm of the density that a synthetic point set is drawn from, for
// those of known density: synthetic/rings, synthetic/ring8 and synthetic/two-rings.
func LogDensity(name string) (f func(x, y float64) float64, ok bool) {
	s, ok := Lookup(name)
	if !ok || s.draw == nil || s.draw.logDensity == nil {
		return nil, false
	}
	return s.draw.logDensity, true
}

// Modes is the centres and the common deviation of the Gaussians that synthetic/rings and synthetic/ring8
// mix in equal parts.
func Modes(name string) (centres [][2]float64, deviation float64, ok bool) {
	s, ok := Lookup(name)
	if !ok || s.draw == nil || s.draw.centres == nil {
		return nil, 0, false
	}
	return slices.Clone(s.draw.centres), s.draw.deviation, true
}

// set draws what the options ask for, apart from what [Set.finish] does.
func (d *synthetic) set(name string, o Options) (*Set, error) {
	n := d.n
	if o.Part == "test" {
		n = max(1, n/4)
	}
	if o.Limit > 0 {
		n = o.Limit
	}
	s := &Set{Name: name, N: n, C: 2, H: 1, W: 1, Gain: 1}
	if d.point == nil {
		size := d.size
		if o.Size > 0 && !d.fixed && o.Patches == 0 {
			size = o.Size
		}
		if least := cmp.Or(d.min, 8); size < least && d.size > 0 {
			return nil, fmt.Errorf("data: %s: size %d, want at least %d", name, size, least)
		}
		if d.picture != nil {
			s = form(Plain, d.colours, 0, size, size)
		} else {
			s = d.form(size, cmp.Or(o.Frames, d.frames), cmp.Or(o.Points, d.points))
		}
	}
	s.Name, s.Classes, s.FactorNames = name, d.classes, d.factors
	if err := s.reserve(n); err != nil {
		return nil, err
	}
	for what, a := range s.aligned() {
		a.Name = name + " " + what
		if err := a.reserve(n); err != nil {
			return nil, err
		}
	}
	if d.classes != nil {
		s.Labels = make([]int, n)
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	if o.Part == "test" {
		h.Write([]byte("/test"))
	}
	for i := range n {
		r := rand.New(rand.NewPCG(o.Seed^h.Sum64(), uint64(i)))
		class := 0
		if d.point != nil {
			var x, y float64
			x, y, class = d.point(r)
			s.At(i)[0], s.At(i)[1] = float32(x), float32(y)
		} else {
			var f []float32
			if d.picture != nil {
				class, f = d.picture(r, newCanvas(s.At(i), s.C, s.H, s.W))
			} else {
				e := &example{s, s.At(i), map[string][]float32{}}
				for what, a := range s.aligned() {
					e.next[what] = a.At(i)
				}
				class, f = d.scene(r, e)
			}
			s.Factors = append(s.Factors, f...)
		}
		if s.Labels != nil {
			s.Labels[i] = class
		}
	}
	return s, nil
}

// form is a set without examples: pictures, clips and volumes in [-1, 1] on the scale of bytes or, for
// voxels, of [0, 1]; points in [-1, 1]; vectors and trajectories without bounds.
func form(kind Kind, c, d, h, w int) *Set {
	s := &Set{Kind: kind, C: c, D: d, H: h, W: w, Gain: 1}
	switch {
	case kind == Cloud:
		s.Lo, s.Hi = -1, 1
	case kind == Voxels:
		s.Lo, s.Hi, s.Gain, s.Offset = -1, 1, 2, -1
	case kind == Video, !s.IsVectors() && kind == Plain:
		s.Lo, s.Hi, s.Gain, s.Offset = -1, 1, byteGain, byteOffset
	}
	return s
}

// reserve makes room for n examples.
func (s *Set) reserve(n int) error {
	if err := checkSize(s.Name, n, s.planes(), s.H, s.W); err != nil {
		return err
	}
	s.N, s.Floats = n, make([]float32, n*s.Dim())
	return nil
}

// ringModes draws from m Gaussians of deviation sd with their means evenly spread on a circle.
func ringModes(m int, radius, sd float64) *synthetic {
	d := &synthetic{n: 8000, deviation: sd}
	for k := range m {
		sin, cos := math.Sincos(2 * math.Pi * float64(k) / float64(m))
		d.centres = append(d.centres, [2]float64{radius * cos, radius * sin})
		d.classes = append(d.classes, fmt.Sprintf("mode %d", k))
	}
	d.point = func(r *rand.Rand) (x, y float64, k int) {
		k = r.IntN(m)
		return d.centres[k][0] + sd*r.NormFloat64(), d.centres[k][1] + sd*r.NormFloat64(), k
	}
	d.logDensity = func(x, y float64) float64 {
		// log Σ exp over the modes, with the nearest taken out so that nothing underflows.
		near := math.Inf(1)
		e := make([]float64, m)
		for k, c := range d.centres {
			e[k] = ((x-c[0])*(x-c[0]) + (y-c[1])*(y-c[1])) / (2 * sd * sd)
			near = min(near, e[k])
		}
		sum := 0.0
		for _, v := range e {
			sum += math.Exp(near - v)
		}
		return math.Log(sum) - near - math.Log(2*math.Pi*sd*sd*float64(m))
	}
	return d
}

// twoRings draws from circles of radius 1 and 2 blurred along the radius.
func twoRings() *synthetic {
	const sd = 0.1
	return &synthetic{
		n: 8000, classes: []string{"inner", "outer"},
		point: func(r *rand.Rand) (float64, float64, int) {
			k := r.IntN(2)
			s, c := math.Sincos(2 * math.Pi * r.Float64())
			rho := float64(k+1) + sd*r.NormFloat64()
			return rho * c, rho * s, k
		},
		// The radius has a normal density; a circle of radius ρ has the length 2πρ. Radii below
		// zero, ten deviations away, are left out.
		logDensity: func(x, y float64) float64 {
			rho := math.Max(math.Hypot(x, y), 1e-300)
			a, b := (rho-1)*(rho-1)/(2*sd*sd), (rho-2)*(rho-2)/(2*sd*sd)
			near := min(a, b)
			return math.Log(math.Exp(near-a)+math.Exp(near-b)) - near -
				math.Log(2*sd*math.Sqrt(2*math.Pi)) - math.Log(2*math.Pi*rho)
		},
	}
}

// moons draws from two interleaved half circles of radius 1 with noise of deviation 0.1.
func moons() *synthetic {
	return &synthetic{
		n: 8000, classes: []string{"upper", "lower"},
		point: func(r *rand.Rand) (float64, float64, int) {
			k := r.IntN(2)
			y, x := math.Sincos(math.Pi * r.Float64())
			if k == 1 {
				x, y = 1-x, 0.5-y
			}
			return x - 0.5 + 0.1*r.NormFloat64(), y - 0.25 + 0.1*r.NormFloat64(), k
		},
	}
}

// pinwheel draws from five curved arms (Johnson et al. 2016): a Gaussian of deviations 0.3 and 0.1 at
// radius 1, turned by an angle that grows with the distance from the centre.
func pinwheel() *synthetic {
	const arms, radial, tangential, rate = 5, 0.3, 0.1, 0.25
	d := &synthetic{n: 8000}
	for k := range arms {
		d.classes = append(d.classes, fmt.Sprintf("arm %d", k))
	}
	d.point = func(r *rand.Rand) (float64, float64, int) {
		k := r.IntN(arms)
		a, b := 1+radial*r.NormFloat64(), tangential*r.NormFloat64()
		s, c := math.Sincos(2*math.Pi*float64(k)/arms + rate*math.Exp(a))
		return 2 * (a*c - b*s), 2 * (a*s + b*c), k
	}
	return d
}

// uniform draws from [lo, hi).
func uniform(r *rand.Rand, lo, hi float64) float64 { return lo + (hi-lo)*r.Float64() }

// blob paints one bright disc on black.
func blob() *synthetic {
	return &synthetic{
		n: 4000, size: 16, fixed: true, colours: 1, factors: []string{"x", "y", "radius"},
		picture: func(r *rand.Rand, c *canvas) (int, []float32) {
			x, y, rad := uniform(r, 4, 11), uniform(r, 4, 11), uniform(r, 2, 4)
			c.paint(disc(x, y, rad), 1)
			return 0, []float32{float32(x), float32(y), float32(rad)}
		},
	}
}

// glyph paints a white disc, square, plus or frame near the middle.
func glyph() *synthetic {
	return &synthetic{
		n: 4000, size: 16, fixed: true, colours: 1,
		classes: []string{"disc", "square", "plus", "frame"}, factors: []string{"x", "y", "radius"},
		picture: func(r *rand.Rand, c *canvas) (int, []float32) {
			k := r.IntN(4)
			x, y, rad := uniform(r, 5.5, 9.5), uniform(r, 5.5, 9.5), uniform(r, 4, 6)
			c.paint([]func(x, y, r float64) shape{disc, square, plus, frame}[k](x, y, rad), 1)
			return k, []float32{float32(x), float32(y), float32(rad)}
		},
	}
}

// shapes paints a circle, square, triangle or cross of any place, size and grey level.
func shapes() *synthetic {
	return &synthetic{
		n: 4000, size: 32, colours: 1,
		classes: []string{"circle", "square", "triangle", "cross"}, factors: []string{"x", "y", "radius", "level"},
		picture: func(r *rand.Rand, c *canvas) (int, []float32) {
			k := r.IntN(4)
			side := float64(c.w)
			rad := uniform(r, side/7, side/3.5)
			x, y := uniform(r, rad, side-1-rad), uniform(r, rad, side-1-rad)
			level := uniform(r, -0.2, 1)
			c.paint([]func(x, y, r float64) shape{disc, square, triangle, plus}[k](x, y, rad), level)
			return k, []float32{float32(x), float32(y), float32(rad), float32(level)}
		},
	}
}

// faces paints cartoon faces. Each part is jittered; moved also shifts and turns the whole face, by
// the factors (dx and dy in shares of the size, angle in radians).
func faces(moved bool) *synthetic {
	return &synthetic{
		n: 4000, size: 32, colours: 1, factors: []string{"dx", "dy", "angle"},
		picture: func(r *rand.Rand, c *canvas) (int, []float32) {
			side := float64(c.w)
			jitter := func(v, by float64) float64 { return (v + uniform(r, -by, by)) * side }
			var dx, dy, angle float64
			if moved {
				dx, dy, angle = uniform(r, -0.1, 0.1), uniform(r, -0.1, 0.1), uniform(r, -0.35, 0.35)
			}
			c.move(dx*side, dy*side, angle)
			headX, headY := jitter(0.5, 0.01), jitter(0.5, 0.01)
			c.paint(ellipse(headX, headY, jitter(0.32, 0.02), jitter(0.41, 0.02)), uniform(r, 0.3, 0.7))
			eyeY, apart, eye := jitter(0.42, 0.02), jitter(0.135, 0.015), jitter(0.055, 0.01)
			browY, tilt := eyeY-jitter(0.12, 0.02), uniform(r, -0.3, 0.3)
			dark := uniform(r, -1, -0.6)
			for _, s := range []float64{-1, 1} {
				x := headX + s*apart
				c.paint(ellipse(x, eyeY, 1.25*eye, eye), 1)
				c.paint(disc(x, eyeY, 0.6*eye), -1)
				c.paint(bar(x, browY, 0.075*side, 0.016*side, s*tilt), dark)
			}
			c.paint(arc(headX, jitter(0.7, 0.02), jitter(0.13, 0.03), jitter(0.02, 0.005), uniform(r, -0.5, 0.5)), dark)
			return 0, []float32{float32(dx), float32(dy), float32(angle)}
		},
	}
}

// texture fills the canvas from a field of values in [-1, 1]. With three colours the value mixes two.
func texture(colours int, dark, light [3]float64, field func(r *rand.Rand, side float64) func(x, y float64) float64) *synthetic {
	return &synthetic{
		n: 1, size: 64, colours: colours,
		picture: func(r *rand.Rand, c *canvas) (int, []float32) {
			f := field(r, float64(c.w))
			for y := range c.h {
				for x := range c.w {
					v := math.Max(-1, math.Min(1, f(float64(x), float64(y))))
					for k := range colours {
						if colours == 3 {
							c.pix[(k*c.h+y)*c.w+x] = float32(dark[k] + (light[k]-dark[k])*(v+1)/2)
						} else {
							c.pix[y*c.w+x] = float32(v)
						}
					}
				}
			}
			return 0, nil
		},
	}
}

// waves is a Gaussian field of variance 1 made of m plane waves with lengths in [lo, hi] pixels.
func waves(r *rand.Rand, m int, lo, hi float64) func(x, y float64) float64 {
	type wave struct{ kx, ky, phase float64 }
	ws := make([]wave, m)
	for i := range ws {
		s, c := math.Sincos(2 * math.Pi * r.Float64())
		k := 2 * math.Pi / uniform(r, lo, hi)
		ws[i] = wave{k * c, k * s, 2 * math.Pi * r.Float64()}
	}
	return func(x, y float64) float64 {
		sum := 0.0
		for _, w := range ws {
			sum += math.Cos(w.kx*x + w.ky*y + w.phase)
		}
		return sum * math.Sqrt(2/float64(m))
	}
}

// stripes run at 30° with a period of 8 pixels and a phase that wanders.
func stripes(r *rand.Rand, _ float64) func(x, y float64) float64 {
	s, c := math.Sincos(math.Pi / 6)
	phase, wander := 2*math.Pi*r.Float64(), waves(r, 24, 24, 64)
	return func(x, y float64) float64 {
		return math.Sin(2*math.Pi*(x*c+y*s)/8 + phase + 0.6*wander(x, y))
	}
}

// blobs is band-pass noise of 8 to 12 pixels, thresholded with a soft edge.
func blobs(r *rand.Rand, _ float64) func(x, y float64) float64 {
	field := waves(r, 96, 8, 12)
	return func(x, y float64) float64 { return 2.5 * field(x, y) }
}

// bricks are laid in rows of 8 pixels, 16 wide, every other row shifted by half; joints, sizes and
// brightness vary.
func bricks(r *rand.Rand, side float64) func(x, y float64) float64 {
	const high, wide = 8.0, 16.0
	rows, cols := int(side/high)+2, int(side/wide)+3
	type brick struct{ x, y, w, h, level float64 }
	wall := make([]brick, rows*cols)
	grain := waves(r, 48, 2.5, 5)
	ox, oy := uniform(r, 0, wide), uniform(r, 0, high)
	for i := range wall {
		row, col := i/cols, i%cols
		wall[i] = brick{
			x: float64(col-1)*wide + float64(row%2)*wide/2 + wide/2 - ox + uniform(r, -0.5, 0.5),
			y: float64(row)*high + high/2 - oy + uniform(r, -0.4, 0.4),
			w: wide/2 - uniform(r, 0.7, 1.3), h: high/2 - uniform(r, 0.6, 1),
			level: uniform(r, 0.1, 0.8),
		}
	}
	return func(x, y float64) float64 {
		v := -0.8
		for _, b := range wall {
			if in := cover(math.Max(math.Abs(x-b.x)-b.w, math.Abs(y-b.y)-b.h)); in > 0 {
				v += in * (b.level - v)
			}
		}
		return v + 0.08*grain(x, y)
	}
}
