package training

import (
	"context"
	"math"

	"ebmrun/training/optim"
)

// A Flow is a learnable bijection between examples x and codes z ~ N(0, I) of as
// many values, with a density: log p(x) = log N(z) + log|det ∂z/∂x|. All slices are [n, dim],
// logP and bound [n]; densities are in nats and in the units of x.
type Flow interface {
	// Encode writes z(x) and log p(x), of x as continuous values.
	Encode(ctx context.Context, x, z, logP []float32) error

	// Decode writes x(z).
	Decode(ctx context.Context, z, x []float32) error

	// Level is the distance between two levels of a value, 0 for continuous ones.
	// Noise, standard normals, fills the gap between levels; continuous values have none.
	Level() float64

	// Bound writes log p(x + noise) − log q(noise | x), log p(x) of continuous values.
	Bound(ctx context.Context, x, noise, bound []float32) error

	// Learn writes the same and sets the gradient of every parameter to that of
	// Σ w_i·bound_i.
	Learn(ctx context.Context, x, noise, w, bound []float32) error

	// Start sets the normalisations of activations by a batch (Kingma and Dhariwal, 2018).
	Start(ctx context.Context, x, noise []float32) error

	// Params are the weights and their gradients.
	Params() []optim.Param
}

// BitsPerDim is what coding an example of dim values of the given level distance
// takes: with a density p of the filled values, in the units of x, a level has the mean
// probability p·level, so
//
//	bits per dimension = −log p/(dim·ln 2) − log₂ level.
//
// For 256 levels over a range of length 1 that adds 8, over [−1, 1] log₂ 127.5. A level of 0
// counts as 1: bits of a density.
func BitsPerDim(logP float64, dim int, level float64) float64 {
	bits := -logP / (float64(dim) * math.Ln2)
	if level > 0 {
		bits -= math.Log2(level)
	}
	return bits
}

// Snap moves every value of x to the nearest level, counted from lo.
func Snap(x []float32, lo, level float64) {
	if level <= 0 {
		return
	}
	for i, v := range x {
		x[i] = float32(lo + level*math.Round((float64(v)-lo)/level))
	}
}

// DrawFlow draws n examples from a flow, held in [lo, hi] where lo < hi.
func DrawFlow(ctx context.Context, f Flow, z []float32, dim int, lo, hi float32) ([]float32, error) {
	x := make([]float32, len(z))
	err := Blocks(len(z)/dim, flowBlock, func(first, end int) error {
		return f.Decode(ctx, z[first*dim:end*dim], x[first*dim:end*dim])
	})
	if lo < hi {
		for i, v := range x {
			x[i] = min(max(v, lo), hi)
		}
	}
	return x, err
}

// BoundOf is the bound of each of many examples [n, dim], under noise of the seed.
func BoundOf(ctx context.Context, f Flow, x []float32, dim int, seed uint64) ([]float32, error) {
	bound, noise := make([]float32, len(x)/dim), Codes(seed, len(x)/dim, dim)
	return bound, Blocks(len(bound), flowBlock, func(first, end int) error {
		return f.Bound(ctx, x[first*dim:end*dim], noise[first*dim:end*dim], bound[first:end])
	})
}

// LogMass is the log probability, nats, of an example of levels whose filled values
// have the log density logP.
func LogMass(logP float64, dim int, level float64) float64 {
	return logP + float64(dim)*math.Log(level)
}

// flowBlock is how many examples a flow is given at a time outside learning.
const flowBlock = 64

// LearnFlow is f.Learn in pieces of at most so many examples, all at once for 0. The
// gradients are sums over examples, so that pieces change memory alone, and rounding.
func LearnFlow(ctx context.Context, f Flow, piece int, x, noise, w, bound []float32) error {
	n, dim := len(w), len(x)/max(len(w), 1)
	return Pieces(f.Params(), n, piece, func(a, b int) error {
		return f.Learn(ctx, x[a*dim:b*dim], noise[a*dim:b*dim], w[a:b], bound[a:b])
	})
}
