package record

import (
	"image/color"
	"math"
	"testing"
)

func TestMaps(t *testing.T) {
	red, blue := color.NRGBA{255, 0, 0, 255}, color.NRGBA{0, 0, 255, 255}
	m, err := Maps([]Plan{
		{Discs: []Disc{{X: 10, Y: 0, Radius: 2, Ink: blue}}, Tracks: []Track{{XY: [][2]float64{{0, 0}, {20, 10}}, Ink: red, Width: 2}}},
		{Tracks: []Track{{XY: [][2]float64{{0, 0}, {1, 0}, {math.NaN(), 0}, {3, 0}, {4, 0}}, Ink: red, Width: 2}}},
	}, 48, 32)
	if err != nil {
		t.Fatal(err)
	}
	at := func(i, c, x, y int) float32 { return m.Data[((i*3+c)*32+y)*48+x] }
	// The way goes up to the right: 20 wide and 12 high with the disc, so 2 pixels a unit.
	if at(0, 0, 5, 23) != 1 || at(0, 1, 5, 23) > 0.5 || at(0, 1, 42, 4) > 0.5 {
		t.Error("the ends of the way are not where they should be")
	}
	if at(0, 2, 24, 24) != 1 || at(0, 0, 24, 24) != 0 {
		t.Error("the disc is not where it should be")
	}
	if at(0, 0, 2, 2) != 1 || at(0, 2, 2, 2) != 1 {
		t.Error("the ground is not white")
	}
	// A place that is not finite leaves a gap.
	if at(1, 1, 8, 16) > 0.5 || at(1, 1, 24, 16) != 1 || at(1, 1, 40, 16) > 0.5 {
		t.Error("the gap is not left out")
	}
	if _, err := Maps(nil, 48, 32); err == nil {
		t.Error("no plans are accepted")
	}
	if _, err := Maps(make([]Plan, 1), 4, 4); err == nil {
		t.Error("a map without room is accepted")
	}
}
