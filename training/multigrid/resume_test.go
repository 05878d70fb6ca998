package multigrid_test

import (
	"reflect"
	"strings"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/bind/bindtest"
	"ebmrun/training/data"
	"ebmrun/training/multigrid"
	"ebmrun/training/systemtest"
)

// networks is a new system over small networks, as a new process would make it.
func networks(t testing.TB, e runtime.Engine, fused bool) *multigrid.System {
	t.Helper()
	set, err := data.Load(t.Context(), "synthetic/shape", data.Options{Seed: 2, Size: 8, Limit: 25})
	if err != nil {
		t.Fatal(err)
	}
	c := multigrid.Config{
		Grids: []int{1, 4, 8}, Specs: []energy.Spec{
			{Layers: []energy.Layer{{Filters: 4, Kernel: 3, Pad: 1, Norm: "instance"}, {Filters: 1, Kernel: 4}}, Activation: "swish"},
			{Layers: []energy.Layer{{Filters: 4, Kernel: 4, Stride: 2, Pad: 1}, {Filters: 1, Kernel: 4}}, Activation: "swish"},
		},
		Bins: 4, Steps: 10, Batch: 6, ScoreL2: 0.1, EMA: 0.9,
		Langevin: training.Langevin{Steps: 3, Step: 0.2, Noise: 1, GradClip: 1, Clamp: [2]float64{-1, 1}, Fused: fused},
		Optim:    training.Optim{LR: 1e-2, Betas: [2]float64{0.5, 0.999}, Clip: 1, Decay: 0.1},
	}
	c.Data.Noise = 0.01
	var nets []training.Energy
	for k, spec := range c.Specs {
		net := bindtest.On(t, e, bind.Options{Spectral: k == 1})(energy.Build(spec, []int{1, c.Grids[k+1], c.Grids[k+1]}, 0, 1))
		nets = append(nets, net)
	}
	s, err := multigrid.New(c, nets, set, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestResume: 10 iterations, and 5 saved, restored in a new system and 5 more,
// are the same bits; so are the samples of a model restored without its data.
func TestResume(t *testing.T) {
	for name, c := range map[string]struct {
		engine func() (runtime.Engine, error)
		fused  bool
	}{
		"ref":        {func() (runtime.Engine, error) { return ref.New(), nil }, false},
		"ort, fused": {func() (runtime.Engine, error) { return ort.Open("") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := c.engine()
			enginetest.Unavailable(t, err)
			fresh := func() *multigrid.System { return networks(t, e, c.fused) }
			whole, end := systemtest.Resume(t, fresh, "weights1/layer1.weight", "weights2/layer1.weight")
			bare := fresh().Model
			if err := bare.Restore(end); err != nil {
				t.Fatal(err)
			}
			want, err := whole.Draw(t.Context(), 9, 4)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := bare.Draw(t.Context(), 9, 4); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("the model without data draws otherwise (%v)", err)
			}
		})
	}
}

// TestForeign: a checkpoint that lacks something is refused by name.
func TestForeign(t *testing.T) {
	s := networks(t, ref.New(), false)
	st, err := s.Save()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"weights1/layer1.weight", "weights2/layer2.weight", "colours", "optim2.slow", "average1/w/layer1.weight"} {
		part := training.CopyState(st)
		delete(part.Tensors, name)
		if err := s.Restore(part); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("wanted an error about %s, got %v", name, err)
		}
	}
	foreign := training.CopyState(st)
	foreign.Meta = []byte(strings.Replace(string(st.Meta), `"multigrid"`, `"flow"`, 1))
	if err := s.Restore(foreign); err == nil || !strings.Contains(err.Error(), "flow") {
		t.Errorf("got %v", err)
	}
}

// TestPictures: samples, and a few at every grid.
func TestPictures(t *testing.T) {
	pics, err := networks(t, ref.New(), false).Pictures(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(pics) != 2 || pics[0].Images.N != 100 || len(pics[1].Rows) != 3 || pics[1].Rows[2].N != 6 {
		t.Errorf("got %d pictures", len(pics))
	}
}
