// Package ort runs programs with ONNX Runtime.
//
// It is the one package that needs cgo; without it, [Open] says how to turn it
// on. The shared library is loaded at run time: package runtime/ortlib finds it.
//
// A program wraps the caller's slices instead of copying them. The wrapping is
// kept from call to call, so that a loop over the same buffers allocates next to
// nothing; the program therefore keeps the last few buffers of each input and
// output alive until it is closed. Scalars (rank 0) are copied.
//
// # Providers
//
// OpenVINO (library 1.24.1) claims ScatterND and then refuses its reduction=add
// when a session is made; takes some graphs in parts that end in "the graph is not
// acyclic"; and has given wrong numbers without a word on a gradient graph. Forms
// that it takes whole are Pad, Where, ScatterElements and matrix products. It
// notices the end of a call's context only between the parts of a graph that it
// took. CUDA and TensorRT need the libraries of their versions on the loader's
// path; float32 is computed in float32 (no TF32).
//
// # Limits of the binding
//
// 16-bit floats need a rank of at least 1, and as outputs dimensions that follow
// from the inputs' or a given tensor. Strings, sequences and maps cannot be fed.
package ort
