package onnxfile_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/export/onnxfile"
	"ebmrun/export/weights"
	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/data"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/sampler"
)

// python is an interpreter that has onnxruntime and numpy: the one that EBM_PYTHON
// names, or that of the virtual environment "python" in the project's cache folder.
func python(t *testing.T) string {
	t.Helper()
	path := os.Getenv("EBM_PYTHON")
	if path == "" {
		dir, err := runtime.CacheDir()
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(dir, "python", "bin", "python")
	}
	out, err := exec.CommandContext(t.Context(), path, "-c", "import numpy, onnxruntime").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("no Python with onnxruntime and numpy (EBM_PYTHON names one): %w %s", err, bytes.TrimSpace(out))
	}
	enginetest.Unavailable(t, err)
	return path
}

// learned is a small net after a few iterations of learning.
func learned(t *testing.T) (*onnxmodels.Model, generativeconvnet.Config, *data.Set) {
	t.Helper()
	set, err := data.Load(t.Context(), "synthetic/glyph16", data.Options{Limit: 64})
	if err != nil {
		t.Fatal(err)
	}
	c := generativeconvnet.Config{
		Steps: 6, Batch: 4,
		Langevin: training.Langevin{Steps: 5, Step: 0.25, Noise: 0.5, GradClip: 2, Clamp: [2]float64{-0.8, 0.8}},
		Chains:   generativeconvnet.Chains{Init: generativeconvnet.FromNoise},
		Optim:    training.Optim{LR: 0.03, Betas: [2]float64{0.5, 0.999}},
	}
	c.Reference.Sigma = 0.7
	spec := energy.Spec{Layers: []energy.Layer{{Filters: 6, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 8, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 4}}, Activation: "swish"}
	m, err := energy.Build(spec, []int{set.C, set.H, set.W}, c.Reference.Sigma, 5)
	if err != nil {
		t.Fatal(err)
	}
	net, err := bind.New(t.Context(), m, ref.New(), bind.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer net.Close()
	s, err := generativeconvnet.New(c, net, set, 5)
	if err != nil {
		t.Fatal(err)
	}
	for range c.Steps {
		if _, err := s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if m, err = net.Model(nil); err != nil {
		t.Fatal(err)
	}
	return m, c, set
}

// fixtures writes what testdata/export/check.py reads.
func fixtures(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	save := func(name string, fill func(io.Writer) error) {
		t.Helper()
		var b bytes.Buffer
		must(fill(&b))
		must(os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644))
	}
	m, c, set := learned(t)
	field, err := bind.Freeze(t.Context(), m, ref.New(), bind.Options{})
	must(err)
	defer field.Close()

	const batch, steps = 3, 50
	array := func(name string, v []float32, dims ...int) {
		t.Helper()
		save(name+".npy", func(w io.Writer) error { return weights.NPY(w, graphs.Of(v, dims...)) })
	}
	dims := func(lead ...int) []int { return append(lead, m.Dims...) }
	x := set.X()[:batch*set.Dim()]
	u, f, g := make([]float32, batch), make([]float32, batch), make([]float32, len(x))
	must(field.Scores(x, u, f))
	must(field.EnergyGrad(x, u, g))
	array("x", x, dims(batch)...)
	array("energy", u, batch)
	array("score", f, batch)
	array("grad", g, dims(batch)...)

	// A chain far along in a run, as a checkpoint would leave it.
	noise, ids, first := sampler.Noise{Seed: 1<<40 + 17}, sampler.Chains(1<<33, batch), uint64(12345)
	start := make([]float32, len(x))
	noise.Fork(1).Normals(start, ids, 0)
	z := make([]float32, steps*len(x))
	noise.Block(z, ids, first, steps)
	array("x0", start, dims(batch)...)
	array("noise", z, dims(steps, batch)...)
	st, err := sampler.NewState(start, m.Size(), ids)
	must(err)
	st.T = first
	_, err = sampler.Run(t.Context(), noise, c.Langevin.Kernel(), field, st, steps, nil)
	must(err)
	must(st.Evaluate(field))
	array("samples", st.X, dims(batch)...)
	array("samples-energy", st.U, batch)
	save("noise.json", func(w io.Writer) error {
		return json.NewEncoder(w).Encode(map[string]any{"seed": noise.Seed, "chains": ids, "step": first})
	})

	meta := onnxfile.Meta{
		System: "generative-convnet", Data: set.Name, Seed: 5, Step: bind.StepOf(c.Langevin.Kernel()), Steps: c.Langevin.Steps,
		Sigma: c.Reference.Sigma, Gain: set.Gain, Offset: set.Offset,
	}
	_, err = onnxfile.All(dir, m, meta, 0)
	must(err)
	must(onnxfile.Sampler(filepath.Join(dir, "sampler-unrolled.onnx"), m, meta, steps))
	save("weights.npz", func(w io.Writer) error { return weights.NPZ(w, weights.Of(m.Model)) })
	save("weights.safetensors", func(w io.Writer) error {
		return weights.Safetensors(w, weights.Of(m.Model), map[string]string{"format": "pt"})
	})
}

// TestPython runs the exported files in stock ONNX Runtime from Python.
func TestPython(t *testing.T) {
	interpreter := python(t)
	dir := t.TempDir()
	fixtures(t, dir)
	check := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), interpreter, filepath.Join("..", "..", "testdata", "export", "check.py"), dir)
		cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := check()
	t.Log("\n" + out)
	if err != nil || !strings.Contains(out, "all checks passed") {
		t.Fatal(err)
	}

	// The script is worth its name: it sees one weight of the sampler that has changed.
	file := filepath.Join(dir, onnxfile.SamplerFile)
	m, err := onnxio.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	v := passes.Weights(m.Graph)[0]
	w := append([]float32(nil), v.Const.F32()...)
	w[0] *= 1.5
	v.Const = graphs.Of(w, v.Const.Dims...)
	if err := onnxio.Write(file, m); err != nil {
		t.Fatal(err)
	}
	if out, err := check(); err == nil || !strings.Contains(out, "FAIL sampler.onnx, default settings") || strings.Contains(out, "FAIL energy,") {
		t.Errorf("a changed sampler passed: %v\n%s", err, out)
	}
}
