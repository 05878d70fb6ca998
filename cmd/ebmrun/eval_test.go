package main

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/training/data"
	"ebmrun/training/diag"
)

// TestEval measures a run, real data and noise: real data comes close to the
// floor, noise does not.
func TestEval(t *testing.T) {
	run := trained(t)
	for _, m := range []string{"energy-distance", "kl", "diversity", "nearest", "fd-pca"} {
		ebmrun(t, "eval", m, run, "--provider", "ref", "--quiet", "--steps", "1", "--n", "10").wantOut(t, m, "floor", "10 samples", "10 real examples of synthetic/rings")
	}
	r := rand.New(rand.NewPCG(1, 1))
	real, err := data.Load(t.Context(), "synthetic/rings", data.Options{Seed: 5, Limit: 400})
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]float32, 800)
	for i := range noise {
		noise[i] = float32(r.NormFloat64())
	}
	value := func(metric string, x []float32) (e struct{ Value, Floor float64 }) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "x.npy")
		if err := data.WriteNPY(path, x, len(x)/2, 2); err != nil {
			t.Fatal(err)
		}
		out := ebmrun(t, "eval", metric, path, "--data", "synthetic/rings", "--json")
		out.wantOut(t)
		if err := json.Unmarshal([]byte(out.out), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	for metric, near := range map[string]float64{"energy-distance": 0.02, "kl": 0.15, "nearest": 0.01} {
		if e := value(metric, real.X()); math.Abs(e.Value-e.Floor) > near {
			t.Errorf("%s: real data has %g, the floor is %g", metric, e.Value, e.Floor)
		}
		if e := value(metric, noise); e.Value < e.Floor+near {
			t.Errorf("%s: noise has %g, the floor is %g", metric, e.Value, e.Floor)
		}
	}
	training, err := data.Load(t.Context(), "synthetic/rings", data.Options{Part: "train", Limit: 50})
	if err != nil {
		t.Fatal(err)
	}
	if e := value("nearest", training.X()); e.Value != 0 {
		t.Errorf("copies have the distance %g from what they copy", e.Value)
	}
}

// TestNamedFeatures: a layer of a network with a name is a feature network of
// means, on pictures enlarged.
func TestNamedFeatures(t *testing.T) {
	c := newCommon(nil, nil)
	c.provider = refProvider
	f, err := c.openFeatures(t.Context(), "random:relu3", []int{1, 16, 16})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	x := make([]float32, 3*256)
	for i := range x {
		x[i] = float32(i%7)/3 - 1
	}
	out, dim, err := f.of(t.Context(), &data.Set{N: 3, C: 1, H: 16, W: 16, Floats: x})
	if err != nil || len(out) != 3*dim || dim < 64 || f.hash == "" {
		t.Errorf("got %d numbers of %d features, hash %q (%v)", len(out), dim, f.hash, err)
	}
	for name, want := range map[string]string{"random:relu9": "relu3", "none:relu3": "no such file"} {
		if _, err := c.openFeatures(t.Context(), name, []int{1, 16, 16}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: wanted %q, got %v", name, want, err)
		}
	}
}

func TestEvalErrors(t *testing.T) {
	run := trained(t)
	ebmrun(t, "eval", "no-such", run).wantError(t, statusBadInput, "no-such", "fd-pca")
	ebmrun(t, "eval", "fid", run).wantError(t, statusBadInput, "--features")
	ebmrun(t, "eval", "kl", run, "--features", "f.onnx").wantError(t, statusBadInput, "--features")
	ebmrun(t, "eval", "kl", run, "--provider", "ref", "--quiet", "--steps", "1", "--n", "10", "--data", "synthetic/moons").wantError(t, statusBadInput, "not known")
	ebmrun(t, "eval", "fd-pca", run, "--provider", "ref", "--quiet", "--steps", "1", "--n", "10", "--data", "synthetic/blob16").wantError(t, statusBadInput, "16×16")
	ebmrun(t, "eval", "fd-pca", "none.npy", "--data", "synthetic/rings").wantError(t, statusBadInput, "none.npy")
}

// TestFID: on features that are the pixels themselves the distance is that of
// two Gaussians, which has a closed form.
func TestFID(t *testing.T) {
	g := &graphs.Graph{Name: "features"}
	b := graphs.NewBuilder(g)
	x := b.Input("picture", graphs.Float32, graphs.Shape{graphs.Sym("batch"), graphs.D(1), graphs.D(1), graphs.D(2)})
	b.Output("features", b.Scale(x, 2))
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	c := newCommon(nil, nil)
	c.provider = refProvider
	path := save(t, graphs.NewModel(g))
	f, err := c.openFeatures(t.Context(), path, []int{1, 1, 2})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	set := func(x, y, a, b float32) *data.Set {
		return &data.Set{N: 4, C: 1, H: 1, W: 2, Floats: []float32{x + a, y + b, x + a, y - b, x - a, y + b, x - a, y - b}}
	}
	value, floor, err := fid(t.Context(), comparison{features: f, held: set(0, 0, 1, 2), learned: set(0, 1, 1, 2), samples: set(3, -1, 2, 0.5)})
	if err != nil {
		t.Fatal(err)
	}
	// means 6 and 2 apart; deviations 2·√(4/3)·(1 and 2 against 2 and ½)
	if want := 36 + 4 + 4*4/3.0*(1+1.5*1.5); math.Abs(value-want) > 1e-5 || math.Abs(floor-4) > 1e-5 {
		t.Errorf("got %g and %g, wanted %g and 4", value, floor, want)
	}
	if len(f.hash) != 64 {
		t.Errorf("hash %q", f.hash)
	}
	if _, err := c.openFeatures(t.Context(), save(t, tiny(t)), []int{2}); err == nil {
		t.Error("a network of vectors is accepted")
	}
	if _, err := diag.FrechetFeatures(nil, nil, 2); err == nil {
		t.Error("no samples are accepted")
	}
}
