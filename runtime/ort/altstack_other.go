//go:build cgo && !linux

package ort

// keepSignalStack runs f; only on Linux is there something to keep.
func keepSignalStack(f func() error) error { return f() }
