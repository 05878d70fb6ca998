package filters

import (
	"fmt"
	"slices"

	"ebmrun/onnxmodels/energy"
)

// Kernels groups filters by size, the largest first, as energies take them; inside a group the order
// is kept.
func Kernels(bank []Filter) ([]energy.Kernels, error) {
	var sizes []int
	for _, f := range bank {
		if f.Size < 1 || f.Size%2 == 0 || len(f.Taps) != f.Size*f.Size {
			return nil, fmt.Errorf("filters: %s: wanted an odd size and its square of taps, got %d and %d", f.Name, f.Size, len(f.Taps))
		}
		if !slices.Contains(sizes, f.Size) {
			sizes = append(sizes, f.Size)
		}
	}
	slices.Sort(sizes)
	slices.Reverse(sizes)
	groups := make([]energy.Kernels, len(sizes))
	for i, size := range sizes {
		groups[i].Size = size
		for _, f := range bank {
			if f.Size == size {
				groups[i].Taps = append(groups[i].Taps, f.Taps...)
			}
		}
	}
	return groups, nil
}
