package filters_test

import (
	"math"
	"testing"

	"ebmrun/training/filters"
)

func all(t *testing.T) []filters.Filter {
	t.Helper()
	round, err := filters.Round([]float64{3, 5}, 4)
	if err != nil {
		t.Fatal(err)
	}
	long, err := filters.Long(0.7, 16)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := filters.Blob(1.2)
	if err != nil {
		t.Fatal(err)
	}
	return append(append(append(round, long...), blob), filters.Differences()...)
}

// TestBank: filters have unit norm and, but for the intensity, no mean.
func TestBank(t *testing.T) {
	names := map[string]bool{}
	for _, f := range append(all(t), filters.Intensity()) {
		sum, square := 0.0, 0.0
		for _, v := range f.Taps {
			sum += float64(v)
			square += float64(v) * float64(v)
		}
		if math.Abs(square-1) > 1e-4 {
			t.Errorf("%s: squared norm %g", f.Name, square)
		}
		if f.Size > 1 && math.Abs(sum) > 1e-4 {
			t.Errorf("%s: sum %g", f.Name, sum)
		}
		if f.Size%2 != 1 || len(f.Taps) != f.Size*f.Size || names[f.Name] {
			t.Errorf("%s: size %d, %d taps, name seen before: %v", f.Name, f.Size, len(f.Taps), names[f.Name])
		}
		names[f.Name] = true
	}
	if h := filters.Reach(0.7); h != 8 {
		t.Errorf("half size at scale 0.7: wanted 8, got %d", h)
	}
}

// TestLongOrientation: filter k answers most to waves whose crests lie at its angle.
func TestLongOrientation(t *testing.T) {
	const n, scale = 16, 0.7
	bank, err := filters.Long(scale, n)
	if err != nil {
		t.Fatal(err)
	}
	const side = 17
	for k := range n {
		sin, cos := math.Sincos(math.Pi * float64(k) / n)
		x := make([]float32, side*side)
		for i := range x {
			x[i] = float32(math.Cos((-float64(i%side-8)*sin + float64(i/side-8)*cos) / scale))
		}
		best, most := -1, 0.0
		for j := range n {
			power := 0.0
			for _, f := range bank[2*j : 2*j+2] {
				r := make([]float32, 1)
				f.Inside(r, x, side, side)
				power += float64(r[0]) * float64(r[0])
			}
			if power > most {
				best, most = j, power
			}
		}
		if best != k {
			t.Errorf("a wave of orientation %d is answered most by filter %d", k, best)
		}
	}
}

// TestCircular: responses follow their definition, across the edges too.
func TestCircular(t *testing.T) {
	const h, w = 9, 7
	x := make([]float32, h*w)
	for i := range x {
		x[i] = float32((i*i*7 + 3*i) % 11)
	}
	for _, f := range all(t) {
		if f.Size > 11 {
			continue
		}
		got := make([]float32, h*w)
		f.Circular(got, x, h, w)
		for p := range got {
			want := 0.0
			for o, tap := range f.Taps {
				y, z := p/w+o/f.Size-f.Half(), p%w+o%f.Size-f.Half()
				want += float64(tap) * float64(x[(y+2*h)%h*w+(z+2*w)%w])
			}
			if math.Abs(float64(got[p])-want) > 1e-4 {
				t.Fatalf("%s at %d: wanted %g, got %g", f.Name, p, want, got[p])
			}
		}
	}
}

func TestErrors(t *testing.T) {
	if _, err := filters.Long(0, 4); err == nil {
		t.Error("scale 0 is accepted")
	}
	if _, err := filters.Blob(-1); err == nil {
		t.Error("a negative deviation is accepted")
	}
	if _, err := filters.Round([]float64{1}, 4); err == nil {
		t.Error("a wavelength of one pixel is accepted")
	}
	if _, err := filters.Kernels([]filters.Filter{{Name: "even", Size: 2, Taps: make([]float32, 4)}}); err == nil {
		t.Error("an even size is accepted")
	}
}
