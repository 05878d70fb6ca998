package record

import (
	"fmt"
	"image/color"
	"math"
)

// A Track is a way through the plane, in any unit.
type Track struct {
	XY    [][2]float64
	Ink   color.NRGBA
	Width float64 // pixels; 0 is 1.5
}

// A Disc is a filled circle, in the unit of the tracks.
type Disc struct {
	X, Y, Radius float64
	Ink          color.NRGBA
}

// Plan is what is drawn on one map: discs below tracks, each above those before it.
type Plan struct {
	Discs  []Disc
	Tracks []Track
}

// Maps draws plans of w×h pixels on white, each as large as fits with equal scales along both axes,
// x to the right and y upwards. Places that are not finite are left out.
func Maps(plans []Plan, w, h int) (Images, error) {
	if w < 16 || h < 16 || len(plans) == 0 {
		return Images{}, fmt.Errorf("record: maps: wanted plans of at least 16×16 pixels, got %d of %d×%d", len(plans), w, h)
	}
	out := Images{Data: make([]float32, len(plans)*3*w*h), N: len(plans), C: 3, H: h, W: w, Lo: 0, Hi: 1}
	for i := range out.Data {
		out.Data[i] = 1
	}
	for i, p := range plans {
		p.draw(out.Data[i*3*w*h:(i+1)*3*w*h], w, h)
	}
	return out, nil
}

func (p Plan) draw(dst []float32, w, h int) {
	x0, x1, y0, y1 := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	see := func(x, y, r float64) {
		if isDrawable(x) && isDrawable(y) {
			x0, x1, y0, y1 = min(x0, x-r), max(x1, x+r), min(y0, y-r), max(y1, y+r)
		}
	}
	for _, d := range p.Discs {
		see(d.X, d.Y, d.Radius)
	}
	for _, l := range p.Tracks {
		for _, at := range l.XY {
			see(at[0], at[1], 0)
		}
	}
	const margin = 4
	scale := min((float64(w)-2*margin)/max(x1-x0, 1e-9), (float64(h)-2*margin)/max(y1-y0, 1e-9))
	to := func(x, y float64) (px, py float64) {
		return float64(w)/2 + (x-(x0+x1)/2)*scale, float64(h)/2 - (y-(y0+y1)/2)*scale
	}
	// ink covers the pixels of a box by how near they are to a shape: 1 inside, 0 a pixel away.
	ink := func(ax, ay, bx, by float64, c color.NRGBA, near func(px, py float64) float64) {
		for py := max(0, int(ay)); py < min(h, int(by)+2); py++ {
			for px := max(0, int(ax)); px < min(w, int(bx)+2); px++ {
				cover := float32(max(0, min(1, near(float64(px)+0.5, float64(py)+0.5)))) * float32(c.A) / 255
				for k, v := range []uint8{c.R, c.G, c.B} {
					at := &dst[(k*h+py)*w+px]
					*at += cover * (float32(v)/255 - *at)
				}
			}
		}
	}
	for _, d := range p.Discs {
		if !isDrawable(d.X) || !isDrawable(d.Y) {
			continue
		}
		cx, cy := to(d.X, d.Y)
		r := d.Radius * scale
		ink(cx-r-1, cy-r-1, cx+r+1, cy+r+1, d.Ink, func(px, py float64) float64 { return r + 0.5 - math.Hypot(px-cx, py-cy) })
	}
	for _, l := range p.Tracks {
		half := l.Width / 2
		if half == 0 {
			half = 0.75
		}
		var ax, ay float64
		from := false
		for _, at := range l.XY {
			if !isDrawable(at[0]) || !isDrawable(at[1]) {
				from = false
				continue
			}
			bx, by := to(at[0], at[1])
			if from {
				sx, sy := ax, ay // of this piece
				dx, dy := bx-sx, by-sy
				long := max(dx*dx+dy*dy, 1e-12)
				ink(min(sx, bx)-half-1, min(sy, by)-half-1, max(sx, bx)+half+1, max(sy, by)+half+1, l.Ink, func(px, py float64) float64 {
					t := max(0, min(1, ((px-sx)*dx+(py-sy)*dy)/long))
					return half + 0.5 - math.Hypot(px-sx-t*dx, py-sy-t*dy)
				})
			}
			ax, ay, from = bx, by, true
		}
	}
}
