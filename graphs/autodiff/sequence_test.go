package autodiff

import (
	"errors"
	"math/rand/v2"
	"testing"

	"ebmrun/graphs"
)

// TestSequences takes slopes through sequences of known length, and refuses others.
func TestSequences(t *testing.T) {
	seq := func(b *graphs.Builder, op string, in []val, attrs ...*graphs.Attr) val {
		n := &graphs.Node{Op: op, Inputs: in, Attrs: attrs}
		v := &graphs.Value{Name: b.Target().Fresh(op), From: n}
		n.Outputs = []val{v}
		b.Target().Nodes = append(b.Target().Nodes, n)
		return v
	}
	at := func(b *graphs.Builder, list val, k int64, shape ...int) val {
		v := seq(b, "SequenceAt", []val{list, i64Of(b, k)})
		v.Type, v.Shape = graphs.Float64, graphs.MakeShape(shape...)
		return v
	}
	for _, c := range []struct {
		name  string
		build func(b *graphs.Builder, x val) val
	}{
		{"rows", func(b *graphs.Builder, x val) val {
			rows := seq(b, "SplitToSequence", []val{x}, graphs.I("keepdims", 0))
			return b.Mul(at(b, rows, 0, 4), at(b, rows, -1, 4))
		}},
		{"parts of a size", func(b *graphs.Builder, x val) val {
			parts := seq(b, "SplitToSequence", []val{x, i64Of(b, 3)}, graphs.I("axis", 1))
			return b.Mul(at(b, parts, 0, 5, 3), at(b, parts, 1, 5, 1))
		}},
		{"parts of given sizes, joined", func(b *graphs.Builder, x val) val {
			parts := seq(b, "SplitToSequence", []val{x, b.Ints(1, 3, 1)})
			parts = seq(b, "SequenceErase", []val{parts, i64Of(b, 1)})
			parts = seq(b, "SequenceInsert", []val{parts, b.Exp(x)})
			parts = seq(b, "SequenceInsert", []val{parts, x, i64Of(b, 0)})
			y := seq(b, "ConcatFromSequence", []val{parts}, graphs.I("axis", 0))
			y.Type, y.Shape = graphs.Float64, graphs.MakeShape(12, 4)
			return b.Mul(y, y)
		}},
		{"a list stacked", func(b *graphs.Builder, x val) val {
			list := seq(b, "SequenceInsert", []val{seq(b, "SequenceEmpty", nil), x})
			list = seq(b, "SequenceInsert", []val{list, b.Tanh(x)})
			y := seq(b, "ConcatFromSequence", []val{list}, graphs.I("axis", -1), graphs.I("new_axis", 1))
			y.Type, y.Shape = graphs.Float64, graphs.MakeShape(5, 4, 2)
			return b.Mul(y, y)
		}},
		{"its length", func(b *graphs.Builder, x val) val {
			n := seq(b, "SequenceLength", []val{seq(b, "SequenceConstruct", []val{x, x, x})})
			n.Type, n.Shape = graphs.Int64, graphs.MakeShape()
			return b.Mul(b.Exp(x), b.Cast(n, graphs.Float64))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := graphs.NewBuilder(&graphs.Graph{})
			x := b.Input("x", graphs.Float64, graphs.MakeShape(5, 4))
			b.Output("y", c.build(b, x))
			if b.Err() != nil {
				t.Fatal(b.Err())
			}
			f, err := Prepare(graphs.NewModel(b.Target()))
			if err != nil {
				t.Fatal(err)
			}
			g, err := Grad(f, Options{Of: "y", VJP: true})
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(3, 1))
			check(t, rng, f, g, []*graphs.Tensor{in(5, 4).draw(rng)}, 0, 1)
		})
	}
	b := graphs.NewBuilder(&graphs.Graph{})
	x := b.Input("x", graphs.Float64, graphs.Shape{graphs.Sym("n"), graphs.D(4)})
	parts := seq(b, "SplitToSequence", []val{x, i64Of(b, 2)})
	b.Output("y", b.Mul(at(b, parts, 1, 2, 4), at(b, parts, 0, 2, 4))) // there are as many as there are
	f := graphs.NewModel(b.Target())
	g, err := Grad(f, Options{Of: "y", VJP: true})
	if err != nil {
		t.Fatal(err)
	}
	if f, err = Prepare(f); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 1))
	check(t, rng, f, g, []*graphs.Tensor{in(5, 4).draw(rng)}, 0, 1)

	b = graphs.NewBuilder(&graphs.Graph{})
	x = b.Input("x", graphs.Float64, graphs.Shape{graphs.Sym("n"), graphs.D(4)})
	b.Output("y", at(b, seq(b, "SplitToSequence", []val{x}), -1, 1, 4))
	if _, err := Grad(graphs.NewModel(b.Target()), Options{Of: "y"}); !errors.Is(err, ErrNoRule) {
		t.Errorf("a sequence of unknown length: %v", err)
	}
}

func i64Of(b *graphs.Builder, k int64) val { return b.Const(graphs.Of([]int64{k})) }
