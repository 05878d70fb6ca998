package ortlib

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"

	"ebmrun/runtime"
)

// MinVersion is the oldest ONNX Runtime that has the C API (24) asked for.
const MinVersion = "1.24"

// Variables are the environment variables that may name the library, a file or a
// folder, in the order they are looked at.
var Variables = []string{"EBMRUN_ORT_LIBRARY", "ONNXRUNTIME_SHARED_LIBRARY_PATH", "ORT_DYLIB_PATH"}

// A Library is an ONNX Runtime shared library on this machine.
type Library struct {
	Path    string `json:"path"`
	Version string `json:"version,omitempty"` // as the file's name tells, "" if it does not
	Rule    string `json:"rule"`              // what led to it
}

// ErrNotFound is wrapped by the error of Find when no rule led to a library.
var ErrNotFound = errors.New("no ONNX Runtime library found")

// Find looks for the library: path if it is not empty, then each of [Variables]
// that is set, beside the running program, in the cache folder, in Python's
// site-packages, and in the system's library folders. A path or variable that
// leads nowhere is an error; elsewhere, libraries whose name tells that they are
// older than MinVersion are passed over.
func Find(path string) (Library, error) {
	if path != "" {
		return named(path, "asked for")
	}
	for _, name := range Variables {
		if v := os.Getenv(name); v != "" {
			return named(v, name)
		}
	}
	var old []string
	for _, rule := range rules() {
		for _, dir := range rule.dirs {
			for _, lib := range in(dir) {
				if lib.Version != "" && compareVersions(lib.Version, MinVersion) < 0 {
					old = append(old, lib.Path)
					continue
				}
				lib.Rule = rule.name
				return lib, nil
			}
		}
	}
	err := fmt.Errorf("%w (looked at %s, beside the program, in the cache, Python's site-packages and the system's folders): run `ebmrun setup`, or name one with --ort-library",
		ErrNotFound, strings.Join(Variables, ", "))
	if len(old) > 0 {
		err = fmt.Errorf("%w; passed over as older than %s: %s", err, MinVersion, strings.Join(old, ", "))
	}
	return Library{}, err
}

// named resolves a file or folder that somebody named.
func named(path, rule string) (Library, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Library{}, fmt.Errorf("ONNX Runtime library (%s): %w", rule, err)
	}
	if !info.IsDir() {
		abs, err := filepath.Abs(path)
		if err != nil {
			return Library{}, fmt.Errorf("ONNX Runtime library (%s): %w", rule, err)
		}
		return Library{Path: abs, Version: versionOf(abs), Rule: rule}, nil
	}
	for _, sub := range []string{"", "lib", "capi", "onnxruntime/capi"} {
		if libs := in(filepath.Join(path, sub)); len(libs) > 0 {
			libs[0].Rule = rule
			return libs[0], nil
		}
	}
	return Library{}, fmt.Errorf("ONNX Runtime library (%s): no %s in folder %s", rule, patterns()[0], path)
}

// patterns match the library's file name on this system.
func patterns() []string {
	switch goruntime.GOOS {
	case "windows":
		return []string{"onnxruntime.dll"}
	case "darwin":
		return []string{"libonnxruntime.dylib", "libonnxruntime.[0-9]*.dylib"}
	}
	return []string{"libonnxruntime.so", "libonnxruntime.so.[0-9]*"}
}

// in lists the libraries in a folder, newest first.
func in(dir string) []Library {
	var libs []Library
	seen := map[string]bool{}
	for _, pattern := range patterns() {
		files, _ := filepath.Glob(filepath.Join(escape(dir), pattern))
		for _, f := range files {
			real, err := filepath.EvalSymlinks(f)
			if err != nil || seen[real] {
				continue
			}
			if info, err := os.Stat(real); err != nil || !info.Mode().IsRegular() {
				continue
			}
			if real, err = filepath.Abs(real); err != nil {
				continue
			}
			seen[real] = true
			libs = append(libs, Library{Path: real, Version: versionOf(real)})
		}
	}
	slices.SortStableFunc(libs, func(a, b Library) int { return compareVersions(b.Version, a.Version) })
	return libs
}

// escape keeps a folder's own name from being read as a pattern.
func escape(dir string) string {
	if goruntime.GOOS == "windows" {
		return dir // which has no escapes in patterns
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// versionOf reads "1.24.1" from "libonnxruntime.so.1.24.1", "1.24.4" from
// "libonnxruntime.1.24.4.dylib"; a name with less than two numbers tells nothing.
func versionOf(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), ".dylib")
	var nums []string
	for _, part := range strings.Split(name, ".") {
		if _, err := strconv.Atoi(part); err == nil {
			nums = append(nums, part)
		}
	}
	if len(nums) < 2 {
		return ""
	}
	return strings.Join(nums, ".")
}

// compareVersions orders dotted numbers.
func compareVersions(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		m, _ := strconv.Atoi(x[i])
		n, _ := strconv.Atoi(y[i])
		if c := cmp.Compare(m, n); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}

type rule struct {
	name string
	dirs []string
}

func rules() []rule {
	var beside []string
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		beside = []string{filepath.Dir(exe), filepath.Join(filepath.Dir(exe), "lib")}
	}
	return []rule{
		{"beside the program", beside},
		{"cache folder", cached()},
		{"Python site-packages", sitePackages()},
		{"system folders", systemDirs()},
	}
}

// cached lists the folders that Obtain fills, in its order of preference.
func cached() []string {
	root, err := Root()
	if err != nil {
		return nil
	}
	var dirs []string
	for _, p := range Packages {
		if p.fits(goruntime.GOOS, goruntime.GOARCH) {
			dirs = append(dirs, filepath.Join(root, p.dir()))
		}
	}
	return dirs
}

// Root is the folder that libraries are unpacked under.
func Root() (string, error) {
	dir, err := runtime.CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "ort"), nil
}

func sitePackages() []string {
	var roots []string
	for _, name := range []string{"VIRTUAL_ENV", "CONDA_PREFIX"} {
		if v := os.Getenv(name); v != "" {
			roots = append(roots, v)
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		roots = append(roots, filepath.Join(home, ".local"))
		versions, _ := filepath.Glob(filepath.Join(escape(home), ".pyenv", "versions", "*"))
		roots = append(roots, versions...)
	}
	roots = append(roots, "/usr/local", "/usr", "/opt/homebrew")
	var dirs []string
	for _, root := range roots {
		for _, pattern := range []string{"lib/python3*/site-packages", "lib/python3*/dist-packages", "Lib/site-packages"} {
			found, _ := filepath.Glob(filepath.Join(escape(root), pattern, "onnxruntime", "capi"))
			dirs = append(dirs, found...)
		}
	}
	return dirs
}

func systemDirs() []string {
	var dirs []string
	for _, name := range []string{"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		dirs = append(dirs, filepath.SplitList(os.Getenv(name))...)
	}
	multiarch, _ := filepath.Glob("/usr/lib/*-linux-gnu")
	dirs = append(dirs, "/usr/local/lib", "/usr/lib", "/usr/lib64")
	dirs = append(dirs, multiarch...)
	return append(dirs, "/opt/onnxruntime/lib", "/opt/homebrew/lib", "/opt/local/lib")
}

// providerFile is the name of a provider's library, "" for one that is built into
// the main library.
func providerFile(provider string) string {
	switch provider {
	case runtime.OpenVINO, runtime.CUDA, runtime.TensorRT:
		if goruntime.GOOS == "windows" {
			return "onnxruntime_providers_" + provider + ".dll"
		}
		return "libonnxruntime_providers_" + provider + ".so"
	}
	return ""
}

// Beside reports a provider whose library does not lie in the library's folder,
// where ONNX Runtime looks for it.
func (l Library) Beside(provider string) error {
	name := providerFile(provider)
	if name == "" {
		return nil
	}
	_, err := os.Stat(filepath.Join(filepath.Dir(l.Path), name))
	if errors.Is(err, fs.ErrNotExist) {
		advice := "use a build of ONNX Runtime that has it"
		switch provider {
		case runtime.OpenVINO:
			advice = "`ebmrun setup` gets a build that has it (Linux x86-64)"
		case runtime.CUDA, runtime.TensorRT:
			advice = "`ebmrun setup --cuda` gets a build that has it (Linux x86-64)"
		}
		return fmt.Errorf("no %s beside %s: %s", name, l.Path, advice)
	}
	return err
}

// Providers lists the providers, other than the CPU's, that are worth trying with
// this library. TensorRT is left out: it takes minutes to compile a graph, and so
// is used only when asked for.
func (l Library) Providers() []string {
	var out []string
	for _, p := range []string{runtime.CUDA, runtime.OpenVINO} {
		if l.Beside(p) == nil {
			out = append(out, p)
		}
	}
	if goruntime.GOOS == "darwin" {
		out = append(out, runtime.CoreML)
	}
	return out
}
