package abp_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/abp"
	"ebmrun/training/bind"
	"ebmrun/training/checkpoint"
	"ebmrun/training/data"
	"ebmrun/training/record"
	"ebmrun/training/systemtest"
)

func shapes(t testing.TB) *data.Set {
	t.Helper()
	set, err := data.Load(context.Background(), "synthetic/shape", data.Options{Seed: 2, Size: 8, Limit: 25})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// network is a new system over a small network, as a new process would make it.
func network(t testing.TB, e runtime.Engine) *abp.System {
	t.Helper()
	set := shapes(t)
	c := config(func(c *abp.Config) {
		c.Spec = &generator.Spec{Codes: 2, Start: 4, Filters: 3, Activation: "leaky", Tanh: true, Layers: []generator.Layer{{Kernel: 4, Stride: 2, Pad: 1}}}
		c.Steps, c.Batch, c.Data.Hidden = 10, 6, 0.3
		c.Langevin.Steps = 4
		c.Optim = training.Optim{LR: 1e-2, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1}
	})
	m, err := generator.Build(*c.Spec, []int{set.C, set.H, set.W}, 1)
	if err != nil {
		t.Fatal(err)
	}
	g, err := bind.NewGenerator(context.Background(), m, e, runtime.Options{Threads: 1, NoSpin: true}, c.Sigma)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	s := system(t, c, g, set)
	s.Held = set.Head(3)
	return s
}

func last(t testing.TB, dir string) *checkpoint.State {
	t.Helper()
	st, err := checkpoint.Load(dir, checkpoint.Last)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// TestResume: 10 iterations, and 5 saved, restored in a new system and 5 more,
// are the same bits.
func TestResume(t *testing.T) {
	for name, engine := range map[string]func() (runtime.Engine, error){
		"ref": func() (runtime.Engine, error) { return ref.New(), nil },
		"ort": func() (runtime.Engine, error) { return ort.Open("") },
	} {
		t.Run(name, func(t *testing.T) {
			e, err := engine()
			enginetest.Unavailable(t, err)
			systemtest.Resume(t, func() *abp.System { return network(t, e) }, "codes", "generator/code.weight")
		})
	}
}

// TestForeignCheckpoint: a checkpoint of other data, seed or system is refused.
func TestForeignCheckpoint(t *testing.T) {
	set := draws(t, 30, 1)
	s := system(t, config(nil), untrained(), set)
	st, err := s.Save()
	if err != nil {
		t.Fatal(err)
	}
	seeded, err := abp.New(config(nil), untrained(), set, 4)
	if err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]*abp.System{
		"other data": system(t, config(nil), untrained(), draws(t, 30, 2)),
		"seed 3":     seeded,
	} {
		if err := s.Restore(st); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error about %s, got %v", want, err)
		}
	}
	foreign := *st
	foreign.Meta = []byte(strings.Replace(string(st.Meta), `"abp"`, `"flow"`, 1))
	if err := s.Restore(&foreign); err == nil || !strings.Contains(err.Error(), "flow") {
		t.Errorf("wanted an error about system flow, got %v", err)
	}
	delete(st.Tensors, "codes")
	if err := s.Restore(st); err == nil || !strings.Contains(err.Error(), "codes") {
		t.Errorf("wanted an error about codes, got %v", err)
	}
}

// TestPictures: samples, held-out examples above their reconstructions, training
// examples as they are seen, recovered and whole, and the manifold of two codes;
// points have none.
func TestPictures(t *testing.T) {
	s := network(t, ref.New())
	pics, err := s.Pictures(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var tags []string
	for _, p := range pics {
		tags = append(tags, p.Tag)
	}
	if !slices.Equal(tags, []string{record.SamplesTag, "reconstructions", "recovered", "manifold"}) {
		t.Fatalf("got %v", tags)
	}
	if r := pics[2].Rows; len(r) != 3 || !slices.Equal(r[2].Data, shapes(t).Head(16).X()) || slices.Equal(r[0].Data, r[2].Data) {
		t.Error("recovered: wanted what is seen of 16 examples, what is recovered, and the truth")
	}
	if x := pics[0].Images; x.N != 100 || len(x.Data) != 6400 || x.Lo != -1 || x.Hi != 1 {
		t.Errorf("samples: %d of %d values", x.N, len(x.Data))
	}
	if r := pics[1].Rows; len(r) != 2 || r[0].N != 3 || r[1].N != 3 || !slices.Equal(r[0].Data, s.Held.X()) || slices.Equal(r[1].Data, s.Held.X()) {
		t.Error("reconstructions: wanted three examples above what the generator makes of them")
	}
	if pics[3].Images.N != 64 {
		t.Errorf("manifold: %d images", pics[3].Images.N)
	}
	if pics, err := system(t, config(nil), untrained(), draws(t, 5, 1)).Pictures(t.Context()); err != nil || len(pics) != 0 {
		t.Errorf("points: %d pictures (%v)", len(pics), err)
	}
}
