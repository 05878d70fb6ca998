package energy

import (
	"fmt"

	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/nn"
)

// Features append the maps h(x) that an energy is linear in to the graph that
// reads x [batch, …]; each is [batch, K, …] for K features, or more where they
// have positions. Numbers that are not to be learned are constants
// ([graphs.Builder.Const]).
type Features func(b *graphs.Builder, x *graphs.Value) []*graphs.Value

// Linear makes the energy with a linear top layer on given features (FRAME, and
// Deep FRAME where they are the units of a network):
//
//	f(x) = Σ_k Σ_p θ_k·h_k,p(x)      stationary: one weight a feature, at every position p
//	f(x) = Σ_k Σ_p θ_k,p·h_k,p(x)    otherwise: one weight for each feature and position
//
// for examples of the given dimensions, with the reference density of [Build].
// The weights are "theta", or "theta1", "theta2", … of several maps. They begin
// at 0, where the model is the reference density. Since ∂f/∂θ = h, a weighted sum
// of f's parameter gradients is that of the statistics h, summed over positions
// where stationary.
func Linear(dims []int, sigma float64, stationary bool, features Features) (*onnxmodels.Model, error) {
	if sigma < 0 {
		return nil, fmt.Errorf("energy: reference sigma %g is negative", sigma)
	}
	b := graphs.NewBuilder(&graphs.Graph{Name: "energy"})
	net := &nn.Net{Builder: b}
	x := input(b, dims)
	maps := features(b, x)
	if b.Err() == nil && len(maps) == 0 {
		return nil, fmt.Errorf("energy: no features to weight")
	}
	var f *graphs.Value
	for i, h := range maps {
		name := "theta"
		if len(maps) > 1 {
			name = fmt.Sprintf("theta%d", i+1)
		}
		part := net.Linear(name, h, stationary)
		if i == 0 {
			f = part
		} else {
			f = b.Add(f, part)
		}
	}
	return finish(net, x, f, sigma)
}

// Filtered are the responses ⟨x, B_k,p⟩ of grey pictures [1, H, W] to fixed filters
// wherever those fit, [K, …], without a rectifier: f is linear in x too, and the
// density under a Gaussian reference is a Gaussian.
func Filtered(f Kernels) Features {
	return func(b *graphs.Builder, x *graphs.Value) []*graphs.Value {
		area := f.Size * f.Size
		if f.Size < 1 || len(f.Taps) == 0 || len(f.Taps)%area != 0 {
			return []*graphs.Value{b.Fail("energy: wanted filters of %d×%d, got %d taps", f.Size, f.Size, len(f.Taps))}
		}
		w := b.Const(graphs.Of(f.Taps, len(f.Taps)/area, 1, f.Size, f.Size))
		return []*graphs.Value{b.Op("Conv", []*graphs.Value{x, w}, graphs.IntsAttr("kernel_shape", int64(f.Size), int64(f.Size)))}
	}
}
