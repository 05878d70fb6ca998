package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// outputs are the flags that name what a verb writes.
var outputs = []string{"out", "npy", "preview"}

// makeRoom refuses places that nothing can be written to, before work is done for them, and makes the
// folders above the others. Tidy takes those away that nothing was written to.
func makeRoom(cmd *cobra.Command) (tidy func(), err error) {
	var made []string // the deepest first
	tidy = func() {
		for _, dir := range made {
			os.Remove(dir)
		}
	}
	for _, name := range outputs {
		f := cmd.Flags().Lookup(name)
		if f == nil || f.Value.Type() != "string" || f.Value.String() == "" {
			continue
		}
		path := f.Value.String()
		if err = takesFiles(path); err == nil {
			var above []string
			for dir := filepath.Dir(path); isMissing(dir); dir = filepath.Dir(dir) {
				above = append(above, dir)
			}
			made = append(above, made...)
			err = os.MkdirAll(filepath.Dir(path), 0o777)
		}
		if err != nil {
			tidy()
			return nil, fmt.Errorf("--%s %s: %w", name, path, err)
		}
	}
	return tidy, nil
}

func isMissing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// takesFiles says what keeps a file or folder from being made or replaced at path. Files
// are put in place by a rename, which would take away a device or a pipe.
func takesFiles(path string) error {
	info, err := os.Stat(path)
	printed, _ := os.Stdout.Stat()
	switch {
	case err == nil && os.SameFile(info, printed):
		return errors.New("wanted a file, got the standard output, which remarks go to")
	case err == nil && !info.IsDir() && !info.Mode().IsRegular():
		return errors.New("wanted a file or a folder, got a device, pipe or socket")
	case err == nil && !info.IsDir(), errors.Is(err, fs.ErrNotExist):
		for err = fs.ErrNotExist; errors.Is(err, fs.ErrNotExist); { // what is there of the folders above
			path = filepath.Dir(path)
			_, err = os.Stat(path)
		}
	}
	if err != nil {
		return inner(err)
	}
	probe, err := os.CreateTemp(path, ".ebmrun-*")
	if err != nil {
		return fmt.Errorf("cannot write in %s: %w", path, inner(err))
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// inner is what the system said, without the path.
func inner(err error) error {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}
