//go:build cgo

package main

// cgoOn says that this build can load ONNX Runtime.
const cgoOn = true
