package swin

import (
	"fmt"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/generator"
)

// Losses of a map. Gaussian is the squared error, the likelihood of the paper's equations.
const (
	Gaussian  = "gaussian"
	Structure = "structure"
)

// lossOf is the named loss of maps of the given side, nil for the squared error.
func lossOf(s Spec, dims []int) (generator.Loss, error) {
	switch {
	case s.Loss == "" || s.Loss == Gaussian:
		return nil, nil
	case s.Loss != Structure:
		return nil, fmt.Errorf("swin: loss: wanted %s or %s, got %q", Gaussian, Structure, s.Loss)
	case !s.Tanh:
		return nil, fmt.Errorf("swin: loss %s is that of a chance: wanted a network that ends in tanh", Structure)
	}
	overlap := s.Overlap
	if overlap == 0 {
		overlap = 1
	}
	return func(b *graphs.Builder, x, target, mask *graphs.Value) *graphs.Value {
		return structure(b, x, target, mask, neighbourhood(dims[1]), overlap)
	}, nil
}

// neighbourhood is the odd side of the window that tells a map's edges: 31 pixels of the
// published 352, as much of smaller maps, at least 3.
func neighbourhood(side int) int64 {
	return int64(min(31, max(3, side*31/352|1)))
}

// structure is what tells a map from the true one (Wei, Wang, Huang, "F³Net: Fusion,
// Feedback and Focus for Salient Object Detection", AAAI 2020), with p and t the chances
// that map and truth give a pixel of being salient:
//
//	Σ w·H(t, p) / Σ w + k·(1 − (Σ w·p·t + 1) / (Σ w·(p + t − p·t) + 1)),  w = 1 + 5·|mean of t around − t|
//
// H is the cross-entropy; a pixel near an edge weighs up to six times as much. k, the
// weight of the overlap, is 1 in the paper. x ends in tanh, whose argument is half the
// log-odds.
func structure(b *graphs.Builder, x, target, mask *graphs.Value, side int64, k float64) *graphs.Value {
	if b.Err() != nil {
		return x
	}
	for x.From != nil && x.From.Op == "Identity" {
		x = x.From.Inputs[0]
	}
	if x.From == nil || x.From.Op != "Tanh" {
		return b.Fail("swin: structure loss: wanted a map that ends in tanh")
	}
	half := func(x *graphs.Value) *graphs.Value { return b.Scale(b.Add(x, b.Scalar(x, 1)), 0.5) }
	odds, t := b.Scale(x.From.Inputs[0], 2), half(target)
	pad := side / 2
	around := b.Op("AveragePool", []*graphs.Value{t}, graphs.IntsAttr("kernel_shape", side, side), graphs.IntsAttr("pads", pad, pad, pad, pad), graphs.I("count_include_pad", 1))
	w := b.Scale(b.Op("Abs", []*graphs.Value{b.Sub(around, t)}), 5)
	w = b.Mul(mask, b.Add(w, b.Scalar(w, 1)))
	p := b.Sigmoid(odds)
	sum := func(x *graphs.Value) *graphs.Value { return b.Sum(b.Mul(w, x), false, 1, 2, 3) }
	one := func(x *graphs.Value) *graphs.Value { return b.Add(x, b.Scalar(x, 1)) }
	entropy := b.Sub(b.Op("Softplus", []*graphs.Value{odds}), b.Mul(odds, t))
	both := b.Mul(p, t)
	overlap := b.Div(one(sum(both)), one(sum(b.Sub(b.Add(p, t), both))))
	return b.Add(b.Div(sum(entropy), b.Sum(w, false, 1, 2, 3)), b.Scale(b.Sub(b.Scalar(overlap, 1), overlap), k))
}
