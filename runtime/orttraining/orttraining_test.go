package orttraining

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"ebmrun/runtime/enginetest"
)

// open starts a worker, or skips the test where the wheel is missing; with
// EBM_REQUIRE_ORT_TRAINING=1 that is a failure.
func open(t testing.TB) *Engine {
	t.Helper()
	e, err := Open(context.Background(), "")
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
	python, _, err := Base(t.Context())
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
