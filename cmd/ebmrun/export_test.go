package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	weightfile "ebmrun/export/weights"
	"ebmrun/graphs/onnxio"
	"ebmrun/training/checkpoint"
)

// exported runs the verb with the interpreter and returns what ebmrun would.
func exported(t *testing.T, args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	c := newCommon(&out, &errOut)
	c.provider, c.seed = refProvider, 1
	cmd := exportCommand(c)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(context.Background())
	if err != nil {
		c.fail(err, exitStatus(err))
	}
	return result{exitStatus(err), out.String(), errOut.String()}
}

// trained is a run folder of a few iterations on points in the plane.
func trained(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	ebmrun(t, "train", "generative-convnet", "--data", "synthetic/rings", "--limit", "100", "--provider", "ref", "--quiet", "--out", dir, "--steps", "2",
		"--set", "batch=4", "--set", "chains.buffer=16", "--set", "langevin={steps: 3, step: 0.125, noise: 1, grad_clip: 2, clamp: [-4, 4]}",
		"--set", "spec={layers: [{filters: 8}, {filters: 1}], activation: swish}", "--set", "guard.max_std=100").wantOut(t)
	return dir
}

func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestExport(t *testing.T) {
	run, dir := trained(t), filepath.Join(t.TempDir(), "a", "b")
	r := exported(t, run, "--check", "-o", dir)
	r.wantOut(t, "energy.onnx", "energy-grad.onnx", "sampler.onnx", "weights.safetensors", "bytes")
	for _, s := range []string{"energy.onnx: onnx-go: 4 weights equal", "energy.onnx: onnx-go: energy", "energy-grad.onnx", "grad/x", "sampler.onnx", "weights.safetensors: reader: 4 weights equal"} {
		if !strings.Contains(r.errOut, s) {
			t.Errorf("the log does not tell %q:\n%s", s, r.errOut)
		}
	}
	if got, want := entries(t, dir), []string{"energy-grad.onnx", "energy.onnx", "sampler.onnx", "weights.safetensors"}; !slices.Equal(got, want) {
		t.Fatalf("wanted %v, got %v", want, got)
	}
	state, err := checkpoint.Load(filepath.Join(run, "checkpoints"), checkpoint.Best)
	if err != nil {
		t.Fatal(err)
	}
	w, about, err := weightfile.Read(filepath.Join(dir, "weights.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tensor := range w {
		want, err := checkpoint.Values[float32](state, "weights/"+name, tensor.Len())
		if err != nil || !slices.Equal(want, tensor.F32()) {
			t.Errorf("weight %q is not that of the checkpoint: %v", name, err)
		}
	}
	if about["ebmrun.system"] != "generative-convnet" {
		t.Errorf("the weights say %v about themselves", about)
	}
	m, err := onnxio.Read(filepath.Join(dir, "sampler.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"ebmrun.system": "generative-convnet", "ebmrun.data": "synthetic/rings", "ebmrun.seed": "1", "ebmrun.step": "0.125", "ebmrun.noise": "1",
		"ebmrun.grad_clip": "2", "ebmrun.clamp": "-4,4", "ebmrun.steps": "3", "ebmrun.data_gain": "1", "ebmrun.data_offset": "0", "ebmrun.reference_sigma": "2"} {
		if got := m.Meta(key); got != want {
			t.Errorf("%s: wanted %q, got %q", key, want, got)
		}
	}

	// The same run gives the same bytes; the copies of a step take no Loop.
	again := t.TempDir()
	exported(t, run, "--to", "onnx,npz", "--to", "sampler", "--unroll", "5", "--checkpoint", "step-2", "-o", again).wantOut(t, "weights.npz")
	for _, name := range []string{"energy.onnx", "energy-grad.onnx"} {
		a, _ := os.ReadFile(filepath.Join(dir, name))
		b, _ := os.ReadFile(filepath.Join(again, name))
		if !bytes.Equal(a, b) {
			t.Errorf("%s: two exports of one run differ", name)
		}
	}
	if m, err = onnxio.Read(filepath.Join(again, "sampler.onnx")); err != nil {
		t.Fatal(err)
	}
	if n := m.Graph.Input("noise"); n == nil || n.Shape.String() != "[5,batch,2]" {
		t.Errorf("the unrolled sampler takes noise %v", n)
	}

	// An exported file can be exported again.
	energy := filepath.Join(dir, "energy.onnx")
	third := t.TempDir()
	exported(t, energy, "--to", "sampler", "--check", "-o", third).wantOut(t, "sampler.onnx")
	a, _ := os.ReadFile(filepath.Join(dir, "sampler.onnx"))
	b, _ := os.ReadFile(filepath.Join(third, "sampler.onnx"))
	if !bytes.Equal(a, b) {
		t.Error("the sampler made from energy.onnx is not that of the run")
	}
}

func TestExportRefuses(t *testing.T) {
	run, out := trained(t), filepath.Join(t.TempDir(), "out")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{run, "--to", "torch", "-o", out}, `got "torch"`},
		{[]string{run, "--unroll", "-1", "-o", out}, "--unroll"},
		{[]string{run, "--checkpoint", "step-99", "-o", out}, "step-000099"},
		{[]string{filepath.Join(run, "report.html"), "-o", out}, "report.html"},
		{[]string{filepath.Join(run, "absent"), "-o", out}, "absent"},
	} {
		exported(t, c.args...).wantError(t, 2, c.want)
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("%v: something was written", c.args)
		}
	}
	if err := os.WriteFile(out, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	exported(t, run, "-o", out).wantError(t, 1, out)
}
