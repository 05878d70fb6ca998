package graphtest

import (
	"math/rand/v2"

	"ebmrun/graphs"
)

// A Rand makes random tensors; float tensors are Float64.
type Rand struct{ *rand.Rand }

// NewRand returns a generator; the same seed gives the same tensors.
func NewRand(seed uint64) Rand { return Rand{rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))} }

func (r Rand) fill(f func(i int) float64, dims []int) *graphs.Tensor {
	v := make([]float64, graphs.Size(dims))
	for i := range v {
		v[i] = f(i)
	}
	return graphs.Of(v, dims...)
}

// Normal has standard normal elements.
func (r Rand) Normal(dims ...int) *graphs.Tensor {
	return r.fill(func(int) float64 { return r.NormFloat64() }, dims)
}

// Uniform has elements in [lo, hi).
func (r Rand) Uniform(lo, hi float64, dims ...int) *graphs.Tensor {
	return r.fill(func(int) float64 { return lo + (hi-lo)*r.Float64() }, dims)
}

// Away has elements in [−2, 2) at least 0.05 away from each of the kinks, where
// a function has no slope.
func (r Rand) Away(kinks []float64, dims ...int) *graphs.Tensor {
	return r.fill(func(int) float64 {
		for {
			x := 4*r.Float64() - 2
			ok := true
			for _, k := range kinks {
				ok = ok && (x < k-0.05 || x > k+0.05)
			}
			if ok {
				return x
			}
		}
	}, dims)
}

// Distinct has elements in [−1, 1] of which any two differ by 2/n or more, in
// random order: for maxima and sorting.
func (r Rand) Distinct(dims ...int) *graphs.Tensor {
	p := r.Rand.Perm(graphs.Size(dims))
	return r.fill(func(i int) float64 { return 2*(float64(p[i])+0.5)/float64(len(p)) - 1 }, dims)
}

// Ints has integers in [lo, hi).
func (r Rand) Ints(lo, hi int64, dims ...int) *graphs.Tensor {
	v := make([]int64, graphs.Size(dims))
	for i := range v {
		v[i] = lo + r.Int64N(hi-lo)
	}
	return graphs.Of(v, dims...)
}

// Order is a random permutation of 0 … n−1.
func (r Rand) Order(n int) *graphs.Tensor {
	v := make([]int64, n)
	for i, k := range r.Rand.Perm(n) {
		v[i] = int64(k)
	}
	return graphs.Ints(v...)
}
