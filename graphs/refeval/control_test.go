package refeval

import (
	"context"
	"strings"
	"testing"

	"ebmrun/graphs"
)

// sub builds a subgraph; values of the enclosing graph are used as they are.
func sub(t *testing.T, build func(b *graphs.Builder)) *graphs.Graph {
	t.Helper()
	g := &graphs.Graph{Name: "sub"}
	b := graphs.NewBuilder(g)
	build(b)
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	return g
}

// with appends a node with a subgraph.
func with(g *graphs.Graph, op string, outputs int, in []*graphs.Value, attrs ...*graphs.Attr) []*graphs.Value {
	n := &graphs.Node{Name: op, Op: op, Inputs: in, Attrs: attrs}
	for i := range outputs {
		n.Outputs = append(n.Outputs, &graphs.Value{Name: op + string(rune('0'+i)), Type: graphs.Float32, From: n})
	}
	g.Nodes = append(g.Nodes, n)
	return n.Outputs
}

func run(t *testing.T, g *graphs.Graph, in ...*graphs.Tensor) ([]*graphs.Tensor, error) {
	t.Helper()
	p, err := New(g, graphs.OpsetVersion, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p.Run(context.Background(), in)
}

// TestLoop is a chain x ← x·f with f from the enclosing graph, which also gives
// the x of every pass, and stops when x is 20 or more.
func TestLoop(t *testing.T) {
	g := &graphs.Graph{Name: "chain"}
	b := graphs.NewBuilder(g)
	trips := b.Input("trips", graphs.Int64, graphs.Shape{})
	x := b.Input("x", graphs.Float32, graphs.MakeShape(2))
	f := b.Scale(b.Input("f", graphs.Float32, graphs.MakeShape(2)), 2)
	body := sub(t, func(b *graphs.Builder) {
		b.Input("i", graphs.Int64, graphs.Shape{})
		b.Input("cond_in", graphs.Bool, graphs.Shape{})
		x := b.Input("x_in", graphs.Float32, graphs.MakeShape(2))
		y := b.Mul(x, f)
		b.Output("cond", b.Less(b.Op("ReduceMax", []*graphs.Value{y}, graphs.I("keepdims", 0)), b.Scalar(y, 20)))
		b.Output("x_out", y)
		b.Output("trace", b.Identity(y))
	})
	out := with(g, "Loop", 2, []*graphs.Value{trips, nil, x}, graphs.G("body", body))
	// A value computed before the loop must outlive it where it is used again.
	b.Output("last", b.Add(out[0], b.Sub(f, f)))
	b.Output("trace", out[1])

	start, factor := f64([]int{2}, 1, 2), f64([]int{2}, 0.5, 1)
	got, err := run(t, g, num(2), start, factor)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got[0], f64([]int{2}, 1, 8), 0)
	same(t, got[1], f64([]int{2, 2}, 1, 4, 1, 8), 0)
	if got, err = run(t, g, num(100), start, factor); err != nil {
		t.Fatal(err)
	}
	same(t, got[0], f64([]int{2}, 1, 32), 0)
	if got, err = run(t, g, num(0), start, factor); err != nil {
		t.Fatal(err)
	}
	same(t, got[0], start, 0)
	same(t, got[1], f64([]int{0, 2}), 0)
}

func TestIf(t *testing.T) {
	g := &graphs.Graph{Name: "choice"}
	b := graphs.NewBuilder(g)
	c := b.Input("c", graphs.Bool, graphs.Shape{})
	x := b.Input("x", graphs.Float32, graphs.MakeShape(1))
	y := b.Exp(x)
	out := with(g, "If", 1, []*graphs.Value{c},
		graphs.G("then_branch", sub(t, func(b *graphs.Builder) { b.Output("a", b.Neg(y)) })),
		graphs.G("else_branch", sub(t, func(b *graphs.Builder) { b.Output("b", b.Gather(y, b.Ints(4), 0)) })))
	b.Output("z", b.Identity(out[0]))
	got, err := run(t, g, graphs.Of([]bool{true}), f64([]int{1}, 0))
	if err != nil {
		t.Fatal(err)
	}
	same(t, got[0], f64([]int{1}, -1), 0)
	if _, err = run(t, g, graphs.Of([]bool{false}), f64([]int{1}, 0)); err == nil || !strings.Contains(err.Error(), "Gather") || !strings.Contains(err.Error(), "index 4") {
		t.Errorf("wanted the error of the branch's Gather, got %v", err)
	}
}

// TestScan sums along axis 1 backwards, keeping the partial sums.
func TestScan(t *testing.T) {
	g := &graphs.Graph{Name: "sums"}
	b := graphs.NewBuilder(g)
	s := b.Input("s", graphs.Float32, graphs.MakeShape(2))
	x := b.Input("x", graphs.Float32, graphs.MakeShape(2, 3))
	body := sub(t, func(b *graphs.Builder) {
		sum := b.Add(b.Input("sum_in", graphs.Float32, graphs.MakeShape(2)), b.Input("column", graphs.Float32, graphs.MakeShape(2)))
		b.Output("sum", sum)
		b.Output("part", b.Identity(sum))
	})
	out := with(g, "Scan", 2, []*graphs.Value{s, x}, graphs.G("body", body), graphs.I("num_scan_inputs", 1),
		graphs.IntsAttr("scan_input_axes", 1), graphs.IntsAttr("scan_input_directions", 1), graphs.IntsAttr("scan_output_axes", -1))
	b.Output("total", out[0])
	b.Output("parts", out[1])
	got, err := run(t, g, f64([]int{2}, 0, 10), ramp(2, 3))
	if err != nil {
		t.Fatal(err)
	}
	same(t, got[0], f64([]int{2}, 3, 22), 0)
	same(t, got[1], f64([]int{2, 3}, 2, 3, 3, 15, 19, 22), 0)
}

func TestControlRefused(t *testing.T) {
	for op, attrs := range map[string][]*graphs.Attr{
		"If": nil, "Loop": {graphs.G("body", &graphs.Graph{})}, "Scan": {graphs.G("body", &graphs.Graph{}), graphs.I("num_scan_inputs", 1)},
	} {
		g := &graphs.Graph{Name: op}
		b := graphs.NewBuilder(g)
		x := b.Input("x", graphs.Float32, graphs.MakeShape(1))
		b.Output("y", with(g, op, 1, []*graphs.Value{x, x, x}, attrs...)[0])
		if _, err := run(t, g, f64([]int{1}, 1)); err == nil || !strings.Contains(err.Error(), op) {
			t.Errorf("%s: got %v", op, err)
		}
	}
}
