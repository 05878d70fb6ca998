package exam_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"ebmrun/training"
	"ebmrun/training/data"
	"ebmrun/training/exam"
	"ebmrun/training/record"
)

// halves draws its seed and rebuilds half of everything.
type halves struct{ dim int }

func (h halves) Draw(_ context.Context, n int, seed uint64) ([]float32, error) {
	x := training.Ones(n * h.dim)
	for i := range x {
		x[i] = float32(seed) / 10
	}
	return x, nil
}

func (h halves) Reconstruct(_ context.Context, x, _ []float32, _ uint64) ([]float32, error) {
	y := slices.Clone(x)
	for i := range y {
		y[i] /= 2
	}
	return y, nil
}

// set is examples in a plane that two components span.
func set(n int) *data.Set {
	s := &data.Set{Name: "plane", N: n, C: 1, H: 2, W: 2, Lo: -1, Hi: 1, Gain: 1, Floats: make([]float32, 4*n)}
	for i := range n {
		a, b := float32(math.Sin(float64(i)))/3, float32(math.Cos(float64(3*i)))/4
		copy(s.At(i), []float32{a, b, a + b, a - b})
	}
	return s
}

func TestEvaluate(t *testing.T) {
	s := set(40)
	e := exam.Exam{Seed: 3, Held: s, Learned: s, Codes: 2}
	m, err := e.Evaluate(t.Context(), halves{4})
	if err != nil {
		t.Fatal(err)
	}
	square := 0.0
	for _, v := range s.X() {
		square += float64(v) * float64(v) / float64(len(s.X()))
	}
	if want := square / 4; math.Abs(m["held_out/mse"]-want) > 1e-6 || m[training.Objective] != m["held_out/mse"] {
		t.Errorf("wanted an error of %g, got %v", want, m)
	}
	if pca := m["held_out/pca_mse"]; math.Abs(pca) > 1e-8 {
		t.Errorf("two components leave %g", pca)
	}
	one := exam.Exam{Held: s, Learned: s, Codes: 1}
	if m, err := one.Evaluate(t.Context(), halves{4}); err != nil || m["held_out/pca_mse"] < 1e-3 {
		t.Errorf("one component leaves %v (%v)", m, err)
	}
	e.JudgeN, e.Judge = 7, func(x []float32) (training.Metrics, error) {
		if len(x) != 28 || x[0] != 0.3 {
			t.Errorf("judged %d values of %g", len(x), x[0])
		}
		return training.Metrics{training.Objective: 5}, nil
	}
	if m, err = e.Evaluate(t.Context(), halves{4}); err != nil || m[training.Objective] != 5 {
		t.Errorf("the judge's objective is lost: %v (%v)", m, err)
	}
	e.Judge = func(x []float32) (training.Metrics, error) {
		return training.Metrics{training.Objective: 6, "d": float64(x[0])}, nil
	}
	if err := e.Beside(m, "other/", []float32{4}); err != nil || m["other/d"] != 4 || m[training.Objective] != 5 {
		t.Errorf("beside the draws: %v (%v)", m, err)
	}
	bad := errors.New("bad")
	e.Judge = func([]float32) (training.Metrics, error) { return nil, bad }
	if _, err = e.Evaluate(t.Context(), halves{4}); !errors.Is(err, bad) {
		t.Errorf("wanted the judge's error, got %v", err)
	}
	var none exam.Exam
	if m, err := none.Evaluate(t.Context(), halves{4}); err != nil || len(m) != 0 {
		t.Errorf("an empty exam finds %v (%v)", m, err)
	}
}

func TestPictures(t *testing.T) {
	s := set(5)
	e := exam.Exam{Held: s}
	pics, err := e.Pictures(t.Context(), halves{4}, s)
	if err != nil || len(pics) != 2 || pics[0].Tag != record.SamplesTag || pics[0].Images.N != 100 || pics[1].Rows[1].N != 5 {
		t.Errorf("pictures %v (%v)", pics, err)
	}
	if pics, err := e.Pictures(t.Context(), halves{4}, &data.Set{C: 4, H: 1, W: 1}); err != nil || pics != nil {
		t.Errorf("points have pictures %v (%v)", pics, err)
	}
}
