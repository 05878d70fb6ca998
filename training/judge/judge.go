// Package judge measures samples against held-out data with the number that
// fits the data: a distance that is low for a working model and high for a
// broken one, together with its floor, the distance between two halves of real
// data.
package judge

import (
	"fmt"
	"math/rand/v2"

	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
)

// A Judge measures samples. Its settings are those that results are quoted
// with: 16 components from at most 2,000 training images, 512 samples.
type Judge struct {
	Name  string  // the metric's name
	N     int     // samples wanted by Measure
	Floor float64 // the metric between two sets of real examples of the same size, 0 if there is one example only

	measure func(samples []float32) (training.Metrics, error)
}

const (
	components = 16
	fitted     = 2000
	compared   = 512
)

// New makes the judge that fits the data: energy distance for points in the
// plane, FD-PCA for sets of pictures, patch-SWD for a single picture. held is
// data that was not learned from.
func New(train, held *data.Set) (*Judge, error) {
	switch {
	case train.H == 1 && train.W == 1:
		return points(train, held)
	case train.N == 1:
		return texture(train)
	}
	return pictures(train, held)
}

// Measure returns the metric under its own name and as the objective.
func (j *Judge) Measure(samples []float32) (training.Metrics, error) {
	m, err := j.measure(samples)
	if err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	m[training.Objective] = m[j.Name]
	return m, nil
}

func pictures(train, held *data.Set) (*Judge, error) {
	n := min(compared, held.N)
	k := min(components, train.N-1, n-1, train.Dim())
	// Drawn at random: files are often sorted by class, writer or difficulty.
	learned, err := draw(train, min(fitted, train.N)+min(n, train.N))
	if err != nil {
		return nil, err
	}
	real, err := draw(held, n)
	if err != nil {
		return nil, err
	}
	dim := train.Dim()
	fd, err := diag.FitFD(learned[:min(fitted, train.N)*dim], dim, k)
	if err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	j := &Judge{Name: "fd_pca", N: n}
	other := learned[len(learned)-min(n, train.N)*dim:]
	if j.Floor, err = fd.Distance(real, other); err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	j.measure = func(x []float32) (training.Metrics, error) {
		d, err := fd.Distance(real, x)
		if err != nil {
			return nil, err
		}
		div, err := diag.Diversity(x, train.Dim())
		return training.Metrics{"fd_pca": d, "diversity": div}, err
	}
	return j, nil
}

// draw takes n different examples at random, the same ones every time, or all
// examples where there are fewer, beginning anew.
func draw(s *data.Set, n int) ([]float32, error) {
	order := rand.New(rand.NewPCG(1, 2)).Perm(s.N)
	index := make([]int, n)
	for i := range index {
		index[i] = order[i%s.N]
	}
	sub, err := s.Subset(index)
	if err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	return sub.X, nil
}

func points(train, held *data.Set) (*Judge, error) {
	n := min(2000, held.N)
	real := held.Head(n).X
	j := &Judge{Name: "energy_distance", N: min(2000, n)}
	floor, err := diag.EnergyDistance(real, train.Head(n).X, 2)
	if err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	j.Floor = floor
	j.measure = func(x []float32) (training.Metrics, error) {
		d, err := diag.EnergyDistance(real, x, 2)
		return training.Metrics{"energy_distance": d}, err
	}
	return j, nil
}

func texture(train *data.Set) (*Judge, error) {
	j := &Judge{Name: "patch_swd", N: 1}
	half := train.H / 2 * train.W
	if train.C == 1 && train.H >= 16 {
		// the floor: the upper half against the lower
		d, err := diag.PatchSWD(train.X[:half], train.H/2, train.W, train.X[half:2*half], train.H/2, train.W, 1, 1)
		if err != nil {
			return nil, fmt.Errorf("judge: %w", err)
		}
		j.Floor = d
	}
	j.measure = func(x []float32) (training.Metrics, error) {
		d, err := diag.PatchSWD(train.X, train.H, train.W, x, train.H, train.W, train.C, 1)
		return training.Metrics{"patch_swd": d}, err
	}
	return j, nil
}
