package energy

import (
	"fmt"

	"ebmrun/graphs"
	"ebmrun/onnxmodels/nn"
)

// A Doubling describes a network of residual blocks, each of which doubles the filters
// and halves the side: average of (act → conv 3 → act → conv 3, plus conv 3 of act). A window
// over the whole map gives Outputs numbers, whose sum is the score (the energy of Xie, Zhu,
// Li, Li, "A Tale of Two Flows", ICLR 2022).
type Doubling struct {
	Filters int `yaml:"filters"` // of the first convolution
	Blocks  int `yaml:"blocks"`
	Outputs int `yaml:"outputs"`
}

// score appends f(x) [batch].
func (d Doubling) score(net *nn.Net, activation string, x *graphs.Value) *graphs.Value {
	if net.Err() != nil || len(x.Shape) != 4 || x.Shape[2] != x.Shape[3] || !x.Shape[2].Known() || d.Blocks < 1 || d.Blocks > 16 || x.Shape[2].N%(1<<d.Blocks) != 0 {
		return net.Fail("energy: a network that halves its side %d times takes square pictures whose side can be, got %v", d.Blocks, x)
	}
	conv := func(name string, h *graphs.Value, filters int) *graphs.Value {
		return net.Conv(name, h, nn.Conv{Filters: filters, Kernel: 3, Pad: 1})
	}
	n := d.Filters
	h := net.Activate(activation, conv("in", x, n))
	for i := range d.Blocks {
		name := fmt.Sprintf("block%d", i+1)
		a := net.Activate(activation, h)
		b := net.Activate(activation, conv(name+".conv1", a, n))
		n *= 2
		h = net.AveragePool(net.Add(conv(name+".conv2", b, n), conv(name+".skip", a, n)), 2)
	}
	return net.SumAll(net.Conv("top", h, nn.Conv{Filters: d.Outputs, Kernel: int(x.Shape[2].N) >> d.Blocks}))
}

// doubling is a network of such blocks, swish.
func doubling(filters, blocks, outputs int) Spec {
	return Spec{Doubling: &Doubling{filters, blocks, outputs}, Activation: "swish"}
}
