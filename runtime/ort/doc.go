// Package ort runs programs with ONNX Runtime.
//
// It is the one package that needs cgo; without it, [Open] says how to turn it
// on. The shared library is loaded at run time: package runtime/ortlib finds it.
//
// A program wraps the caller's slices instead of copying them. The wrapping is
// kept from call to call, so that a loop over the same buffers allocates next to
// nothing; the program therefore keeps the last few buffers of each input and
// output alive until it is closed. Scalars (rank 0) are copied.
package ort
