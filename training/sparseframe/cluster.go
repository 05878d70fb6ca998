package sparseframe

import (
	"context"
	"fmt"
	"math"
	"slices"

	"ebmrun/training/data"
	"ebmrun/training/sampler"
)

// Cluster sorts pictures into k clusters by hard EM: learn a template of each by boosting, then give every
// picture to the template that scores it highest, log Z included. EM begins at random so many times, and
// the clusters whose templates score all pictures highest are taken.
func Cluster(ctx context.Context, c Config, set *data.Set, k, iterations, starts int, seed uint64) (assigned []int, err error) {
	if k < 1 || k > set.N || iterations < 1 || starts < 1 {
		return nil, fmt.Errorf("sparse-frame: %d clusters of %d pictures, %d iterations, %d starts: wanted positive numbers, and no more clusters than pictures", k, set.N, iterations, starts)
	}
	c.Select = Boost
	best := math.Inf(-1)
	for s := range starts {
		found, total, err := expect(ctx, c, set, k, iterations, seed+uint64(s))
		if err != nil {
			return nil, fmt.Errorf("sparse-frame: %w", err)
		}
		if total > best {
			assigned, best = found, total
		}
	}
	return assigned, nil
}

// expect is one run of EM.
func expect(ctx context.Context, c Config, set *data.Set, k, iterations int, seed uint64) (assigned []int, total float64, err error) {
	for i := range set.N {
		assigned = append(assigned, i%k)
	}
	sampler.Stream(seed, 0, 0).Shuffle(set.N, func(i, j int) { assigned[i], assigned[j] = assigned[j], assigned[i] })
	for range iterations {
		scores := make([][]float64, k)
		for q := range k {
			if scores[q], err = c.scoresOf(ctx, set, assigned, q, seed); err != nil {
				return nil, 0, err
			}
		}
		next := make([]int, set.N)
		total = 0
		for i := range next {
			for q := range k {
				if scores[q][i] > scores[next[i]][i] {
					next[i] = q
				}
			}
			total += scores[next[i]][i]
		}
		Reseed(next, scores)
		if slices.Equal(next, assigned) {
			break
		}
		assigned = next
	}
	return assigned, total, nil
}

// scoresOf learns the template of cluster q and scores all pictures by it.
func (c *Config) scoresOf(ctx context.Context, set *data.Set, assigned []int, q int, seed uint64) ([]float64, error) {
	var index []int
	for i, a := range assigned {
		if a == q {
			index = append(index, i)
		}
	}
	sub, err := set.Subset(index)
	if err != nil {
		return nil, err
	}
	s, err := assemble(*c, sub, seed, nil)
	if err != nil {
		return nil, err
	}
	for range c.Steps {
		if _, err := s.Step(ctx); err != nil {
			return nil, err
		}
	}
	return s.Scores(set), nil
}

// Reseed begins empty clusters anew from the pictures that their own templates score lowest.
func Reseed(assigned []int, scores [][]float64) {
	count := make([]int, len(scores))
	for _, a := range assigned {
		count[a]++
	}
	for q, n := range count {
		if n > 0 {
			continue
		}
		worst := -1
		for i, a := range assigned {
			if count[a] > 1 && (worst < 0 || scores[a][i] < scores[assigned[worst]][worst]) {
				worst = i
			}
		}
		count[assigned[worst]]--
		assigned[worst], count[q] = q, 1
	}
}
