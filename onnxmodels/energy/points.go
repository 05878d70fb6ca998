package energy

import (
	"fmt"
	"math"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/nn"
)

// Points describes f(X) = N·g(mean over points of h(point)) for sets of points
// [batch, N, 3], whose order does not matter (Xie, Xu, Zheng, Zhu, Wu,
// "Generative PointNet", CVPR 2021, without the factor N: with it the slope in one
// point does not shrink with their number). Nothing in it depends on a point's place in
// the set, so there is no normalisation over points.
type Points struct {
	// Waves, if not 0, gives h the sines and cosines of so many octaves of each coordinate, π·x, 2π·x, 4π·x …,
	// beside the coordinate: thin surfaces need steep features (Tancik et al., "Fourier Features Let Networks
	// Learn High Frequency Functions in Low Dimensional Domains", NeurIPS 2020).
	Waves int `yaml:"waves,omitempty"`

	// Max has g see the largest of each of h's values beside their mean: a single point where none belongs shows.
	Max bool `yaml:"max,omitempty"`

	Each  []int `yaml:"each"`  // widths of h, the same for every point
	Whole []int `yaml:"whole"` // widths of g before its one output
}

func (p *Points) score(net *nn.Net, activation string, x *graphs.Value) *graphs.Value {
	if net.Err() != nil || len(x.Shape) != 3 || !x.Shape[1].Known() || !x.Shape[2].Known() {
		return net.Fail("energy: a network of points takes [batch, N, 3], got %v", x)
	}
	if len(p.Each) == 0 {
		return net.Fail("energy: a network of points needs a layer for each point")
	}
	n, width := x.Shape[1].N, x.Shape[2].N
	// Points are rows of one matrix.
	h := net.ReshapeTo(x, -1, width)
	if p.Waves > 0 {
		all, at := []*graphs.Value{h}, h
		for k := range p.Waves {
			at = net.Scale(h, math.Pi*math.Exp2(float64(k)))
			all = append(all, net.Op("Sin", []*graphs.Value{at}), net.Op("Cos", []*graphs.Value{at}))
		}
		h, width = net.Concat(1, all...), width*int64(len(all))
	}
	for i, filters := range p.Each {
		h = net.Activate(activation, net.Dense(fmt.Sprintf("each%d", i+1), h, filters))
		width = int64(filters)
	}
	points := net.ReshapeTo(h, -1, n, width)
	if h = net.Mean(points, false, 1); p.Max {
		h = net.Concat(1, h, net.Op("ReduceMax", []*graphs.Value{points, net.Ints(1)}, graphs.I("keepdims", 0)))
	}
	for i, units := range p.Whole {
		h = net.Activate(activation, net.Dense(fmt.Sprintf("whole%d", i+1), h, units))
	}
	h = net.Dense("top", h, 1)
	defer net.Prefix(net.Prefix("score"))
	return net.SumAll(net.Scale(h, float64(n)))
}
