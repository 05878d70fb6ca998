package passes

import (
	"strings"
	"testing"

	"ebmrun/graphs"
)

// TestSettle wants shapes that are computed at run time to become constants where
// they may, and the results to stay.
func TestSettle(t *testing.T) {
	x4 := graphs.Shape{graphs.Sym("batch"), graphs.D(3), graphs.Sym("h"), graphs.Sym("w")}
	for _, c := range []struct {
		name  string
		build func(b *graphs.Builder, x, size *graphs.Value) *graphs.Value // size(x) is the shape of x
		left  string
	}{
		{"one unknown size", func(b *graphs.Builder, x, size *graphs.Value) *graphs.Value {
			return b.Reshape(b.Mean(x, false, 2, 3), b.Concat(0, b.Gather(size, b.Ints(0), 0), b.Ints(1, 3)))
		}, "ReduceMean Reshape"},
		{"several that stand where they stood", func(b *graphs.Builder, x, size *graphs.Value) *graphs.Value {
			return b.Reshape(x, b.Concat(0, size, b.Ints(1)))
		}, "Reshape"},
		{"several that moved", func(b *graphs.Builder, x, size *graphs.Value) *graphs.Value {
			return b.Reshape(x, b.Gather(size, b.Ints(0, 2, 3, 1), 0))
		}, "Shape Gather Reshape"},
		{"an axis that may be of any size", func(b *graphs.Builder, x, size *graphs.Value) *graphs.Value {
			return b.Reshape(x, b.Concat(0, b.Gather(size, b.Ints(2, 3), 0), b.Ints(-1)))
		}, "Shape Gather Concat Reshape"},
		{"Expand of the channels alone", func(b *graphs.Builder, x, size *graphs.Value) *graphs.Value {
			return b.Expand(b.Mean(x, true, 1), size)
		}, "ReduceMean Expand"},
		{"Expand of an axis of unknown size", func(b *graphs.Builder, x, size *graphs.Value) *graphs.Value {
			return b.Expand(b.Mean(x, true, 2), size)
		}, "Shape ReduceMean Expand"},
	} {
		b := graphs.NewBuilder(&graphs.Graph{})
		x := b.Input("x", graphs.Float32, x4)
		b.Output("y", b.Exp(c.build(b, x, b.Shape(x))))
		g := finish(t, b)
		want, sig := run(t, g), signature(g)
		_, err := Settle(g)
		check(t, g, err)
		_, err = Prune(g)
		check(t, g, err)
		if got := strings.TrimSuffix(ops(g), " Exp"); got != c.left {
			t.Errorf("%s: left %s, want %s", c.name, got, c.left)
		}
		near(t, c.name, run(t, g), want)
		if signature(g) != sig {
			t.Errorf("%s: outputs %s, want %s", c.name, signature(g), sig)
		}
		if changed, _ := Settle(g); changed {
			t.Errorf("%s: a second run changes something", c.name)
		}
	}
}

// TestSameSizes: sizes of the same names are the same, wherever they are read.
func TestSameSizes(t *testing.T) {
	b := graphs.NewBuilder(&graphs.Graph{})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(3)})
	y := b.Input("y", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(3)})
	z := b.Input("z", graphs.Float32, graphs.Shape{graphs.Sym("other"), graphs.D(3)})
	for i, v := range []*graphs.Value{x, b.Mul(x, y), z} {
		b.Output(string(rune('a'+i)), b.Op("Range", []*graphs.Value{b.Const(graphs.Of([]int64{0})), b.Squeeze(b.Gather(b.Shape(v), b.Ints(0), 0), 0), b.Const(graphs.Of([]int64{1}))}))
	}
	g := finish(t, b)
	want := run(t, g)
	changed, err := CSE(g)
	check(t, g, err)
	_, err = Prune(g)
	check(t, g, err)
	if got := strings.Count(ops(g), "Shape"); !changed || got != 2 {
		t.Errorf("%d nodes read sizes, want 2: %s", got, ops(g))
	}
	near(t, "merged", run(t, g), want)
}
