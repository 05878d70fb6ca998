package data

import "math"

// A canvas is one picture to paint on. Pixel (0, 0) has its centre at the origin; x grows to the
// right, y downwards.
type canvas struct {
	pix     []float32 // [c, h, w]
	c, h, w int

	// The picture's coordinates relative to those of shapes: shifted by (dx, dy) after a turn around
	// the middle.
	dx, dy, sin, cos float64
}

// newCanvas starts black, -1.
func newCanvas(pix []float32, c, h, w int) *canvas {
	for i := range pix {
		pix[i] = -1
	}
	return &canvas{pix: pix, c: c, h: h, w: w, cos: 1}
}

// move turns what is painted from now on around the middle by angle and shifts it.
func (c *canvas) move(dx, dy, angle float64) {
	c.dx, c.dy = dx, dy
	c.sin, c.cos = math.Sincos(angle)
}

// A shape is a signed distance in pixels: negative inside.
type shape func(x, y float64) float64

// cover is the share of a pixel that lies inside an edge at distance d from its centre.
func cover(d float64) float64 { return math.Max(0, math.Min(1, 0.5-d)) }

// paint fills a shape with a grey level and smooth edges.
func (c *canvas) paint(s shape, level float64) {
	c.fill(s, func(int, float64, float64) float64 { return level })
}

// fill fills a shape with smooth edges; level is the value of channel k at a pixel.
func (c *canvas) fill(s shape, level func(k int, x, y float64) float64) {
	mx, my := float64(c.w-1)/2, float64(c.h-1)/2
	for y := range c.h {
		for x := range c.w {
			px, py := float64(x)-c.dx-mx, float64(y)-c.dy-my
			in := cover(s(c.cos*px+c.sin*py+mx, c.cos*py-c.sin*px+my))
			if in == 0 {
				continue
			}
			for k := range c.c {
				p := &c.pix[(k*c.h+y)*c.w+x]
				*p += float32(in * (level(k, float64(x), float64(y)) - float64(*p)))
			}
		}
	}
}

// everywhere covers the canvas.
func everywhere(float64, float64) float64 { return -1 }

// outline is the edge of a shape, a pixel thick.
func outline(s shape) shape {
	return func(x, y float64) float64 { return math.Abs(s(x, y)) - 0.5 }
}

func disc(cx, cy, r float64) shape {
	return func(x, y float64) float64 { return math.Hypot(x-cx, y-cy) - r }
}

func square(cx, cy, r float64) shape {
	return func(x, y float64) float64 { return math.Max(math.Abs(x-cx), math.Abs(y-cy)) - r }
}

// plus has arms of a third of its width.
func plus(cx, cy, r float64) shape {
	return func(x, y float64) float64 {
		x, y = math.Abs(x-cx), math.Abs(y-cy)
		return math.Min(math.Max(x-r, y-r/3), math.Max(x-r/3, y-r))
	}
}

// frame is the border of a square, a third of r thick.
func frame(cx, cy, r float64) shape {
	return func(x, y float64) float64 {
		return math.Abs(math.Max(math.Abs(x-cx), math.Abs(y-cy))-r*5/6) - r/6
	}
}

// triangle has its corners at distance r, one of them on top.
func triangle(cx, cy, r float64) shape {
	s, c := math.Sincos(math.Pi / 6)
	return func(x, y float64) float64 {
		x, y = math.Abs(x-cx), y-cy
		return math.Max(y, c*x-s*y) - r/2
	}
}

// ellipse has half-axes a and b; the distance is exact on its edge and approximate elsewhere.
func ellipse(cx, cy, a, b float64) shape {
	return func(x, y float64) float64 {
		return (math.Hypot((x-cx)/a, (y-cy)/b) - 1) * math.Min(a, b)
	}
}

// bar is a rectangle of half-sizes a and b turned by an angle.
func bar(cx, cy, a, b, angle float64) shape {
	s, c := math.Sincos(angle)
	return func(x, y float64) float64 {
		x, y = x-cx, y-cy
		return math.Max(math.Abs(c*x+s*y)-a, math.Abs(c*y-s*x)-b)
	}
}

// arc is a bent bar: half-width a, half-thickness b, its ends raised by bend·a.
func arc(cx, cy, a, b, bend float64) shape {
	return func(x, y float64) float64 {
		x, y = x-cx, y-cy
		return math.Max(math.Abs(x)-a, math.Abs(y+bend*x*x/a)-b)
	}
}
