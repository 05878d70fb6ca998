package flow

import (
	"slices"

	"ebmrun/onnxmodels"
)

// Nets is the table of flows with a name.
var Nets = map[string]onnxmodels.Named[Spec]{
	"glow-2d":    {"points: 8 steps, 64-64 units", points(8, false)},
	"realnvp-2d": {"points: 8 steps without rotations, 64-64 units", points(8, true)},
	"flowpp-2d":  {"points: 4 steps of a mixture of 8 logistics, 64-64 units", mixtures(points(4, false), 8)},

	"glow-16":    {"16×16: 2 scales of 4 steps, 32 filters", pictures(32, 4, 4)},
	"whole-16":   {"16×16: 4, 4 and 8 steps at 8×8, 4×4 and 2×2, 64 filters, nothing leaves", whole(64, 4, 4, 8)},
	"glow-28":    {"28×28: 2 scales of 8 steps, 64 filters", pictures(64, 8, 8)},
	"glow-32":    {"32×32: 3 scales of 6 steps, 64 filters", pictures(64, 6, 6, 6)},
	"realnvp-28": {"28×28: checkerboard and channel couplings, 2 scales, 64 filters", realNVP(64, 2)},
	"flowpp-16":  {"16×16: Flow++ couplings, 4 logistics, 24 filters", flowPP(24, 1, 0, 4, 2, 12)},
	"flowpp-28":  {"28×28: Flow++ couplings, 4 logistics, 32 filters", flowPP(32, 1, 0, 4, 2, 16)},
	"flowpp-32":  {"32×32: Flow++ couplings, 4 logistics, 32 filters", flowPP(32, 1, 0, 4, 2, 16)},

	"glow-28-published":   {"28×28: 2 scales of 32 steps, 512 filters", pictures(512, 32, 32)},
	"glow-32-published":   {"32×32: 3 scales of 32 steps, 512 filters (Glow)", pictures(512, 32, 32, 32)},
	"flowpp-32-published": {"32×32: 96 filters, 10 blocks with 4 heads, 32 logistics (Flow++ as in CoopFlow)", flowPP(96, 10, 4, 32, 4, 32)},
}

func points(n int, plain bool) Spec {
	return Spec{Layers: []Layer{{Kind: Steps, N: n}}, Coupling: Coupling{Kind: Tanh, Hidden: 64, Activation: "swish"}, Plain: plain}
}

// mixtures puts mixtures of logistics in the place of affine couplings.
func mixtures(s Spec, components int) Spec {
	s.Coupling.Kind, s.Coupling.Components = Logistic, components
	return s
}

// pictures is Glow for pictures: so many steps a scale, uniform dequantization.
func pictures(hidden int, steps ...int) Spec {
	s := Spec{Levels: 256, Dequantize: Uniform, Bound: 0.9, Coupling: Coupling{Kind: Sigmoid, Hidden: hidden, Activation: "relu"}}
	for i, n := range steps {
		if i > 0 {
			s.Layers = append(s.Layers, Layer{Kind: Leave})
		}
		s.Layers = append(s.Layers, Layer{Kind: Squeeze}, Layer{Kind: Steps, N: n})
	}
	return s
}

// whole is Glow for pictures of one thing that is in one place: all values stay to the
// coarsest scale, where couplings see the whole picture, and a coupling may scale up as
// well as down, by a factor that is learned. In [Sigmoid]'s ½ … 1 a background that hardly
// varies and a thing that does need more couplings than there are.
func whole(hidden int, steps ...int) Spec {
	s := pictures(hidden, steps...)
	s.Coupling.Kind = Tanh
	s.Layers = slices.DeleteFunc(s.Layers, func(l Layer) bool { return l.Kind == Leave })
	return s
}

// realNVP is three checkerboard couplings, a squeeze, three couplings of channels
// and half of these leaving, a scale, and four checkerboard couplings at the end.
func realNVP(hidden, scales int) Spec {
	s := Spec{Levels: 256, Dequantize: Uniform, Bound: 0.9, Plain: true, Coupling: Coupling{Kind: Tanh, Hidden: hidden, Activation: "relu"}}
	for i := range scales {
		if i == scales-1 {
			s.Layers = append(s.Layers, Layer{Kind: Steps, N: 4, By: Checkerboard})
			break
		}
		s.Layers = append(s.Layers, Layer{Kind: Steps, N: 3, By: Checkerboard}, Layer{Kind: Squeeze}, Layer{Kind: Steps, N: 3}, Layer{Kind: Leave})
	}
	return s
}

// flowPP is Flow++ for pictures: variational dequantization, four checkerboard steps,
// a squeeze after which half of the channels leave, two steps by channels and three by
// checkerboard.
func flowPP(hidden, blocks, heads, components, noiseSteps, noiseHidden int) Spec {
	s := Spec{Levels: 256, Dequantize: Variational, Bound: 0.9,
		Coupling: Coupling{Kind: Logistic, Components: components, Hidden: hidden, Blocks: blocks, Heads: heads},
		Layers: []Layer{{Kind: Steps, N: 4, By: Checkerboard}, {Kind: Squeeze}, {Kind: Leave},
			{Kind: Steps, N: 2}, {Kind: Steps, N: 3, By: Checkerboard}}}
	s.Variational.Steps, s.Variational.Hidden, s.Variational.Blocks = noiseSteps, noiseHidden, min(blocks, 2)
	return s
}

// ByName returns a named flow.
func ByName(name string) (Spec, error) { return onnxmodels.ByName("flow", Nets, name) }
