package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ebmrun/training/data"
)

// TestControl: a cost of controls is learned from the command line, goes on, is used and exported, and
// what it cannot learn from or do is refused in one line.
func TestControl(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run")
	ebmrun(t, "train", "inverse-optimal-control", "--data", "synthetic/drive", "--limit", "8", "--provider", "ref", "--quiet", "--out", run, "--steps", "2",
		"--set", "batch=2", "--set", "langevin.steps=2", "--set", "predict={steps: 2, step: 0.1, noise: 0.1}").wantOut(t)
	ebmrun(t, "train", "inverse-optimal-control", "--resume", "--out", run, "--steps", "3", "--quiet").wantOut(t)
	dir := t.TempDir()
	png := func(name string) string { return filepath.Join(dir, name+".png") }
	ebmrun(t, "sample", run, "--provider", "ref", "--quiet", "--n", "3", "-o", png("s"), "--npy", filepath.Join(dir, "s.npy")).wantOut(t)
	if x, err := data.ReadNPY(filepath.Join(dir, "s.npy")); err != nil || x.N != 3 || x.Dim() != 60 {
		t.Errorf("samples: %v, wanted 3 of 30×2 (%v)", x, err)
	}
	apply(t, "predict", run, "--n", "2", "--k", "3", "-o", png("p")).wantOut(t, "constant velocity", "constant control", "predicted")
	if text, err := os.ReadFile(filepath.Join(dir, "p.csv")); err != nil || strings.Count(string(text), "\n") != 1+2*3*30 {
		t.Errorf("places: %d lines, wanted a head and 2·3·30 (%v)", strings.Count(string(text), "\n"), err)
	}
	apply(t, "explain", run, "--n", "2", "-o", filepath.Join(dir, "e.csv")).wantOut(t, "obstacle", "cost of experts")
	apply(t, "translate", run, "--n", "2", "-o", png("t")).wantOut(t, "mean squared error")
	for _, name := range []string{"s", "p", "t"} {
		written(t, png(name))
	}
	exported(t, run, "-o", filepath.Join(dir, "x"), "--check").wantOut(t, "cost.onnx", "cost-grad.onnx", "path.onnx", "sampler.onnx")
	exported(t, run, "-o", filepath.Join(dir, "u"), "--check", "--to", "sampler", "--unroll", "3").wantOut(t, "sampler.onnx")
	apply(t, "energy", run, "-o", filepath.Join(dir, "u.csv")).wantError(t, statusBadInput, "predict")
	apply(t, "predict", run, "--k", "0", "-o", png("n")).wantError(t, statusBadInput, "--k")
	best := filepath.Join(dir, "best")
	ebmrun(t, "train", "inverse-optimal-control", "--preset", "drive-ilqr", "--data", "synthetic/drive", "--limit", "8", "--provider", "ref", "--quiet", "--out", best, "--steps", "2",
		"--set", "batch=2", "--set", "ilqr=2").wantOut(t)
	apply(t, "predict", best, "--n", "2", "--k", "1", "-o", png("b")).wantOut(t, "predicted")
	ebmrun(t, "train", "inverse-optimal-control", "--preset", "drive-langevin", "--data", "synthetic/drive", "--limit", "8", "--out", filepath.Join(dir, "bad"), "--set", "ilqr=5").wantError(t, statusBadInput, "noise")
	ebmrun(t, "train", "inverse-optimal-control", "--data", "synthetic/glyph16", "--limit", "8", "--out", filepath.Join(dir, "bad")).wantError(t, statusBadInput, "paths")
	ebmrun(t, "train", "inverse-optimal-control", "--data", "synthetic/drive", "--limit", "8", "--out", filepath.Join(dir, "bad"), "--set", "net.features=[lane, weather]").wantError(t, statusBadInput, "weather")
}

// TestControlOfMany: three agents, and states that somebody else's table holds.
func TestControlOfMany(t *testing.T) {
	for _, sources := range [][]string{{"--data", "synthetic/convoy", "--limit", "8"}, {"--data", "paths.csv", "--as", "paths"}} {
		dir := t.TempDir()
		if i := slices.Index(sources, "paths.csv"); i > 0 {
			sources[i] = filepath.Join(dir, "paths.csv")
			var b strings.Builder
			b.WriteString("path,x,y,heading,speed\n")
			for p := range 24 {
				for m := range 16 {
					at, turns := float64(m), float64(p)-12 // aircraft of 200 m/s, seen every 10 s
					line := []string{num(float64(p)), num(2 * at), num(1e-3 * turns * at * at), num(1e-3 * turns * at * at), num(200 + 0.1*at*at*float64(p%3))}
					b.WriteString(strings.Join(line, ",") + "\n")
				}
			}
			if err := os.WriteFile(sources[i], []byte(b.String()), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		run := filepath.Join(dir, "run")
		args := append([]string{"train", "inverse-optimal-control"}, sources...)
		ebmrun(t, append(args, "--provider", "ref", "--quiet", "--out", run, "--steps", "2", "--set", "batch=2", "--set", "langevin.steps=2", "--set", "predict.steps=2", "--set", "draws=1", "--set", "drift=0")...).wantOut(t)
		apply(t, "predict", run, "--n", "1", "-o", filepath.Join(dir, "p.png")).wantOut(t, "predicted")
		written(t, filepath.Join(dir, "p.png"))
	}
}

func num(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
