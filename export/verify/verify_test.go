package verify_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ebmrun/export/onnxfile"
	"ebmrun/export/verify"
	"ebmrun/export/weights"
	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
	"ebmrun/graphs/passes"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/chain"
	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/ref"
)

var meta = onnxfile.Meta{Step: chain.Step{Size: 0.3, Noise: 1, GradClip: 0.5, ClampMin: -1, ClampMax: 1}}

func build(t *testing.T, activation string, dims ...int) *onnxmodels.Model {
	t.Helper()
	spec := energy.Spec{Layers: []energy.Layer{{Filters: 5}, {Filters: 4}, {Filters: 1}}, Activation: activation}
	if len(dims) == 3 {
		spec.Layers = []energy.Layer{{Filters: 5, Kernel: 3, Stride: 2}, {Filters: 1, Kernel: 3}}
	}
	m, err := energy.Build(spec, dims, 1, 5)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func check(t *testing.T, file string, m *onnxmodels.Model) (verify.Report, error) {
	t.Helper()
	return verify.ONNX(t.Context(), file, m, meta.Step, ref.New(), runtime.Options{})
}

// checks are the comparisons of a report by reader and subject; true is done.
func checks(r verify.Report) map[string]bool {
	done := map[string]bool{}
	for _, c := range r.Checks {
		reader := "engine"
		if c.Reader == "onnx-go" {
			reader = c.Reader
		}
		done[reader+" "+c.What] = c.Skipped == ""
	}
	return done
}

func TestGoodFiles(t *testing.T) {
	for _, m := range []*onnxmodels.Model{build(t, "swish", 2), build(t, "leaky.05", 3), build(t, "swish", 2, 7, 7)} {
		loop, err := onnxfile.All(t.TempDir(), m, meta, 0)
		if err != nil {
			t.Fatal(err)
		}
		fixed, err := onnxfile.All(t.TempDir(), m, meta, 4)
		if err != nil {
			t.Fatal(err)
		}
		mlp := len(m.Dims) == 1
		weights := fmt.Sprintf("onnx-go %d weights", len(weights.Of(m.Model)))
		for file, want := range map[string]map[string]bool{
			loop[0]:  {"engine energy": true, "engine score": true, weights: true, "onnx-go energy": mlp, "onnx-go score": mlp},
			loop[1]:  {"engine energy": true, "engine score": true, "engine grad/x": true, weights: true},
			loop[2]:  {"engine drift": true, "engine noise": true, "engine energy": true, weights: true, "onnx-go outputs": false},
			fixed[2]: {"engine drift": true, "engine noise": true, "engine drift and noise": true, "engine energy": true, weights: true},
		} {
			r, err := check(t, file, m)
			if err != nil {
				t.Errorf("%v", err)
				continue
			}
			got := checks(r)
			for what, done := range want {
				if got[what] != done {
					t.Errorf("%s of %v: %s: wanted %v; report %v", filepath.Base(file), m.Dims, what, done, r.Checks)
				}
			}
		}
	}
}

// TestBadFiles changes what a file holds and wants to be told.
func TestBadFiles(t *testing.T) {
	m, other := build(t, "swish", 2), build(t, "tanh", 2)
	// Another activation over the same weights: only the outputs tell.
	wrong, err := weights.Into(other, weights.Of(m.Model))
	if err != nil {
		t.Fatal(err)
	}
	files, err := onnxfile.All(t.TempDir(), wrong, meta, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, err := check(t, file, m); !errors.Is(err, verify.ErrDiffers) {
			t.Errorf("%s: another network passed: %v", file, err)
		}
	}
	// Other settings of the step.
	changed := meta
	changed.Step.GradClip = 0.4
	file := filepath.Join(t.TempDir(), "sampler.onnx")
	if err := onnxfile.Sampler(file, m, changed, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := check(t, file, m); !errors.Is(err, verify.ErrDiffers) || !strings.Contains(err.Error(), file) {
		t.Errorf("another clip passed: %v", err)
	}
	// One weight changed by one part in ten thousand, which the outputs hide.
	c := passes.Clone(m.Model)
	for _, v := range c.Graph.Inits {
		if v.Name == "layer2.bias" {
			v.Const.F32()[0] += 1e-6
		}
	}
	file = filepath.Join(t.TempDir(), "energy.onnx")
	if err := onnxio.Write(file, c); err != nil {
		t.Fatal(err)
	}
	if _, err := check(t, file, build(t, "swish", 2)); !errors.Is(err, verify.ErrDiffers) || !strings.Contains(err.Error(), `"layer2.bias"`) {
		t.Errorf("a changed weight passed: %v", err)
	}
	if err := os.WriteFile(file, []byte("no model"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := check(t, file, m); err == nil {
		t.Error("no model passed")
	}
}

// TestUnrolled: every step of an unrolled sampler is compared, or the report says that the end alone is.
func TestUnrolled(t *testing.T) {
	m := build(t, "swish", 2)
	change := func(do func(b *graphs.Builder, between *graphs.Value)) string {
		file := filepath.Join(t.TempDir(), "sampler.onnx")
		if err := onnxfile.Sampler(file, m, meta, 4); err != nil {
			t.Fatal(err)
		}
		c, err := onnxio.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		do(graphs.NewBuilder(c.Graph), c.Graph.Find(chain.After(1)))
		if err := onnxio.Write(file, c); err != nil {
			t.Fatal(err)
		}
		return file
	}
	r, err := check(t, change(func(_ *graphs.Builder, between *graphs.Value) { between.Name = "renamed" }), m)
	if got := checks(r); err != nil || !got["engine drift after all 4 steps"] || !got["engine noise after all 4 steps"] || got["engine drift"] {
		t.Errorf("without names: %v, %v", r.Checks, err)
	}
	// one step that ends where the next one brings x back
	r, err = check(t, change(func(b *graphs.Builder, between *graphs.Value) {
		users := slices.Clone(b.Target().Nodes)
		moved := b.Op("Add", []*graphs.Value{between, b.Scalar(between, 0.01)})
		moved.Name, between.Name = between.Name, "before"
		back := b.Op("Sub", []*graphs.Value{moved, b.Scalar(between, 0.01)})
		for _, n := range users {
			for i, v := range n.Inputs {
				if v == between {
					n.Inputs[i] = back
				}
			}
		}
	}), m)
	if !errors.Is(err, verify.ErrDiffers) || !strings.Contains(err.Error(), "drift is off") {
		t.Errorf("a step that goes elsewhere passed: %v, %v", r.Checks, err)
	}
}

func TestWeights(t *testing.T) {
	m := build(t, "swish", 2)
	for name, write := range map[string]func(*os.File, weights.Tensors) error{
		"w.npz":         func(f *os.File, w weights.Tensors) error { return weights.NPZ(f, w) },
		"w.safetensors": func(f *os.File, w weights.Tensors) error { return weights.Safetensors(f, w, nil) },
	} {
		save := func(w weights.Tensors) string {
			f, err := os.Create(filepath.Join(t.TempDir(), name))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := write(f, w); err != nil {
				t.Fatal(err)
			}
			return f.Name()
		}
		r, err := verify.Weights(save(weights.Of(m.Model)), m.Model)
		if err != nil || len(r.Checks) != 1 || !strings.Contains(r.Checks[0].String(), "6 weights equal") {
			t.Errorf("%v, %v", r, err)
		}
		less := weights.Of(m.Model)
		delete(less, "layer1.bias")
		if _, err := verify.Weights(save(less), m.Model); !errors.Is(err, verify.ErrDiffers) {
			t.Errorf("%s: a missing weight passed: %v", name, err)
		}
		other, err := energy.Build(energy.Spec{Layers: []energy.Layer{{Filters: 5}, {Filters: 4}, {Filters: 1}}, Activation: "swish"}, []int{2}, 1, 6)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify.Weights(save(weights.Of(other.Model)), m.Model); !errors.Is(err, verify.ErrDiffers) {
			t.Errorf("%s: other weights passed: %v", name, err)
		}
	}
}

// TestGradients: errors are found in the gradients of smooth units and of those that
// jump, though smaller ones than a jump makes.
func TestGradients(t *testing.T) {
	for _, c := range []struct {
		activation string
		spoil      func(g []float32) // weights of each value of grad/x, 1 before
		fails      bool
	}{
		{"relu", func(g []float32) { g[3] += 5e-5 }, false},
		{"relu", func(g []float32) { g[3] += 5e-4 }, true}, // no unit stands at its jump
		{"swish", func(g []float32) { g[3] += 5e-4 }, true},
		{"relu", func(g []float32) { g[3] = -1 }, true},
		{"relu", func(g []float32) { g[3] = float32(math.NaN()) }, true},
	} {
		m := build(t, c.activation, 4)
		file := filepath.Join(t.TempDir(), "energy-grad.onnx")
		if err := onnxfile.Gradient(file, m, meta); err != nil {
			t.Fatal(err)
		}
		if _, err := check(t, file, m); err != nil {
			t.Errorf("%s, as written: %v", c.activation, err)
		}
		bad, err := onnxio.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		spoilt := []float32{1, 1, 1, 1}
		c.spoil(spoilt)
		b := graphs.NewBuilder(bad.Graph)
		right := bad.Graph.Output(onnxmodels.GradX)
		right.Name = "right"
		wrong := b.Op("Mul", []*graphs.Value{right, b.Const(graphs.Of(spoilt, 4))})
		wrong.Name = onnxmodels.GradX
		bad.Graph.Outputs[slices.Index(bad.Graph.Outputs, right)] = wrong
		if err := onnxio.Write(file, bad); err != nil {
			t.Fatal(err)
		}
		if _, err := check(t, file, m); errors.Is(err, verify.ErrDiffers) != c.fails {
			t.Errorf("%s, factors %v: wanted failure %v, got %v", c.activation, spoilt, c.fails, err)
		}
	}
}
