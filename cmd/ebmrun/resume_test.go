package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestResumeWithoutPreset: pictures of a size that no preset fits are learned by networks
// that are written down; the run goes on, and is opened, by its own file alone.
func TestResumeWithoutPreset(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run")
	data := []string{"--data", "synthetic/shape", "--size", "8", "--limit", "40", "--provider", "ref", "--quiet", "--steps", "2"}
	nets := []string{"--set", "batch=4", "--set", "kl.warmup=0",
		"--set", "generator_spec={codes: 2, start: 4, filters: 2, activation: leaky, tanh: true, layers: [{kernel: 2, stride: 2}]}",
		"--set", "encoder_spec={layers: [{filters: 2, kernel: 4, stride: 4}], activation: leaky}"}
	train := func(more ...string) []string {
		return append(append(append([]string{"train", "vae", "--out", run}, data...), nets...), more...)
	}
	ebmrun(t, train()...).wantError(t, statusBadInput, "no preset")
	ebmrun(t, train("--preset", "pictures-16")...).wantOut(t)
	ebmrun(t, append([]string{"train", "vae", "--resume", "--out", run}, append(data, "--steps", "3")...)...).wantOut(t)
	ebmrun(t, "sample", run, "--provider", "ref", "--n", "2", "-o", filepath.Join(run, "s.png"), "--quiet").wantOut(t)
	ebmrun(t, "train", "vae", "--resume", "--out", run, "--seed", "4", "--quiet").wantError(t, statusBadInput, "--seed 4", "began with 1")
	ebmrun(t, "train", "vae", "--resume", "--out", run, "--size", "16", "--quiet").wantError(t, statusBadInput, "--size 16", "began with 8")
	ebmrun(t, "train", "vae", "--resume", "--out", run, "--set", "no.such=3", "--quiet").wantError(t, statusBadInput, "no.such")
	ebmrun(t, "train", "vae", "--resume", "--out", run, "--set", "generator_spec.codes=3", "--quiet").wantError(t, statusBadInput, "shape", "want")

	// What the file leaves out is zero, and refused where that makes no sense.
	file := filepath.Join(run, "config.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "sigma: 0.6\n", "", 1)), 0o666); err != nil {
		t.Fatal(err)
	}
	ebmrun(t, "train", "vae", "--resume", "--out", run, "--quiet").wantError(t, statusBadInput, "sigma")
}

// TestResumeFromNothing: a run that was killed before its first checkpoint begins, and ends where it would have;
// one that has learned and lost its checkpoints is refused.
func TestResumeFromNothing(t *testing.T) {
	dir := t.TempDir()
	whole, cut := filepath.Join(dir, "whole"), filepath.Join(dir, "cut")
	ebmrun(t, "train", "mrf", "--data", "synthetic/tex-b", "--size", "16", "--steps", "3", "--provider", "ref", "--quiet", "-o", whole).wantOut(t)
	if err := os.Mkdir(cut, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config.yaml", "manifest.json"} { // what stands there first
		text, err := os.ReadFile(filepath.Join(whole, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(cut, name), text)
	}
	resume := []string{"train", "mrf", "--resume", "--quiet", "-o", cut}
	ebmrun(t, resume...).wantOut(t)
	weights := func(run string) string {
		text, err := os.ReadFile(filepath.Join(run, "checkpoints", "step-000003", "tensors.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if weights(cut) != weights(whole) {
		t.Error("it ends elsewhere than the run that was not cut")
	}
	if err := os.RemoveAll(filepath.Join(cut, "checkpoints")); err != nil {
		t.Fatal(err)
	}
	ebmrun(t, resume...).wantError(t, statusBadInput, "no checkpoint")
}

// TestPace: a run of fewer iterations than the settings have says what all would take.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		planned, steps int
		each           time.Duration
		want           string
	}{
		{100, 100, time.Second, ""},
		{100, 2, 1500 * time.Millisecond, "an iteration takes 1.5s: the 100 of these settings would take 2m30s"},
		{750000, 2, 2 * time.Second, "an iteration takes 2s: the 750000 of these settings would take 17 days 9h0m0s"},
	} {
		p := pace{planned: c.planned}
		for range 2 {
			p.took(c.each)
		}
		if got := p.estimate(c.steps); got != c.want {
			t.Errorf("%d of %d iterations: wanted %q, got %q", c.steps, c.planned, c.want, got)
		}
	}
}

// TestDivergesAtOnce: a run whose first iteration goes wrong tries again more slowly, then
// stops as a later one does: its folder stays, and its status is that of the guard.
func TestDivergesAtOnce(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run")
	r := ebmrun(t, "train", "abp", "--data", "synthetic/shape", "--size", "8", "--limit", "40", "--preset", "pictures-32", "--provider", "ref", "--quiet", "--steps", "2",
		"--set", "spec={codes: 3, start: 4, filters: 2, activation: leaky, tanh: true, layers: [{kernel: 4, stride: 2, pad: 1}]}",
		"--set", "batch=4", "--set", "langevin.step=1e8", "--out", run)
	for _, want := range []string{"3 rollbacks", "chains of codes", "langevin.step"} {
		if r.status != statusGuard || !strings.Contains(r.errOut, want) {
			t.Errorf("wanted status %d and %q, got %d: %s", statusGuard, want, r.status, r.errOut)
		}
	}
	if _, err := os.Stat(filepath.Join(run, "checkpoints")); err != nil {
		t.Error(err)
	}
}
