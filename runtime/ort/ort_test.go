//go:build cgo

package ort

import (
	"os"
	"testing"

	"ebmrun/runtime"
	"ebmrun/runtime/enginetest"
	"ebmrun/runtime/ortlib"
)

// library is found before the cache folder is moved, in which it may lie.
var library, libraryErr = ortlib.Find("")

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ort-test-")
	if err != nil {
		panic(err)
	}
	os.Setenv("EBMRUN_CACHE", dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func engineFor(t testing.TB) *engine {
	t.Helper()
	enginetest.Unavailable(t, libraryErr)
	e, err := open(library.Path)
	enginetest.Unavailable(t, err)
	return e
}

func TestEngine(t *testing.T) { enginetest.Run(t, runtime.Check(engineFor(t))) }
