// Package judge measures samples against held-out data with the number that
// fits the data: a distance that is low for a working model and high for a
// broken one, together with its floor, the distance between two halves of real
// data.
package judge

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
)

// A Judge measures samples. Its settings are those that results are quoted
// with: 16 components from at most 2,000 training images, 512 samples.
type Judge struct {
	Name  string  // the metric's name
	N     int     // samples wanted by Measure
	Least int     // samples without which it cannot measure
	Floor float64 // the metric between two sets of real examples of the same size, 0 if there are too few for that

	measure func(samples []float32) (training.Metrics, error)
}

const (
	components = 16
	fitted     = 2000
	compared   = 512
)

// fewest is how many clips FD-PCA needs; fewer are judged by their frames.
const fewest = 3

// Point sets are compared by so many of their points, and so many of them.
const (
	cloudPoints = 256
	clouds      = 64
)

// New makes the judge that fits the data: energy distance for vectors and
// trajectories, FD-PCA for sets of pictures, clips and volumes, patch-SWD for a
// single picture, clip-SWD for a single clip or too few of them, MMD-CD for point
// sets. held is data that was not learned from; where that is one example alone,
// samples are compared with it and with what was learned from, by energy distance,
// and there is no floor.
func New(train, held *data.Set) (*Judge, error) {
	switch {
	case held.N == 1 && train.N > 1 && train.Kind != data.Cloud && train.Kind != data.Video:
		return together(train, held), nil
	case train.IsVectors() || train.Kind == data.Path:
		return points(train, held)
	case train.Kind == data.Cloud:
		return pointSets(train, held)
	case train.Kind == data.Video && min(train.N, held.N) < fewest:
		return clip(train, held)
	case train.N == 1 && train.Kind == data.Plain:
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
	j := &Judge{Name: "fd_pca", N: n, Least: k + 1}
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
	return sub.X(), nil
}

func points(train, held *data.Set) (*Judge, error) {
	n := min(2000, held.N)
	real := held.Head(n).X()
	j := distances(real, train.Dim(), min(2000, n))
	var err error
	if j.Floor, err = diag.EnergyDistance(real, train.Head(n).X(), train.Dim()); err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	return j, nil
}

func together(train, held *data.Set) *Judge {
	real := slices.Concat(held.X(), train.Head(2000).X())
	return distances(real, train.Dim(), min(64, len(real)/train.Dim()))
}

// distances compares n samples with real examples. A single one, such as what is made of the only
// example held out, counts as two alike.
func distances(real []float32, dim, n int) *Judge {
	return &Judge{Name: "energy_distance", N: n, measure: func(x []float32) (training.Metrics, error) {
		if len(x) == dim {
			x = slices.Concat(x, x)
		}
		d, err := diag.EnergyDistance(real, x, dim)
		return training.Metrics{"energy_distance": d}, err
	}}
}

// pointSets thins every set to cloudPoints points, which are in no order.
func pointSets(train, held *data.Set) (*Judge, error) {
	n, all, use := min(clouds, held.N), train.H, min(cloudPoints, train.H)
	k := train.W
	thin := func(x []float32) []float32 {
		out := make([]float32, 0, len(x)/all*use)
		for at := 0; at < len(x); at += all * k {
			out = append(out, x[at:at+use*k]...)
		}
		return out
	}
	real, err := draw(held, n)
	if err != nil {
		return nil, err
	}
	learned, err := draw(train, min(n, train.N))
	if err != nil {
		return nil, err
	}
	real, learned = thin(real), thin(learned)
	score := func(x []float32) (training.Metrics, error) {
		s, err := diag.Clouds(x, real, use, k, diag.Chamfer)
		if err != nil {
			return nil, err
		}
		m := training.Metrics{"mmd_cd": s.MMD, "coverage": s.Coverage, "nn_accuracy": s.Nearest}
		if k == 3 {
			m["jsd"], err = diag.CloudJSD(x, real, 28)
		}
		return m, err
	}
	floor, err := score(learned)
	if err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	return &Judge{Name: "mmd_cd", N: n, Floor: floor["mmd_cd"], measure: func(x []float32) (training.Metrics, error) {
		if len(x)%train.Dim() != 0 {
			return nil, fmt.Errorf("%d values are no point sets of %d×%d", len(x), all, k)
		}
		return score(thin(x))
	}}, nil
}

// clip judges by how frames look and move, beside a held-out clip. Its floor is a
// clip that was learned from, or where there is one clip alone its first half against
// the second.
func clip(train, held *data.Set) (*Judge, error) {
	c, d, h, w, held0 := train.C, train.D, train.H, train.W, held.At(0)
	j := &Judge{Name: "clip_swd", N: 1}
	lags := min(6, d-1)
	real, err := diag.TemporalAutocorrelation(held0, c, d, h, w, max(1, lags))
	if err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	part := func(first, n int) []float32 {
		var out []float32
		for k := range c {
			out = append(out, held0[(k*d+first)*h*w:][:n*h*w]...)
		}
		return out
	}
	switch half := d / 2; {
	case train.N > 1:
		j.Floor, err = diag.ClipSWD(train.At(0), d, held0, d, c, h, w, 1)
	case d >= 16:
		j.Floor, err = diag.ClipSWD(part(0, half), half, part(half, half), half, c, h, w, 1)
	}
	if err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	j.measure = func(x []float32) (training.Metrics, error) {
		v, err := diag.ClipSWD(held0, d, x, d, c, h, w, 1)
		if err != nil {
			return nil, err
		}
		got, err := diag.TemporalAutocorrelation(x, c, d, h, w, lags)
		if err != nil {
			return nil, err
		}
		gap := 0.0
		for l, r := range real {
			gap = max(gap, math.Abs(got[l]-r))
		}
		return training.Metrics{"clip_swd": v, "autocorrelation_gap": gap}, nil
	}
	return j, nil
}

func texture(train *data.Set) (*Judge, error) {
	j, steep := &Judge{Name: "patch_swd", N: 1}, diag.Steepness(train.X(), train.H, train.W)
	half := train.H / 2 * train.W
	if train.C == 1 && train.H >= 16 {
		// the floor: the upper half against the lower
		d, err := diag.PatchSWD(train.X()[:half], train.H/2, train.W, train.X()[half:2*half], train.H/2, train.W, 1, 1)
		if err != nil {
			return nil, fmt.Errorf("judge: %w", err)
		}
		j.Floor = d
	}
	j.measure = func(x []float32) (training.Metrics, error) {
		d, err := diag.PatchSWD(train.X(), train.H, train.W, x, train.H, train.W, train.C, 1)
		return training.Metrics{"patch_swd": d, "sharpness": diag.Steepness(x, train.H, train.W) / max(steep, 1e-9)}, err
	}
	return j, nil
}
