package backbone_test

import (
	"context"
	"fmt"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/backbone"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime/ref"
	"ebmrun/training/bind"
)

// pretrained stands for a network that onnxio.Read has read: two convolutions of pictures.
func pretrained() (*graphs.Model, error) {
	b := graphs.NewBuilder(&graphs.Graph{Name: "pretrained"})
	x := b.Input("image", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(3), graphs.D(8), graphs.D(8)})
	weights := func(name string, n, c int) *graphs.Value {
		w := make([]float32, n*c*3*3)
		for i := range w {
			w[i] = float32(i%7-3) / 10
		}
		return b.Weight(name, graphs.Of(w, n, c, 3, 3))
	}
	conv := func(x, w *graphs.Value) *graphs.Value {
		return b.Op("Conv", []*graphs.Value{x, w}, graphs.IntsAttr("pads", 1, 1, 1, 1))
	}
	h := b.Op("Relu", []*graphs.Value{conv(x, weights("w1", 4, 3))})
	b.Output("relu1", h)
	b.Output("logits", conv(h, weights("w2", 2, 4)))
	g, err := b.Graph()
	return graphs.NewModel(g), err
}

// An energy on top of an imported network: a weight for each of its units, to be learned; the network
// itself stays as it is.
func ExampleOpen() {
	model, err := pretrained()
	if err != nil {
		fmt.Println(err)
		return
	}
	net, err := backbone.Open(model, backbone.Spec{Cut: []string{"relu1"}, Input: backbone.ImageNet})
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := energy.Linear([]int{3, 8, 8}, 1, true, net.Features(backbone.Pixels{Lo: -1, Hi: 1}))
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := bind.New(context.Background(), m, ref.New(), bind.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer e.Close()
	for _, p := range e.Params() {
		fmt.Println("to learn:", p.Name, len(p.W))
	}
	x, u, g := make([]float32, 3*8*8), make([]float32, 1), make([]float32, 3*8*8)
	x[0] = 2
	fmt.Println(e.EnergyGrad(x, u, g), "U", u, "slope", g[:2]) // still the reference, ‖x‖²/2
	// Output:
	// to learn: theta 4
	// <nil> U [2] slope [2 0]
}
