package refeval

import (
	"context"
	"math/rand/v2"
	"testing"

	"ebmrun/graphs"
)

// benchNode runs one node on float32 inputs and reports its arithmetic speed.
func benchNode(b *testing.B, op string, flops float64, dims [][]int, attrs ...*graphs.Attr) {
	r := rand.New(rand.NewPCG(1, 1))
	g := &graphs.Graph{}
	gb := graphs.NewBuilder(g)
	var vals []*graphs.Value
	var in []*graphs.Tensor
	for i, d := range dims {
		vals = append(vals, gb.Input(string(rune('a'+i)), graphs.Float32, graphs.MakeShape(d...)))
		x := graphs.NewTensor(graphs.Float32, d...)
		for j := range x.F32() {
			x.F32()[j] = r.Float32() - 0.5
		}
		in = append(in, x)
	}
	gb.Output("y", gb.Op(op, vals, attrs...))
	if _, err := gb.Graph(); err != nil {
		b.Fatal(err)
	}
	p, err := New(g, graphs.OpsetVersion, Options{Round: true})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := p.Run(context.Background(), in); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

func BenchmarkMatMul(b *testing.B) {
	benchNode(b, "MatMul", 2*256*256*256, [][]int{{256, 256}, {256, 256}})
}

func BenchmarkConv(b *testing.B) {
	benchNode(b, "Conv", 2*32*32*16*9*14*14, [][]int{{32, 16, 14, 14}, {32, 16, 3, 3}}, graphs.IntsAttr("pads", 1, 1, 1, 1))
}

func BenchmarkConvTranspose(b *testing.B) {
	benchNode(b, "ConvTranspose", 2*32*32*16*9*14*14, [][]int{{32, 32, 14, 14}, {32, 16, 3, 3}}, graphs.IntsAttr("pads", 1, 1, 1, 1))
}

func BenchmarkDepthwise(b *testing.B) {
	benchNode(b, "Conv", 2*16*64*9*14*14, [][]int{{16, 64, 14, 14}, {64, 1, 3, 3}}, graphs.IntsAttr("pads", 1, 1, 1, 1), graphs.I("group", 64))
}

func BenchmarkMaxPool(b *testing.B) {
	benchNode(b, "MaxPool", 32*16*14*14*4, [][]int{{32, 16, 28, 28}}, graphs.IntsAttr("kernel_shape", 2, 2), graphs.IntsAttr("strides", 2, 2))
}

func BenchmarkAdd(b *testing.B) {
	benchNode(b, "Add", 1<<20, [][]int{{1024, 1024}, {1024}})
}
