package record

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// settings stands in for a learning system's own.
type settings struct {
	Langevin struct {
		Steps int     `yaml:"steps"`
		Step  float64 `yaml:"step"`
	} `yaml:"langevin"`
	Batch int `yaml:"batch"`
}

func create(t *testing.T) (dir string, r *Run) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "run")
	s := settings{Batch: 64}
	s.Langevin.Steps, s.Langevin.Step = 60, 0.03
	r, err := Create(dir, Options{Config: s, Manifest: Manifest{
		Title: "toy", Version: "v1", System: "generative-convnet", Seed: math.MaxUint64, Data: Data{"mnist", "abc"},
		Provider: "cpu", Library: "1.24.1", Threads: 2, Command: []string{"ebmrun", "train"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return dir, r
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCreate(t *testing.T) {
	dir, _ := create(t)
	if got, want := read(t, dir, "config.yaml"), "langevin:\n  steps: 60\n  step: 0.03\nbatch: 64\n"; got != want {
		t.Errorf("config.yaml: got\n%swant\n%s", got, want)
	}
	m, err := ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.Seed != math.MaxUint64 || m.Data.Hash != "abc" || !strings.HasPrefix(m.Go, "go") || !strings.Contains(m.Platform, "/") || time.Since(m.Start) > time.Hour {
		t.Errorf("got manifest %+v", m)
	}
	if _, err := Create(dir, Options{}); err == nil || !strings.Contains(err.Error(), "already holds a run") {
		t.Errorf("second Create: got %v, want it refused", err)
	}
}

func TestMetricsLines(t *testing.T) {
	dir, r := create(t)
	for step, values := range []map[string]float64{
		{"V": 0.5, "energy/grad_norm": 1e-9, "big": 1e300},
		{"nan": math.NaN(), "up": math.Inf(1), "down": math.Inf(-1)},
		{},
	} {
		if err := r.Metrics(10*step, values); err != nil {
			t.Fatal(err)
		}
	}
	want := `{"step":0,"V":0.5,"big":1e+300,"energy/grad_norm":1e-9}
{"step":10,"down":"-Infinity","nan":"NaN","up":"Infinity"}
{"step":20}
`
	got := read(t, dir, "metrics.jsonl")
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for line := range strings.Lines(got) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	lines, broken, err := ReadMetrics(dir)
	if err != nil || broken != 0 || len(lines) != 3 {
		t.Fatalf("got %v, %d broken, %v", lines, broken, err)
	}
	if v := lines[1].Values; !math.IsNaN(v["nan"]) || v["up"] != math.Inf(1) || v["down"] != math.Inf(-1) || lines[1].Step != 10 {
		t.Errorf("got %v", lines[1])
	}

	for _, bad := range []func() error{
		func() error { return r.Metrics(19, nil) },
		func() error { return r.Metrics(21, map[string]float64{"step": 1}) },
		func() error { return r.Metrics(21, map[string]float64{"": 1}) },
	} {
		if bad() == nil {
			t.Error("want an error for a step back or a bad name")
		}
	}
}

func TestHostileMetrics(t *testing.T) {
	dir := t.TempDir()
	text := `{"step":1,"a":1}
not json
{"a":1}
{"step":1.5,"a":1}
{"step":2,"a":null}
{"step":2,"a":"nan"}
{"step":2,"a":{"b":1}}
[1]

{"step":1e300}
` + `{"step":2,"` + strings.Repeat("x", 3<<20) + `":1}
{"step":3,"a":2}
{"step":4,"a`
	if err := os.WriteFile(filepath.Join(dir, metricsFile), []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	lines, broken, err := ReadMetrics(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []Line{{1, map[string]float64{"a": 1}}, {3, map[string]float64{"a": 2}}}
	if !reflect.DeepEqual(lines, want) || broken != 10 {
		t.Errorf("got %v and %d broken, want %v and 10", lines, broken, want)
	}
}

func TestOpen(t *testing.T) {
	dir, r := create(t)
	img := Images{Data: []float32{0}, N: 1, C: 1, H: 1, W: 1}
	for step := 0; step <= 40; step += 10 {
		if err := r.Metrics(step, map[string]float64{"a": float64(step) + 0.1}); err != nil {
			t.Fatal(err)
		}
		for _, tag := range []string{SamplesTag, "other"} {
			if err := r.Images(step, tag, img); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.Close()
	before := strings.Join(strings.SplitAfter(read(t, dir, metricsFile), "\n")[:3], "")
	f, err := os.OpenFile(filepath.Join(dir, metricsFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"step":50,"a`) // the kill came here
	f.Close()

	r, err = Open(dir, 20)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := read(t, dir, metricsFile); got != before {
		t.Errorf("got\n%swant the lines up to step 20\n%s", got, before)
	}
	if err := r.Metrics(20, nil); err != nil {
		t.Errorf("step 20 again: %v", err)
	}
	if err := r.Metrics(30, map[string]float64{"a": 1}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir, metricsFile); got != before+"{\"step\":20}\n{\"step\":30,\"a\":1}\n" {
		t.Errorf("got\n%s", got)
	}
	pictures, err := findPictures(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range pictures {
		rel, _ := filepath.Rel(dir, p.path)
		got = append(got, filepath.ToSlash(rel))
	}
	want := []string{"samples/step-000000.png", "samples/step-000010.png", "samples/step-000020.png",
		"samples/other/step-000000.png", "samples/other/step-000010.png", "samples/other/step-000020.png"}
	if !slices.Equal(got, want) {
		t.Errorf("got pictures %v, want %v", got, want)
	}
	if m, _ := ReadManifest(dir); len(m.Resumed) != 1 || m.Resumed[0].Step != 20 || m.Version != "v1" {
		t.Errorf("got manifest %+v, want the resume noted and the rest kept", m)
	}

	files, _ := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	slices.Sort(files)
	if len(files) != 2 {
		t.Fatalf("got event files %v, want 2", files)
	}
	events := decodeEvents(t, []byte(read(t, files[1])))
	if events[0].version != "brain.Event:2" || !events[1].start || events[1].step != 21 {
		t.Errorf("got %+v, want the version and a restart at step 21", events[:2])
	}
	if _, err := Open(t.TempDir(), 0); err == nil {
		t.Error("a folder without a manifest was opened")
	}
}

func TestPicture(t *testing.T) {
	dir, r := create(t)
	for _, tag := range []string{"", "..", "a/b", "A", strings.Repeat("a", 65), "a.png"} {
		if err := r.Picture(1, tag, image.NewGray(image.Rect(0, 0, 1, 1))); err == nil {
			t.Errorf("tag %q was taken", tag)
		}
	}
	img := image.NewNRGBA(image.Rect(0, 0, 3, 2))
	img.Set(2, 1, color.NRGBA{1, 2, 3, 255})
	if err := r.Picture(1, "maps", img); err != nil {
		t.Fatal(err)
	}
	got, err := png.Decode(strings.NewReader(read(t, dir, "samples", "maps", "step-000001.png")))
	if err != nil {
		t.Fatal(err)
	}
	if got.Bounds() != img.Bounds() || !sameColor(got.At(2, 1), img.At(2, 1)) {
		t.Errorf("got %v", got)
	}
}

func sameColor(a, b color.Color) bool {
	return color.NRGBAModel.Convert(a) == color.NRGBAModel.Convert(b)
}

func TestGrid(t *testing.T) {
	// Three grey 2×2 images, two a row, 1 pixel apart, every value 2×2 pixels.
	m := Images{N: 3, C: 1, H: 2, W: 2, Data: []float32{
		-1, 1, 0, -2,
		0.5, 0.5, 0.5, 0.5,
		1, 2, 3, -1,
	}}
	img, err := Grid(m, 2, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if img.Bounds() != image.Rect(0, 0, 9, 9) || img.ColorModel() != color.GrayModel {
		t.Fatalf("got %v in %T, want 9 × 9 grey", img.Bounds(), img)
	}
	for _, c := range []struct {
		x, y int
		want uint8
	}{
		{0, 0, 0}, {1, 1, 0}, {2, 0, 255}, {3, 1, 255}, {0, 2, 128}, {3, 3, 0}, // first image
		{4, 0, gap.Y}, {0, 4, gap.Y}, {8, 8, gap.Y}, // between, and where no image is
		{5, 0, 191}, {8, 3, 191}, // second
		{0, 5, 255}, {3, 5, 255}, {0, 8, 255}, {3, 8, 0}, // third
	} {
		if got := img.At(c.x, c.y).(color.Gray).Y; got != c.want {
			t.Errorf("pixel %d,%d: got %d, want %d", c.x, c.y, got, c.want)
		}
	}
}

func TestGridColorRangeAndNaN(t *testing.T) {
	nan := float32(math.NaN())
	m := Images{N: 1, C: 3, H: 1, W: 2, Lo: 0, Hi: 255, Data: []float32{10, 1, 20, nan, 30, 1}}
	img, err := Grid(m, 0, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := img.At(0, 0); !sameColor(got, color.NRGBA{10, 20, 30, 255}) {
		t.Errorf("got %v, want planes as red, green, blue", got)
	}
	if got := img.At(1, 0); !sameColor(got, Loud) {
		t.Errorf("got %v for a NaN, want Loud", got)
	}
	inf := Images{N: 1, C: 1, H: 1, W: 2, Data: []float32{0, float32(math.Inf(-1))}}
	if img, err = Grid(inf, 0, 0, 1); err != nil || !sameColor(img.At(1, 0), Loud) || !sameColor(img.At(0, 0), color.Gray{128}) {
		t.Errorf("got %v, %v, want grey and Loud", img, err)
	}
}

func TestGridAutomatic(t *testing.T) {
	m := Images{N: 10, C: 1, H: 28, W: 20, Data: make([]float32, 10*28*20)}
	img, err := Grid(m, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	// 4 columns and 3 rows, 6 pixels a value: 4·20·6 = 480.
	if got, want := img.Bounds().Size(), (image.Point{4 * 120, 3 * 168}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestGridRefuses(t *testing.T) {
	for name, m := range map[string]Images{
		"no images":  {C: 1, H: 1, W: 1},
		"channels":   {N: 1, C: 2, H: 1, W: 1, Data: make([]float32, 2)},
		"short data": {N: 2, C: 1, H: 2, W: 2, Data: make([]float32, 7)},
		"overflow":   {N: 1 << 32, C: 1, H: 1 << 32, W: 1, Data: nil},
		"negative":   {N: -1, C: 1, H: -1, W: 1, Data: make([]float32, 1)},
		"range":      {N: 1, C: 1, H: 1, W: 1, Data: make([]float32, 1), Lo: 1, Hi: -1},
	} {
		if _, err := Grid(m, 0, 0, 0); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
	one := Images{N: 1, C: 1, H: 1, W: 1, Data: []float32{0}}
	if _, err := Grid(one, 1, 0, 1<<40); err == nil {
		t.Error("a giant scale was taken")
	}
}

func TestStrip(t *testing.T) {
	row := func(v ...float32) Images { return Images{N: len(v), C: 1, H: 1, W: 1, Data: v} }
	img, err := Strip(0, 1, row(-1, 0, 1), row(1, 0, -1))
	if err != nil {
		t.Fatal(err)
	}
	g := img.(*image.Gray)
	if g.Bounds() != image.Rect(0, 0, 3, 2) || !bytes.Equal(g.Pix, []byte{0, 128, 255, 255, 128, 0}) {
		t.Errorf("got %v %v", g.Bounds(), g.Pix)
	}
	if _, err := Strip(0, 1, row(1, 2), row(1)); err == nil {
		t.Error("rows of different length were taken")
	}
	wide := row(-10, 0, 10)
	wide.Lo, wide.Hi = -10, 10
	if img, err := Strip(0, 1, row(-1, 0, 1), wide); err != nil || img.At(0, 0) != img.At(0, 1) || img.At(2, 0) != img.At(2, 1) {
		t.Errorf("rows of two ranges: %v", err)
	}
	if _, err := Strip(0, 1); err == nil {
		t.Error("no rows were taken")
	}
}

func TestWritePNG(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.png")
	if err := WritePNG(path, image.NewGray(image.Rect(0, 0, 2, 3))); err != nil {
		t.Fatal(err)
	}
	if c, err := png.DecodeConfig(strings.NewReader(read(t, path))); err != nil || c.Width != 2 || c.Height != 3 {
		t.Errorf("got %v, %v", c, err)
	}
	// An image that PNG cannot hold leaves the old file.
	if err := WritePNG(path, image.NewGray(image.Rectangle{})); err == nil {
		t.Error("an empty image was written")
	}
	if _, err := png.DecodeConfig(strings.NewReader(read(t, path))); err != nil {
		t.Errorf("the old file is gone: %v", err)
	}
}
