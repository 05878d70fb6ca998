package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/training"
	"ebmrun/training/data"
)

// learned trains a system for a moment and returns its run folder.
func learned(t *testing.T, system string, args ...string) string {
	t.Helper()
	run := filepath.Join(t.TempDir(), system)
	ebmrun(t, append([]string{"train", system, "--provider", "ref", "--quiet", "--out", run}, args...)...).wantOut(t)
	return run
}

// TestDescribing: what the FRAME family can do besides drawing, on a run of each.
func TestDescribing(t *testing.T) {
	small := []string{"--steps", "2", "--limit", "6", "--set"}
	frame := "frame={select: boost, atoms: 6, steps: 4, chains: 2, orientations: 6, scales: [0.3]}"
	parts := learned(t, "hierarchical-sparse-frame", append([]string{"--data", "synthetic/shape", "--size", "28"}, append(small, frame,
		"--set", "clusters=2", "--set", "object.turn=1", "--set", "levels=1", "--set", "object.level=0", "--set", "part.level=0")...)...)
	ebmrun(t, "train", "hierarchical-sparse-frame", "--resume", "--out", parts, "--steps", "3", "--quiet").wantOut(t)
	sparse := learned(t, "sparse-frame", append([]string{"--data", "synthetic/shape", "--size", "20"}, append(small, "atoms=4", "--set", "chains=2", "--set", "scales=[0.3]")...)...)
	texture := learned(t, "frame", append([]string{"--data", "synthetic/tex-a", "--size", "24"}, small[:2]...)...)
	object := learned(t, "deep-frame", append([]string{"--data", "synthetic/shape", "--size", "16"}, append(small, "chains={number: 2}", "--set", "langevin.steps=1")...)...)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }

	apply(t, "detect", parts, "--n", "3", "-o", at("d.png")).wantOut(t)
	var found []training.Found
	text, err := os.ReadFile(at("d.json"))
	if err == nil {
		err = json.Unmarshal(text, &found)
	}
	if err != nil || len(found) != 3 || len(found[0].Parts) != 4 {
		t.Errorf("found %d objects, %v", len(found), err)
	}
	for _, run := range []string{parts, sparse} {
		apply(t, "sketch", run, "--n", "2", "-o", at("s.png")).wantOut(t)
		apply(t, "parts", run, "-o", at("p.png")).wantOut(t)
	}
	written(t, at("d.png"), at("s.png"), at("p-templates.png"), at("p-parts.png"), at("p-codebook.png"))
	apply(t, "cluster", parts, "--limit", "4", "-o", at("c.csv")).wantOut(t, "4 examples", "purity")
	apply(t, "cluster", parts, "--k", "3", "-o", at("c.csv")).wantError(t, 2, "2 clusters", "got 3")
	apply(t, "cluster", sparse, "--k", "2", "--limit", "4", "-o", at("c.csv")).wantOut(t)
	apply(t, "cluster", sparse, "-o", at("c.csv")).wantError(t, 2, "2 clusters or more")
	apply(t, "features", parts, "--limit", "4", "-o", at("f.npy")).wantOut(t, "50 features of each of 4")
	if f, err := data.ReadNPY(at("f.npy")); err != nil || f.N != 4 || f.Dim() != 50 {
		t.Errorf("features: %+v, %v", f, err)
	}
	apply(t, "features", parts, "--layer", "x", "-o", at("f.npy")).wantError(t, 2, "--layer")
	apply(t, "classify", parts, "--data", "synthetic/shape", "--labelled", "8", "--tested", "8", "-o", at("k.csv")).wantOut(t, "accuracy")
	apply(t, "classify", sparse, "--data", "synthetic/face", "-o", at("k.csv")).wantError(t, 2, "no labels")
	apply(t, "classify", sparse, "--layer", "nosuch", "-o", at("k.csv")).wantError(t, 2, "nosuch")
	for _, run := range []string{sparse, object, texture} {
		apply(t, "statistics", run, "--limit", "2", "-o", at("h.csv")).wantOut(t, "statistics of")
	}
	if text, err := os.ReadFile(at("h.csv")); err != nil || !strings.HasPrefix(string(text), "statistic,observed,drawn\n") {
		t.Errorf("%.40q, %v", text, err)
	}
	apply(t, "statistics", object, "-o", at("o.csv")).wantOut(t, "64 statistics of 16 examples")
	apply(t, "detect", sparse, "-o", at("d.png")).wantError(t, 2, "detect", "sketch")
	exported(t, parts, "-o", at("x")).wantOut(t, "energy-template1.onnx", "energy-template2.onnx")
}

// TestSuperres: shapes made coarse are refined, coarse ones of a file too, and a picture is enlarged.
func TestSuperres(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "y.png")
	few := []string{"--steps", "2", "--set", "langevin.steps=1", "--set"}
	shapes := learned(t, "voxelnet", append([]string{"--data", "synthetic/volumes", "--size", "8", "--limit", "12"}, append(few,
		"spec={layers: [{filters: 2, kernel: 4, stride: 4}, {filters: 1, kernel: 2}], activation: swish}", "--set", "batch=2", "--set", "chains.buffer=20", "--set", "resolution.steps=1")...)...)
	apply(t, "superres", shapes, "--n", "2", "--factor", "4", "-o", out).wantOut(t, "2 shapes made 4 times coarser")
	holds := func(values int64) {
		t.Helper()
		if st, err := os.Stat(filepath.Join(dir, "y.npy")); err != nil || st.Size()/4*4 < 4*values || st.Size() > 4*values+200 {
			t.Errorf("the array does not hold %d values: %v", values, err)
		}
	}
	holds(2 * 8 * 8 * 8)
	apply(t, "superres", shapes, "--data", "synthetic/volumes", "--n", "2", "-o", out).wantError(t, 2, "size 4")
	apply(t, "superres", shapes, "--factor", "3", "-o", out).wantError(t, 2, "--factor", "[1 8 8 8]")
	apply(t, "recover", shapes, "--n", "1", "--hidden", "0.5", "-o", out).wantOut(t)
	picture := learned(t, "patchwise", append([]string{"--data", "synthetic/tex-a-rgb", "--size", "16"}, append(few, "scales=1", "--set", "paint=0", "--set", "coarsest=16", "--set", "chains=1", "--set", "first=1", "--set", "recover.steps=1")...)...)
	apply(t, "superres", picture, "--factor", "1.5", "-o", out).wantOut(t)
	holds(3 * 24 * 24)
	written(t, out)
}
