package video_test

import (
	"context"
	"math"
	"testing"

	"ebmrun/onnxmodels/energy"
	"ebmrun/runtime/ref"
	"ebmrun/training"
	"ebmrun/training/bind"
	"ebmrun/training/bind/bindtest"
	"ebmrun/training/data"
	"ebmrun/training/generativeconvnet"
	"ebmrun/training/systemtest"
	"ebmrun/training/video"
)

// wave is two small clips.
func wave(t testing.TB) *data.Set {
	t.Helper()
	set, err := data.Load(context.Background(), "synthetic/wave", data.Options{Seed: 1, Size: 8, Frames: 6, Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	set, _ = data.Rescale(data.Bytes, set, set)
	return set
}

func config(change func(*video.Config)) video.Config {
	c := video.Presets["clip"].Config
	c.Spec = &energy.Spec{Activation: "relu", Init: "normal:0.001", SumActive: true, Layers: []energy.Layer{
		{Filters: 4, Kernel: 3, Stride: 2, Same: true}, {Filters: 3, Kernels: []int{2, 3, 3}, Strides: []int{1, 2, 2}, Same: true}}}
	c.Steps, c.Batch, c.Langevin.Steps, c.Langevin.Fused, c.Recovery.Steps = 10, 2, 3, false, 3
	if change != nil {
		change(&c)
	}
	return c
}

func system(t testing.TB, c video.Config) *video.System {
	t.Helper()
	set := wave(t)
	net := bindtest.On(t, ref.New(), bind.Options{})(energy.Build(*c.Spec, set.Dims(), c.Reference.Sigma, 5))
	s, err := video.New(c, net, set, 3)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestResume(t *testing.T) {
	t.Run("whole", func(t *testing.T) {
		systemtest.Resume(t, func() training.System { return system(t, config(nil)) }, "weights/layer1.weight", "chains/x")
	})
	t.Run("holes", func(t *testing.T) {
		systemtest.Resume(t, func() training.System {
			return system(t, config(func(c *video.Config) { c.Mask, c.Missing = video.Pixels, 0.3 }))
		}, "weights/layer1.weight", "recovered")
	})
}

// TestKnown checks that what is known stays as it is, bit for bit, that holes move,
// and that the data that were given are left alone.
func TestKnown(t *testing.T) {
	for _, mask := range []string{video.Region, video.Frames, video.Pixels} {
		c := config(func(c *video.Config) { c.Mask, c.Missing = mask, 0.4 })
		s := system(t, c)
		truth := wave(t)
		known, err := video.Known(mask, 0.4, truth, 3)
		if err != nil {
			t.Fatal(err)
		}
		before := append([]float32(nil), s.Recovered()...)
		m, err := s.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		moved, holes := 0, 0
		for i, v := range s.Recovered() {
			switch {
			case known[i] != 0:
				if v != truth.X()[i] {
					t.Fatalf("%s: entry %d is known and went from %v to %v", mask, i, truth.X()[i], v)
				}
			default:
				if holes++; v != before[i] {
					moved++
				}
			}
		}
		if share := float64(holes) / float64(len(known)); share < 0.1 || share > 0.7 || moved < holes {
			t.Errorf("%s: %.2f missing, %d of %d holes moved", mask, share, moved, holes)
		}
		if want := video.HoleRMSE(s.Recovered(), truth.X(), known); m["hole_rmse"] != want {
			t.Errorf("%s: hole_rmse %g, wanted %g", mask, m["hole_rmse"], want)
		}
	}
}

// TestMean checks the mean fill by hand.
func TestMean(t *testing.T) {
	x := []float32{1, 3, 9, 9, 5, 5, 5, 9}
	known := []float32{1, 1, 0, 0, 1, 1, 1, 0}
	truth := []float32{1, 3, 2, 6, 5, 5, 5, 8}
	video.Fill(x, known, 4)
	if x[2] != 2 || x[3] != 2 || x[7] != 5 {
		t.Errorf("filled %v", x)
	}
	if got, want := video.HoleRMSE(x, truth, known), math.Sqrt((0.+16+9)/3); math.Abs(got-want) > 1e-12 {
		t.Errorf("error %g, wanted %g", got, want)
	}
}

// TestSizes checks the maps of the published networks, with fewer filters, against
// the arithmetic of their windows: 35×50×50, then 18×1×1, then 19×1×1 for the one
// that is stationary in time alone.
func TestSizes(t *testing.T) {
	for name, want := range map[string][][]int{
		"published":          {{10, 32, 32}, {4, 11, 11}, {4, 6, 6}},
		"published-temporal": {{35, 50, 50}, {18, 1, 1}, {19, 1, 1}},
	} {
		c := video.Presets[name].Config
		spec := *c.Spec
		spec.Layers = append([]energy.Layer(nil), spec.Layers...)
		for i := range spec.Layers {
			spec.Layers[i].Filters = 1
		}
		side := map[string]int{"published": 224, "published-temporal": 100}[name]
		m, err := energy.Build(spec, []int{1, 70, side, side}, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		var got [][]int
		for _, n := range m.Graph.Nodes {
			if n.Op == "Conv" {
				got = append(got, n.Out(0).Shape[2:].Ints())
			}
		}
		for i := range want {
			if i >= len(got) || !same(got[i], want[i]) {
				t.Errorf("%s: maps of %v, wanted %v", name, got, want)
				break
			}
		}
	}
}

func same(a, b []int) bool {
	for i := range b {
		if len(a) != len(b) || a[i] != b[i] {
			return false
		}
	}
	return true
}

// TestLearning has a net learn the clips, and a spoiled arm move away: the samples'
// deviation tells them apart.
func TestLearning(t *testing.T) {
	run := func(sabotage string) float64 {
		s := system(t, config(func(c *video.Config) {
			c.Langevin.Steps, c.Sabotage, c.Optim.LR = 8, sabotage, 1e-2
		}))
		var last training.Metrics
		for range 150 {
			m, err := s.Step(t.Context())
			if err != nil {
				return math.Inf(1)
			}
			last = m
		}
		return math.Abs(math.Log(last[training.SampleStd] / last[training.DataStd]))
	}
	works, frozen, flipped := run(""), run(generativeconvnet.Freeze), run(generativeconvnet.Flip)
	t.Logf("log of the deviations' ratio: %.3g, frozen %.3g, flipped %.3g", works, frozen, flipped)
	if !(works < 0.5*frozen) || !(flipped > 2*works) {
		t.Errorf("log of the deviations' ratio: %.3g, frozen %.3g, flipped %.3g", works, frozen, flipped)
	}
}

func TestRefused(t *testing.T) {
	pictures, err := data.Load(t.Context(), "synthetic/blob16", data.Options{Seed: 1, Limit: 4})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := video.New(config(nil), nil, pictures, 1); err == nil {
		t.Error("pictures were taken for clips")
	}
	for _, change := range []func(*video.Config){
		func(c *video.Config) { c.Mask = "holes" },
		func(c *video.Config) { c.Mask, c.Missing = video.Frames, 1 },
		func(c *video.Config) { c.Recovery.Step = 0 },
	} {
		c := config(change)
		if c.Check() == nil {
			t.Errorf("%+v passes", c)
		}
	}
	if _, err := video.Known(video.Own, 0, wave(t), 1); err == nil {
		t.Error("masks that are not there were found")
	}
}
