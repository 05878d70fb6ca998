package swin

import (
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/graphtest"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ref"
)

// exported is a file that PyTorch has written, of two pictures of 16×16, and what it computes; testdata/export.py
// makes them.
func exported(t *testing.T, name string) (*graphs.Model, []float32) {
	t.Helper()
	return graphtest.Exported(t, filepath.Join("testdata", name))
}

var tiny = Spec{Patch: 2, Embed: 4, Depths: []int{2, 1}, Heads: []int{1, 2}, Window: 4, Codes: 1, Features: 1, Reduction: 1, Dilations: []int{1}}

// TestOfficial: with the weights of what other code has learned and PyTorch exported, the
// transformer computes the same features.
func TestOfficial(t *testing.T) {
	for _, name := range []string{"timm", "torchvision-17"} {
		file, numbers := exported(t, name)
		w, err := Official(file, tiny)
		if err != nil {
			t.Fatal(err)
		}
		x, norm, bias, features := numbers[:1536], numbers[1536:1544], numbers[1544:1552], numbers[1552:]
		b := newBuilder(tiny, 1)
		in := b.Input("x", graphs.Float32, graphs.MakeShape(2, 3, 16, 16))
		levels := b.encode(in)
		b.Output("y", b.Identity(levels[len(levels)-1]))
		g, err := b.Graph()
		if err != nil {
			t.Fatal(err)
		}
		m := graphs.NewModel(g)
		if err := Put(m, w); err != nil {
			t.Fatal(err)
		}
		for i := range x { // what picture does is undone

			c := i / 256 % 3
			x[i] = float32(2*(float64(x[i])*deviation[c]+mean[c]) - 1)
		}
		// the file ends in a normalisation over the 8 channels, which come last
		y := enginetest.Outputs(t, ref.New(), m, graphs.Of(x, 2, 3, 16, 16))[0].F32()
		const c, plane = 8, 16
		worst := 0.0
		for i := range 2 * plane {
			at := func(k int) float64 { return float64(y[i/plane*c*plane+k*plane+i%plane]) }
			mu, square := 0.0, 0.0
			for k := range c {
				mu += at(k) / c
			}
			for k := range c {
				square += (at(k) - mu) * (at(k) - mu) / c
			}
			for k := range c {
				got := (at(k)-mu)/math.Sqrt(square+1e-5)*float64(norm[k]) + float64(bias[k])
				worst = max(worst, math.Abs(got-float64(features[i*c+k])))
			}
		}
		t.Logf("%s: %d weights, largest difference of features %.2g", name, len(w), worst)
		if worst > 1e-4 {
			t.Errorf("%s: features differ by %g", name, worst)
		}
		// a table that is read wrongly must show
		table := w["layers.0.blocks.1.attn.relative_position_bias_table"]
		if v := table.F32(); v[0] == v[1] {
			t.Errorf("%s: a table of equal numbers", name)
		}
	}
}

// TestOfficialRefused: files of other transformers.
func TestOfficialRefused(t *testing.T) {
	m, _ := exported(t, "timm")
	for want, change := range map[string]func(s *Spec){
		"layers.1.blocks.1.norm1": func(s *Spec) { s.Depths = []int{2, 2} },
		"layers.0.blocks.1":       func(s *Spec) { s.Depths = []int{1, 1} },
	} {
		s := tiny
		change(&s)
		w, err := Official(m, s)
		if err == nil {
			b := newBuilder(s, 1)
			b.Output("y", b.Identity(b.encode(b.Input("x", graphs.Float32, graphs.MakeShape(2, 3, 16, 16)))[0]))
			g, _ := b.Graph()
			err = Put(graphs.NewModel(g), w)
		}
		if err == nil {
			t.Errorf("%s: taken, of %v", want, slices.Sorted(maps.Keys(w)))
		} else {
			t.Log(err)
		}
	}
}

// TestNamed: weights are known by the names of the official release, of timm and of torchvision.
func TestNamed(t *testing.T) {
	official := map[string]*graphs.Tensor{}
	for _, n := range []string{"patch_embed.proj.weight", "patch_embed.norm.bias", "layers.0.blocks.1.mlp.fc1.weight", "layers.0.blocks.1.mlp.fc2.bias",
		"layers.0.blocks.0.attn.relative_position_bias_table", "layers.0.downsample.norm.weight", "layers.0.downsample.reduction.weight",
		"layers.1.blocks.0.norm1.weight", "layers.1.downsample.reduction.weight", "norm.weight", "head.bias"} {
		official[n] = graphs.Of([]float32{1}, 1)
	}
	for what, other := range map[string][]string{
		"model/":      nil,
		"timm":        {"layers.0.downsample", "layers.1.downsample", "layers.1.downsample", "layers.2.downsample"},
		"torchvision": {"patch_embed.proj", "features.0.0", "patch_embed.norm", "features.0.2", "layers.0.blocks", "features.1", "layers.0.downsample", "features.2", "layers.1.blocks", "features.3", "layers.1.downsample", "features.4", "fc1", "0", "fc2", "3"},
	} {
		from := map[string]*graphs.Tensor{}
		for n, w := range official {
			n = strings.NewReplacer(other...).Replace(n)
			if other == nil {
				n = what + n
			}
			from[n] = w
		}
		if got := Named(from); !maps.Equal(got, official) {
			t.Errorf("%s: got %v", what, slices.Sorted(maps.Keys(got)))
		}
	}
}
