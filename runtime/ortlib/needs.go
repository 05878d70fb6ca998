package ortlib

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"ebmrun/runtime"
)

// holders tells which package holds a library that a provider needs, by the
// beginning of its name: pip's name, and what else has it.
var holders = []struct{ prefix, pip, kit string }{
	{"libcublasLt.", "nvidia-cublas-cu12", "CUDA toolkit 12"},
	{"libcublas.", "nvidia-cublas-cu12", "CUDA toolkit 12"},
	{"libcudart.", "nvidia-cuda-runtime-cu12", "CUDA toolkit 12"},
	{"libcufft.", "nvidia-cufft-cu12", "CUDA toolkit 12"},
	{"libcurand.", "nvidia-curand-cu12", "CUDA toolkit 12"},
	{"libcudnn.", "nvidia-cudnn-cu12", "cuDNN 9"},
	{"libnvinfer.", "tensorrt-cu12", "TensorRT 10"},
	{"libnvonnxparser.", "tensorrt-cu12", "TensorRT 10"},
}

// A Need is a shared library that a provider's library asks the system for.
type Need struct {
	Name   string `json:"name"`
	Path   string `json:"path,omitempty"`   // where it lies, "" if it was not found
	Holder string `json:"holder,omitempty"` // what holds it; of a pip package, the lib folder goes into LD_LIBRARY_PATH
}

// Needs lists the libraries that a provider's library beside l is linked with, as
// far as the system does not always have them, and where the system's loader
// would find each: in LD_LIBRARY_PATH, beside the library, or where ldconfig
// knows it. It reads ELF files (Linux) and gives nothing elsewhere.
func (l Library) Needs(ctx context.Context, provider string) ([]Need, error) {
	name := providerFile(provider)
	if name == "" || filepath.Ext(name) != ".so" {
		return nil, nil
	}
	dir := filepath.Dir(l.Path)
	f, err := elf.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	libs, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	known := loaderCache(ctx)
	var needs []Need
	for _, lib := range libs {
		n := Need{Name: lib}
		for _, d := range append(filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")), dir) {
			if _, err := os.Stat(filepath.Join(d, lib)); err == nil && n.Path == "" {
				n.Path = filepath.Join(d, lib)
			}
		}
		if n.Path == "" {
			n.Path = known[lib]
		}
		for _, h := range holders {
			if strings.HasPrefix(lib, h.prefix) && n.Holder == "" {
				n.Holder = fmt.Sprintf("%s, pip's %s", h.kit, h.pip)
			}
		}
		if n.Holder != "" || n.Path == "" {
			needs = append(needs, n)
		}
	}
	return needs, nil
}

// loaderCache is where the system's loader knows libraries, by name.
func loaderCache(ctx context.Context) map[string]string {
	known := map[string]string{}
	for _, ldconfig := range []string{"ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig"} {
		text, err := exec.CommandContext(ctx, ldconfig, "-p").Output()
		if err != nil {
			continue
		}
		for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
			name, path, ok := strings.Cut(strings.TrimSpace(s.Text()), " => ")
			if name, _, _ = strings.Cut(name, " "); ok && known[name] == "" {
				known[name] = path
			}
		}
		break
	}
	return known
}

// Lacks says what keeps a provider for graphics processors from running on this
// machine, one line for each thing that is missing, with what mends it: the
// driver, the library beside l, and the libraries it is linked with.
func (l Library) Lacks(ctx context.Context, provider string) (lines []string) {
	if provider != runtime.CUDA && provider != runtime.TensorRT {
		return nil
	}
	known := loaderCache(ctx)
	if _, err := os.Stat("/proc/driver/nvidia/version"); err != nil && known["libcuda.so.1"] == "" {
		lines = append(lines, "no NVIDIA driver: neither /proc/driver/nvidia/version nor libcuda.so.1; install the driver of the graphics processor")
	}
	if err := l.Beside(provider); err != nil {
		return append(lines, err.Error())
	}
	needs, err := l.Needs(ctx, provider)
	if err != nil {
		return append(lines, err.Error())
	}
	for _, n := range needs {
		if n.Path == "" {
			line := "no " + n.Name
			if n.Holder != "" {
				line += " (in " + n.Holder + ")"
			}
			lines = append(lines, line)
		}
	}
	return lines
}
