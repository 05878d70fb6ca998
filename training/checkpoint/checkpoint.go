// Package checkpoint saves and restores the state of a training run so that a kill at any instant
// loses at most the steps since the last save and never a saved one.
//
// [Save] writes a [State] (named tensors and JSON settings) to a folder of its own,
//
//	DIR/step-000123/model.json            format version, step, settings, SHA-256 of every tensor
//	DIR/step-000123/tensors.safetensors   the tensors
//	DIR/last, DIR/best                    small text files that name a step folder
//
// under a temporary name, syncs it, renames it and only then moves the pointer last. [Load] checks
// every hash; [LoadNewest] falls back to an older folder when the one pointed to is damaged. Equal
// states give equal bytes. A folder DIR has one writer at a time.
package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"ebmrun/training/checkpoint/atomicfile"
)

// Names of the pointer files, to be given to [Load].
const (
	Last = "last" // the newest checkpoint
	Best = "best" // the one chosen with [MarkBest]
)

// ErrNone is returned (wrapped) by [Load] and [LoadNewest] when the folder holds no checkpoint yet.
var ErrNone = errors.New("no checkpoint")

// State is what a run needs to go on: weights, optimizer moments, chains, counters as tensors;
// everything else in Meta.
type State struct {
	Step    int               // steps done, at least 0
	Tensors map[string]Tensor // by name
	Meta    json.RawMessage   // any JSON value, stored in compact form; nil is allowed
}

// Keep says which checkpoints survive a [Save]. Those that last and best point to always do.
type Keep struct {
	Newest int // how many of the newest to keep; 0 means 2
	Every  int // also keep steps divisible by Every; 0 keeps none of them
}

// old marks a checkpoint that is being replaced by another one of the same step. It stands in for
// the step's folder until the new one is in place.
const old = ".old"

// Save writes s as the newest checkpoint of dir, creating dir when needed, points last at it, and
// prunes; steps above s.Step, left by a run that was resumed further back, are pruned too. When it
// returns nil the checkpoint is on disk; when it fails to save or the process dies, last still loads
// what it loaded before. Saving a step that exists already replaces it just as safely.
func Save(dir string, s *State, keep Keep) error {
	if s.Step < 0 {
		return fmt.Errorf("checkpoint: %s: got step %d, want at least 0", dir, s.Step)
	}
	if err := save(dir, s); err != nil {
		return fmt.Errorf("checkpoint: %s: save step %d: %w", dir, s.Step, err)
	}
	if err := prune(dir, s.Step, keep); err != nil {
		return fmt.Errorf("checkpoint: %s: prune: %w", dir, err)
	}
	return nil
}

func save(dir string, s *State) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := clean(dir); err != nil {
		return err
	}
	target := filepath.Join(dir, stepName(s.Step))
	temp := atomicfile.TempName(target)
	if err := os.Mkdir(temp, 0o777); err != nil {
		return err
	}
	defer os.RemoveAll(temp) // does nothing once temp is renamed
	if err := write(temp, s); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(temp); err != nil {
		return err
	}
	replaced := true
	if err := os.Rename(target, target+old); errors.Is(err, fs.ErrNotExist) {
		replaced = false
	} else if err != nil {
		return err
	}
	if err := os.Rename(temp, target); err != nil {
		if replaced {
			os.Rename(target+old, target)
		}
		return err
	}
	if err := atomicfile.SyncDir(dir); err != nil {
		return err
	}
	if replaced {
		if err := discard(target + old); err != nil {
			return err
		}
	}
	return point(dir, Last, s.Step)
}

// MarkBest points best at the checkpoint of the given step.
func MarkBest(dir string, step int) error {
	if _, err := os.Stat(filepath.Join(dir, stepName(step), modelFile)); err != nil {
		return fmt.Errorf("checkpoint: %s: mark best: %w", dir, err)
	}
	if err := point(dir, Best, step); err != nil {
		return fmt.Errorf("checkpoint: %s: mark best: %w", dir, err)
	}
	return nil
}

// Steps lists the steps that dir holds a checkpoint folder of, ascending, intact or not. A folder
// that does not exist holds none.
func Steps(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	var steps []int
	for _, e := range entries {
		if step, ok := parseStep(strings.TrimSuffix(e.Name(), old)); ok && e.IsDir() {
			steps = append(steps, step)
		}
	}
	slices.Sort(steps)
	return slices.Compact(steps), nil
}

// Load reads one checkpoint of dir: [Last], [Best] or a step folder's name such as "step-000123".
// A damaged one is an error that says what is wrong with it and, for Last, names the newest intact
// one. Unknown format versions and unknown keys are refused.
func Load(dir, name string) (*State, error) {
	step, err := resolve(dir, name)
	if err != nil {
		return nil, err
	}
	s, err := load(dir, step)
	if err == nil {
		return s, nil
	}
	hint := ""
	if name == Last {
		hint = "; no other checkpoint is intact"
		if s, _ := newest(dir, step); s != nil {
			hint = "; newest intact is " + stepName(s.Step)
		}
	}
	return nil, fmt.Errorf("checkpoint: %s: %s cannot be used: %w%s", dir, label(name, step), err, hint)
}

// Fallback says that [LoadNewest] did not return the checkpoint that last points to.
type Fallback struct {
	Step   int   // what was loaded instead
	Reason error // what is wrong with last
}

// LoadNewest loads the checkpoint that last points to, or when that fails the newest intact one,
// with a Fallback that tells; the Fallback is nil when last was good. It returns [ErrNone] when
// there is nothing to load at all, and another error when there are only damaged checkpoints.
func LoadNewest(dir string) (*State, *Fallback, error) {
	step, reason := resolve(dir, Last)
	if reason == nil {
		s, err := load(dir, step)
		if err == nil {
			return s, nil, nil
		}
		reason = fmt.Errorf("checkpoint: %s: %s cannot be used: %w", dir, label(Last, step), err)
	} else {
		step = -1
	}
	s, err := newest(dir, step)
	switch {
	case err != nil:
		return nil, nil, err
	case s == nil:
		return nil, nil, reason
	}
	return s, &Fallback{Step: s.Step, Reason: reason}, nil
}

// newest returns the newest intact checkpoint other than that of step except, nil when none is.
func newest(dir string, except int) (*State, error) {
	steps, err := Steps(dir)
	if err != nil {
		return nil, err
	}
	for _, step := range slices.Backward(steps) {
		if step == except {
			continue
		}
		if s, err := load(dir, step); err == nil {
			return s, nil
		}
	}
	return nil, nil
}

// resolve turns a pointer's or a folder's name into a step.
func resolve(dir, name string) (int, error) {
	if name != Last && name != Best {
		step, ok := parseStep(name)
		if !ok {
			return 0, fmt.Errorf("checkpoint: %s: got name %.40q, want last, best or step-NNNNNN", dir, name)
		}
		return step, nil
	}
	text, err := readPointer(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("checkpoint: %s: %s: %w", dir, name, ErrNone)
	}
	if err != nil {
		return 0, fmt.Errorf("checkpoint: %s: %w", dir, err)
	}
	step, ok := parseStep(strings.TrimSuffix(text, "\n"))
	if !ok {
		return 0, fmt.Errorf("checkpoint: %s: pointer %s: got %.40q, want step-NNNNNN", dir, name, text)
	}
	return step, nil
}

// load reads the checkpoint of one step. The folder is opened as a root, so links inside it lead
// nowhere else.
func load(dir string, step int) (*State, error) {
	path := filepath.Join(dir, stepName(step))
	root, err := os.OpenRoot(path)
	if errors.Is(err, fs.ErrNotExist) {
		root, err = os.OpenRoot(path + old)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("folder %s: %w", stepName(step), fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()

	f, size, err := open(root, modelFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxModel {
		return nil, fmt.Errorf("%s: got %d bytes, want at most %d", modelFile, size, maxModel)
	}
	modelJSON, err := io.ReadAll(io.LimitReader(f, size))
	if err != nil {
		return nil, err
	}
	t, size, err := open(root, tensorsFile)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	s, err := read(modelJSON, t, size)
	if err != nil {
		return nil, err
	}
	if s.Step != step {
		return nil, fmt.Errorf("%s: got step %d, want %d", modelFile, s.Step, step)
	}
	return s, nil
}

// open opens a regular file; anything else (a pipe, a device) could block or never end.
func open(root *os.Root, name string) (*os.File, int64, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: not a regular file", name)
	}
	f, err := root.Open(name)
	return f, info.Size(), err
}

// clean finishes what a killed Save left: temporary names go, and a checkpoint that was set aside
// comes back unless its replacement is in place.
func clean(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		base, _, temp := strings.Cut(e.Name(), atomicfile.Infix)
		_, step := parseStep(strings.TrimSuffix(base, old))
		switch {
		case temp && (step || base == Last || base == Best):
			err = os.RemoveAll(path)
		case step && strings.HasSuffix(base, old):
			target := strings.TrimSuffix(path, old)
			if _, e := os.Lstat(target); e == nil {
				err = discard(path)
			} else {
				err = os.Rename(path, target)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// prune removes what keep does not keep, last being the step just saved.
func prune(dir string, last int, keep Keep) error {
	if keep.Newest <= 0 {
		keep.Newest = 2
	}
	steps, err := Steps(dir)
	if err != nil {
		return err
	}
	pinned := map[int]bool{}
	for _, name := range []string{Last, Best} {
		step, err := resolve(dir, name)
		switch {
		case err == nil:
			pinned[step] = true
		case !errors.Is(err, ErrNone):
			return nil // an unreadable pointer may pin anything, so nothing is removed
		}
	}
	kept := 0
	for _, step := range slices.Backward(steps) {
		if step <= last && kept < keep.Newest {
			kept++
			continue
		}
		if pinned[step] || keep.Every > 0 && step%keep.Every == 0 && step <= last {
			continue
		}
		if err := discard(filepath.Join(dir, stepName(step))); err != nil {
			return err
		}
	}
	return nil
}

// discard removes a checkpoint folder in two steps, so that a kill cannot leave half of one under
// a name that counts.
func discard(path string) error {
	temp := atomicfile.TempName(path)
	if err := os.Rename(path, temp); err != nil {
		return err
	}
	return os.RemoveAll(temp)
}

// point makes the pointer file name hold the step's folder.
func point(dir, name string, step int) error {
	return atomicfile.Write(filepath.Join(dir, name), func(w io.Writer) error {
		_, err := fmt.Fprintln(w, stepName(step))
		return err
	})
}

func readPointer(dir, name string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, _, err := open(root, name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64))
	return string(text), err
}

func stepName(step int) string { return fmt.Sprintf("step-%06d", step) }

// parseStep is the inverse of stepName; other spellings of a number are not accepted.
func parseStep(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, "step-")
	if !ok {
		return 0, false
	}
	step, err := strconv.Atoi(digits)
	return step, err == nil && step >= 0 && stepName(step) == name
}

// label names a checkpoint as the caller asked for it.
func label(name string, step int) string {
	if name == stepName(step) {
		return name
	}
	return name + " (" + stepName(step) + ")"
}
