package ortlib

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"ebmrun/runtime"
)

// TestNeeds reads a real ELF file in the place of the CUDA provider's: what it is
// linked with is found, and what is not there is named with its holder.
func TestNeeds(t *testing.T) {
	if goruntime.GOOS != "linux" {
		t.Skip("ELF files are Linux's")
	}
	real := ""
	for name, path := range loaderCache(t.Context()) {
		if strings.HasPrefix(name, "libstdc++.so") {
			real = path
		}
	}
	if real == "" {
		t.Skip("no shared library to try")
	}
	dir := t.TempDir()
	copyTo(t, real, filepath.Join(dir, providerFile(runtime.CUDA)))
	l := Library{Path: filepath.Join(dir, "libonnxruntime.so.1")}
	needs, err := l.Needs(t.Context(), runtime.CUDA)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range needs {
		if n.Path == "" {
			t.Errorf("%s was not found", n.Name)
		}
	}
	// The same file with one of its needs renamed to a library of CUDA's, of the same length.
	data, err := os.ReadFile(real)
	if err != nil {
		t.Fatal(err)
	}
	patched := strings.Replace(string(data), "libm.so.6\x00", "libcufft.\x00", 1)
	if patched == string(data) {
		t.Skip("libstdc++ is not linked with libm")
	}
	if err := os.WriteFile(filepath.Join(dir, providerFile(runtime.CUDA)), []byte(patched), 0o755); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(l.Lacks(t.Context(), runtime.CUDA), "\n")
	for _, want := range []string{"libcufft.", "nvidia-cufft", "CUDA toolkit 13"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	if lacks := (Library{Path: filepath.Join(t.TempDir(), "libonnxruntime.so.1")}).Lacks(t.Context(), runtime.CUDA); !strings.Contains(strings.Join(lacks, "\n"), "setup --cuda") {
		t.Errorf("without the provider's library: %q", lacks)
	}
	if lacks := l.Lacks(context.Background(), runtime.CPU); lacks != nil {
		t.Errorf("the CPU provider lacks %q", lacks)
	}
}

func TestCUDAVersions(t *testing.T) {
	for text, want := range map[string]string{
		"NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version: 12": "12",
		"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build":                        "13",
		"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build":                         "12",
		"nothing known": "13",
	} {
		if got := cudaOf(text); got != want {
			t.Errorf("%q: wanted CUDA %s, got %s", text, want, got)
		}
	}
	for _, c := range []struct {
		linked []string
		want   string
	}{{[]string{"libcufft.so.11", "libcublas.so.12"}, "12"}, {[]string{"libcudart.so.13"}, "13"}, {nil, "13"}} {
		if got := cudaVersion(c.linked); got != c.want {
			t.Errorf("linked with %v: wanted CUDA %s, got %s", c.linked, c.want, got)
		}
	}
	for _, version := range []string{"12", "13"} {
		if !slices.ContainsFunc(Packages, func(p Package) bool { return p.CUDA == version && p.OnRequest }) {
			t.Errorf("no package for CUDA %s", version)
		}
	}
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
}

func TestForeign(t *testing.T) {
	if other := Foreign(filepath.Join(t.TempDir(), "none.so")); other != "" {
		t.Errorf("a file that is not there is for %s", other)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if other := Foreign(self); other != "" {
		t.Errorf("this program is for %s", other)
	}
	b, err := os.ReadFile(self)
	if err != nil || !bytes.HasPrefix(b, []byte("\x7fELF")) {
		t.Skip("no ELF file at hand")
	}
	name, m := "arm64", elf.EM_AARCH64
	if goruntime.GOARCH == name {
		name, m = "amd64", elf.EM_X86_64
	}
	binary.LittleEndian.PutUint16(b[18:], uint16(m)) // e_machine
	path := filepath.Join(t.TempDir(), "foreign.so")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	if other := Foreign(path); other != name {
		t.Errorf("got %q, want %s", other, name)
	}
}
