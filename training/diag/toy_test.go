package diag

import (
	"math"
	"slices"
	"testing"
)

func TestBlobs(t *testing.T) {
	got := must(Blobs([]float32{
		1, 1, 0, 0,
		0, 1, 0, 1,
		1, 0, 0, 1,

		0, 0, 0, 0,
		0, 0, 1, 1,
		0, 0, 1, 0,

		0, 0, 0, 1,
		1, 0, 0, 0,
		0, 0, 0, 0,
	}, 3, 4, 0.5))
	// Corners do not connect, nor does the end of a row with the beginning of the next.
	if got[0].Components != 3 || got[0].Area != 6 || got[1].Components != 1 || got[2].Components != 2 {
		t.Errorf("got %+v", got)
	}
	near(t, "x", got[1].X, 7.0/3, 1e-12)
	near(t, "y", got[1].Y, 4.0/3, 1e-12)
	if b := must(Blobs(make([]float32, 4), 2, 2, 0)); b[0] != (Blob{}) {
		t.Errorf("dark picture: %+v", b)
	}
}

func TestValidityAndCoverage(t *testing.T) {
	real := []Blob{{1, 5, 0, 0}, {1, 9, 7, 7}, {1, 7, 0, 7}}
	samples := []Blob{{1, 5, 1, 1}, {1, 4, 7, 6}, {2, 7, 0, 7}, {1, 10, 0, 0}, {1, 9, 7, 0}}
	near(t, "validity", must(Validity(real, samples)), 2.0/5, 1e-12)
	// Quarters: real in three, samples of one component in two of them and a fourth.
	near(t, "coverage", must(Coverage(real, samples, 8, 8, 2)), 2.0/3, 1e-12)
	if _, err := Coverage(samples[2:3], samples, 8, 8, 2); err == nil {
		t.Error("no real blob is accepted")
	}
}

func TestModes(t *testing.T) {
	shares, within, err := Modes([]float32{0, 0.5, 3, 0, 9, 0, 5, 0}, [][2]float64{{0, 0}, {4, 0}}, 1)
	if err != nil || !slices.Equal(shares, []float64{0.25, 0.75}) || within != 0.75 {
		t.Errorf("got %v, %v, %v", shares, within, err)
	}
}

func TestParzen(t *testing.T) {
	// Two kernels at 0 and 2 of deviation 1, test rows 0 and 1.
	log := func(x float64) float64 {
		return math.Log((math.Exp(-x*x/2) + math.Exp(-(x-2)*(x-2)/2)) / 2 / math.Sqrt(2*math.Pi))
	}
	mean, se, err := Parzen([]float32{0, 2}, []float32{0, 1}, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "mean", mean, (log(0)+log(1))/2, 1e-12)
	near(t, "standard error", se, math.Abs(log(0)-log(1))/2, 1e-12)
	// Far away nothing underflows; each of D values costs its own normalisation.
	mean, _, _ = Parzen([]float32{0, 0, 0, 0}, []float32{30, 40, 30, 40}, 2, 0.5)
	near(t, "far away", mean, -2500/(2*0.25)-2*math.Log(0.5*math.Sqrt(2*math.Pi)), 1e-9)
}
