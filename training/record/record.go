// Package record keeps the folder of a training run: what was asked for, what happened, and the
// pictures and the report that let people judge it.
//
// [Create] starts a folder and [Open] goes on with one after a resume. The [Run] they return takes
// metrics and pictures while training goes on; [Report] turns a folder into one HTML page at any
// time. A folder holds
//
//	config.yaml                settings in force
//	manifest.json              version, seed, data, provider, library, command line
//	metrics.jsonl              one JSON object a line: the step and the metrics
//	events.out.tfevents.*      the same for TensorBoard, with the pictures
//	samples/step-NNNNNN.png    sample grids; other pictures in samples/TAG/
//	report.html                made by Report
//
// The pictures are useful alone: [Grid] and [Strip] for batches of images, [Heat] for a 2-D density
// with samples over it, [Lines] for curves.
package record

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"

	"ebmrun/training/checkpoint/atomicfile"
)

const (
	configFile   = "config.yaml"
	manifestFile = "manifest.json"
	metricsFile  = "metrics.jsonl"
	reportFile   = "report.html"
	samplesDir   = "samples"
)

// SamplesTag is the tag of the pictures that show what the model draws; they lie directly in
// samples/.
const SamplesTag = "samples"

// Options describe a run that starts.
type Options struct {
	Manifest Manifest
	Config   any // settings in force, marshalled to YAML; nil writes an empty file
}

// Run records one training run. It is for one goroutine.
type Run struct {
	dir     string
	metrics *os.File
	events  *events
	last    int // newest step written, -1 at the start
}

// Vacant is an error if dir holds a run already.
func Vacant(dir string) error {
	for _, name := range []string{manifestFile, metricsFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("record: %s already holds a run (%s): resume it or choose another folder", dir, name)
		}
	}
	return nil
}

// Create makes the run folder dir, or fails when dir holds a run already. Other files in dir stay.
func Create(dir string, o Options) (*Run, error) {
	if err := Vacant(dir); err != nil {
		return nil, err
	}
	config := []byte{}
	if o.Config != nil {
		var err error
		if config, err = yaml.Marshal(o.Config); err != nil {
			return nil, fmt.Errorf("record: settings: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, samplesDir), 0o777); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	err := atomicfile.Write(filepath.Join(dir, configFile), func(w io.Writer) error {
		_, err := w.Write(config)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if err := o.Manifest.complete().write(dir); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return start(dir, -1)
}

// Open goes on with the run in dir from a checkpoint of the given step: metrics and pictures of
// later steps are dropped, TensorBoard continues in a new file that supersedes them, and the
// manifest notes the resume.
func Open(dir string, step int) (*Run, error) {
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	if err := truncate(dir, step); err != nil {
		return nil, fmt.Errorf("record: %s: %w", dir, err)
	}
	m.Resumed = append(m.Resumed, Resume{Step: step, Time: time.Now().UTC().Truncate(time.Second)})
	if err := m.write(dir); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	r, err := start(dir, step)
	if err != nil {
		return nil, err
	}
	if err := r.events.restart(step + 1); err != nil {
		r.Close()
		return nil, fmt.Errorf("record: %w", err)
	}
	return r, nil
}

func start(dir string, step int) (*Run, error) {
	f, err := os.OpenFile(filepath.Join(dir, metricsFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	e, err := newEvents(dir, time.Now)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("record: %w", err)
	}
	return &Run{dir: dir, metrics: f, events: e, last: step}, nil
}

// truncate drops metrics and pictures after step, and lines that a kill cut.
func truncate(dir string, step int) error {
	lines, _, err := ReadMetrics(dir)
	if err != nil {
		return err
	}
	err = atomicfile.Write(filepath.Join(dir, metricsFile), func(w io.Writer) error {
		for _, l := range lines {
			if l.Step > step {
				continue
			}
			b, err := l.encode()
			if err != nil {
				return err
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	pictures, err := findPictures(dir)
	if err != nil {
		return err
	}
	for _, p := range pictures {
		if p.step > step {
			if err := os.Remove(p.path); err != nil {
				return err
			}
		}
	}
	return nil
}

// Dir returns the run folder.
func (r *Run) Dir() string { return r.dir }

// Metrics records values measured at step, which does not go back. NaN and infinities are kept.
func (r *Run) Metrics(step int, values map[string]float64) error {
	if err := r.advance(step); err != nil {
		return err
	}
	b, err := Line{step, values}.encode()
	if err != nil {
		return fmt.Errorf("record: step %d: %w", step, err)
	}
	if _, err := r.metrics.Write(b); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if err := r.events.scalars(step, values); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// Images records a batch as a grid; see [Run.Picture] for tag.
func (r *Run) Images(step int, tag string, img Images) error {
	grid, err := Grid(img, 0, 2, 0)
	if err != nil {
		return err
	}
	return r.Picture(step, tag, grid)
}

// tagRule keeps tags usable as folder names everywhere.
var tagRule = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// Picture records img: tag [SamplesTag] in samples/step-NNNNNN.png, any other tag (lower-case
// letters, digits, - and _) in samples/TAG/step-NNNNNN.png.
func (r *Run) Picture(step int, tag string, img image.Image) error {
	if !tagRule.MatchString(tag) {
		return fmt.Errorf("record: step %d: got tag %.80q, want lower-case letters, digits, - and _", step, tag)
	}
	if err := r.advance(step); err != nil {
		return err
	}
	data, err := encodePNG(img)
	if err != nil {
		return fmt.Errorf("record: step %d: %s: %w", step, tag, err)
	}
	dir := filepath.Join(r.dir, samplesDir)
	if tag != SamplesTag {
		dir = filepath.Join(dir, tag)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	err = atomicfile.Write(filepath.Join(dir, fmt.Sprintf("step-%06d.png", step)), func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(data))
		return err
	})
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	channels := 4
	if img.ColorModel() == color.GrayModel {
		channels = 1
	} else if o, ok := img.(interface{ Opaque() bool }); ok && o.Opaque() {
		channels = 3
	}
	size := img.Bounds().Size()
	if err := r.events.picture(step, tag, data, size.X, size.Y, channels); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

func (r *Run) advance(step int) error {
	if step < 0 || step < r.last {
		return fmt.Errorf("record: got step %d after step %d", step, r.last)
	}
	r.last = step
	return nil
}

// Close closes the files. The report is made apart, with [Report].
func (r *Run) Close() error {
	return errors.Join(r.metrics.Close(), r.events.close())
}

// picture is one PNG file under samples/.
type picture struct {
	tag  string
	step int
	path string
}

var pictureRule = regexp.MustCompile(`^step-(\d{6,18})\.png$`)

// findPictures lists the pictures of a run by tag, then step. Other files are passed over.
func findPictures(dir string) ([]picture, error) {
	root := filepath.Join(dir, samplesDir)
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pictures := picturesIn(root, SamplesTag, entries)
	for _, e := range entries {
		if e.IsDir() && tagRule.MatchString(e.Name()) && e.Name() != SamplesTag {
			sub := filepath.Join(root, e.Name())
			files, err := os.ReadDir(sub)
			if err != nil {
				return nil, err
			}
			pictures = append(pictures, picturesIn(sub, e.Name(), files)...)
		}
	}
	return pictures, nil
}

func picturesIn(dir, tag string, entries []fs.DirEntry) []picture {
	var list []picture
	for _, e := range entries {
		m := pictureRule.FindStringSubmatch(e.Name())
		if m == nil || !e.Type().IsRegular() {
			continue
		}
		step, err := strconv.Atoi(m[1])
		if err != nil {
			continue
		}
		list = append(list, picture{tag, step, filepath.Join(dir, e.Name())})
	}
	slices.SortFunc(list, func(a, b picture) int { return cmp.Compare(a.step, b.step) })
	return list
}
