package training_test

import (
	"strings"
	"testing"

	"ebmrun/training"
)

// TestSized: a kind and the side name a preset, other names are keys, and what there is not is refused by name.
func TestSized(t *testing.T) {
	table := map[string]int{"pictures-28": 1, "published-28": 2, "points": 3, "glyphs": 4}
	for _, c := range []struct {
		asked string
		dims  []int
		want  int // 0 is an error
	}{
		{"", []int{1, 28, 28}, 1}, {"small", []int{3, 28, 28}, 1}, {"paper", []int{1, 28, 28}, 2}, {"glyphs", nil, 4},
		{"small", []int{2, 1, 1}, 3}, {"paper", []int{2, 1, 1}, 0}, {"small", []int{1, 28, 32}, 0}, {"small", []int{5}, 0}, {"pictures", []int{1, 28, 28}, 0},
	} {
		got, err := training.Sized("sys", table, training.Pictures, c.asked, c.dims)
		if got != c.want || (err == nil) != (c.want != 0) || err != nil && !strings.Contains(err.Error(), "there are glyphs, pictures-28") {
			t.Errorf("%q for %v: wanted %d, got %d (%v)", c.asked, c.dims, c.want, got, err)
		}
	}
}
