package ortlib

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"ebmrun/runtime"
)

// isolate hides this machine's libraries from Find.
func isolate(t *testing.T) (cache string) {
	t.Helper()
	for _, v := range append(slices.Clone(Variables), "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") {
		t.Setenv(v, "")
	}
	t.Setenv("HOME", t.TempDir())
	cache = t.TempDir()
	t.Setenv("EBMRUN_CACHE", cache)
	return cache
}

func touch(t *testing.T, path ...string) string {
	t.Helper()
	p := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func linuxOnly(t *testing.T) {
	if goruntime.GOOS != "linux" {
		t.Skip("file names of Linux")
	}
}

func TestFindOrder(t *testing.T) {
	linuxOnly(t)
	cache := isolate(t)
	dir := t.TempDir()
	lib := func(name string) string { return touch(t, dir, name, "libonnxruntime.so.1.25.0") }

	// From the last rule to the first: each wins over those before it.
	site := touch(t, dir, "venv/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime.so.1.25.0")
	system := lib("system")
	expect := func(arg, path, rule string) {
		t.Helper()
		got, err := Find(arg)
		if err != nil || got.Path != path || got.Rule != rule || got.Version != "1.25.0" {
			t.Errorf("wanted %s (%s), got %+v, %v", path, rule, got, err)
		}
	}
	t.Setenv("LD_LIBRARY_PATH", filepath.Dir(system))
	expect("", system, "system folders")
	t.Setenv("VIRTUAL_ENV", filepath.Join(dir, "venv"))
	expect("", site, "Python site-packages")
	if p := slices.IndexFunc(Packages, func(p Package) bool { return p.fits(goruntime.GOOS, goruntime.GOARCH) }); p >= 0 {
		cached := touch(t, cache, "ort", Packages[p].dir(), "libonnxruntime.so.1.25.0")
		expect("", cached, "cache folder")
	}
	for _, v := range []string{"ORT_DYLIB_PATH", "ONNXRUNTIME_SHARED_LIBRARY_PATH", "EBMRUN_ORT_LIBRARY"} {
		path := lib(v)
		t.Setenv(v, path)
		expect("", path, v)
	}
	asked := lib("asked")
	expect(asked, asked, "asked for")
	expect(filepath.Dir(asked), asked, "asked for")
	expect(filepath.Join(dir, "venv/lib/python3.12/site-packages"), site, "asked for")
}

func TestFindFolder(t *testing.T) {
	linuxOnly(t)
	isolate(t)
	dir := filepath.Join(t.TempDir(), "odd [name]*")
	touch(t, dir, "libonnxruntime.so.1.9.0")
	newest := touch(t, dir, "libonnxruntime.so.1.24.10")
	touch(t, dir, "libonnxruntime.so.1.24.9")
	touch(t, dir, "libonnxruntime_providers_shared.so")
	if err := os.Symlink("libonnxruntime.so.1.9.0", filepath.Join(dir, "libonnxruntime.so")); err != nil {
		t.Fatal(err)
	}
	if got, err := Find(dir); err != nil || got.Path != newest {
		t.Errorf("wanted the newest, got %+v, %v", got, err)
	}
}

func TestFindNothing(t *testing.T) {
	linuxOnly(t)
	isolate(t)
	old := touch(t, t.TempDir(), "libonnxruntime.so.1.18.0")
	t.Setenv("LD_LIBRARY_PATH", filepath.Dir(old))
	_, err := Find("")
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "ebmrun setup") || !strings.Contains(err.Error(), old) {
		t.Errorf("wanted an error that tells what to do and names %s, got %v", old, err)
	}
	t.Setenv("ORT_DYLIB_PATH", "/no/such/file")
	if _, err := Find(""); err == nil || !strings.Contains(err.Error(), "ORT_DYLIB_PATH") {
		t.Errorf("wanted an error that names the variable, got %v", err)
	}
	empty := t.TempDir()
	if _, err := Find(empty); err == nil || !strings.Contains(err.Error(), empty) {
		t.Errorf("wanted an error that names the folder, got %v", err)
	}
}

func TestVersions(t *testing.T) {
	for name, want := range map[string]string{
		"/x.1.2/libonnxruntime.so.1.24.1": "1.24.1", "libonnxruntime.1.24.4.dylib": "1.24.4",
		"libonnxruntime.so.1": "", "onnxruntime.dll": "", "libonnxruntime.so": "",
	} {
		if got := versionOf(name); got != want {
			t.Errorf("%s: wanted %q, got %q", name, want, got)
		}
	}
	for _, c := range [][2]string{{"1.9.0", "1.24"}, {"1.24", "1.24.1"}, {"1.24.9", "1.24.10"}, {"", "1.0"}} {
		if compareVersions(c[0], c[1]) >= 0 || compareVersions(c[1], c[0]) <= 0 {
			t.Errorf("%s is not before %s", c[0], c[1])
		}
	}
}

func TestProviders(t *testing.T) {
	linuxOnly(t)
	dir := t.TempDir()
	lib := Library{Path: touch(t, dir, "libonnxruntime.so.1.25.0")}
	if got := lib.Providers(); len(got) != 0 {
		t.Errorf("wanted none, got %v", got)
	}
	if err := lib.Beside(runtime.OpenVINO); err == nil || !strings.Contains(err.Error(), "libonnxruntime_providers_openvino.so") {
		t.Errorf("wanted an error that names the file, got %v", err)
	}
	touch(t, dir, "libonnxruntime_providers_openvino.so")
	touch(t, dir, "libonnxruntime_providers_tensorrt.so")
	if got := lib.Providers(); !slices.Equal(got, []string{runtime.OpenVINO}) {
		t.Errorf("wanted openvino, got %v", got)
	}
	if err := lib.Beside(runtime.TensorRT); err != nil {
		t.Error(err)
	}
}

// TestPackages keeps the table well formed: hashes, and no host names.
func TestPackages(t *testing.T) {
	seen := map[string]string{}
	for _, p := range Packages {
		if b, err := hex.DecodeString(p.SHA256); err != nil || len(b) != sha256.Size {
			t.Errorf("%s: bad hash %q", p.File, p.SHA256)
		}
		if old := seen[p.SHA256]; old != "" && old != p.File {
			t.Errorf("%s and %s have one hash", old, p.File)
		}
		seen[p.SHA256] = p.File
		if p.Client != "pip" && p.Client != "npm" || p.Size == 0 || len(p.Members) == 0 || compareVersions(p.Version, MinVersion) < 0 {
			t.Errorf("bad entry %+v", p)
		}
	}
}

type entry struct {
	name, body string
	link       bool
}

func makeZip(t *testing.T, path string, entries ...entry) {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(0o644)
		if e.link {
			h.SetMode(0o777 | os.ModeSymlink)
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(e.body))
	}
	if err := errors.Join(z.Close(), os.WriteFile(path, buf.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func makeTar(t *testing.T, path string, entries ...entry) {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	w := tar.NewWriter(gz)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Size: int64(len(e.body)), Mode: 0o644, Typeflag: tar.TypeReg}
		if e.link {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, e.body, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if !e.link {
			w.Write([]byte(e.body))
		}
	}
	if err := errors.Join(w.Close(), gz.Close(), os.WriteFile(path, buf.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestUnpack(t *testing.T) {
	for ext, make := range map[string]func(*testing.T, string, ...entry){".whl": makeZip, ".tgz": makeTar} {
		dir := t.TempDir()
		file := filepath.Join(dir, "package"+ext)
		make(t, file,
			entry{name: "../../escape", body: "bad"}, entry{name: "/etc/absolute", body: "bad"},
			entry{name: "a/lib.so", body: "library"}, entry{name: "a/other.so", body: "not wanted"}, entry{name: "LICENSE", body: "terms"})
		out := filepath.Join(dir, "out")
		os.Mkdir(out, 0o755)
		if err := unpack(file, out, []string{"a/lib.so", "LICENSE"}); err != nil {
			t.Fatalf("%s: %v", ext, err)
		}
		got, _ := filepath.Glob(filepath.Join(out, "*"))
		if len(got) != 2 {
			t.Errorf("%s: unpacked %v", ext, got)
		}
		if b, _ := os.ReadFile(filepath.Join(out, "lib.so")); string(b) != "library" {
			t.Errorf("%s: lib.so holds %q", ext, b)
		}
		for _, name := range []string{filepath.Join(dir, "escape"), filepath.Join(filepath.Dir(dir), "escape")} {
			if _, err := os.Stat(name); err == nil {
				t.Errorf("%s: %s was written", ext, name)
			}
		}

		for what, members := range map[string][]string{"missing": {"a/lib.so", "a/none.so"}, "traversal": {"../../escape"}, "absolute": {"/etc/absolute"}} {
			if err := unpack(file, t.TempDir(), members); err == nil {
				t.Errorf("%s, %s: no error", ext, what)
			}
		}
		make(t, file, entry{name: "a/lib.so", body: "/etc/passwd", link: true})
		if err := unpack(file, t.TempDir(), []string{"a/lib.so"}); err == nil {
			t.Errorf("%s: a link was taken for a file", ext)
		}
		if err := os.WriteFile(file, []byte("garbage"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := unpack(file, t.TempDir(), []string{"a/lib.so"}); err == nil {
			t.Errorf("%s: garbage was unpacked", ext)
		}
	}
}

func TestWriteFileSize(t *testing.T) {
	for _, size := range []int64{3, 5} {
		if err := writeFile(filepath.Join(t.TempDir(), "f"), strings.NewReader("four"), size); err == nil {
			t.Errorf("4 bytes declared as %d were written", size)
		}
	}
}

// testPackage is a package with a small file of its own.
func testPackage(t *testing.T) (p Package, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "pack-1.25.0.whl")
	makeZip(t, file, entry{name: "capi/libonnxruntime.so.1.25.0", body: "library"}, entry{name: "LICENSE", body: "terms"})
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return Package{
		Name: "pack", Version: "1.25.0", Client: "pip", GOOS: goruntime.GOOS, GOARCH: goruntime.GOARCH, Platform: "any",
		File: filepath.Base(file), Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]),
		Members: []string{"capi/libonnxruntime.so.1.25.0", "LICENSE"},
	}, file
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func TestObtainFile(t *testing.T) {
	p, file := testPackage(t)
	root := filepath.Join(t.TempDir(), "ort")
	stale := filepath.Join(root, tmpPrefix+"killed")
	if err := os.MkdirAll(stale, 0o755); err != nil {
		t.Fatal(err)
	}
	longAgo := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(stale, longAgo, longAgo); err != nil {
		t.Fatal(err)
	}
	var lines []string
	say := func(s string) { lines = append(lines, s) }
	for range 2 { // the second time it is there
		lib, err := obtain(t.Context(), p, root, file, say)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(lib.Path); string(b) != "library" || lib.Version != "1.25.0" {
			t.Errorf("got %+v with %q", lib, b)
		}
		if got := names(t, root); !slices.Equal(got, []string{"pack-1.25.0"}) {
			t.Errorf("left in the cache: %v", got)
		}
	}
	if len(lines) != 1 {
		t.Errorf("progress: %q", lines)
	}

	bad := p
	bad.Name, bad.SHA256 = "bad", strings.Repeat("0", 64)
	if _, err := obtain(t.Context(), bad, root, file, say); err == nil || !strings.Contains(err.Error(), p.SHA256) {
		t.Errorf("wrong hash: wanted an error with both hashes, got %v", err)
	}
	incomplete := p
	incomplete.Name, incomplete.Members = "incomplete", append(p.Members, "capi/none.so")
	if _, err := obtain(t.Context(), incomplete, root, file, say); err == nil || !strings.Contains(err.Error(), "none.so") {
		t.Errorf("missing member: got %v", err)
	}
	if got := names(t, root); !slices.Equal(got, []string{"pack-1.25.0"}) {
		t.Errorf("left in the cache after failures: %v", got)
	}
}

// TestDownload runs a package client that is a script.
func TestDownload(t *testing.T) {
	if goruntime.GOOS == "windows" {
		t.Skip("needs a shell script")
	}
	p, file := testPackage(t)
	bin := t.TempDir()
	script := func(body string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bin, "python3"), []byte("#!/bin/sh\n"+body), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	old := os.Getenv("PATH")
	t.Setenv("PATH", bin)
	if _, err := obtain(t.Context(), p, t.TempDir(), "", func(string) {}); err == nil || !strings.Contains(err.Error(), "pip is not installed") {
		t.Errorf("no client: got %v", err)
	}
	t.Setenv("PATH", bin+":"+old)
	log := filepath.Join(bin, "log")
	script(fmt.Sprintf(`case "$*" in *--version) exit 0;; esac; echo "$*" > %s; cp %s .`, log, file))
	var lines []string
	lib, err := obtain(t.Context(), p, t.TempDir(), "", func(s string) { lines = append(lines, s) })
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(lib.Path); string(b) != "library" {
		t.Errorf("the library holds %q", b)
	}
	if len(lines) != 2 || !strings.Contains(lines[0], "pack 1.25.0, 0 MB, with pip") {
		t.Errorf("progress: %q", lines)
	}
	args, _ := os.ReadFile(log)
	for _, want := range []string{"download", "--no-deps", "--only-binary=:all:", "--python-version 3.12", "--platform any", "pack==1.25.0"} {
		if !strings.Contains(string(args), want) {
			t.Errorf("pip was called with %q, without %q", args, want)
		}
	}
	script(`case "$*" in *--version) exit 0;; esac; echo "first line"; echo "ERROR: no such version" >&2; exit 1`)
	if _, err := obtain(t.Context(), p, t.TempDir(), "", func(string) {}); err == nil || !strings.Contains(err.Error(), "no such version") {
		t.Errorf("failing client: got %v", err)
	}
	script(`exit 0`)
	if _, err := obtain(t.Context(), p, t.TempDir(), "", func(string) {}); err == nil || !strings.Contains(err.Error(), p.File) {
		t.Errorf("client that gives nothing: got %v", err)
	}
}

func TestObtainUnknown(t *testing.T) {
	isolate(t)
	if _, err := Obtain(t.Context(), Request{Package: "no-such"}); err == nil || !strings.Contains(err.Error(), "no-such") {
		t.Errorf("got %v", err)
	}
	_, file := testPackage(t)
	if _, err := Obtain(t.Context(), Request{File: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("unknown file: got %v", err)
	}
}

func TestDiagnoseEmptyMachine(t *testing.T) {
	cache := isolate(t)
	t.Setenv("PATH", t.TempDir())
	d := Diagnose(context.Background(), "")
	if d.Cache != cache || d.Cores < 1 || len(d.Tools) == 0 {
		t.Errorf("diagnosis: %+v", d)
	}
	if d.Library == nil { // a system folder may hold one all the same
		all := strings.Join(d.Advice, "\n")
		for _, want := range []string{"ebmrun setup", "pip or npm"} {
			if !strings.Contains(all, want) {
				t.Errorf("the advice does not say %q: %q", want, d.Advice)
			}
		}
	}
	for _, a := range d.Advice {
		if strings.Contains(a, "\n") {
			t.Errorf("advice of several lines: %q", a)
		}
	}
	if left := names(t, cache); len(left) != 0 {
		t.Errorf("left in the cache folder: %v", left)
	}
}
