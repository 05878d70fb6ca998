//go:build cgo

package ort

import (
	"math/rand/v2"
	"slices"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
)

// dense is x·W, a dense layer on it, and the way back through both, with square
// weights: each matrix is read as it is and transposed.
func dense(t testing.TB, n, size int) *graphs.Model {
	return enginetest.Build(t, func(b *graphs.Builder) {
		r := rand.New(rand.NewPCG(3, 4))
		weight := func(name string) *graphs.Value {
			w := graphs.NewTensor(graphs.Float32, size, size)
			for i := range w.F32() {
				w.F32()[i] = float32(r.NormFloat64()) * 0.1
			}
			return b.Weight(name, w)
		}
		x := b.Input("x", graphs.Float32, graphs.MakeShape(n, size))
		a, c := weight("a"), weight("c")
		h := b.Tanh(b.Op("Gemm", []*graphs.Value{x, a}))
		y := b.Tanh(b.Op("Gemm", []*graphs.Value{h, c}, graphs.I("transB", 1)))
		b.Output("y", y)
		back := b.Tanh(b.Op("Gemm", []*graphs.Value{y, c}))
		b.Output("back", b.Op("Gemm", []*graphs.Value{back, a}, graphs.I("transB", 1)))
	})
}

// products is one layer of dense for stacks of rows, by MatMul and Transpose; pad is a weight of that many numbers.
func products(t testing.TB, n, size, pad int) *graphs.Model {
	return enginetest.Build(t, func(b *graphs.Builder) {
		r := rand.New(rand.NewPCG(3, 4))
		w := graphs.NewTensor(graphs.Float32, size, size)
		for i := range w.F32() {
			w.F32()[i] = float32(r.NormFloat64()) * 0.1
		}
		x, a := b.Input("x", graphs.Float32, graphs.MakeShape(2, n, size)), b.Weight("a", w)
		y := b.Tanh(b.MatMul(x, a))
		b.Output("y", b.Add(y, b.Sum(b.Weight("pad", graphs.NewTensor(graphs.Float32, pad)), false)))
		b.Output("back", b.MatMul(y, b.Transpose(a, 1, 0)))
	})
}

func TestReadersApart(t *testing.T) {
	m := dense(t, 5, 4)
	before, err := onnxio.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	apart := readersApart(m)
	if got := len(apart.Graph.Inits); got != 4 {
		t.Errorf("wanted two matrices and their copies, got %d constants", got)
	}
	reads := map[*graphs.Value]int64{}
	for _, n := range apart.Graph.Nodes {
		if n.Op != "Gemm" {
			continue
		}
		w, trans := n.In(1), n.Int("transB", 0)
		if was, ok := reads[w]; ok && was != trans {
			t.Errorf("%s is read both ways", w)
		}
		reads[w] = trans
	}
	if len(reads) != 4 {
		t.Errorf("wanted four matrices in use, got %d", len(reads))
	}
	if after, err := onnxio.Encode(m); err != nil || !slices.Equal(after, before) {
		t.Errorf("the model was changed (%v)", err)
	}
	if readersApart(apart) != apart {
		t.Error("a model with nothing to do was copied")
	}

	// Square weights behind a Transpose are read in two ways, others have a form of their own.
	m = products(t, 5, 4, 1)
	apart = readersApart(m)
	ways := map[string]*graphs.Value{}
	for _, n := range apart.Graph.Nodes {
		switch n.Op {
		case "Transpose":
			ways[n.Op] = n.In(0)
		case "MatMul":
			if w := n.In(1); w.Const != nil {
				ways[n.Op] = w
			}
		}
	}
	if len(ways) != 2 || ways["Transpose"] == ways["MatMul"] {
		t.Errorf("wanted a matrix and its copy, got %v", ways)
	}
	oblong := enginetest.Build(t, func(b *graphs.Builder) {
		x, w := b.Input("x", graphs.Float32, graphs.MakeShape(2, 3)), b.Weight("w", graphs.NewTensor(graphs.Float32, 3, 4))
		b.Output("y", b.MatMul(b.MatMul(x, w), b.Transpose(w, 1, 0)))
	})
	if readersApart(oblong) != oblong {
		t.Error("a matrix that is not square was copied")
	}
}

// convolutional is a convolution as wide as it is deep, and the way back through it.
func convolutional(t testing.TB, n, channels, side int) *graphs.Model {
	return enginetest.Build(t, func(b *graphs.Builder) {
		r := rand.New(rand.NewPCG(3, 4))
		w := graphs.NewTensor(graphs.Float32, channels, channels, 3, 3)
		for i := range w.F32() {
			w.F32()[i] = float32(r.NormFloat64()) * 0.1
		}
		x, c, pads := b.Input("x", graphs.Float32, graphs.MakeShape(n, channels, side, side)), b.Weight("c", w), graphs.IntsAttr("pads", 1, 1, 1, 1)
		y := b.Tanh(b.Op("Conv", []*graphs.Value{x, c}, pads))
		b.Output("y", y)
		b.Output("back", b.Op("ConvTranspose", []*graphs.Value{y, c}, pads))
	})
}

func TestLayersOnOpenVINO(t *testing.T) {
	for name, m := range map[string]*graphs.Model{"dense": dense(t, 40, 32), "convolution": convolutional(t, 2, 8, 16),
		"products": products(t, 49, 96, 1), "products and heavy weights": products(t, 49, 96, heavyWeights/4)} {
		t.Run(name, func(t *testing.T) { sameOnOpenVINO(t, m) })
	}
}

func sameOnOpenVINO(t *testing.T, m *graphs.Model) {
	e := engineFor(t)
	if !slices.Contains(e.Providers(), runtime.OpenVINO) {
		t.Skip("the library has no OpenVINO provider")
	}
	x := graphs.NewTensor(graphs.Float32, m.Graph.Inputs[0].Shape.Ints()...)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range x.F32() {
		x.F32()[i] = float32(r.NormFloat64())
	}
	run := func(provider string) []*graphs.Tensor {
		out := make([]*graphs.Tensor, 2)
		p := enginetest.Compile(t, e, m, runtime.Options{Provider: provider})
		if err := p.Run(t.Context(), []*graphs.Tensor{x}, out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	got, want := run(runtime.OpenVINO), run(runtime.CPU)
	for i, name := range []string{"y", "back"} {
		w, _ := want[i].AsFloats()
		enginetest.Close(t, name, got[i], 1e-4, w...)
	}
}
