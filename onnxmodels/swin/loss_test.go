package swin

import (
	"math"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/graphs/graphtest"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ref"
)

// structureOf is the loss of one map in plain loops.
func structureOf(x, target, mask []float64, h, w, side int, k float64) float64 {
	var weights, entropy, both, either float64
	for i := range x {
		p, t := (x[i]+1)/2, (target[i]+1)/2
		mean := 0.0
		for dy := -side / 2; dy <= side/2; dy++ {
			for dx := -side / 2; dx <= side/2; dx++ {
				if y, z := i/w+dy, i%w+dx; y >= 0 && y < h && z >= 0 && z < w {
					mean += (target[y*w+z] + 1) / 2 / float64(side*side)
				}
			}
		}
		weight := mask[i] * (1 + 5*math.Abs(mean-t))
		weights += weight
		entropy -= weight * (t*math.Log(p) + (1-t)*math.Log(1-p))
		both += weight * p * t
		either += weight * (p + t - p*t)
	}
	return entropy/weights + k*(1-(both+1)/(either+1))
}

// TestStructure: the graph of the loss is the formula, and its slope agrees with differences.
func TestStructure(t *testing.T) {
	const h, w, side, overlap = 5, 6, 3, 0.4
	b := graphs.NewBuilder(&graphs.Graph{Name: "test"})
	a := b.Input("a", graphs.Float32, append(graphs.Shape{graphs.D(2)}, graphs.MakeShape(1, h, w)...))
	target := b.Input("target", graphs.Float32, a.Shape)
	mask := b.Input("mask", graphs.Float32, a.Shape)
	x := b.Output("x", b.Tanh(a))
	b.Output("loss", structure(b, x, target, mask, side, overlap))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	m := graphs.NewModel(g)
	in := make([][]float32, 3)
	in[0] = normals(2 * h * w)
	for i := range in[0] {
		in[1] = append(in[1], float32(math.Tanh(3*float64(in[0][i*7%len(in[0])]))))
		in[2] = append(in[2], float32(i%4%3))
	}
	var tensors []*graphs.Tensor
	for _, v := range in {
		tensors = append(tensors, graphs.Of(v, 2, 1, h, w))
	}
	out := enginetest.Outputs(t, ref.New(), m, tensors...)
	for n := range 2 {
		var parts [3][]float64
		for k, v := range [][]float32{out[0].F32(), in[1], in[2]} {
			for _, f := range v[n*h*w : (n+1)*h*w] {
				parts[k] = append(parts[k], float64(f))
			}
		}
		if want, got := structureOf(parts[0], parts[1], parts[2], h, w, side, overlap), float64(out[1].F32()[n]); math.Abs(want-got) > 1e-5 {
			t.Errorf("map %d: wanted %g, got %g", n, want, got)
		}
	}
	grad, err := autodiff.Grad(m, autodiff.Options{Of: "loss", Wrt: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	graphtest.CheckGrad(t, m.Graph, grad.Graph, tensors, graphtest.GradOptions{Of: "loss", Wrt: []string{"a"}})
}

// TestLoss: what a network cannot be learned by is refused.
func TestLoss(t *testing.T) {
	s := mini(2)
	for loss, want := range map[string]string{"hinge": "hinge", Structure: "tanh"} {
		s.Loss = loss
		if _, err := Build(s, []int{1, 16, 16}, []int{3, 16, 16}, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", loss, err)
		}
	}
	for side, want := range map[int]int64{16: 3, 32: 3, 64: 5, 224: 19, 352: 31, 384: 31} {
		if got := neighbourhood(side); got != want {
			t.Errorf("%d pixels: a window of %d, wanted %d", side, got, want)
		}
	}
}
