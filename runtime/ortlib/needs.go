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
	"slices"
	"strconv"
	"strings"

	"ebmrun/runtime"
)

// holders tells which package holds a library that a provider needs, by the
// beginning of its name: pip's name for CUDA 11, 12 and 13, and what else has it, where * is the number that the name ends in.
var holders = []struct {
	prefix string
	pip    map[string]string
	kit    string
}{
	{"libcublasLt.", pip("nvidia-cublas-cu11", "nvidia-cublas-cu12", "nvidia-cublas"), "CUDA toolkit"},
	{"libcublas.", pip("nvidia-cublas-cu11", "nvidia-cublas-cu12", "nvidia-cublas"), "CUDA toolkit"},
	{"libcudart.", pip("nvidia-cuda-runtime-cu11", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime"), "CUDA toolkit"},
	{"libnvrtc.", pip("nvidia-cuda-nvrtc-cu11", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc"), "CUDA toolkit"},
	{"libcufft.", pip("nvidia-cufft-cu11", "nvidia-cufft-cu12", "nvidia-cufft"), "CUDA toolkit"},
	{"libcurand.", pip("nvidia-curand-cu11", "nvidia-curand-cu12", "nvidia-curand"), "CUDA toolkit"},
	{"libcudnn.", pip("nvidia-cudnn-cu11==8.9.6.50", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13"), "cuDNN * for CUDA"},
	{"libnvinfer.", pip("", "tensorrt-cu12", "tensorrt-cu13"), "TensorRT * for CUDA"},
	{"libnvonnxparser.", pip("", "tensorrt-cu12", "tensorrt-cu13"), "TensorRT * for CUDA"},
}

func pip(cuda11, cuda12, cuda13 string) map[string]string {
	return map[string]string{"11": cuda11, "12": cuda12, "13": cuda13}
}

// driverLibrary comes with the driver of the graphics processor.
const driverLibrary = "libcuda.so.1"

// cudaVersion is the major version of CUDA that a library is built for, as the names
// of what it is linked with tell; the newest known if they do not.
func cudaVersion(linked []string) string {
	for _, name := range linked {
		for _, of := range []string{"libcudart.so.", "libcublas.so.", "libcublasLt.so."} {
			if v, ok := strings.CutPrefix(name, of); ok {
				major, _, _ := strings.Cut(v, ".")
				return major
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
// would find each: in LD_LIBRARY_PATH, where the library itself says, beside it, in
// further folders, or where ldconfig knows it. It reads ELF files (Linux) and gives
// nothing elsewhere.
func (l Library) Needs(ctx context.Context, provider string, folders ...string) ([]Need, error) {
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
	folders = slices.Concat(libraryPath(), own(f, dir), []string{dir}, folders)
	var needs []Need
	for _, lib := range libs {
		n := Need{Name: lib, Path: cmp.Or(inFolders(lib, folders), known[lib])}
		for _, h := range holders {
			if strings.HasPrefix(lib, h.prefix) && n.Holder == "" {
				kit := strings.Replace(h.kit, "*", lib[strings.LastIndex(lib, ".")+1:], 1)
				n.Holder = fmt.Sprintf("%s %s, pip's %s", kit, version, cmp.Or(h.pip[version], "package of that version"))
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

func libraryPath() []string { return filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")) }

// own are the folders that a library, lying in dir, names by itself.
func own(f *elf.File, dir string) (folders []string) {
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		texts, _ := f.DynString(tag)
		for _, text := range texts {
			for _, d := range filepath.SplitList(strings.ReplaceAll(text, "$ORIGIN", dir)) {
				if d != "" {
					folders = append(folders, d)
				}
			}
		}
	}
	return folders
}

// inFolders is the first file of that name in the folders, "" if there is none.
func inFolders(name string, folders []string) string {
	for _, d := range folders {
		path := filepath.Join(d, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
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

// NoDriver says what is missing of NVIDIA's driver, "" where it is there.
func NoDriver(ctx context.Context) string {
	_, err := os.Stat(driverFile)
	if err == nil || inFolders(driverLibrary, libraryPath()) != "" || loaderCache(ctx)[driverLibrary] != "" {
		return ""
	}
	return "no NVIDIA driver: neither " + driverFile + " nor " + driverLibrary + "; install the driver of the graphics processor"
}

// Lacks says what keeps a provider for graphics processors from running on this
// machine, one line for each thing that is missing, with what mends it: the
// driver, the library beside l, and the libraries it is linked with, which may lie
// in further folders.
func (l Library) Lacks(ctx context.Context, provider string, folders ...string) (lines []string) {
	if provider != runtime.CUDA && provider != runtime.TensorRT {
		return nil
	}
	if line := NoDriver(ctx); line != "" {
		lines = append(lines, line)
	}
	if err := l.Beside(provider); err != nil {
		return append(lines, err.Error())
	}
	needs, err := l.Needs(ctx, provider, folders...)
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
