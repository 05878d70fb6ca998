package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	"ebmrun/runtime"
	"ebmrun/runtime/ortlib"
	"ebmrun/runtime/orttraining"
)

// bare is a machine without library, package clients or cache.
func bare(t *testing.T) (cache string) {
	t.Helper()
	cache = t.TempDir()
	t.Setenv("EBMRUN_CACHE", cache)
	t.Setenv("PATH", t.TempDir())
	t.Setenv("EBMRUN_ORT_LIBRARY", filepath.Join(cache, "no-such-library.so"))
	return cache
}

func TestDoctorOnBareMachine(t *testing.T) {
	cache := bare(t)
	r := ebmrun(t, "doctor")
	r.wantOut(t, "no-such-library.so", "EBMRUN_ORT_LIBRARY", "to mend", "in plain Go", cache, "pip", "not installed")

	r = ebmrun(t, "doctor", "--json", "--provider", "cpu")
	r.wantError(t, 1, "provider cpu does not run")
	var h health
	if err := json.Unmarshal([]byte(r.out), &h); err != nil {
		t.Fatal(err)
	}
	if h.Library != nil || h.EBMRun == "" || len(h.Advice) == 0 {
		t.Errorf("got %+v", h)
	}
	ebmrun(t, "doctor", "--provider", "ref").wantOut(t)
}

func TestSetupOnBareMachine(t *testing.T) {
	bare(t)
	ebmrun(t, "setup").wantError(t, 1, "EBMRUN_ORT_LIBRARY")
	os.Unsetenv("EBMRUN_ORT_LIBRARY")
	ebmrun(t, "setup", "--ort-library", "no/such/place").wantError(t, 2, "no/such/place")
	ebmrun(t, "setup", "--plain", "--full").wantError(t, 2, "wanted one of")
	ebmrun(t, "setup", "--plain", "--quiet").wantError(t, 1, "pip is not installed")
	ebmrun(t, "setup", "--list").wantOut(t, "onnxruntime", "sha256")
}

// TestTrainingBuilds: where a training build, or what its provider takes, is missing, setup,
// doctor and train say which and what obtains it, and nothing runs in its place.
func TestTrainingBuilds(t *testing.T) {
	bare(t)
	t.Setenv(orttraining.PythonVariable, "")
	for build, flags := range map[string][]string{"onnxruntime-training-cpu": nil, "onnxruntime-training": {"--cuda"}} {
		if build == orttraining.CUDA.Wheel && goruntime.GOOS+goruntime.GOARCH != "linuxamd64" {
			continue
		}
		ebmrun(t, append([]string{"setup", "--ort-training"}, flags...)...).wantError(t, 1, build+" "+orttraining.Version+" has wheels for CPython 3.8", "found none", "pyenv")
	}
	ebmrun(t, "setup", "--ort-training", "--cuda=12").wantError(t, 2, "CUDA 11", "12")
	ebmrun(t, "doctor").wantOut(t, "not installed: onnxruntime-training-cpu", "on cuda: not installed: onnxruntime-training "+orttraining.Version)
	for provider, command := range map[string]string{runtime.CPU: "`ebmrun setup --ort-training`", runtime.CUDA: "`ebmrun setup --ort-training --cuda`"} {
		out := filepath.Join(t.TempDir(), "run")
		ebmrun(t, "train", "generative-convnet", "--data", "synthetic/blob16", "--steps", "1", "--gradients", "ort-training", "--provider", provider, "--out", out).
			wantError(t, 1, "not installed", command)
	}
}

// TestTrainingOnCUDA: with a training build but no graphics processor, what CUDA lacks is named and
// nothing is learned on the processor instead.
func TestTrainingOnCUDA(t *testing.T) {
	python, err := orttraining.CPU.Find()
	if err != nil {
		t.Skip(err)
	}
	if _, err := os.Stat("/proc/driver/nvidia/version"); err == nil {
		t.Skip("there is a driver")
	}
	t.Setenv(orttraining.PythonVariable, python)
	out := filepath.Join(t.TempDir(), "run")
	r := ebmrun(t, "train", "generative-convnet", "--data", "synthetic/blob16", "--limit", "70", "--steps", "1", "--gradients", "ort-training", "--provider", "cuda", "--out", out)
	r.wantError(t, 1, "provider cuda: onnxruntime-training "+orttraining.Version, "setup --ort-training --cuda")
	if text, _ := os.ReadFile(filepath.Join(out, "metrics.jsonl")); len(text) > 0 {
		t.Errorf("something was learned: %s", text)
	}
}

// TestWithoutLibrary runs in processes of its own, because a library once loaded
// stays.
func TestWithoutLibrary(t *testing.T) {
	bare(t)
	model := save(t, tiny(t))
	out := filepath.Join(t.TempDir(), "g.onnx")
	grad := []string{"grad", model, "--check", "-o", out}
	why := "EBMRUN_ORT_LIBRARY"
	if !cgoOn {
		why = "cgo"
	}
	process(t, append(grad, "--provider", "cpu")...).wantError(t, 1, why, "--provider ref")
	if exists(out) {
		t.Error("a gradient that could not be checked was written")
	}
	process(t, append(grad, "--ort-library", "no/such/place")...).wantError(t, 2, "no/such/place")
	r := process(t, grad...)
	r.wantOut(t, "grad/x")
	if !strings.Contains(r.errOut, "interpreter runs this") {
		t.Errorf("the fallback was not logged: %q", r.errOut)
	}
}

func TestData(t *testing.T) {
	bare(t)
	ebmrun(t, "data", "--list").wantOut(t, "mnist", "with go", "synthetic/rings", "drawn when used")
	ebmrun(t, "data", "mnist", "--info").wantOut(t, "CC-BY-SA", "11.6 MB with go", "go mod download")
	ebmrun(t, "data", "mnist", "--info", "--json").wantOut(t, `"licence": "CC-BY-SA-3.0"`, `"client": "go"`)
	ebmrun(t, "data", "--list", "--json").wantOut(t, `"name": "synthetic/rings"`, `"download_bytes": 60`)
	ebmrun(t, "data", "synthetic/rings").wantOut(t, "drawn when used")
	ebmrun(t, "data", "mnist", "--quiet").wantError(t, 1, "mnist", "go")
	ebmrun(t, "train", "abp", "--data", "mnist", "--quiet", "-o", filepath.Join(t.TempDir(), "run")).wantError(t, 1, "mnist", "go")
	ebmrun(t, "data").wantError(t, 2, "--list")
	ebmrun(t, "data", "mnist", "--list").wantError(t, 2, "takes no name")
	ebmrun(t, "data", "mnist", "--info", "--preview", "x.png").wantError(t, 2, "--preview")
	ebmrun(t, "data", "mnits").wantError(t, 2, `"mnits"`, "--list")
}

func TestDataPreview(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"synthetic/glyph16", "synthetic/tex-a-rgb", "synthetic/rings"} {
		out := filepath.Join(dir, filepath.Base(name)+".png")
		ebmrun(t, "data", name, "--preview", out).wantOut(t, name)
		f, err := os.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		colours := map[any]bool{}
		for x := range img.Bounds().Dx() {
			for y := range img.Bounds().Dy() {
				colours[img.At(x, y)] = true
			}
		}
		if len(colours) < 3 {
			t.Errorf("%s: the preview shows %d colours", name, len(colours))
		}
	}
	// a preview is a picture of a path, too
	again := filepath.Join(dir, "again.png")
	ebmrun(t, "data", filepath.Join(dir, "glyph16.png"), "--preview", again).wantOut(t)
	if !exists(again) {
		t.Error("no preview of a path")
	}
	vectors := write(t, filepath.Join(dir, "v.csv"), []byte("1,2,3\n4,5,6\n"))
	ebmrun(t, "data", vectors, "--preview", again).wantError(t, 2, "cannot preview")
}

// library is the ONNX Runtime library of this machine; without one the test is
// skipped, or fails where EBM_REQUIRE_ORT says so.
func library(t *testing.T) ortlib.Library {
	t.Helper()
	lib, err := ortlib.Find("")
	if err == nil && cgoOn {
		return lib
	}
	if os.Getenv("EBM_REQUIRE_ORT") == "1" {
		t.Fatalf("ONNX Runtime is needed here (cgo %v): %v", cgoOn, err)
	}
	t.Skip("no ONNX Runtime")
	return lib
}

func TestWithLibrary(t *testing.T) {
	lib := library(t)
	process(t, "setup").wantOut(t, lib.Path, "runs", "onnxruntime 1.")
	process(t, "setup", "--ort-library", filepath.Dir(lib.Path)).wantOut(t, lib.Path, "asked for")
	process(t, "doctor", "--provider", "cpu").wantOut(t, lib.Path, lib.Rule)
	r := process(t, "grad", save(t, tiny(t)), "--check", "--provider", "cpu", "-o", filepath.Join(t.TempDir(), "g.onnx"))
	r.wantOut(t, "grad/x")
	if !strings.Contains(r.errOut, "onnxruntime 1.") {
		t.Errorf("checked with %q", r.errOut)
	}
}

func TestLogReport(t *testing.T) {
	var errOut bytes.Buffer
	c := newCommon(nil, &errOut)
	slow := runtime.Report{Library: "onnxruntime 1.24.1", Provider: runtime.CPU, Reason: "openvino: differs from cpu"}
	for _, r := range []runtime.Report{
		{Library: "onnxruntime 1.24.1"},                        // not settled yet
		{Library: "onnxruntime 1.24.1", Provider: runtime.CPU}, // as asked for
		slow, slow, // said once
		{Library: "onnxruntime 1.24.1", Provider: runtime.OpenVINO}, // taken
	} {
		c.logReport(r)
	}
	want := "onnxruntime 1.24.1, provider cpu  reason=openvino: differs from cpu\nonnxruntime 1.24.1, provider openvino\n"
	if got := errOut.String(); got != want {
		t.Errorf("got %q, wanted %q", got, want)
	}
}

// process runs a command line in a process of its own.
func process(t *testing.T, args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "EBMRUN_TEST_MAIN=1")
	cmd.Stdout, cmd.Stderr = &out, &errOut
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// TestMain lets the test binary stand in for the program.
func TestMain(m *testing.M) {
	if os.Getenv("EBMRUN_TEST_MAIN") == "1" {
		main()
	}
	os.Exit(m.Run())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
