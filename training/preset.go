package training

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Preset is the entry pick of a system's table of presets. Where there is none the
// error says what was asked for, for examples of what dimensions, and what there
// is.
func Preset[T any](system string, table map[string]T, pick, asked string, dims []int) (T, error) {
	p, ok := table[pick]
	if !ok {
		return p, fmt.Errorf("%s: no preset %q for examples of %v; there are %s", system, asked, dims, strings.Join(slices.Sorted(maps.Keys(table)), ", "))
	}
	return p, nil
}
