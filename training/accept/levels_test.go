package accept_test

import (
	"context"
	"testing"

	"ebmrun/onnxmodels"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/training/accept"
	"ebmrun/training/bind"
)

// TestExactLevels: the exact items of the systems of several resolutions.
func TestExactLevels(t *testing.T) {
	engine, err := ort.Open("")
	enginetest.Unavailable(t, err)
	for system, item := range map[string]string{"multigrid": "colours", "coarse-to-fine": "expansion"} {
		s, err := accept.Find(system)
		if err != nil {
			t.Fatal(err)
		}
		checks, err := s.Run(t.Context(), accept.Env{Seed: 1, Bind: func(ctx context.Context, m *onnxmodels.Model) (accept.Energy, error) {
			return bind.New(ctx, m, engine, bind.Options{Runtime: runtime.Options{Provider: runtime.CPU, Threads: 1, NoSpin: true}})
		}}, item)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range checks {
			if !c.Met || !c.Exact {
				t.Errorf("%s: %+v", system, c)
			}
		}
		if len(checks) != 2 {
			t.Errorf("%s: %d checks", system, len(checks))
		}
	}
}
