package diag

import (
	"fmt"
	"math"
)

// A Probe classifies examples by a linear function of their features: how well it does says what the features
// tell about the classes.
type Probe struct {
	classes, dim int
	mean, scale  []float64
	w            []float64 // [classes, dim+1], the last of each row is its offset
}

// FitProbe fits a multinomial logistic regression to features [n, dim] of examples with labels from 0 to
// classes−1. Features are brought to mean 0 and deviation 1; l2 is the strength of the Gaussian prior of the
// weights, as a share of one example's loss.
func FitProbe(features []float32, labels []int, classes int, l2 float64) (*Probe, error) {
	n := len(labels)
	if n == 0 || len(features)%n != 0 || len(features) == 0 || classes < 2 {
		return nil, fmt.Errorf("diag: probe: %d values for %d labels of %d classes", len(features), n, classes)
	}
	for _, l := range labels {
		if l < 0 || l >= classes {
			return nil, fmt.Errorf("diag: probe: label %d of %d classes", l, classes)
		}
	}
	p := &Probe{classes: classes, dim: len(features) / n}
	p.mean, p.scale = make([]float64, p.dim), make([]float64, p.dim)
	for i, v := range features {
		p.mean[i%p.dim] += float64(v) / float64(n)
	}
	for i, v := range features {
		d := float64(v) - p.mean[i%p.dim]
		p.scale[i%p.dim] += d * d / float64(n)
	}
	for j, v := range p.scale {
		if p.scale[j] = 0; v > 1e-12 {
			p.scale[j] = 1 / math.Sqrt(v)
		}
	}
	x := p.prepare(features)
	score, wide := make([]float64, classes), p.dim+1
	descend := func(w, g []float64) {
		for i := range g {
			g[i] = l2 * w[i]
		}
		for i, l := range labels {
			row := x[i*wide : (i+1)*wide]
			total := logistic(score, w, row)
			for c := range classes {
				r := math.Exp(score[c] - total)
				if c == l {
					r--
				}
				for j, v := range row {
					g[c*wide+j] += r * v / float64(n)
				}
			}
		}
	}
	// Nesterov's accelerated descent: no slope changes faster than by half the largest eigenvalue of the
	// features' second moments.
	const iterations = 300
	rate := 1 / (l2 + largest(x, wide)/2)
	p.w = make([]float64, classes*wide)
	ahead, slope := make([]float64, len(p.w)), make([]float64, len(p.w))
	for t := range iterations {
		descend(ahead, slope)
		for k, v := range ahead {
			next := v - rate*slope[k]
			ahead[k] = next + float64(t)/float64(t+3)*(next-p.w[k])
			p.w[k] = next
		}
	}
	return p, nil
}

// largest is the largest eigenvalue of the second moments of rows x [n, d], by iteration.
func largest(x []float64, d int) (value float64) {
	v := make([]float64, d)
	for j := range v {
		v[j] = 1 / math.Sqrt(float64(d))
	}
	for range 30 {
		next := make([]float64, d)
		for row := x; len(row) > 0; row = row[d:] {
			dot := 0.0
			for j, w := range v {
				dot += w * row[j]
			}
			for j := range next {
				next[j] += dot * row[j] * float64(d) / float64(len(x))
			}
		}
		value = 0
		for _, w := range next {
			value += w * w
		}
		value = math.Sqrt(value)
		for j := range v {
			v[j] = next[j] / value
		}
	}
	return 1.1 * value // it comes from below
}

// logistic writes the linear scores of a row and returns the logarithm of the sum of their exponentials.
func logistic(score, w, row []float64) float64 {
	most := math.Inf(-1)
	for c := range score {
		score[c] = 0
		for j, v := range row {
			score[c] += v * w[c*len(row)+j]
		}
		most = max(most, score[c])
	}
	sum := 0.0
	for _, s := range score {
		sum += math.Exp(s - most)
	}
	return most + math.Log(sum)
}

// prepare standardises features and appends the 1 that offsets multiply.
func (p *Probe) prepare(features []float32) (x []float64) {
	for i, v := range features {
		j := i % p.dim
		x = append(x, (float64(v)-p.mean[j])*p.scale[j])
		if j == p.dim-1 {
			x = append(x, 1)
		}
	}
	return x
}

// Classify returns the likeliest class of each example by its features.
func (p *Probe) Classify(features []float32) (classes []int) {
	x, score := p.prepare(features), make([]float64, p.classes)
	for ; len(x) > 0; x = x[p.dim+1:] {
		logistic(score, p.w, x[:p.dim+1])
		best := 0
		for c, s := range score {
			if s > score[best] {
				best = c
			}
		}
		classes = append(classes, best)
	}
	return classes
}

// Accuracy is the share of labels that were given right.
func Accuracy(got, labels []int) float64 {
	right := 0
	for i, l := range labels {
		if got[i] == l {
			right++
		}
	}
	return float64(right) / float64(len(labels))
}
