package backbone

import (
	"sort"
	"strings"

	"ebmrun/graphs"
)

// valuesOf are the names of what a graph computes.
func valuesOf(g *graphs.Graph) []string {
	var names []string
	for _, n := range g.Nodes {
		for _, v := range n.Outputs {
			if v != nil {
				names = append(names, v.Name)
			}
		}
	}
	return names
}

// nearest are the three names that a mistyped one is closest to.
func nearest(name string, names []string) string {
	far := map[string]int{}
	for _, s := range names {
		far[s] = distance(strings.ToLower(name), strings.ToLower(s))
	}
	sorted := append([]string(nil), names...)
	sort.SliceStable(sorted, func(i, j int) bool { return far[sorted[i]] < far[sorted[j]] })
	if len(sorted) > 3 {
		sorted = sorted[:3]
	}
	if len(sorted) == 0 {
		return "none"
	}
	return strings.Join(sorted, ", ")
}

// distance is the number of letters to insert, drop or change that make b of a.
// Letters before and after a name that is contained cost half a letter.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	if a != "" && strings.Contains(b, a) {
		return (len(b) - len(a)) / 2
	}
	return row[len(b)]
}
