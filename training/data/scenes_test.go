package data

import (
	"math"
	"slices"
	"testing"
)

// TestRegulator: sums of squares have the means that the Gaussian of the problem has exactly.
func TestRegulator(t *testing.T) {
	s := load(t, "synthetic/regulator", Options{Limit: 40000})
	var xx, uu float64
	for i := range s.N {
		x := 1.0
		for _, u := range s.At(i) {
			x += float64(u)
			xx += x * x / float64(s.N)
			uu += float64(u) * float64(u) / float64(s.N)
		}
	}
	if math.Abs(xx/1.5512-1) > 0.02 || math.Abs(uu/2.6296-1) > 0.02 {
		t.Errorf("E Σx² = %g, E Σu² = %g, want 1.5512 and 2.6296", xx, uu)
	}
}

// TestDriveSlope compares the slope of the cost with central differences.
func TestDriveSlope(t *testing.T) {
	s := DriveScene{Y: 0.5, Heading: 0.05, Speed: 9, Curvature: 0.015, Limit: 11, ObstacleX: 15, ObstacleY: 2}
	u := make([][2]float64, DriveSteps)
	for i := range u {
		u[i] = [2]float64{math.Sin(float64(i)), 0.05 * math.Cos(float64(2*i))}
	}
	_, slope := s.Cost(u)
	for i := range u {
		for k := range 2 {
			const h = 1e-6
			at := u[i][k]
			u[i][k] = at + h
			up, _ := s.Cost(u)
			u[i][k] = at - h
			down, _ := s.Cost(u)
			u[i][k] = at
			if want := (up - down) / (2 * h); math.Abs(slope[i][k]-want) > 1e-5*(1+math.Abs(want)) {
				t.Errorf("moment %d, control %d: slope %g, differences give %g", i, k, slope[i][k], want)
			}
		}
	}
}

// TestDrive: experts cost little more than the minimisers that they are, much less than doing nothing, and
// the states beside are where their controls lead.
func TestDrive(t *testing.T) {
	s := load(t, "synthetic/drive", Options{Limit: 20})
	var expert, idle float64
	for i := range s.N {
		scene := DriveSceneOf(s.Given.At(i))
		u := make([][2]float64, DriveSteps)
		c, _ := scene.Cost(u)
		idle += c
		for k := range u {
			u[k] = [2]float64{float64(s.At(i)[2*k]), float64(s.At(i)[2*k+1])}
		}
		c, _ = scene.Cost(u)
		expert += c
		for k, x := range scene.Roll(u) {
			for j, v := range x {
				if math.Abs(float64(s.Beside["states"].At(i)[4*k+j])-v) > 1e-3 {
					t.Fatalf("scene %d: state %d is %v, want %v", i, k, s.Beside["states"].At(i)[4*k:4*k+4], x)
				}
			}
		}
	}
	if expert > 0.6*idle {
		t.Errorf("experts cost %g, controls of zero %g", expert, idle)
	}
}

// TestConvoy: the states beside are where controls lead, and experts keep apart where constant velocity
// would bring them together.
func TestConvoy(t *testing.T) {
	s := load(t, "synthetic/convoy", Options{Limit: 6})
	const agents = ConvoyAgents
	near := func(x [agents][][4]float64) float64 {
		least := math.Inf(1)
		for k := range agents {
			for j := range k {
				for m := range x[k] {
					least = min(least, math.Hypot(x[k][m][0]-x[j][m][0], x[k][m][1]-x[j][m][1]))
				}
			}
		}
		return least
	}
	touched := false
	for i := range s.N {
		var driven, idle [agents][][4]float64
		for k := range agents {
			scene := DriveSceneOf(s.Given.At(i)[8*k : 8*k+8])
			u := make([][2]float64, DriveSteps)
			idle[k] = scene.Roll(u)
			for m := range u {
				at := s.At(i)[2*(agents*m+k):]
				u[m] = [2]float64{float64(at[0]), float64(at[1])}
			}
			driven[k] = scene.Roll(u)
			for m, x := range driven[k] {
				for j, v := range x {
					if got := float64(s.Beside["states"].At(i)[4*(agents*m+k)+j]); math.Abs(got-v) > 1e-3 {
						t.Fatalf("scene %d, vehicle %d: state %d.%d is %v, want %v", i, k, m, j, got, v)
					}
				}
			}
		}
		if d := near(driven); d < 1 {
			t.Errorf("scene %d: experts come as near as %g m", i, d)
		}
		touched = touched || near(idle) < near(driven)
	}
	if !touched {
		t.Error("no scene asks the experts to give way")
	}
	// The slope of the cost with others in it is the numerical one.
	scene := DriveSceneOf(s.Given.At(0)[:8])
	scene.Others, scene.OthersWeigh = [][][4]float64{DriveSceneOf(s.Given.At(0)[8:16]).Roll(make([][2]float64, DriveSteps))}, 2
	u := make([][2]float64, DriveSteps)
	_, slope := scene.Cost(u)
	const h = 1e-5
	for _, m := range []int{0, 7, DriveSteps - 1} {
		for k := range 2 {
			u[m][k] = h
			up, _ := scene.Cost(u)
			u[m][k] = -h
			down, _ := scene.Cost(u)
			u[m][k] = 0
			if want := (up - down) / (2 * h); math.Abs(slope[m][k]-want) > 1e-5*(1+math.Abs(want)) {
				t.Errorf("slope in control %d of moment %d is %g, want %g", k, m, slope[m][k], want)
			}
		}
	}
}

func TestLinearW(t *testing.T) {
	w := LinearW()
	for a := range 3 {
		for b := range 3 {
			dot, want := 0.0, 0.0
			for j := range w[a] {
				dot += w[a][j] * w[b][j]
			}
			if a == b {
				want = []float64{4, 2.25, 1}[a]
			}
			if math.Abs(dot-want) > 1e-12 {
				t.Errorf("columns %d and %d: product %g, want %g", a, b, dot, want)
			}
		}
	}
}

// TestDomains: the true map of one domain is how the other paints, and nothing but the glyph differs.
func TestDomains(t *testing.T) {
	for _, name := range []string{"synthetic/ab16-a", "synthetic/ab16-b"} {
		s := load(t, name, Options{Limit: 20})
		bright := 1.0
		if name == "synthetic/ab16-b" {
			bright = -1
		}
		for i := range s.N {
			for j, m := range s.Beside["mask"].At(i) {
				x, y := float64(s.At(i)[j]), float64(s.Beside["target"].At(i)[j])
				if (m == 1) != (bright*x > 0) && math.Abs(float64(m)) == 1 || (x > 0) == (y > 0) && math.Abs(float64(m)) == 1 {
					t.Fatalf("%s %d: mask %g, own %g, target %g", name, i, m, x, y)
				}
			}
		}
	}
	a := load(t, "synthetic/seq16-a", Options{Limit: 5, Frames: 6})
	if !slices.Equal(a.Dims(), []int{1, 6, 16, 16}) || a.Beside["centre"].H != 6 {
		t.Fatalf("clips of %v", a.Dims())
	}
	for i := range a.N {
		for f := range a.D {
			var mass, mx, my float64
			for j, v := range a.At(i)[f*256 : (f+1)*256] {
				w := (float64(v) + 0.8) / 1.6
				mass, mx, my = mass+w, mx+w*float64(j%16), my+w*float64(j/16)
			}
			c := a.Beside["centre"].At(i)[2*f:]
			if math.Hypot(mx/mass-float64(c[0]), my/mass-float64(c[1])) > 0.3 {
				t.Errorf("clip %d, frame %d: centre %.2f, %.2f, want %v", i, f, mx/mass, my/mass, c[:2])
			}
		}
	}
}

// TestSalient: maps are one of the candidates, scribbles agree with them, and only the depth tells the
// shape of a camouflaged picture.
func TestSalient(t *testing.T) {
	s := load(t, "synthetic/salient-depth", Options{Limit: 60})
	p := s.H * s.W
	contrast := map[int][2]float64{} // by class: of colours, of depth
	count := map[int]float64{}
	for i := range s.N {
		m, all, hint, g := s.At(i), s.Beside["candidates"].At(i), s.Beside["scribbles"].At(i), s.Given.At(i)
		var in, out [4]float64
		var nin, nout, said float64
		for j, v := range m {
			if v > all[j] || hint[j]*v < 0 {
				t.Fatalf("picture %d: map %g, candidates %g, scribble %g", i, v, all[j], hint[j])
			}
			if hint[j] != 0 {
				said++
			}
			for k := range 4 {
				if v == 1 {
					in[k] += float64(g[k*p+j])
				} else if all[j] == -1 {
					out[k] += float64(g[k*p+j])
				}
			}
			if v == 1 {
				nin++
			} else if all[j] == -1 {
				nout++
			}
		}
		if share := said / float64(p); share < 0.03 || share > 0.1 {
			t.Errorf("picture %d: scribbles say something of %g of the pixels", i, share)
		}
		c := contrast[s.Labels[i]]
		for k := range 3 {
			c[0] = c[0] + math.Abs(in[k]/nin-out[k]/nout)/3
		}
		c[1] += in[3]/nin - out[3]/nout
		contrast[s.Labels[i]] = c
		count[s.Labels[i]]++
	}
	for class, c := range contrast {
		colour, depth := c[0]/count[class], c[1]/count[class]
		if depth < 0.5 || (class == 2) != (colour < 0.2) {
			t.Errorf("%s: contrast of colours %g, of depth %g", s.Classes[class], colour, depth)
		}
	}
}
