package coopnets_test

import (
	"context"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/checkpoint"
	"ebmrun/training/coopnets"
	"ebmrun/training/data"
	"ebmrun/training/record"
)

// networks is a new system over two small networks, as a new process would make
// it.
func networks(t testing.TB, e runtime.Engine, fused bool) *coopnets.System {
	t.Helper()
	set, err := data.Load(context.Background(), "synthetic/shape", data.Options{Seed: 2, Size: 8, Limit: 25})
	if err != nil {
		t.Fatal(err)
	}
	c := config(func(c *coopnets.Config) {
		c.Spec = &energy.Spec{Layers: []energy.Layer{{Filters: 4, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 4}}, Activation: "swish"}
		c.GenSpec = &generator.Spec{Codes: 2, Start: 4, Filters: 3, Activation: "leaky", Tanh: true, Layers: []generator.Layer{{Kernel: 4, Stride: 2, Pad: 1}}}
		c.Steps, c.Batch, c.ScoreL2 = 10, 6, 0.1
		c.Langevin = training.Langevin{Steps: 3, Step: 0.2, Noise: 1, GradClip: 1, Clamp: [2]float64{-1, 1}, Fused: fused}
		c.Inference = training.Langevin{Steps: 2, Step: 0.1, Noise: 1}
		c.Optim = training.Optim{LR: 1e-2, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1}
		c.Teach = training.Optim{Name: "rmsprop", LR: 1e-3, Decay: 0.2}
	})
	dims, o := []int{set.C, set.H, set.W}, runtime.Options{Threads: 1, NoSpin: true}
	em, err := energy.Build(*c.Spec, dims, c.Reference.Sigma, 1)
	if err != nil {
		t.Fatal(err)
	}
	gm, err := generator.Build(*c.GenSpec, dims, 1)
	if err != nil {
		t.Fatal(err)
	}
	net, err := bind.New(context.Background(), em, e, bind.Options{Runtime: o})
	if err != nil {
		t.Fatal(err)
	}
	g, err := bind.NewGenerator(context.Background(), gm, e, o, c.Sigma)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { net.Close(); g.Close() })
	return system(t, c, net, g, set)
}

func last(t testing.TB, dir string) *checkpoint.State {
	t.Helper()
	st, err := checkpoint.Load(dir, checkpoint.Last)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// same compares two checkpoints bit for bit.
func same(t *testing.T, a, b *checkpoint.State) {
	t.Helper()
	if a.Step != b.Step || string(a.Meta) != string(b.Meta) || len(a.Tensors) != len(b.Tensors) {
		t.Errorf("iteration %d, %d tensors, %s; wanted %d, %d, %s", b.Step, len(b.Tensors), b.Meta, a.Step, len(a.Tensors), a.Meta)
	}
	for name, x := range a.Tensors {
		if !reflect.DeepEqual(x, b.Tensors[name]) {
			t.Errorf("%s differs", name)
		}
	}
}

// TestResume: 10 iterations, and 5 saved, restored in a new system and 5 more,
// are the same bits, fused or not.
func TestResume(t *testing.T) {
	for name, c := range map[string]struct {
		engine func() (runtime.Engine, error)
		fused  bool
	}{
		"ref":        {func() (runtime.Engine, error) { return ref.New(), nil }, false},
		"ort":        {func() (runtime.Engine, error) { return ort.Open("") }, false},
		"ort, fused": {func() (runtime.Engine, error) { return ort.Open("") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := c.engine()
			enginetest.Unavailable(t, err)
			straight, broken := t.TempDir(), filepath.Join(t.TempDir(), "c")
			o := training.Options{Steps: 10, Checkpoints: straight, SaveEvery: 1 << 30}
			if err := training.Run(t.Context(), networks(t, e, c.fused), o); err != nil {
				t.Fatal(err)
			}
			o.Checkpoints, o.Steps = broken, 5
			if err := training.Run(t.Context(), networks(t, e, c.fused), o); err != nil {
				t.Fatal(err)
			}
			s := networks(t, e, c.fused)
			if _, _, err := training.Resume(s, broken); err != nil {
				t.Fatal(err)
			}
			if s.Iteration() != 5 {
				t.Fatalf("resumed at iteration %d", s.Iteration())
			}
			o.Steps = 10
			half := last(t, broken)
			if err := training.Run(t.Context(), s, o); err != nil {
				t.Fatal(err)
			}
			end := last(t, broken)
			same(t, last(t, straight), end)
			for _, name := range []string{"weights/layer1.weight", "generator/code.weight"} {
				if _, ok := end.Tensors[name]; !ok || reflect.DeepEqual(half.Tensors[name], end.Tensors[name]) {
					t.Errorf("%s: nothing changed in five iterations", name)
				}
			}
			// back to the middle without a new system, as after bad numbers
			if err := s.Restore(half); err != nil {
				t.Fatal(err)
			}
			o.Checkpoints = filepath.Join(t.TempDir(), "again")
			if err := training.Run(t.Context(), s, o); err != nil {
				t.Fatal(err)
			}
			same(t, end, last(t, o.Checkpoints))
		})
	}
}

// TestFused: a chain in one graph teaches what single steps teach.
func TestFused(t *testing.T) {
	fused, single := networks(t, ref.New(), true), networks(t, ref.New(), false)
	for range 3 {
		step(t, fused)
		step(t, single)
	}
	for i, p := range single.Generator.Params() {
		for j, w := range fused.Generator.Params()[i].W {
			if math.Abs(float64(w-p.W[j])) > 1e-4 {
				t.Fatalf("%s: %g fused, %g in single steps", p.Name, w, p.W[j])
			}
		}
	}
}

// TestForeignCheckpoint: a checkpoint of other data, seed or system is refused.
func TestForeignCheckpoint(t *testing.T) {
	set := gaussian(t, 30)
	c := config(func(c *coopnets.Config) { c.Batch = 10 })
	s := system(t, c, newQuadratic(), newAffine(), set)
	st, err := s.Save()
	if err != nil {
		t.Fatal(err)
	}
	seeded, err := coopnets.New(c, newQuadratic(), newAffine(), set, 4)
	if err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]*coopnets.System{
		"other data": system(t, c, newQuadratic(), newAffine(), gaussian(t, 31)),
		"seed 3":     seeded,
	} {
		if err := s.Restore(st); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
	foreign := *st
	foreign.Meta = []byte(strings.Replace(string(st.Meta), `"coopnets"`, `"flow"`, 1))
	if err := s.Restore(&foreign); err == nil || !strings.Contains(err.Error(), "flow") {
		t.Errorf("wanted an error about system flow, got %v", err)
	}
	for _, name := range []string{"weights/theta", "generator/w", "teach.slow"} {
		part := training.CopyState(st)
		delete(part.Tensors, name)
		if err := s.Restore(part); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("wanted an error about %s, got %v", name, err)
		}
	}
}

// TestPictures: revised samples and drafts.
func TestPictures(t *testing.T) {
	s := networks(t, ref.New(), false)
	pics, err := s.Pictures(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(pics) != 2 || pics[0].Tag != record.SamplesTag || pics[1].Tag != "drafts" {
		t.Fatalf("got %d pictures", len(pics))
	}
	for i, revised := range []bool{true, false} {
		x, err := s.Samples(t.Context(), 100, revised)
		if err != nil {
			t.Fatal(err)
		}
		if img := pics[i].Images; img.N != 100 || img.Lo != -1 || img.Hi != 1 || !reflect.DeepEqual(img.Data, x) {
			t.Errorf("%s: not the samples", pics[i].Tag)
		}
	}
}
