package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/graphs"
	"ebmrun/graphs/onnxio"
)

// TestOtherCodes: a run whose settings name another number of codes than its
// checkpoint has is refused with both, whether it is to go on or to draw.
func TestOtherCodes(t *testing.T) {
	run := latent(t, "latent-ebm")
	path := filepath.Join(run, "config.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(b), "codes: 2", "codes: 3", 1)
	if other == string(b) {
		t.Fatalf("no two codes in\n%s", b)
	}
	if err := os.WriteFile(path, []byte(other), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"train", "latent-ebm", "--resume", "--steps", "3", "--out", run},
		{"sample", run, "--n", "2", "-o", filepath.Join(t.TempDir(), "s.png")},
	} {
		ebmrun(t, append(args, "--provider", "ref", "--quiet")...).wantError(t, statusBadInput, run, "generator/code.weight", "got shape [64], want [96]")
	}
}

// TestMissingOutput: an exported network without one of its outputs is refused with
// those that are wanted and those that there are.
func TestMissingOutput(t *testing.T) {
	run, dir := latent(t, "coopvaebm"), t.TempDir()
	ebmrun(t, "export", run, "--to", "onnx", "-o", dir, "--quiet").wantOut(t)
	for _, c := range []struct{ file, output, wanted, got string }{
		{"energy.onnx", "energy", "energy, score", "got x → score"},
		{"energy.onnx", "score", "energy, score", "got energy"},
		{"generator.onnx", "x", "a generator, z → x", "got z →"},
	} {
		m, err := onnxio.Read(filepath.Join(dir, c.file))
		if err != nil {
			t.Fatal(err)
		}
		var left []*graphs.Value
		for _, v := range m.Graph.Outputs {
			if v.Name != c.output {
				left = append(left, v)
			}
		}
		m.Graph.Outputs = left
		path := filepath.Join(t.TempDir(), c.file)
		if err := onnxio.Write(path, m); err != nil {
			t.Fatal(err)
		}
		ebmrun(t, "sample", path, "--provider", "ref", "--n", "2", "-o", filepath.Join(dir, "s.png")).wantError(t, statusBadInput, path, c.wanted, c.got)
	}
}
