// Package ortlib finds the ONNX Runtime shared library on a machine, or obtains
// it with the machine's own package client, and tells what is missing. It is pure
// Go and loads nothing.
package ortlib
