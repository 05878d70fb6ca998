package graphs

import (
	"strings"
	"testing"
)

func TestSymbolicConvNet(t *testing.T) {
	g := &Graph{Name: "net"}
	b := NewBuilder(g)
	x := b.Input("x", Float32, Shape{Sym("batch"), D(1), Sym("H"), D(28)})
	w := b.Weight("w", NewTensor(Float32, 16, 1, 4, 4))
	y := b.Op("Conv", []*Value{x, w}, IntsAttr("pads", 1, 1, 1, 1), IntsAttr("strides", 2, 2))
	if got := y.Shape.String(); got != "[batch,16,floor(H/2),14]" {
		t.Errorf("conv shape %s", got)
	}
	// Flatten by computed shape, as exporters write it.
	n := b.Gather(b.Shape(y), b.Const(Of([]int64{0})), 0)
	s := b.Concat(0, b.Unsqueeze(n, 0), b.Ints(-1))
	f := b.Reshape(y, s)
	if f.Rank() != 2 || f.Shape[0].Name != "batch" {
		t.Errorf("reshape shape %v", f.Shape)
	}
	b.Output("y", f)
	if _, err := b.Graph(); err != nil {
		t.Fatal(err)
	}
}

func TestBuilderKeepsFirstError(t *testing.T) {
	b := NewBuilder(&Graph{})
	x := b.Input("h", Float32, Shape{Sym("batch"), D(128)})
	w := b.Weight("dense1.w", NewTensor(Float32, 64, 10))
	y := b.Tanh(b.MatMul(x, w))
	b.Output("y", y)
	_, err := b.Graph()
	want := `graphs: node "MatMul" (MatMul): inner sizes 128 and 64 differ: h float32[batch,128], dense1.w float32[64,10]`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestCheckFindsUndefinedInput(t *testing.T) {
	g := &Graph{}
	b := NewBuilder(g)
	x := b.Input("x", Float32, MakeShape(2))
	y := b.Exp(x)
	b.Output("y", b.Neg(y))
	g.Nodes[0], g.Nodes[1] = g.Nodes[1], g.Nodes[0]
	if err := Check(g); err == nil || !strings.Contains(err.Error(), "not defined before it") {
		t.Errorf("got %v", err)
	}
}

func TestHalfRoundTrip(t *testing.T) {
	for h := 0; h < 1<<16; h++ {
		f := HalfToFloat(uint16(h))
		if f != f {
			continue
		}
		if got := FloatToHalf(f); got != uint16(h) {
			t.Fatalf("half %#x: %v comes back as %#x", h, f, got)
		}
	}
	for f, want := range map[float32]uint16{65519.996: 0x7bff, 65520: 0x7c00, 1e-8: 0, 1 + 1.0/2048: 0x3c00, 1 + 3.0/2048: 0x3c02} {
		if got := FloatToHalf(f); got != want {
			t.Errorf("%v: got %#x, want %#x", f, got, want)
		}
	}
}

func TestSliceRange(t *testing.T) {
	const big = 1<<63 - 1
	for _, c := range []struct{ start, end, step, n, first, count int64 }{
		{0, big, 1, 5, 0, 5}, {-2, big, 1, 5, 3, 2}, {4, -big, -1, 5, 4, 5}, {-1, -6, -2, 5, 4, 3},
		{1, 4, 2, 5, 1, 2}, {3, 1, 1, 5, 3, 0}, {10, 20, 1, 5, 5, 0}, {0, -1, 1, 5, 0, 4},
	} {
		if f, n := SliceRange(c.start, c.end, c.step, c.n); f != c.first || n != c.count {
			t.Errorf("%+v: got first %d, count %d", c, f, n)
		}
	}
}

func TestPoolCeil(t *testing.T) {
	for _, c := range []struct{ n, k, s, p, want int64 }{{5, 2, 2, 0, 3}, {4, 3, 2, 1, 3}, {6, 3, 2, 0, 3}, {4, 1, 3, 1, 2}} {
		b := NewBuilder(&Graph{})
		x := b.Input("x", Float32, Shape{D(1), D(1), Dim{N: c.n}})
		y := b.Op("MaxPool", []*Value{x}, IntsAttr("kernel_shape", c.k), IntsAttr("strides", c.s), IntsAttr("pads", c.p, c.p), I("ceil_mode", 1))
		if b.Err() != nil {
			t.Fatal(b.Err())
		}
		if y.Shape[2].N != c.want {
			t.Errorf("%+v: got %v", c, y.Shape)
		}
	}
}

// TestExpandContent: PyTorch's expand to (batch, −1, −1) keeps the batch.
func TestExpandContent(t *testing.T) {
	b := NewBuilder(&Graph{Name: "expand"})
	x := b.Input("x", Float32, Shape{Sym("batch"), D(5)})
	token := b.Const(Of([]float32{1, 2, 3}, 1, 1, 3))
	s := b.Concat(0, b.Slice(b.Shape(x), []int64{0}, []int64{1}, []int64{0}, []int64{1}), b.Ints(-1, -1))
	for minus, want := range map[int64]Dim{-1: Sym("batch"), 7: UnknownDim} {
		to := b.Where(b.Equal(s, b.Ints(minus, minus, minus)), b.Ints(1, 1, 1), s)
		if y := b.Expand(token, to); len(y.Shape) != 3 || y.Shape[0] != want {
			t.Errorf("compared with %d: wanted a first axis %v, got %v (%v)", minus, want, y, b.Err())
		}
	}
}

// TestSymbolicSizes follows sizes that are known by name through arithmetic.
func TestSymbolicSizes(t *testing.T) {
	g := &Graph{}
	b := NewBuilder(g)
	x := b.Input("x", Float32, Shape{Sym("batch"), D(8), Sym("h")})
	pads := func(v *Value, lo, hi int64) *Value {
		return b.Op("Pad", []*Value{v, b.Ints(0, 0, lo, 0, 0, hi)})
	}
	ones := b.Const(Of([]int64{1, 1, 1}, 3))
	size := b.Concat(0, b.Gather(b.Shape(x), b.Ints(0), 0), b.Ints(-1), b.Ints(4))
	chosen := b.Where(b.Equal(size, b.Ints(-1, -1, -1)), ones, size) // −1 is replaced by 1
	for _, c := range []struct {
		v    *Value
		want string
	}{
		{pads(pads(x, 3, 3), -2, -4), "[batch,8,h]"},
		{pads(pads(x, 1, 0), 2, 2), "[batch,8,h+5]"},
		{b.ReshapeTo(b.ReshapeTo(x, -1, 4), -1, 2, 8), "[floor((batch*h)/2),2,8]"},
		{b.ReshapeTo(b.ReshapeTo(b.Mean(x, true, 2), -1, 2), -1, 8), "[batch,8]"},
		{b.ReshapeTo(b.Mean(x, true, 2), 16, -1), "[16,floor(batch/2)]"},
		{b.Slice(x, []int64{1}, []int64{1 << 62}, []int64{2}, []int64{2}), "[batch,8,ceil((h-1)/2)]"},
		{b.Slice(x, []int64{3}, []int64{1 << 62}, []int64{2}, []int64{2}), "[batch,8,?]"},
		{b.Slice(x, []int64{-1}, []int64{-1 << 62}, []int64{2}, []int64{-1}), "[batch,8,h]"},
		{b.Expand(b.Const(Of([]float32{1}, 1, 1, 1)), chosen), "[batch,1,4]"},
	} {
		if b.Err() != nil {
			t.Fatal(b.Err())
		}
		if got := c.v.Shape.String(); got != c.want {
			t.Errorf("%v: shape %s, want %s", c.v.From.Op, got, c.want)
		}
	}
}
