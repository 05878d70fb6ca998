package autodiff

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ebmrun/graphs"
)

// TestLargeSizes differentiates ops of sizes that no constant could hold: either
// none is made, or the op is refused.
func TestLargeSizes(t *testing.T) {
	long := func(inside int) *graphs.Graph {
		return body([]*graphs.Value{passNumber, going, floats("v", 3, 2)}, func(b *graphs.Builder, x []val) []val {
			y := b.Tanh(x[2])
			if inside > 0 {
				inner := body([]*graphs.Value{passNumber, going, floats("u", 3, 2)}, func(b *graphs.Builder, x []val) []val {
					return []val{b.Identity(x[1]), b.Tanh(x[2])}
				})
				y = control(b, "Loop", []val{b.Const(graphs.Of([]int64{int64(inside)})), nil, x[2]}, []graphs.Shape{xShape}, graphs.G("body", inner))[0]
			}
			return []val{b.Identity(x[1]), y}
		})
	}
	loop := func(trips int64, inside int) func(b *graphs.Builder, x val) val {
		return func(b *graphs.Builder, x val) val {
			x = b.Slice(b.ReshapeTo(x, -1), []int64{0}, []int64{6}, []int64{0}, nil)
			return control(b, "Loop", []val{b.Const(graphs.Of([]int64{trips})), nil, b.ReshapeTo(x, 3, 2)}, []graphs.Shape{xShape}, graphs.G("body", long(inside)))[0]
		}
	}
	resize := func(sizes []int64, attrs ...*graphs.Attr) func(b *graphs.Builder, x val) val {
		return func(b *graphs.Builder, x val) val {
			return b.Op("Resize", []val{x, nil, nil, b.Ints(sizes...)}, attrs...)
		}
	}
	for name, c := range map[string]struct {
		dims    []int
		build   func(b *graphs.Builder, x val) val
		refused string
	}{
		"average pooling": {[]int{1, 1, 100_000, 100_000}, func(b *graphs.Builder, x val) val {
			return b.Op("AveragePool", []val{x}, ai("kernel_shape", 3, 3), ai("pads", 1, 1, 1, 1))
		}, ""},
		"average of a large window": {[]int{1, 8, 100_000, 1000}, func(b *graphs.Builder, x val) val {
			return b.Op("AveragePool", []val{x}, ai("kernel_shape", 100_000, 1000))
		}, "too large"},
		"long axis":           {[]int{1, 1, 2, 50_000}, resize([]int64{1, 1, 2, 60_000}, mode("cubic", "half_pixel")...), "too many weights"},
		"axis of middle size": {[]int{1, 1, 2, 5000}, resize([]int64{1, 1, 2, 6000}, mode("linear", "half_pixel")...), ""},
		"very long axis":      {[]int{1, 1, 2, 4}, resize([]int64{1, 1, 2, 1 << 31}, mode("nearest", "asymmetric")...), "too many weights"},
		"copies": {[]int{1, 1, 2, 2}, func(b *graphs.Builder, x val) val {
			return b.Op("Resize", []val{x, nil, b.Const(graphs.Of([]float32{1, 1, 1 << 15, 1 << 15}, 4))}, append(mode("nearest", "asymmetric"), graphs.S("nearest_mode", "floor"))...)
		}, "too large"},
		"endless loop":  {[]int{3, 2}, loop(1<<60, 0), ""}, // goes back as a Loop
		"loops in loop": {[]int{3, 2}, loop(1000, 1000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := graphs.NewBuilder(&graphs.Graph{})
			x := b.Input("x", graphs.Float64, graphs.MakeShape(c.dims...))
			b.Output("y", c.build(b, x))
			g, err := b.Graph()
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			m, err := Grad(graphs.NewModel(g), Options{Of: "y"})
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("took %v", took)
			}
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("wanted an error with %q, got %v", c.refused, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range m.Graph.Inits {
				if v.Const.Len() > maxConstant {
					t.Errorf("constant %v", v)
				}
			}
		})
	}
}

func TestAttributesOfAWrongKind(t *testing.T) {
	m := model(t, func(b *graphs.Builder, x, w val) val { return b.Mul(b.Op("Softmax", []val{x}, graphs.I("axis", 1)), w) })
	m.Graph.Nodes[0].Attrs[0] = graphs.S("axis", "1")
	_, err := Grad(m, Options{Of: "y"})
	if n := (*graphs.NodeError)(nil); !errors.As(err, &n) || !strings.Contains(err.Error(), "attribute axis: wanted kind int, got string") {
		t.Error(err)
	}
}
