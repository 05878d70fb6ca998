package ortlib

import (
	"context"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
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
	for _, want := range []string{"libcufft.", "nvidia-cufft-cu12", "CUDA toolkit 12"} {
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
