package sampler

import (
	"math"
	"math/rand/v2"
)

// Choose draws an index with probability ∝ exp(w[i]) and overwrites w: the step of a Gibbs sampler
// whose conditional has few values.
func Choose(r *rand.Rand, w []float64) int {
	most := math.Inf(-1)
	for _, v := range w {
		most = max(most, v)
	}
	sum := 0.0
	for i, v := range w {
		sum += math.Exp(v - most)
		w[i] = sum
	}
	u := sum * r.Float64()
	for i, v := range w {
		if u < v {
			return i
		}
	}
	return len(w) - 1
}

// Stream is the random source of one chain's sweep: it needs no state of its own, so that chains run
// side by side and resume.
func Stream(seed, chain, sweep uint64) *rand.Rand {
	return rand.New(rand.NewPCG(Noise{Seed: seed}.Fork(chain).Seed, sweep))
}
