// Package diag measures how good chains and samples are.
//
// Samples against data: [FD] (Fréchet distance on principal components), [PatchSWD], [EnergyDistance],
// [MMD2], [MomentGap], [KLGrid], [NearestNeighbours]. Samples alone: [Diversity], [Saturation]. One
// picture against another: [PSNR], [SSIM]. Chains: [Autocorrelation], [RHat], [ESS]. Likelihood and
// ranking: [Parzen], [AveragePrecision]. Point sets: [Chamfer], [EMD], [Clouds],
// [CloudJSD]. Clips: [ClipSWD], [TemporalAutocorrelation]. Synthetic data: [Modes], [Blobs] with [Validity] and [Coverage].
//
// Samples are flat float32 slices of n rows of dim values, pictures being rows of C·H·W; sums run in
// float64. Whatever is random takes a seed and gives the same number every time. Input that cannot be
// measured (wrong sizes, too few rows, values that are not finite) is an error, never a NaN.
package diag

import (
	"fmt"
	"math"
)

// rows checks that x is at least least rows of dim finite values and returns their number.
func rows(what string, x []float32, dim, least int) (int, error) {
	if dim < 1 || len(x)%dim != 0 {
		return 0, fmt.Errorf("diag: %s: %d values are no rows of %d", what, len(x), dim)
	}
	n := len(x) / dim
	if n < least {
		return 0, fmt.Errorf("diag: %s: want at least %d rows, got %d", what, least, n)
	}
	for i, v := range x {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return 0, fmt.Errorf("diag: %s: row %d: value %d is %v, want finite values", what, i/dim, i%dim, v)
		}
	}
	return n, nil
}

// pair checks two samples of the same dim.
func pair(what string, a, b []float32, dim, least int) (na, nb int, err error) {
	if na, err = rows(what+": first sample", a, dim, least); err != nil {
		return
	}
	nb, err = rows(what+": second sample", b, dim, least)
	return
}
