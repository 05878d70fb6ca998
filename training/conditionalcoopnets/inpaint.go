package conditionalcoopnets

import (
	"context"
	"fmt"
	"slices"

	"ebmrun/training"
)

// An Inpainter fills in what is missing of examples. Its conditions are examples whose missing
// values are Blank, as they were in learning.
type Inpainter struct {
	*Model
	Blank float32
}

var _ training.Reconstructor = Inpainter{}

// Reconstruct implements [training.Reconstructor]: solutions for what is known. What mask hides
// of x is not looked at.
func (m Inpainter) Reconstruct(ctx context.Context, x, mask []float32, seed uint64) ([]float32, error) {
	if mask != nil && len(mask) != len(x) {
		return nil, fmt.Errorf("conditional-coopnets: wanted a mask of %d values, got %d", len(x), len(mask))
	}
	known := slices.Clone(x)
	for i, v := range mask {
		if v == 0 {
			known[i] = m.Blank
		}
	}
	return m.Translate(ctx, known, seed)
}
