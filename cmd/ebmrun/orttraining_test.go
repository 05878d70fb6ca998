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
// gradients: the weights agree to 1e-3 in norm, tensor by tensor, and with smooth
// activations far below, since there rounding decides no slope.
func TestSecondSource(t *testing.T) {
	if _, err := orttraining.CPU.Find(); errors.Is(err, orttraining.ErrMissing) && os.Getenv("EBM_REQUIRE_ORT_TRAINING") != "1" {
		t.Skip(err)
	}
	const data, latent = "synthetic/blob16", "--set batch=16 --set prior.steps=10 --set posterior.steps=5 --set infer=3"
	const swish = " --set generator_spec={codes:8,start:4,filters:64,activation:swish,tanh:true,layers:[{filters:32,kernel:4,stride:2,pad:1},{kernel:4,stride:2,pad:1}]}"
	for name, c := range map[string]struct {
		args   string
		wanted float64
	}{
		"generative-convnet": {"--set batch=16 --set chains.buffer=64", 1e-3},
		"coopnets":           {"--set batch=16", 1e-3},
		"latent-ebm":         {latent, 1e-3},
		"latent-ebm/swish":   {latent + swish, 1e-5},
	} {
		t.Run(name, func(t *testing.T) {
			weights := map[string]map[string][]float32{}
			for _, source := range []string{builtin, ortTraining} {
				dir := filepath.Join(t.TempDir(), "run")
				system, _, _ := strings.Cut(name, "/")
				line := append([]string{"train", system, "--data", data, "--steps", "5", "--provider", "cpu", "--gradients", source, "--quiet", "--out", dir}, strings.Fields(c.args)...)
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
			worst := 0.0
			for name, want := range weights[builtin] {
				got := weights[ortTraining][name]
				var d, n float64
				for i, v := range want {
					e := float64(got[i] - v)
					d, n = d+e*e, n+float64(v)*float64(v)
				}
				if worst = max(worst, math.Sqrt(d/n)); !(math.Sqrt(d) <= c.wanted*math.Sqrt(n)) {
					t.Errorf("%s: relative distance %.2g, wanted %g", name, math.Sqrt(d/n), c.wanted)
				}
			}
			t.Logf("%s: largest relative distance %.2g", name, worst)
			if len(weights[builtin]) < 4 {
				t.Errorf("only %d tensors of weights", len(weights[builtin]))
			}
		})
	}
}
