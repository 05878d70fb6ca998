package abp

import (
	"fmt"
	"math/rand/v2"

	"ebmrun/training/data"
)

// masks tell what learning may see of each example.
type masks struct {
	pixels, channels int
	given            []uint8 // [N, pixels], 1 is visible; nil for masks that are drawn
	draw             func(rng *rand.Rand, visible []float32)
	seed             uint64
}

// newMasks are those that the settings ask for; for masks from a file [System.Hide] follows.
func newMasks(c Config, set *data.Set, seed uint64) (m masks, err error) {
	m = masks{pixels: set.Dim() / set.C, channels: set.C, seed: seed}
	if set.H == 1 && set.W == 1 {
		m.pixels, m.channels = set.C, 1
	}
	switch share, side := c.Data.Hidden, c.Data.Square; {
	case share > 0:
		m.draw = func(rng *rand.Rand, visible []float32) {
			for j := range visible {
				if rng.Float64() < share {
					visible[j] = 0
				}
			}
		}
	case side > min(set.H, set.W):
		return m, fmt.Errorf("data.square: a square of %d pixels does not fit into examples of %d×%d", side, set.H, set.W)
	case side > 0:
		m.draw = func(rng *rand.Rand, visible []float32) {
			y, x := rng.IntN(set.H-side+1), rng.IntN(set.W-side+1)
			for i := range side {
				fill(visible[(y+i)*set.W+x:][:side], 0)
			}
		}
	}
	return m, nil
}

// hidden reports whether anything is.
func (m *masks) hidden() bool { return m.draw != nil || m.given != nil }

// write writes the masks of the given examples, [n, dim]: 1 is visible. A drawn
// mask is a function of seed and example.
func (m *masks) write(index []int, mask []float32) {
	fill(mask, 1)
	if !m.hidden() {
		return
	}
	for k, i := range index {
		row := mask[k*m.pixels*m.channels:][:m.pixels*m.channels]
		first := row[:m.pixels]
		if m.given != nil {
			for j, v := range m.given[i*m.pixels:][:m.pixels] {
				first[j] = float32(v)
			}
		} else {
			m.draw(rand.New(rand.NewPCG(m.seed, 1<<50+uint64(i))), first)
		}
		for c := 1; c < m.channels; c++ {
			copy(row[c*m.pixels:], first)
		}
	}
}

// Hide gives every training example a mask, or all the same: [N, pixels] or
// [1, pixels] values, above 0 where a pixel is missing. They are stored with the
// codes.
func (s *System) Hide(missing *data.Set) error {
	m := &s.masks
	if missing.C != 1 || missing.H != s.set.H || missing.W != s.set.W {
		return fmt.Errorf("abp: data.masks: masks of %d×%d×%d, wanted 1×%d×%d as the examples", missing.C, missing.H, missing.W, s.set.H, s.set.W)
	}
	if missing.N != 1 && missing.N != s.set.N {
		return fmt.Errorf("abp: data.masks: %d masks for %d examples, wanted one each, or one", missing.N, s.set.N)
	}
	given := make([]uint8, s.set.N*m.pixels)
	for i := range s.set.N {
		seen := 0
		for j, v := range missing.At(i % missing.N) {
			if v <= 0 {
				given[i*m.pixels+j] = 1
				seen++
			}
		}
		if seen == 0 {
			return fmt.Errorf("abp: data.masks: mask %d hides all of its example, wanted something visible", i)
		}
	}
	m.given, m.draw = given, nil
	return nil
}
