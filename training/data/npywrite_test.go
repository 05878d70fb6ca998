package data

import (
	"path/filepath"
	"slices"
	"testing"
)

func TestWriteNPYReadsBack(t *testing.T) {
	for _, dims := range [][]int{{2, 1, 2, 3}, {3, 2, 2}, {6, 2}} {
		x := make([]float32, 1)
		for _, d := range dims {
			x = slices.Repeat(x, d)
		}
		for i := range x {
			x[i] = float32(i)/float32(len(x))*2 - 1
		}
		path := filepath.Join(t.TempDir(), "x.npy")
		if err := WriteNPY(path, x, dims...); err != nil {
			t.Fatal(err)
		}
		s, err := ReadNPY(path)
		if err != nil {
			t.Fatal(err)
		}
		if s.N != dims[0] || !slices.Equal(s.X(), x) {
			t.Errorf("%v: got %d examples %v, want %v", dims, s.N, s.X(), x)
		}
	}
	if err := WriteNPY(filepath.Join(t.TempDir(), "x.npy"), make([]float32, 5), 2, 3); err == nil {
		t.Error("axes that do not fit were written")
	}
}
