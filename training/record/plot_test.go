package record

import (
	"image"
	"image/color"
	"math"
	"slices"
	"testing"
)

// count returns how many pixels of img are within a small distance of c.
func count(img image.Image, c color.Color) int {
	near := func(a, b uint8) bool { return max(a, b)-min(a, b) <= 12 }
	want := color.NRGBAModel.Convert(c).(color.NRGBA)
	n := 0
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			got := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			if near(got.R, want.R) && near(got.G, want.G) && near(got.B, want.B) {
				n++
			}
		}
	}
	return n
}

func ramp(n int, f func(i int) float64) Series {
	s := Series{Name: "a"}
	for i := range n {
		s.X, s.Y = append(s.X, float64(i)), append(s.Y, f(i))
	}
	return s
}

// TestLinesSurvivesAnyNumbers draws what breaks axes: nothing, one point, constants, extremes.
func TestLinesSurvivesAnyNumbers(t *testing.T) {
	for name, s := range map[string]Series{
		"empty":        {},
		"one point":    ramp(1, func(int) float64 { return 3 }),
		"constant":     ramp(5, func(int) float64 { return 1e-4 }),
		"zero":         ramp(5, func(int) float64 { return 0 }),
		"all NaN":      ramp(100, func(int) float64 { return math.NaN() }),
		"gaps":         ramp(9, func(i int) float64 { return []float64{1, math.Inf(1), math.NaN()}[i%3] }),
		"huge":         ramp(9, func(i int) float64 { return []float64{math.MaxFloat64, -math.MaxFloat64, 1e29}[i%3] }),
		"tiny":         ramp(9, func(i int) float64 { return float64(i) * math.SmallestNonzeroFloat64 }),
		"narrow":       ramp(9, func(i int) float64 { return 1e15 + float64(i%2)*0.125 }),
		"decades":      ramp(9, func(i int) float64 { return math.Pow(10, float64(i*6-24)) }),
		"long decades": ramp(999, func(i int) float64 { return math.Pow(10, float64(i%9)) }),
		"wide steps":   {Name: "a", X: []float64{0, 1e18}, Y: []float64{1, 2}},
	} {
		img, err := Lines{Title: name, Series: []Series{s, s}}.Image()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := img.Bounds().Size(); got != (image.Point{840, 420}) {
			t.Errorf("%s: got %v, want 840 × 420", name, got)
		}
	}
}

func TestLinesDrawsTheCurve(t *testing.T) {
	flat := ramp(10, func(int) float64 { return 1 })
	for _, isDark := range []bool{false, true} {
		th := light
		if isDark {
			th = dark
		}
		img, err := Lines{Series: []Series{flat}, Dark: isDark}.Image()
		if err != nil {
			t.Fatal(err)
		}
		// A horizontal line over the plot's width, two to three pixels thick.
		if n := count(img, th.curves[0]); n < 1000 || n > 4000 {
			t.Errorf("dark %v: got %d pixels of the curve's colour", isDark, n)
		}
		if !sameColor(img.At(0, 0), th.ground) {
			t.Errorf("dark %v: got ground %v", isDark, img.At(0, 0))
		}
		empty, err := Lines{Dark: isDark}.Image()
		if err != nil {
			t.Fatal(err)
		}
		if n := count(empty, th.curves[0]); n > 0 {
			t.Errorf("dark %v: %d pixels of a curve that is not there", isDark, n)
		}
	}
	if _, err := (Lines{Series: []Series{{X: []float64{1}}}}).Image(); err == nil {
		t.Error("x without y was taken")
	}
	if _, err := (Lines{Width: 1e9, Height: 1e9}).Image(); err == nil {
		t.Error("a giant size was taken")
	}
}

func TestSegments(t *testing.T) {
	s := ramp(6, func(i int) float64 { return []float64{1, 2, math.NaN(), -4, 1e40, 6}[i] })
	if got := segments(s, false); len(got) != 3 || len(got[0]) != 2 || got[1][0].Y != -4 || got[2][0].X != 5 {
		t.Errorf("got %v, want it split at what cannot be drawn", got)
	}
	if got := segments(s, true); len(got) != 2 {
		t.Errorf("got %v, want −4 left out of a logarithmic plot", got)
	}
	// One spike among a hundred thousand points survives thinning.
	spike := ramp(100_000, func(i int) float64 { return float64(i / 77_777 * (77_778 / (i + 1))) })
	thin := segments(spike, false)[0]
	top := 0.
	for _, p := range thin {
		top = max(top, p.Y)
	}
	if top != 1 || len(thin) > 2500 {
		t.Errorf("got highest %v in %d points, want 1 in at most 2500", top, len(thin))
	}
}

func TestRunningMean(t *testing.T) {
	if runningMean(ramp(59, func(int) float64 { return 1 })) != nil {
		t.Error("a short curve was smoothed")
	}
	m := runningMean(ramp(600, func(i int) float64 {
		if i == 300 {
			return math.NaN()
		}
		return float64(i) + float64(i%2*2-1) // a line with alternating noise
	}))
	for _, i := range []int{100, 299, 500} {
		if math.Abs(m.Y[i]-float64(i)) > 0.6 {
			t.Errorf("point %d: got %v, want about %d", i, m.Y[i], i)
		}
	}
	if !math.IsNaN(m.Y[300]) {
		t.Errorf("got %v where the curve has a NaN", m.Y[300])
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		want   []string
	}{
		{0, 2000, []string{"0", "500", "1000", "1500", "2000"}},
		{-0.5, 3.2, []string{"-0.5", "0", "0.5", "1", "1.5", "2", "2.5", "3"}},
		{-0.5, 4, []string{"0", "1", "2", "3", "4"}},
		{1e-5, 5e-5, []string{"1e-05", "2e-05", "3e-05", "4e-05", "5e-05"}},
	} {
		var got []string
		for _, m := range ticks(c.lo, c.hi) {
			got = append(got, m.Label)
		}
		if len(got) != len(c.want) {
			t.Errorf("%v to %v: got %q, want %q", c.lo, c.hi, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%v to %v: got %q, want %q", c.lo, c.hi, got, c.want)
			}
		}
	}
}

func TestHeat(t *testing.T) {
	// Low on the left, high on the right, a NaN at the lower right corner, one point in the middle.
	h := Heat{XLabel: "x", YLabel: "y", Label: "U", XMin: -1, XMax: 1, YMin: -1, YMax: 1, NX: 2, NY: 2,
		Z: []float64{0, math.NaN(), 0, 1}}
	colors, err := h.colors()
	if err != nil {
		t.Fatal(err)
	}
	raster := h.raster(colors, 1)
	for _, c := range []struct {
		x, y int
		want color.Color
	}{{0, 0, rgb(0x440154)}, {0, 1, rgb(0x440154)}, {1, 0, rgb(0xfde725)}, {1, 1, Loud}} {
		got := image.NewNRGBA(image.Rect(0, 0, 1, 1))
		got.Set(0, 0, raster.At(c.x, c.y))
		if count(got, c.want) != 1 {
			t.Errorf("cell %d,%d: got %v, want %v", c.x, c.y, raster.At(c.x, c.y), c.want)
		}
	}
	img, err := h.Image()
	if err != nil {
		t.Fatal(err)
	}
	// A quarter of 600 × 600 pixels.
	if n := count(img, Loud); n < 80_000 || n > 100_000 {
		t.Errorf("got %d loud pixels, want the NaN cell", n)
	}
	if x, y := h.At(1, 0); x != 0.5 || y != -0.5 {
		t.Errorf("got centre %v, %v, want 0.5, -0.5", x, y)
	}
	before := count(img, color.White)
	h.Points = [][2]float64{{-0.5, -0.5}, {5, 0}, {math.NaN(), 0}}
	if img, err = h.Image(); err != nil {
		t.Fatal(err)
	}
	if got := count(img, color.White) - before; got < 3 || got > 30 {
		t.Errorf("got %d more white pixels, want one dot", got)
	}
}

func TestHeatSurvivesAnyNumbers(t *testing.T) {
	h := Heat{XMin: 0, XMax: 4, YMin: 0, YMax: 1, NX: 2, NY: 2}
	for name, z := range map[string][]float64{
		"constant": {3, 3, 3, 3},
		"zero":     {0, 0, 0, 0},
		"NaN":      {math.NaN(), math.NaN(), math.NaN(), math.NaN()},
		"infinite": {math.Inf(1), math.Inf(-1), 0, 1},
		"huge":     {math.MaxFloat64, -math.MaxFloat64, 0, 1},
	} {
		h.Z = z
		img, err := h.Image()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if s := img.Bounds().Size(); s.X < 2*s.Y {
			t.Errorf("%s: got %v, want the proportions of the axes", name, s)
		}
	}
	for name, bad := range map[string]Heat{
		"sizes":      {XMax: 1, YMax: 1, NX: 2, NY: 2, Z: make([]float64, 5)},
		"one row":    {XMax: 1, YMax: 1, NX: 2, NY: 1, Z: make([]float64, 2)},
		"axis":       {XMin: 1, XMax: 1, YMax: 1, NX: 2, NY: 2, Z: make([]float64, 4)},
		"NaN axis":   {XMin: math.NaN(), XMax: 1, YMax: 1, NX: 2, NY: 2, Z: make([]float64, 4)},
		"range":      {XMax: 1, YMax: 1, NX: 2, NY: 2, Z: make([]float64, 4), Lo: 2, Hi: 1},
		"giant size": {XMax: 1, YMax: 1, NX: 2, NY: 2, Z: make([]float64, 4), Size: 1e9},
	} {
		if _, err := bad.Image(); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}

func TestDecades(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		want   []string
	}{
		{1e-7, 1e-3, []string{"1e-07", "1e-06", "1e-05", "0.0001", "0.001"}},
		{0.1, 5000, []string{"0.1", "1", "10", "100", "1000"}},
		{1e-20, 1e10, []string{"1e-20", "1e-16", "1e-12", "1e-08", "0.0001", "1", "10000", "1e+08"}},
	} {
		var got []string
		for _, m := range decades(c.lo, c.hi) {
			got = append(got, m.Label)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v to %v: got %q, want %q", c.lo, c.hi, got, c.want)
		}
	}
}
