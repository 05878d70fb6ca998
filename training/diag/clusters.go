package diag

// Purity is the share of examples that belong to the class which is most frequent in their cluster.
func Purity(assigned, labels []int) float64 {
	count, most := map[[2]int]int{}, map[int]int{}
	for i, a := range assigned {
		k := [2]int{a, labels[i]}
		count[k]++
		most[a] = max(most[a], count[k])
	}
	right := 0
	for _, n := range most {
		right += n
	}
	return float64(right) / float64(len(labels))
}
