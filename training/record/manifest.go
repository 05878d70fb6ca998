package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"ebmrun/training/checkpoint/atomicfile"
)

// Manifest says where a run came from: what is needed to do it again. It is written as
// manifest.json when the run starts and gains one entry in Resumed at each resume.
type Manifest struct {
	Title      string    `json:"title"`                 // heading of the report, such as "generative-convnet on mnist"
	Version    string    `json:"version"`               // of the program
	System     string    `json:"system"`                // learning system
	Seed       uint64    `json:"seed"`                  // of all noise
	Data       Data      `json:"data"`                  // what was learned from
	Provider   string    `json:"provider"`              // execution provider
	Library    string    `json:"library"`               // version of the native library
	Threads    int       `json:"threads"`               // threads inside one operator
	MicroBatch int       `json:"micro_batch,omitempty"` // examples computed at once at most, 0 for all
	Command    []string  `json:"command"`               // command line
	Go         string    `json:"go"`                    // filled in by Create when empty, as are the next two
	Platform   string    `json:"platform"`              // operating system/architecture
	Start      time.Time `json:"start"`
	Resumed    []Resume  `json:"resumed,omitempty"`
	Notes      []string  `json:"notes,omitempty"` // anything else worth a line, such as nodes a provider handed on
}

// Data names a data set and the hash of its content.
type Data struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
}

// Resume is one continuation of a run.
type Resume struct {
	Step int       `json:"step"` // steps that were done before
	Time time.Time `json:"time"`
}

// ReadManifest reads the manifest of the run folder dir.
func ReadManifest(dir string) (Manifest, error) {
	var m Manifest
	data, err := readSmall(filepath.Join(dir, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("record: %s holds no run: %w", dir, fs.ErrNotExist)
	}
	if err != nil {
		return m, fmt.Errorf("record: %w", err)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("record: %s: %w", filepath.Join(dir, manifestFile), err)
	}
	return m, nil
}

func (m Manifest) write(dir string) error {
	return atomicfile.Write(filepath.Join(dir, manifestFile), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(m)
	})
}

// complete fills in what the program knows about itself.
func (m Manifest) complete() Manifest {
	if m.Go == "" {
		m.Go = runtime.Version()
	}
	if m.Platform == "" {
		m.Platform = runtime.GOOS + "/" + runtime.GOARCH
	}
	if m.Start.IsZero() {
		m.Start = time.Now().UTC().Truncate(time.Second)
	}
	return m
}

// readSmall reads a file that has no reason to be large.
func readSmall(path string) ([]byte, error) {
	const limit = 8 << 20
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file", path)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s: got %d bytes, want at most %d", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}
