// Package exam measures and shows systems that draw examples and reconstruct
// given ones: its numbers stand beside those of principal components, and its
// pictures are the same for all.
package exam

import (
	"context"
	"fmt"

	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/diag"
	"ebmrun/training/record"
)

// A Candidate can be examined.
type Candidate interface {
	training.Drawer
	training.Reconstructor
}

// An Exam is what a system is measured with. Its zero value measures nothing.
type Exam struct {
	Seed uint64

	// Judge, if not nil, measures JudgeN draws.
	Judge  func(samples []float32) (training.Metrics, error)
	JudgeN int

	// Held, if not nil, are examples whose reconstruction error is reported, beside
	// that of as many principal components of Learned as there are Codes.
	Held, Learned *data.Set
	Codes         int

	pca float64 // their error, 0 before it is known
}

const (
	rebuilt = 64   // held-out examples at most
	fitted  = 2000 // examples that principal components are fitted to
)

// Evaluate measures draws and reconstructions. What the judge finds of the draws is
// the objective; without a judge the reconstruction error is.
func (e *Exam) Evaluate(ctx context.Context, c Candidate) (training.Metrics, error) {
	m := training.Metrics{}
	if e.Held != nil {
		x := e.Held.Head(min(rebuilt, e.Held.N)).X()
		y, err := c.Reconstruct(ctx, x, nil, e.Seed)
		if err != nil {
			return nil, err
		}
		m["held_out/mse"] = training.MSE(x, y)
		m[training.Objective] = m["held_out/mse"]
		if err := e.components(x); err != nil {
			return nil, err
		}
		if e.pca > 0 {
			m["held_out/pca_mse"] = e.pca
		}
	}
	if e.Judge != nil {
		x, err := c.Draw(ctx, e.JudgeN, e.Seed)
		if err != nil {
			return nil, err
		}
		found, err := e.Judge(x)
		if err != nil {
			return nil, err
		}
		for k, v := range found {
			m[k] = v
		}
	}
	return m, nil
}

// Beside adds what the judge finds of other samples, under names that begin so.
func (e *Exam) Beside(m training.Metrics, prefix string, samples []float32) error {
	found, err := e.Judge(samples)
	if err != nil {
		return err
	}
	for k, v := range found {
		if k != training.Objective {
			m[prefix+k] = v
		}
	}
	return nil
}

// components finds what as many principal components as codes leave of x.
func (e *Exam) components(x []float32) error {
	if e.pca > 0 || e.Learned == nil || e.Codes >= min(e.Learned.Dim(), e.Learned.N-1) {
		return nil
	}
	p, err := diag.FitPCA(e.Learned.Head(min(fitted, e.Learned.N)).X(), e.Learned.Dim(), e.Codes)
	if err != nil {
		return fmt.Errorf("exam: %w", err)
	}
	c, err := p.Coefficients(x)
	if err != nil {
		return fmt.Errorf("exam: %w", err)
	}
	// What is left of x is its length less that of its coefficients.
	sum := 0.0
	for i, v := range x {
		d := float64(v) - p.Mean[i%p.Dim]
		sum += d * d
	}
	for _, v := range c.RawMatrix().Data {
		sum -= v * v
	}
	e.pca = sum / float64(len(x))
	return nil
}

// Pictures are draws, held-out examples above their reconstructions, and ways
// between draws. Examples of the given set that are no pictures have none.
func (e *Exam) Pictures(ctx context.Context, c Candidate, set *data.Set) ([]training.Picture, error) {
	if set.H == 1 && set.W == 1 {
		return nil, nil
	}
	images := func(x []float32) record.Images { return training.Images(set, x) }
	x, err := c.Draw(ctx, 100, e.Seed)
	if err != nil {
		return nil, err
	}
	pics := []training.Picture{{Tag: record.SamplesTag, Images: images(x)}}
	if e.Held != nil {
		x := e.Held.Head(min(16, e.Held.N)).X()
		y, err := c.Reconstruct(ctx, x, nil, e.Seed)
		if err != nil {
			return nil, err
		}
		pics = append(pics, training.Picture{Tag: "reconstructions", Rows: []record.Images{images(x), images(y)}})
	}
	if w, ok := c.(training.Interpolator); ok {
		var rows []record.Images
		for k := range uint64(6) {
			y, err := w.Interpolate(ctx, 2*k+1, 2*k+2, 10)
			if err != nil {
				return nil, err
			}
			rows = append(rows, images(y))
		}
		pics = append(pics, training.Picture{Tag: "interpolations", Rows: rows})
	}
	return pics, nil
}
