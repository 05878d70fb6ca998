package record

import (
	"fmt"
	"math"
)

// Frames is clips [n, c, d, h, w] as rows of frames, one clip a row, for [Strip]. Range and channels are
// those of [Images].
func Frames(x []float32, n, c, d, h, w int, lo, hi float32) ([]Images, error) {
	if n < 1 || min(c, d, h, w) < 1 || len(x) != n*c*d*h*w {
		return nil, fmt.Errorf("record: frames: got %d values, want those of shape [%d %d %d %d %d]", len(x), n, c, d, h, w)
	}
	rows := make([]Images, n)
	p := h * w
	for i := range rows {
		rows[i] = Images{Data: make([]float32, c*d*p), N: d, C: c, H: h, W: w, Lo: lo, Hi: hi}
		for k := range c {
			for t := range d {
				copy(rows[i].Data[(t*c+k)*p:][:p], x[((i*c+k)*d+t)*p:])
			}
		}
	}
	return rows, nil
}

// Volumes shows volumes [n, d, h, w], depth, height from the top and width, each as the surface of what
// exceeds the level, seen from above and in front: nearer is brighter, and each face has a shade of its
// own. Values that are not finite are shown [Loud].
func Volumes(x []float32, n, d, h, w int, level float32) (Images, error) {
	if n < 1 || min(d, h, w) < 1 || len(x) != n*d*h*w {
		return Images{}, fmt.Errorf("record: volumes: got %d values, want those of shape [%d %d %d %d]", len(x), n, d, h, w)
	}
	const side = 64
	out := Images{Data: make([]float32, n*side*side), N: n, C: 1, H: side, W: side}
	// The view turns by 35° about the vertical, then looks down by 25°.
	sa, ca := math.Sincos(35 * math.Pi / 180)
	sb, cb := math.Sincos(25 * math.Pi / 180)
	half := 0.5 * math.Sqrt(float64(d*d+h*h+w*w))
	// rows of the turn: to the right, up and towards the viewer, in the coordinates x, y up, z
	right, up, near := [3]float64{ca, 0, sa}, [3]float64{sb * sa, cb, -sb * ca}, [3]float64{-cb * sa, sb, cb * ca}
	for i := range n {
		vol := x[i*d*h*w : (i+1)*d*h*w]
		if !allFinite(vol) {
			for j := range side * side {
				out.Data[i*side*side+j] = float32(math.NaN())
			}
			continue
		}
		for py := range side {
			for px := range side {
				out.Data[(i*side+py)*side+px] = -1 + cast(vol, d, h, w, level, func(depth float64) (vx, vy, vz float64) {
					a := (2*(float64(px)+0.5)/side - 1) * half
					b := (1 - 2*(float64(py)+0.5)/side) * half
					c := half - depth
					return a*right[0] + b*up[0] + c*near[0] + float64(w)/2,
						float64(h)/2 - (a*right[1] + b*up[1] + c*near[1]),
						a*right[2] + b*up[2] + c*near[2] + float64(d)/2
				}, 2*half)
			}
		}
	}
	return out, nil
}

// cast follows a ray through a volume until it meets something: 0 if it does not, otherwise 0.4 to 2 by
// the face that it meets and how far it has come.
func cast(vol []float32, d, h, w int, level float32, at func(depth float64) (x, y, z float64), far float64) float32 {
	const step = 0.2
	var lx, ly int
	for depth := 0.0; depth < far; depth += step {
		fx, fy, fz := at(depth)
		x, y, z := int(math.Floor(fx)), int(math.Floor(fy)), int(math.Floor(fz))
		if x >= 0 && y >= 0 && z >= 0 && x < w && y < h && z < d && vol[(z*h+y)*w+x] > level {
			shade := 0.75 // the front
			switch {
			case y != ly:
				shade = 1 // the top
			case x != lx:
				shade = 0.55 // a side
			}
			return float32(shade * (2 - 1.1*depth/far))
		}
		lx, ly = x, y
	}
	return 0
}

// Points shows point sets [n, p, k] of k = 2 or 3 coordinates in [-reach, reach], y up: nearer points,
// of larger z, are brighter. Points outside are left out.
func Points(x []float32, n, p, k int, reach float32) (Images, error) {
	if n < 1 || p < 1 || k < 2 || k > 3 || len(x) != n*p*k || !(reach > 0) {
		return Images{}, fmt.Errorf("record: points: got %d values and reach %v, want those of shape [%d %d 2 or 3]", len(x), reach, n, p)
	}
	const side = 64
	out := Images{Data: make([]float32, n*side*side), N: n, C: 1, H: side, W: side}
	for i := range out.Data {
		out.Data[i] = -1
	}
	sa, ca := math.Sincos(35 * math.Pi / 180)
	sb, cb := math.Sincos(25 * math.Pi / 180)
	for i := range n * p {
		v := [3]float64{}
		for j := range k {
			v[j] = float64(x[i*k+j] / reach)
		}
		px, py, near := v[0], v[1], 0.0
		if k == 3 {
			px, near = ca*v[0]+sa*v[2], ca*v[2]-sa*v[0]
			py, near = cb*v[1]-sb*near, sb*v[1]+cb*near
			px, py, near = px/1.5, py/1.5, near/1.5
		}
		cx, cy := int(math.Floor((px+1)/2*side)), int(math.Floor((1-py)/2*side))
		if px-px != 0 || py-py != 0 || cx < 0 || cy < 0 || cx >= side || cy >= side {
			continue
		}
		dot := &out.Data[(i/p*side+cy)*side+cx]
		*dot = max(*dot, float32(0.4+0.6*max(-1, min(1, near))))
	}
	return out, nil
}

// Tracks shows trajectories [n, t, k] as curves over time, the k values of a moment in k shades. Every
// value has the scale that all its curves share.
func Tracks(x []float32, n, t, k int) (Images, error) {
	if n < 1 || t < 1 || k < 1 || len(x) != n*t*k {
		return Images{}, fmt.Errorf("record: tracks: got %d values, want those of shape [%d %d %d]", len(x), n, t, k)
	}
	const side = 64
	out := Images{Data: make([]float32, n*side*side), N: n, C: 1, H: side, W: side}
	for i := range out.Data {
		out.Data[i] = -1
	}
	for j := range k {
		lo, hi := float32(math.Inf(1)), float32(math.Inf(-1))
		for i := range n * t {
			if v := x[i*k+j]; v-v == 0 {
				lo, hi = min(lo, v), max(hi, v)
			}
		}
		shade := 1 - 1.2*float32(j)/float32(k)
		for i := range n {
			last := -1
			for px := range side {
				at := float64(px) / (side - 1) * float64(t-1)
				a := int(at)
				b := min(a+1, t-1)
				v := float64(x[(i*t+a)*k+j])*(1-at+float64(a)) + float64(x[(i*t+b)*k+j])*(at-float64(a))
				if v-v != 0 {
					last = -1
					continue
				}
				py := side / 2
				if hi > lo {
					py = 2 + int(math.Round((1-(v-float64(lo))/float64(hi-lo))*(side-5)))
				}
				if last < 0 {
					last = py
				}
				for y := min(last, py); y <= max(last, py); y++ {
					out.Data[(i*side+y)*side+px] = shade
				}
				last = py
			}
		}
	}
	return out, nil
}
