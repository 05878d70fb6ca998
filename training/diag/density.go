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
	if len(scores) != len(positive) {
		return 0, fmt.Errorf("diag: average precision: %d scores, %d labels", len(scores), len(positive))
	}
	order := make([]int, len(scores))
	total := 0
	for i, s := range scores {
		if math.IsNaN(s) {
			return 0, fmt.Errorf("diag: average precision: score %d is NaN", i)
		}
		order[i] = i
		if positive[i] {
			total++
		}
	}
	if total == 0 || total == len(scores) {
		return 0, fmt.Errorf("diag: average precision: %d positives among %d, want some of each kind", total, len(scores))
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	sum, hits := 0.0, 0
	for i := 0; i < len(order); {
		j, before := i, hits
		for ; j < len(order) && scores[order[j]] == scores[order[i]]; j++ {
			if positive[order[j]] {
				hits++
			}
		}
		sum += float64(hits-before) * float64(hits) / float64(j)
		i = j
	}
	return sum / float64(total), nil
}
