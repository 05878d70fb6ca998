package sparseframe

import (
	"slices"
	"testing"

	"ebmrun/training/data"
	"ebmrun/training/sampler"
)

// TestCluster tells pictures of flat waves from pictures of upright ones.
func TestCluster(t *testing.T) {
	c := config(Boost, func(c *Config) { c.Local, c.Atoms, c.Steps = false, 6, 10 })
	d := dictionaryOf(t, c, 24)
	set := &data.Set{Name: "waves", N: 12, C: 1, H: 24, W: 24, Gain: 1}
	for n := range set.N {
		x := make([]float32, 24*24)
		sampler.Noise{Seed: 4}.Normals(x, sampler.Chains(uint64(n), 1), 0)
		for _, p := range []int{8, 15} {
			d.add(x, Atom{n % 2 * 4, p, p}, 8)
		}
		set.Floats = append(set.Floats, x...)
	}
	got, err := Cluster(t.Context(), c, set, 2, 10, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	odd := 0
	for n, a := range got {
		odd += (a + n) % 2
	}
	if odd = min(odd, set.N-odd); odd > 1 {
		t.Errorf("clusters %v, wanted every other picture in the same", got)
	}
	if _, err := Cluster(t.Context(), c, set, 13, 5, 2, 1); err == nil {
		t.Error("13 clusters of 12 pictures are accepted")
	}
}

func TestReseed(t *testing.T) {
	assigned := []int{0, 0, 0}
	Reseed(assigned, [][]float64{{3, 1, 2}, {0, 0, 0}})
	if !slices.Equal(assigned, []int{0, 1, 0}) {
		t.Errorf("an empty cluster was begun anew as %v", assigned)
	}
}
