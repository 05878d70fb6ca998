package diag_test

import (
	"math"
	"testing"

	"ebmrun/training/diag"
)

// TestSaliency: scores of maps of 6×6 whose values were worked out from the definitions,
// of a square object.
func TestSaliency(t *testing.T) {
	soft := []float32{10, 20, 10, 0, 0, 0, 30, 60, 50, 40, 10, 0, 60, 200, 230, 180, 30, 10, 50, 220, 255, 160, 40, 20, 40, 150, 210, 120, 90, 30, 10, 60, 40, 30, 20, 0}
	truth, inverse, flat := make([]float32, 36), make([]float32, 36), make([]float32, 36)
	for i := range soft {
		soft[i] /= 255
		flat[i] = 128. / 255
		if r, c := i/6, i%6; r >= 2 && r <= 4 && c >= 1 && c <= 3 {
			truth[i] = 1
		}
		inverse[i] = 1 - truth[i]
	}
	for name, c := range map[string]struct {
		maps []float32
		want diag.Saliency
	}{
		"soft":     {soft, diag.Saliency{.144880, .878644, .971963, .749096, 1, .996018, .760450, 1.028571, .759257}},
		"truth":    {truth, diag.Saliency{0, 1, 1, .997275, 1, 1.028571, 1.025558, 1.028571, 1}},
		"inverse":  {inverse, diag.Saliency{1, 0, 0, .001181, .302326, 0, .001004, .257143, .131625}},
		"constant": {flat, diag.Saliency{.500980, .399527, 0, .152344, .302326, .257143, .257143, .257143, .383559}},
	} {
		got, err := diag.SaliencyOf(c.maps, truth, 6, 6)
		if err != nil {
			t.Fatal(name, err)
		}
		for what, v := range map[string][2]float64{
			"MAE": {got.MAE, c.want.MAE}, "S": {got.S, c.want.S}, "adaptive F": {got.AdaptiveF, c.want.AdaptiveF}, "mean F": {got.MeanF, c.want.MeanF},
			"max F": {got.MaxF, c.want.MaxF}, "adaptive E": {got.AdaptiveE, c.want.AdaptiveE}, "mean E": {got.MeanE, c.want.MeanE}, "max E": {got.MaxE, c.want.MaxE}, "weighted F": {got.WeightedF, c.want.WeightedF},
		} {
			if math.Abs(v[0]-v[1]) > 2e-6 {
				t.Errorf("%s: %s: wanted %g, got %g", name, what, v[1], v[0])
			}
		}
	}
	// the maximum is that of the average curve, not the average of the maxima
	both, err := diag.SaliencyOf(append(append([]float32(nil), inverse...), soft...), append(append([]float32(nil), truth...), truth...), 6, 6)
	if err != nil || both.MaxF >= (1+.302326)/2 || both.MaxF < 0.5 {
		t.Errorf("max F of two maps: %g (%v)", both.MaxF, err)
	}
	// every true map scores 1, also where a block is all salient
	strip := make([]float32, 20*15)
	for i := range strip {
		strip[i] = float32(i % 15 / 11)
	}
	if s, err := diag.SaliencyOf(strip, strip, 20, 15); err != nil || math.Abs(s.S-1) > 1e-9 {
		t.Errorf("a true map: %+v (%v)", s, err)
	}
	// nothing or everything salient
	none := make([]float32, 36)
	if s, err := diag.SaliencyOf(none, none, 6, 6); err != nil || s.MAE != 0 || s.S != 1 {
		t.Errorf("empty maps: %+v (%v)", s, err)
	}
	if _, err := diag.SaliencyOf(soft, truth[1:], 6, 6); err == nil {
		t.Error("maps of a wrong size were taken")
	}
}
