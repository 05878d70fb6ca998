package main

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/runtime/orttraining"
	"ebmrun/training/checkpoint"
)

// TestSecondSource has systems learn for five iterations with both sources of
// gradients: the weights agree to 1e-3 in norm, tensor by tensor.
func TestSecondSource(t *testing.T) {
	if _, err := orttraining.CPU.Find(); errors.Is(err, orttraining.ErrMissing) && os.Getenv("EBM_REQUIRE_ORT_TRAINING") != "1" {
		t.Skip(err)
	}
	for system, args := range map[string]string{
		"generative-convnet": "--data synthetic/blob16 --set batch=16 --set chains.buffer=64",
		"coopnets":           "--data synthetic/blob16 --set batch=16",
		"latent-ebm":         "--data synthetic/blob16 --set batch=16 --set prior.steps=10 --set posterior.steps=5 --set infer=3",
	} {
		t.Run(system, func(t *testing.T) {
			weights := map[string]map[string][]float32{}
			for _, source := range []string{builtin, ortTraining} {
				dir := filepath.Join(t.TempDir(), "run")
				line := append([]string{"train", system, "--steps", "5", "--provider", "cpu", "--gradients", source, "--quiet", "--out", dir}, strings.Fields(args)...)
				ebmrun(t, line...).wantOut(t)
				st, err := checkpoint.Load(filepath.Join(dir, "checkpoints"), checkpoint.Last)
				if err != nil {
					t.Fatal(err)
				}
				weights[source] = map[string][]float32{}
				for name, x := range st.Tensors {
					if w, ok := x.Data.([]float32); ok && !strings.HasPrefix(name, "optim") && !strings.HasPrefix(name, "teach") && len(w) > 1 {
						weights[source][name] = w
					}
				}
			}
			for name, want := range weights[builtin] {
				got := weights[ortTraining][name]
				var d, n float64
				for i, v := range want {
					e := float64(got[i] - v)
					d, n = d+e*e, n+float64(v)*float64(v)
				}
				if !(math.Sqrt(d) <= 1e-3*math.Sqrt(n)) {
					t.Errorf("%s: relative distance %.2g", name, math.Sqrt(d/n))
				}
			}
			if len(weights[builtin]) < 4 {
				t.Errorf("only %d tensors of weights", len(weights[builtin]))
			}
		})
	}
}
