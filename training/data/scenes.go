package data

import (
	"math"
	"math/rand/v2"
	"slices"
)

// wave is clips of three travelling waves and a drifting Gaussian field: stationary in space and time.
func wave() *synthetic {
	return &synthetic{
		n: 8, size: 32, frames: 24,
		form: func(side, frames, _ int) *Set { return form(Video, 1, frames, side, side) },
		scene: func(r *rand.Rand, e *example) (int, []float32) {
			type travelling struct{ kx, ky, w, phase float64 }
			ws := make([]travelling, 3)
			for i := range ws {
				s, c := math.Sincos(2 * math.Pi * r.Float64())
				k := 2 * math.Pi / uniform(r, 8, 20)
				ws[i] = travelling{k * c, k * s, 2 * math.Pi / uniform(r, 6, 12), 2 * math.Pi * r.Float64()}
			}
			grain, vx, vy := waves(r, 32, 3, 8), uniform(r, -1, 1), uniform(r, -1, 1)
			for t := range e.D {
				e.canvas("", t).fill(everywhere, func(_ int, x, y float64) float64 {
					v := 0.12 * grain(x-vx*float64(t), y-vy*float64(t))
					for _, w := range ws {
						v += 0.28 * math.Sin(w.kx*x+w.ky*y-w.w*float64(t)+w.phase)
					}
					return max(-1, min(1, v))
				})
			}
			return 0, nil
		},
	}
}

// passing is clips of a bright square that crosses a texture which stands still. Beside "mask" is 1 on
// the square's pixels and those that it touches, "background" the clip without it.
func passing() *synthetic {
	return &synthetic{
		n: 1, size: 32, frames: 24,
		form: func(side, frames, _ int) *Set {
			s := form(Video, 1, frames, side, side)
			s.Beside = map[string]*Set{"mask": form(Video, 1, frames, side, side), "background": form(Video, 1, frames, side, side)}
			return s
		},
		scene: func(r *rand.Rand, e *example) (int, []float32) {
			side := float64(e.W)
			field := waves(r, 48, 6, 16)
			ground := func(_ int, x, y float64) float64 { return max(-1, min(1, 0.4*field(x, y)-0.2)) }
			half, y0, slope := side/10, uniform(r, 0.3, 0.7)*side, uniform(r, -0.3, 0.3)
			for t := range e.D {
				at := (float64(t) + 0.5) / float64(e.D) * side
				s := square(at, y0+slope*(at-side/2), half)
				c := e.canvas("", t)
				c.fill(everywhere, ground)
				c.paint(s, 0.9)
				e.canvas("background", t).fill(everywhere, ground)
				e.canvas("mask", t).fill(everywhere, func(_ int, x, y float64) float64 {
					if s(x, y) < 0.5 {
						return 1
					}
					return -1
				})
			}
			return 0, nil
		},
	}
}

// bounce is where something of radius rad that starts at (x, y) is after t moments between walls.
func bounce(x, v, t, lo, hi float64) float64 {
	span := hi - lo
	if span <= 0 {
		return (lo + hi) / 2
	}
	p := math.Mod(x-lo+v*t, 2*span)
	if p < 0 {
		p += 2 * span
	}
	return lo + math.Min(p, 2*span-p)
}

// discs is clips of two bright discs that move and bounce.
func discs() *synthetic {
	return &synthetic{
		n: 200, size: 16, frames: 12,
		form: func(side, frames, _ int) *Set { return form(Video, 1, frames, side, side) },
		scene: func(r *rand.Rand, e *example) (int, []float32) {
			side := float64(e.W)
			type ball struct{ x, y, vx, vy, r, level float64 }
			var balls [2]ball
			for i := range balls {
				s, c := math.Sincos(2 * math.Pi * r.Float64())
				v, rad := uniform(r, 0.02, 0.06)*side, uniform(r, 0.1, 0.16)*side
				balls[i] = ball{uniform(r, rad, side-1-rad), uniform(r, rad, side-1-rad), v * c, v * s, rad, uniform(r, 0.4, 1)}
			}
			for t := range e.D {
				c := e.canvas("", t)
				for _, b := range balls {
					c.paint(disc(bounce(b.x, b.vx, float64(t), b.r, side-1-b.r), bounce(b.y, b.vy, float64(t), b.r, side-1-b.r), b.r), b.level)
				}
			}
			return 0, nil
		},
	}
}

// volumes is a solid box, cylinder, sphere or table of any proportions, in the middle of the grid.
func volumes() *synthetic {
	return &synthetic{
		n: 400, size: 16, classes: []string{"box", "cylinder", "sphere", "table"},
		form: func(side, _, _ int) *Set { return form(Voxels, 1, side, side, side) },
		scene: func(r *rand.Rand, e *example) (int, []float32) {
			k, n := r.IntN(4), float64(e.W)
			a, b, c := uniform(r, 0.2, 0.42)*n, uniform(r, 0.2, 0.42)*n, uniform(r, 0.2, 0.42)*n
			top, leg := max(1, uniform(r, 0.08, 0.2)*n), max(1.01, uniform(r, 0.1, 0.2)*n)
			inside := []func(x, y, z float64) bool{
				func(x, y, z float64) bool { return math.Abs(x) < a && math.Abs(y) < b && math.Abs(z) < c },
				func(x, y, z float64) bool { return math.Hypot(x, z) < a && math.Abs(y) < b },
				func(x, y, z float64) bool { return x*x+y*y+z*z < a*a },
				func(x, y, z float64) bool {
					x, z = math.Abs(x), math.Abs(z)
					return x < a && z < c && y > -b && y < b && (y < -b+top || x > a-leg && z > c-leg)
				},
			}[k]
			mid := (n - 1) / 2
			for i := range e.x {
				x, y, z := i%e.W, i/e.W%e.H, i/e.W/e.H
				e.x[i] = -1
				if inside(float64(x)-mid, float64(y)-mid, float64(z)-mid) {
					e.x[i] = 1
				}
			}
			return k, []float32{float32(a), float32(b), float32(c)}
		},
		factors: []string{"a", "b", "c"},
	}
}

// surfaces is points drawn evenly from the surface of a sphere, cube, torus or cylinder of any size,
// turned about the vertical, with their mean taken out.
func surfaces() *synthetic {
	return &synthetic{
		n: 400, points: 128, classes: []string{"sphere", "cube", "torus", "cylinder"},
		form: func(_, _, points int) *Set { return form(Cloud, 1, 0, points, 3) },
		scene: func(r *rand.Rand, e *example) (int, []float32) {
			k, size := r.IntN(4), uniform(r, 0.6, 0.9)
			sin, cos := math.Sincos(2 * math.Pi * r.Float64())
			var mean [3]float64
			at := make([][3]float64, e.H)
			for i := range at {
				p := []func(*rand.Rand) [3]float64{onSphere, onCube, onTorus, onCylinder}[k](r)
				at[i] = [3]float64{size * (cos*p[0] - sin*p[2]), size * p[1], size * (sin*p[0] + cos*p[2])}
				for j, v := range at[i] {
					mean[j] += v / float64(e.H)
				}
			}
			for i, p := range at {
				for j, v := range p {
					e.x[3*i+j] = float32(max(-1, min(1, v-mean[j])))
				}
			}
			return k, []float32{float32(size)}
		},
		factors: []string{"size"},
	}
}

func onSphere(r *rand.Rand) [3]float64 {
	y, a := uniform(r, -1, 1), 2*math.Pi*r.Float64()
	s, c := math.Sincos(a)
	rho := math.Sqrt(1 - y*y)
	return [3]float64{rho * c, y, rho * s}
}

// onCube has its corners on the unit sphere.
func onCube(r *rand.Rand) [3]float64 {
	h := 1 / math.Sqrt(3)
	p := [3]float64{uniform(r, -h, h), uniform(r, -h, h), uniform(r, -h, h)}
	p[r.IntN(3)] = h * float64(2*r.IntN(2)-1)
	return p
}

// onTorus has the radii 0.7 and 0.3; places on the outside are drawn more often, as they cover more.
func onTorus(r *rand.Rand) [3]float64 {
	const big, small = 0.7, 0.3
	for {
		a, b := 2*math.Pi*r.Float64(), 2*math.Pi*r.Float64()
		sb, cb := math.Sincos(b)
		if r.Float64()*(big+small) > big+small*cb {
			continue
		}
		sa, ca := math.Sincos(a)
		return [3]float64{(big + small*cb) * ca, small * sb, (big + small*cb) * sa}
	}
}

// onCylinder has the radius 0.5 and the half height 0.8, with both ends.
func onCylinder(r *rand.Rand) [3]float64 {
	const rad, half = 0.5, 0.8
	s, c := math.Sincos(2 * math.Pi * r.Float64())
	if r.Float64()*(2*half+rad) < rad { // the ends' share of the area
		d := rad * math.Sqrt(r.Float64())
		return [3]float64{d * c, half * float64(2*r.IntN(2)-1), d * s}
	}
	return [3]float64{rad * c, uniform(r, -half, half), rad * s}
}

// linear draws x = W·z + 0.3·ε of 12 values from 3 codes; the factors are the codes.
func linear() *synthetic {
	w := LinearW()
	return &synthetic{
		n: 2000, factors: []string{"z1", "z2", "z3"},
		form: func(_, _, _ int) *Set { return form(Plain, 12, 0, 1, 1) },
		scene: func(r *rand.Rand, e *example) (int, []float32) {
			z := []float32{float32(r.NormFloat64()), float32(r.NormFloat64()), float32(r.NormFloat64())}
			for j := range e.x {
				v := LinearSigma * r.NormFloat64()
				for k, c := range z {
					v += w[k][j] * float64(c)
				}
				e.x[j] = float32(v)
			}
			return 0, z
		},
	}
}

// LinearSigma is the deviation of the noise of synthetic/linear.
const LinearSigma = 0.3

// LinearW is the columns of the matrix of synthetic/linear: orthogonal, of lengths 2, 1.5 and 1.
func LinearW() [3][12]float64 {
	r := rand.New(rand.NewPCG(12, 3))
	var w [3][12]float64
	for k, length := range [3]float64{2, 1.5, 1} {
		for j := range w[k] {
			w[k][j] = r.NormFloat64()
		}
		for _, u := range w[:k] {
			dot, own := 0.0, 0.0
			for j := range u {
				dot += u[j] * w[k][j]
				own += u[j] * u[j]
			}
			for j := range u {
				w[k][j] -= dot / own * u[j]
			}
		}
		norm := 0.0
		for _, v := range w[k] {
			norm += v * v
		}
		for j := range w[k] {
			w[k][j] *= length / math.Sqrt(norm)
		}
	}
	return w
}

// A glyph16 is one of the four glyphs at a place.
type glyph16 struct {
	class     int
	x, y, rad float64
}

func (g glyph16) shape() shape { return g.at(g.x, g.y) }

func (g glyph16) at(x, y float64) shape {
	return []func(x, y, r float64) shape{disc, square, plus, frame}[g.class](x, y, g.rad)
}

func (g glyph16) factors() []float32 { return []float32{float32(g.x), float32(g.y), float32(g.rad)} }

func drawGlyph(r *rand.Rand, rad float64) glyph16 {
	return glyph16{r.IntN(4), uniform(r, 5.5, 9.5), uniform(r, 5.5, 9.5), rad}
}

var glyphNames = []string{"disc", "square", "plus", "frame"}

// filled is pairs of a glyph's outline, which is given, and the glyph filled with a ramp that rises,
// falls, peaks or dips from left to right by its class.
func filled() *synthetic {
	return &synthetic{
		n: 4000, size: 16, fixed: true, classes: glyphNames, factors: []string{"x", "y", "radius"},
		form: func(side, _, _ int) *Set {
			s := form(Plain, 1, 0, side, side)
			s.Given = form(Plain, 1, 0, side, side)
			return s
		},
		scene: func(r *rand.Rand, e *example) (int, []float32) {
			g := drawGlyph(r, uniform(r, 4, 6))
			e.canvas("given", 0).paint(outline(g.shape()), 1)
			e.canvas("", 0).fill(g.shape(), func(_ int, x, _ float64) float64 {
				v := max(-1, min(1, (x-g.x)/g.rad))
				return []float64{v, -v, 1 - 2*math.Abs(v), 2*math.Abs(v) - 1}[g.class]*0.6 + 0.4
			})
			return g.class, g.factors()
		},
	}
}

// brightGlyph and darkGlyph paint one glyph as the two domains of synthetic/ab16-a and -b have it:
// bright on dark; dark on bright with stripes across it.
func brightGlyph(c *canvas, s shape) {
	c.fill(everywhere, func(int, float64, float64) float64 { return -0.8 })
	c.paint(s, 0.8)
}

func darkGlyph(c *canvas, s shape) {
	c.fill(everywhere, func(int, float64, float64) float64 { return 0.7 })
	c.fill(s, func(_ int, _, y float64) float64 { return -0.5 + 0.3*math.Sin(math.Pi/2*y+math.Pi/4) })
}

// looks is how each domain paints, own first.
func looks(b bool) []func(*canvas, shape) {
	l := []func(*canvas, shape){brightGlyph, darkGlyph}
	if b {
		slices.Reverse(l)
	}
	return l
}

// domain is glyphs as one of two domains shows them. Beside "target" is what the true map makes of each
// in the other domain, "mask" is 1 on the glyph.
func domain(b bool) *synthetic {
	look := looks(b)
	return &synthetic{
		n: 1500, size: 16, fixed: true, classes: glyphNames, factors: []string{"x", "y", "radius"},
		form: func(side, _, _ int) *Set {
			s := form(Plain, 1, 0, side, side)
			s.Beside = map[string]*Set{"target": form(Plain, 1, 0, side, side), "mask": form(Plain, 1, 0, side, side)}
			return s
		},
		scene: func(r *rand.Rand, e *example) (int, []float32) {
			g := drawGlyph(r, uniform(r, 4, 6))
			look[0](e.canvas("", 0), g.shape())
			look[1](e.canvas("target", 0), g.shape())
			e.canvas("mask", 0).paint(g.shape(), 1)
			return g.class, g.factors()
		},
	}
}

// sequence is clips of a smaller glyph that moves and bounces, in one of two domains. Glyphs of the
// first move at 0.4 to 0.9 pixels a frame, those of the second at 0.9 to 1.4. Beside "target" is the clip
// as the other domain shows it, "centre" the trajectory [D, 2] of the glyph's centre, x and y.
func sequence(b bool) *synthetic {
	look, slow, fast := looks(b), 0.4, 0.9
	if b {
		slow, fast = 0.9, 1.4
	}
	return &synthetic{
		n: 300, size: 16, fixed: true, frames: 12, classes: glyphNames,
		form: func(side, frames, _ int) *Set {
			s := form(Video, 1, frames, side, side)
			s.Beside = map[string]*Set{"target": form(Video, 1, frames, side, side), "centre": form(Path, 1, 0, frames, 2)}
			return s
		},
		scene: func(r *rand.Rand, e *example) (int, []float32) {
			g := drawGlyph(r, uniform(r, 2.5, 3.5))
			sin, cos := math.Sincos(2 * math.Pi * r.Float64())
			v, lo, hi := uniform(r, slow, fast), g.rad, float64(e.W)-1-g.rad
			for t := range e.D {
				x, y := bounce(g.x, v*cos, float64(t), lo, hi), bounce(g.y, v*sin, float64(t), lo, hi)
				look[0](e.canvas("", t), g.at(x, y))
				look[1](e.canvas("target", t), g.at(x, y))
				copy(e.next["centre"][2*t:], []float32{float32(x), float32(y)})
			}
			return g.class, nil
		},
	}
}

// salient is maps of the salient shape of a colour picture, which is given: a shape of another colour on
// a textured ground, with speckle. A fifth of the pictures hold two such shapes and the map shows one of
// them at random. Beside "scribbles" is 1 and −1 on strokes inside and outside the shape and 0 where the
// supervisor says nothing, "candidates" the map of all shapes.
//
// With depth the picture's fourth channel is the nearness, high on shapes, and another fifth has the
// class "camouflaged": the shape has the colours of its ground, and the depth alone shows it.
func salient(depth bool) *synthetic {
	channels, classes := 3, []string{"one", "two"}
	if depth {
		channels, classes = 4, append(classes, "camouflaged")
	}
	return &synthetic{
		n: 2000, size: 32, min: 16, classes: classes,
		form: func(side, _, _ int) *Set {
			s := form(Plain, 1, 0, side, side)
			s.Given = form(Plain, channels, 0, side, side)
			s.Beside = map[string]*Set{"scribbles": form(Plain, 1, 0, side, side), "candidates": form(Plain, 1, 0, side, side)}
			return s
		},
		scene: func(r *rand.Rand, e *example) (int, []float32) { return drawSalient(r, e, depth) },
	}
}

func drawSalient(r *rand.Rand, e *example, depth bool) (int, []float32) {
	side := float64(e.W)
	kind := 0
	switch u := r.Float64(); {
	case u < 0.2:
		kind = 1
	case u < 0.4 && depth:
		kind = 2
	}
	colour := func() [3]float64 {
		return [3]float64{uniform(r, -0.8, 0.8), uniform(r, -0.8, 0.8), uniform(r, -0.8, 0.8)}
	}
	ground := colour()
	field, slope := waves(r, 24, side/6, side/2), uniform(r, -0.3, 0.3)
	texture := func(c [3]float64) func(int, float64, float64) float64 {
		return func(k int, x, y float64) float64 {
			if k == 3 { // the ground comes nearer towards its foot
				return -0.6 + 0.4*y/side + slope*x/side
			}
			return max(-1, min(1, c[k]+0.2*field(x, y)))
		}
	}
	picture := e.canvas("given", 0)
	picture.fill(everywhere, texture(ground))

	// One shape anywhere, or one in either half.
	shapesOf := []func(x, y, r float64) shape{disc, square, triangle, plus}
	left, width, count := 0.0, side, 1
	if kind == 1 {
		width, count = side/2, 2
	}
	var found []shape
	for range count {
		rad := min(uniform(r, 0.14, 0.24)*side, width/2-1)
		s := shapesOf[r.IntN(4)](left+uniform(r, rad, width-1-rad), uniform(r, rad, side-1-rad), rad)
		left += width
		own := colour()
		for far := 0.0; far < 0.6; {
			own, far = colour(), 0
			for k := range own {
				far = max(far, math.Abs(own[k]-ground[k]))
			}
		}
		if kind == 2 {
			own = ground
		}
		near := uniform(r, 0.3, 0.8)
		under := texture(own)
		picture.fill(s, func(k int, x, y float64) float64 {
			if k == 3 {
				return near
			}
			return under(k, x, y)
		})
		found = append(found, s)
	}
	for i, v := range e.next["given"] { // speckle
		if u := r.Float64(); i < 3*e.H*e.W && u < 0.03 {
			v = float32(uniform(r, -1, 1))
		}
		e.next["given"][i] = max(-1, min(1, v+0.03*float32(r.NormFloat64())))
	}
	chosen := found[r.IntN(len(found))]
	e.canvas("", 0).paint(chosen, 1)
	all := e.canvas("candidates", 0)
	for _, s := range found {
		all.paint(s, 1)
	}
	scribble(r, e, chosen)
	return kind, nil
}

// scribble draws strokes inside and outside a shape, each a walk that keeps its direction more or less,
// until they cover 2 and 5 % of the pixels.
func scribble(r *rand.Rand, e *example, s shape) {
	x := e.next["scribbles"]
	clear(x)
	side := float64(e.W)
	for _, v := range []float32{1, -1} {
		inside := func(px, py float64) bool {
			return px >= 0 && py >= 0 && px < side && py < side && (s(px, py) < -0.5) == (v > 0) && math.Abs(s(px, py)) > 0.5
		}
		want := int(math.Ceil(map[float32]float64{1: 0.02, -1: 0.05}[v] * side * side))
		px, py, angle := -1.0, -1.0, 0.0
		for tries := 0; want > 0 && tries < 40*e.W*e.H; tries++ {
			if !inside(px, py) {
				px, py, angle = uniform(r, 0, side), uniform(r, 0, side), 2*math.Pi*r.Float64()
				continue
			}
			if p := &x[int(py)*e.W+int(px)]; *p == 0 && (s(math.Floor(px), math.Floor(py)) < 0) == (v > 0) {
				*p = v
				want--
			}
			angle += uniform(r, -0.4, 0.4)
			sin, cos := math.Sincos(angle)
			if nx, ny := px+0.7*cos, py+0.7*sin; inside(nx, ny) {
				px, py = nx, ny
			} else if angle += math.Pi * r.Float64(); r.Float64() < 0.02 {
				px = -1 // another stroke
			}
		}
	}
}
