package diag

import (
	"math/rand/v2"
	"testing"
)

// TestProbe: classes that a linear function tells apart are told apart, those of shuffled labels are not, and
// clusters are as pure as their majority.
func TestProbe(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	draw := func(n int) (x []float32, labels []int) {
		for range n {
			l := r.IntN(3)
			labels = append(labels, l)
			for j := range 5 {
				v := r.NormFloat64()
				if j == l {
					v += 4
				}
				x = append(x, float32(100*v)+7)
			}
		}
		return x, labels
	}
	x, labels := draw(300)
	p, err := FitProbe(x, labels, 3, 1e-3)
	if err != nil {
		t.Fatal(err)
	}
	y, want := draw(300)
	if a := Accuracy(p.Classify(y), want); a < 0.95 {
		t.Errorf("accuracy %.3f on new examples", a)
	}
	shuffled := append([]int(nil), labels...)
	r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	if p, err = FitProbe(x, shuffled, 3, 1e-3); err != nil {
		t.Fatal(err)
	}
	if a := Accuracy(p.Classify(y), want); a > 0.6 {
		t.Errorf("accuracy %.3f with shuffled labels", a)
	}
	if _, err := FitProbe(x, labels, 2, 0); err == nil {
		t.Error("a label beyond the classes is accepted")
	}
	if got := Purity([]int{0, 0, 0, 1}, []int{5, 5, 6, 6}); got != 0.75 {
		t.Errorf("purity %g, wanted 0.75", got)
	}
}
