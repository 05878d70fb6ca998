package data

import (
	"math"
	"testing"
)

func TestRescaleToBytes(t *testing.T) {
	train := &Set{N: 2, C: 1, H: 1, W: 2, Floats: []float32{-1, 1, 0, 1}, Lo: -1, Hi: 1, Gain: 2.0 / 255, Offset: -1}
	held := &Set{N: 1, C: 1, H: 1, W: 2, Floats: []float32{-1, 0}, Lo: -1, Hi: 1, Gain: 2.0 / 255, Offset: -1}
	a, b := Rescale(Bytes, train, held)
	sum := 0.0
	for _, v := range a.X() {
		sum += float64(v)
	}
	if math.Abs(sum) > 1e-4 {
		t.Errorf("the training mean is %g, want 0", sum/4)
	}
	if span := float64(a.Hi - a.Lo); math.Abs(span-255) > 1e-4 {
		t.Errorf("the range spans %g, want 255", span)
	}
	// Raw undoes the whole map: −1 was byte 0, 1 was byte 255.
	if r := a.Raw(a.X()[0]); math.Abs(r) > 1e-4 {
		t.Errorf("raw value %g, want 0", r)
	}
	if r := b.Raw(b.X()[1]); math.Abs(r-127.5) > 1e-4 {
		t.Errorf("held-out raw value %g, want 127.5: another map than the training data's", r)
	}
	if c, d := Rescale(Unit, train, held); c != train || d != held {
		t.Error("unit scale changed the data")
	}
}
