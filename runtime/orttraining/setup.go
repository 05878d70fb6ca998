package orttraining

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"ebmrun/runtime"
	"ebmrun/runtime/ortlib"
)

// Version is the last release of ONNX Runtime with a training stack.
const Version = "1.19.2"

// PythonVariable names the Python interpreter to use, if it is set.
const PythonVariable = "EBMRUN_ORT_TRAINING_PYTHON"

// ErrMissing is wrapped when no interpreter with the wheel is at hand.
var ErrMissing = errors.New("not installed")

// A Build is one of the wheels.
type Build struct {
	Wheel   string // on PyPI
	Command string // that obtains it

	size    string
	folder  string   // in the cache
	pythons []string // the CPythons that there are wheels for
	systems []string // and the systems, "" for all three
}

// The builds: for the processor alone, and for CUDA 11 with cuDNN 8 too.
var (
	CPU = Build{Wheel: "onnxruntime-training-cpu", Command: "ebmrun setup --ort-training", size: "9 MB",
		folder: "onnxruntime-training-" + Version, pythons: []string{"3.8", "3.9", "3.10", "3.11", "3.12"}}
	CUDA = Build{Wheel: "onnxruntime-training", Command: "ebmrun setup --ort-training --cuda", size: "299 MB",
		folder: "onnxruntime-training-" + Version + "-cuda", pythons: []string{"3.8", "3.9", "3.10", "3.11"}, systems: []string{"linux/amd64"}}
)

// For is the build to use with a provider: the one for CUDA where CUDA is asked for, or
// where nothing else is installed.
func For(provider string) Build {
	if provider == runtime.CUDA {
		return CUDA
	}
	if _, err := CPU.Find(); err != nil {
		if _, err := CUDA.Find(); err == nil {
			return CUDA
		}
	}
	return CPU
}

// hashes are the SHA-256 of the files that pip may install: wheels for CPython
// 3.8 to 3.12 on Linux, macOS and Windows, and of the one for CUDA 3.8 to 3.11 on Linux.
var hashes = map[string][]string{
	"onnxruntime-training==" + Version: {
		"2450e178a726a9fab758a2f2c2b2d4118c99e9eeafe0cb3b522fd94da7a165a4",
		"31bf977bfe9b0dbdea5bd349a21d498741195b3094ee1fe4abdba3ebbec17d3b",
		"848da8184d0d5dbfac1f144541c572f62455f5c8c6a5fe7350cc748e827b8b37",
		"6bfa1c02e6986947b18c502669beb9f1246bb52239394f7a5a3b99c10967eacf",
	},
	"onnxruntime-training-cpu==" + Version: {
		"785020b567583b1d7a9d61429fb2bc2e043b7d17878efc0cf2d2e1f414084d95", // Linux x86-64, 3.8 to 3.12
		"2ab05fda0dde637fd15afbfb621e47fac3583b4da64670ca3c78082e09f61c51",
		"3c62273370c6d4a459b30144353f8893f0cc8dfd02575b97deb38d2582aec21f",
		"9b3cde497eb76af75ecae2eb2a4e3a8b2477da0b833315a3d5e2c63f0dc8d5d6",
		"4c8d4806c5070dc6c175e1a968e45d948588edbfe590b5ef9d42d3511d80e220",
		"c5baa9d1654837ee63c8edfed323d159a04de02687088910047407b227c03d0a", // macOS
		"6ce8c6ad9951138b1bbd656be1beac44b1a05a5527ffb1ace85969c89123cd51",
		"71264887c9e17e353abc7c246552baf435cf3528958220525b17594c12177001",
		"ca021bfb7d087ec2f9b689825d4c24cd75082c0c8eb61c7fb5b178ed1977cbdc",
		"29ce7b60bd9d20efc054cf6cf02608360e074ad437945985050d667874903840",
		"86a3c0ba29829c2d3ff36c38fdcb9ec60870254e018b17f0ae4a6324bfc4b030", // Windows x86-64
		"cf75bdbe209d5a34b1ee5967763bf29ae959c941895be315738588acd3b41874",
		"e1268cecc39af7437cd48bebed37864c4d8b6aa760ff2ef6627d1dc283822698",
		"e84887e098f4dff9a39926f8fe9d44bd59d0804c77b08a072d686264fea10889",
		"b13775b3e4820f47ef24ee36b5b820cb04890a59c07d884eed0f3e4008d5c66f",
	},
	"numpy==1.26.4": {
		"f870204a840a60da0b12273ef34f7051e98c3b5961b61b0c2c1be6dfd64fbcd3", // Linux x86-64, 3.9 to 3.12
		"ffa75af20b44f8dba823498024771d5ac50620e6915abac414251bd971b4529f",
		"666dbfb6ec68962c033a450943ded891bed2d54e6755e35e5835d63f4f6931d5",
		"675d61ffbfa78604709862923189bad94014bef562cc35cf61d3a07bba02a7ed",
		"7349ab0fa0c429c82442a27a9673fc802ffdb7c7775fad780226cb234965e53c", // macOS x86-64
		"9ff0f4f29c51e2803569d7a51c2304de5554655a60c5d776e35b4a41413830d0",
		"4c66707fabe114439db9068ee468c26bbdf909cac0fb58686a42a24de1760c71",
		"b3ce300f3644fb06443ee2222c2201dd3a89ea6040541412b8fa189341847218",
		"52b8b60467cd7dd1e9ed082188b4e6bb35aa5cdd01777621a1658910745b90be", // macOS arm64
		"2e4ee3380d6de9c9ec04745830fd9e2eccb3e6cf790d39d7b98ffd19b0dd754a",
		"edd8b5fe47dab091176d21bb6de568acdd906d1887a4584a15a9a96a1dca06ef",
		"03a8c78d01d9781b28a6989f6fa1bb2c4f2d51201cf99d3dd875df6fbd96b23b",
		"3373d5d70a5fe74a2c1bb6d2cfd9609ecf686d47a2d7b1d37a8f3b6bf6003aea", // Windows x86-64
		"b97fe8060236edf3662adfc2c633f56a08ae30560c56310562cb4f95500022d5",
		"cd25bcecc4974d09257ffcd1f098ee778f7834c3ad767fe5db785be9a4aa9cb2",
		"08beddf13648eb95f8d867350f6a018a4be2e5ad54c8d8caed89ebca558b2818",
	},
	"numpy==1.24.4": {
		"dd80e219fd4c71fc3699fc1dadac5dcf4fd882bfc6f7ec53d30fa197b8ee22dc", // 3.8
		"1452241c290f3e2a312c137a9999cdbf63f78864d63c79039bda65ee86943f61",
		"04640dab83f7c6c85abf9cd729c5b65f1ebd0ccf9de90b270cd61935eef0197f",
		"692f2e0f55794943c5bfff12b3f56f99af76f902fc47487bdfe97856de51a706",
	},
}

// environment is the folder that [Build.Setup] fills.
func (b Build) environment() (string, error) {
	root, err := ortlib.Root()
	return filepath.Join(root, b.folder), err
}

func interpreter(env string) string {
	if goruntime.GOOS == "windows" {
		return filepath.Join(env, "Scripts", "python.exe")
	}
	return filepath.Join(env, "bin", "python")
}

// Find returns the interpreter to use: that of the variable [PythonVariable], or that
// of [Build.Setup]; else an error that wraps [ErrMissing].
func (b Build) Find() (string, error) {
	if python := os.Getenv(PythonVariable); python != "" {
		path, err := exec.LookPath(python)
		if err != nil {
			return "", fmt.Errorf("%s: %w", PythonVariable, err)
		}
		return path, nil
	}
	env, err := b.environment()
	if err != nil {
		return "", err
	}
	python := interpreter(env)
	if !runs(context.Background(), python) {
		return "", fmt.Errorf("%s %s is %w: `%s` obtains it", b.Wheel, Version, ErrMissing, b.Command)
	}
	return python, nil
}

func runs(ctx context.Context, python string) bool {
	if _, err := os.Stat(python); err != nil {
		return false
	}
	return exec.CommandContext(ctx, python, "-I", "-c", "import numpy").Run() == nil
}

// Base returns a Python interpreter that there is a wheel for; else an error says
// what is missing and how to get it.
func (b Build) Base(ctx context.Context) (path, version string, err error) {
	system := goruntime.GOOS + "/" + goruntime.GOARCH
	if b.systems != nil && !slices.Contains(b.systems, system) {
		return "", "", fmt.Errorf("%s %s exists for %s only, this is %s", b.Wheel, Version, strings.Join(b.systems, ", "), system)
	}
	names := []string{"python3", "python"}
	for _, v := range b.pythons {
		names = append([]string{"python" + v}, names...) // the newest first
	}
	var seen []string
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		text, err := exec.CommandContext(ctx, path, "-I", "-c", "import sys,venv,ensurepip;print('%d.%d'%sys.version_info[:2])").Output()
		if err != nil {
			continue
		}
		version := strings.TrimSpace(string(text))
		if slices.Contains(b.pythons, version) {
			return path, version, nil
		}
		seen = append(seen, name+" is "+version)
	}
	found := "found none"
	if len(seen) > 0 {
		found = "found " + strings.Join(seen, ", ")
	}
	newest := b.pythons[len(b.pythons)-1]
	return "", "", fmt.Errorf("%s %s has wheels for CPython %s to %s only: %s; put one on the PATH (pyenv install %s, uv python install %s, or python%s and python%s-venv of the system's packages)",
		b.Wheel, Version, b.pythons[0], newest, found, newest, newest, newest, newest)
}

// Setup makes a Python environment of its own in the cache folder, with the
// wheel and NumPy, checked against known hashes, and returns its interpreter. One
// that is there already is kept. say is told what is obtained.
func (b Build) Setup(ctx context.Context, say func(string)) (string, error) {
	env, err := b.environment()
	if err != nil {
		return "", err
	}
	if python := interpreter(env); runs(ctx, python) {
		return python, nil
	}
	base, version, err := b.Base(ctx)
	if err != nil {
		return "", err
	}
	numpy := "numpy==1.26.4"
	if version == "3.8" {
		numpy = "numpy==1.24.4"
	}
	say(fmt.Sprintf("%s %s (%s) and %s (18 MB), with pip of Python %s, to %s", b.Wheel, Version, b.size, numpy, version, env))
	if err := os.MkdirAll(filepath.Dir(env), 0o777); err != nil {
		return "", err
	}
	// An environment knows its own path, so it is made in place; one that is not
	// complete does not pass runs and is made again.
	if err := os.RemoveAll(env); err != nil {
		return "", err
	}
	if err := do(ctx, base, "-m", "venv", env); err != nil {
		return "", err
	}
	list := filepath.Join(env, "requirements.txt")
	text := ""
	for _, name := range []string{b.Wheel + "==" + Version, numpy} {
		text += name
		for _, h := range hashes[name] {
			text += " --hash=sha256:" + h
		}
		text += "\n"
	}
	if err := os.WriteFile(list, []byte(text), 0o666); err != nil {
		return "", err
	}
	python := interpreter(env)
	return python, do(ctx, python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", list)
}

func do(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 5 * time.Second
	if text, err := cmd.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args[:min(3, len(args))], " "), err, strings.TrimSpace(lines[len(lines)-1]))
	}
	return nil
}
