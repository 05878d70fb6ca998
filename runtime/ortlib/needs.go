package ortlib

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"ebmrun/runtime"
)

// holders tells which package holds a library that a provider needs, by the
// beginning of its name: pip's name for CUDA 12 and for 13, and what else has it.
var holders = []struct {
	prefix string
	pip    map[string]string
	kit    string
}{
	{"libcublasLt.", pip("nvidia-cublas-cu12", "nvidia-cublas"), "CUDA toolkit"},
	{"libcublas.", pip("nvidia-cublas-cu12", "nvidia-cublas"), "CUDA toolkit"},
	{"libcudart.", pip("nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime"), "CUDA toolkit"},
	{"libnvrtc.", pip("nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc"), "CUDA toolkit"},
	{"libcufft.", pip("nvidia-cufft-cu12", "nvidia-cufft"), "CUDA toolkit"},
	{"libcurand.", pip("nvidia-curand-cu12", "nvidia-curand"), "CUDA toolkit"},
	{"libcudnn.", pip("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"), "cuDNN 9 for CUDA"},
	{"libnvinfer.", pip("tensorrt-cu12", "tensorrt-cu13"), "TensorRT 10 for CUDA"},
	{"libnvonnxparser.", pip("tensorrt-cu12", "tensorrt-cu13"), "TensorRT 10 for CUDA"},
}

func pip(cuda12, cuda13 string) map[string]string {
	return map[string]string{"12": cuda12, "13": cuda13}
}

// driverLibrary comes with the driver of the graphics processor.
const driverLibrary = "libcuda.so.1"

// cudaVersion is the major version of CUDA that a library is built for, as the names
// of what it is linked with tell; the newest known if they do not.
func cudaVersion(linked []string) string {
	for _, name := range linked {
		for _, of := range []string{"libcudart.so.", "libcublas.so.", "libcublasLt.so."} {
			if v, ok := strings.CutPrefix(name, of); ok {
				return v
			}
		}
	}
	return "13"
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
	known, version := loaderCache(ctx), cudaVersion(libs)
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
				n.Holder = fmt.Sprintf("%s %s, pip's %s", h.kit, version, cmp.Or(h.pip[version], "package of that version"))
			}
		}
		if lib == driverLibrary {
			continue // looked for by itself
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

// driverFile tells of NVIDIA's driver, where there is one.
const driverFile = "/proc/driver/nvidia/version"

// DriverCUDA is the newest major version of CUDA that this machine's driver runs, of
// those that there are packages for; the newest of all where there is no driver.
func DriverCUDA() string {
	text, err := os.ReadFile(driverFile)
	if err != nil {
		return "13"
	}
	return cudaOf(string(text))
}

// cudaOf reads the driver's version in the text of driverFile: CUDA 13 takes 580 or newer.
func cudaOf(text string) string {
	if m := driverVersion.FindStringSubmatch(text); m != nil {
		if major, _ := strconv.Atoi(m[1]); major < 580 {
			return "12"
		}
	}
	return "13"
}

var driverVersion = regexp.MustCompile(`Kernel Module.*?\s(\d{3,})\.\d`)

// Lacks says what keeps a provider for graphics processors from running on this
// machine, one line for each thing that is missing, with what mends it: the
// driver, the library beside l, and the libraries it is linked with.
func (l Library) Lacks(ctx context.Context, provider string) (lines []string) {
	if provider != runtime.CUDA && provider != runtime.TensorRT {
		return nil
	}
	known := loaderCache(ctx)
	if _, err := os.Stat(driverFile); err != nil && known[driverLibrary] == "" {
		lines = append(lines, "no NVIDIA driver: neither "+driverFile+" nor "+driverLibrary+"; install the driver of the graphics processor")
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
