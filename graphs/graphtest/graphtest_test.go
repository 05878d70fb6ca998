package graphtest

import (
	"fmt"
	"strings"
	"testing"

	"ebmrun/graphs"
)

// square builds y = scale·(x·x) ⊙ w, and with it the given multiple of its slopes.
func square(t *testing.T, slope, value float64, cotangent bool) (forward, gradient *graphs.Graph) {
	t.Helper()
	build := func(back bool) *graphs.Graph {
		g := &graphs.Graph{Name: "square"}
		b := graphs.NewBuilder(g)
		x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(3)})
		w := b.Input("w", graphs.Float32, graphs.MakeShape(3))
		y := b.Mul(b.Mul(x, x), w)
		if back {
			y = b.Scale(y, value)
		}
		b.Output("y", y)
		if back {
			dx := b.Scale(b.Mul(x, w), 2*slope)
			dw := b.Mul(x, x)
			if cotangent {
				c := b.Input("cotangent/y", graphs.Float32, y.Shape)
				dx, dw = b.Mul(dx, c), b.Mul(dw, c)
			}
			b.Output("grad/x", dx)
			b.Output("grad/w", b.Sum(dw, false, 0))
		}
		if _, err := b.Graph(); err != nil {
			t.Fatal(err)
		}
		return g
	}
	return build(false), build(true)
}

func TestGradError(t *testing.T) {
	r := NewRand(1)
	in := []*graphs.Tensor{r.Normal(4, 3), r.Normal(3)}
	for _, cotangent := range []bool{false, true} {
		f, g := square(t, 1, 1, cotangent)
		if err := GradError(f, g, in, GradOptions{Wrt: []string{"x", "w"}}); err != nil {
			t.Errorf("a right gradient (cotangent %v) is refused: %v", cotangent, err)
		}
	}
	f, g := square(t, 1.0001, 1, true)
	err := GradError(f, g, in, GradOptions{})
	if err == nil || !strings.Contains(err.Error(), "with respect to x") || strings.Contains(err.Error(), "with respect to w") {
		t.Errorf("a slope that is wrong by 1e-4 gives %v", err)
	}
	f, g = square(t, 1, 1.001, true)
	if err := GradError(f, g, in, GradOptions{}); err == nil || !strings.Contains(err.Error(), `"y" differs`) {
		t.Errorf("a wrong forward output gives %v", err)
	}
	if err := GradError(f, f, in, GradOptions{}); err == nil {
		t.Error("a graph without slopes passes")
	}
	f, g = square(t, 1, 1, true)
	if err := GradError(f, g, in, GradOptions{Wrt: []string{"z"}}); err == nil || !strings.Contains(err.Error(), "grad/z") {
		t.Errorf("a missing slope gives %v", err)
	}
}

func TestRandom(t *testing.T) {
	r := NewRand(3)
	seen := map[float64]bool{}
	for _, v := range r.Distinct(5, 8).F64() {
		seen[v] = true
	}
	if len(seen) != 40 {
		t.Errorf("Distinct has %d different elements of 40", len(seen))
	}
	for _, v := range r.Away([]float64{0, 1}, 1000).F64() {
		if v > -0.05 && v < 0.05 || v > 0.95 && v < 1.05 || v < -2 || v >= 2 {
			t.Fatalf("Away gives %v", v)
		}
	}
	seenInt := map[int64]bool{}
	for _, v := range r.Order(10).I64() {
		seenInt[v] = true
	}
	if len(seenInt) != 10 || !seenInt[0] || !seenInt[9] {
		t.Errorf("Order gives %v", seenInt)
	}
	for _, v := range r.Ints(-3, 2, 200).I64() {
		if v < -3 || v >= 2 {
			t.Fatalf("Ints gives %v", v)
		}
	}
	if fmt.Sprint(NewRand(5).Normal(4).F64()) != fmt.Sprint(NewRand(5).Normal(4).F64()) {
		t.Error("the same seed gives different tensors")
	}
}

func TestDump(t *testing.T) {
	_, g := square(t, 1, 1, true)
	Golden(t, "square", Dump(g))
}
