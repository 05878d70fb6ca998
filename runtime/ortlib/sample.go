package ortlib

import "ebmrun/graphs"

// SampleModel is a small graph in the ops of a gradient: the energy of two
// convolutions with LeakyRelu, and the energy's slope in x. It serves to try
// execution providers: x is [batch,3,8,8], the outputs are energy [batch] and
// grad/x of x's shape.
func SampleModel() (*graphs.Model, error) {
	b := graphs.NewBuilder(&graphs.Graph{Name: "sample"})
	x := b.Input("x", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(3), graphs.D(8), graphs.D(8)})
	w1, w2 := b.Weight("w1", wave(8, 3, 3, 3)), b.Weight("w2", wave(4, 8, 4, 4))
	first := []*graphs.Attr{graphs.IntsAttr("kernel_shape", 3, 3), graphs.IntsAttr("pads", 1, 1, 1, 1)}
	second := []*graphs.Attr{graphs.IntsAttr("kernel_shape", 4, 4), graphs.IntsAttr("pads", 1, 1, 1, 1), graphs.IntsAttr("strides", 2, 2)}
	const slope = 0.2

	h := b.Op("Conv", []*graphs.Value{x, w1}, first...)
	a := b.Op("LeakyRelu", []*graphs.Value{h}, graphs.F("alpha", slope))
	y := b.Op("Conv", []*graphs.Value{a, w2}, second...)
	b.Output("energy", b.Scale(b.Sum(b.Mul(y, y), false, 1, 2, 3), 0.5))

	da := b.Op("ConvTranspose", []*graphs.Value{y, w2}, second...)
	dh := b.Mul(da, b.Where(b.Greater(h, b.Scalar(h, 0)), b.Scalar(h, 1), b.Scalar(h, slope)))
	b.Output("grad/x", b.Op("ConvTranspose", []*graphs.Value{dh, w1}, first...))
	g, err := b.Graph()
	if err != nil {
		return nil, err
	}
	return graphs.NewModel(g), nil
}

// wave is a tensor of small numbers of both signs.
func wave(dims ...int) *graphs.Tensor {
	t := graphs.NewTensor(graphs.Float32, dims...)
	v := t.F32()
	for i := range v {
		v[i] = 0.05 * float32((i*7)%13-6)
	}
	return t
}
