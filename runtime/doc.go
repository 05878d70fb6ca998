// Package runtime compiles graphs into programs and runs them.
//
// An [Engine] turns a model into a [Program]; runtime/ort does so with ONNX
// Runtime, runtime/ref with a pure-Go interpreter. Host tensors are
// [graphs.Tensor]s: a program reads and writes their slices in place.
//
// Execution providers are an option of Compile, and none but the CPU provider
// is believed unchecked: [Check] wraps a [Backend], compares each other provider
// with the CPU provider on the caller's first inputs, and remembers the verdict.
//
// The package shares its name with the standard library's; a file that needs
// both imports that one as goruntime.
package runtime
