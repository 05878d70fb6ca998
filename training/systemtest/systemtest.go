// Package systemtest is the suite that every learning system passes: a run that was
// cut short and taken up again is, bit for bit, the run that was not, and one that
// diverges says what went wrong.
package systemtest

import (
	"errors"
	"fmt"
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

// Broken compares a run of so many iterations with runs that are broken off at some of them and gone on with
// by a new system. It returns the system that ran through, and its checkpoint. fresh makes a system as a new
// process would.
func Broken[S training.System](t *testing.T, fresh func() S, steps int, at ...int) (whole S, end *checkpoint.State) {
	t.Helper()
	whole = fresh()
	end = run(t, whole, steps, t.TempDir())
	for _, n := range at {
		resumed(t, fresh, n, end)
	}
	return whole, end
}

// resumed breaks a run off at iteration n, goes on to that of end with a new system, and compares. It returns
// that system and the checkpoint it went on from.
func resumed[S training.System](t *testing.T, fresh func() S, n int, end *checkpoint.State) (s S, half *checkpoint.State) {
	t.Helper()
	dir := t.TempDir()
	half = run(t, fresh(), n, dir)
	s = fresh()
	if _, _, err := training.Resume(s, dir); err != nil {
		t.Fatal(err)
	}
	if s.Iteration() != n {
		t.Fatalf("resumed at iteration %d, wanted %d", s.Iteration(), n)
	}
	Same(t, fmt.Sprintf("broken off at %d", n), end, run(t, s, end.Step, dir))
	return s, half
}

// run makes all iterations up to steps and reads the checkpoint that they leave in dir.
func run(t *testing.T, s training.System, steps int, dir string) *checkpoint.State {
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

// Resume is Broken for ten iterations and a break in the middle, where the last five are done twice besides.
// Each of the tensors in changed must be among those saved and must change on the way. Checkpoints of another
// system, or without one of these tensors, must be refused.
func Resume[S training.System](t *testing.T, fresh func() S, changed ...string) (whole S, end *checkpoint.State) {
	t.Helper()
	whole, end = Broken(t, fresh, 10)
	s, half := resumed(t, fresh, 5, end)
	if err := s.Restore(half); err != nil {
		t.Fatal(err)
	}
	Same(t, "restored", end, run(t, s, 10, t.TempDir()))
	for _, name := range changed {
		if reflect.DeepEqual(half.Tensors[name], end.Tensors[name]) {
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
	return whole, end
}

// Same compares two checkpoints bit for bit.
func Same(t *testing.T, what string, a, b *checkpoint.State) {
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
