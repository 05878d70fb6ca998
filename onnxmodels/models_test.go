package onnxmodels_test

import (
	"slices"
	"testing"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/runtime/enginetest"
)

func TestOf(t *testing.T) {
	make := func(in string, shape graphs.Shape, typ graphs.DType, outs ...string) *graphs.Model {
		return enginetest.Build(t, func(b *graphs.Builder) {
			x := b.Input(in, typ, shape)
			for _, name := range outs {
				b.Output(name, b.Sum(x, false, 1, 2))
			}
		})
	}
	shape := graphs.Shape{onnxmodels.Batch, graphs.D(3), graphs.D(5)}
	m, err := onnxmodels.Of(make("x", shape, graphs.Float32, "energy", "score"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(m.Dims, []int{3, 5}) || m.Size() != 15 {
		t.Errorf("wanted examples of [3 5], 15 values; got %v, %d", m.Dims, m.Size())
	}
	for what, bad := range map[string]*graphs.Model{
		"input name":   make("y", shape, graphs.Float32, "energy", "score"),
		"element type": make("x", shape, graphs.Float64, "energy", "score"),
		"unknown size": make("x", graphs.Shape{onnxmodels.Batch, graphs.Sym("c"), graphs.D(5)}, graphs.Float32, "energy", "score"),
		"no score":     make("x", shape, graphs.Float32, "energy"),
		"no energy":    make("x", shape, graphs.Float32, "score"),
	} {
		if _, err := onnxmodels.Of(bad); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

// TestChosen: a description in full goes before one that is named, and an unknown name is told what there is.
func TestChosen(t *testing.T) {
	nets := map[string]onnxmodels.Named[int]{"small": {"one", 1}, "large": {"nine", 9}}
	byName := func(name string) (int, error) { return onnxmodels.ByName("test", nets, name) }
	full := 5
	if n, err := onnxmodels.Chosen(&full, byName, "large"); n != 5 || err != nil {
		t.Errorf("in full: %d, %v", n, err)
	}
	if n, err := onnxmodels.Chosen(nil, byName, "large"); n != 9 || err != nil {
		t.Errorf("by name: %d, %v", n, err)
	}
	if _, err := onnxmodels.Chosen(nil, byName, "huge"); err == nil || err.Error() != `test: unknown network "huge": have large, small` {
		t.Errorf("unknown: %v", err)
	}
}
