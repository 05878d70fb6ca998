package shortrun

import (
	"context"
	"fmt"
)

// SlopeKnown is [Generator.Slope] of the squared error over the entries where known is
// 1, ‖known·(x − M(z))‖², and returns M(z) too. A nil known is 1 everywhere.
func (g *Generator) SlopeKnown(ctx context.Context, z, x, known []float32) (loss []float64, slope, made []float32, err error) {
	if len(x) != len(z) || known != nil && len(known) != len(z) {
		return nil, nil, nil, fmt.Errorf("shortrun: wanted as many values as starts, got %d, %d and a mask of %d", len(z), len(x), len(known))
	}
	p, err := g.walk(ctx, z)
	if err != nil {
		return nil, nil, nil, err
	}
	made = p.at[g.K]
	loss, slope = make([]float64, len(z)/g.Dim), make([]float32, len(z))
	for i, y := range made {
		if known != nil && known[i] == 0 {
			continue
		}
		d := float64(y) - float64(x[i])
		loss[i/g.Dim] += d * d
		slope[i] = float32(2 * d)
	}
	return loss, slope, made, g.pullBack(ctx, p, slope)
}
