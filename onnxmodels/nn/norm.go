package nn

import (
	"math/rand/v2"

	"ebmrun/graphs"
)

// InstanceNorm appends a normalisation of every channel of every example over its
// own pixels, with a learned scale and bias: one example does not see another.
func (n *Net) InstanceNorm(name string, x *graphs.Value) *graphs.Value {
	if n.Err() != nil || len(x.Shape) != 4 || !x.Shape[1].Known() {
		return n.Fail("nn: layer %s: input %v is not [batch, channels, height, width]", name, x)
	}
	defer n.Prefix(n.Prefix(name))
	c := int(x.Shape[1].N)
	ones := func(_ *rand.Rand, w []float32, _, _ int) {
		for i := range w {
			w[i] = 1
		}
	}
	scale := n.weight(name+".weight", ones, c, c, c)
	return n.Op("InstanceNormalization", []*graphs.Value{x, scale, n.weight(name+".bias", nil, c, c, c)}, graphs.F("epsilon", 1e-5))
}

// AveragePool appends averages over non-overlapping k×k windows.
func (n *Net) AveragePool(x *graphs.Value, k int) *graphs.Value {
	if n.Err() != nil || len(x.Shape) != 4 {
		return n.Fail("nn: pooling input %v is not [batch, channels, height, width]", x)
	}
	return n.Op("AveragePool", []*graphs.Value{x}, graphs.IntsAttr("kernel_shape", int64(k), int64(k)), graphs.IntsAttr("strides", int64(k), int64(k)))
}
