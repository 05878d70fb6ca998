package onnxfile_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/export/onnxfile"
	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/chain"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ortlib"
	"ebmrun/runtime/ref"
	"ebmrun/training/bind"
	"ebmrun/training/sampler"
)

// steps is long enough for rounding to grow.
const steps, batch = 50, 3

var meta = onnxfile.Meta{
	System: "generative-convnet", Data: "digits", Seed: 7, Version: "1.2.3", Steps: 20,
	Step:  chain.Step{Size: 0.2, Noise: 0.7, GradClip: 3, ClampMin: -1.5, ClampMax: 1.25},
	Sigma: 0.8, Gain: 2.0 / 255, Offset: -1,
}

func build(t testing.TB) *onnxmodels.Model {
	t.Helper()
	spec := energy.Spec{Layers: []energy.Layer{{Filters: 4, Kernel: 3, Stride: 2, Pad: 1}, {Filters: 6, Kernel: 3, Pad: 1}, {Filters: 1, Kernel: 4}}, Activation: "swish"}
	m, err := energy.Build(spec, []int{2, 8, 8}, 0.8, 11)
	if err != nil {
		t.Fatal(err)
	}
	// Freshly drawn biases are zero, which would hide a bias that got lost.
	for _, v := range passes.Weights(m.Graph) {
		for i, w := range v.Const.F32() {
			v.Const.F32()[i] = 2*w + 0.1
		}
	}
	return m
}

func write(t testing.TB, m *onnxmodels.Model, unroll int) (files []string) {
	t.Helper()
	files, err := onnxfile.All(t.TempDir(), m, meta, unroll)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// run feeds a file to an engine, inputs and outputs by name.
func run(t testing.TB, e runtime.Engine, file string, o runtime.Options, in map[string]*graphs.Tensor) map[string]*graphs.Tensor {
	t.Helper()
	m, err := onnxio.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.Compile(t.Context(), m, o)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	defer p.Close()
	var x []*graphs.Tensor
	for _, v := range p.Inputs() {
		x = append(x, in[v.Name])
	}
	y := make([]*graphs.Tensor, len(p.Outputs()))
	if err := p.Run(t.Context(), x, y); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	out := map[string]*graphs.Tensor{}
	for i, v := range p.Outputs() {
		out[v.Name] = y[i]
	}
	return out
}

func close(t *testing.T, what string, got *graphs.Tensor, want []float32, tolerance float64) {
	t.Helper()
	if got == nil || len(got.F32()) != len(want) {
		t.Fatalf("%s: wanted %d values, got %v", what, len(want), got)
	}
	size, off := 0.0, 0.0
	for i, w := range want {
		size, off = max(size, math.Abs(float64(w))), max(off, math.Abs(float64(w-got.F32()[i])))
	}
	if !(off <= tolerance*size) || size == 0 {
		t.Errorf("%s: differs by %g of the largest value, %g", what, off/size, size)
	}
}

// sampled is what the step-by-step sampler makes of x0, with the noise it drew.
func sampled(t *testing.T, m *onnxmodels.Model, e runtime.Engine) (x0, noise *graphs.Tensor, x, u []float32) {
	t.Helper()
	field, err := bind.Freeze(t.Context(), m, e, bind.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer field.Close()
	source, ids := sampler.Noise{Seed: 3}, sampler.Chains(40, batch)
	start := make([]float32, batch*m.Size())
	source.Fork(9).Normals(start, ids, 0)
	z := make([]float32, steps*len(start))
	source.Block(z, ids, 0, steps)
	x0, noise = graphs.Of(append([]float32(nil), start...), append([]int{batch}, m.Dims...)...), graphs.Of(z, append([]int{steps, batch}, m.Dims...)...)

	st, err := sampler.NewState(start, m.Size(), ids)
	if err != nil {
		t.Fatal(err)
	}
	s := meta.Step
	k := sampler.Langevin{Size: float32(s.Size), Noise: float32(s.Noise), GradClip: float32(s.GradClip), ClampMin: float32(s.ClampMin), ClampMax: float32(s.ClampMax)}
	if _, err := sampler.Run(t.Context(), source, k, field, st, steps, nil); err != nil {
		t.Fatal(err)
	}
	if err := st.Evaluate(field); err != nil {
		t.Fatal(err)
	}
	return x0, noise, st.X, st.U
}

func TestFilesRun(t *testing.T) {
	testFiles(t, ref.New(), map[string]runtime.Options{"ref": {}})
}

func TestFilesRunInONNXRuntime(t *testing.T) {
	_, err := ortlib.Find("")
	enginetest.Unavailable(t, err)
	e, err := ort.Open("")
	enginetest.Unavailable(t, err)
	testFiles(t, e, map[string]runtime.Options{"as it comes": {}, "unoptimized": {Optimize: runtime.OptimizeNone}})
}

// testFiles runs the files on e, against the step-by-step sampler on the interpreter.
func testFiles(t *testing.T, e runtime.Engine, options map[string]runtime.Options) {
	m := build(t)
	x0, noise, x, u := sampled(t, m, ref.New())
	field, err := bind.Freeze(t.Context(), m, ref.New(), bind.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer field.Close()
	u0, f0, g0 := make([]float32, batch), make([]float32, batch), make([]float32, len(x))
	if err := field.Scores(x0.F32(), u0, f0); err != nil {
		t.Fatal(err)
	}
	if err := field.EnergyGrad(x0.F32(), u0, g0); err != nil {
		t.Fatal(err)
	}
	loop, fixed := write(t, m, 0), write(t, m, steps)
	for name, o := range options {
		in := map[string]*graphs.Tensor{"x": x0, "x0": x0, "noise": noise}
		got := run(t, e, loop[0], o, in)
		close(t, name+": energy", got["energy"], u0, 1e-5)
		close(t, name+": score", got["score"], f0, 1e-5)
		got = run(t, e, loop[1], o, in)
		close(t, name+": energy beside the gradient", got["energy"], u0, 1e-5)
		close(t, name+": gradient", got["grad/x"], g0, 1e-5)
		for _, file := range []string{loop[2], fixed[2]} {
			got = run(t, e, file, o, in)
			close(t, name+": samples", got["x"], x, 1e-4)
			close(t, name+": energy of samples", got["energy"], u, 1e-4)
		}
		// Any number of steps, none included.
		in["noise"] = graphs.NewTensor(graphs.Float32, append([]int{0, batch}, m.Dims...)...)
		got = run(t, e, loop[2], o, in)
		close(t, name+": no steps", got["x"], x0.F32(), 0)
		close(t, name+": energy after no steps", got["energy"], u0, 1e-5)
	}
}

// TestWeightsOnce: each file holds every weight once, under its own name.
func TestWeightsOnce(t *testing.T) {
	m := build(t)
	for _, file := range append(write(t, m, 0), write(t, m, 4)...) {
		r, err := onnxio.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range passes.Weights(m.Graph) {
			w := r.Graph.Find(v.Name)
			if w == nil || w.Const == nil {
				t.Fatalf("%s: no weight %q", file, v.Name)
			}
			for i, f := range v.Const.F32() {
				if w.Const.F32()[i] != f {
					t.Fatalf("%s: weight %q has changed", file, v.Name)
				}
			}
		}
		if got, want := len(passes.Weights(r.Graph)), len(passes.Weights(m.Graph)); got != want {
			t.Errorf("%s: wanted %d weights, got %d", file, want, got)
		}
	}
}

func TestSameBytes(t *testing.T) {
	a, b := write(t, build(t), 3), write(t, build(t), 3)
	for i := range a {
		x, err := os.ReadFile(a[i])
		if err != nil {
			t.Fatal(err)
		}
		y, _ := os.ReadFile(b[i])
		if !bytes.Equal(x, y) {
			t.Errorf("%s: two exports differ", filepath.Base(a[i]))
		}
	}
}

func TestMeta(t *testing.T) {
	for _, file := range write(t, build(t), 0) {
		m, err := onnxio.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := onnxfile.ReadMeta(m)
		if err != nil || got != meta {
			t.Errorf("%s: wanted %+v, got %+v, %v", file, meta, got, err)
		}
		for key, want := range map[string]string{"ebmrun.step": "0.2", "ebmrun.noise": "0.7", "ebmrun.grad_clip": "3", "ebmrun.clamp": "-1.5,1.25", "ebmrun.data_offset": "-1", "ebmrun.seed": "7"} {
			if m.Meta(key) != want {
				t.Errorf("%s: %s is %q, wanted %q", file, key, m.Meta(key), want)
			}
		}
	}
	m := build(t)
	for key, value := range map[string]string{"ebmrun.step": "-1", "ebmrun.noise": "NaN", "ebmrun.clamp": "1,-1", "ebmrun.seed": "-3", "ebmrun.steps": "0", "ebmrun.reference_sigma": "-1", "ebmrun.data_gain": "0"} {
		bad := passes.Clone(m.Model)
		bad.SetMeta(key, value)
		if _, err := onnxfile.ReadMeta(bad); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s %q: wanted an error that names it, got %v", key, value, err)
		}
	}
	if _, err := onnxfile.ReadMeta(m.Model); err != nil {
		t.Error(err)
	}
}

// TestNothingHalf: a failed export leaves no file, not even a temporary one.
func TestNothingHalf(t *testing.T) {
	m := build(t)
	m.Graph.Nodes[0].Op = "NoSuchOp"
	dir := t.TempDir()
	files, err := onnxfile.All(dir, m, meta, 0)
	if err == nil || len(files) != 1 || !strings.Contains(err.Error(), "NoSuchOp") {
		t.Errorf("wanted the energy and an error that names the op, got %v, %v", files, err)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 {
		t.Errorf("wanted one file, got %v", left)
	}
	if err := onnxfile.Sampler(filepath.Join(dir, "s.onnx"), build(t), meta, -1); err == nil {
		t.Error("a negative number of steps is no error")
	}
}
