package data

import (
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestPalettes: a picture whose palette has greys alone is grey, and files have names.
func TestPalettes(t *testing.T) {
	dir := t.TempDir()
	for name, palette := range map[string]color.Palette{
		"a/grey.png": {color.Black, color.Gray{Y: 100}, color.White}, "b.png": {color.Black, color.NRGBA{R: 9, A: 255}},
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		m := image.NewPaletted(image.Rect(0, 0, 2, 2), palette)
		m.Pix[3] = 1
		if err := png.Encode(f, m); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files, names, err := PictureNames(dir)
	if err != nil || !slices.Equal(names, []string{filepath.Join("a", "grey"), "b"}) {
		t.Fatalf("names %v (%v)", names, err)
	}
	for i, want := range []int{1, 3} {
		s, err := ReadPictures(files[i], 0, 0, false, 0)
		if err != nil || s.C != want {
			t.Fatalf("%s: %v channels, wanted %d (%v)", files[i], s, want, err)
		}
		if i == 0 && math.Abs(float64(s.X()[3])-(100*byteGain+byteOffset)) > 1e-6 {
			t.Errorf("grey 100 reads %g", s.X()[3])
		}
	}
	if _, names, err = PictureNames(files[1]); err != nil || !slices.Equal(names, []string{"b"}) {
		t.Errorf("names of one file: %v (%v)", names, err)
	}
}
