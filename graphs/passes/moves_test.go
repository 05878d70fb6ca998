package passes

import (
	"testing"

	"ebmrun/graphs"
)

// TestMoves wants sums and scales in front of what only moves elements about, and the
// results to stay.
func TestMoves(t *testing.T) {
	f := func(b *graphs.Builder, v ...float64) *graphs.Value {
		c, err := graphs.FromFloats(graphs.Float32, v, len(v))
		if err != nil {
			t.Fatal(err)
		}
		return b.Const(c)
	}
	x4 := graphs.Shape{graphs.Sym("batch"), graphs.D(3), graphs.Sym("h"), graphs.Sym("w")}
	scatter := func(b *graphs.Builder, to, v *graphs.Value, how string) *graphs.Value {
		at := b.Const(graphs.Of([]int64{0, 2, 0, 1, 0}, 5))
		return b.Op("ScatterElements", []*graphs.Value{to, at, b.Slice(b.ReshapeTo(v, -1), []int64{0}, []int64{5}, []int64{0}, nil)}, graphs.S("reduction", how))
	}
	for _, c := range []struct {
		name  string
		build func(b *graphs.Builder, x *graphs.Value) *graphs.Value
		left  string
	}{
		{"into what is added", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Add(f(b, 1, 2, 3), scatter(b, f(b, 0, 0, 0), x, "add"))
		}, "Reshape Slice ScatterElements"},
		{"not into zeros alone", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Add(f(b, 1, 2, 3), scatter(b, f(b, 0, 1, 0), x, "add"))
		}, "Reshape Slice ScatterElements Add"},
		{"what is overwritten", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Add(f(b, 1, 2, 3), scatter(b, f(b, 0, 0, 0), x, "none"))
		}, "Reshape Slice ScatterElements Add"},
		{"one axis that broadcasts", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Add(f(b, 1), scatter(b, f(b, 0, 0, 0), x, "add"))
		}, "Reshape Slice ScatterElements Add"},
		{"three moved alike", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			move := func(v *graphs.Value) *graphs.Value { return b.Transpose(v, 0, 2, 3, 1) }
			return b.Add(move(b.Tanh(x)), b.Add(move(b.Exp(x)), move(b.Neg(x))))
		}, "Tanh Exp Neg Add Add Transpose"},
		{"moved unlike", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.Add(b.Transpose(b.Exp(x), 0, 2, 3, 1), b.Transpose(b.Transpose(b.Neg(x), 0, 2, 3, 1), 0, 1, 2, 3))
		}, "Exp Transpose Neg Transpose Transpose Add"},
		{"moved and read elsewhere", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			y := b.ReshapeTo(b.Exp(x), -1)
			return b.Mul(y, b.Add(y, b.ReshapeTo(b.Neg(x), -1)))
		}, "Exp Reshape Neg Reshape Add Mul"},
		{"a known part of much", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			part := func(v *graphs.Value) *graphs.Value { return b.Slice(v, []int64{0}, []int64{1}, []int64{1}, nil) }
			return b.Add(part(b.Exp(x)), part(b.Neg(x)))
		}, "Exp Slice Neg Slice Add"},
		{"a size known at run time", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			end, zero, axis := b.Sub(b.Shape(x), b.Ints(0, 0, 1, 0)), b.Ints(0, 0, 0, 0), b.Ints(0, 1, 2, 3)
			part := func(v *graphs.Value) *graphs.Value { return b.Op("Slice", []*graphs.Value{v, zero, end, axis}) }
			return b.Add(part(b.Exp(x)), part(b.Neg(x)))
		}, "Shape Sub Exp Neg Add Slice"},
		{"a scaled transpose", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.MatMul(x, b.Mul(b.Transpose(x, 0, 1, 3, 2), f(b, 0.5)))
		}, "Mul Transpose MatMul"},
		{"scaled by a vector", func(b *graphs.Builder, x *graphs.Value) *graphs.Value {
			return b.MatMul(b.Mul(b.Transpose(x, 0, 2, 3, 1), f(b, 0.5, 2, 3)), b.Transpose(x, 0, 2, 1, 3))
		}, "Transpose Mul Transpose MatMul"},
	} {
		b := graphs.NewBuilder(&graphs.Graph{})
		x := b.Input("x", graphs.Float32, x4)
		b.Output("y", c.build(b, x))
		g := finish(t, b)
		if _, err := CSE(g); err != nil {
			t.Fatal(err)
		}
		want, sig := run(t, g), signature(g)
		_, err := Moves(g)
		check(t, g, err)
		_, err = Prune(g)
		check(t, g, err)
		if got := ops(g); got != c.left {
			t.Errorf("%s: left %s, want %s", c.name, got, c.left)
		}
		near(t, c.name, run(t, g), want)
		if signature(g) != sig {
			t.Errorf("%s: outputs %s, want %s", c.name, signature(g), sig)
		}
		if changed, _ := Moves(g); changed {
			t.Errorf("%s: a second run changes something", c.name)
		}
	}
}
