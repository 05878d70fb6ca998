package training_test

import (
	"context"
	"testing"

	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/record"
)

func TestShow(t *testing.T) {
	for name, tiles := range map[string]int{
		"synthetic/glyph16": 3, "synthetic/tex-a-rgb": 1, "synthetic/discs": 36, "synthetic/volumes": 3,
		"synthetic/surfaces": 3, "synthetic/drive": 3,
	} {
		s, err := data.Load(context.Background(), name, data.Options{Limit: 3})
		if err != nil {
			t.Fatal(err)
		}
		x := s.X()[:min(3, tiles)*s.Dim()]
		p, err := training.Show("samples", s, x)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		n, img := p.Images.N, any(nil)
		if p.Rows != nil {
			for _, r := range p.Rows {
				n += r.N
			}
			img, err = record.Strip(1, 1, p.Rows...)
		} else {
			img, err = record.Grid(p.Images, 0, 1, 1)
		}
		if err != nil || img == nil || n != tiles {
			t.Errorf("%s: %d tiles, %v, want %d", name, n, err, tiles)
		}
	}
	s, err := data.Load(context.Background(), "synthetic/salient-depth", data.Options{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	p, err := training.Show("given", s.Given, s.Given.X())
	if err != nil || p.Images.C != 3 || p.Images.N != 2 || p.Images.Data[3*32*32] != s.Given.At(1)[0] {
		t.Errorf("pictures with depth: %d of %d channels, %v", p.Images.N, p.Images.C, err)
	}
	if s, err = data.Load(context.Background(), "synthetic/moons", data.Options{Limit: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := training.Show("points", s, s.X()); err == nil {
		t.Error("vectors have a picture")
	}
}
