// Package systemtest is the suite that every learning system passes: a run that was
// cut short and taken up again is, bit for bit, the run that was not, and one that
// diverges says what went wrong.
package systemtest

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"ebmrun/training"
	"ebmrun/training/checkpoint"
)

// Steps makes n iterations and returns what the last one measured.
func Steps(t testing.TB, s training.System, n int) (m training.Metrics) {
	t.Helper()
	for range n {
		var err error
		if m, err = s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// Resume compares ten iterations with five that are saved, restored in a new
// system and followed by five more, and with the last five done twice. fresh makes
// the system as a new process would. Each of the tensors in changed must be among
// those saved and must change on the way. Checkpoints of another system, or without
// one of these tensors, must be refused.
func Resume(t *testing.T, fresh func() training.System, changed ...string) {
	t.Helper()
	dir := func(name string) string { return filepath.Join(t.TempDir(), name) }
	straight, broken, again := dir("straight"), dir("broken"), dir("again")
	run := func(s training.System, steps int, dir string) *checkpoint.State {
		t.Helper()
		o := training.Options{Steps: steps, Checkpoints: dir, SaveEvery: 1 << 30, EvalEvery: 1 << 30}
		if err := training.Run(t.Context(), s, o); err != nil {
			t.Fatal(err)
		}
		st, err := checkpoint.Load(dir, checkpoint.Last)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	want := run(fresh(), 10, straight)
	half := run(fresh(), 5, broken)
	s := fresh()
	if _, _, err := training.Resume(s, broken); err != nil {
		t.Fatal(err)
	}
	if s.Iteration() != 5 {
		t.Fatalf("resumed at iteration %d, wanted 5", s.Iteration())
	}
	same(t, "resumed", want, run(s, 10, broken))
	if err := s.Restore(half); err != nil {
		t.Fatal(err)
	}
	same(t, "restored", want, run(s, 10, again))
	for _, name := range changed {
		if reflect.DeepEqual(half.Tensors[name], want.Tensors[name]) {
			t.Errorf("%s: nothing changed in five iterations", name)
		}
		st := training.CopyState(half)
		delete(st.Tensors, name)
		if err := s.Restore(st); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("a checkpoint without %s: %v", name, err)
		}
	}
	st := training.CopyState(half)
	st.Meta = []byte(strings.Replace(string(st.Meta), `"system":"`, `"system":"no-`, 1))
	if err := s.Restore(st); err == nil || !strings.Contains(err.Error(), "no-") {
		t.Errorf("a checkpoint of another system: %v", err)
	}
}

// same compares two checkpoints bit for bit.
func same(t *testing.T, what string, a, b *checkpoint.State) {
	t.Helper()
	if a.Step != b.Step || string(a.Meta) != string(b.Meta) || len(a.Tensors) != len(b.Tensors) {
		t.Errorf("%s: iteration %d, %d tensors, %s; wanted %d, %d, %s", what, b.Step, len(b.Tensors), b.Meta, a.Step, len(a.Tensors), a.Meta)
	}
	for name, x := range a.Tensors {
		if !reflect.DeepEqual(x, b.Tensors[name]) {
			t.Errorf("%s: %s differs", what, name)
		}
	}
}

// Diverges runs systems that are set to go wrong, by what they are to say went
// wrong: the guard ends each, and its error names the part and what to try.
func Diverges(t *testing.T, wrong map[string]training.System) {
	t.Helper()
	for part, s := range wrong {
		err := training.Run(t.Context(), s, training.Options{Steps: 50, EvalEvery: 1 << 30, Guard: training.Guard{Recover: 1, MaxValue: 5, MaxStd: 1e12}})
		if !errors.Is(err, training.ErrGuard) || !strings.Contains(err.Error(), "the "+part+" went wrong") || !strings.Contains(err.Error(), "; try a ") {
			t.Errorf("wanted that the %s went wrong and what to try, got %v", part, err)
		}
	}
}
