package main

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	weightfile "ebmrun/export/weights"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
)

func TestBenchUsage(t *testing.T) {
	ebmrun(t, "bench", "--list").wantOut(t, "sr16", "sr32", "sr64", "mlp2d", "latent", "convnet-iteration")
	r := ebmrun(t, "bench", "--list", "--json")
	var rows []map[string]string
	if err := json.Unmarshal([]byte(r.out), &rows); err != nil || len(rows) != len(workloads) || rows[0]["name"] != "sr16" {
		t.Errorf("got %v, %v", rows, err)
	}
	ebmrun(t, "bench").wantError(t, 2, "sr16")
	ebmrun(t, "bench", "sr17").wantError(t, 2, `"sr17"`, "sr16")
	ebmrun(t, "bench", "sr16", "--list").wantError(t, 2, "takes no workload")
	ebmrun(t, "bench", "sr16", "--chains", "3").wantError(t, 2, "at least 7")
	ebmrun(t, "bench", "sr16", "--fused", "perhaps").wantError(t, 2, "perhaps")
	ebmrun(t, "bench", "posterior", "--fused", "yes").wantError(t, 2, "no fused form")
	ebmrun(t, "bench", "matmul", "--batch", "3").wantError(t, 2, "has its own")
	ebmrun(t, "bench", "sr16", "--batch", "-3").wantError(t, 2, "-3")
	ebmrun(t, "bench", "sr17.onnx").wantError(t, 2, "sr17.onnx")
}

// TestLangevinWorkload: a workload runs the way it is asked to.
func TestLangevinWorkload(t *testing.T) {
	start := langevin(dense(8), 40, 5, 2)
	for _, fused := range []bool{false, true} {
		r, err := start(t.Context(), ref.New(), runtime.Options{}, setting{fused: fused})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := r.chain(); err != nil {
				t.Fatal(err)
			}
		}
		if len(r.reports()) != 1 {
			t.Errorf("fused %v ran %d programs", fused, len(r.reports()))
		}
		for name := range r.reports() {
			if strings.Contains(name, "fused") != fused {
				t.Errorf("fused %v ran %s", fused, name)
			}
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}
}

// TestMeasure: the faster way is taken, and the median is that of its chains.
func TestMeasure(t *testing.T) {
	closed := map[bool]int{}
	w := workload{Name: "w", start: func(_ context.Context, _ runtime.Engine, _ runtime.Options, s setting) (*rig, error) {
		wait := 20 * time.Millisecond
		if s.fused {
			wait = time.Millisecond
		}
		return &rig{
			steps: 10, work: 2, chain: func() error { time.Sleep(wait); return nil },
			reports: func() map[string]runtime.Report { return map[string]runtime.Report{"": {Provider: "cpu"}} },
			close:   func() error { closed[s.fused]++; return nil },
		}, nil
	}}
	for _, ways := range [][]bool{{false, true}, {true, false}} {
		clear(closed)
		m, err := measure(t.Context(), w, ref.New(), runtime.Options{}, setting{}, ways, 7)
		if err != nil {
			t.Fatal(err)
		}
		if !m.Fused || m.Provider != "cpu" || !(m.MsPerStep >= 0.1 && m.MsPerStep < 2) ||
			!(m.Spread[0] <= m.MsPerStep && m.MsPerStep <= m.Spread[1]) || m.GFLOP != 2 {
			t.Errorf("got %+v", *m)
		}
		if closed[true] != 1 || closed[false] != 1 {
			t.Errorf("closed %v, wanted each way once", closed)
		}
	}
	boom := errors.New("boom")
	w.start = func(context.Context, runtime.Engine, runtime.Options, setting) (*rig, error) {
		return &rig{steps: 1, chain: func() error { return boom }, close: func() error { return nil }}, nil
	}
	if _, err := measure(t.Context(), w, ref.New(), runtime.Options{}, setting{}, []bool{true}, 7); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}

func TestBench(t *testing.T) {
	library(t)
	r := ebmrun(t, "bench", "latent", "--json", "--provider", "cpu", "--fused", "no", "--quiet")
	var m measurement
	if err := json.Unmarshal([]byte(r.out), &m); err != nil {
		t.Fatalf("%v: %q %q", err, r.out, r.errOut)
	}
	if m.Workload != "latent" || m.Provider != "cpu" || m.Fused || !(m.MsPerStep > 0) || !(m.PeakMB > 1) {
		t.Errorf("got %+v", m)
	}
}

// TestWriteWorkload: what is written holds the start, the end and the weights, and
// the network is a file that can be measured itself.
func TestWriteWorkload(t *testing.T) {
	library(t)
	dir := t.TempDir()
	for _, w := range []string{"latent", "latent-ebm-iteration"} {
		if r := ebmrun(t, "bench", w, "--write", dir, "--provider", "cpu", "--quiet"); r.status != 0 {
			t.Fatal(r.errOut)
		}
	}
	have, _, err := weightfile.Read(filepath.Join(dir, "latent.npz"))
	if err != nil {
		t.Fatal(err)
	}
	start, end := have["start/x"], have["end/x"]
	if start == nil || end == nil || have["weight/layer1.weight"] == nil || slices.Equal(start.F32(), end.F32()) {
		t.Errorf("wrote %d tensors, and a chain that stood still", len(have))
	}
	have, _, err = weightfile.Read(filepath.Join(dir, "latent-ebm-iteration.npz"))
	if err != nil || have["start/prior/layer1.weight"] == nil || have["end/optim/1/m/layer1.weight"] == nil || have["x"] == nil {
		t.Errorf("an iteration: %v, %d tensors", err, len(have))
	}
	r := ebmrun(t, "bench", filepath.Join(dir, "latent-ebm.onnx"))
	r.wantError(t, 2, "latent-ebm.onnx")
}
