package passes

import (
	"slices"
	"testing"

	"ebmrun/graphs"
)

// TestOneRow: a product of equal rows that meets the batch is done for one of them; what
// is an output, or read by a node that needs all rows, or not of equal rows stays whole.
func TestOneRow(t *testing.T) {
	const batch, from, to = 5, 3, 4
	for name, c := range map[string]struct {
		rows func(v []float32)
		read func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value
		want int64 // rows of the product
	}{
		"met by the batch": {nil, func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value { return b.Mul(x, y) }, 1},
		"met twice":        {nil, func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value { return b.Add(b.Mul(y, x), b.Sub(x, y)) }, 1},
		"met by itself":    {nil, func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value { return b.Mul(x, b.Mul(y, y)) }, batch},
		"summed":           {nil, func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value { return b.Mul(x, b.Sum(y, true, 0)) }, batch},
		"an output":        {nil, func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value { b.Output("rows", y); return b.Mul(x, y) }, batch},
		"unequal": {func(v []float32) { v[batch*from-1]++ },
			func(b *graphs.Builder, x, y *graphs.Value) *graphs.Value { return b.Mul(x, y) }, batch},
	} {
		for _, product := range []string{"MatMul", "Gemm"} {
			t.Run(name+"/"+product, func(t *testing.T) {
				b := graphs.NewBuilder(&graphs.Graph{Name: "rows"})
				x := b.Input("x", graphs.Float32, graphs.MakeShape(batch, to))
				v := slices.Repeat([]float32{2, -3, 0.5}, batch)
				if c.rows != nil {
					c.rows(v)
				}
				w := f32(from, to)
				for i := range w.F32() {
					w.F32()[i] = float32(i%5) - 1.5
				}
				y := b.Op(product, []*graphs.Value{b.Const(graphs.Of(v, batch, from)), b.Weight("w", w)})
				b.Output("z", c.read(b, x, y))
				g := finish(t, b)
				before := run(t, g)
				changed, err := OneRow(g)
				check(t, g, err)
				if y.Shape[0].N != c.want || changed != (c.want == 1) {
					t.Errorf("wanted a product of %d rows, got %v, changed %v", c.want, y.Shape, changed)
				}
				for i, after := range run(t, g) {
					if !slices.Equal(after, before[i]) {
						t.Errorf("output %d: wanted %v, got %v", i, before[i], after)
					}
				}
			})
		}
	}
}
