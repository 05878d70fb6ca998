//go:build !cgo

package ort

import (
	"errors"

	"ebmrun/runtime"
)

// Open loads ONNX Runtime. This build cannot: cgo is off.
func Open(library string) (runtime.Engine, error) {
	return nil, errors.New("ONNX Runtime needs cgo, which is off in this build: install a C compiler (gcc or clang) and build again with CGO_ENABLED=1")
}

// Loaded returns the path and version of the library in use, "" before Open.
func Loaded() (path, version string) { return "", "" }
