package training

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Pictures are the kinds of presets for pictures, for [Sized].
var Pictures = map[string]string{"": "pictures", "small": "pictures", "paper": "published"}

// Sized is [Preset] for presets named by a kind and the side of what they are for, as "pictures-28" is: kinds are the
// kinds that names ask for, any other name is a key of the table. Pictures of one pixel are "points".
func Sized[T any](system string, table map[string]T, kinds map[string]string, asked string, dims []int) (T, error) {
	pick := asked
	if kind, ok := kinds[asked]; ok {
		side := 0
		if n := len(dims); n > 1 && dims[n-1] == dims[n-2] {
			side = dims[n-1]
		}
		if pick = fmt.Sprintf("%s-%d", kind, side); pick == "pictures-1" {
			pick = "points"
		}
	}
	return Preset(system, table, pick, asked, dims)
}

// Named is [Preset] for a table of which "small" asks for one key and "paper" for another, and any other name is a key
// itself. Examples have so many axes, or any number for 0.
func Named[T any](system string, table map[string]T, small, paper, asked string, axes int, dims []int) (T, error) {
	pick := cmp.Or(map[string]string{"": small, "small": small, "paper": paper}[asked], asked)
	if axes > 0 && len(dims) != axes {
		pick = ""
	}
	return Preset(system, table, pick, asked, dims)
}

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
