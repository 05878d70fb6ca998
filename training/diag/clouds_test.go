package diag

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func cloud(n int, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64()) / 3
	}
	return x
}

func TestChamfer(t *testing.T) {
	d, err := Chamfer([]float32{0, 0, 1, 0}, []float32{0, 1}, 2)
	// 0→1 and 1→√2 squared: (1 + 2)/2; back: 1
	if err != nil || math.Abs(d-2.5) > 1e-6 {
		t.Errorf("got %v, %v, want 2.5", d, err)
	}
	a := cloud(96, 1)
	if d, err := Chamfer(a, a, 3); err != nil || d != 0 {
		t.Errorf("a set is %v, %v away from itself", d, err)
	}
}

// TestEMD compares with the best of all assignments, and with a shuffle.
func TestEMD(t *testing.T) {
	const n = 7
	a, b := cloud(3*n, 2), cloud(3*n, 3)
	best := math.Inf(1)
	var try func(i int, used []bool, sum float64)
	try = func(i int, used []bool, sum float64) {
		if i == n {
			best = min(best, sum/n)
			return
		}
		for j := range n {
			if !used[j] {
				used[j] = true
				d := 0.0
				for k := range 3 {
					d += math.Pow(float64(a[3*i+k])-float64(b[3*j+k]), 2)
				}
				try(i+1, used, sum+math.Sqrt(d))
				used[j] = false
			}
		}
	}
	try(0, make([]bool, n), 0)
	got, err := EMD(a, b, 3)
	if err != nil || math.Abs(got-best) > 1e-9 {
		t.Errorf("got %v, %v, the best assignment has %v", got, err, best)
	}
	x := cloud(3*200, 4)
	y := make([]float32, 0, len(x))
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(200) {
		y = append(y, x[3*i:3*i+3]...)
	}
	if got, err := EMD(x, y, 3); err != nil || got > 1e-12 {
		t.Errorf("a shuffled set is %v, %v away", got, err)
	}
	if _, err := EMD(a, b[:3*n-3], 3); err == nil {
		t.Error("sets of 7 and 6 points are accepted")
	}
}

func TestClouds(t *testing.T) {
	const n, points = 40, 16
	a, b := cloud(n*points*3, 5), cloud(n*points*3, 6)
	same, err := Clouds(a, a, points, 3, Chamfer)
	if err != nil || same.MMD != 0 || same.Coverage != 1 {
		t.Errorf("against themselves: %+v, %v, want 0 and full coverage", same, err)
	}
	like, err := Clouds(a, b, points, 3, Chamfer)
	if err != nil || math.Abs(like.Nearest-0.5) > 0.1 {
		t.Errorf("two draws of one distribution: %+v, %v, want a nearest neighbour of either by chance", like, err)
	}
	far := slices.Clone(b)
	for i := range far {
		far[i] += 2
	}
	apart, err := Clouds(a, far, points, 3, Chamfer)
	if err != nil || apart.Nearest != 1 || apart.MMD < 10*like.MMD {
		t.Errorf("sets far apart: %+v, %v", apart, err)
	}
	one := slices.Repeat(a[:points*3], n)
	if s, err := Clouds(one, b, points, 3, Chamfer); err != nil || s.Coverage != 1.0/n {
		t.Errorf("one set n times: %+v, %v, want the coverage of one", s, err)
	}
}

func TestCloudJSD(t *testing.T) {
	a, b := cloud(3000, 7), cloud(3000, 8)
	if d, err := CloudJSD(a, a, 28); err != nil || d != 0 {
		t.Errorf("of equals: %v, %v", d, err)
	}
	if d, err := CloudJSD([]float32{-1, -1, -1}, []float32{1, 1, 1}, 28); err != nil || math.Abs(d-1) > 1e-12 {
		t.Errorf("of what has no cell in common: %v, %v, want one bit", d, err)
	}
	// halves against one half: H(¾,¼) − ½·H(½,½) = 0.8113 − 0.5
	d, err := CloudJSD([]float32{-1, 0, 0, 1, 0, 0}, []float32{1, 0, 0}, 2)
	if want := 0.811278 - 0.5; err != nil || math.Abs(d-want) > 1e-5 {
		t.Errorf("got %v, %v, want %v", d, err, want)
	}
	if d, err := CloudJSD(a, b, 4); err != nil || d > 0.05 {
		t.Errorf("of two draws: %v, %v", d, err)
	}
}

func TestTemporalAutocorrelation(t *testing.T) {
	// cos(2π·t/8) at every pixel over whole periods: the correlation at lag l is that of the windows left,
	// close to cos(2π·l/8).
	const d, p = 64, 6
	x := make([]float32, 2*d*p)
	for i := range x {
		x[i] = float32(math.Cos(2 * math.Pi * float64(i/p%d) / 8))
	}
	got, err := TemporalAutocorrelation(x, 2, d, 2, 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	for l, v := range got {
		if want := math.Cos(2 * math.Pi * float64(l+1) / 8); math.Abs(v-want) > 0.05 {
			t.Errorf("lag %d: %v, want %v", l+1, v, want)
		}
	}
	if _, err := TemporalAutocorrelation(x, 2, d, 2, 3, d); err == nil {
		t.Error("as many lags as frames are accepted")
	}
	if _, err := TemporalAutocorrelation(make([]float32, 12), 1, 12, 1, 1, 2); err == nil {
		t.Error("a constant clip is accepted")
	}
}

func TestClipSWD(t *testing.T) {
	const d, h, w = 16, 16, 16
	moving := func(phase float64, shuffle bool) []float32 {
		order := make([]int, d)
		for i := range order {
			order[i] = i
		}
		if shuffle {
			order = rand.New(rand.NewPCG(2, 2)).Perm(d)
		}
		x := make([]float32, 0, d*h*w)
		for _, t := range order {
			for i := range h * w {
				x = append(x, float32(math.Sin(2*math.Pi*(float64(i%w)+0.5*float64(i/w)-float64(t))/8+phase)))
			}
		}
		return x
	}
	a := moving(0, false)
	if v, err := ClipSWD(a, d, a, d, 1, h, w, 1); err != nil || v != 0 {
		t.Errorf("a clip is %v, %v away from itself", v, err)
	}
	like, err := ClipSWD(a, d, moving(1, false), d, 1, h, w, 1)
	if err != nil {
		t.Fatal(err)
	}
	shuffled, err := ClipSWD(a, d, moving(0, true), d, 1, h, w, 1)
	if err != nil || shuffled < 2*like {
		t.Errorf("shuffled frames are %v, %v away, the same motion %v", shuffled, err, like)
	}
}
