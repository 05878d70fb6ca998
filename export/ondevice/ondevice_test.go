package ondevice_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"

	"ebmrun/export/ondevice"
	"ebmrun/graphs"
	"ebmrun/onnxmodels"
	"ebmrun/onnxmodels/energy"
	"ebmrun/onnxmodels/generator"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/orttraining"
	"ebmrun/runtime/ref"
	"ebmrun/training/bind"
	"ebmrun/training/optim"
)

var adam = ondevice.AdamW{Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8}

func noise(r *rand.Rand, dims ...int) *graphs.Tensor {
	t := graphs.NewTensor(graphs.Float32, dims...)
	for i := range t.F32() {
		t.F32()[i] = float32(r.NormFloat64())
	}
	return t
}

func small(t *testing.T) *onnxmodels.Model {
	t.Helper()
	spec, err := energy.ByName("swish-16")
	if err != nil {
		t.Fatal(err)
	}
	m, err := energy.Build(spec, []int{1, 16, 16}, 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func open(t *testing.T) *orttraining.Engine {
	t.Helper()
	e, err := orttraining.Open(t.Context(), "")
	switch {
	case errors.Is(err, orttraining.ErrMissing) && os.Getenv("EBM_REQUIRE_ORT_TRAINING") != "1":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// apart is the relative distance of all parameters together, matched by name.
func apart(t *testing.T, got []ondevice.Parameter, want []optim.Param) float64 {
	t.Helper()
	var d, n float64
	for _, p := range want {
		found := false
		for _, q := range got {
			if q.Name != p.Name {
				continue
			}
			found = true
			for i, v := range p.W {
				e := float64(q.F32()[i] - v)
				d, n = d+e*e, n+float64(v)*float64(v)
			}
		}
		if !found {
			t.Errorf("no parameter %q", p.Name)
		}
	}
	return math.Sqrt(d / n)
}

// TestSteps has ONNX Runtime's Module and Optimizer make 20 steps from the
// artifacts of an energy and of a generator, beside our own AdamW: the weights
// agree to 1e-4.
func TestSteps(t *testing.T) {
	e := open(t)
	ctx := context.Background()
	const n, rate, steps = 4, 1e-3, 20
	learn := func(t *testing.T, a *ondevice.Artifacts, params []optim.Param, step func(*rand.Rand) ([]*graphs.Tensor, error)) {
		dir := t.TempDir()
		if err := a.Write(dir); err != nil {
			t.Fatal(err)
		}
		m, err := e.Module(ctx, orttraining.In(dir))
		if err != nil {
			t.Fatal(err)
		}
		ours := optim.AdamW(optim.Constant(rate), adam.Beta1, adam.Beta2, adam.Epsilon, 0)
		r := rand.New(rand.NewPCG(1, 2))
		var first []float32
		for range steps {
			in, err := step(r)
			if err != nil {
				t.Fatal(err)
			}
			out, err := m.Step(ctx, rate, in...)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = append(first, params[0].W...)
			}
			if err := optim.Step(ours, params); err != nil {
				t.Fatal(err)
			}
			if len(out) == 0 || len(out[0].Dims) != 0 {
				t.Fatalf("wanted a scalar loss first, got %v", out)
			}
		}
		file := filepath.Join(dir, "after")
		if err := m.Save(ctx, file); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ondevice.DecodeCheckpoint(data)
		if err != nil {
			t.Fatal(err)
		}
		if d := apart(t, c.Trained, params); !(d <= 1e-4) {
			t.Errorf("after %d steps: relative distance %.2g", steps, d)
		}
		if reflect.DeepEqual(first, params[0].W) {
			t.Error("nothing was learned")
		}
		if len(c.Groups) != 1 || c.Groups[0].Step != steps || len(c.Groups[0].Moments) != len(params) {
			t.Errorf("optimizer state %+v", c.Groups)
		}
	}
	t.Run("energy", func(t *testing.T) {
		m := small(t)
		a, err := ondevice.Energy(m, adam)
		if err != nil {
			t.Fatal(err)
		}
		net, err := bind.New(ctx, m, ref.New(), bind.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer net.Close()
		learn(t, a, net.Params(), func(r *rand.Rand) ([]*graphs.Tensor, error) {
			x, w := noise(r, n, 1, 16, 16), noise(r, n)
			net.Refresh()
			return []*graphs.Tensor{x, w}, net.Learn(ctx, x.F32(), w.F32(), 0, make([]float32, n))
		})
	})
	t.Run("generator", func(t *testing.T) {
		spec, err := generator.ByName("deconv16")
		if err != nil {
			t.Fatal(err)
		}
		m, err := generator.Build(spec, []int{1, 16, 16}, 3)
		if err != nil {
			t.Fatal(err)
		}
		a, err := ondevice.Generator(m, adam)
		if err != nil {
			t.Fatal(err)
		}
		g, err := bind.NewGenerator(ctx, m, ref.New(), runtime.Options{}, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		known := make([]float32, n*256)
		for i := range known {
			known[i] = 1
		}
		learn(t, a, g.Params(), func(r *rand.Rand) ([]*graphs.Tensor, error) {
			z, x, w := noise(r, n, m.Codes), noise(r, n, 1, 16, 16), noise(r, n)
			for i, v := range w.F32() {
				w.F32()[i] = v * v
			}
			return []*graphs.Tensor{z, x, w}, g.Learn(ctx, z.F32(), x.F32(), known, w.F32(), make([]float32, n))
		})
	})
}

// TestRoundTrip reads artifacts back: the network computes what it did.
func TestRoundTrip(t *testing.T) {
	m := small(t)
	a, err := ondevice.Energy(m, adam)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := a.Write(dir); err != nil {
		t.Fatal(err)
	}
	back, c, err := ondevice.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Trained) != len(a.Checkpoint.Trained) || len(c.Frozen) != 0 || len(c.Groups) != 0 {
		t.Errorf("checkpoint %+v", c)
	}
	r := rand.New(rand.NewPCG(1, 2))
	x, w := noise(r, 3, 1, 16, 16), noise(r, 3)
	run := func(g *graphs.Model, in ...*graphs.Tensor) map[string][]float32 {
		all := map[string][]float32{}
		for i, v := range enginetest.Outputs(t, ref.New(), g, in...) {
			all[g.Graph.Outputs[i].Name] = v.F32()
		}
		return all
	}
	want, got := run(m.Model, x), run(back, x, w)
	if !reflect.DeepEqual(got[onnxmodels.Score], want[onnxmodels.Score]) {
		t.Errorf("scores %v, wanted %v", got[onnxmodels.Score], want[onnxmodels.Score])
	}
}

// TestForeign reads artifacts that ONNX Runtime's own Python tools made for
// somebody else's network, and learns on from them.
func TestForeign(t *testing.T) {
	dir := filepath.Join("testdata", "foreign")
	m, c, err := ondevice.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range c.Trained {
		names = append(names, p.Name)
	}
	sort.Strings(names)
	if got := strings.Join(names, " "); got != "conv.bias conv.weight fc.bias fc.weight" {
		t.Errorf("parameters %q", got)
	}
	if m.Graph.Input("conv.weight") != nil {
		t.Error("a weight is still an input")
	}
	e := open(t)
	mod, err := e.Module(t.Context(), orttraining.In(dir))
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	x, y := noise(r, 10, 1, 4), noise(r, 10, 1, 2)
	var losses []float64
	for range 50 {
		out, err := mod.Step(t.Context(), 0.01, x, y)
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, float64(out[0].F32()[0]))
	}
	if first, last := losses[0], losses[len(losses)-1]; !(last < 0.9*first) {
		t.Errorf("the loss went from %.3g to %.3g", first, last)
	}
}

// TestHostile damages a checkpoint in every byte: an error of one line or a
// checkpoint, and no panic.
func TestHostile(t *testing.T) {
	a, err := ondevice.Energy(small(t), adam)
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.Checkpoint.Trained {
		p := &a.Checkpoint.Trained[i]
		p.Tensor = graphs.NewTensor(graphs.Float32, 2, 1) // small
	}
	good := a.Checkpoint.Encode()
	try := func(data []byte) {
		if _, err := ondevice.DecodeCheckpoint(data); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("not one line: %v", err)
		}
	}
	for i := range good {
		for _, v := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			bad := append([]byte(nil), good...)
			bad[i] = v
			try(bad)
		}
		try(good[:i])
	}
	if _, err := ondevice.DecodeCheckpoint([]byte("ODTC")); err == nil {
		t.Error("four bytes were read")
	}
}
