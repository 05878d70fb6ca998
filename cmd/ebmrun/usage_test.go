package main

import (
	"fmt"
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/training/record"
)

// TestMisspelled: what is asked for by a wrong name is refused with the name that may have been meant.
func TestMisspelled(t *testing.T) {
	out := filepath.Join(t.TempDir(), "run")
	train := func(more ...string) []string {
		return append([]string{"train", "generative-convnet", "--data", "synthetic/rings", "--provider", "ref", "-o", out}, more...)
	}
	for want, args := range map[string][]string{
		`did you mean "generative-convnet"?`:    {"train", "GenerativeConvnet", "--data", "synthetic/rings", "-o", out},
		`did you mean "synthetic/rings"?`:       {"train", "generative-convnet", "--data", "synthetic/rigns", "-o", out},
		`did you mean "mnist"?`:                 {"data", "mnst"},
		"did you mean --data?":                  {"train", "generative-convnet", "--dta", "mnist", "-o", out},
		"see ebmrun train --help":               {"train", "generative-convnet", "--elsewhere", "mnist", "-o", out},
		"did you mean --steps?":                 train("--iterations", "3"),
		"given as --set KEY=VALUE":              train("--epochs", "3"),
		"did you mean optim.lr?":                train("--set", "lr=3"),
		`did you mean "pictures-28"?`:           {"systems", "coopnets", "pictures-82"},
		`unknown command "foo"`:                 {"help", "foo"},
		"missing: --out":                        {"train", "generative-convnet", "--data", "mnist"},
		"wanted: ebmrun train SYSTEM; got: not": {"train", "-o", out},
		`no task "enrgy"; did you mean "ener`:   {"apply", "enrgy", out},
		`no metric "fdpca"; did you mean "fd-`:  {"eval", "fdpca", out},
		`in .onnx; did you mean "mlp2d"?`:       {"bench", "mlp2"},
		`of "flw"; did you mean "flow"?`:        {"verify", "flw"},
		"no such run folder or .onnx file":      {"sample", out},
		"did you mean langevin.step?":           train("--set", "langevin.stepz=3"),
		"no setting colour; `ebmrun systems ":   train("--set", "colour=red"),
		"--steps: wanted 0 or more, got -3":     train("--steps", "-3"),
		"batch: wanted a whole number, got 1.5": train("--set", "batch=1.5"),
		"wanted a whole number, got 1e-3":       train("--set", "langevin.steps=1e-3"),
		"wanted a number, got wide":             train("--set", "langevin.step=wide"),
		"wanted true or false, got perhaps":     train("--set", "langevin.fused=perhaps"),
		"wanted settings below it, got 3":       train("--set", "langevin=3"),
		"wanted a list, as [1, 2], got 3":       train("--set", "optim.betas=3"),
		"--set batch: wanted key=value":         train("--set", "batch"),
	} {
		ebmrun(t, args...).wantError(t, statusBadInput, want)
	}
	aliases := "source: &a0 [1, 1]\n"
	for i := range 40 {
		aliases += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	for name, text := range map[string]string{"deep": strings.Repeat("[", 20000), "large": strings.Repeat("# settings\n", 4000), "scalar": "settings", "aliases": aliases} {
		file := write(t, filepath.Join(t.TempDir(), name), []byte(text))
		want := map[string]string{"deep": "nested too deeply", "large": "at most 32.8 kB", "scalar": "mapping is expected", "aliases": "too many values"}[name]
		ebmrun(t, train("--config", file)...).wantError(t, statusBadInput, name, want)
	}
	ebmrun(t, train("--set", "batch="+strings.Repeat("{", 20000))...).wantError(t, statusBadInput, "nested too deeply")
	if _, err := os.Stat(out); err == nil {
		t.Error("a run folder is left of command lines that were refused")
	}
	for _, args := range [][]string{{"train", "--help"}, {"sample", "--help"}} {
		if r := ebmrun(t, args...); strings.Contains(r.out, "true|false") || strings.Contains(r.out, "data.Kind") {
			t.Errorf("%v says\n%s", args, r.out)
		}
	}
}

// TestWholeSettings: numbers that are whole serve as such however they are written.
func TestWholeSettings(t *testing.T) {
	out := filepath.Join(t.TempDir(), "run")
	args := []string{"train", "generative-convnet", "--data", "synthetic/rings", "--limit", "100", "--provider", "ref", "--quiet", "-o", out}
	ebmrun(t, append(args, "--set", "steps=2e0", "--set", "langevin.steps=2.0", "--set", "langevin.step=1", "--set", "optim.lr=1e-3")...).wantOut(t)
	// A second run in the same folder is refused before anything is loaded or computed.
	ebmrun(t, append(args, "--data", "nowhere")...).wantError(t, statusBadInput, "already holds a run")
}

// TestOutputs: a place that cannot be written to is refused at once, and stays as it is.
func TestOutputs(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "file"), []byte("text"))
	for path, want := range map[string]string{
		os.DevNull:                         "--out " + os.DevNull + ": wanted a file or a folder",
		filepath.Join(file, "below"):       "not a directory",
		filepath.Join(file, "far", "away"): "not a directory",
	} {
		ebmrun(t, "grad", save(t, tiny(t)), "-o", path).wantError(t, statusBadInput, want)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Errorf("%s is now %v, %v", os.DevNull, info, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left in the folder: %v", entries)
	}
	// Folders above are made, and taken away again where nothing comes into them.
	ebmrun(t, "grad", save(t, tiny(t)), "-o", filepath.Join(dir, "new", "deep", "g.onnx")).wantOut(t)
	ebmrun(t, "grad", filepath.Join(dir, "nowhere.onnx"), "-o", filepath.Join(dir, "other", "deep", "g.onnx")).wantError(t, statusBadInput, "no such file")
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left in the folder: %v", entries)
	}
}

// TestCompletion: the shell is offered the names that arguments and flags take.
func TestCompletion(t *testing.T) {
	for want, args := range map[string][]string{
		"coopnets\tCooperative": {"train", ""},
		"pictures-28\t28×28":    {"train", "coopnets", "--preset", ""},
		"published-64\t":        {"systems", "coopnets", ""},
		"two-rings\tcircles":    {"apply", "energy", "--data", ""},
		"mnist\tMNIST":          {"data", ""},
		"openvino\n":            {"sample", "--provider", ""},
	} {
		ebmrun(t, append([]string{"__complete"}, args...)...).wantOut(t, want)
	}
}

// TestSizes: pictures of several sizes are refused with the flag that brings them to one.
func TestSizes(t *testing.T) {
	dir := t.TempDir()
	for name, side := range map[string]int{"a.png": 3, "b.png": 4} {
		if err := record.WritePNG(filepath.Join(dir, name), image.NewGray(image.Rect(0, 0, side, 3))); err != nil {
			t.Fatal(err)
		}
	}
	preview := filepath.Join(t.TempDir(), "p.png")
	ebmrun(t, "data", dir, "--preview", preview).wantError(t, statusBadInput, "b.png", "want 3×3 as in a.png", "--size N")
	ebmrun(t, "data", dir, "--preview", preview, "--size", "4").wantOut(t)
}
