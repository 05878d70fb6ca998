package orttraining

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ortlib"
)

// open starts a worker of the build for the provider that EBM_PROVIDER names, or skips the
// test where the wheel is missing; with EBM_REQUIRE_ORT_TRAINING=1 that is a failure.
func open(t testing.TB) *Engine {
	t.Helper()
	python, err := For(enginetest.Provider()).Find()
	var e *Engine
	if err == nil {
		e, err = Open(context.Background(), python)
	}
	switch {
	case errors.Is(err, ErrMissing) && os.Getenv("EBM_REQUIRE_ORT_TRAINING") != "1":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func TestEngine(t *testing.T) { enginetest.Run(t, open(t)) }

// TestAsked records what sessions are asked for on each provider.
func TestAsked(t *testing.T) {
	tf32 := map[string]string{"use_tf32": "1", "device_id": "1"}
	for _, c := range []struct {
		provider string
		o        runtime.Options
		name     string
		want     []map[string]string
	}{
		{runtime.CPU, runtime.Options{ProviderOptions: tf32}, "CPUExecutionProvider", nil},
		{runtime.CUDA, runtime.Options{}, "CUDAExecutionProvider", []map[string]string{{"use_tf32": "0"}}},
		{runtime.CUDA, runtime.Options{ProviderOptions: tf32}, "CUDAExecutionProvider", []map[string]string{tf32}},
		{runtime.CUDA, runtime.Options{ProviderOptions: map[string]string{"device_id": "2"}}, "CUDAExecutionProvider", []map[string]string{{"use_tf32": "0", "device_id": "2"}}},
	} {
		c.o.Threads, c.o.NoSpin = 3, true
		h := asked(c.provider, c.o)
		if !slices.Equal(h.Providers, []string{c.name}) || !reflect.DeepEqual(h.Options, c.want) || h.Threads != 3 || !h.NoSpin {
			t.Errorf("%s %v: got %+v", c.provider, c.o.ProviderOptions, h)
		}
	}
}

// TestNoFallback: a provider that is not to be had is an error that says what is missing, and
// where the library takes the processor in its place without a word, that is an error too.
func TestNoFallback(t *testing.T) {
	e := open(t)
	m, err := ortlib.SampleModel()
	if err != nil {
		t.Fatal(err)
	}
	if lacks := e.Lacks(t.Context(), runtime.CUDA); lacks == nil {
		t.Skip("CUDA is there")
	}
	for provider, want := range map[string]string{runtime.CUDA: "setup --ort-training --cuda", runtime.OpenVINO: "CPUExecutionProvider"} {
		if e.Has(provider) {
			want = "no NVIDIA driver"
		}
		_, err := e.Compile(t.Context(), m, runtime.Options{Provider: provider})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "provider "+provider) {
			t.Errorf("wanted an error that says %q, got %v", want, err)
		}
	}
	if e.Has(runtime.CUDA) {
		return // its library may end the process
	}
	_, err = e.b.session(t.Context(), m, asked(runtime.CUDA, runtime.Options{}))
	if err == nil || !strings.Contains(err.Error(), "CUDAExecutionProvider") {
		t.Errorf("the library fell back to the processor: %v", err)
	}
}

// TestBuilds: what is missing is named, with how to get it.
func TestBuilds(t *testing.T) {
	t.Setenv("EBMRUN_CACHE", t.TempDir())
	t.Setenv("PATH", t.TempDir())
	t.Setenv(PythonVariable, "")
	for _, b := range []Build{CPU, CUDA} {
		if _, err := b.Find(); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), b.Command) || !strings.Contains(err.Error(), b.Wheel+" ") {
			t.Errorf("%s: wanted the command that obtains it, got %v", b.Wheel, err)
		}
		_, _, err := b.Base(t.Context())
		newest := b.pythons[len(b.pythons)-1]
		if err == nil || b.systems == nil && (!strings.Contains(err.Error(), "3.8 to "+newest) || !strings.Contains(err.Error(), "pyenv install "+newest)) {
			t.Errorf("%s: wanted an error about interpreters, got %v", b.Wheel, err)
		}
		systems := 3
		if b.systems != nil {
			systems = len(b.systems)
		}
		if n := len(hashes[b.Wheel+"=="+Version]); n != len(b.pythons)*systems {
			t.Errorf("%s: %d hashes", b.Wheel, n)
		}
	}
	if CUDA.systems[0] == goruntime.GOOS+"/"+goruntime.GOARCH {
		// One that is too new, and does not count.
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "python3"), []byte("#!/bin/sh\necho 3.13\n"), 0o777); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir)
		if _, _, err := CUDA.Base(t.Context()); err == nil || !strings.Contains(err.Error(), "python3 is 3.13") || !strings.Contains(err.Error(), "3.8 to 3.11") {
			t.Errorf("wanted what was found and what is wanted, got %v", err)
		}
	}
	if For(runtime.CUDA).Wheel != CUDA.Wheel || For(runtime.CPU).Wheel != CPU.Wheel {
		t.Error("wanted the build of the provider")
	}
	t.Setenv(PythonVariable, "no-such-python")
	if _, err := CUDA.Find(); err == nil || errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), PythonVariable) {
		t.Errorf("wanted an error about the variable, got %v", err)
	}
}

// TestDeath kills the worker: calls say so with its last words, and do not hang.
func TestDeath(t *testing.T) {
	e := open(t)
	e.b.w.cmd.Process.Kill()
	done := make(chan error, 1)
	go func() {
		_, err := e.b.w.call(context.Background(), header{Op: "close", ID: 1})
		for err == nil {
			_, err = e.b.w.call(context.Background(), header{Op: "close", ID: 1})
		}
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, ErrWorker) || !strings.Contains(err.Error(), "killed") {
			t.Errorf("wanted an error about a killed worker, got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the call hangs")
	}
}

// TestLastWords checks that an interpreter without the wheel says what it lacks.
func TestLastWords(t *testing.T) {
	python, _, err := CPU.Base(t.Context())
	if err != nil {
		t.Skip(err)
	}
	w, err := start(python)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	_, err = w.call(t.Context(), header{Op: "hello"})
	if err == nil {
		t.Skip("this interpreter has the wheel")
	}
	if !errors.Is(err, ErrWorker) || !strings.Contains(err.Error(), "Error: ") {
		t.Errorf("wanted the worker's last words, got %v", err)
	}
}
