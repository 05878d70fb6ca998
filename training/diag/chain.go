package diag

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat"
)

// series checks that every chain has the same length, at least least, and finite values.
func series(what string, chains [][]float64, least int) (int, error) {
	if len(chains) == 0 {
		return 0, fmt.Errorf("diag: %s: no chains", what)
	}
	n := len(chains[0])
	for c, x := range chains {
		if len(x) != n || n < least {
			return 0, fmt.Errorf("diag: %s: chain %d has %d draws, want %d as the first, and at least %d", what, c, len(x), n, least)
		}
		for i, v := range x {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return 0, fmt.Errorf("diag: %s: chain %d: draw %d is %v, want finite values", what, c, i, v)
			}
		}
	}
	return n, nil
}

// Autocorrelation of one chain at lags 0 … maxLag, with the divisor n at every lag. A constant chain
// is an error: it has none.
func Autocorrelation(x []float64, maxLag int) ([]float64, error) {
	n, err := series("autocorrelation", [][]float64{x}, 2)
	if err != nil {
		return nil, err
	}
	if maxLag < 0 || maxLag >= n {
		return nil, fmt.Errorf("diag: autocorrelation: lag %d of a chain of %d draws", maxLag, n)
	}
	c := autocovariance(x, maxLag)
	if c[0] == 0 {
		return nil, fmt.Errorf("diag: autocorrelation: the chain is constant")
	}
	for k := maxLag; k >= 0; k-- {
		c[k] /= c[0]
	}
	return c, nil
}

func autocovariance(x []float64, maxLag int) []float64 {
	mean := stat.Mean(x, nil)
	c := make([]float64, maxLag+1)
	for k := range c {
		for i := range len(x) - k {
			c[k] += (x[i] - mean) * (x[i+k] - mean)
		}
		c[k] /= float64(len(x))
	}
	return c
}

// RHat is the split potential scale reduction factor (Gelman et al., Bayesian Data Analysis, 3rd ed.,
// section 11.4) of chains of equal length: each is cut in halves, and the root of the ratio of the
// pooled to the within-half variance is 1 where all halves agree.
func RHat(chains [][]float64) (float64, error) {
	n, err := series("r-hat", chains, 4)
	if err != nil {
		return 0, err
	}
	within, pooled := variances(halves(chains, n))
	if within == 0 {
		return 0, fmt.Errorf("diag: r-hat: every half of every chain is constant")
	}
	return math.Sqrt(pooled / within), nil
}

// halves cuts chains of n draws in two; the middle draw of an odd number is left out.
func halves(chains [][]float64, n int) [][]float64 {
	var out [][]float64
	for _, x := range chains {
		out = append(out, x[:n/2], x[n-n/2:])
	}
	return out
}

// variances are the mean variance within chains and the pooled estimate (n−1)/n·W + B/n.
func variances(chains [][]float64) (within, pooled float64) {
	n := float64(len(chains[0]))
	means := make([]float64, len(chains))
	for c, x := range chains {
		var v float64
		means[c], v = stat.MeanVariance(x, nil)
		within += v / float64(len(chains))
	}
	between := stat.Variance(means, nil)
	return within, (n-1)/n*within + between
}

// ESS is the number of independent draws that estimate the mean as well as these chains do, from the
// autocorrelations of all halves with Geyer's initial monotone sequence (Bayesian Data Analysis, 3rd ed.,
// section 11.5; Geyer 1992).
func ESS(chains [][]float64) (float64, error) {
	n, err := series("effective sample size", chains, 8)
	if err != nil {
		return 0, err
	}
	split := halves(chains, n)
	within, pooled := variances(split)
	if within == 0 {
		return 0, fmt.Errorf("diag: effective sample size: every half of every chain is constant")
	}
	m, half := float64(len(split)), len(split[0])
	lags := half - 1
	cov := make([]float64, lags+1)
	for _, x := range split {
		for k, v := range autocovariance(x, lags) {
			// The variances above have the divisor n−1, so that lag 0 gives correlation 1.
			cov[k] += v / m * float64(half) / float64(half-1)
		}
	}
	rho := func(k int) float64 { return 1 - (within-cov[k])/pooled }
	sum, last := 0.0, math.Inf(1)
	for k := 0; k+1 <= lags; k += 2 {
		pair := rho(k) + rho(k+1)
		if pair < 0 {
			break
		}
		last = math.Min(last, pair)
		sum += last
	}
	total := m * float64(half)
	// The time 2·Σ − 1 is kept from falling below what n draws can show for anti-correlated chains.
	tau := math.Max(2*sum-1, 1/math.Log10(total))
	return total / tau, nil
}
