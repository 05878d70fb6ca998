package data

import (
	"slices"
	"strings"
	"testing"
)

// paired is n pictures whose every value tells example and place, with a condition and a mask beside.
func paired(n, h, w int) *Set {
	s := numbered(n, 1, h, w)
	s.Given = numbered(n, 3, h, w)
	s.Beside = map[string]*Set{"mask": numbered(n, 1, h, w)}
	return s
}

func TestAlignedSetsFollow(t *testing.T) {
	s := paired(10, 6, 6)
	s.Labels = []int{0, 1, 0, 1, 0, 1, 0, 1, 0, 1}
	train, held, err := s.Split(0.3, 1)
	if err != nil {
		t.Fatal(err)
	}
	class, err := s.OfClass(1)
	if err != nil {
		t.Fatal(err)
	}
	cropped, err := s.Crop(2, 4)
	if err != nil {
		t.Fatal(err)
	}
	resized, err := s.Resize(3, 3)
	if err != nil {
		t.Fatal(err)
	}
	patches, err := s.Patches(7, 3, 2, 5)
	if err != nil {
		t.Fatal(err)
	}
	for name, u := range map[string]*Set{
		"train": train, "held": held, "class": class, "head": s.Head(4), "crop": cropped, "resize": resized, "patches": patches,
	} {
		if err := u.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		mask := u.Beside["mask"]
		if u.Given.N != u.N || mask.N != u.N || u.Given.H != u.H || u.Given.W != u.W {
			t.Errorf("%s: given %d of %d×%d with %d of %d×%d", name, u.Given.N, u.Given.H, u.Given.W, u.N, u.H, u.W)
		}
		if !slices.Equal(mask.X(), u.X()) {
			t.Errorf("%s: the mask is not that of the examples", name)
		}
		if !slices.Equal(u.Factors, u.Given.Factors) {
			t.Errorf("%s: examples %v with what is given to %v", name, u.Factors, u.Given.Factors)
		}
	}
	g, err := s.Grey()
	if err != nil || g.Given.C != 1 {
		t.Errorf("grey: %v, %v", g, err)
	}
	if s.Hash() == numbered(10, 1, 6, 6).Hash() {
		t.Error("what is given does not enter the hash")
	}
	l, err := NewLoader(s, 4, 1)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		b := l.Next()
		for k, i := range b.Index {
			if !slices.Equal(b.Given[k*108:(k+1)*108], s.Given.At(i)) {
				t.Fatalf("example %d of a batch comes with what is given of another", i)
			}
		}
	}
	s.Given = s.Given.Head(9)
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "given: 10 examples want as many, got 9") {
		t.Errorf("9 conditions of 10 examples: %v", err)
	}
}

func TestKinds(t *testing.T) {
	for _, c := range []struct {
		kind       Kind
		c, d, h, w int
		dims       []int
	}{
		{Plain, 3, 0, 8, 9, []int{3, 8, 9}}, {Plain, 2, 0, 1, 1, []int{2}}, {Plain, 1, 0, 1, 9, []int{1, 1, 9}},
		{Video, 3, 5, 8, 9, []int{3, 5, 8, 9}}, {Voxels, 1, 4, 4, 4, []int{1, 4, 4, 4}},
		{Cloud, 1, 0, 128, 3, []int{128, 3}}, {Path, 1, 0, 30, 2, []int{30, 2}},
	} {
		s := &Set{Name: "k", Kind: c.kind, N: 2, C: c.c, D: c.d, H: c.h, W: c.w, Gain: 1}
		s.Floats = make([]float32, 2*s.Dim())
		n := 1
		for _, d := range c.dims {
			n *= d
		}
		if !slices.Equal(s.Dims(), c.dims) || s.Dim() != n || s.Check() != nil {
			t.Errorf("%v: dims %v, dim %d, %v", c, s.Dims(), s.Dim(), s.Check())
		}
		if k, err := KindOf(c.kind.String()); err != nil || k != c.kind {
			t.Errorf("%s is kind %v, %v", c.kind, k, err)
		}
	}
	for _, s := range []*Set{
		{Kind: Video, N: 1, C: 1, H: 2, W: 2}, {Kind: Plain, N: 1, C: 1, D: 2, H: 2, W: 2}, {Kind: Cloud, N: 1, C: 2, H: 2, W: 2},
	} {
		s.Gain, s.Floats = 1, make([]float32, s.Dim())
		if s.Check() == nil {
			t.Errorf("%s of %d×%d×%d×%d are accepted", s.Kind, s.C, s.D, s.H, s.W)
		}
	}
	if _, err := KindOf("film"); err == nil {
		t.Error("kind film is accepted")
	}
	a := &Set{Kind: Video, N: 1, C: 1, D: 2, H: 2, W: 2, Floats: make([]float32, 8), Gain: 1}
	b := &Set{Kind: Voxels, N: 1, C: 1, D: 2, H: 2, W: 2, Floats: make([]float32, 8), Gain: 1}
	if a.Hash() == b.Hash() {
		t.Error("the kind does not enter the hash")
	}
	v := numbered(3, 2, 4, 6)
	v.Kind, v.C, v.D = Video, 1, 2
	half, err := v.Crop(2, 2)
	if err != nil || half.Dim() != 8 || half.Check() != nil || half.At(1)[4]-half.At(1)[0] != v.X()[24]-v.X()[0] {
		t.Errorf("a crop of frames: %+v, %v", half, err)
	}
}
