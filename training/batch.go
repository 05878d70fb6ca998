package training

import (
	"math"

	"ebmrun/training/optim"
)

// Mean is the mean of x.
func Mean(x []float32) float64 { m, _ := Moments(x); return m }

// Moments are the mean and the standard deviation of x.
func Moments(x []float32) (mean, sd float64) {
	for _, v := range x {
		mean += float64(v)
	}
	mean /= float64(len(x))
	for _, v := range x {
		sd += (float64(v) - mean) * (float64(v) - mean)
	}
	return mean, math.Sqrt(sd / float64(len(x)))
}

// Compare tells how data and samples differ: in their scores [n data, n samples], whose difference is V, and in
// mean and deviation.
func (m Metrics) Compare(observed, samples, score []float32) {
	n := len(score) / 2
	fd, fs := Mean(score[:n]), Mean(score[n:])
	m[Value], m["score_data"], m["score_samples"] = fd-fs, fd, fs
	m["sample_mean"], m[SampleStd] = Moments(samples)
	_, m[DataStd] = Moments(observed)
}

// MSE is the mean squared difference of two batches, per entry.
func MSE(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		d := float64(a[i] - b[i])
		sum += d * d
	}
	return sum / float64(len(a))
}

// Ones is n times 1: the mask that knows all.
func Ones(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = 1
	}
	return x
}

// Blocks calls f for one range of at most size numbers below n after another:
// networks are compiled for a number of examples each, and many need much memory.
func Blocks(n, size int, f func(from, to int) error) error {
	for from := 0; from < n; from += size {
		if err := f(from, min(from+size, n)); err != nil {
			return err
		}
	}
	return nil
}

// Pieces learns from n examples in pieces of at most so many, all at once for 0: learn sets
// the gradients to sums over the examples from a to b, Pieces to those over all.
func Pieces(params []optim.Param, n, piece int, learn func(a, b int) error) error {
	if piece <= 0 || piece >= n {
		return learn(0, n)
	}
	sums := make([][]float32, len(params))
	err := Blocks(n, piece, func(a, b int) error {
		if err := learn(a, b); err != nil {
			return err
		}
		for i, p := range params {
			if sums[i] == nil {
				sums[i] = make([]float32, len(p.G))
			}
			for j, g := range p.G {
				sums[i][j] += g
			}
		}
		return nil
	})
	for i, p := range params {
		copy(p.G, sums[i])
	}
	return err
}
