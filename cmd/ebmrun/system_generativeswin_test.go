package main

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ebmrun/training/data"
	"ebmrun/training/record"
)

// TestGenerativeSwin trains from the command line with and without depth, resumes,
// translates and exports; without pictures it is refused in one line.
func TestGenerativeSwin(t *testing.T) {
	for _, from := range []string{"synthetic/salient", "synthetic/salient-depth"} {
		run := filepath.Join(t.TempDir(), "run")
		args := []string{"train", "generative-swin", "--data", from, "--size", "16", "--limit", "6", "--provider", "ref", "--quiet", "--out", run, "--steps", "1"}
		for _, s := range []string{"batch=2", "hidden=[4]", "draws=2", "prior.steps=2", "posterior.steps=2",
			"swin_spec={patch: 4, embed: 4, depths: [2, 1], heads: [1, 2], window: 2, codes: 2, features: 2, reduction: 2, dilations: [1]}"} {
			args = append(args, "--set", s)
		}
		ebmrun(t, args...).wantOut(t)
		ebmrun(t, "train", "generative-swin", "--resume", "--out", run, "--steps", "2", "--quiet").wantOut(t)
		out := filepath.Join(t.TempDir(), "maps")
		apply(t, "translate", run, "--n", "2", "-o", out+".png").wantOut(t, "2 examples: mean squared error")
		x, err := data.ReadNPY(out + ".npy")
		if err != nil {
			t.Fatal(err)
		}
		if x.N*x.Dim() != 2*256 {
			t.Errorf("%s: %d maps of %d values", from, x.N, x.Dim())
		}
		if x, err = data.ReadNPY(out + "-epistemic.npy"); err != nil || x.N*x.Dim() != 2*256 || slices.Max(x.X()) <= -1 || (slices.Max(x.X())+1)/2 > float32(math.Ln2) { // read as pictures of 0 … 1
			t.Errorf("%s: epistemic entropies from %g to %g (%v)", from, slices.Min(x.X()), slices.Max(x.X()), err)
		}
		files := filepath.Join(t.TempDir(), "x")
		exported(t, run, "-o", files, "--check").wantOut(t, "generator-given.onnx", "prior.onnx", "encoder.onnx", "decoder.onnx", "codes.onnx")
		weights, err := filepath.Glob(filepath.Join(files, "*-weights.safetensors")) // once: of the networks that the others are parts of
		for i := range weights {
			weights[i] = strings.TrimSuffix(filepath.Base(weights[i]), "-weights.safetensors")
		}
		if err != nil || !slices.Equal(weights, []string{"generator-given", "prior"}) {
			t.Errorf("%s: weights of %v (%v)", from, weights, err)
		}
		if from != "synthetic/salient" {
			continue
		}
		each := t.TempDir()
		for name, side := range map[string]int{"a/one.png": 20, "b/two.png": 16} {
			if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(each, name)), 0o777),
				record.WritePNG(filepath.Join(each, name), image.NewRGBA(image.Rect(0, 0, side, 24)))); err != nil {
				t.Fatal(err)
			}
		}
		apply(t, "translate", run, "--data", each, "-o", out+"/").wantOut(t, "2 pictures")
		for _, name := range []string{out + "/a/one.png", out + "-deviation/a/one.png", out + "/b/two.png"} {
			p, err := data.ReadPictures(name, 0, 0, false, 0)
			if err != nil {
				t.Fatal(err)
			}
			if p.C != 1 || p.H != 24 || p.W != map[string]int{"one.png": 20, "two.png": 16}[filepath.Base(name)] {
				t.Errorf("%s: %v, wanted a grey map as large as the picture", name, p.Dims())
			}
		}
		apply(t, "translate", run, "-o", out+"/").wantError(t, statusBadInput, "--data")
		asDocumented(t, files)
		// what is exported is a file to begin with, if it is of the same transformer
		again := append(slices.Clone(args), "--set", "weights="+filepath.Join(files, "generator-given.onnx"), "--out")
		ebmrun(t, append(again, filepath.Join(t.TempDir(), "again"))...).wantOut(t)
		again = append(again[:len(again)-1], "--set", "swin_spec.depths=[2, 2]", "--out", filepath.Join(t.TempDir(), "other"))
		ebmrun(t, again...).wantError(t, statusBadInput, "generator-given.onnx: swin: ", "layers.1.blocks.1")
		// a run whose network is built in another way now
		config := filepath.Join(run, "config.yaml")
		written, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(config, bytes.Replace(written, []byte("window: 2"), []byte("window: 1"), 1), 0o666); err != nil {
			t.Fatal(err)
		}
		apply(t, "translate", run, "-o", out+".png").wantError(t, statusBadInput, "relative_position_bias_table", "learn anew")
	}
	ebmrun(t, "train", "generative-swin", "--data", "synthetic/blob16", "--limit", "8", "--out", filepath.Join(t.TempDir(), "bad")).wantError(t, statusBadInput, "--given")
}

func TestMapsGiven(t *testing.T) {
	for _, c := range []struct {
		dims, given []int
		want        string
	}{
		{[]int{1, 8, 8}, []int{3, 8, 8}, ""},
		{[]int{1, 8, 8}, []int{4, 8, 8}, ""},
		{[]int{3, 8, 8}, []int{1, 8, 8}, "maps as --data"},
		{[]int{3, 8, 8}, []int{3, 8, 8}, "grey files"},
	} {
		err := mapsGiven(environment{set: &data.Set{Name: "maps"}, dims: c.dims, given: c.given})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v given %v: %v, wanted %q", c.dims, c.given, err, c.want)
		}
	}
	ones := &data.Set{Name: "ones", N: 1, C: 1, H: 1, W: 2, Floats: []float32{-1, -253. / 255}, Gain: 1}
	if err := mapsGiven(environment{set: ones, dims: ones.Dims(), given: []int{3, 1, 2}}); err == nil || !strings.Contains(err.Error(), "255 where something is, got 1") {
		t.Errorf("maps of 0 and 1: %v", err)
	}
}

// asDocumented runs the program of docs/saliency.md on exported files, with a stand-in for
// the library that reads pictures.
func asDocumented(t *testing.T, files string) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "saliency.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(page), "```python\n")
	code, _, ok := strings.Cut(code, "```")
	if !ok {
		t.Fatal("docs/saliency.md has no program")
	}
	dir, python := t.TempDir(), python(t)
	if err := errors.Join(os.Symlink(files, filepath.Join(dir, "maps-onnx")), os.WriteFile(filepath.Join(dir, "PIL.py"), []byte(`
import numpy as np
class Image:
    def __init__(self, x): self.x, self.size = x, x.shape[1::-1]
    def __array__(self, dtype=None, copy=None): return self.x.astype(dtype)
    def convert(self, mode): return self
    def resize(self, size): return Image(np.resize(self.x, (size[1], size[0]) + self.x.shape[2:]))
    def save(self, path): print(path, *self.size, self.x.dtype)
    open = staticmethod(lambda path: Image(np.arange(20 * 24 * 3, dtype=np.uint8).reshape(24, 20, 3)))
    fromarray = staticmethod(lambda x: Image(x))
`), 0o666)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", code+"\nprint(0 < np.std(maps, 0).max() < 0.5, 0 <= np.min(maps) <= np.max(maps) <= 1)")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v %v", err, cmd.Stderr)
	}
	if got := strings.TrimSpace(string(out)); got != "map.png 20 24 uint8\nTrue True" {
		t.Errorf("docs/saliency.md: %q", got)
	}
}

// TestSaliencyFolders: pictures of any shape, with depth, are stretched to the size of learning there and
// wherever they are translated; folders that do not fit together are refused.
func TestSaliencyFolders(t *testing.T) {
	dir := t.TempDir()
	in := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	for k := range 6 {
		h, w := 16, 16+8*(k%3)
		picture, mask := image.NewRGBA(image.Rect(0, 0, w, h)), image.NewGray(image.Rect(0, 0, w, h))
		for i := range mask.Pix {
			x := uint8(i % w * 255 / w)
			mask.Pix[i] = 255 * (x / 200)
			copy(picture.Pix[4*i:], []uint8{x, 255 - x, uint8(40 * k), 255})
		}
		near := image.NewGray(image.Rect(0, 0, 2*w, 2*h))
		for what, m := range map[string]image.Image{"pictures": picture, "maps": mask, "depth": near} {
			if err := errors.Join(os.MkdirAll(in(what), 0o777), record.WritePNG(in(what, fmt.Sprintf("%d.png", k)), m)); err != nil {
				t.Fatal(err)
			}
		}
	}
	args := []string{"train", "generative-swin", "--data", in("maps"), "--given", in("pictures"), "--size", "16", "--provider", "ref", "--quiet", "--steps", "1"}
	for _, s := range []string{"batch=2", "hidden=[4]", "draws=2", "prior.steps=2", "posterior.steps=2",
		"swin_spec={patch: 4, embed: 4, depths: [2, 1], heads: [1, 2], window: 2, codes: 2, features: 2, reduction: 2, dilations: [1]}"} {
		args = append(args, "--set", s)
	}
	learn := func(out string, more ...string) result {
		return ebmrun(t, append(append(slices.Clone(args), "--out", in(out)), more...)...)
	}
	learn("rgb").wantOut(t)
	learn("rgbd", "--depth", in("depth"), "--far").wantOut(t)
	for run, depth := range map[string][]string{"rgb": nil, "rgbd": {"--depth", in("depth")}} {
		if head, _, err := readConfig(in(run, "config.yaml")); err != nil || !head.Source.Stretch {
			t.Errorf("%s: config.yaml does not say that pictures are stretched (%v)", run, err)
		}
		from := append([]string{"--data", in("pictures")}, depth...)
		apply(t, "translate", in(run), append(from, "--n", "6", "-o", in(run+".png"))...).wantOut(t)
		apply(t, "translate", in(run), append(from, "--n", "1", "-o", in(run+"-each")+"/")...).wantOut(t, "1 pictures")
		maps, err := data.ReadNPY(in(run + ".npy"))
		if err != nil {
			t.Fatal(err)
		}
		each, err := data.ReadPictures(in(run+"-each", "0.png"), 0, 0, true, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range each.X() {
			if w := maps.At(0)[i]; math.Abs(float64(v-w)) > 2.0/255 {
				t.Fatalf("%s: place %d of a map is %g alone, %g with others", run, i, v, w)
			}
		}
	}
	score := func(maps string) result { return ebmrun(t, "eval", "saliency", in(maps), "--data", in("maps")) }
	score("maps").wantOut(t, "mae 0.0000  s_measure 1.0000", "(6 maps)")
	score("depth").wantOut(t, "mae 0.", "(6 maps)") // of twice the size
	score("rgb-each").wantError(t, statusBadInput, "no map for 5 of the 6", "1.png")
	score("rgb").wantError(t, statusBadInput, "apply translate")
	// what a run of pictures 16×32 sees is the whole of them
	set, err := data.Load(t.Context(), in("maps"), data.Options{Size: 16, Given: in("pictures"), Depth: in("depth"), Far: true, Stretch: true})
	if err != nil {
		t.Fatal(err)
	}
	if wide := set.Given.At(2); set.Given.C != 4 || wide[0] > -0.9 || wide[15] < 0.8 || wide[3*256] != 1 {
		t.Errorf("4 channels, whole from dark to bright and near: got %d, from %g to %g, nearness %g", set.Given.C, wide[0], wide[15], wide[3*256])
	}
	apply(t, "translate", in("rgbd"), "--data", in("pictures"), "-o", in("x")+"/").wantError(t, statusBadInput, "--depth")
	apply(t, "translate", in("rgb"), "--data", in("pictures"), "--depth", in("depth"), "-o", in("x")+"/").wantError(t, statusBadInput, "--depth")
	if err := os.Remove(in("depth", "4.png")); err != nil {
		t.Fatal(err)
	}
	learn("missing", "--depth", in("depth")).wantError(t, statusBadInput, "4.png")
	learn("alone", "--depth", in("nowhere")).wantError(t, statusBadInput, "nowhere")
	ebmrun(t, "train", "generative-swin", "--data", "synthetic/salient", "--depth", in("depth"), "--out", in("drawn")).wantError(t, statusBadInput, "depth")
}
