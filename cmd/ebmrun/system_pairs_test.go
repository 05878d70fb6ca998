package main

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/training/data"
)

// TestPairedSystems: each system that learns from pairs or from two domains trains from
// the command line, resumes, and translates what it was given; without what it needs it is
// refused in one line.
func TestPairedSystems(t *testing.T) {
	const energy = "spec={layers: [{filters: 2, kernel: 4, stride: 4}, {filters: 1, kernel: 4}], activation: swish}"
	maps := "translator_spec={filters: [2, 2], skip: true, activation: leaky}"
	draft := "generator_spec={codes: 2, filters: [2, 2], skip: true, activation: leaky}"
	for _, c := range []struct {
		system   string
		sources  []string
		settings []string
		apply    []string
		dims     []int // of two translations
		networks []string
		missing  string
	}{
		{"conditional-coopnets", []string{"--data", "synthetic/fill16"}, []string{draft}, nil, []int{1, 16, 16}, []string{"energy-given", "initialiser", "sampler"}, ""},
		{"salcoopnets", []string{"--data", "synthetic/salient", "--size", "16"}, []string{draft, "supervision=scribbles", "warm=1", "recover={steps: 1, step: 0.01, noise: 1}", "draws=2"}, nil, []int{1, 16, 16}, []string{"energy-given", "sampler"}, "--given"},
		{"cycle-coopnets", []string{"--data", "synthetic/ab16-a", "--data-b", "synthetic/ab16-b"}, []string{maps}, []string{"--data", "synthetic/ab16-a"}, []int{1, 16, 16}, []string{"energy-a", "translator-ab"}, "--data-b"},
		{"sequence-cycle-coopnets", []string{"--data", "synthetic/seq16-a", "--data-b", "synthetic/seq16-b"},
			[]string{maps, "predictor_spec={filters: [2, 2], skip: true, activation: leaky}"}, []string{"--data", "synthetic/seq16-a"}, []int{1, 12, 16, 16}, []string{"translator-next-a"}, "--data-b"},
	} {
		t.Run(c.system, func(t *testing.T) {
			run := filepath.Join(t.TempDir(), "run")
			args := append([]string{"train", c.system}, c.sources...)
			args = append(args, "--limit", "8", "--provider", "ref", "--quiet", "--out", run, "--steps", "2", "--set", "batch=2", "--set", energy, "--set", "langevin.steps=2")
			for _, s := range c.settings {
				args = append(args, "--set", s)
			}
			ebmrun(t, args...).wantOut(t)
			ebmrun(t, "train", c.system, "--resume", "--out", run, "--steps", "3", "--quiet").wantOut(t)
			out := filepath.Join(t.TempDir(), "y.png")
			apply(t, "translate", run, append(c.apply, "--n", "2", "-o", out)...).wantOut(t)
			if c.apply == nil {
				apply(t, "translate", run, "--back", "--n", "2", "-o", out).wantError(t, 2, "--back")
			} else {
				from := strings.Replace(c.apply[1], "-a", "-b", 1)
				apply(t, "translate", run, "--back", "--data", from, "--n", "2", "-o", out).wantOut(t)
			}
			if c.apply == nil {
				apply(t, "translate", run, "--n", "2", "-o", out).wantOut(t, "mean squared error")
			}
			want := 2
			for _, d := range c.dims {
				want *= d
			}
			y, err := data.ReadNPY(strings.TrimSuffix(out, ".png") + ".npy")
			if err == nil && y.N*y.Dim() != want {
				t.Errorf("translations of %d×%v, wanted %d of %v", y.N, y.Dims(), 2, c.dims)
			}
			written(t, out)
			var names []string
			for _, n := range c.networks {
				names = append(names, n+".onnx")
			}
			exported(t, run, "--check", "-o", filepath.Join(t.TempDir(), "x")).wantOut(t, names...)
			if c.missing != "" {
				ebmrun(t, "train", c.system, "--data", map[bool]string{true: "synthetic/seq16-a", false: "synthetic/ab16-a"}[c.system == "sequence-cycle-coopnets"],
					"--limit", "8", "--out", filepath.Join(t.TempDir(), "bad")).wantError(t, statusBadInput, c.missing)
			}
		})
	}
	ebmrun(t, "train", "conditional-coopnets", "--data", "synthetic/glyph16", "--limit", "8", "--out", filepath.Join(t.TempDir(), "bad")).wantError(t, statusBadInput, "--given", "classes")
	labels := filepath.Join(t.TempDir(), "labels")
	ebmrun(t, "train", "conditional-coopnets", "--preset", "labels-16", "--data", "synthetic/glyph16", "--limit", "8", "--provider", "ref", "--quiet", "--out", labels, "--steps", "2",
		"--set", "batch=2", "--set", energy, "--set", draft, "--set", "langevin.steps=2").wantOut(t)
	ebmrun(t, "sample", labels, "--provider", "ref", "--quiet", "--n", "4", "-o", filepath.Join(t.TempDir(), "s.png")).wantOut(t)
}

// TestConditionalInpaint: a run that learned from pictures with holes inpaints and recovers; what is
// visible stays as it is. Others name what they can do.
func TestConditionalInpaint(t *testing.T) {
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	train := func(given, out string) {
		ebmrun(t, "train", "conditional-coopnets", "--data", "synthetic/glyph16", "--given", given, "--limit", "8", "--provider", "ref", "--quiet", "--out", out, "--steps", "2",
			"--set", "batch=2", "--set", "langevin.steps=2", "--set", "spec={layers: [{filters: 2, kernel: 4, stride: 4}, {filters: 1, kernel: 4}], activation: swish}",
			"--set", "generator_spec={codes: 2, filters: [2, 2], skip: true, activation: leaky}").wantOut(t)
	}
	train("hole", run)
	picture, mask, out := filepath.Join(dir, "picture.png"), filepath.Join(dir, "mask.png"), filepath.Join(dir, "p.png")
	square := func(path string, inside func(y, x int) uint8) {
		img := image.NewGray(image.Rect(0, 0, 16, 16))
		for i := range img.Pix {
			img.Pix[i] = inside(i/16, i%16)
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		write(t, path, b.Bytes())
	}
	hole := func(y, x int) bool { return y >= 4 && y < 12 && x >= 4 && x < 12 }
	square(picture, func(y, x int) uint8 { return uint8(16*y + x) })
	square(mask, func(y, x int) uint8 {
		if hole(y, x) {
			return 255
		}
		return 0
	})
	apply(t, "inpaint", run, "--image", picture, "--mask", mask, "--truth", picture, "--chains", "2", "-o", out).wantOut(t, "hole of 64 values", "dB")
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil || img.Bounds().Dx() != 16 {
		t.Fatalf("picture of %v (%v)", img.Bounds(), err)
	}
	for i := range 256 {
		if r, _, _, _ := img.At(i%16, i/16).RGBA(); !hole(i/16, i%16) && r>>8 != uint32(i) {
			t.Fatalf("pixel %d,%d: %d, was %d", i/16, i%16, r>>8, i)
		}
	}
	apply(t, "recover", run, "--hidden", "0.3", "--n", "2", "-o", out).wantOut(t, "missing")
	train("edges", run+"-edges")
	apply(t, "inpaint", run+"-edges", "--image", picture, "--mask", mask, "-o", out).wantError(t, statusBadInput, "translate")
}
