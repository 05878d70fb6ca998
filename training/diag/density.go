package diag

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// A Grid divides a rectangle of the plane into Bins×Bins cells.
type Grid struct {
	X0, X1, Y0, Y1 float64
	Bins           int
}

// KLGrid is the Kullback-Leibler divergence, in nats, of the histogram of 2-D samples [n, 2] from a
// density given by its logarithm: Σ p̂·log(p̂/q) over the cells of the grid, with the outside as one
// more cell. The density is integrated over each cell at 4×4 points. For samples from the density
// itself the value is about (occupied cells − 1)/(2n), not zero: the bias of histograms.
func KLGrid(samples []float32, logDensity func(x, y float64) float64, g Grid) (float64, error) {
	n, err := rows("kl", samples, 2, 1)
	if err != nil {
		return 0, err
	}
	if !(g.X0 < g.X1 && g.Y0 < g.Y1) || g.Bins < 1 || g.Bins > 4096 {
		return 0, fmt.Errorf("diag: kl: no grid %+v", g)
	}
	cells := g.Bins * g.Bins
	count := make([]int, cells+1)
	for i := range n {
		x := (float64(samples[2*i]) - g.X0) / (g.X1 - g.X0) * float64(g.Bins)
		y := (float64(samples[2*i+1]) - g.Y0) / (g.Y1 - g.Y0) * float64(g.Bins)
		cell := cells
		if x >= 0 && y >= 0 && x < float64(g.Bins) && y < float64(g.Bins) {
			cell = int(y)*g.Bins + int(x)
		}
		count[cell]++
	}
	dx, dy := (g.X1-g.X0)/float64(g.Bins), (g.Y1-g.Y0)/float64(g.Bins)
	const fine = 4
	kl, inside := 0.0, 0.0
	for cell, k := range count[:cells] {
		q := 0.0
		for s := range fine * fine {
			x := g.X0 + dx*(float64(cell%g.Bins)+(float64(s%fine)+0.5)/fine)
			y := g.Y0 + dy*(float64(cell/g.Bins)+(float64(s/fine)+0.5)/fine)
			q += math.Exp(logDensity(x, y)) * dx * dy / (fine * fine)
		}
		inside += q
		kl += klTerm(k, n, q)
	}
	return kl + klTerm(count[cells], n, 1-inside), nil
}

// klTerm is p·log(p/q) for p = k/n. A cell of no probability counts as 1e-12, so that a stray sample
// costs much but not everything.
func klTerm(k, n int, q float64) float64 {
	if k == 0 {
		return 0
	}
	p := float64(k) / float64(n)
	return p * math.Log(p/math.Max(q, 1e-12))
}

// AveragePrecision is the area under the precision-recall curve of scores, higher meaning more likely
// positive: the mean, over the positives, of the precision at their scores. Equal scores are taken
// together, so that their order does not matter.
func AveragePrecision(scores []float64, positive []bool) (float64, error) {
	r, err := rank("average precision", scores, positive)
	return r.precision(1), err
}

// AveragePrecisionAt is what AveragePrecision comes to where another share of all examples is positive,
// 0 < share < 1. The area grows with that share, so that areas compare only at one.
func AveragePrecisionAt(scores []float64, positive []bool, share float64) (float64, error) {
	r, err := rank("average precision", scores, positive)
	if err == nil && !(share > 0 && share < 1) {
		err = fmt.Errorf("diag: average precision: share of positives %g, wanted one between 0 and 1", share)
	}
	return r.precision(share / (1 - share) * float64(r.negatives) / float64(r.positives)), err
}

// ROCArea is the probability that a positive has a higher score than a negative, equal scores counting
// half: 0.5 for a guess, whatever the share of positives.
func ROCArea(scores []float64, positive []bool) (float64, error) {
	r, err := rank("ROC area", scores, positive)
	sum, below := 0.0, float64(r.negatives)
	for _, l := range r.levels {
		below -= float64(l.negatives)
		sum += float64(l.positives) * (below + float64(l.negatives)/2)
	}
	return sum / float64(r.positives) / float64(r.negatives), err
}

// count is how many there are of each kind.
type count struct{ positives, negatives int }

// A ranking has the examples of every distinct score, from the highest down, and all of them.
type ranking struct {
	levels []count
	count
}

func rank(what string, scores []float64, positive []bool) (r ranking, err error) {
	if len(scores) != len(positive) {
		return r, fmt.Errorf("diag: %s: %d scores, %d labels", what, len(scores), len(positive))
	}
	order := make([]int, len(scores))
	for i, s := range scores {
		if math.IsNaN(s) {
			return ranking{}, fmt.Errorf("diag: %s: score %d is NaN", what, i)
		}
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	for k, i := range order {
		if k == 0 || scores[i] != scores[order[k-1]] {
			r.levels = append(r.levels, count{})
		}
		for _, c := range []*count{&r.count, &r.levels[len(r.levels)-1]} {
			if positive[i] {
				c.positives++
			} else {
				c.negatives++
			}
		}
	}
	if r.positives == 0 || r.negatives == 0 {
		return r, fmt.Errorf("diag: %s: %d positives among %d, want some of each kind", what, r.positives, len(scores))
	}
	return r, nil
}

// precision is the mean precision at the positives, each of which counts as so many.
func (r ranking) precision(weight float64) float64 {
	sum, hits, misses := 0.0, 0.0, 0.0
	for _, l := range r.levels {
		hits, misses = hits+weight*float64(l.positives), misses+float64(l.negatives)
		if l.positives > 0 {
			sum += float64(l.positives) * hits / (hits + misses)
		}
	}
	return sum / float64(r.positives)
}
