package main

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"ebmrun/training/data"
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
		exported(t, run, "-o", files, "--check").wantOut(t, "generator-given.onnx", "prior.onnx", "encoder.onnx", "decoder.onnx")
		if from != "synthetic/salient" {
			continue
		}
		// what is exported is a file to begin with, if it is of the same transformer
		again := append(slices.Clone(args), "--set", "weights="+filepath.Join(files, "generator-given.onnx"), "--out")
		ebmrun(t, append(again, filepath.Join(t.TempDir(), "again"))...).wantOut(t)
		again = append(again[:len(again)-1], "--set", "swin_spec.depths=[2, 2]", "--out", filepath.Join(t.TempDir(), "other"))
		ebmrun(t, again...).wantError(t, statusBadInput, "generator-given.onnx: swin: ", "layers.1.blocks.1")
	}
	ebmrun(t, "train", "generative-swin", "--data", "synthetic/blob16", "--limit", "8", "--out", filepath.Join(t.TempDir(), "bad")).wantError(t, statusBadInput, "--given")
}
