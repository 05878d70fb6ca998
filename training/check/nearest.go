package check

import (
	"fmt"
	"slices"
	"strings"
)

// Instead ends a message about a name that is none of those there are: with the one that may have been
// meant, otherwise with all of them, or with the first where they are many.
func Instead(name string, names []string) string {
	if near := Nearest(name, names); near != "" {
		return `did you mean "` + near + `"?`
	}
	switch n := len(names); {
	case n == 1:
		return "there is " + names[0]
	case n > 30:
		return fmt.Sprintf("there are %s and %d more", strings.Join(names[:12], ", "), n-12)
	}
	return "there are " + strings.Join(names, ", ")
}

// Nearest is the name that differs from a misspelled one by the fewest letters, "" if by more than a
// third of them; failing that the shortest that has the name as one of its words. Case, hyphens, dots and
// underscores do not count.
func Nearest(name string, names []string) string {
	plain := func(s string) []rune {
		return []rune(strings.ToLower(strings.NewReplacer("-", "", "_", "", ".", "", " ", "").Replace(s)))
	}
	asked, best := plain(name), ""
	least := len(asked)/3 + 1
	for _, n := range names {
		if d := edits(asked, plain(n)); d < least {
			best, least = n, d
		}
	}
	if best != "" || len(asked) < 2 {
		return best
	}
	for _, n := range names { // a word of a longer name, such as lr of optim.lr
		words := strings.FieldsFunc(n, func(r rune) bool { return strings.ContainsRune("-_./", r) })
		if slices.Contains(words, name) && (best == "" || len(n) < len(best)) {
			best = n
		}
	}
	return best
}

// edits counts the letters to change, insert, leave out or swap with the next that make b of a.
func edits(a, b []rune) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range b {
		d[0][j+1] = j + 1
	}
	for i := range a {
		for j := range b {
			change := d[i][j]
			if a[i] != b[j] {
				change++
			}
			d[i+1][j+1] = min(change, d[i][j+1]+1, d[i+1][j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d[i+1][j+1] = min(d[i+1][j+1], d[i-1][j-1]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
