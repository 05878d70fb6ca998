package ortlib

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"strings"
	"time"

	"ebmrun/runtime"
)

// A Diagnosis is what a machine has and lacks for running graphs. Diagnose fills
// in what needs no library to be loaded; package runtime/ort's Diagnose the rest.
type Diagnosis struct {
	System string `json:"system"` // operating system and architecture
	Cores  int    `json:"cores"`
	Go     string `json:"go"` // that built this program
	Cgo    bool   `json:"cgo"`
	Cache  string `json:"cache"`

	Library *Library `json:"library,omitempty"` // nil if none was found
	Version string   `json:"version,omitempty"` // as the loaded library tells
	Trials  []Trial  `json:"providers,omitempty"`
	Tools   []Tool   `json:"tools"`

	// Advice has one line for each thing that is missing, with what mends it. It is
	// empty on a machine that is ready.
	Advice []string `json:"advice,omitempty"`
}

// A Trial is an execution provider, tried on [SampleModel].
type Trial struct {
	Provider string `json:"provider"`
	Works    bool   `json:"works"`
	Reason   string `json:"reason,omitempty"` // why not

	// Verdict is the comparison with the CPU provider, nil if it did not come to one.
	Verdict *runtime.Verdict `json:"verdict,omitempty"`
}

// A Tool is a program that may be of use.
type Tool struct {
	Name    string `json:"name"`
	Path    string `json:"path,omitempty"` // "" if it is not installed
	Version string `json:"version,omitempty"`
	Purpose string `json:"purpose"`
}

// Diagnose looks at the machine; library is what Find takes.
func Diagnose(ctx context.Context, library string) Diagnosis {
	d := Diagnosis{
		System: goruntime.GOOS + "/" + goruntime.GOARCH, Cores: goruntime.NumCPU(),
		Go: goruntime.Version(), Cgo: builtWithCgo(),
	}
	if !d.Cgo {
		d.Advice = append(d.Advice, "this program was built without cgo and cannot load ONNX Runtime: install a C compiler (gcc or clang) and build with CGO_ENABLED=1")
	}
	if musl, _ := filepath.Glob("/lib/ld-musl-*"); len(musl) > 0 {
		d.Advice = append(d.Advice, "this system's C library is musl, which ONNX Runtime's official builds do not run on: use a system with glibc, or name a library built for musl with --ort-library")
	}
	var err error
	if d.Cache, err = runtime.CacheDir(); err != nil {
		d.Advice = append(d.Advice, err.Error())
	} else if err := writable(d.Cache); err != nil {
		d.Advice = append(d.Advice, "the cache folder cannot be written, set EBMRUN_CACHE to one that can: "+err.Error())
	}
	d.Tools = tools(ctx)
	if lib, err := Find(library); err != nil {
		d.Advice = append(d.Advice, err.Error())
		if d.tool("pip") == "" && d.tool("npm") == "" {
			d.Advice = append(d.Advice, "`ebmrun setup` needs pip or npm: install Python 3 with pip, or Node.js")
		}
	} else {
		d.Library = &lib
	}
	return d
}

func builtWithCgo() bool {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "CGO_ENABLED" {
				return s.Value == "1"
			}
		}
	}
	return false
}

// writable creates the folder if need be and a file in it.
func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	return f.Close()
}

func (d Diagnosis) tool(name string) string {
	for _, t := range d.Tools {
		if t.Name == name {
			return t.Path
		}
	}
	return ""
}

func tools(ctx context.Context) []Tool {
	var out []Tool
	add := func(name, purpose string, command ...string) {
		t := Tool{Name: name, Purpose: purpose}
		if len(command) > 0 {
			if path, err := exec.LookPath(command[0]); err == nil {
				t.Path = path
				ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
				defer cancel()
				text, err := exec.CommandContext(ctx, path, command[1:]...).Output()
				if line, _, _ := strings.Cut(string(text), "\n"); err == nil {
					t.Version = strings.TrimSpace(line)
				}
			}
		}
		out = append(out, t)
	}
	pip, _ := findPip(ctx)
	if pip != nil {
		pip = append(pip, "--version")
	}
	add("pip", "gets ONNX Runtime and data", pip...)
	add("npm", "gets ONNX Runtime where pip does not", "npm", "--version")
	add("go", "builds this program", "go", "version")
	add("cc", "builds this program with cgo", "cc", "--version")
	add("apt-get", "gets data on Debian and Ubuntu", "apt-get", "--version")
	return out
}
