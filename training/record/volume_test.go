package record

import (
	"math"
	"testing"
)

func TestFrames(t *testing.T) {
	x := make([]float32, 2*3*4*2*2)
	for i := range x {
		x[i] = float32(i)
	}
	rows, err := Frames(x, 2, 3, 4, 2, 2, 0, 96)
	if err != nil || len(rows) != 2 || rows[1].N != 4 || rows[1].C != 3 {
		t.Fatalf("%v, %v", rows, err)
	}
	// clip 1, channel 2, frame 3, last pixel
	if got, want := rows[1].Data[(3*3+2)*4+3], float32(((1*3+2)*4+3)*4+3); got != want {
		t.Errorf("got value %v, want %v", got, want)
	}
	if _, err := Strip(1, 1, rows...); err != nil {
		t.Error(err)
	}
	if _, err := Frames(x, 2, 3, 4, 2, 3, 0, 1); err == nil {
		t.Error("a wrong size is accepted")
	}
}

func TestVolumes(t *testing.T) {
	const n = 8
	x := make([]float32, 3*n*n*n)
	for i := range x {
		x[i] = -1
	}
	for z := 2; z < 6; z++ {
		for y := 2; y < 6; y++ {
			for xx := 2; xx < 6; xx++ {
				x[n*n*n+(z*n+y)*n+xx] = 1
			}
		}
	}
	x[2*n*n*n] = float32(math.NaN())
	m, err := Volumes(x, 3, n, n, n, 0)
	if err != nil {
		t.Fatal(err)
	}
	tile := len(m.Data) / 3
	lit := map[float32]bool{}
	count := 0
	for i, v := range m.Data[:2*tile] {
		switch {
		case v > -1 && i < tile:
			t.Fatal("an empty volume shows something")
		case v > -1:
			lit[float32(math.Round(float64(v)*4))] = true
			count++
		}
	}
	// A cube of 4 in a view of √(3·64) wide: its hexagonal outline covers between the square face and
	// the circle of its diagonal.
	share := float64(count) / float64(tile)
	if lo, hi := 16.0/192, math.Pi*12/192; share < lo || share > hi || len(lit) < 3 {
		t.Errorf("a cube covers %.3f of the view in %d shades, want %.3f to %.3f and three faces", share, len(lit), lo, hi)
	}
	if v := m.Data[2*tile]; v == v {
		t.Error("a volume with a NaN is not loud")
	}
}

func TestPoints(t *testing.T) {
	m, err := Points([]float32{0, 0, 1, 1, 9, 9, 0.5, -0.5}, 1, 4, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, v := range m.Data {
		if v > -1 {
			count++
		}
	}
	if count != 3 || m.Data[32*64+32] == -1 || m.Data[16*64+48] == -1 || m.Data[40*64+40] == -1 {
		t.Errorf("%d points shown, want those at the middle, upper right and lower right", count)
	}
	deep, err := Points([]float32{0, 0, 0.9, 0, 0, -0.9}, 1, 2, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	var seen []float32
	for _, v := range deep.Data {
		if v > -1 {
			seen = append(seen, v)
		}
	}
	if len(seen) != 2 || seen[0] == seen[1] {
		t.Errorf("a near and a far point show as %v", seen)
	}
	if _, err := Points([]float32{1, 2, 3, 4}, 1, 1, 4, 1); err == nil {
		t.Error("4 coordinates are accepted")
	}
}

func TestTracks(t *testing.T) {
	m, err := Tracks([]float32{0, 5, 1, 5, 1, 5, 0, 5}, 2, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	at := func(i, y, x int) float32 { return m.Data[(i*64+y)*64+x] }
	// The first value rises in the first trajectory and falls in the second; the other stands still.
	if at(0, 61, 0) != 1 || at(0, 2, 63) != 1 || at(1, 2, 0) != 1 || at(1, 61, 63) != 1 || at(0, 32, 10) == -1 {
		t.Error("the curves do not lie where the values are")
	}
	if _, err := Tracks(make([]float32, 7), 2, 2, 2); err == nil {
		t.Error("a wrong size is accepted")
	}
}
