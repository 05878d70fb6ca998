package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/training/data"
)

// codes is a run folder of two iterations of abp on pictures of 8×8; pair is one
// of coopnets.
func codes(t *testing.T, more ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "abp")
	ebmrun(t, append([]string{"train", "abp", "--data", "synthetic/shape", "--size", "8", "--limit", "40", "--preset", "pictures-32", "--provider", "ref", "--quiet",
		"--out", dir, "--steps", "2", "--set", "batch=4", "--set", "langevin.steps=3", "--set", "cold.steps=5",
		"--set", "spec={codes: 3, start: 4, filters: 2, activation: leaky, tanh: true, layers: [{kernel: 4, stride: 2, pad: 1}]}"}, more...)...).wantOut(t)
	return dir
}

func pair(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "coopnets")
	ebmrun(t, "train", "coopnets", "--data", "synthetic/shape", "--size", "8", "--limit", "40", "--preset", "pictures-32", "--provider", "ref", "--quiet",
		"--out", dir, "--steps", "2", "--set", "batch=4", "--set", "langevin.steps=3",
		"--set", "spec={layers: [{filters: 4, kernel: 3, pad: 1}, {filters: 1, kernel: 8}], activation: swish}",
		"--set", "generator_spec={codes: 2, start: 4, filters: 2, activation: leaky, tanh: true, layers: [{kernel: 4, stride: 2, pad: 1}]}").wantOut(t)
	return dir
}

func written(t *testing.T, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if st, err := os.Stat(p); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// TestLearnedVerbs: every verb and task that a system without an energy can do,
// and one line that names them for the others.
func TestLearnedVerbs(t *testing.T) {
	run, dir := codes(t), t.TempDir()
	out := func(name string) string { return filepath.Join(dir, name) }

	ebmrun(t, "sample", run, "--provider", "ref", "--quiet", "--n", "5", "-o", out("s.png"), "--npy", out("s.npy")).wantOut(t)
	x, err := data.ReadNPY(out("s.npy"))
	if err != nil || x.N != 5 || x.Dim() != 64 {
		t.Errorf("samples %v (%v)", x, err)
	}
	ebmrun(t, "sample", run, "--provider", "ref", "--steps", "9", "-o", out("s.png")).wantError(t, statusBadInput, "abp", "--steps")
	ebmrun(t, "eval", "diversity", run, "--provider", "ref", "--quiet", "--n", "8").wantOut(t, "8 samples")

	apply(t, "reconstruct", run, "--n", "3", "-o", out("r.png")).wantOut(t, "3 examples", "mean squared error", "dB")
	written(t, out("r.png"), out("r-error.csv"))
	if z, err := data.ReadNPY(out("r-z.npy")); err != nil || z.N != 3 || z.Dim() != 3 {
		t.Errorf("codes %v (%v)", z, err)
	}
	apply(t, "reconstruct", run, "--iters", "3", "-o", out("r.png")).wantError(t, statusBadInput, "--iters", "abp")
	apply(t, "interpolate", run, "--frames", "4", "-o", out("i.png")).wantOut(t)
	apply(t, "manifold", run, "--side", "3", "--axes", "0,2", "-o", out("m.png")).wantOut(t)
	written(t, out("i.png"), out("m.png"))
	apply(t, "manifold", run, "--axes", "0,3", "-o", out("m.png")).wantError(t, statusBadInput, "0 … 2")
	apply(t, "energy", run, "-o", out("e.csv")).wantError(t, statusBadInput, "abp", "energy", "reconstruct", "recover")
	apply(t, "translate", run, "--data", "synthetic/shape", "-o", out("t.png")).wantError(t, statusBadInput, "abp", "translate")

	apply(t, "recover", run, "--hidden", "0.25", "--n", "4", "-o", out("v.png")).wantOut(t, "4 examples", "% missing", "of what is missing")
	head, rows := readCSV(t, out("v-error.csv"))
	if strings.Join(head, " ") != "example missing mse" || len(rows) != 4 || rows[0][1] < 4 || rows[0][1] > 30 {
		t.Errorf("%v %v", head, rows)
	}
	half := writePNG(t, func(x, _ int) byte { return byte(x / 4 * 255) })
	picture := writePNG(t, func(x, y int) byte { return byte(31*x + 3*y) })
	apply(t, "recover", run, "--data", picture, "--mask", half, "--truth", picture, "-o", out("v.png")).wantOut(t, "50 %")
	if r := apply(t, "recover", run, "--data", picture, "--mask", half, "-o", out("v.png")); r.status != 0 || r.out != "" {
		t.Errorf("without the truth nothing is measured: %+v", r)
	}
	apply(t, "recover", run, "-o", out("v.png")).wantError(t, statusBadInput, "--hidden", "--mask")
	apply(t, "inpaint", run, "--image", picture, "--mask", half, "--truth", picture, "--chains", "2", "-o", out("p.png")).wantOut(t, "hole of 32 values")
	got := readPNG(t, out("p.png"))
	if r, _, _, _ := got.At(3, 2).RGBA(); byte(r>>8) != 31*3+3*2 {
		t.Errorf("a visible pixel is %d", r>>8)
	}

	// a mask of another size: one line that names both
	if err := os.WriteFile(out("wide.pgm"), append([]byte("P5 9 8 255\n"), make([]byte, 72)...), 0o666); err != nil {
		t.Fatal(err)
	}
	apply(t, "inpaint", run, "--image", picture, "--mask", out("wide.pgm"), "-o", out("p.png")).wantError(t, statusBadInput, "8×9", "8×8")

	exported(t, run, "--check", "--to", "onnx,safetensors,npz", "-o", out("x")).wantOut(t, "generator.onnx", "generator-weights.safetensors", "generator-weights.npz")
	exported(t, run, "--to", "sampler", "-o", out("y")).wantError(t, statusBadInput, "sampler")
	ebmrun(t, "sample", out("x/generator.onnx"), "--provider", "ref", "--quiet", "--n", "5", "-o", out("g.png"), "--npy", out("g.npy")).wantOut(t)
	if g, err := data.ReadNPY(out("g.npy")); err != nil || g.N != 5 || g.Dim() != 64 {
		t.Errorf("samples of the file: %v (%v)", g, err)
	}
}

// TestPairVerbs: a pair of networks uses both.
func TestPairVerbs(t *testing.T) {
	run, dir := pair(t), t.TempDir()
	out := func(name string) string { return filepath.Join(dir, name) }
	apply(t, "energy", run, "--limit", "4", "-o", out("e.csv")).wantOut(t, "4 examples")
	apply(t, "interpolate", run, "--frames", "4", "-o", out("i.png")).wantOut(t)
	apply(t, "recover", run, "--hidden", "0.5", "--n", "2", "-o", out("v.png")).wantOut(t, "2 examples")
	half := writePNG(t, func(x, _ int) byte { return byte(x / 4 * 255) })
	picture := writePNG(t, func(x, y int) byte { return byte(31*x + 3*y) })
	apply(t, "inpaint", run, "--image", picture, "--mask", half, "--truth", picture, "--chains", "2", "-o", out("p.png")).wantOut(t, "hole of 32 values")
	exported(t, run, "--check", "-o", out("x")).wantOut(t, "energy.onnx", "generator.onnx", "sampler.onnx", "generator-weights.safetensors", "weights.safetensors")
}

// TestMasksWhileLearning: masks from a file go with the run, and do not fit any
// other size; networks that do not fit one another or the data are refused.
func TestMasksWhileLearning(t *testing.T) {
	half := writePNG(t, func(x, _ int) byte { return byte(x / 4 * 255) })
	codes(t, "--set", "data.masks="+half)
	wide := filepath.Join(t.TempDir(), "wide.pgm")
	if err := os.WriteFile(wide, append([]byte("P5 9 8 255\n"), make([]byte, 72)...), 0o666); err != nil {
		t.Fatal(err)
	}
	train := func(system string, set ...string) result {
		args := []string{"train", system, "--data", "synthetic/shape", "--size", "8", "--limit", "40", "--preset", "pictures-32", "--provider", "ref", "--quiet", "--out", filepath.Join(t.TempDir(), "run"), "--steps", "2", "--set", "batch=4"}
		for _, s := range set {
			args = append(args, "--set", s)
		}
		return ebmrun(t, args...)
	}
	small := "spec={codes: 3, start: 4, filters: 2, activation: leaky, tanh: true, layers: [{kernel: 4, stride: 2, pad: 1}]}"
	train("abp", small, "data.masks="+wide).wantError(t, statusBadInput, "8×9", "8×8")
	ebmrun(t, "train", "abp", "--data", "synthetic/rings", "--limit", "40", "--provider", "ref", "--quiet", "--out", filepath.Join(t.TempDir(), "run"),
		"--set", "spec={codes: 2, activation: leaky, tanh: true, layers: [{filters: 4}, {}]}").wantError(t, statusBadInput, "tanh", "-1 to 1", "from -")
	train("abp").wantError(t, statusBadInput, "32", "8") // the preset's generator makes 32×32
	train("coopnets", "spec={layers: [{filters: 4, kernel: 3, pad: 1}, {filters: 1, kernel: 8}], activation: swish}").wantError(t, statusBadInput, "32", "8")
}
