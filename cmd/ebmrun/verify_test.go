package main

import (
	"context"
	"encoding/json"
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ebmrun/training/accept"
)

// pretend adds an acceptance whose number is the seed.
func pretend(t *testing.T) {
	before := accept.Suites
	t.Cleanup(func() { accept.Suites = before })
	accept.Suites = append([]accept.Suite{{System: "pretence", Parts: []accept.Part{{Name: "seed", Title: "the seed", Run: func(_ context.Context, e accept.Env, it *accept.Item) error {
		it.Check(accept.Works, "seed", float64(e.Seed), accept.AtMost(2), "")
		e.Step("counting", 1, 1)
		return e.Show("picture", image.NewGray(image.Rect(0, 0, 2, 2)))
	}}}}}, before...)
}

func TestVerify(t *testing.T) {
	pretend(t)
	ebmrun(t, "verify", "pretence", "--provider", "ref").wantOut(t, "seed", "≤ 2", "met")
	r := ebmrun(t, "verify", "pretence", "--provider", "ref", "--seed", "3", "--json", "--quiet")
	r.wantError(t, statusUnmet, "pretence is not accepted")
	var a struct {
		Accepted bool
		Checks   []struct{ Got float64 }
	}
	if err := json.Unmarshal([]byte(r.out), &a); err != nil || a.Accepted || len(a.Checks) != 1 || a.Checks[0].Got != 3 {
		t.Errorf("got %+v, %v", a, err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	ebmrun(t, "verify", "pretence", "--provider", "ref", "--seeds", "3", "-o", dir).wantOut(t, "1 2 3") // the median is 2
	for _, name := range []string{"pretence.json", "pretence.md", "picture-1.png", "picture-3.png"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	text, _ := os.ReadFile(filepath.Join(dir, "pretence.md"))
	if !strings.Contains(string(text), "accepted: true") {
		t.Errorf("got %s", text)
	}
	ebmrun(t, "verify", "--list").wantOut(t, "pretence\n", "\ngenerative-convnet\n")
	ebmrun(t, "verify").wantError(t, statusBadInput, "--list")
	ebmrun(t, "verify", "no-such").wantError(t, statusBadInput, "no-such", "generative-convnet")
	ebmrun(t, "verify", "pretence", "--only", "other").wantError(t, statusBadInput, "other")
	ebmrun(t, "verify", "pretence", "--seeds", "0").wantError(t, statusBadInput, "--seeds")
}
