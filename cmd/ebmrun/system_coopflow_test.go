package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestSampleCoopFlow: chains of a run begin at drafts of its flow, and elsewhere only where
// that is asked for.
func TestSampleCoopFlow(t *testing.T) {
	run, out := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "s.png")
	ebmrun(t, "train", "coopflow", "--data", "synthetic/ring8", "--limit", "60", "--provider", "ref", "--quiet", "--out", run, "--steps", "2",
		"--set", "batch=4", "--set", "begin=8", "--set", "langevin.steps=2").wantOut(t)
	for from, words := range map[string]string{"": "5 chains from drafts, 2 steps", "drafts": "5 chains from drafts", "noise": "5 chains from noise"} {
		args := []string{"sample", run, "--provider", "ref", "--n", "5", "-o", out}
		if from != "" {
			args = append(args, "--from", from)
		}
		if r := ebmrun(t, args...); r.status != 0 || !strings.Contains(r.errOut, words) {
			t.Errorf("--from %q: status %d, wanted %q, got %s", from, r.status, words, r.errOut)
		}
	}
}
