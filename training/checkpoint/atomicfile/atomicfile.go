// Package atomicfile writes files that are either wholly there or not there at all.
//
// [Write] fills a temporary file in the target's folder, syncs it, renames it over the target and
// syncs the folder. A process killed at any instant leaves the old file or the new one, and at
// worst a temporary file whose name holds [Infix].
package atomicfile

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
)

// Infix marks temporary names: the target's name, Infix, a random suffix.
const Infix = ".tmp-"

// TempName returns a fresh temporary name beside path.
func TempName(path string) string {
	return fmt.Sprintf("%s%s%016x", path, Infix, rand.Uint64())
}

// Write replaces path with what fill writes. The folder must exist. When fill fails, its error is
// returned and path is untouched.
func Write(path string, fill func(io.Writer) error) error {
	temp := TempName(path)
	if err := Create(temp, fill); err != nil {
		os.Remove(temp)
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Create makes the new file path, buffers what fill writes and syncs it to disk. It fails when
// path exists; on other failures a partial file may remain.
func Create(path string, fill func(io.Writer) error) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	w := bufio.NewWriterSize(f, 1<<16)
	if err := fill(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// SyncDir makes the folder's entries (creations, renames, removals) durable. Windows offers no such
// call and needs none, so it does nothing there.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}
