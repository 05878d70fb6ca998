package training

import "math"

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
