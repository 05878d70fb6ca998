package data

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// Hole names the condition that is a picture with a part of it blanked, to (Lo + Hi)/2.
const Hole = "hole"

// derived is the conditions that are made of the pictures themselves.
var derived = map[string]func(s *Set) (*Set, error){"grey": greyOf, "edges": edgesOf, Hole: holeOf}

// condition loads what the examples of a path are given, nil if that is made of the examples themselves.
func (o Options) condition(ctx context.Context, path string) (*Set, error) {
	if _, ok := derived[o.Given]; ok || o.Given == "" {
		if o.Depth != "" {
			return nil, fmt.Errorf("data: depth %s: want a folder of pictures given that it belongs to", o.Depth)
		}
		return nil, nil
	}
	if o.Classes != nil {
		return nil, fmt.Errorf("data: %s: classes cannot be chosen where another set is given", path)
	}
	if err := sameNames(path, o.Given); err != nil {
		return nil, err
	}
	if st, err := os.Stat(o.Given); o.Depth != "" && (err != nil || !st.IsDir()) {
		return nil, fmt.Errorf("data: depth %s: want a folder of pictures given that it belongs to, got %s", o.Depth, o.Given)
	}
	name := o.Given
	o.Given = ""
	g, err := single(ctx, name, o)
	if err == nil {
		g.Labels = nil
	}
	return g, err
}

// pair gives the examples a condition, or what o.Given makes of them.
func (s *Set) pair(given *Set, o Options) (err error) {
	if s.Given != nil {
		return fmt.Errorf("data: %s: comes in pairs, want nothing given besides (got %q)", s.Name, o.Given)
	}
	if make, ok := derived[o.Given]; ok {
		if s.Kind != Plain && s.Kind != Video || s.IsVectors() {
			return fmt.Errorf("data: %s: %q is made of pictures, not of %s of %v", s.Name, o.Given, s.Kind, s.Dims())
		}
		s.Given, err = make(s)
		return err
	}
	s.Given = given
	return s.Check()
}

// sameNames wants two folders of pictures to hold the same names, apart from what follows the dot, so
// that a file too many does not shift all pairs behind it. Anything that is no such folder passes.
func sameNames(a, b string) error {
	if st, err := os.Stat(a); err != nil || !st.IsDir() {
		return nil
	}
	if st, err := os.Stat(b); err != nil || !st.IsDir() {
		return nil
	}
	fa, erra := pictureFiles(a)
	fb, errb := pictureFiles(b)
	if erra != nil || errb != nil {
		return nil
	}
	stem := func(f string) string {
		f = filepath.Base(f)
		return strings.TrimSuffix(f, filepath.Ext(f))
	}
	for i := range max(len(fa), len(fb)) {
		switch {
		case i >= len(fa):
			return fmt.Errorf("data: %s: no picture for %s", a, fb[i])
		case i >= len(fb):
			return fmt.Errorf("data: %s: no picture for %s", b, fa[i])
		case stem(fa[i]) != stem(fb[i]):
			return fmt.Errorf("data: %s: picture number %d is %s, want one of the name of %s", b, i+1, filepath.Base(fb[i]), fa[i])
		}
	}
	return nil
}

// greyOf is the luma of colour pictures.
func greyOf(s *Set) (*Set, error) {
	if s.C != 3 {
		return nil, fmt.Errorf("data: %s: grey pictures are to be drawn from grey ones", s.Name)
	}
	bare := *s
	bare.Beside, bare.Labels, bare.Factors, bare.FactorNames = nil, nil, nil, nil
	return bare.Grey()
}

// edgesOf is the length of the slope of the luma, by Sobel's differences: −1 where it is flat, 1 where
// it reaches half the range from one pixel to the next.
func edgesOf(s *Set) (*Set, error) {
	g := s
	if s.C == 3 {
		var err error
		if g, err = greyOf(s); err != nil {
			return nil, err
		}
	} else if s.C != 1 {
		return nil, fmt.Errorf("data: %s: edges want 1 or 3 channels, got %d", s.Name, s.C)
	}
	e, err := g.room("edges", 1, s.H, s.W)
	if err != nil {
		return nil, err
	}
	e.Given, e.Beside, e.Labels, e.Factors, e.FactorNames = nil, nil, nil, nil, nil
	e.Name, e.Gain, e.Offset, e.Lo, e.Hi = s.Name+" edges", byteGain, byteOffset, -1, 1
	h, w := s.H, s.W
	slopes := make([]float32, e.Dim())
	for i, x := range g.each() {
		for k := range e.planes() {
			edges(slopes[k*h*w:(k+1)*h*w], x[k*h*w:(k+1)*h*w], h, w)
		}
		e.put(i, slopes)
	}
	return e, nil
}

// edges writes the slopes of a plane.
func edges(dst, src []float32, h, w int) {
	at := func(y, x int) float64 { return float64(src[max(0, min(h-1, y))*w+max(0, min(w-1, x))]) }
	for y := range h {
		for x := range w {
			var dx, dy float64
			for i, f := range []float64{1, 2, 1} {
				dx += f * (at(y-1+i, x+1) - at(y-1+i, x-1))
				dy += f * (at(y+1, x-1+i) - at(y-1, x-1+i))
			}
			dst[y*w+x] = float32(2*math.Min(1, math.Hypot(dx, dy)/8) - 1)
		}
	}
}

// holeOf is the pictures with a square of half their side blanked at a random place, the same one for
// an example every time. Beside["hole"] of s is 1 inside it and −1 outside.
func holeOf(s *Set) (*Set, error) {
	g, err := s.room(Hole, s.C, s.H, s.W)
	if err != nil {
		return nil, err
	}
	m, err := s.room(Hole, 1, s.H, s.W)
	if err != nil {
		return nil, err
	}
	for _, t := range []*Set{g, m} {
		t.Given, t.Beside, t.Labels, t.Factors, t.FactorNames = nil, nil, nil, nil, nil
	}
	m.Lo, m.Hi, m.Gain, m.Offset = -1, 1, byteGain, byteOffset
	side := max(1, min(s.H, s.W)/2)
	x, mask := make([]float32, g.Dim()), make([]float32, m.Dim())
	for i := range s.N {
		r := rand.New(rand.NewPCG(uint64(i), holeStream))
		y0, x0 := r.IntN(s.H-side+1), r.IntN(s.W-side+1)
		blank := func(t *Set, x []float32, v float32) {
			for p := range t.planes() {
				for y := range side {
					row := x[(p*s.H+y0+y)*s.W+x0:][:side]
					for k := range row {
						row[k] = v
					}
				}
			}
			t.put(i, x)
		}
		s.Copy(x, i)
		for k := range mask {
			mask[k] = -1
		}
		blank(g, x, (s.Lo+s.Hi)/2)
		blank(m, mask, 1)
	}
	if s.Beside == nil {
		s.Beside = map[string]*Set{}
	}
	s.Beside[Hole] = m
	return g, nil
}
